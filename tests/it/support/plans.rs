//! Plans in TOML, with what a test does not care about filled in.

/// What a plan must have, and is not in the way.
const DEFAULTS: [(&str, &str); 3] = [
    ("currency", "\"EUR\""),
    ("products", "[\"inventory\", \"pricing\"]"),
    ("rate", "{ units_per_second = 100000, burst = 1000000 }"),
];

/// Version 1 of a plan: `settings`, and for the rest the defaults.
pub(crate) fn plan(id: &str, settings: &str) -> String {
    let has = |name: &str| settings.lines().any(|line| line.trim_start().starts_with(&format!("{name} =")));
    let mut text = format!("[[plan]]\nid = \"{id}\"\nversion = 1\nname = \"{id}\"\n");
    for (name, value) in DEFAULTS.iter().filter(|(name, _)| !has(name)) {
        text += &format!("{name} = {value}\n");
    }
    format!("{text}{settings}\n")
}

/// A charge of a meter: the last thing of a plan's settings.
pub(crate) fn per_unit(meter: &str, included: u64, unit_price: &str) -> String {
    format!(
        "\n[[plan.charge]]\nmeter = \"{meter}\"\nmodel = \"per_unit\"\nincluded = {included}\nunit_price = \"{unit_price}\"\n"
    )
}
