//! `invoice run --finalize` is killed again and again, and so is PostgreSQL under it: after each kill every invoice is a whole draft
//! or a finalized one with its number, lines, hash and booking; numbers are gapless; and in the end each month was billed once.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use jiff::{Span, civil::Date};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use sha2::{Digest, Sha256};
use sqlx::Row;
use tollgate::clock::{Clock, Micros};
use tollgate::config::Durability;
use tollgate::data_dir::DataDir;
use tollgate::db::Db;
use tollgate::directory::admin::{self, NewPartner};
use tollgate::ids::PlanId;
use tollgate::metering::{Journal, Mode, Product, UsageRecord, replica_store};
use tollgate::segment::Options;

use super::{cents, suspend_in_transaction};
use crate::support::postgres::{Postgres, signal};
use crate::support::{self, Database, Kind, full, per_unit, plan, tollgate};

const PARTNERS: usize = 120;
const BASE_FEE_CENTS: i128 = 750;

/// The first instant of a month, by UTC.
fn first(month: Date) -> Micros {
    month.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp().into()
}

/// Partners on one plan, with usage in their first month; gives the subtotal that each owes for it, by hand, in cents.
async fn prepare(database: &Database, month: Date, rng: &mut ChaCha8Rng) -> BTreeMap<String, i128> {
    database.set_now(first(month));
    // Included units are none, so that a charge is units × price; the base fee is due for months without usage too.
    let charges = per_unit("inventory", 0, "0.0125") + &per_unit("requests", 0, "0.031");
    let fee = format!("base_fee = {{ amount = \"{}.{:02}\", due = \"arrears\" }}\n", BASE_FEE_CENTS / 100, BASE_FEE_CENTS % 100);
    let file = database.file("plans.toml", &plan("p", &(fee + &charges)));
    tollgate(database, &["plan", "apply", file.to_str().unwrap()]).ok();

    let url = database.url.replace("{data_dir}", &database.data_dir().display().to_string());
    let db = Db::open(&url, 2, &database.data_dir()).await.unwrap();
    let data_dir = DataDir::try_lock(&database.data_dir()).unwrap().unwrap();
    let replica = data_dir.replica(first(month)).unwrap();
    let mut transaction = db.begin().await.unwrap();
    let mut partners = Vec::new();
    for n in 0..PARTNERS {
        let (name, plan) = (format!("Partner {n}"), PlanId::from("p"));
        partners
            .push(admin::create_partner(&mut transaction, NewPartner::new(&name, &plan), first(month), rng).await.unwrap().id);
    }
    let begun = replica_store::begin_epoch(&mut transaction, &replica, 0, first(month)).await.unwrap();
    transaction.commit().await.unwrap();
    db.close().await;

    let options = Options { segment_bytes: 1 << 20, durability: Durability::Os };
    let clock = Clock::manual(first(month));
    let journal = Journal::open(&data_dir.journal(), replica, begun.epoch, options, clock).unwrap();
    let mut owed = BTreeMap::new();
    let mut appended = Vec::new();
    for (n, partner) in partners.iter().enumerate() {
        let (mut units, requests) = (0, rng.random_range(0..6));
        for request in 0..requests {
            let used: u64 = rng.random_range(1..100);
            units += used;
            appended.push(journal.append(UsageRecord {
                v: 1,
                request: format!("req_{n}_{request}").as_str().into(),
                at: Micros(first(month).0 + rng.random_range(0..28 * 86_400_000_000)),
                partner: partner.clone(),
                key: "key".into(),
                mode: Mode::Live,
                plan: "p".into(),
                plan_version: 1,
                units: [(Product::Inventory, used)].into(),
                waived_units: BTreeMap::new(),
            }));
        }
        let charges = cents(i128::from(units), 0, 125, 4) + cents(requests, 0, 31, 3);
        owed.insert(partner.as_str().to_owned(), BASE_FEE_CENTS + charges);
    }
    for appended in join_all(appended).await {
        appended.unwrap().durable().await.unwrap();
    }
    owed
}

