//! The world of the walk: what is in the store, what partners may see of it, and, in plain lines, what they should.
//! Names have one length each, so that an answer's length tells nothing of its own.

use serde_json::{Value, json};

use super::paths::Path;
use crate::support::{counted, event, full, plan};

/// A product of the store.
pub(super) struct Row {
    pub(super) sku: &'static str,
    /// Brand, category, supplier; none for a SKU that only stock and prices know.
    details: Option<[&'static str; 3]>,
}

/// A0001 and A0002 are in every scope that is not about nothing; each of the next three is out of one kind of scope, E0001 out
/// of all that look at details.
pub(super) const ROWS: [Row; 6] = [
    Row { sku: "A0001", details: Some(["Alba", "Teas", "Sup1"]) },
    Row { sku: "A0002", details: Some(["Alba", "Teas", "Sup1"]) },
    Row { sku: "B0001", details: Some(["Birk", "Teas", "Sup1"]) },
    Row { sku: "C0001", details: Some(["Alba", "Mugs", "Sup1"]) },
    Row { sku: "D0001", details: Some(["Alba", "Teas", "Sup2"]) },
    Row { sku: "E0001", details: None },
];
const LOCATIONS: [&str; 2] = ["LOC-X", "LOC-Y"];
const MARKETS: [&str; 2] = ["MKT-X", "MKT-Y"];
/// In no store.
const NOWHERE: Target = Target { sku: "N0001", location: "LOC-N", market: "MKT-N" };
/// Values that each price had, one after the other.
const AMOUNTS: [&str; 3] = ["11.50", "12.50", "13.50"];

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Target {
    pub(super) sku: &'static str,
    pub(super) location: &'static str,
    pub(super) market: &'static str,
}

const fn target(sku: &'static str, location: &'static str, market: &'static str) -> Target {
    Target { sku, location, market }
}

/// Each way to be there, not to be there, and to be somebody else's.
pub(super) const TARGETS: [Target; 11] = [
    target("A0001", "LOC-X", "MKT-X"),
    target("B0001", "LOC-X", "MKT-X"),
    target("C0001", "LOC-X", "MKT-X"),
    target("D0001", "LOC-X", "MKT-X"),
    target("E0001", "LOC-X", "MKT-X"),
    target("A0001", "LOC-Y", "MKT-X"),
    target("A0001", "LOC-X", "MKT-Y"),
    target("B0001", "LOC-Y", "MKT-Y"),
    target(NOWHERE.sku, "LOC-X", "MKT-X"),
    target("A0001", NOWHERE.location, "MKT-X"),
    target("A0001", "LOC-X", NOWHERE.market),
];

/// Row scopes, as `partner create --scope` takes them.
const SCOPES: [&[&str]; 10] = [
    &[],
    &["brand=Alba"],
    &["category=Teas"],
    &["supplier=Sup1"],
    &["location=LOC-X"],
    &["market=MKT-X"],
    &["brand=Alba", "location=LOC-X"],
    &["brand=Alba", "category=Teas", "supplier=Sup1", "location=LOC-X", "market=MKT-X"],
    &["brand=Nobody"],
    &["location=Nowhere"],
];
/// What `--full` walks too.
const MORE_SCOPES: [&[&str]; 5] = [
    &["brand=Alba", "brand=Cora"],
    &["location=LOC-X", "market=MKT-X"],
    &["category=Teas", "supplier=Sup1", "market=MKT-X"],
    &["brand=Alba", "category=Nothing"],
    &["market=Nowhere"],
];

/// Those that this run walks.
pub(super) fn scopes() -> impl Iterator<Item = &'static [&'static str]> {
    SCOPES.into_iter().chain(MORE_SCOPES.into_iter().filter(|_| full()))
}

/// Fields that a plan may leave out.
const DENIABLE: [&str; 9] = [
    "inventory.onHand",
    "inventory.reserved",
    "inventory.available",
    "pricing.amount",
    "pricing.listAmount",
    "catalog.title",
    "catalog.brand",
    "catalog.category",
    "catalog.supplier",
];

/// What a partner bought.
#[derive(Clone, Debug)]
pub(super) struct Offer {
    pub(super) plan: String,
    products: Vec<&'static str>,
    denied: Option<&'static str>,
    /// The one product that its key is restricted to.
    pub(super) key: Option<&'static str>,
}

/// All; one product alone; each deniable field left out; a key that may less than its plan.
pub(super) fn offers() -> Vec<Offer> {
    let both = || vec!["inventory", "pricing"];
    let offer = |plan: &str, products, denied, key| Offer { plan: plan.to_owned(), products, denied, key };
    let mut offers = vec![
        offer("all", both(), None, None),
        offer("inventory-only", vec!["inventory"], None, None),
        offer("pricing-only", vec!["pricing"], None, None),
        offer("all", both(), None, Some("inventory")),
    ];
    for field in DENIABLE {
        offers.push(offer(&format!("without-{}", field.replace('.', "-").to_lowercase()), both(), Some(field), None));
    }
    offers
}

/// The plans of all offers.
pub(super) fn plans() -> String {
    let all = offers();
    let plans = all.iter().filter(|offer| offer.key.is_none()).map(|offer| {
        let denied = offer.denied.map(|field| format!("denied_fields = [\"{field}\"]")).unwrap_or_default();
        plan(&offer.plan, &format!("products = {:?}\n{denied}", offer.products))
    });
    plans.collect()
}

