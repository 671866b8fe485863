//! What a selection needs of each product, seen before anything is read: so that a request is one read, not one a field. What
//! is outside of the row scope is not even read.

use std::sync::Arc;

use async_graphql::{InputType, SelectionField, Value};

use super::asker::Asker;
use super::scalars::DateTime;
use crate::feature::{PriceHistory, Wanted};

/// Points of one history, at most, and when it is not said how many.
pub(super) const POINTS_MAX: usize = 100;

/// What the fields below a product ask for, and the asker may see.
pub(super) fn wanted<'a>(asker: &Asker, fields: impl Iterator<Item = SelectionField<'a>>) -> async_graphql::Result<Arc<Wanted>> {
    let mut wanted = Wanted::default();
    for field in fields {
        match field.name() {
            "inventory" => add(&mut wanted.locations, text(&field, "location")?, |location| asker.scope().has_location(location)),
            "price" => add(&mut wanted.markets, text(&field, "market")?, |market| asker.scope().has_market(market)),
            "priceHistory" => {
                let history = history(&field)?.filter(|history| asker.scope().has_market(&history.market));
                wanted.histories.extend(history.filter(|history| !wanted.histories.contains(history)));
            }
            _ => {}
        }
    }
    Ok(Arc::new(wanted))
}

fn add(list: &mut Vec<String>, text: Option<String>, may_see: impl Fn(&str) -> bool) {
    list.extend(text.filter(|text| may_see(text) && !list.contains(text)));
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
    let Ok(limit) = usize::try_from(first.unwrap_or(POINTS_MAX as i32)) else { return Ok(None) };
    Ok(Some(PriceHistory { market, from, to, limit }))
}