/// What a month's invoices say, once everything in the database was found whole.
struct Found {
    /// Month, partner, subtotal in cents.
    finalized: BTreeSet<(String, String, i128)>,
    drafts: usize,
}

/// Nothing is half: read by SQL and by the documents' own words, past Tollgate's code.
async fn whole(database: &Database) -> Found {
    let mut connection = database.connect().await;
    let invoices =
        "select id, partner_id, period, state, coalesce(number, ''), body, sha256, subtotal, tax, total, cut_id from invoice";
    let invoices = sqlx::query(invoices).fetch_all(&mut connection).await.unwrap();
    let lines = "select invoice_id, cast(count(*) as bigint), cast(sum(amount) as bigint) from invoice_line group by invoice_id";
    let lines = sqlx::query(lines).fetch_all(&mut connection).await.unwrap();
    let lines: BTreeMap<String, (i64, i64)> = lines.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect();
    let booked = "select t.document_id, cast(sum(e.amount) as bigint), \
                  cast(sum(case when e.account = 'receivable' then e.amount else 0 end) as bigint), cast(count(distinct t.id) as bigint) \
                  from money_transaction t join money_entry e on e.transaction_id = t.id group by t.document_id";
    let booked = sqlx::query(booked).fetch_all(&mut connection).await.unwrap();
    let booked: BTreeMap<String, (i64, i64, i64)> =
        booked.iter().map(|row| (row.get(0), (row.get(1), row.get(2), row.get(3)))).collect();
    let cuts = sqlx::query("select distinct id from journal_cut").fetch_all(&mut connection).await.unwrap();
    let cuts: BTreeSet<String> = cuts.iter().map(|row| row.get(0)).collect();

    let mut found = Found { finalized: BTreeSet::new(), drafts: 0 };
    let (mut numbers, mut billed) = (BTreeSet::new(), BTreeSet::new());
    for row in &invoices {
        let text = |at: usize| row.get::<String, _>(at);
        let (id, partner, period, state, number, body) = (text(0), text(1), text(2), text(3), text(4), text(5));
        let (subtotal, tax, total): (i64, i64, i64) = (row.get(7), row.get(8), row.get(9));
        let hash: String = Sha256::digest(&body).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hash, text(6), "{id}: the hash is that of the document");
        let document: Value = serde_json::from_str(&body).unwrap();
        let minor = |value: &Value| value.as_str().unwrap().replace('.', "").parse::<i64>().unwrap();
        assert_eq!((minor(&document["subtotal"]), minor(&document["total"])), (subtotal, total), "{id}");
        assert_eq!(subtotal + tax, total, "{id}");
        let said = document["lines"].as_array().unwrap();
        let sum = said.iter().map(|line| minor(&line["amount"])).sum();
        assert_eq!(lines.get(&id), Some(&(i64::try_from(said.len()).unwrap(), sum)), "{id}: its lines are all there");
        assert_eq!(sum, subtotal, "{id}");
        assert!(cuts.contains(&text(10)), "{id}: its cut is there");
        assert!(billed.insert((period.clone(), partner.clone())), "{partner} has two invoices for {period}");
        assert_eq!(document["number"].as_str().unwrap_or_default(), number, "{id}");
        match state.as_str() {
            "draft" => {
                assert!(number.is_empty() && !booked.contains_key(&id), "{id}: half finalized");
                found.drafts += 1;
            }
            "finalized" => {
                assert_eq!(booked.get(&id), Some(&(0, total, 1)), "{id}: booked once, in full");
                numbers.insert(number);
                found.finalized.insert((period, partner, i128::from(subtotal)));
            }
            other => panic!("{id} is {other}"),
        }
    }
    assert!(lines.keys().all(|id| invoices.iter().any(|row| row.get::<String, _>(0) == *id)), "lines without an invoice");
    assert_eq!(booked.len(), found.finalized.len(), "each booking is of a finalized invoice");
    let expected: BTreeSet<String> = (1..=found.finalized.len()).map(|taken| format!("INV-{taken:06}")).collect();
    assert_eq!(numbers, expected, "numbers are gapless");
    let taken = database.number("select coalesce(max(taken), 0) from number_series where id = 'invoice'").await;
    assert_eq!(usize::try_from(taken).unwrap(), found.finalized.len(), "no number was taken for nothing");
    found
}

