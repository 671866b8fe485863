//! What is counted: products, and the meters that charges name.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a plan sells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Product {
    /// Stock levels.
    Inventory,
    /// Prices.
    Pricing,
    /// Shoppers' journeys.
    Journey,
}

impl Product {
    /// Every product.
    pub const ALL: [Self; 3] = [Self::Inventory, Self::Pricing, Self::Journey];

    /// As plans, records and answers name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inventory => "inventory",
            Self::Pricing => "pricing",
            Self::Journey => "journey",
        }
    }
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a charge counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Meter {
    /// Units of the product `inventory`.
    Inventory,
    /// Units of the product `pricing`.
    Pricing,
    /// Units of the product `journey`.
    Journey,
    /// Executed answers, whatever is in them.
    Requests,
}

impl Meter {
    /// Every meter.
    pub const ALL: [Self; 4] = [Self::Inventory, Self::Pricing, Self::Journey, Self::Requests];

    /// As plans and the ledger name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inventory => "inventory",
            Self::Pricing => "pricing",
            Self::Journey => "journey",
            Self::Requests => "requests",
        }
    }

    /// The meter that the ledger calls `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|meter| meter.as_str() == name)
    }

    /// The product whose units it counts; none for `requests`.
    pub fn product(self) -> Option<Product> {
        match self {
            Self::Inventory => Some(Product::Inventory),
            Self::Pricing => Some(Product::Pricing),
            Self::Journey => Some(Product::Journey),
            Self::Requests => None,
        }
    }
}

impl From<Product> for Meter {
    fn from(product: Product) -> Self {
        match product {
            Product::Inventory => Self::Inventory,
            Product::Pricing => Self::Pricing,
            Product::Journey => Self::Journey,
        }
    }
}

impl fmt::Display for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
