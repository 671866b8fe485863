//! A listing of more documents than are read at a time: all of them, once, in order, whatever happens meanwhile.

use serde_json::Value;
use sqlx::AnyConnection;
use tollgate::billing::document::Invoice;
use tollgate::billing::export::{Found, Listing, Place, Selection, Walk, select};
use tollgate::db::Db;

use super::sample;
use crate::support::on_both_databases;

async fn put(connection: &mut AnyConnection, invoice: &Invoice, state: &str) {
    let body = serde_json::to_string(invoice).unwrap();
    sqlx::query(
        "insert into invoice (id, partner_id, period, currency, state, number, cut_id, body, sha256, subtotal, tax, total, created_at) \
         values ($1, $1, $2, 'EUR', $3, $4, 'c', $5, $6, 0, 0, 0, 0)",
    )
    .bind(invoice.id.as_str())
    .bind(invoice.period.month.as_str())
    .bind(state)
    .bind(invoice.number.as_deref())
    .bind(body.as_str())
    .bind(sample::sha256(&body))
    .execute(connection)
    .await
    .unwrap();
}

async fn places(db: &Db, state: Option<&str>) -> Vec<Place> {
    let state = state.map(|state| tollgate::billing::export::State::from_name(state).unwrap());
    let selection = Selection { period: Some("2026-11".parse().unwrap()), state, document: None };
    match select(&mut db.snapshot().await.unwrap(), &selection).await.unwrap() {
        Found::Several(places) => places,
        Found::One(_) => panic!("several were asked for"),
    }
}

async fn whole(db: &Db, mut walk: Walk) -> (String, usize) {
    let (mut text, mut largest) = (Vec::new(), 0);
    while let Some(chunk) = walk.next(db).await.unwrap() {
        largest = largest.max(chunk.len());
        text.extend(chunk);
    }
    assert!(walk.next(db).await.unwrap().is_none(), "an end is an end");
    (String::from_utf8(text).unwrap(), largest)
}

on_both_databases! {
    async fn a_long_listing_is_whole_and_comes_in_pieces(database: Database) {
        let url = database.url.replace("{data_dir}", &database.data_dir().display().to_string());
        let db = Db::open(&url, 2, &database.data_dir()).await.unwrap();
        let mut connection = database.connect().await;
        let mut invoice = sample::invoice();
        // The series outgrows its zeros on the way, and nothing is stored in order.
        let numbers: Vec<u64> = (999_900..1_000_100).collect();
        for number in numbers.iter().rev() {
            invoice.id = format!("inv_{}", number % 1000 * 1000 + number / 1000).into();
            invoice.number = Some(format!("INV-{number:06}"));
            put(&mut connection, &invoice, "finalized").await;
        }
        let expected: Vec<String> = numbers.iter().map(|number| format!("INV-{number:06}")).collect();

        let (json, largest) = whole(&db, Walk::new(Listing::Json, places(&db, None).await)).await;
        let list: Vec<Value> = serde_json::from_str(&json).unwrap();
        let found: Vec<&str> = list.iter().map(|item| item["invoice"]["number"].as_str().unwrap()).collect();
        assert_eq!(found, expected);
        assert!(largest < json.len() / 2, "{largest} of {} bytes at once", json.len());

        let (csv, largest) = whole(&db, Walk::new(Listing::Csv, places(&db, None).await)).await;
        let mut reader = ::csv::Reader::from_reader(csv.as_bytes());
        let mut found: Vec<String> = reader.records().map(|row| row.unwrap()[1].to_owned()).collect();
        assert_eq!(found.len(), 200 * invoice.lines.len());
        found.dedup();
        assert_eq!(found, expected);
        assert!(largest < csv.len() / 2, "{largest} of {} bytes at once", csv.len());

        // A draft that is made anew while a slow reader takes its time is left out; the file stays whole.
        invoice.number = None;
        for draft in 0..130 {
            invoice.id = format!("inv_draft{draft:03}").into();
            put(&mut connection, &invoice, "draft").await;
        }
        let mut walk = Walk::new(Listing::Json, places(&db, Some("draft")).await);
        let first = walk.next(&db).await.unwrap().unwrap();
        sqlx::query("delete from invoice where id in ('inv_draft000', 'inv_draft129')").execute(&mut connection).await.unwrap();
        let (rest, _) = whole(&db, walk).await;
        let list: Vec<Value> = serde_json::from_str(&(String::from_utf8(first).unwrap() + &rest)).unwrap();
        assert_eq!(list.len(), 129);
        assert_eq!(list[0]["state"], "draft");
        db.close().await;
    }
}
