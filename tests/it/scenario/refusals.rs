//! Bad input to billing: one clear sentence each, exit code 1, and not a row of the database changed.

use std::collections::BTreeMap;

use sqlx::{AnyConnection, AssertSqlSafe, Column, Row};
use tollgate::metering::Product::Inventory;

use super::Story;
use crate::support::{Database, Kind, on_both_databases, tollgate};

const PLANS: &str = r#"
[[plan]]
id = "p"
version = 1
name = "P"
currency = "EUR"
products = ["inventory"]
rate = { units_per_second = 10, burst = 50 }
base_fee = { amount = "100.00", due = "arrears" }

[[plan.charge]]
meter = "inventory"
model = "graduated"
tiers = [{ up_to = 100, unit_price = "0.10" }, { unit_price = "0.05" }]

[[plan]]
id = "dollars"
version = 1
name = "Dollars"
currency = "USD"
products = ["inventory"]
rate = { units_per_second = 10, burst = 50 }
"#;

/// A change of the first plan above, as a version 2 that must be refused.
const PLAN_CHANGES: [(&str, &str); 22] = [
    ("up_to = 100, unit_price = \"0.10\" }", "up_to = 100, unit_price = \"0.10\" }, { up_to = 100, unit_price = \"0.09\" }"),
    ("up_to = 100, unit_price = \"0.10\" }", "up_to = 100, unit_price = \"0.10\" }, { up_to = 50, unit_price = \"0.09\" }"),
    ("{ up_to = 100, unit_price = \"0.10\" }, { ", "{ unit_price = \"0.10\" }, { "),
    (", { unit_price = \"0.05\" }", ""),
    ("tiers = [{ up_to = 100, unit_price = \"0.10\" }, { unit_price = \"0.05\" }]", "tiers = []"),
    ("up_to = 100", "up_to = 0"),
    ("up_to = 100", "up_to = -100"),
    ("\"0.05\"", "\"-0.05\""),
    ("\"0.05\"", "\"0.0000000000001\""),
    ("\"0.05\"", "0.05"),
    ("meter = \"inventory\"", "meter = \"weather\""),
    ("meter = \"inventory\"", "meter = \"pricing\""),
    ("model = \"graduated\"", "model = \"per_unit\""),
    ("model = \"graduated\"", "model = \"staircase\""),
    ("currency = \"EUR\"", "currency = \"EUX\""),
    ("currency = \"EUR\"", "currency = \"XAU\""),
    ("amount = \"100.00\"", "amount = \"-100.00\""),
    ("amount = \"100.00\"", "amount = \"100.001\""),
    ("due = \"arrears\"", "due = \"sometime\""),
    ("base_fee", "discount_percent = \"100.1\"\nbase_fee"),
    ("base_fee", "minimum = \"0\"\nbase_fee"),
    ("base_fee", "trial_days = 0\nbase_fee"),
];

/// Every row of every table, as text.
pub(super) async fn dump(database: &Database) -> BTreeMap<String, Vec<String>> {
    let mut connection = database.connect().await;
    let names = match database.kind {
        Kind::Sqlite => "select name from sqlite_master where type = 'table' and name not like 'sqlite_%'",
        Kind::Postgres => "select cast(tablename as text) from pg_tables where schemaname = 'public'",
    };
    let names: Vec<String> = sqlx::query_scalar(names).fetch_all(&mut connection).await.unwrap();
    let mut tables = BTreeMap::new();
    // How far a replica has reported moves on by itself, and with every look at what can be closed.
    for name in names.into_iter().filter(|name| name != "_sqlx_migrations" && name != "replica") {
        let rows = rows(&mut connection, &name).await;
        tables.insert(name, rows);
    }
    assert!(tables.len() > 15 && !tables["invoice"].is_empty() && !tables["money_entry"].is_empty(), "{:?}", tables.keys());
    tables
}

