//! The cost oracle and the generator, checked by hand before they judge anything: each sum is worked out in a comment.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::support::answer::Answer;
use crate::support::operations::{Request, World, generate, read};
use crate::support::oracle::{Oracle, Plan};
use crate::support::schema::Schema;

/// The rule's directives on as much of the schema as the sums below need; it does not follow `schema.graphql`.
const SDL: &str = r#"
directive @cost(weight: String!) on OBJECT
directive @listSize(assumedSize: Int, slicingArguments: [String!], sizedFields: [String!], requireOneSlicingArgument: Boolean = true) on FIELD_DEFINITION
scalar BigInt
scalar DateTime
scalar Decimal
type Freshness @cost(weight: "0") { asOf: DateTime! lagMs: Int! }
type Inventory @cost(weight: "1") { location: String! onHand: BigInt reserved: BigInt available: BigInt updatedAt: DateTime! freshness: Freshness! }
type Price @cost(weight: "1") { market: String! currency: String! amount: Decimal listAmount: Decimal updatedAt: DateTime! freshness: Freshness! }
type PricePoint @cost(weight: "1") { amount: Decimal listAmount: Decimal updatedAt: DateTime! }
type Product @cost(weight: "0") {
  sku: ID!
  title: String
  brand: String
  inventory(location: String!): Inventory
  price(market: String!): Price
  priceHistory(market: String!, from: DateTime, to: DateTime, first: Int): [PricePoint!]
    @listSize(assumedSize: 100, slicingArguments: ["first"], requireOneSlicingArgument: false)
}
type ProductConnection @cost(weight: "0") { edges: [ProductEdge!]! nodes: [Product!]! pageInfo: PageInfo! }
type ProductEdge @cost(weight: "0") { cursor: String! node: Product! }
type PageInfo @cost(weight: "0") { hasNextPage: Boolean! endCursor: String }
type Query @cost(weight: "0") {
  product(sku: ID!): Product
  products(skus: [ID!]!): [Product] @listSize(slicingArguments: ["skus"])
  catalog(first: Int, after: String): ProductConnection
    @listSize(assumedSize: 20, slicingArguments: ["first"], sizedFields: ["edges", "nodes"], requireOneSlicingArgument: false)
  viewer: Viewer!
}
type Viewer @cost(weight: "0") { name: String! products: [String!]! @listSize(assumedSize: 2) }
schema { query: Query }
"#;

const ALL: Plan = Plan { products: &["inventory", "pricing"], denied: &[], weights: &[] };
const DENIED: Plan = Plan { denied: &["pricing.listAmount", "inventory.onHand"], ..ALL };

/// `inventory` and `pricing`.
fn requested(plan: &Plan, text: &str, variables: Value) -> (u64, u64) {
    let (schema, request) = (Schema::read(SDL), read(text, variables));
    both(&Oracle { schema: &schema, request: &request, plan }.requested())
}

fn both(units: &crate::support::oracle::Units) -> (u64, u64) {
    let of = |product| units.get(product).copied().unwrap_or_default();
    (of("inventory"), of("pricing"))
}

fn shape(plan: &Plan, text: &str, data: Value) -> Result<Vec<(String, Vec<&'static str>)>, String> {
    let (schema, request) = (Schema::read(SDL), read(text, json!({})));
    Oracle { schema: &schema, request: &request, plan }.shape(&answer(&data))
}

fn actual(plan: &Plan, text: &str, data: Value) -> (u64, u64) {
    let (schema, request) = (Schema::read(SDL), read(text, json!({})));
    let oracle = Oracle { schema: &schema, request: &request, plan };
    oracle.shape(&answer(&data)).unwrap();
    both(&oracle.actual(&answer(&data)))
}

/// serde_json's maps may sort their keys: what is given here is in the order of the alphabet, so that it does not matter.
fn answer(data: &Value) -> Answer {
    Answer::read(&data.to_string()).unwrap()
}

#[test]
fn sums_of_single_objects() {
    // One Inventory (1), one Price (1); Product, Freshness and Query weigh nothing.
    let text = "{ product(sku: \"A\") { sku inventory(location: \"X\") { onHand freshness { lagMs } } price(market: \"M\") { amount } } }";
    assert_eq!(requested(&ALL, text, json!({})), (1, 1));
    // The same Price at 3.
    assert_eq!(requested(&Plan { weights: &[("Price", 3)], ..ALL }, text, json!({})), (1, 3));
    // Without pricing the price is not counted, whatever it weighs.
    let inventory = Plan { products: &["inventory"], weights: &[("Price", 3)], ..ALL };
    assert_eq!(requested(&inventory, text, json!({})), (1, 0));
}

