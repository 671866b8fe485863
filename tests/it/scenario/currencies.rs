//! Currencies without minor units, with thousandths, and a partner that goes from one to another.

use tollgate::metering::Product::Inventory;

use super::Story;
use crate::support::{Database, Kind};

fn plan(id: &str, currency: &str, fee: &str, due: &str, price: &str) -> String {
    format!(
        "[[plan]]\nid = \"{id}\"\nversion = 1\nname = \"{id}\"\ncurrency = \"{currency}\"\nproducts = [\"inventory\"]\n\
         rate = {{ units_per_second = 10, burst = 50 }}\nbase_fee = {{ amount = \"{fee}\", due = \"{due}\" }}\n\n\
         [[plan.charge]]\nmeter = \"inventory\"\nmodel = \"per_unit\"\nunit_price = \"{price}\"\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn yen_have_no_decimals() {
    let plans = plan("p", "JPY", "1000", "arrears", "0.5");
    let create = ["--tax", "10", "--timezone", "Asia/Tokyo"];
    let mut story = Story::begin(Database::new(Kind::Sqlite).await, "2026-01-09T15:00:00Z", &plans, &create).await;
    story.used("2026-01-31T14:59:59Z", &[(Inventory, 3)]).await;
    assert_eq!(
        story.close("2026-01-31T16:30:00Z", "2026-01").await,
        [
            // It is the 10th in Tokyo: 1000 × 22 / 31 = 709.68.
            "2026-01 p@1 base_fee 22/31 = 710",
            // 3 × 0.5 = 1.5: half goes up.
            "2026-01 p@1 usage inventory 3 = 2",
            "2026-01 p@1 usage requests 1 = 0",
            // 712 × 10 % = 71.2.
            "JPY 712 + 71 = 783",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn dinars_have_thousandths() {
    let plans = plan("p", "KWD", "10.000", "arrears", "0.0005");
    let mut story = Story::begin(Database::new(Kind::Sqlite).await, "2026-01-10T08:00:00Z", &plans, &["--tax", "5"]).await;
    story.used("2026-01-31T12:00:00Z", &[(Inventory, 3)]).await;
    assert_eq!(
        story.close("2026-02-01T02:00:00Z", "2026-01").await,
        [
            // 10 × 22 / 31 = 7.09677.
            "2026-01 p@1 base_fee 22/31 = 7.097",
            // 0.0015.
            "2026-01 p@1 usage inventory 3 = 0.002",
            "2026-01 p@1 usage requests 1 = 0.000",
            // 7.099 × 5 % = 0.35495.
            "KWD 7.099 + 0.355 = 7.454",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_currency_that_changes() {
    let plans = plan("euros", "EUR", "60.00", "advance", "0.10") + &plan("dollars", "USD", "90.00", "arrears", "0.10");
    let mut story = Story::begin(Database::new(Kind::Sqlite).await, "2026-03-01T00:00:00Z", &plans, &["--tax", "20"]).await;
    assert_eq!(
        story.close("2026-04-01T02:00:00Z", "2026-03").await,
        [
            "2026-03 euros@1 base_fee 31/31 = 60.00",
            "2026-03 euros@1 usage inventory 0 = 0.00",
            "2026-04 euros@1 base_fee 30/30 = 60.00",
            "EUR 120.00 + 24.00 = 144.00",
        ]
    );
    story.used("2026-04-02T10:00:00Z", &[(Inventory, 5)]).await;
    let update = ["partner", "update", "Ada", "--plan", "dollars", "--currency", "USD"];
    story.at("2026-04-11T10:00:00Z", &update).ok();
    story.used("2026-04-12T10:00:00Z", &[(Inventory, 7)]).await;
    // An invoice in each currency: what was paid in euros is given back in euros.
    assert_eq!(
        story.close("2026-05-01T02:00:00Z", "2026-04").await,
        [
            // 10 days of 60.00 are 20.00, of 60.00 that were billed.
            "2026-04 euros@1 base_fee 10/30 less 60.00 = -40.00",
            "2026-04 euros@1 usage inventory 5 = 0.50",
            "2026-04 euros@1 usage requests 1 = 0.00",
            // −39.50 × 20 % = −7.90.
            "EUR -39.50 + -7.90 = -47.40",
            "2026-04 dollars@1 base_fee 20/30 = 60.00",
            "2026-04 dollars@1 usage inventory 7 = 0.70",
            "2026-04 dollars@1 usage requests 1 = 0.00",
            // 60.70 × 20 % = 12.14.
            "USD 60.70 + 12.14 = 72.84",
        ]
    );
    // Each has the evidence of its own records.
    for invoice in story.documents("2026-04") {
        assert_eq!(invoice["evidence"]["records"], 1, "{invoice}");
    }
}