async fn rows(connection: &mut AnyConnection, table: &str) -> Vec<String> {
    let rows = sqlx::query(AssertSqlSafe(format!("select * from {table}"))).fetch_all(connection).await.unwrap();
    let cell = |row: &sqlx::any::AnyRow, column: usize| {
        let number = row.try_get::<Option<i64>, _>(column).map(|number| format!("{number:?}"));
        number.or_else(|_| row.try_get::<Option<String>, _>(column).map(|text| format!("{text:?}"))).unwrap()
    };
    let text = |row| Row::columns(row).iter().map(|column| cell(row, column.ordinal())).collect::<Vec<_>>().join(" ");
    let mut rows: Vec<String> = rows.iter().map(text).collect();
    rows.sort();
    rows
}

/// What is another one in each run.
fn redacted(database: &Database, story: &Story, drafts: &[String], sentence: &str) -> String {
    let folder = database.data_dir().parent().unwrap().display().to_string();
    let mut text = sentence.replace(&folder, "<folder>").replace(&story.partner, "<partner>");
    for (place, draft) in drafts.iter().enumerate() {
        text = text.replace(draft, &format!("<draft {}>", place + 1));
    }
    // The clock goes on while a command runs.
    match text.split_once("now it is ") {
        Some((before, _)) => format!("{before}now it is <now>"),
        None => text,
    }
}

