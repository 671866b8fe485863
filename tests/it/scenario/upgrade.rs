//! Another plan in the middle of a month: what each has of it, and what was paid in advance.

use tollgate::metering::Product::{Inventory, Pricing};

use super::Story;
use super::story::micros;
use crate::support::{Database, Kind, Process, on_both_databases};

const STARTER: &str = r#"
[[plan]]
id = "starter"
version = 1
name = "Starter"
currency = "EUR"
products = ["inventory"]
rate = { units_per_second = 10, burst = 50 }
base_fee = { amount = "49.00", due = "arrears" }

[[plan.charge]]
meter = "inventory"
model = "per_unit"
included = 1000
unit_price = "0.004"
"#;

const GROWTH: &str = r#"
[[plan]]
id = "growth"
version = 1
name = "Growth"
currency = "EUR"
products = ["inventory", "pricing"]
rate = { units_per_second = 100, burst = 400 }
base_fee = { amount = "199.00", due = "arrears" }

[[plan.charge]]
meter = "inventory"
model = "graduated"
tiers = [{ up_to = 10000, unit_price = "0.003" }, { unit_price = "0.002" }]

[[plan.charge]]
meter = "pricing"
model = "package"
package_units = 1000
package_price = "2.50"
"#;

on_both_databases! {
    async fn an_upgrade_on_the_17th(database: Database) {
        let plans = [STARTER, GROWTH].concat();
        let mut story = Story::begin(database, "2026-01-01T00:00:00Z", &plans, &["--tax", "19"]).await;
        story.used("2026-01-03T10:00:00Z", &[(Inventory, 2000)]).await;
        story.used("2026-01-17T09:00:00Z", &[(Inventory, 100)]).await;
        story.at("2026-01-17T15:00:00Z", &["partner", "update", "Ada", "--plan", "growth"]).ok();
        story.used("2026-01-17T16:00:00Z", &[(Inventory, 12_000)]).await;
        story.used("2026-01-20T10:00:00Z", &[(Pricing, 1001)]).await;

        // A gateway runs on the folder: it ships, seals and archives what the run asks for.
        story.journal("2026-02-01T02:00:00Z").await;
        story.database.set_now(micros("2026-02-01T02:00:00Z"));
        let gateway = Process::serve(&story.database);
        assert_eq!(
            story.close("2026-02-01T02:00:00Z", "2026-01").await,
            [
                // The days 1 to 16: 49.00 × 16 / 31 = 25.2903.
                "2026-01 starter@1 base_fee 16/31 = 25.29",
                // 1000 × 16 / 31 = 516.13, so 517 are included: 1583 × 0.004 = 6.332.
                "2026-01 starter@1 usage inventory 2100 = 6.33",
                "2026-01 starter@1 usage requests 2 = 0.00",
                // The 17th is the new plan's: 199.00 × 15 / 31 = 96.2903.
                "2026-01 growth@1 base_fee 15/31 = 96.29",
                // 10000 × 0.003 + 2000 × 0.002.
                "2026-01 growth@1 usage inventory 12000 = 34.00",
                // Two packages are begun.
                "2026-01 growth@1 usage pricing 1001 = 5.00",
                "2026-01 growth@1 usage requests 2 = 0.00",
                // 166.91 × 19 % = 31.7129.
                "EUR 166.91 + 31.71 = 198.62",
            ]
        );
        gateway.terminate();
        assert_eq!(story.books().await, [("receivable", 198_62), ("revenue", -166_91), ("tax", -31_71)]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fee_in_advance_and_a_downgrade() {
    let growth = GROWTH.replace(
        "amount = \"199.00\", due = \"arrears\" }",
        "amount = \"200.00\", due = \"advance\" }\ndiscount_percent = \"10\"",
    );
    let starter = STARTER.replace("49.00", "50.00");
    let without_charges = |plan: &str| plan.split("\n[[plan.charge]]").next().unwrap().to_owned();
    let plans = without_charges(&growth) + &without_charges(&starter);
    let database = Database::new(Kind::Sqlite).await;
    let mut story = Story::begin(database, "2026-03-10T12:00:00Z", &plans, &[]).await;

    assert_eq!(
        story.close("2026-04-01T02:00:00Z", "2026-03").await,
        [
            // 10 to 31: 200.00 × 22 / 31 = 141.9355, and 10 % of 141.94 off.
            "2026-03 growth@1 base_fee 22/31 = 141.94",
            "2026-03 growth@1 discount = -14.19",
            // April in advance.
            "2026-04 growth@1 base_fee 30/30 = 200.00",
            "2026-04 growth@1 discount = -20.00",
            "EUR 307.75 + 0.00 = 307.75",
        ]
    );
    story.at("2026-04-21T10:00:00Z", &["partner", "update", "Ada", "--plan", "starter"]).ok();
    assert_eq!(
        story.close("2026-05-01T02:00:00Z", "2026-04").await,
        [
            // 20 days are 133.33, less 200.00; 10 % of 133.33 off are 13.33, where 20.00 were.
            "2026-04 growth@1 base_fee 20/30 less 200.00 = -66.67",
            "2026-04 growth@1 discount less -20.00 = 6.67",
            // 21 to 30: 50.00 × 10 / 30; nothing of May, because starter is paid in arrears.
            "2026-04 starter@1 base_fee 10/30 = 16.67",
            // In the buyer's favour.
            "EUR -43.33 + 0.00 = -43.33",
        ]
    );
    // 307.75 − 43.33.
    assert_eq!(story.books().await, [("receivable", 264_42), ("revenue", -264_42)]);
}
