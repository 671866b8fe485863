//! What a query costs: generated operations, asked over HTTP by partners on several plans, against the slow oracles of
//! `support::oracle`. The estimate, the actual, the answer's shape, the free `estimateCost` and the ledger must agree with them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::support::answer::Answer;
use crate::support::operations::{Request, World, generate};
use crate::support::oracle::{Expected, Oracle, Plan, Units};
use crate::support::schema::{Schema, is_list, named};
use crate::support::{Database, Gateway, Kind, Partner, counted, event, full, plan, rng, upserted};

fn plans() -> String {
    [
        plan("all", ""),
        plan("levels", "products = [\"inventory\"]"),
        plan("weighted", "weights = { Price = 3 }"),
        plan("fewer", "denied_fields = [\"pricing.listAmount\", \"inventory.onHand\"]"),
        plan(
            "odd",
            "query_units_max = 60\nweights = { PricePoint = 2, Inventory = 0 }\ndenied_fields = [\"pricing.amount\", \
             \"pricing.listAmount\", \"inventory.reserved\", \"inventory.available\", \"catalog.title\"]",
        ),
    ]
    .concat()
}

const BOTH: &[&str] = &["inventory", "pricing"];
const BURST: u64 = 1_000_000;

/// A partner, and what the oracle must know of its plan.
struct Case {
    partner: Partner,
    name: &'static str,
    plan: Plan,
    /// The largest estimate.
    most: u64,
}

/// That the generator reached what it is there for.
#[derive(Debug, Default)]
struct Seen {
    answered: u64,
    units: u64,
    too_dear: u64,
    not_entitled: u64,
    out_of_range: u64,
    /// Objects whose every field was skipped.
    empty: u64,
    /// Where the estimate was right, and where it was too high.
    exact: u64,
    over: u64,
}

struct Trial {
    gateway: Gateway,
    schema: Schema,
    seen: Seen,
}

async fn cases(gateway: &Gateway) -> Vec<Case> {
    gateway.plans(&plans()).await;
    let all = Plan { products: BOTH, ..Plan::default() };
    let fewer = Plan { denied: &["pricing.listAmount", "inventory.onHand"], ..all.clone() };
    let odd = Plan {
        denied: &["pricing.amount", "pricing.listAmount", "inventory.reserved", "inventory.available", "catalog.title"],
        weights: &[("PricePoint", 2), ("Inventory", 0)],
        ..all.clone()
    };
    let mut cases = Vec::new();
    for (name, id, scope, plan, most) in [
        ("everything", "all", &[][..], all.clone(), BURST),
        ("inventory only", "levels", &[], Plan { products: &["inventory"], ..Plan::default() }, BURST),
        ("dear prices", "weighted", &[], Plan { weights: &[("Price", 3)], ..all.clone() }, BURST),
        ("fewer fields", "fewer", &[], fewer, BURST),
        ("one brand, two places", "all", &["brand=Alba", "location=X", "location=Y", "market=DE"], all, BURST),
        ("everything at once", "odd", &["brand=Birk"], odd, 60),
    ] {
        cases.push(Case { partner: gateway.partner(name, id, scope).await, name, plan, most });
    }
    cases
}

/// Two brands, three places, two markets with a history of prices; some of each is missing, and some products have no details.
async fn stocked(gateway: &Gateway) -> World {
    let producer = gateway.producer().await;
    let mut world = World::default();
    let mut events = Vec::new();
    for n in 0..36 {
        let (sku, brand) = if n % 2 == 0 { (format!("A{n:02}"), "Alba") } else { (format!("B{n:02}"), "Birk") };
        if n % 9 != 8 {
            events.push(upserted(&format!("u{sku}"), &sku, brand));
        }
        for (place, location) in ["X", "Y", "Z"].into_iter().enumerate() {
            if (n + place) % 4 != 0 {
                events.push(counted(&format!("c{sku}{location}"), &sku, location, 7));
            }
        }
        for (place, market) in ["DE", "FR"].into_iter().enumerate() {
            for change in 0..(n + place) % 5 {
                let mut data = json!({ "sku": sku, "market": market, "currency": "EUR", "amount": format!("1{change}.50") });
                if change % 2 == 0 {
                    data["listAmount"] = json!("20.00");
                }
                let mut price = event("price.set", "/t", &format!("p{sku}{market}{change}"), &sku, data);
                price["time"] = json!(format!("2026-01-05T08:00:0{change}.000Z"));
                events.push(price);
            }
        }
        world.skus.push(sku);
    }
    let report = gateway.feed(&producer, &events).await;
    assert_eq!(report["accepted"], events.len(), "{report}");
    world.locations = ["X", "Y", "Z"].map(str::to_owned).into();
    world.markets = ["DE", "FR"].map(str::to_owned).into();
    world
}