#[test]
fn sums_of_lists() {
    // products: 3 SKUs × (1 Inventory + 4 PricePoint): 3 inventory, 12 pricing.
    let text = "query($skus: [ID!]! = [\"A\", \"A\", \"B\"], $n: Int) { products(skus: $skus) { inventory(location: \"X\") { onHand } \
                priceHistory(market: \"M\", first: $n) { amount } } }";
    assert_eq!(requested(&ALL, text, json!({ "n": 4 })), (3, 12));
    // Without `n` the history is assumed to be 100: 3 × 100; null means the same; below zero nothing.
    assert_eq!(requested(&ALL, text, json!({})), (3, 300));
    assert_eq!(requested(&ALL, text, json!({ "n": null })), (3, 300));
    assert_eq!(requested(&ALL, text, json!({ "n": -2 })), (3, 0));
    // What is given goes before the default: 1 × 100, and an empty list is nothing.
    assert_eq!(requested(&ALL, text, json!({ "skus": ["C"] })), (1, 100));
    assert_eq!(requested(&ALL, text, json!({ "skus": [] })), (0, 0));
    // One value in place of a list, and a variable within one: 1 + 2.
    let text = "query($a: ID!) { products(skus: \"A\") { ...I } b: products(skus: [$a, \"B\"]) { ...I } } \
                fragment I on Product { inventory(location: \"X\") { onHand } }";
    assert_eq!(requested(&ALL, text, json!({ "a": "A" })), (3, 0));
}

#[test]
fn sums_of_connections() {
    // edges: 7 × (1 Inventory); nodes: 7 × (1 Price + 2 PricePoint). inventory 7, pricing 7 × 3 = 21.
    let text = "query($n: Int = 7) { catalog(first: $n) { edges { cursor node { inventory(location: \"X\") { onHand } } } \
                nodes { price(market: \"M\") { amount } priceHistory(market: \"M\", first: 2) { amount } } pageInfo { endCursor } } }";
    assert_eq!(requested(&ALL, text, json!({})), (7, 21));
    // Null is as if it were left out: 20 and 20 × 3.
    assert_eq!(requested(&ALL, text, json!({ "n": null })), (20, 60));
    // Above the field's maximum it counts as asked: 500 and 500 × 3. At 2 for a PricePoint: 500 × (1 + 2 × 2).
    assert_eq!(requested(&ALL, text, json!({ "n": 500 })), (500, 1500));
    assert_eq!(requested(&Plan { weights: &[("PricePoint", 2)], ..ALL }, text, json!({ "n": 500 })), (500, 2500));
}

#[test]
fn merged_skipped_and_spread() {
    // `p` is one Product with one Price, though it stands there three times; the alias `q` is another Price.
    let text = "query($no: Boolean = false) { p: product(sku: \"A\") { price(market: \"M\") { amount } } \
                p: product(sku: \"A\") { price(market: \"M\") { currency } q: price(market: \"M\") { amount } } \
                ...F p: product(sku: \"A\") @include(if: $no) { inventory(location: \"X\") { onHand } } } \
                fragment F on Query { p: product(sku: \"A\") { ... @skip(if: $no) { price(market: \"M\") { listAmount } } } }";
    assert_eq!(requested(&ALL, text, json!({})), (0, 2));
    // With `no` the last is there, and brings an Inventory; the fragment's price was one of those anyway.
    assert_eq!(requested(&ALL, text, json!({ "no": true })), (1, 2));
    // Only the first operation runs.
    assert_eq!(
        requested(
            &ALL,
            "query A { viewer { name } } query B { product(sku: \"A\") { price(market: \"M\") { amount } } }",
            json!({})
        ),
        (0, 0)
    );
}

#[test]
fn what_the_plan_does_not_have_counts_nothing() {
    let ask = |fields: &str| format!("{{ products(skus: [\"A\", \"B\"]) {{ price(market: \"M\") {{ {fields} }} }} }}");
    // Two Prices each time, unless all that is asked is what the plan does not have; an alias changes nothing.
    for (fields, units) in [
        ("amount listAmount", 2),
        ("listAmount", 0),
        ("__typename listAmount", 0),
        ("amount: listAmount", 0),
        ("listAmount: amount", 2),
        ("listAmount amount @skip(if: true)", 0),
        ("__typename", 2),
        ("amount @skip(if: true)", 2),
    ] {
        assert_eq!(requested(&DENIED, &ask(fields), json!({})), (0, units), "{fields}");
    }
    // The history has the same fields: 2 × 5, or nothing.
    let history = |fields: &str| {
        ask("amount").replace("price(market: \"M\")", "priceHistory(market: \"M\", first: 5)").replace("amount", fields)
    };
    assert_eq!(requested(&DENIED, &history("updatedAt"), json!({})), (0, 10));
    assert_eq!(requested(&DENIED, &history("listAmount"), json!({})), (0, 0));
}

