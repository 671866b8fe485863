//! What validation and cost come to, by hand.

use std::collections::HashSet;

use async_graphql::{Value, Variables, value};

use super::precheck::Bounds;
use super::{Documents, Method, Ready};
use crate::error::{Code, Refusal};
use crate::metering::{Product, Terms, Weighted};
use crate::product;

fn documents() -> Documents {
    Documents::new(&product::sdl(), product::validator(true), Bounds::default(), 1 << 20).unwrap()
}

fn ready(text: &str, variables: Value) -> Result<Ready, Refusal> {
    documents().ready(text, None, Variables::from_value(variables), Method::Post)
}

fn terms() -> Terms {
    Terms::new(Product::ALL, [], |_| 1)
}

fn estimate(text: &str, variables: Value) -> u64 {
    ready(text, variables).unwrap().estimate(&terms()).units.total()
}

#[test]
fn lists_multiply_what_is_below_them() {
    // 3 SKUs × (1 inventory + 2 prices)
    let text = "query($s: [ID!]!) { products(skus: $s) { inventory(location: \"X\") { onHand } a: price(market: \"A\") { amount } b: price(market: \"B\") { amount } } }";
    assert_eq!(estimate(text, value!({ "s": ["1", "2", "3"] })), 9);
    // A page of 7, each with at most 5 past prices: 7 × 5
    assert_eq!(estimate("{ catalog(first: 7) { nodes { priceHistory(market: \"A\", first: 5) { amount } } } }", value!({})), 35);
    // Nodes and edges are two lists: 20 (not said) × 1 + 20 × 1
    let text = "{ catalog { nodes { price(market: \"A\") { amount } } edges { node { price(market: \"A\") { amount } } } pageInfo { endCursor } } }";
    assert_eq!(estimate(text, value!({})), 40);
    // Null is as good as left out.
    assert_eq!(
        estimate("query($n: Int) { catalog(first: $n) { nodes { price(market: \"A\") { amount } } } }", value!({ "n": null })),
        20
    );
    assert_eq!(
        estimate("query($n: Int = 3) { catalog(first: $n) { nodes { price(market: \"A\") { amount } } } }", value!({})),
        3
    );
}

#[test]
fn one_value_in_place_of_a_list_is_one_whatever_it_is() {
    let text =
        |skus: &str| format!("query($s: [ID!]! = \"1\") {{ products(skus: {skus}) {{ price(market: \"A\") {{ amount }} }} }}");
    for skus in ["-5", "0", "12345", "\"A\""] {
        assert_eq!(estimate(&text(skus).replace("query($s: [ID!]! = \"1\") ", ""), value!({})), 1, "{skus}");
    }
    assert_eq!(estimate(&text("$s"), value!({ "s": 0 })), 1);
    assert_eq!(estimate(&text("$s"), value!({})), 1);
}

#[test]
fn fields_that_are_going_to_fail_weigh_more_than_others() {
    let fields = |text: &str, terms: &Terms| ready(text, value!({})).unwrap().estimate(terms).fields;
    let without = Terms::new([Product::Inventory], [crate::metering::Deniable::Title], |_| 1);
    let text = "{ product(sku: \"A\") { title priceHistory(market: \"A\", first: 5) { amount } } }";
    // product, title, priceHistory and 5 amounts; or product, and two that are refused.
    assert_eq!((fields(text, &terms()), fields(text, &without)), (8, 41));
    let text = "{ product(sku: \"A\") { priceHistory(market: \"A\", first: 0) { amount } } }";
    assert_eq!(fields(text, &terms()), 21);
}

#[test]
fn fields_that_cannot_be_merged_are_refused_wherever_they_stand() {
    for text in [
        "{ product(sku: \"A\") { p: price(market: \"X\") { amount } ... on Product { p: price(market: \"Y\") { amount } } } }",
        "{ product(sku: \"A\") { p: price(market: \"X\") { amount } } product(sku: \"A\") { ... { p: price(market: \"Y\") { amount } } } }",
        "{ product(sku: \"A\") { p: title ... on Product { p: brand } } }",
    ] {
        let refusal = ready(text, value!({})).err().unwrap();
        assert_eq!(refusal.code, Code::GraphqlValidationFailed, "{text}: {refusal}");
    }
}

