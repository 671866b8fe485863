//! What an operator does with journey products.

use anyhow::{bail, ensure};
use sqlx::AnyConnection;

use super::product::Product;
use super::store;
use crate::clock::Micros;

/// What applying a product comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Applied,
    /// It is there already, with the same words.
    Unchanged,
}

/// Sells a product from now on, counted from the log's start; where it reads what a retired product read, from that one's end on.
pub async fn apply(connection: &mut AnyConnection, product: &Product, now: Micros) -> anyhow::Result<Change> {
    let all = store::all(connection).await?;
    let (sold, retired): (Vec<_>, Vec<_>) = all.iter().partition(|applied| applied.retired_at.is_none());
    let mut product = product.clone();
    let name = &product.name;
    if let Some(same) = sold.iter().find(|applied| applied.product.name == *name) {
        let says_same = Product { begins: same.product.begins, ..product.clone() } == same.product;
        ensure!(
            says_same,
            "the journey product {name} is sold already and says something else: what was answered stands, so a change is another product; \
             give it another name, and retire this one"
        );
        return Ok(Change::Unchanged);
    }
    if retired.iter().any(|applied| applied.product.name == *name) {
        bail!("the journey product {name} was retired: give this one another name");
    }
    product.check_beside(sold.iter().map(|applied| &applied.product))?;
    let reads_the_same = |other: &Product| product.actions().any(|(_, action)| other.action(action).is_some());
    let ended = retired.iter().filter(|applied| reads_the_same(&applied.product)).filter_map(|applied| applied.retired_at);
    product.begins = ended.max();
    store::insert(connection, &product, now).await?;
    Ok(Change::Applied)
}
