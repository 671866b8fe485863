//! The committed schema is the printed one.

#[test]
fn schema_graphql_is_what_the_binary_prints() {
    let committed = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/schema.graphql")).unwrap();
    assert!(committed == tollgate::product::sdl(), "schema.graphql has drifted: cargo run -- schema > schema.graphql");
}

#[test]
fn plans_example_toml_is_a_good_plan_file() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/plans.example.toml")).unwrap();
    assert_eq!(tollgate::billing::plan::parse(&text).unwrap().len(), 4);
}

#[test]
fn journeys_example_toml_is_a_good_product_file() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/journeys.example.toml")).unwrap();
    assert_eq!(tollgate::journey::product::parse(&text).unwrap().steps.len(), 4);
}