#[test]
fn values_of_custom_scalars_fail_once_and_not_in_each_field() {
    let text = "query($v: DateTime) { product(sku: \"A\") { priceHistory(market: \"A\", from: $v) { amount } } }";
    for (variables, fits) in [
        (value!({ "v": "2026-01-01T00:00:00Z" }), true),
        (value!({ "v": null }), true),
        (value!({ "v": "junk" }), false),
        (value!({ "v": [1, 2] }), false),
        (value!({ "v": 5 }), false),
    ] {
        assert_eq!(ready(text, variables.clone()).is_ok(), fits, "{variables}");
    }
    let literal = |value: &str| text.replace("query($v: DateTime) ", "").replace("$v", value);
    assert!(ready(&literal("\"2026-01-01T00:00:00Z\""), value!({})).is_ok());
    assert_eq!(ready(&literal("\"junk\""), value!({})).err().unwrap().code, Code::GraphqlValidationFailed);
}

#[test]
fn fields_of_one_key_count_once_and_skipped_ones_do_not() {
    let text = "query($no: Boolean!) { product(sku: \"A\") { price(market: \"A\") { amount } ...F ... @skip(if: $no) { inventory(location: \"X\") { onHand } } } } \
                fragment F on Product { price(market: \"A\") { currency } }";
    assert_eq!(estimate(text, value!({ "no": true })), 1);
    assert_eq!(estimate(text, value!({ "no": false })), 2);
}

#[test]
fn what_the_terms_leave_out_counts_nothing() {
    let ready = ready(
        "{ product(sku: \"A\") { price(market: \"A\") { listAmount __typename } inventory(location: \"X\") { onHand } } }",
        value!({}),
    )
    .unwrap();
    let denied = Terms::new([Product::Pricing], [crate::metering::Deniable::ListAmount], |_| 1);
    assert_eq!(ready.estimate(&denied).units.total(), 0, "all that is asked of the price is denied");
    let data = value!({ "product": { "price": { "listAmount": null, "__typename": "Price" }, "inventory": null } });
    assert_eq!(ready.actual(&data, &denied, &HashSet::new()).units.total(), 0);
    // With the field, at the plan's own weight:
    let terms = Terms::new(Product::ALL, [], |weighted| if weighted == Weighted::Price { 5 } else { 1 });
    assert_eq!((ready.estimate(&terms).units.total(), ready.actual(&data, &terms, &HashSet::new()).units.total()), (6, 5));
}

#[test]
fn stale_objects_are_waived_by_their_place() {
    let ready = ready("{ products(skus: [\"A\", \"B\"]) { p: price(market: \"A\") { amount } } }", value!({})).unwrap();
    let data = value!({ "products": [{ "p": { "amount": "1" } }, { "p": { "amount": "2" } }] });
    let actual = ready.actual(&data, &terms(), &HashSet::from(["products.1.p".to_owned()]));
    assert_eq!((actual.units.total(), actual.waived.total()), (2, 1));
}

#[test]
fn variables_that_do_not_fit_are_refused_before_anything_runs() {
    for (text, variables, words) in [
        ("query($s: ID!) { product(sku: $s) { sku } }", value!({}), "$s of type ID! is missing"),
        ("query($s: ID!) { product(sku: $s) { sku } }", value!({ "s": null }), "cannot be null: ID! is wanted"),
        ("query($s: ID!) { product(sku: $s) { sku } }", value!({ "s": true }), "cannot be true"),
        ("query($s: [ID!]!) { products(skus: $s) { sku } }", value!({ "s": ["a", null] }), "cannot be null: ID! is wanted"),
        ("query($n: Int) { catalog(first: $n) { nodes { sku } } }", value!({ "n": 2147483648_i64 }), "cannot be 2147483648"),
        ("query($n: Int) { catalog(first: $n) { nodes { sku } } }", value!({ "n": "1" }), "cannot be \"1\""),
    ] {
        let refusal = ready(text, variables).err().unwrap();
        assert!(refusal.code == Code::BadUserInput && refusal.message.contains(words), "{refusal}");
    }
    assert!(ready("query($s: [ID!]!) { products(skus: $s) { sku } }", value!({ "s": "one", "other": 1 })).is_ok());
    assert!(ready("query($s: ID!) { product(sku: $s) { sku } }", value!({ "s": 5 })).is_ok());
}