impl Trial {
    /// A whole answer. Who is told to wait waits.
    async fn ask(&self, case: &Case, body: &Value) -> Result<Answer, String> {
        for _ in 0..20 {
            let request = self.gateway.http.post(self.gateway.url("/graphql")).bearer_auth(&case.partner.key);
            let request = request.header("accept", "application/graphql-response+json").json(body);
            let response = request.send().await.unwrap();
            let wait = response.headers().get("retry-after").map(|wait| wait.to_str().unwrap().parse().unwrap());
            let answer = Answer::read(&response.text().await.unwrap())?;
            if code(&answer) != Some("RATE_LIMITED") {
                return Ok(answer);
            }
            tokio::time::sleep(std::time::Duration::from_secs(wait.unwrap())).await;
        }
        Err("refused for its rate 20 times".to_owned())
    }

    async fn check(&mut self, case: &Case, request: &Request) -> Result<(), String> {
        let oracle = Oracle { schema: &self.schema, request, plan: &case.plan };
        let requested = oracle.requested();
        let answer = self.ask(case, &request.body()).await?;
        if total(&requested) > case.most {
            same("the code", code(&answer), Some("COST_ESTIMATED_TOO_EXPENSIVE"))?;
            same("data", answer.get("data"), &Answer::Null)?;
            let in_error = answer.get("errors").items()[0].get("extensions").get("cost");
            let in_body = answer.get("extensions").get("cost");
            let cost = if *in_body == Answer::Null { in_error } else { in_body };
            same("requestedQueryCost of the refusal", cost.get("requestedQueryCost").number(), Some(total(&requested)))?;
            self.seen.too_dear += 1;
        } else {
            let data = answer.get("data");
            if *data == Answer::Null {
                return Err(format!("it was not answered: {answer:?}"));
            }
            let errors = oracle.shape(data)?;
            let found = answer.get("errors").items();
            let of_the_plan = check_errors(found, &errors)?;
            let actual = oracle.actual(data);
            let cost = answer.get("extensions").get("cost");
            same("requestedQueryCost", cost.get("requestedQueryCost").number(), Some(total(&requested)))?;
            same("actualQueryCost", cost.get("actualQueryCost").number(), Some(total(&actual)))?;
            if total(&actual) > total(&requested) {
                return Err(format!("it used {actual:?}, more than the {requested:?} of its estimate"));
            }
            let usage = answer.get("extensions").get("usage");
            let units = usage.get("units").number().ok_or("usage.units is missing")?;
            let waived = usage.get("waivedUnits").number().ok_or("usage.waivedUnits is missing")?;
            same("units and waivedUnits", units + waived, total(&actual))?;
            let by_product = by_product(usage.get("byProduct"));
            same("the sum of byProduct", by_product.values().sum(), units)?;
            if waived == 0 {
                same("byProduct", by_product, owned(&actual))?;
            }
            self.seen.answered += 1;
            self.seen.not_entitled += of_the_plan;
            self.seen.out_of_range += found.len() as u64 - of_the_plan;
            self.seen.units += units;
            self.seen.empty += empty_objects(data);
            self.seen.exact += u64::from(actual == requested && units > 0);
            self.seen.over += u64::from(actual != requested);
        }
        self.check_estimate(case, request, &requested).await
    }

