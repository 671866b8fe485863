//! What a plan or a partner's standing changes of a bill: a trial, a minimum, an exemption, what was waived.

use tollgate::metering::Product::Inventory;

use super::Story;
use crate::support::{Database, Kind};

fn plan(settings: &str, charge: &str) -> String {
    format!(
        "[[plan]]\nid = \"p\"\nversion = 1\nname = \"P\"\ncurrency = \"EUR\"\nproducts = [\"inventory\"]\n\
         rate = {{ units_per_second = 10, burst = 50 }}\n{settings}\n\n[[plan.charge]]\nmeter = \"inventory\"\n{charge}\n"
    )
}

const TENTH: &str = "model = \"per_unit\"\nunit_price = \"0.10\"";

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_that_ends() {
    let plans = plan("base_fee = { amount = \"30.00\", due = \"arrears\" }\ntrial_days = 10", TENTH);
    let mut story = Story::begin(Database::new(Kind::Sqlite).await, "2026-11-10T15:00:00Z", &plans, &[]).await;
    story.used("2026-11-19T23:59:59.999999Z", &[(Inventory, 500)]).await;
    story.used("2026-11-20T00:00:00Z", &[(Inventory, 5)]).await;
    assert_eq!(
        story.close("2026-12-01T02:00:00Z", "2026-11").await,
        [
            // Free are the 10th, though it began at three, to the 19th; left are 20 to 30: 30.00 × 11 / 30.
            "2026-11 p@1 base_fee 11/30 = 11.00",
            "2026-11 p@1 usage inventory 5 = 0.50",
            "2026-11 p@1 usage requests 1 = 0.00",
            "2026-11 p@1 trial inventory 500 = 0.00",
            "2026-11 p@1 trial requests 1 = 0.00",
            "EUR 11.50 + 0.00 = 11.50",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minimum_not_reached() {
    let settings = "base_fee = { amount = \"20.00\", due = \"arrears\" }\nminimum = \"100.00\"\ndiscount_percent = \"10\"";
    let plans = plan(settings, TENTH);
    let mut story = Story::begin(Database::new(Kind::Sqlite).await, "2026-11-01T00:00:00Z", &plans, &[]).await;
    story.used("2026-11-19T10:00:00Z", &[(Inventory, 200)]).await;
    story.used("2026-12-19T10:00:00Z", &[(Inventory, 1000)]).await;
    assert_eq!(
        story.close("2026-12-01T02:00:00Z", "2026-11").await,
        [
            "2026-11 p@1 base_fee 30/30 = 20.00",
            "2026-11 p@1 usage inventory 200 = 20.00",
            "2026-11 p@1 usage requests 1 = 0.00",
            "2026-11 p@1 discount = -4.00",
            // 36.00 so far.
            "2026-11 p@1 minimum 30/30 = 64.00",
            "EUR 100.00 + 0.00 = 100.00",
        ]
    );
    assert_eq!(
        story.close("2027-01-01T02:00:00Z", "2026-12").await,
        [
            "2026-12 p@1 base_fee 31/31 = 20.00",
            "2026-12 p@1 usage inventory 1000 = 100.00",
            "2026-12 p@1 usage requests 1 = 0.00",
            // 108.00 are above 100.00: no line.
            "2026-12 p@1 discount = -12.00",
            "EUR 108.00 + 0.00 = 108.00",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tax_exemption() {
    let plans = plan("base_fee = { amount = \"10.00\", due = \"arrears\" }", TENTH);
    let mut story = Story::begin(Database::new(Kind::Sqlite).await, "2026-11-01T00:00:00Z", &plans, &["--tax", "8.1"]).await;
    // 10.00 × 8.1 % = 0.81.
    let november = story.close("2026-12-01T02:00:00Z", "2026-11").await;
    assert_eq!(november.last().unwrap(), "EUR 10.00 + 0.81 = 10.81");
    let exempt = "exempt: Reverse charge, Article 196 of Directive 2006/112/EC";
    story.at("2026-12-05T10:00:00Z", &["partner", "update", "Ada", "--tax", exempt]).ok();
    let december = story.close("2027-01-01T02:00:00Z", "2026-12").await;
    assert_eq!(december.last().unwrap(), "EUR 10.00 + 0.00 = 10.00");
    let tax = &story.documents("2026-12")[0]["tax"];
    assert_eq!(tax["exemption"], "Reverse charge, Article 196 of Directive 2006/112/EC");
    assert_eq!((&tax["rate"], &tax["amount"]), (&"0".into(), &"0.00".into()));
    // The invoice of before stays as it is.
    assert_eq!(story.documents("2026-11")[0]["tax"]["rate"], "8.1");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_hour_of_waived_units() {
    let tiers = "model = \"graduated\"\ntiers = [{ up_to = 100, unit_price = \"0.10\" }, { unit_price = \"0.05\" }]";
    let plans = plan("freshness_max = \"5s\"", tiers);
    let mut story = Story::begin(Database::new(Kind::Sqlite).await, "2026-10-01T00:00:00Z", &plans, &[]).await;
    story.used("2026-10-10T09:59:59Z", &[(Inventory, 60)]).await;
    // From ten to eleven the projector hung.
    for quarter in ["10:00:00", "10:15:00", "10:30:00", "10:59:59.999999"] {
        story.used_stale(&format!("2026-10-10T{quarter}Z"), &[], &[(Inventory, 20)]).await;
    }
    assert_eq!(
        story.close("2026-11-01T02:00:00Z", "2026-10").await,
        [
            // 60 × 0.10.
            "2026-10 p@1 usage inventory 60 = 6.00",
            "2026-10 p@1 usage requests 5 = 0.00",
            // 140 units are 100 × 0.10 + 40 × 0.05 = 12.00: 6.00 more.
            "2026-10 p@1 waived inventory 80 worth 6.00 = 0.00",
            "EUR 6.00 + 0.00 = 6.00",
        ]
    );
}