#[test]
fn variables_that_are_mentioned_too_often_are_refused_before_anything_copies_them() {
    let in_json = |times: usize| {
        format!(
            "query($v: JSON) {{ estimateCost(query: \"{{a}}\", variables: {{a: [{}]}}) {{ admitted }} }}",
            "$v ".repeat(times)
        )
    };
    let list = |length: usize| Value::List(vec![value!(0); length]);
    // A list counts for one more than its values.
    for (text, variables, fits) in [
        (in_json(1000), value!({ "v": list(99) }), true),
        (in_json(1000), value!({ "v": list(100) }), false),
        (in_json(1000), value!({ "v": { "a": { "b": list(100) } } }), false),
        (in_json(1000).replace("JSON", "JSON = [0 0 0]"), value!({}), true),
        (in_json(1000).replace("JSON", &format!("JSON = [{}]", "0 ".repeat(100))), value!({}), false),
        ("query($v: [ID!]!) { products(skus: $v) { sku } }".to_owned(), value!({ "v": list(30_000) }), true),
    ] {
        let refused = ready(&text, variables).err().is_some_and(|refusal| refusal.code == Code::QueryTooComplex);
        assert_eq!(!refused, fits, "{text:.60}");
    }
}

#[test]
fn variables_stand_where_their_types_fit() {
    for (text, fits) in [
        ("query($n: String) { catalog(first: $n) { nodes { sku } } }", false),
        ("query($s: ID) { product(sku: $s) { sku } }", false),
        ("query($s: ID = \"A\") { product(sku: $s) { sku } }", true),
        ("query($s: ID!) { products(skus: $s) { sku } }", false),
        ("query($s: ID!, $t: ID!) { products(skus: [$s, $t]) { sku } }", true),
        ("query($s: ID) { products(skus: [$s]) { sku } }", false),
        ("query($s: [ID]!) { products(skus: $s) { sku } }", false),
        ("query($s: [ID!]!) { ...F } fragment F on Query { products(skus: $s) { sku } }", true),
        ("query($s: [ID!]) { ...F } fragment F on Query { products(skus: $s) { sku } }", false),
        ("query($if: Boolean) { viewer @skip(if: $if) { name } }", false),
        ("query($if: Boolean = false) { viewer { name @include(if: $if) } }", true),
        // The engine's rules do not look at __typename, nor at what its directives read.
        ("query($if: Boolean!) { __typename @skip(if: $if) viewer { name } }", true),
        ("query($if: String!) { viewer { t: __typename @skip(if: $if) } }", false),
        ("query($unused: Int) { viewer { name } }", false),
    ] {
        let variables = value!({ "s": ["A"], "t": "A", "n": "1", "if": true });
        let refusal = ready(text, variables).err().filter(|refusal| refusal.code == Code::GraphqlValidationFailed);
        assert_eq!(refusal.is_none(), fits, "{text}: {refusal:?}");
    }
}

#[test]
fn a_document_is_prepared_once_and_the_operation_chosen_each_time() {
    let documents = documents();
    let text = "query A { viewer { name } } query B { product(sku: \"1\") { price(market: \"X\") { amount } } }";
    let estimate =
        |name| Ok::<_, Refusal>(documents.ready(text, name, Variables::default(), Method::Get)?.estimate(&terms()).units.total());
    assert_eq!((estimate(Some("A")).unwrap(), estimate(Some("B")).unwrap()), (0, 1));
    assert!(estimate(None).unwrap_err().message.contains("Say which"));
    assert!(estimate(Some("C")).unwrap_err().message.contains("\"C\""));
    let refusal = documents.ready("mutation { __typename }", None, Variables::default(), Method::Get).err().unwrap();
    assert_eq!((refusal.status().as_u16(), refusal.allow), (405, Some("POST")));
}