    /// `estimateCost` says the same beforehand, for nothing. It takes no operationName, so the operation goes alone.
    async fn check_estimate(&self, case: &Case, request: &Request, requested: &Units) -> Result<(), String> {
        let answer = self
            .ask(
                case,
                &json!({
                    "query": "query($query: String!, $variables: JSON) { estimateCost(query: $query, variables: $variables) \
                              { requestedQueryCost byProduct { product units } admitted refusal } }",
                    "variables": { "query": request.alone().text(), "variables": request.values },
                }),
            )
            .await?;
        let estimate = answer.get("data").get("estimateCost");
        // An Int of GraphQL ends there.
        let most = i32::MAX as u64;
        same("estimateCost", estimate.get("requestedQueryCost").number(), Some(total(requested).min(most)))
            .map_err(|error| format!("{error}: {answer:?}"))?;
        let by_product = estimate.get("byProduct").items().iter().map(|line| {
            (line.get("product").text().unwrap_or_default().to_owned(), line.get("units").number().unwrap_or_default())
        });
        let expected = requested.iter().map(|(product, units)| ((*product).to_owned(), (*units).min(most)));
        same(
            "byProduct of estimateCost",
            by_product.filter(|(_, units)| *units > 0).collect(),
            expected.collect::<BTreeMap<_, _>>(),
        )?;
        let admitted = total(requested) <= case.most;
        same("admitted", estimate.get("admitted"), &Answer::Leaf(json!(admitted)))?;
        same("whether there is a refusal", estimate.get("refusal").text().is_some(), !admitted)?;
        let cost = answer.get("extensions").get("cost");
        same("the estimate of estimateCost", cost.get("requestedQueryCost").number(), Some(0))?;
        same("the cost of estimateCost", cost.get("actualQueryCost").number(), Some(0))?;
        same("the units of estimateCost", answer.get("extensions").get("usage").get("units").number(), Some(0))
    }

    /// A smaller request that still fails, and how.
    async fn shrunk(&mut self, case: &Case, mut request: Request, mut error: String) -> (Request, String) {
        if let Err(still) = self.check(case, &request.alone()).await {
            (request, error) = (request.alone(), still);
        }
        let mut n = 0;
        for _ in 0..500 {
            let Some(smaller) = request.without(n) else { break };
            match if smaller == request { Ok(()) } else { self.check(case, &smaller).await } {
                Ok(()) => n += 1,
                Err(still) => (request, error) = (smaller, still),
            }
        }
        (request, error)
    }
}

/// Every field error that is due, and none else; how many of them tell of the plan.
fn check_errors(found: &[Answer], expected: &[Expected]) -> Result<u64, String> {
    let expected: BTreeMap<&String, &Vec<&str>> = expected.iter().map(|(path, codes)| (path, codes)).collect();
    let mut missing: BTreeSet<&String> = expected.keys().copied().collect();
    let mut of_the_plan = 0;
    for error in found {
        let path: Vec<String> = error.get("path").items().iter().map(segment).collect();
        let path = path.join(".");
        let code = error.get("extensions").get("code").text().unwrap_or_default();
        if !expected.get(&path).is_some_and(|codes| codes.contains(&code)) {
            return Err(format!("{path:?} failed with {code:?}: {error:?}"));
        }
        missing.remove(&path);
        of_the_plan += u64::from(code == "NOT_ENTITLED");
    }
    if missing.is_empty() { Ok(of_the_plan) } else { Err(format!("no error tells of {missing:?}")) }
}

/// The first error's code.
fn code(answer: &Answer) -> Option<&str> {
    answer.get("errors").items().first()?.get("extensions").get("code").text()
}

fn segment(segment: &Answer) -> String {
    segment.text().map_or_else(|| segment.number().unwrap_or_default().to_string(), str::to_owned)
}

fn by_product(value: &Answer) -> BTreeMap<String, u64> {
    let Answer::Object(entries) = value else { return Default::default() };
    let units = entries.iter().map(|(product, units)| (product.clone(), units.number().unwrap_or_default()));
    units.filter(|(_, units)| *units > 0).collect()
}

fn owned(units: &Units) -> BTreeMap<String, u64> {
    units.iter().map(|(product, units)| ((*product).to_owned(), *units)).collect()
}

fn total(units: &Units) -> u64 {
    units.values().sum()
}

