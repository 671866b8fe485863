//! Journeys as a partner buys them: through a running gateway, with scope, cost, words for what cannot be, and the same after kills.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::brute;
use super::equal::{as_dumped, dumped};
use super::shop;
use crate::support::{Database, Kind, Process, graphql, per_unit, plan, tollgate};
use tollgate::event::partition_of;

/// A morning in March 2026: at ten, eleven and noon many come, at one few do.
fn morning() -> String {
    let mut lines = String::new();
    let mut add = |visitor: &str, brand: &str, minute: u32, action: &str| {
        let time = format!("2026-03-02T{:02}:{:02}:00Z", 10 + minute / 60, minute % 60);
        let event = json!({
            "specversion": "1.0", "id": format!("{visitor}-{minute}"), "source": "/web", "type": "journey.recorded", "subject": visitor,
            "time": time, "data": { "visitor": visitor, "action": action, "brand": brand },
        });
        lines.push_str(&format!("{event}\n"));
    };
    for (hour, visitors) in [(0, 20), (1, 20), (2, 20), (3, 4)] {
        for n in 0..visitors {
            let (visitor, brand) = (format!("v{hour}-{n}"), if n % 2 == 0 { "Alba" } else { "Birk" });
            add(&visitor, brand, hour * 60, "view");
            add(&visitor, brand, hour * 60 + 1, "add");
            if n < 8 {
                add(&visitor, brand, hour * 60 + 4, "buy");
            }
        }
    }
    lines
}

fn product(dimensions: &str) -> String {
    format!(
        "name = \"shop\"\nk = 10\nlateness = \"5m\"\nwindow = \"1h\"\nunit = \"session\"\nsteps = [\"view\", \"add_to_cart\", \"purchase\"]\n\
         dimensions = [{dimensions}]\n[actions]\nview = [\"view\"]\nadd_to_cart = [\"add\"]\npurchase = [\"buy\"]\n\
         [retention]\nperiod = \"week\"\nperiods = 4\n"
    )
}

const NUMBERS: &str = "from to pending suppressed revised counts { sessions visitors
    funnel { step units conversionFromPrevious conversionFromFirst medianSeconds } transitions { from to count probability }
    topPaths { actions sessions visitors } cartAbandonment { variant carts abandoned rate }
    timeToConvert { converted medianSeconds meanSeconds } }";

struct Shop {
    database: Database,
    process: Process,
    http: reqwest::Client,
    url: String,
}

impl Shop {
    async fn open(kind: Kind) -> Self {
        let database = Database::new(kind).await;
        let process = Process::serve(&database);
        let url = format!("http://{}/graphql", process.address);
        let plan = plan("p", &format!("products = [\"journey\"]{}", per_unit("journey", 0, "0.50")));
        tollgate(&database, &["plan", "apply", database.file("plan.toml", &plan).to_str().unwrap()]).ok();
        Self { database, process, http: reqwest::Client::new(), url }
    }

    fn key(&self, partner: &str, arguments: &[&str]) -> String {
        let scope: Vec<&str> = arguments.iter().flat_map(|scope| ["--scope", scope]).collect();
        tollgate(&self.database, &[&["partner", "create", partner, "--plan", "p"], &scope[..]].concat()).ok();
        tollgate(&self.database, &["key", "issue", partner]).ok().trim().to_owned()
    }

    fn apply(&self, product: &str) {
        tollgate(&self.database, &["product", "apply", self.database.file("product.toml", product).to_str().unwrap()]).ok();
    }

    fn ingest(&self, lines: &str, close: bool) {
        let file = self.database.file("events.ndjson", lines);
        let arguments = ["ingest", file.to_str().unwrap(), "--close"];
        tollgate(&self.database, &arguments[..if close { 3 } else { 2 }]).ok();
    }

    async fn ask(&self, key: &str, query: &str) -> Value {
        let (_, answer) = graphql(&self.http, &self.url, key, json!({ "query": query })).await;
        answer
    }

    async fn cells(&self, key: &str, by: &str, more: &str) -> Value {
        let query = format!(
            "{{ journey(product: \"shop\", from: \"2026-03-02T09:30:00Z\", to: \"2026-03-03T00:00:00Z\", by: {by}{more}) {{ from to by \
             slice {{ name value }} freshness {{ lagMs stale }} cells {{ {NUMBERS} }} }} }}"
        );
        self.ask(key, &query).await
    }
}

