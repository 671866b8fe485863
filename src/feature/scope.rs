//! Row scope: which rows a reader may see. The store applies it, so that what is outside of it looks like what is not there.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use super::Details;
use crate::journey::message::Slice;
use crate::journey::product::Product;

/// By what rows can be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Column {
    Brand,
    Category,
    Supplier,
    Location,
    Market,
}

impl Column {
    pub(super) const OF_DETAILS: [Self; 3] = [Self::Brand, Self::Category, Self::Supplier];

    fn as_str(self) -> &'static str {
        match self {
            Self::Brand => "brand",
            Self::Category => "category",
            Self::Supplier => "supplier",
            Self::Location => "location",
            Self::Market => "market",
        }
    }

    /// Its value in `details`; of the other columns, nothing.
    pub(super) fn of(self, details: &Details) -> &str {
        match self {
            Self::Brand => &details.brand,
            Self::Category => &details.category,
            Self::Supplier => &details.supplier,
            Self::Location | Self::Market => "",
        }
    }
}

/// Values of one column are alternatives, different columns all hold; a column that is not named is not looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    #[serde(flatten)]
    columns: BTreeMap<Column, BTreeSet<String>>,
    /// Of journeys, by the dimension's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    dimensions: BTreeMap<String, BTreeSet<String>>,
}

/// What stands before a dimension's name.
const DIMENSION: &str = "dimension.";

impl Scope {
    /// Values of all columns together: an answer that lists them is bounded.
    pub const VALUES_MAX: usize = 1000;

    /// All rows.
    pub const fn all() -> Self {
        Self { columns: BTreeMap::new(), dimensions: BTreeMap::new() }
    }

    /// From `KEY=VALUE` texts.
    pub fn parse<'a>(pairs: impl IntoIterator<Item = &'a str>) -> anyhow::Result<Self> {
        let mut scope = Self::default();
        for pair in pairs {
            let (key, value) = pair.split_once('=').with_context(|| format!("\"{pair}\" is no scope: write KEY=VALUE"))?;
            if value.is_empty() {
                bail!("the scope \"{pair}\" names no value: write {key}=VALUE");
            }
            if let Some(dimension) = key.strip_prefix(DIMENSION).filter(|dimension| !dimension.is_empty()) {
                scope.dimensions.entry(dimension.to_owned()).or_default().insert(value.to_owned());
                continue;
            }
            let column = match key {
                "brand" => Column::Brand,
                "category" => Column::Category,
                "supplier" => Column::Supplier,
                "location" => Column::Location,
                "market" => Column::Market,
                _ => bail!("\"{key}\" is no key of a scope: use brand, category, supplier, location, market or dimension.NAME"),
            };
            scope.columns.entry(column).or_default().insert(value.to_owned());
        }
        let values = scope.columns.values().chain(scope.dimensions.values()).map(BTreeSet::len).sum::<usize>();
        anyhow::ensure!(values <= Self::VALUES_MAX, "the scope has {values} values, but may have {}", Self::VALUES_MAX);
        Ok(scope)
    }

    fn allows(&self, column: Column, value: Option<&str>) -> bool {
        self.columns.get(&column).is_none_or(|values| value.is_some_and(|value| values.contains(value)))
    }

    /// Whether a product of these details is in it.
    pub(super) fn has_details(&self, details: &Details) -> bool {
        Column::OF_DETAILS.into_iter().all(|column| self.allows(column, Some(column.of(details))))
    }

    /// What it says of the details, where it says something: by column, the values that are in it.
    pub(super) fn of_details(&self) -> impl Iterator<Item = (Column, &BTreeSet<String>)> {
        Column::OF_DETAILS.into_iter().filter_map(|column| Some((column, self.columns.get(&column)?)))
    }

    /// Whether stock at `location` is in it.
    pub fn has_location(&self, location: &str) -> bool {
        self.allows(Column::Location, Some(location))
    }

    /// Whether prices in `market` are in it.
    pub fn has_market(&self, market: &str) -> bool {
        self.allows(Column::Market, Some(market))
    }

    /// What it says of journeys: every column is a dimension there.
    fn of_journeys(&self) -> impl Iterator<Item = (&str, &BTreeSet<String>)> {
        let columns = self.columns.iter().map(|(column, values)| (column.as_str(), values));
        columns.chain(self.dimensions.iter().map(|(name, values)| (name.as_str(), values)))
    }

    /// Whether a slice of a journey product is in it. What the product does not tell apart by is nobody's who may not see all.
    pub fn has_slice(&self, product: &Product, slice: &Slice) -> bool {
        self.of_journeys().all(|(name, allowed)| {
            let place = product.dimensions.iter().position(|dimension| dimension == name);
            match (slice, place) {
                (Slice::Of(values), Some(place)) => values.get(place).is_some_and(|value| allowed.contains(value)),
                _ => false,
            }
        })
    }

    /// The one slice that is in it, where no other can be.
    pub fn only_slice(&self, product: &Product) -> Option<Slice> {
        let only = |dimension: &String| {
            let mut allowed = self.of_journeys().filter(|(name, _)| name == dimension).map(|(_, allowed)| allowed);
            let values = allowed.next().filter(|values| values.len() == 1)?;
            values.first().cloned()
        };
        if product.dimensions.is_empty() {
            return None;
        }
        product.dimensions.iter().map(only).collect::<Option<Vec<_>>>().map(Slice::Of)
    }

    /// As `KEY=VALUE` texts.
    pub fn pairs(&self) -> Vec<String> {
        let columns = self.columns.iter().map(|(column, values)| (column.as_str().to_owned(), values));
        let dimensions = self.dimensions.iter().map(|(name, values)| (format!("{DIMENSION}{name}"), values));
        let pairs = |(key, values): (String, &BTreeSet<String>)| -> Vec<String> {
            values.iter().map(|value| format!("{key}={value}")).collect()
        };
        columns.chain(dimensions).flat_map(pairs).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alternatives_within_a_column_and_all_columns_together() {
        let scope = Scope::parse(["brand=Alba", "brand=Birk", "location=BER-1"]).unwrap();
        let details =
            |brand: &str| Details { title: "t".into(), brand: brand.into(), category: "c".into(), supplier: "s".into() };
        assert!(scope.has_details(&details("Birk")));
        assert!(!scope.has_details(&details("Cora")));
        assert!(scope.has_location("BER-1") && !scope.has_location("MUC-1") && scope.has_market("DE"));
        assert!(Scope::all().has_details(&details("Cora")) && Scope::all().of_details().next().is_none());
        assert_eq!(scope.pairs(), ["brand=Alba", "brand=Birk", "location=BER-1"]);
    }

    #[test]
    fn what_is_no_scope_is_refused() {
        for wrong in ["brand", "colour=red", "brand="] {
            assert!(Scope::parse([wrong]).is_err(), "{wrong}");
        }
    }
}
