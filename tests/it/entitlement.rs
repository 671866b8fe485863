//! Invariant 5, as one generated test: every field × plan × row scope × target. What is not yours looks, and costs, like what is
//! not there; what is outside the plan is told from the plan alone; nothing denied is billed; and a partner sees what it would
//! see if the store held nothing but its rows.

mod paths;
mod shop;
mod told;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use crate::support::{Database, Gateway, Kind, counted, event, issue, upserted};
use paths::{Path, Reads};
use shop::{Denied, Offer, Outcome, ROWS, TARGETS, Target};
use told::{Shop, Told};

/// Requests under way at once: they share the journal's syncs.
const CONCURRENT: usize = 16;
const NOBODY: Target = Target { sku: "", location: "", market: "" };

/// Who asks.
struct Asker {
    key: String,
    offer: Offer,
    scope: &'static [&'static str],
}

impl Asker {
    async fn new(shop: &Shop, offer: Offer, scope: &'static [&'static str]) -> Self {
        let name = offer.name(scope);
        let partner = shop.gateway.partner(&name, &offer.plan, scope).await;
        let key = match offer.key {
            Some(product) => issue(&shop.database, &[&name, "--product", product]).key,
            None => partner.key,
        };
        Self { key, offer, scope }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_field_tells_what_is_not_yours_from_what_is_not_there() {
    let paths: Arc<Vec<Path>> = Arc::new(paths::all());
    let (named, listed): (Vec<_>, Vec<_>) =
        paths.iter().filter(|path| path.reads() != Reads::Nothing).partition(|path| path.reads() == Reads::Named);
    assert!(named.len() > 40 && listed.len() > 20, "the walk found {} and {} paths", named.len(), listed.len());

    let shop = Arc::new(Shop::open(&[]).await);
    let mut askers = Vec::new();
    for scope in shop::scopes() {
        for offer in shop::offers() {
            askers.push(Asker::new(&shop, offer, scope).await);
        }
    }
    shop.gateway.refresh().await;
    let partners = askers.len();
    // A task a partner: the walk has both processors.
    let walks = stream::iter(askers)
        .map(|asker| {
            let (shop, paths) = (shop.clone(), paths.clone());
            tokio::spawn(async move { walk(&shop, &asker, &paths).await })
        })
        .buffer_unordered(CONCURRENT);
    let combinations: usize = walks.map(|walked| walked.unwrap()).fold(0, async |sum, walked| sum + walked).await;
    let requests = Arc::into_inner(shop).unwrap().settle().await;
    println!("{combinations} combinations of {} fields and {partners} partners, in {requests} requests", paths.len());
}

/// Every path for one partner. How many combinations of path and target it saw.
async fn walk(shop: &Shop, asker: &Asker, paths: &[Path]) -> usize {
    let mut combinations = 0;
    for path in paths {
        let operation = path.operation();
        let mut told: HashMap<Target, Told> = HashMap::new();
        for target in TARGETS.map(|target| target.on(path)) {
            for target in [Some(target), target.not_there(asker.scope)].into_iter().flatten() {
                if let Entry::Vacant(vacant) = told.entry(target) {
                    let answer = shop.ask(&asker.key, &operation, &path.variables(&target, &shop.period), &target).await;
                    let context = || format!("{}; {}; {target:?}: {answer:#?}", asker.offer.name(asker.scope), path.name());
                    check(path, asker, &target, &answer, &context);
                    vacant.insert(answer);
                    combinations += 1;
                }
            }
        }
        let context = || format!("{}; {}", asker.offer.name(asker.scope), path.name());
        for (target, answer) in &told {
            if let Some(nowhere) = target.not_there(asker.scope) {
                let nowhere = &told[&nowhere];
                assert_eq!(
                    answer.whole,
                    nowhere.whole,
                    "{}: {target:?} is not yours, and told from what is not there",
                    context()
                );
            }
        }
        if let Some(denied) = asker.offer.denies(path) {
            denied_by_the_plan(path, asker, &told, &denied);
        }
    }
    combinations
}

/// NOT_ENTITLED once for each object that has the field, in the same words whatever else is there, and whosever it is. Below
/// null there is no field that could fail.
fn denied_by_the_plan(path: &Path, asker: &Asker, told: &HashMap<Target, Told>, denied: &Denied) {
    let context = || format!("{}; {}; {told:#?}", asker.offer.name(asker.scope), path.name());
    let above = |told: &Told| objects(&told.data, &path.0[..denied.place]).len();
    for (target, answer) in told {
        let reached = asker.offer.outcome(path, asker.scope, target) == Outcome::Denied { reached: true };
        assert!(path.reads() != Reads::Named || reached == (above(answer) > 0), "{target:?}: {}", context());
        assert_eq!(answer.errors.len(), above(answer), "{target:?}: {}", context());
        for (code, message) in &answer.errors {
            assert_eq!(code, "NOT_ENTITLED", "{}", context());
            // What a restricted key is told is about the key.
            let sentence = format!("Your plan does not include {}. Ask for a plan that does.", denied.name);
            assert!(asker.offer.key.is_some() || *message == sentence, "{message} instead of {sentence}: {}", context());
        }
    }
    // A product outside the plan hides its rows altogether: there, not there and not yours are one answer.
    if denied.whole_product {
        for ((one, answer), (other, same)) in told.iter().flat_map(|one| told.iter().map(move |other| (one, other))) {
            assert!(one.sku != other.sku || answer.whole == same.whole, "{one:?}, {other:?}: {}", context());
        }
    }
}

/// What holds of each answer for itself.
fn check(path: &Path, asker: &Asker, target: &Target, told: &Told, context: &dyn Fn() -> String) {
    assert_eq!(told.status, 200, "{}", context());
    assert_eq!(told.actual, told.billed(), "{}", context());
    assert!(told.actual <= told.requested, "{}", context());
    let named = path.reads() == Reads::Named;
    if asker.offer.denies(path).is_some() {
        assert_eq!((told.requested, told.billed()), (0, 0), "what is denied costs nothing: {}", context());
        assert!(objects(&told.data, &path.0).is_empty(), "{}", context());
        return;
    }
    assert!(told.errors.is_empty(), "{}", context());
    if let Some(place) = path.0.iter().position(|step| shop::product(&step.field).is_some()) {
        let product = shop::product(&path.0[place].field).unwrap();
        let count = objects(&told.data, &path.0[..=place]).len() as u64;
        let expected = if count == 0 { Default::default() } else { [(product.to_owned(), count)].into() };
        assert_eq!(told.units, expected, "one unit for each that is answered: {}", context());
        let asked = if path.0[place].field == "priceHistory" { 2 } else { 1 };
        assert!(!named || told.requested == asked, "{}", context());
    } else {
        assert_eq!((told.requested, told.billed()), (0, 0), "{}", context());
    }
    if named && path.0[0].field != "estimateCost" {
        reads(path, asker, target, told, context);
    }
}

/// Whether a named row is answered when it should be, and only then.
fn reads(path: &Path, asker: &Asker, target: &Target, told: &Told, context: &dyn Fn() -> String) {
    let (leaf, object) = path.0.split_last().unwrap();
    match asker.offer.outcome(path, asker.scope, target) {
        Outcome::Value => {
            assert!(!objects(&told.data, object).is_empty(), "it is yours: {}", context());
            assert!(leaf.nullable || !objects(&told.data, &path.0).is_empty(), "it is yours: {}", context());
        }
        Outcome::Null => {
            assert!(objects(&told.data, object).is_empty(), "it is not yours: {}", context());
            assert_eq!(told.actual, 0, "{}", context());
        }
        Outcome::Denied { .. } => unreachable!("{}", context()),
    }
}

/// What stands in `data` where `way` leads, nulls left out.
fn objects<'a>(data: &'a Value, way: &[paths::Step]) -> Vec<&'a Value> {
    fn flat<'a>(value: &'a Value, found: &mut Vec<&'a Value>) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| flat(item, found)),
            Value::Null => {}
            other => found.push(other),
        }
    }
    way.iter().fold(vec![data], |at, step| {
        let mut next = Vec::new();
        at.iter().for_each(|value| flat(&value[step.field.as_str()], &mut next));
        next
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_sees_what_it_would_see_if_the_store_held_its_rows_alone() {
    let everything = Shop::open(&[]).await;
    let paths = paths::all();
    let mut requests = 0;
    for scope in shop::scopes() {
        let alone = Shop::open(scope).await;
        for offer in shop::offers() {
            let all = offer.plan == "all" && offer.key.is_none();
            let (one, other) = (Asker::new(&everything, offer.clone(), scope).await, Asker::new(&alone, offer, scope).await);
            everything.gateway.refresh().await;
            alone.gateway.refresh().await;
            let mut asks: Vec<(String, Value)> = Vec::new();
            for path in &paths {
                match path.reads() {
                    Reads::Listed => asks.push((path.operation(), path.variables(&TARGETS[0], &alone.period))),
                    // Of the other plans the walk has told already: here it would be the same again.
                    Reads::Named if all => {
                        asks.extend(TARGETS.map(|target| (path.operation(), path.variables(&target, &alone.period))));
                    }
                    _ => {}
                }
            }
            asks.extend(lists());
            let compared = stream::iter(&asks).map(async |(operation, variables)| {
                let (one, other) = tokio::join!(
                    everything.ask(&one.key, operation, variables, &NOBODY),
                    alone.ask(&other.key, operation, variables, &NOBODY),
                );
                assert_eq!(one.whole, other.whole, "{scope:?}: {operation} {variables}");
            });
            compared.buffer_unordered(CONCURRENT).count().await;
            for first in [1, 2, 3, 100] {
                page_through(&everything, &one, &alone, &other, first).await;
            }
        }
        requests += alone.settle().await;
    }
    requests += everything.settle().await;
    println!("{requests} requests over {} scopes", shop::scopes().count());
}

/// Lists in which rows of all kinds meet, and pages that begin behind somebody else's.
fn lists() -> Vec<(String, Value)> {
    let skus: Vec<&str> = TARGETS.iter().map(|target| target.sku).collect();
    let fields = "sku title inventory(location: \"LOC-Y\") { onHand } price(market: \"MKT-Y\") { amount }";
    let mut asks = vec![(format!("query($skus: [ID!]!) {{ products(skus: $skus) {{ {fields} }} }}"), json!({ "skus": skus }))];
    for row in ROWS {
        let page = format!(
            "query($after: String) {{ catalog(first: 2, after: $after) {{ nodes {{ {fields} }} \
             pageInfo {{ hasNextPage hasPreviousPage startCursor endCursor }} }} }}"
        );
        asks.push((page, json!({ "after": format!("s:{}", row.sku) })));
    }
    asks
}

/// Page by page on both, with each page's own cursor, to the end.
async fn page_through(everything: &Shop, one: &Asker, alone: &Shop, other: &Asker, first: usize) {
    const PAGE: &str = "query($first: Int, $after: String) { catalog(first: $first, after: $after) { \
        edges { cursor node { sku inventory(location: \"LOC-X\") { onHand } price(market: \"MKT-X\") { amount } } } \
        nodes { sku } pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }";
    let (mut after, mut seen) = (Value::Null, Vec::new());
    for _ in 0..=ROWS.len() {
        let variables = json!({ "first": first, "after": after });
        let mine = everything.ask(&one.key, PAGE, &variables, &NOBODY).await;
        let theirs = alone.ask(&other.key, PAGE, &variables, &NOBODY).await;
        assert_eq!(mine.whole, theirs.whole, "{}: {variables}", one.offer.name(one.scope));
        let catalog = &mine.data["catalog"];
        seen.extend(catalog["nodes"].as_array().unwrap().iter().map(|node| node["sku"].as_str().unwrap().to_owned()));
        after = catalog["pageInfo"]["endCursor"].clone();
        if catalog["pageInfo"]["hasNextPage"] == false {
            let yours: Vec<&str> = ROWS.iter().map(|row| row.sku).filter(|sku| shop::has_product(one.scope, sku)).collect();
            assert_eq!(seen, yours, "{}", one.offer.name(one.scope));
            return;
        }
    }
    panic!("{}: the catalogue does not end: {seen:?}", one.offer.name(one.scope));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sku_that_only_others_rows_know_is_not_there() {
    let database = Database::new(Kind::Sqlite).await;
    let gateway = Gateway::start(&database).await;
    let producer = gateway.producer().await;
    let price = json!({ "sku": "E1", "market": "N", "currency": "EUR", "amount": "1.00" });
    gateway.feed(&producer, &[counted("c", "E1", "Y", 7), event("price.set", "/t", "p", "E1", price)]).await;
    let partner = gateway.partner("P", "wide", &["location=X", "market=M"]).await;
    let (theirs, nowhere) = (
        gateway.query(&partner.key, "{ product(sku: \"E1\") { sku } }").await,
        gateway.query(&partner.key, "{ product(sku: \"E2\") { sku } }").await,
    );
    assert_eq!(theirs["data"], nowhere["data"], "its stock and its price are somebody else's, and nothing more is known of it");
    let catalog = gateway.query(&partner.key, "{ catalog { nodes { sku } pageInfo { hasNextPage endCursor } } }").await;
    let empty = json!({ "nodes": [], "pageInfo": { "hasNextPage": false, "endCursor": null } });
    assert_eq!(catalog["data"]["catalog"], empty, "{catalog}");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_with_many_others_between_tells_nothing_of_them() {
    let database = Database::new(Kind::Sqlite).await;
    let gateway = Gateway::start_with(&database, |settings| settings.journal.durability = tollgate::config::Durability::Os).await;
    let producer = gateway.producer().await;
    // More than a bounded scan would look at, between the partner's first and its last.
    let others = 13_000;
    let sku = |n: usize| format!("OTHER{n:06}");
    let mut events = vec![upserted("first", "MINE-A", "Alba"), upserted("last", "ZMINE-B", "Alba")];
    events.extend((0..others).map(|n| upserted(&format!("u{n}"), &sku(n), "Birk")));
    for events in events.chunks(5000) {
        gateway.feed(&producer, events).await;
    }
    let partner = gateway.partner("P", "wide", &["brand=Alba"]).await;
    let (mut after, mut found, mut pages) = (Value::Null, Vec::new(), 0);
    loop {
        pages += 1;
        let query = "query($after: String) { catalog(first: 10, after: $after) { nodes { sku } edges { cursor } \
                     pageInfo { hasNextPage startCursor endCursor } } }";
        let answer = gateway.ask_with(&partner.key, query, json!({ "after": after })).await;
        assert!(!answer.text.contains("OTHER"), "somebody else's SKU: {}", answer.text);
        let catalog = &answer.json()["data"]["catalog"];
        found.extend(catalog["nodes"].as_array().unwrap().iter().map(|node| node["sku"].clone()));
        after = catalog["pageInfo"]["endCursor"].clone();
        if catalog["pageInfo"]["hasNextPage"] == false {
            break;
        }
    }
    assert_eq!((found, pages), (vec![json!("MINE-A"), json!("ZMINE-B")], 1), "two rows are one page, whatever lies between them");
    gateway.stop().await;
}
