//! What a plan can give, withhold and weigh: the object types that count, and the fields that a plan may leave out.

use serde::{Deserialize, Serialize};

use super::meter::Product;

/// An object type of the partner schema whose objects count units: its weight each (`@cost` in the SDL).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Weighted {
    /// A stock level.
    Inventory,
    /// The price in force.
    Price,
    /// A price of the past.
    PricePoint,
    /// A cell of journeys.
    JourneyCounts,
    /// A period of retention.
    CohortPeriod,
}

impl Weighted {
    /// Every such type.
    pub const ALL: [Self; 5] = [Self::Inventory, Self::Price, Self::PricePoint, Self::JourneyCounts, Self::CohortPeriod];

    /// Units of one object, where the plan does not say otherwise.
    pub const UNITS: u32 = 1;

    /// As the schema names it.
    pub fn type_name(self) -> &'static str {
        match self {
            Self::Inventory => "Inventory",
            Self::Price => "Price",
            Self::PricePoint => "PricePoint",
            Self::JourneyCounts => "JourneyCounts",
            Self::CohortPeriod => "CohortPeriod",
        }
    }

    /// The type that the schema calls `name`.
    pub fn of_type(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|weighted| weighted.type_name() == name)
    }

    /// Whose units they are.
    pub fn product(self) -> Product {
        match self {
            Self::Inventory => Product::Inventory,
            Self::Price | Self::PricePoint => Product::Pricing,
            Self::JourneyCounts | Self::CohortPeriod => Product::Journey,
        }
    }
}

/// A field that a plan may leave out. All of them are nullable in the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each is the field of its name")]
pub enum Deniable {
    #[serde(rename = "inventory.onHand")]
    OnHand,
    #[serde(rename = "inventory.reserved")]
    Reserved,
    #[serde(rename = "inventory.available")]
    Available,
    #[serde(rename = "pricing.amount")]
    Amount,
    #[serde(rename = "pricing.listAmount")]
    ListAmount,
    #[serde(rename = "catalog.title")]
    Title,
    #[serde(rename = "catalog.brand")]
    Brand,
    #[serde(rename = "catalog.category")]
    Category,
    #[serde(rename = "catalog.supplier")]
    Supplier,
}

impl Deniable {
    /// Every such field.
    pub const ALL: [Self; 9] = [
        Self::OnHand,
        Self::Reserved,
        Self::Available,
        Self::Amount,
        Self::ListAmount,
        Self::Title,
        Self::Brand,
        Self::Category,
        Self::Supplier,
    ];

    /// As plans and refusals name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OnHand => "inventory.onHand",
            Self::Reserved => "inventory.reserved",
            Self::Available => "inventory.available",
            Self::Amount => "pricing.amount",
            Self::ListAmount => "pricing.listAmount",
            Self::Title => "catalog.title",
            Self::Brand => "catalog.brand",
            Self::Category => "catalog.category",
            Self::Supplier => "catalog.supplier",
        }
    }

    /// The field `field` of the schema's type `of`.
    pub fn of_field(of: &str, field: &str) -> Option<Self> {
        let group = match of {
            "Inventory" => "inventory",
            "Price" | "PricePoint" => "pricing",
            "Product" => "catalog",
            _ => return None,
        };
        Self::ALL.into_iter().find(|it| it.as_str().split_once('.') == Some((group, field)))
    }
}

/// What a plan, and the key's own restriction, come to for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    sold: [bool; Product::ALL.len()],
    denied: [bool; Deniable::ALL.len()],
    weights: [u32; Weighted::ALL.len()],
}

impl Terms {
    /// Terms that sell `products` less `denied`, each weighted object at its weight.
    pub fn new(
        products: impl IntoIterator<Item = Product>,
        denied: impl IntoIterator<Item = Deniable>,
        weight: impl Fn(Weighted) -> u32,
    ) -> Self {
        let mut terms =
            Self { sold: [false; Product::ALL.len()], denied: [false; Deniable::ALL.len()], weights: Weighted::ALL.map(weight) };
        products.into_iter().for_each(|product| terms.sold[product as usize] = true);
        denied.into_iter().for_each(|field| terms.denied[field as usize] = true);
        terms
    }

    /// The same, less the products that `keep` refuses.
    #[must_use]
    pub fn only(mut self, keep: impl Fn(Product) -> bool) -> Self {
        for product in Product::ALL {
            self.sold[product as usize] &= keep(product);
        }
        self
    }

    /// Whether the product is in.
    pub fn sells(&self, product: Product) -> bool {
        self.sold[product as usize]
    }

    /// Whether the field is left out.
    pub fn denies(&self, field: Deniable) -> bool {
        self.denied[field as usize]
    }

    /// Units that one object counts.
    pub fn weight(&self, weighted: Weighted) -> u64 {
        u64::from(self.weights[weighted as usize])
    }
}

/// Units by product: fixed in size, because the hot path counts with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally([u64; Product::ALL.len()]);

impl Tally {
    /// Adds units; stays at the largest number there is.
    pub fn add(&mut self, product: Product, units: u64) {
        let sum = &mut self.0[product as usize];
        *sum = sum.saturating_add(units);
    }

    /// Units of one product.
    pub fn of(&self, product: Product) -> u64 {
        self.0[product as usize]
    }

    /// Units of all products.
    pub fn total(&self) -> u64 {
        self.0.iter().fold(0, |sum, units| sum.saturating_add(*units))
    }

    /// What is left of each once `other` is taken away.
    #[must_use]
    pub fn less(&self, other: &Self) -> Self {
        let mut left = *self;
        for product in Product::ALL {
            left.0[product as usize] = self.of(product).saturating_sub(other.of(product));
        }
        left
    }

    /// Those that are not zero.
    pub fn iter(&self) -> impl Iterator<Item = (Product, u64)> + '_ {
        Product::ALL.into_iter().map(|product| (product, self.of(product))).filter(|(_, units)| *units > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_wherever_they_stand() {
        for field in Deniable::ALL {
            assert_eq!(serde_json::to_value(field).unwrap(), field.as_str());
        }
        for weighted in Weighted::ALL {
            assert_eq!(serde_json::to_value(weighted).unwrap(), weighted.type_name());
            assert_eq!(Weighted::of_type(weighted.type_name()), Some(weighted));
        }
        assert_eq!(Deniable::of_field("PricePoint", "listAmount"), Some(Deniable::ListAmount));
        assert_eq!(Deniable::of_field("Price", "market"), None);
    }
}
