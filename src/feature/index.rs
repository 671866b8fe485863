//! Which products have which brand, category and supplier: what a narrow scope costs to page through is what is in it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::scope::{Column, Scope};
use super::{Details, state};

/// Of one partition. Not part of its state: it follows from it.
#[derive(Default)]
pub(super) struct Index(HashMap<(Column, String), BTreeSet<Arc<str>>>);

impl Index {
    /// Of all that a partition knows.
    pub(super) fn of(state: &state::Partition) -> Self {
        let mut index = Self::default();
        for (sku, product) in &state.products {
            index.change(sku, None, product.details());
        }
        index
    }

    /// A product's details changed.
    pub(super) fn change(&mut self, sku: &Arc<str>, before: Option<&Details>, after: Option<&Details>) {
        for column in Column::OF_DETAILS {
            let (before, after) = (before.map(|details| column.of(details)), after.map(|details| column.of(details)));
            if before == after {
                continue;
            }
            if let Some(before) = before {
                let key = (column, before.to_owned());
                if let Some(skus) = self.0.get_mut(&key) {
                    skus.remove(sku);
                    if skus.is_empty() {
                        self.0.remove(&key);
                    }
                }
            }
            if let Some(after) = after {
                self.0.entry((column, after.to_owned())).or_default().insert(sku.clone());
            }
        }
    }

    /// The products of the narrowest column that `scope` looks at, by that column's values; none when it looks at no details.
    pub(super) fn candidates(&self, scope: &Scope) -> Option<Vec<&BTreeSet<Arc<str>>>> {
        let of = |(column, values): (Column, &BTreeSet<String>)| -> Vec<_> {
            values.iter().filter_map(|value| self.0.get(&(column, value.clone()))).collect()
        };
        scope.of_details().map(of).min_by_key(|skus| skus.iter().map(|skus| skus.len()).sum::<usize>())
    }
}
