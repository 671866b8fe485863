//! What is final, posted or published: the database itself refuses to change it, whoever asks (invariant 4).

use sqlx::AssertSqlSafe;
use tollgate::metering::Product::Inventory;

use super::Story;
use super::refusals::dump;
use crate::support::on_both_databases;

const PLANS: &str = "[[plan]]\nid = \"p\"\nversion = 1\nname = \"P\"\ncurrency = \"EUR\"\nproducts = [\"inventory\"]\n\
    rate = { units_per_second = 10, burst = 50 }\n\n[[plan.charge]]\nmeter = \"inventory\"\nmodel = \"per_unit\"\nunit_price = \"0.10\"\n";

const FINAL: &str = "a finalized invoice never changes";
const LINES: &str = "the lines of a finalized invoice are kept as they are";

on_both_databases! {
    async fn what_is_final_is_kept_by_the_database_itself(database: Database) {
        let mut story = Story::begin(database, "2026-01-01T00:00:00Z", PLANS, &["--tax", "19"]).await;
        story.used("2026-01-20T10:00:00Z", &[(Inventory, 200)]).await;
        story.close("2026-02-01T02:00:00Z", "2026-01").await;
        story.at("2026-02-02T00:00:00Z", &["credit-note", "create", "INV-000001", "--amount", "1", "--reason", "a gift"]).ok();
        story.used("2026-02-20T10:00:00Z", &[(Inventory, 10)]).await;
        story.at("2026-03-01T02:00:00Z", &["invoice", "run", "--period", "2026-02"]).ok();

        let before = dump(&story.database).await;
        let mut connection = story.database.connect().await;
        for (statement, words) in [
            ("update invoice set body = '{}' where number = 'INV-000001'", FINAL),
            ("update invoice set sha256 = '' where number = 'INV-000001'", FINAL),
            ("update invoice set total = total - 1 where number = 'INV-000001'", FINAL),
            ("update invoice set number = 'INV-000009' where number = 'INV-000001'", FINAL),
            ("update invoice set number = null where number = 'INV-000001'", FINAL),
            ("update invoice set state = 'draft' where number = 'INV-000001'", FINAL),
            ("update invoice set period = '2026-02' where number = 'INV-000001'", FINAL),
            ("delete from invoice where number = 'INV-000001'", "a finalized invoice is kept"),
            ("update invoice_line set amount = 0", "a line of an invoice never changes"),
            ("delete from invoice_line where invoice_id = (select id from invoice where number = 'INV-000001')", LINES),
            (
                "insert into invoice_line (invoice_id, line, kind, period, plan_id, plan_version, product, meter, amount) \
                 select id, 99, 'usage', '2026-01', 'p', 1, '', '', -1 from invoice where number = 'INV-000001'",
                LINES,
            ),
            ("update credit_note set total = 0", "a credit note never changes"),
            ("delete from credit_note", "a credit note is kept"),
            ("update money_entry set amount = 0", "the ledger is append-only"),
            ("delete from money_entry", "the ledger is append-only"),
            ("update money_transaction set partner_id = 'other'", "the ledger is append-only"),
            ("update number_series set taken = taken + 2", "numbers are taken one by one"),
            ("update number_series set taken = taken - 1", "numbers are taken one by one"),
            ("delete from number_series", "a series of numbers is kept"),
            ("update journal_cut set sequence = 0", "a cut never changes"),
            ("update plan set body = '{}'", "a published plan version never changes"),
            ("delete from plan", "a published plan version is kept"),
        ] {
            let told = sqlx::query(AssertSqlSafe(statement)).execute(&mut connection).await;
            let told = told.map(|done| done.rows_affected()).unwrap_err().to_string();
            assert!(told.contains(words), "{statement} told: {told}");
        }
        drop(connection);
        assert_eq!(dump(&story.database).await, before);

        // A draft is nobody's yet: it is made anew.
        story.at("2026-03-01T02:05:00Z", &["invoice", "run", "--period", "2026-02", "--finalize"]).ok();
        story.at("2026-03-02T00:00:00Z", &["invoice", "pay", "INV-000002"]).ok();
        let mut connection = story.database.connect().await;
        for state in ["finalized", "void"] {
            let text = format!("update invoice set state = '{state}' where number = 'INV-000002'");
            let told = sqlx::query(AssertSqlSafe(text)).execute(&mut connection).await.unwrap_err().to_string();
            assert!(told.contains(FINAL), "a paid invoice became {state}: {told}");
        }
    }
}
