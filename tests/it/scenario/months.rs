//! Months of unusual length, and of unusual beginnings.

use tollgate::metering::Product::Inventory;

use super::Story;
use crate::support::{Database, Kind, on_both_databases};

fn plan(id: &str, fee: &str, charge: &str) -> String {
    format!(
        "[[plan]]\nid = \"{id}\"\nversion = 1\nname = \"{id}\"\ncurrency = \"EUR\"\nproducts = [\"inventory\"]\n\
         rate = {{ units_per_second = 10, burst = 50 }}\nbase_fee = {{ amount = \"{fee}\", due = \"arrears\" }}\n\n\
         [[plan.charge]]\nmeter = \"inventory\"\nmodel = \"per_unit\"\n{charge}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leap_february() {
    let plans = plan("small", "29.00", "included = 29\nunit_price = \"1\"") + &plan("large", "58.00", "unit_price = \"0.5\"");
    let mut story = Story::begin(Database::new(Kind::Sqlite).await, "2028-02-01T00:00:00Z", &plans, &[]).await;
    story.used("2028-02-28T23:59:59.999999Z", &[(Inventory, 30)]).await;
    story.at("2028-02-29T00:00:01Z", &["partner", "update", "Ada", "--plan", "large"]).ok();
    story.used("2028-02-29T23:59:59.999999Z", &[(Inventory, 3)]).await;
    assert_eq!(
        story.close("2028-03-01T02:00:00Z", "2028-02").await,
        [
            "2028-02 small@1 base_fee 28/29 = 28.00",
            // 29 × 28 / 29 = 28 are included.
            "2028-02 small@1 usage inventory 30 = 2.00",
            "2028-02 small@1 usage requests 1 = 0.00",
            // The 29th alone.
            "2028-02 large@1 base_fee 1/29 = 2.00",
            "2028-02 large@1 usage inventory 3 = 1.50",
            "2028-02 large@1 usage requests 1 = 0.00",
            "EUR 33.50 + 0.00 = 33.50",
        ]
    );
    assert_eq!(
        story.close("2028-04-01T02:00:00Z", "2028-03").await,
        ["2028-03 large@1 base_fee 31/31 = 58.00", "2028-03 large@1 usage inventory 0 = 0.00", "EUR 58.00 + 0.00 = 58.00"]
    );
}

on_both_databases! {
    async fn a_period_edge_at_a_quarter_past_six(database: Database) {
        let plans = plan("p", "30.00", "unit_price = \"0.01\"");
        // In Kathmandu it is 5:45 on the 29th of April. May begins there at 18:15 UTC on the 30th.
        let zone = ["--timezone", "Asia/Kathmandu"];
        let mut story = Story::begin(database, "2026-04-29T00:00:00Z", &plans, &zone).await;
        story.used("2026-04-30T18:14:59.999999Z", &[(Inventory, 100)]).await;
        story.used("2026-04-30T18:15:00Z", &[(Inventory, 7)]).await;
        story.used("2026-05-31T18:14:59.999999Z", &[(Inventory, 5)]).await;
        story.used("2026-05-31T18:15:00Z", &[(Inventory, 3000)]).await;
        let open = story.at("2026-04-30T19:14:00Z", &["invoice", "run", "--period", "2026-04"]).failed();
        assert!(open.contains("2026-04 is still open for Ada: it ends at 2026-04-30T18:15:00"), "{open}");
        assert_eq!(
            story.close("2026-04-30T19:16:00Z", "2026-04").await,
            [
                // The 29th and the 30th: 30.00 × 2 / 30.
                "2026-04 p@1 base_fee 2/30 = 2.00",
                "2026-04 p@1 usage inventory 100 = 1.00",
                "2026-04 p@1 usage requests 1 = 0.00",
                "EUR 3.00 + 0.00 = 3.00",
            ]
        );
        assert_eq!(
            story.close("2026-05-31T19:16:00Z", "2026-05").await,
            [
                "2026-05 p@1 base_fee 31/31 = 30.00",
                // 7 + 5.
                "2026-05 p@1 usage inventory 12 = 0.12",
                "2026-05 p@1 usage requests 2 = 0.00",
                "EUR 30.12 + 0.00 = 30.12",
            ]
        );
        let may = &story.documents("2026-05")[0];
        assert_eq!(may["period"]["from"], "2026-04-30T18:15:00.000Z");
        assert_eq!(may["period"]["to"], "2026-05-31T18:15:00.000Z");
        // It is the 1st of June there when it is issued, and 30 days later due.
        assert_eq!((&may["issuedAt"].as_str().unwrap()[..16], &may["dueOn"]), ("2026-05-31T19:16", &"2026-07-01".into()));
        // A UTC day is cut at the month's edge: 7 units on the 30th of April are May's.
        let days = may["evidence"]["days"].as_array().unwrap();
        let days: Vec<_> = days.iter().map(|day| (day["period"].as_str().unwrap(), day["day"].as_str().unwrap())).collect();
        assert_eq!(days, [("2026-05", "2026-04-30"), ("2026-05", "2026-05-31")]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_zone_that_changes() {
    let plans = plan("p", "31.00", "unit_price = \"1\"");
    let mut story = Story::begin(Database::new(Kind::Sqlite).await, "2026-03-01T00:00:00Z", &plans, &[]).await;
    // April has begun in neither zone. It begins in New York, where summer time holds by then, at 4:00 UTC.
    let update = ["partner", "update", "Ada", "--timezone", "America/New_York"];
    let said = story.at("2026-03-15T12:00:00Z", &update).ok();
    assert!(said.contains("from 2026-04 on"), "{said}");
    story.used("2026-04-01T03:59:59.999999Z", &[(Inventory, 3)]).await;
    story.used("2026-04-01T04:00:00Z", &[(Inventory, 4)]).await;
    let open = story.at("2026-04-01T04:30:00Z", &["invoice", "run", "--period", "2026-03"]).failed();
    assert!(open.contains("it ends at 2026-04-01T04:00:00"), "{open}");
    assert_eq!(
        story.close("2026-04-01T05:01:00Z", "2026-03").await,
        [
            // 31 days, of which the last has 28 hours.
            "2026-03 p@1 base_fee 31/31 = 31.00",
            "2026-03 p@1 usage inventory 3 = 3.00",
            "2026-03 p@1 usage requests 1 = 0.00",
            "EUR 34.00 + 0.00 = 34.00",
        ]
    );
    assert_eq!(
        story.close("2026-05-01T05:01:00Z", "2026-04").await,
        [
            "2026-04 p@1 base_fee 30/30 = 31.00",
            "2026-04 p@1 usage inventory 4 = 4.00",
            "2026-04 p@1 usage requests 1 = 0.00",
            "EUR 35.00 + 0.00 = 35.00",
        ]
    );
}

/// A month that has begun in one of the zones keeps the old one; and the last word holds.
#[tokio::test(flavor = "multi_thread")]
async fn a_time_zone_that_changes_twice() {
    let plans = plan("p", "31.00", "unit_price = \"1\"");
    let mut story = Story::begin(Database::new(Kind::Sqlite).await, "2026-03-01T00:00:00Z", &plans, &[]).await;
    // On Kiritimati, 14 hours ahead, April has begun: May is the first month that has begun in neither zone.
    let kiritimati = ["partner", "update", "Ada", "--timezone", "Pacific/Kiritimati"];
    let said = story.at("2026-03-31T12:00:00Z", &kiritimati).ok();
    assert!(said.contains("from 2026-05 on"), "{said}");
    // A slip, mended at once: in Berlin April begins at 22:00 UTC, so Berlin's months hold from April on, May's too.
    let said = story.at("2026-03-31T12:05:00Z", &["partner", "update", "Ada", "--timezone", "Europe/Berlin"]).ok();
    assert!(said.contains("from 2026-04 on"), "{said}");
    for (month, edge, closes) in [
        ("2026-03", "2026-03-31T22:00:00", "2026-03-31T23:05:00Z"),
        ("2026-04", "2026-04-30T22:00:00", "2026-04-30T23:05:00Z"),
        ("2026-05", "2026-05-31T22:00:00", "2026-05-31T23:05:00Z"),
    ] {
        story.close(closes, month).await;
        let to = story.documents(month)[0]["period"]["to"].clone();
        assert!(to.as_str().unwrap().starts_with(edge), "{month} ends at {to}");
    }
}
