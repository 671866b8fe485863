//! What a selection needs of each product, seen before anything is read: so that a request is one read, not one a field.

use std::sync::Arc;

use async_graphql::{InputType, SelectionField, Value};

use super::scalars::DateTime;
use crate::feature::{PriceHistory, Wanted};
use crate::operation::LIST_MAX;

/// What the fields below a product ask for.
pub(super) fn wanted<'a>(fields: impl Iterator<Item = SelectionField<'a>>) -> async_graphql::Result<Arc<Wanted>> {
    let mut wanted = Wanted::default();
    for field in fields {
        match field.name() {
            "inventory" => add(&mut wanted.locations, text(&field, "location")?),
            "price" => add(&mut wanted.markets, text(&field, "market")?),
            "priceHistory" => {
                let history = history(&field)?;
                wanted.histories.extend(history.filter(|history| !wanted.histories.contains(history)));
            }
            _ => {}
        }
    }
    Ok(Arc::new(wanted))
}

fn add(list: &mut Vec<String>, text: Option<String>) {
    list.extend(text.filter(|text| !list.contains(text)));
}

fn text(field: &SelectionField<'_>, name: &str) -> async_graphql::Result<Option<String>> {
    let found = field.arguments()?.into_iter().find(|(argument, _)| argument == name);
    Ok(found.and_then(|(_, value)| if let Value::String(text) = value { Some(text) } else { None }))
}

/// None for arguments that the resolver is going to refuse.
fn history(field: &SelectionField<'_>) -> async_graphql::Result<Option<PriceHistory>> {
    let mut arguments = field.arguments()?;
    let mut take = |name: &str| {
        let place = arguments.iter().position(|(argument, _)| argument == name)?;
        Some(arguments.swap_remove(place).1)
    };
    let Some(Value::String(market)) = take("market") else { return Ok(None) };
    let instant = |value: Option<Value>| Option::<DateTime>::parse(value).map(|at| at.map(|at| at.0)).map_err(drop);
    let first = Option::<i32>::parse(take("first")).map_err(drop);
    let (Ok(from), Ok(to), Ok(first)) = (instant(take("from")), instant(take("to")), first) else { return Ok(None) };
    let Ok(limit) = usize::try_from(first.unwrap_or(LIST_MAX as i32)) else { return Ok(None) };
    Ok(Some(PriceHistory { market, from, to, limit }))
}
