//! What a selection needs of each product, seen before anything is read: so that a request is one read, not one a field.

use async_graphql::{SelectionField, Value};

use crate::feature::Read;

/// The locations and markets that the fields below a product ask for.
#[derive(Default)]
pub(super) struct Wanted {
    locations: Vec<String>,
    markets: Vec<String>,
}

impl Wanted {
    /// Looks through the fields of a product.
    pub(super) fn of<'a>(fields: impl Iterator<Item = SelectionField<'a>>) -> async_graphql::Result<Self> {
        let mut wanted = Self::default();
        for field in fields {
            let (argument, list) = match field.name() {
                "inventory" => ("location", &mut wanted.locations),
                "price" => ("market", &mut wanted.markets),
                _ => continue,
            };
            for (name, value) in field.arguments()? {
                if let Value::String(text) = value
                    && name == argument
                    && !list.contains(&text)
                {
                    list.push(text);
                }
            }
        }
        Ok(wanted)
    }

    /// The same question to one SKU.
    pub(super) fn read(&self, sku: &str) -> Read {
        Read { sku: sku.to_owned(), locations: self.locations.clone(), markets: self.markets.clone() }
    }
}
