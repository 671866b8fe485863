//! Revenue by plan and product: what the books say of the same documents, and what can be counted by hand.

use serde_json::{Value, json};
use sqlx::Row;
use tollgate::money::{Currency, Money};

use super::shelf::Shelf;
use crate::support::on_both_databases;

/// The revenue and credits accounts over the finalized and paid invoices of a month, and the credit notes on them.
async fn books(shelf: &Shelf) -> Vec<Value> {
    let mut connection = shelf.database.connect().await;
    let rows = sqlx::query(
        "select t.currency, cast(sum(case when account = 'revenue' then -amount else 0 end) as bigint), \
         cast(sum(case when account = 'credits' then amount else 0 end) as bigint) \
         from money_transaction t join money_entry on transaction_id = t.id \
         where document_id in (select id from invoice where period = $1 and state in ('finalized', 'paid')) \
         or document_id in (select c.id from credit_note c join invoice i on i.id = c.invoice_id \
         where period = $1 and state in ('finalized', 'paid')) \
         group by t.currency order by t.currency",
    )
    .bind(shelf.period.as_str())
    .fetch_all(&mut connection)
    .await
    .unwrap();
    let total = |row: &sqlx::any::AnyRow| {
        let currency = Currency::from_code(row.get(0)).unwrap();
        let (revenue, credited): (i64, i64) = (row.get(1), row.get(2));
        let money = |minor| Money { minor, currency }.to_string();
        json!({ "currency": currency, "revenue": money(revenue), "credited": money(credited), "net": money(revenue - credited) })
    };
    rows.iter().map(total).collect()
}

on_both_databases! {
    async fn revenue_is_what_the_books_say(database: Database) {
        let shelf = Shelf::new(database).await;
        let summary: Value =
            serde_json::from_str(&shelf.run(&["invoice", "summary", "--period", &shelf.period, "--format", "json"])).unwrap();
        let share = |currency, plan, product, kind, revenue, credited, net| {
            json!({ "currency": currency, "plan": plan, "product": product, "kind": kind,
                    "revenue": revenue, "credited": credited, "net": net })
        };
        assert_eq!(summary["period"], shelf.period);
        assert_eq!(
            summary["shares"],
            json!([
                // The credit on a whole invoice is no line's.
                share("EUR", "", "", "credit_note", "0.00", "10.00", "-10.00"),
                // Ada's and Eve's; Vera's is void, Dora's a draft.
                share("EUR", "basic", "", "base_fee", "100.00", "0.00", "100.00"),
                // (1,000 − 100) × 0.0125 = 11.25
                share("EUR", "basic", "inventory", "usage", "11.25", "1.25", "10.00"),
                share("JPY", "yen", "", "base_fee", "5000", "500", "4500"),
                // 7 × 3
                share("JPY", "yen", "inventory", "usage", "21", "0", "21"),
            ])
        );
        assert_eq!(summary["totals"], json!(books(&shelf).await));
        assert_eq!(summary["totals"][0]["net"], "100.00");
        assert_eq!(summary["totals"][1]["net"], "4521");
        let table = shelf.run(&["invoice", "summary", "--period", &shelf.period]);
        assert!(table.lines().any(|line| line.split_whitespace().eq(["EUR", "total", "111.25", "11.25", "100.00"])), "{table}");
        let nothing = shelf.run(&["invoice", "summary", "--period", "2001-01", "--format", "json"]);
        assert_eq!(serde_json::from_str::<Value>(&nothing).unwrap(), json!({ "period": "2001-01", "shares": [], "totals": [] }));
    }
}
