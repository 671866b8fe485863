//! What turns out after an invoice: usage that comes late, an invoice that is taken back, credit notes.

use serde_json::Value;
use tollgate::metering::Product::Inventory;

use super::Story;
use crate::support::{Process, on_both_databases};

fn plan(settings: &str, charge: &str) -> String {
    format!(
        "[[plan]]\nid = \"p\"\nversion = 1\nname = \"P\"\ncurrency = \"EUR\"\nproducts = [\"inventory\"]\n\
         rate = {{ units_per_second = 10, burst = 50 }}\n{settings}\n\n[[plan.charge]]\nmeter = \"inventory\"\n{charge}\n"
    )
}

const VOLUME: &str = "model = \"volume\"\ntiers = [{ up_to = 100, unit_price = \"0.10\" }, { unit_price = \"0.01\" }]";

on_both_databases! {
    async fn late_usage_is_billed_at_its_tier_on_the_next_invoice(database: Database) {
        let mut story = Story::begin(database, "2026-01-01T00:00:00Z", &plan("", VOLUME), &["--tax", "19"]).await;
        story.used("2026-01-20T10:00:00Z", &[(Inventory, 100)]).await;
        assert_eq!(
            story.close("2026-02-01T02:00:00Z", "2026-01").await,
            ["2026-01 p@1 usage inventory 100 = 10.00", "2026-01 p@1 usage requests 1 = 0.00", "EUR 10.00 + 1.90 = 11.90"]
        );
        // From another disk, after the month was closed.
        story.used("2026-01-31T23:00:00Z", &[(Inventory, 1)]).await;
        story.used("2026-02-10T10:00:00Z", &[(Inventory, 2)]).await;
        assert_eq!(
            story.close("2026-03-01T02:00:00Z", "2026-02").await,
            [
                "2026-02 p@1 usage inventory 2 = 0.20",
                "2026-02 p@1 usage requests 1 = 0.00",
                // 101 × 0.01 = 1.01, of which 10.00 were billed.
                "2026-01 p@1 usage inventory 101 less 10.00 = -8.99",
                "2026-01 p@1 usage requests 2 less 0.00 = 0.00",
                // −8.79 × 19 % = −1.6701.
                "EUR -8.79 + -1.67 = -10.46",
            ]
        );
        let february = &story.documents("2026-02")[0];
        let late = february["lines"].as_array().unwrap().iter().find(|line| line["period"] == "2026-01").unwrap();
        assert_eq!(late["billedBefore"], serde_json::json!({ "units": 100, "amount": "10.00", "invoices": ["INV-000001"] }));
        let days: Vec<_> = february["evidence"]["days"].as_array().unwrap().iter().collect();
        let day = |day: &Value| [&day["period"], &day["day"], &day["records"]].map(Value::to_string).join(" ");
        assert_eq!(days.into_iter().map(day).collect::<Vec<_>>(), [r#""2026-01" "2026-01-31" 1"#, r#""2026-02" "2026-02-10" 1"#]);
        // Billed once: March knows nothing of it.
        assert_eq!(
            story.close("2026-04-01T02:00:00Z", "2026-03").await,
            ["2026-03 p@1 usage inventory 0 = 0.00", "EUR 0.00 + 0.00 = 0.00"]
        );
        // 11.90 − 10.46.
        assert_eq!(story.books().await, [("receivable", 1_44), ("revenue", -1_21), ("tax", -23)]);
    }

    async fn an_invoice_is_voided_and_its_month_run_again(database: Database) {
        let mut story = Story::begin(database, "2026-01-01T00:00:00Z", &plan("", VOLUME), &["--tax", "19"]).await;
        story.used("2026-01-20T10:00:00Z", &[(Inventory, 100)]).await;
        story.close("2026-02-01T02:00:00Z", "2026-01").await;
        story.used("2026-01-31T23:00:00Z", &[(Inventory, 1)]).await;
        let void = ["invoice", "void", "INV-000001", "--reason", "a disk was found"];
        story.at("2026-02-01T04:00:00Z", &void).ok();
        assert_eq!(
            story.close("2026-02-01T05:00:00Z", "2026-01").await,
            // 101 × 0.01: as if the first had never been.
            ["2026-01 p@1 usage inventory 101 = 1.01", "2026-01 p@1 usage requests 2 = 0.00", "EUR 1.01 + 0.19 = 1.20"]
        );
        let list = story.json(&["invoice", "list"]);
        let states: Vec<_> = list.as_array().unwrap().iter().map(|it| (it["number"].as_str(), it["state"].as_str())).collect();
        assert_eq!(states, [(Some("INV-000001"), Some("void")), (Some("INV-000002"), Some("finalized"))]);
        assert_eq!(story.books().await, [("receivable", 1_20), ("revenue", -1_01), ("tax", -19)]);
        // Both records are under the invoice that counts.
        assert_eq!(story.documents("2026-01")[0]["evidence"]["records"], 2);
    }

    async fn credit_notes_up_to_the_last_cent(database: Database) {
        let settings = "base_fee = { amount = \"100.00\", due = \"arrears\" }";
        let plans = plan(settings, "model = \"per_unit\"\nunit_price = \"0.01\"");
        let mut story = Story::begin(database, "2026-01-01T00:00:00Z", &plans, &["--tax", "19"]).await;
        story.used("2026-01-20T10:00:00Z", &[(Inventory, 3333)]).await;
        let january = story.close("2026-02-01T02:00:00Z", "2026-01").await;
        // 133.33 × 19 % = 25.3327.
        assert_eq!(january.last().unwrap(), "EUR 133.33 + 25.33 = 158.66");

        let credit = |story: &Story, what: &[&str]| {
            let arguments = [&["credit-note", "create", "INV-000001", "--reason", "an outage"], what].concat();
            story.at("2026-02-03T10:00:00Z", &arguments)
        };
        let sums = |story: &Story, number: &str| {
            let note: Value = serde_json::from_str(&story.at("2026-02-03T10:00:00Z", &["credit-note", "show", number]).ok()).unwrap();
            [&note["net"], &note["tax"]["amount"], &note["total"]].map(|money| money.as_str().unwrap().to_owned()).join(" ")
        };
        // Line 2 is the usage. 13.33 × 19 % = 2.5327.
        assert_eq!(credit(&story, &["--line", "2=13.33"]).ok(), "CN-000001\n");
        assert_eq!(sums(&story, "CN-000001"), "13.33 2.53 15.86");
        // 33.33 × 19 % = 6.3327, less 2.53.
        assert_eq!(credit(&story, &["--amount", "20"]).ok(), "CN-000002\n");
        assert_eq!(sums(&story, "CN-000002"), "20.00 3.80 23.80");
        // Of the line 20.00 are left, of the invoice 100.00.
        let above = credit(&story, &["--line", "2=20.01"]).failed();
        assert!(above.contains("line 2 of INV-000001 has 20.00 EUR left"), "{above}");
        let above = credit(&story, &["--amount", "100.01"]).failed();
        assert!(above.contains("INV-000001 has 100.00 EUR left"), "{above}");
        // All that is left: the tax too. 25.33 − 6.33.
        assert_eq!(credit(&story, &["--whole"]).ok(), "CN-000003\n");
        assert_eq!(sums(&story, "CN-000003"), "100.00 19.00 119.00");
        let nothing = credit(&story, &["--whole"]).failed();
        assert!(nothing.contains("nothing is left of INV-000001"), "{nothing}");
        // 15.86 + 23.80 + 119.00 = 158.66; what was refused took no number.
        assert_eq!(story.books().await, [("credits", 133_33), ("revenue", -133_33)]);
    }

    /// A month in which nothing was due has no invoice, and is closed all the same: what comes late goes on the next one.
    async fn late_usage_of_a_month_without_an_invoice(database: Database) {
        let free = "[[plan]]\nid = \"p\"\nversion = 1\nname = \"P\"\ncurrency = \"EUR\"\nproducts = [\"inventory\"]\n\
                    rate = { units_per_second = 10, burst = 50 }\n";
        let mut story = Story::begin(database, "2026-01-20T00:00:00Z", free, &[]).await;
        // The gateway has been there since.
        Process::serve(&story.database).terminate();
        let run = story.at("2026-02-01T02:00:00Z", &["invoice", "run", "--period", "2026-01"]);
        assert!(run.stderr.contains("nothing was due from 1 partner in 2026-01"), "{run:?}");
        run.ok();
        story.used("2026-01-25T10:00:00Z", &[(Inventory, 3)]).await;
        story.used("2026-02-03T10:00:00Z", &[(Inventory, 4)]).await;
        assert_eq!(
            story.close("2026-03-01T03:00:00Z", "2026-02").await,
            [
                "2026-02 p@1 usage inventory 4 = 0.00",
                "2026-02 p@1 usage requests 1 = 0.00",
                "2026-01 p@1 usage inventory 3 = 0.00",
                "2026-01 p@1 usage requests 1 = 0.00",
                "EUR 0.00 + 0.00 = 0.00",
            ]
        );
        assert_eq!(story.documents("2026-02")[0]["evidence"]["records"], 2);
    }
}