/// The run of a month, as a process.
fn run(database: &Database, month: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(["invoice", "run", "--period", month, "--finalize", "--format", "json"])
        .envs(database.environment())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Runs a month to its end. A run that was killed may have finalized some: those are left alone.
fn finish(database: &Database, month: &str) -> Duration {
    let began = Instant::now();
    let ran = run(database, month).wait_with_output().unwrap();
    let said = String::from_utf8(ran.stderr).unwrap();
    assert!(ran.status.success() || said.contains("is closed"), "{said}");
    began.elapsed()
}

/// Kills `kills` runs, or the server under every other one.
async fn killed(database: Database, mut postgres: Option<Postgres>) {
    let (seed, mut rng) = support::rng("the_invoice_run_is_killed");
    let kills = if full() { 100 } else { 3 };
    let begins = jiff::civil::date(2020, 1, 1);
    let owed = prepare(&database, begins, &mut rng).await;
    let mut month = begins;
    let mut usual = Duration::from_millis(600);
    let (mut done, mut mid_transaction, mut partly, mut servers) = (0, 0, 0, 0);
    while done < kills {
        let next = month.checked_add(Span::new().months(1)).unwrap();
        database.set_now(Micros(first(next).0 + 2 * 3_600_000_000));
        let period = format!("{:04}-{:02}", month.year(), month.month());
        // A month takes several kills, and is finished then.
        for _ in 0..rng.random_range(1..4) {
            let mut child = run(&database, &period);
            let pid = child.id();
            let held = if rng.random_bool(0.7) {
                let passed = rng.random_range(0..8);
                suspend_in_transaction(&database, |name| signal(name, &[pid]), passed, || child.try_wait().unwrap().is_none())
                    .await
            } else {
                tokio::time::sleep(usual.mul_f64(rng.random_range(0.0..1.0))).await;
                false
            };
            if child.try_wait().unwrap().is_some() {
                // It was faster.
                continue;
            }
            match &mut postgres {
                Some(postgres) if rng.random_bool(0.5) => {
                    servers += 1;
                    postgres.kill();
                    signal("CONT", &[pid]);
                    let ran = child.wait_with_output().unwrap();
                    let said = String::from_utf8(ran.stderr).unwrap();
                    assert!(
                        ran.status.success() || said.lines().filter(|line| line.starts_with("error: ")).count() == 1,
                        "{said}"
                    );
                    postgres.restart().await;
                }
                _ => {
                    signal("KILL", &[pid]);
                    child.wait().unwrap();
                }
            }
            done += 1;
            mid_transaction += usize::from(held);
            let found = whole(&database).await;
            let of_month = found.finalized.iter().filter(|(of, ..)| *of == period).count();
            partly += usize::from(of_month + found.drafts > 0 && of_month < PARTNERS);
        }
        usual = finish(&database, &period).max(Duration::from_millis(50));
        let found = whole(&database).await;
        assert_eq!(found.drafts, 0, "seed {seed}");
        for (partner, owed) in &owed {
            let owed = if month == begins { *owed } else { BASE_FEE_CENTS };
            let line = (period.clone(), partner.clone(), owed);
            assert!(found.finalized.contains(&line), "seed {seed}: {line:?} is not billed so");
        }
        month = next;
    }
    let invoices = whole(&database).await.finalized.len();
    println!(
        "seed {seed}, {:?}: {done} kills of an invoice run, {servers} of them of the server, {mid_transaction} in the middle of a \
         transaction, {partly} left a month partly done; {invoices} invoices, numbers gapless, none half finalized",
        database.kind
    );
    assert!(mid_transaction > 0 || kills < 10, "seed {seed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_invoice_run_is_killed_on_sqlite() {
    killed(Database::new(Kind::Sqlite).await, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_invoice_run_and_postgres_are_killed() {
    let postgres = Postgres::start().await;
    killed(Database::on(&postgres.url()).await, Some(postgres)).await;
}