fn code(answer: &Value) -> (&str, &str) {
    let error = &answer["errors"][0];
    (error["extensions"]["code"].as_str().unwrap_or(""), error["message"].as_str().unwrap_or(""))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_buys_what_its_scope_has_of_journeys() {
    let shop = Shop::open(Kind::Sqlite).await;
    // Half of it is in the log before there is a product: it is counted from the log's start.
    let lines = morning();
    let half = lines.lines().count() / 2;
    let join = |lines: Vec<&str>| lines.join("\n") + "\n";
    shop.ingest(&join(lines.lines().take(half).collect()), false);
    shop.apply(&product("\"brand\""));
    shop.ingest(&join(lines.lines().skip(half).collect()), true);
    let (all, alba) = (shop.key("All", &[]), shop.key("Alba", &["brand=Alba"]));

    let answer = shop.cells(&all, "HOUR", "").await;
    let journey = &answer["data"]["journey"];
    assert_eq!((&journey["from"], &journey["slice"]), (&json!("2026-03-02T10:00:00.000Z"), &json!([])), "{answer}");
    let cell = |n: usize| &journey["cells"][n];
    let ten = &cell(0)["counts"];
    assert_eq!((&ten["sessions"], &ten["visitors"]), (&json!("20"), &json!("20")), "{answer}");
    assert_eq!(
        ten["funnel"],
        json!([
            { "step": "view", "units": "20", "conversionFromPrevious": null, "conversionFromFirst": "1", "medianSeconds": null },
            { "step": "add_to_cart", "units": "20", "conversionFromPrevious": "1", "conversionFromFirst": "1", "medianSeconds": "60" },
            // Eight bought: too few to tell how long it took them.
            { "step": "purchase", "units": "8", "conversionFromPrevious": "0.4", "conversionFromFirst": "0.4", "medianSeconds": null },
        ])
    );
    assert_eq!(ten["timeToConvert"], Value::Null, "eight converted");
    assert_eq!(
        ten["cartAbandonment"],
        json!({ "variant": "NO_PURCHASE_AFTER_LAST_ADD_TO_CART", "carts": "20", "abandoned": "12", "rate": "0.6" })
    );
    let transition = |from: &str, to: &str, count: &str, probability: &str| json!({ "from": from, "to": to, "count": count, "probability": probability });
    let transitions = [
        ("view", "add", "20", "1"),
        ("START", "view", "20", "1"),
        ("add", "END", "12", "0.6"),
        ("add", "buy", "8", "0.4"),
        ("buy", "END", "8", "1"),
    ];
    assert_eq!(
        ten["transitions"],
        json!(transitions.map(|(from, to, count, probability)| transition(from, to, count, probability)))
    );
    assert_eq!(ten["topPaths"], json!([]), "the other path has eight visitors, who would be the difference");
    // One o'clock has four visitors: noon hides it, or else the day would tell of it.
    let flags = |n: usize| (cell(n)["suppressed"].as_bool().unwrap(), cell(n)["pending"].as_bool().unwrap());
    assert_eq!(
        [flags(0), flags(1), flags(2), flags(3)],
        [(false, false), (false, false), (true, false), (true, false)],
        "{answer}"
    );
    // What is suppressed costs nothing; nor do hours of nobody.
    assert_eq!(answer["extensions"]["cost"]["actualQueryCost"], 2, "{answer}");
    assert_eq!(answer["extensions"]["cost"]["requestedQueryCost"], 31, "as many cells as may be asked for by default");

    let day = shop.cells(&all, "DAY", "").await;
    assert_eq!(day["data"]["journey"]["cells"], json!([]), "no whole day lies between half past nine and midnight");
    let query = |from: &str, to: &str, more: &str| {
        format!(
            "{{ journey(product: \"shop\", from: \"{from}\", to: \"{to}\", by: DAY{more}) {{ cells {{ {NUMBERS} }} retention {{ period \
             timezone cohorts {{ cohort periodsLater visitors }} }} }} }}"
        )
    };
    let day = shop.ask(&all, &query("2026-03-02T00:00:00Z", "2026-03-03T00:00:00Z", "")).await;
    let counts = &day["data"]["journey"]["cells"][0]["counts"];
    assert_eq!(counts["sessions"], "64", "{day}");
    // The first twenty-eight buy after three minutes, four of the last four too.
    assert_eq!(counts["timeToConvert"], json!({ "converted": "28", "medianSeconds": "180", "meanSeconds": "180" }), "{day}");
    let cohorts = json!([{ "cohort": "2026-03-02", "periodsLater": 0, "visitors": "64" }]);
    assert_eq!(day["data"]["journey"]["retention"], json!([{ "period": "2026-03-02", "timezone": "UTC", "cohorts": cohorts }]));
    assert_eq!(day["extensions"]["cost"]["actualQueryCost"], 2, "a cell and a period: {day}");

    // A brand sees its own alone, and need not name it.
    let own = shop.cells(&alba, "HOUR", "").await;
    assert_eq!(own["data"]["journey"]["slice"], json!([{ "name": "brand", "value": "Alba" }]), "{own}");
    assert_eq!(own["data"]["journey"]["cells"][0]["counts"]["sessions"], "10");
    let other = shop.cells(&alba, "HOUR", ", slice: [{name: \"brand\", value: \"Birk\"}]").await;
    assert_eq!(code(&other).0, "NOT_ENTITLED", "{other}");
    let nobody = shop.cells(&alba, "HOUR", ", slice: [{name: \"brand\", value: \"No such\"}]").await;
    assert_eq!(code(&nobody), code(&other), "what is there and what is not look alike");
    let listed = shop.ask(&alba, "{ journeyProducts { name k dimensions slices { total dimensions { name value } } } }").await;
    let slices = &listed["data"]["journeyProducts"][0]["slices"];
    assert_eq!(*slices, json!([{ "total": false, "dimensions": [{ "name": "brand", "value": "Alba" }] }]), "{listed}");
    let market = shop.key("Market", &["market=DE"]);
    assert_eq!(code(&shop.cells(&market, "HOUR", "").await).0, "NOT_ENTITLED", "the product does not tell markets apart");

    for (query, words) in [
        (query("2026-03-02T00:00:00Z", "2026-03-02T00:00:00Z", ""), "a range ends after it begins"),
        (query("2036-03-02T00:00:00Z", "2036-03-05T00:00:00Z", ""), "which lies in the future"),
        (query("2020-03-02T00:00:00Z", "2026-03-05T00:00:00Z", ""), "more than 31 cells by day"),
        (query("2026-03-02T00:00:00Z", "2026-03-05T00:00:00Z", ", first: 0"), "first is 0, but must be 1 to 1000"),
        (
            query("2026-03-02T00:00:00Z", "2026-03-05T00:00:00Z", ", slice: [{name: \"colour\", value: \"red\"}]"),
            "one value of each of: brand",
        ),
        (
            query("2026-03-02T00:00:00Z", "2026-03-05T00:00:00Z", "").replace("\"shop\"", "\"shoes\""),
            "no journey product \"shoes\"",
        ),
    ] {
        let answer = shop.ask(&all, &query).await;
        let (code, message) = code(&answer);
        assert!(code == "BAD_USER_INPUT" && message.contains(words), "{answer}");
        assert_eq!(answer["extensions"]["cost"]["actualQueryCost"], 0);
    }

    // A product that is retired is answered no longer; what it read can be read again, from then on.
    let overlapping = product("").replace("\"shop\"", "\"other\"");
    let file = shop.database.file("other.toml", &overlapping);
    let refused = tollgate(&shop.database, &["product", "apply", file.to_str().unwrap()]).failed();
    assert!(refused.contains("other and shop overlap: both read the action \"add\""), "{refused}");
    tollgate(&shop.database, &["product", "retire", "shop"]).ok();
    let gone = shop.cells(&all, "HOUR", "").await;
    assert_eq!(code(&gone).0, "BAD_USER_INPUT", "{gone}");
    tollgate(&shop.database, &["product", "apply", file.to_str().unwrap()]).ok();
    let dump = tollgate(&shop.database, &["features", "dump"]).ok();
    assert!(!dump.contains("\"kind\":\"journey\""), "what was sold once is not sold again under another name: {dump}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_key_sees_sample_journeys() {
    let shop = Shop::open(Kind::Sqlite).await;
    tollgate(&shop.database, &["partner", "create", "Ada", "--plan", "p"]).ok();
    let key = tollgate(&shop.database, &["key", "issue", "Ada", "--mode", "test"]).ok();
    let query = "{ journeyProducts { name slices { total } } journey(product: \"sample\", from: \"2026-01-05T00:00:00Z\", \
                 to: \"2026-01-19T00:00:00Z\", by: WEEK) { cells { suppressed counts { sessions timeToConvert { medianSeconds } topPaths { \
                 sessions } } } retention { period cohorts { visitors } } } }";
    let answer = shop.ask(key.trim(), query).await;
    let journey = &answer["data"]["journey"];
    assert_eq!(answer["data"]["journeyProducts"][0]["slices"].as_array().unwrap().len(), 3, "{answer}");
    assert_eq!(journey["cells"][0]["counts"]["sessions"], "210", "{answer}");
    assert!(journey["cells"].as_array().unwrap().iter().all(|cell| cell["suppressed"] == false), "{answer}");
    assert_eq!(journey["retention"].as_array().unwrap().len(), 2, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_answered_of_a_real_shop_is_right_and_stays_after_kills_and_replays() {
    let shop = Shop::open(Kind::Sqlite).await;
    let spec = shop::spec(false, false);
    shop.apply(&spec.toml());
    let events = shop::events();
    let lines: String = events.iter().map(|event| format!("{event}\n")).collect();
    shop.ingest(&lines, true);
    let database = &shop.database;
    let dump = tollgate(database, &["features", "dump"]).ok();
    let lines = || dump.lines().map(|line| serde_json::from_str(line).unwrap());

    let mut of = vec![Vec::new(); 12];
    for event in &events {
        of[usize::from(partition_of(event["subject"].as_str().unwrap(), 12))].push((i64::MAX, event.clone()));
    }
    let product = tollgate::journey::product::parse(&spec.toml()).unwrap();
    let expected = as_dumped(&spec, &product, brute::expected(&spec, &of, false));
    let mut answered = 0;
    for (name, cell) in dumped(lines().collect()) {
        if cell["kind"] != "journey" {
            continue;
        }
        answered += 1;
        let expected = &expected[&name];
        assert!(expected["visitors"].as_i64().unwrap() >= 10, "{cell}");
        for (field, value) in cell.as_object().unwrap() {
            match field.as_str() {
                // Of these some may be held back.
                "paths" => {
                    let told =
                        |path: &Value| expected["paths"].as_array().unwrap().contains(path) && path[2].as_i64().unwrap() >= 10;
                    assert!(value.as_array().unwrap().iter().all(told), "{cell}");
                }
                "funnel" => {
                    for (step, expected) in value.as_array().unwrap().iter().zip(expected["funnel"].as_array().unwrap()) {
                        assert!(step[0] == expected[0] && (step[1].is_null() || step[1] == expected[1]), "{cell}\n{expected}");
                    }
                }
                _ => assert_eq!(*value, expected[field], "{field} of {name}"),
            }
        }
    }
    let by: BTreeMap<String, usize> =
        lines().filter(|line: &Value| line["kind"] == "journey").fold(BTreeMap::new(), |mut by, line| {
            *by.entry(line["by"].to_string()).or_default() += 1;
            by
        });
    println!("{} events, {answered} cells answered of {}: {by:?}", events.len(), expected.len());
    let is_real = std::env::var("TOLLGATE_TEST_SHOP").is_ok();
    assert!(answered > if is_real { 100 } else { 10 });

    shop.process.kill();
    assert_eq!(tollgate(database, &["features", "dump"]).ok(), dump);
    let process = Process::serve(database);
    let verified = tollgate(database, &["replay", "--verify"]).ok();
    assert!(verified.contains("the same as the live store, byte for byte"), "{verified}");
    tollgate(database, &["replay"]).ok();
    assert_eq!(tollgate(database, &["features", "dump"]).ok(), dump);
    process.terminate();
    std::fs::remove_dir_all(database.data_dir().join("snapshots")).unwrap();
    assert_eq!(tollgate(database, &["features", "dump"]).ok(), dump);
}
