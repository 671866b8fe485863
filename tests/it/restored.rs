//! A database that was restored from a backup, or is new: what it lacks of the journal comes out of the archive, counted once.

use std::collections::BTreeMap;
use std::time::Duration;

use sqlx::{Connection, Row};
use tollgate::metering::{Archive, Mode, Product, UsageRecord, archive_store};
use tollgate::serve;

use crate::support::{Database, Gateway, Kind, on_both_databases};

const TABLES: [&str; 5] = ["usage_cell", "usage_late", "journal_watermark", "archived_segment", "replica"];

async fn append(gateway: &Gateway, numbers: std::ops::Range<u64>) {
    let app = &gateway.running.app;
    for n in numbers {
        let record = UsageRecord {
            v: 1,
            request: format!("req_{n}").into(),
            at: app.clock.now(),
            partner: "partner".into(),
            key: "key".into(),
            mode: Mode::Live,
            plan: "p".into(),
            plan_version: 1,
            units: [(Product::Pricing, n)].into(),
            waived_units: BTreeMap::new(),
        };
        app.journal.append(record).await.unwrap().durable().await.unwrap();
    }
}

/// Answers, units, and the archived segments of the ledger.
async fn ledger(gateway: &Gateway) -> (i64, i64, Vec<u64>) {
    let mut connection = gateway.running.db().read().await.unwrap();
    let sums = sqlx::query(
        "select cast(coalesce(sum(case when meter = 'requests' then units else 0 end), 0) as bigint), \
         cast(coalesce(sum(case when meter = 'pricing' then units else 0 end), 0) as bigint) from usage_cell",
    );
    let row = sums.fetch_one(&mut *connection).await.unwrap();
    let segments = archive_store::all(&mut connection).await.unwrap();
    (row.get(0), row.get(1), segments.iter().map(|row| row.segment).collect())
}

async fn back_up(database: &Database) {
    let mut connection = database.connect().await;
    for table in TABLES {
        let text = format!("create table saved_{table} as select * from {table}");
        sqlx::query(sqlx::AssertSqlSafe(text)).execute(&mut connection).await.unwrap();
    }
    connection.close().await.unwrap();
}

async fn restore(database: &Database) {
    let mut connection = database.connect().await;
    let mut transaction = connection.begin_with("begin").await.unwrap();
    for table in TABLES {
        for text in [format!("delete from {table}"), format!("insert into {table} select * from saved_{table}")] {
            sqlx::query(sqlx::AssertSqlSafe(text)).execute(&mut *transaction).await.unwrap();
        }
    }
    transaction.commit().await.unwrap();
}

async fn close(gateway: &Gateway) {
    gateway.running.app.close_journal().await.unwrap();
}

on_both_databases! {
    async fn a_restored_database_gets_what_it_lacks_from_the_archive_once(database: Database) {
        let gateway = Gateway::start(&database).await;
        append(&gateway, 1..4).await;
        close(&gateway).await;
        back_up(&database).await;
        append(&gateway, 4..6).await;
        close(&gateway).await;
        append(&gateway, 6..8).await;
        gateway.stop().await;
        // Another start in between: an epoch that the backup has never heard of.
        let gateway = Gateway::start(&database).await;
        append(&gateway, 8..11).await;
        close(&gateway).await;
        append(&gateway, 11..12).await;
        gateway.stop().await;
        restore(&database).await;

        let gateway = Gateway::start(&database).await;
        append(&gateway, 12..13).await;
        close(&gateway).await;
        let (answers, units, segments) = ledger(&gateway).await;
        assert_eq!((answers, units), (12, (1..=12).sum()));
        assert_eq!(segments, (1..=segments.len() as u64).collect::<Vec<_>>());
        assert_eq!(database.number("select count(*) from usage_late").await, 0, "the backup's promise was as old as it is");

        // Under a gateway that runs, shipping stops loudly and counts nothing past the gap, until a restart.
        restore(&database).await;
        append(&gateway, 13..14).await;
        let failures = || gateway.running.app.metrics.ship_failures.get();
        for _ in 0..200 {
            if failures() > 1 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(failures() > 1);
        assert_eq!(ledger(&gateway).await.0, 3);
        gateway.stop().await;
        let gateway = Gateway::start(&database).await;
        close(&gateway).await;
        let (answers, units, segments) = ledger(&gateway).await;
        assert_eq!((answers, units), (13, (1..=13).sum()));
        assert_eq!(segments, (1..=segments.len() as u64).collect::<Vec<_>>());
        gateway.stop().await;
    }

    async fn a_new_database_gets_everything_and_all_of_it_late(database: Database) {
        let gateway = Gateway::start(&database).await;
        append(&gateway, 1..4).await;
        close(&gateway).await;
        append(&gateway, 4..6).await;
        gateway.stop().await;
        let other = match database.kind {
            Kind::Sqlite => "sqlite://{data_dir}/other.db".to_owned(),
            Kind::Postgres => Database::new(Kind::Postgres).await.url,
        };
        let gateway = Gateway::start_with(&database, |settings| settings.database.url = other.clone()).await;
        assert_eq!(ledger(&gateway).await.0, 5);
        assert_eq!(ledger(&gateway).await.1, 15);
        let late = sqlx::query("select count(*) from usage_late").fetch_one(&mut *gateway.running.db().read().await.unwrap()).await;
        assert_eq!(late.unwrap().get::<i64, _>(0), 1, "no close could have seen it in time");
        let replica = gateway.running.app.journal.replica().clone();
        gateway.stop().await;

        // With the archive gone too, a start says what is missing instead of counting on.
        let mut settings = Gateway::settings(&database);
        settings.database.url = match database.kind {
            Kind::Sqlite => "sqlite://{data_dir}/third.db".to_owned(),
            Kind::Postgres => Database::new(Kind::Postgres).await.url,
        };
        let archive = Archive::open(&settings.archive, &database.data_dir()).unwrap();
        archive.remove(&replica, 1).await.unwrap();
        let error = format!("{:#}", serve::start(settings).await.err().unwrap());
        assert!(error.contains("in segment 1 of the journal") && error.contains("neither on this disk nor in the archive"), "{error}");
    }
}