/// The store's events: all of them, or only those that say something of rows within `scope`.
pub(super) fn events(scope: &[&str]) -> Vec<Value> {
    let mut events = Vec::new();
    for row in ROWS.iter().filter(|row| has_product(scope, row.sku)) {
        let sku = row.sku;
        if let Some([brand, category, supplier]) = row.details {
            let data = json!({ "sku": sku, "title": format!("Title of {sku}"), "brand": brand, "category": category, "supplier": supplier });
            events.push(event("catalog.product.upserted", "/t", &format!("u{sku}"), sku, data));
        }
        for place in LOCATIONS.into_iter().filter(|place| allows(scope, "location", Some(place))) {
            events.push(counted(&format!("c{sku}{place}"), sku, place, 7));
        }
        for market in MARKETS.into_iter().filter(|market| allows(scope, "market", Some(market))) {
            for (n, amount) in AMOUNTS.into_iter().enumerate() {
                let data = json!({ "sku": sku, "market": market, "currency": "EUR", "amount": amount, "listAmount": "19.90" });
                let mut set = event("price.set", "/t", &format!("p{sku}{market}{n}"), sku, data);
                set["time"] = json!(format!("2026-01-0{}T08:00:00.000Z", n + 1));
                events.push(set);
            }
        }
    }
    events
}

fn allows(scope: &[&str], column: &str, value: Option<&str>) -> bool {
    let named: Vec<&str> = scope.iter().filter_map(|pair| pair.strip_prefix(column)?.strip_prefix('=')).collect();
    named.is_empty() || value.is_some_and(|value| named.contains(&value))
}

/// Whether a SKU of the store is yours.
pub(super) fn has_product(scope: &[&str], sku: &str) -> bool {
    let Some(row) = ROWS.iter().find(|row| row.sku == sku) else { return false };
    let part = |n: usize| row.details.map(|details| details[n]);
    allows(scope, "brand", part(0)) && allows(scope, "category", part(1)) && allows(scope, "supplier", part(2))
}

/// What a target should look like on a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// There, and yours.
    Value,
    /// Not there, or not yours.
    Null,
    /// Outside the plan. `reached`: the object that has the field is there, and yours.
    Denied { reached: bool },
}

/// A field outside the plan.
pub(super) struct Denied {
    /// As messages name it.
    pub(super) name: String,
    /// Of its step on the path.
    pub(super) place: usize,
    /// Whether all of the product is, rather than one field of it.
    pub(super) whole_product: bool,
}

/// The product that a field sells.
pub(super) fn product(field: &str) -> Option<&'static str> {
    match field {
        "inventory" => Some("inventory"),
        "price" | "priceHistory" => Some("pricing"),
        _ => None,
    }
}

/// As plans name it, where they may leave it out.
fn deniable(parent: &str, field: &str) -> Option<String> {
    let group = match parent {
        "Inventory" => "inventory",
        "Price" | "PricePoint" => "pricing",
        "Product" => "catalog",
        _ => return None,
    };
    Some(format!("{group}.{field}")).filter(|name| DENIABLE.contains(&name.as_str()))
}

impl Offer {
    /// Whose partner this is.
    pub(super) fn name(&self, scope: &[&str]) -> String {
        let key = self.key.map(|key| format!(", key for {key}")).unwrap_or_default();
        format!("{}{key}; {}", self.plan, if scope.is_empty() { "all rows".to_owned() } else { scope.join(" ") })
    }

    /// What the plan, or the key, leaves out of a path.
    pub(super) fn denies(&self, path: &Path) -> Option<Denied> {
        path.0.iter().enumerate().find_map(|(place, step)| {
            let missing = product(&step.field)
                .filter(|product| !self.products.contains(product) || self.key.is_some_and(|key| key != *product));
            let field = || deniable(&step.parent, &step.field).filter(|name| self.denied == Some(name));
            let name = missing.map(str::to_owned).or_else(field)?;
            Some(Denied { name, place, whole_product: missing.is_some() })
        })
    }

    /// What a named row should look like.
    pub(super) fn outcome(&self, path: &Path, scope: &[&str], target: &Target) -> Outcome {
        let denied = self.denies(path);
        let mut reached = true;
        for (place, step) in path.0.iter().enumerate() {
            if denied.as_ref().is_some_and(|denied| denied.place == place) {
                return Outcome::Denied { reached };
            }
            reached &= match step.field.as_str() {
                "product" | "products" if step.parent == "Query" => has_product(scope, target.sku),
                "inventory" => LOCATIONS.contains(&target.location) && allows(scope, "location", Some(target.location)),
                "price" | "priceHistory" => MARKETS.contains(&target.market) && allows(scope, "market", Some(target.market)),
                _ => true,
            };
        }
        if reached { Outcome::Value } else { Outcome::Null }
    }
}

impl Target {
    /// Only what `path` asks for: what it does not name cannot matter.
    pub(super) fn on(self, path: &Path) -> Self {
        let part = |name: &str, value: &'static str| if path.takes(name) { value } else { "" };
        Self { sku: part("sku", self.sku), location: part("location", self.location), market: part("market", self.market) }
    }

    /// The target that is not there in the way that this one is not yours; none for one that is there and yours, or is not there.
    pub(super) fn not_there(self, scope: &[&str]) -> Option<Self> {
        let stands = |known: &[&str], value: &str| value.is_empty() || known.contains(&value);
        if !ROWS.iter().any(|row| row.sku == self.sku) || !stands(&LOCATIONS, self.location) || !stands(&MARKETS, self.market) {
            return None;
        }
        if !has_product(scope, self.sku) {
            return Some(Self { sku: NOWHERE.sku, ..self });
        }
        if !self.location.is_empty() && !allows(scope, "location", Some(self.location)) {
            return Some(Self { location: NOWHERE.location, ..self });
        }
        if !self.market.is_empty() && !allows(scope, "market", Some(self.market)) {
            return Some(Self { market: NOWHERE.market, ..self });
        }
        None
    }
}