fn empty_objects(value: &Answer) -> u64 {
    match value {
        Answer::List(items) => items.iter().map(empty_objects).sum(),
        Answer::Object(entries) => u64::from(entries.is_empty()) + entries.iter().map(|(_, it)| empty_objects(it)).sum::<u64>(),
        Answer::Null | Answer::Leaf(_) => 0,
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what} is {found:?}, not {expected:?}")) }
}

#[test]
fn every_type_has_a_weight_and_every_list_a_bound() {
    let schema = Schema::committed();
    for (kind, object) in schema.objects() {
        let weight = u64::from(["Inventory", "Price", "PricePoint", "JourneyCounts", "CohortPeriod"].contains(&kind));
        assert_eq!(object.weight, Some(weight), "the weight of {kind}");
        for field in &object.fields {
            let place = format!("{kind}.{}", field.name);
            if let Some(size) = &field.list_size {
                assert!(size.slicing.iter().all(|name| field.arguments.iter().any(|it| it.name == *name)), "{place}: {size:?}");
                for sized in &size.sized_fields {
                    assert!(is_list(&schema.field(named(&field.kind), sized).kind), "{place} sizes {sized}, which is no list");
                }
                // Left out, a size must be known all the same.
                let given = size
                    .slicing
                    .iter()
                    .any(|name| field.arguments.iter().any(|it| it.name == *name && it.kind.to_string().ends_with('!')));
                assert!(size.assumed.is_some() || (size.require_one && given), "{place} may have no size: {size:?}");
            }
            if is_list(&field.kind) && schema.is_object(named(&field.kind)) {
                let own = field.list_size.as_ref().is_some_and(|size| size.sized_fields.is_empty());
                let sized = |it: &&crate::support::schema::Field| {
                    named(&it.kind) == kind && it.list_size.as_ref().is_some_and(|size| size.sized_fields.contains(&field.name))
                };
                let mut askers =
                    schema.objects().flat_map(|(_, object)| &object.fields).filter(|it| named(&it.kind) == kind).peekable();
                assert!(own || (askers.peek().is_some() && askers.all(|it| sized(&it))), "the list {place} has no bound");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn generated_operations_cost_what_the_oracle_says() {
    let (seed, mut rng) = rng("generated_operations_cost_what_the_oracle_says");
    let database = Database::new(Kind::Sqlite).await;
    // A bound of its own, which would refuse some of these before their cost does.
    let gateway = Gateway::start_with(&database, |settings| settings.gate.answer_fields_max = u64::MAX).await;
    let mut world = stocked(&gateway).await;
    let cases = cases(&gateway).await;
    let mut trial = Trial { gateway, schema: Schema::committed(), seen: Seen::default() };
    let page = trial.ask(&cases[0], &json!({ "query": "{ catalog(first: 100) { edges { cursor } } }" })).await.unwrap();
    let edges = page.get("data").get("catalog").get("edges").items();
    world.cursors = edges.iter().step_by(7).map(|edge| edge.get("cursor").text().unwrap().to_owned()).collect();
    assert!(world.cursors.len() > 3, "{page:?}");

    for n in 0..if full() { 20_000 } else { 300 } {
        let case = &cases[n % cases.len()];
        let request = generate(&mut rng, &trial.schema, &world);
        if let Err(error) = trial.check(case, &request).await {
            let (small, still) = trial.shrunk(case, request.clone(), error.clone()).await;
            panic!(
                "TOLLGATE_TEST_SEED={seed}, operation {n}, {}: {error}\n\n{}\nwhich was made smaller: {still}\n\n{}\n{}",
                case.name,
                request.body(),
                small.text(),
                json!(small.values),
            );
        }
    }

    let seen = &trial.seen;
    println!("{seen:?}");
    let reached = [seen.units, seen.too_dear, seen.not_entitled, seen.out_of_range, seen.empty, seen.exact, seen.over];
    assert!(reached.iter().all(|count| *count > 0), "the generator did not reach everything: {seen:?}");
    trial.gateway.running.app.ship().await.unwrap();
    let ledger = database.number("select cast(coalesce(sum(units),0) as bigint) from usage_cell where meter <> 'requests'").await;
    assert_eq!(u64::try_from(ledger).unwrap(), seen.units, "the ledger has what was answered");
    trial.gateway.stop().await;
}