on_both_databases! {
    async fn each_is_told_in_a_sentence_and_nothing_changed(database: Database) {
        let mut story = Story::begin(database, "2026-01-01T00:00:00Z", PLANS, &["--tax", "19", "--currency", "EUR"]).await;
        story.used("2026-01-20T10:00:00Z", &[(Inventory, 200)]).await;
        story.close("2026-02-01T02:00:00Z", "2026-01").await;
        story.close("2026-03-01T02:00:00Z", "2026-02").await;
        story.close("2026-04-01T02:00:00Z", "2026-03").await;
        story.at("2026-05-01T02:00:00Z", &["invoice", "void", "INV-000003", "--reason", "a test"]).ok();
        story.close("2026-05-01T02:00:00Z", "2026-03").await;
        story.at("2026-05-01T02:00:00Z", &["invoice", "run", "--period", "2026-04"]).ok();
        story.at("2026-05-01T02:00:00Z", &["invoice", "pay", "INV-000001"]).ok();
        story.at("2026-05-01T02:00:00Z", &["credit-note", "create", "INV-000002", "--line", "1=60", "--reason", "half"]).ok();
        let drafts = story.json(&["invoice", "list", "--state", "draft"]);
        let drafts: Vec<String> = drafts.as_array().unwrap().iter().map(|draft| draft["id"].as_str().unwrap().to_owned()).collect();
        let draft = drafts[0].as_str();

        // A replica that went away in June, as the database remembers it.
        let mut connection = story.database.connect().await;
        let gone = "insert into replica (id, epoch, started_at) values ('rep_gone', 1, 0)";
        let before = dump(&story.database).await;
        let mut told = Vec::new();
        for (from, to) in PLAN_CHANGES {
            let plan = PLANS.split("[[plan]]").nth(1).unwrap();
            assert!(plan.contains(from), "{from}");
            let text = format!("[[plan]]{}", plan.replacen("version = 1", "version = 2", 1).replacen(from, to, 1));
            let file = story.database.file("bad.toml", &text);
            let sentence = tollgate(&story.database, &["plan", "apply", file.to_str().unwrap()]).failed();
            told.push((format!("{} instead of {}", to.replace('\n', " "), from), sentence));
        }
        let commands: &[&[&str]] = &[
            &["invoice", "run", "--period", "2026-05"],
            &["invoice", "run", "--period", "2030-01"],
            &["invoice", "run", "--period", "2026-01"],
            &["invoice", "run", "--period", "2026-02", "--partner", "Ada"],
            &["invoice", "run", "--period", "2025-06"],
            &["invoice", "run", "--period", "2026-04", "--partner", "Eve"],
            &["invoice", "finalize", "--period", "2026-01"],
            &["invoice", "finalize", "INV-000001"],
            &["invoice", "finalize", "INV-000003"],
            &["invoice", "finalize", draft, "INV-000002"],
            &["invoice", "finalize", draft, draft],
            &["invoice", "finalize", "INV-999999"],
            &["invoice", "show", "inv_x"],
            &["invoice", "void", draft, "--reason", "a draft"],
            &["invoice", "void", "INV-000001", "--reason", "paid, and later ones stand"],
            &["invoice", "void", "INV-000003", "--reason", "void already"],
            &["invoice", "void", "INV-000002", "--reason", "INV-000004 of March was made after it"],
            &["invoice", "void", "INV-000004", "--reason", " "],
            &["invoice", "pay", draft],
            &["invoice", "pay", "INV-000001"],
            &["invoice", "pay", "INV-000003"],
            &["credit-note", "create", "INV-000002", "--amount", "40.01", "--reason", "above what is left"],
            &["credit-note", "create", "INV-000002", "--line", "1=40.01", "--reason", "above what is left of the line"],
            &["credit-note", "create", "INV-000002", "--line", "2=0.01", "--reason", "a line of nothing"],
            &["credit-note", "create", "INV-000002", "--line", "3", "--reason", "no such line"],
            &["credit-note", "create", "INV-000002", "--line", "0", "--reason", "no such line"],
            &["credit-note", "create", "INV-000002", "--line", "1=1", "--line", "1=1", "--reason", "twice"],
            &["credit-note", "create", "INV-000002", "--amount", "0", "--reason", "nothing"],
            &["credit-note", "create", "INV-000002", "--amount=-1", "--reason", "less than nothing"],
            &["credit-note", "create", "INV-000002", "--amount", "0.001", "--reason", "less than a cent"],
            &["credit-note", "create", "INV-000002", "--amount", "1", "--reason", ""],
            &["credit-note", "create", "INV-000003", "--whole", "--reason", "of a void one"],
            &["credit-note", "create", draft, "--whole", "--reason", "of a draft"],
            &["credit-note", "create", "INV-999999", "--whole", "--reason", "of none"],
            &["credit-note", "show", "CN-999999"],
            &["partner", "update", "Ada", "--plan", "gold"],
            &["partner", "update", "Ada", "--plan", "p@7"],
            &["partner", "update", "Ada", "--plan", "p"],
            &["partner", "update", "Ada", "--plan", "dollars"],
            &["partner", "update", "Ada", "--currency", "USD"],
            &["partner", "update", "Ada", "--currency", "EUX"],
            &["partner", "update", "Ada", "--timezone", "Mars/Olympus"],
            &["partner", "update", "Ada", "--tax", "101"],
            &["partner", "update", "Ada", "--tax=-1"],
            &["partner", "update", "Ada", "--tax", "exempt:"],
            &["partner", "update", "Eve", "--tax", "19"],
            &["partner", "update", "Ada"],
            &["partner", "create", "Bob", "--plan", "p", "--currency", "USD"],
            &["partner", "create", "Bob", "--plan", "p", "--timezone", "UTC+1"],
            &["replica", "retire", "rep_x"],
        ];
        for arguments in commands {
            let ran = story.at("2026-05-01T02:00:00Z", arguments);
            told.push((arguments.join(" "), ran.failed()));
            assert_eq!(dump(&story.database).await, before, "{arguments:?} changed the database");
        }

        // A replica that is silent holds back the close.
        sqlx::query(gone).execute(&mut connection).await.unwrap();
        let before = dump(&story.database).await;
        let run = ["invoice", "run", "--period", "2026-04"];
        told.push((format!("{} with a silent replica", run.join(" ")), story.at("2026-05-01T02:00:00Z", &run).failed()));
        assert_eq!(dump(&story.database).await, before, "a replica is silent");

        let lines = told.iter().map(|(what, sentence)| {
            let [what, sentence] = [what, sentence].map(|text| redacted(&story.database, &story, &drafts, text));
            format!("{what}\n    {sentence}\n")
        });
        let lines: String = lines.collect();
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/snapshots"));
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_snapshot!("billing_refusals", lines));
    }
}