#[test]
fn units_of_an_answer() {
    // Of 3 products one is unknown and one has no price: 2 Inventory, 1 Price.
    let text =
        "{ products(skus: [\"A\", \"B\", \"C\"]) { inventory(location: \"X\") { onHand } price(market: \"M\") { amount } } }";
    let data = json!({ "products": [
        { "inventory": { "onHand": "7" }, "price": { "amount": "1.00" } },
        null,
        { "inventory": { "onHand": "7" }, "price": null },
    ] });
    assert_eq!(actual(&ALL, text, data), (2, 1));
    // Two pages of the same two products: edges count apart from nodes. 2 Inventory; 1 Price + 3 PricePoint at 3 and 2: 9.
    let text = "{ catalog(first: 2) { edges { node { inventory(location: \"X\") { location } } } \
                nodes { price(market: \"M\") { currency } priceHistory(market: \"M\", first: 2) { updatedAt } } } }";
    let edge = json!({ "node": { "inventory": { "location": "X" } } });
    let points = |count| vec![json!({ "updatedAt": "t" }); count];
    let data = json!({ "catalog": {
        "edges": [edge, edge],
        "nodes": [{ "price": { "currency": "EUR" }, "priceHistory": points(2) }, { "price": null, "priceHistory": points(1) }],
    } });
    assert_eq!(actual(&Plan { weights: &[("Price", 3), ("PricePoint", 2)], ..ALL }, text, data), (2, 9));
    // What was denied stands there as null and is not counted; of `b` it is told that it is there, and `c` has all.
    let text = "{ product(sku: \"A\") { a: price(market: \"M\") { listAmount } b: price(market: \"M\") { amount @skip(if: true) } \
                c: price(market: \"M\") { amount } } }";
    let data = json!({ "product": { "a": { "listAmount": null }, "b": {}, "c": { "amount": "1.00" } } });
    assert_eq!(actual(&DENIED, text, data), (0, 2));
}

#[test]
fn the_shape_of_an_answer() {
    let text =
        "{ product(sku: \"A\") { brand: title @skip(if: true) ...F sku brand } } fragment F on Product { __typename brand }";
    // The keys in the order in which they are first met: __typename and brand by the fragment, then sku.
    let read = |text: &str| Answer::read(text).unwrap();
    let (schema, request) = (Schema::read(SDL), self::read(text, json!({})));
    let oracle = Oracle { schema: &schema, request: &request, plan: &ALL };
    let right = r#"{"product":{"__typename":"Product","brand":null,"sku":"A"}}"#;
    assert_eq!(oracle.shape(&read(right)), Ok(vec![]));
    for (from, to, words) in [
        (r#""brand":null,"sku":"A""#, r#""sku":"A","brand":null"#, "has the keys"),
        (r#","sku":"A""#, "", "has the keys"),
        (r#""sku""#, r#""title":null,"sku""#, "has the keys"),
        (r#""Product""#, r#""Price""#, "not \"Product\""),
        (r#""A""#, "null", "may not be"),
        (r#""A""#, r#"["A"]"#, "not ID!"),
    ] {
        assert!(right.contains(from), "{from}");
        let error = oracle.shape(&read(&right.replacen(from, to, 1))).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
    assert!(Answer::read(r#"{"a":1,"a":1}"#).is_err(), "a key may stand once");

    // What the plan refuses and what is out of range is null, and an error tells of it.
    let text = "{ catalog(first: 101) { nodes { sku } } product(sku: \"A\") { inventory(location: \"X\") { onHand } } }";
    let data = json!({ "catalog": null, "product": { "inventory": { "onHand": null } } });
    let errors =
        vec![("catalog".to_owned(), vec!["BAD_USER_INPUT"]), ("product.inventory.onHand".to_owned(), vec!["NOT_ENTITLED"])];
    assert_eq!(shape(&DENIED, text, data), Ok(errors));
    let leaked = json!({ "catalog": null, "product": { "inventory": { "onHand": "7" } } });
    assert!(shape(&DENIED, text, leaked).unwrap_err().contains("must be refused"));
    // A list is no longer than its estimate.
    let more = shape(&ALL, "{ products(skus: [\"A\"]) { sku } }", json!({ "products": [null, null] })).unwrap_err();
    assert!(more.contains("estimated at 1"), "{more}");
}

#[test]
fn generated_operations_read_as_they_are_written() {
    let schema = Schema::read(SDL);
    let world = World {
        skus: ["A", "B", "C"].map(str::to_owned).into(),
        locations: ["X", "Y"].map(str::to_owned).into(),
        markets: vec!["M".to_owned()],
        cursors: vec!["s:A".to_owned()],
    };
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut costly = 0;
    for n in 0..200 {
        let request = generate(&mut rng, &schema, &world);
        let mut again = read(&request.text(), json!(request.values));
        (again.chosen, again.named) = (request.chosen, request.named);
        assert_eq!(again.body(), request.body());
        let sum = |request: &Request| both(&Oracle { schema: &schema, request, plan: &ALL }.requested());
        assert_eq!(sum(&again), sum(&request), "{}", request.text());
        assert_eq!(sum(&request.alone()), sum(&request), "{}", request.text());
        costly += u32::from(sum(&request) != (0, 0));
        // Every smaller request is one that can be read, and costs no more.
        for smaller in (0..).map_while(|place| request.without(place)).take(if n < 10 { usize::MAX } else { 0 }) {
            read(&smaller.text(), json!({}));
            let (less, most) = (sum(&smaller), sum(&request));
            assert!(less.0 <= most.0 && less.1 <= most.1, "{}", smaller.text());
        }
    }
    assert!(costly > 80, "{costly}");
}
