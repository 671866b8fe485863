//! The catalogue as a connection (GraphQL Cursor Connections Specification).

use async_graphql::{Context, Object, SelectionField};

use super::asker::{Asker, Noted, coded};
use super::cost::{cost, free};
use super::item::Product;
use super::lookahead::wanted;
use super::query::{Services, read, unreadable};
use crate::error::Code;
use crate::feature::Read;
use crate::operation::LIST_MAX;

/// When it is not said how many.
pub(super) const PAGE_DEFAULT: i32 = 20;
/// What a scan counts for, beside the rows that it finds: a few of them fill a request.
const SCAN_ROWS: usize = 150;
/// Cursors are opaque to clients: this letter keeps a bare SKU from being taken for one.
const CURSOR: &str = "s:";

/// A page of products.
pub(super) struct ProductConnection {
    edges: Vec<ProductEdge>,
    more: bool,
    behind_start: bool,
    end: Option<String>,
}

/// One product of a page.
pub(super) struct ProductEdge {
    cursor: String,
    node: Product,
}

/// Where a page lies.
pub(super) struct PageInfo {
    more: bool,
    behind_start: bool,
    start: Option<String>,
    end: Option<String>,
}

/// A page of products.
#[Object(directive = cost::apply(free()))]
impl ProductConnection {
    /// The products with their cursors.
    async fn edges(&self) -> &[ProductEdge] {
        &self.edges
    }

    /// The products.
    async fn nodes(&self) -> Vec<&Product> {
        self.edges.iter().map(|edge| &edge.node).collect()
    }

    /// Where the page lies.
    async fn page_info(&self) -> PageInfo {
        PageInfo {
            more: self.more,
            behind_start: self.behind_start,
            start: self.edges.first().map(|edge| edge.cursor.clone()),
            end: self.end.clone(),
        }
    }
}

/// One product of a page.
#[Object(directive = cost::apply(free()))]
impl ProductEdge {
    /// Its place, for `after`.
    async fn cursor(&self) -> &str {
        &self.cursor
    }

    /// The product.
    async fn node(&self) -> &Product {
        &self.node
    }
}

/// Where a page lies.
#[Object(directive = cost::apply(free()))]
impl PageInfo {
    /// Whether there is another page.
    async fn has_next_page(&self) -> bool {
        self.more
    }

    /// Whether the page was asked for behind a cursor.
    async fn has_previous_page(&self) -> bool {
        self.behind_start
    }

    /// The first product's cursor.
    async fn start_cursor(&self) -> Option<&str> {
        self.start.as_deref()
    }

    /// For `after`: the next page begins behind it.
    async fn end_cursor(&self) -> Option<&str> {
        self.end.as_deref()
    }
}

pub(super) async fn page(ctx: &Context<'_>, first: i32, after: Option<&str>) -> async_graphql::Result<ProductConnection> {
    let first = usize::try_from(first)
        .ok()
        .filter(|first| (1..=LIST_MAX).contains(first))
        .ok_or_else(|| coded(Code::BadUserInput, format!("first is {first}, but must be 1 to {LIST_MAX}.")))?;
    let behind = after
        .map(|after| {
            let wrong = || coded(Code::BadUserInput, "after is no cursor of this connection. Pass on pageInfo.endCursor.");
            after.strip_prefix(CURSOR).ok_or_else(wrong)
        })
        .transpose()?;
    let asker = Asker::of(ctx)?;
    Noted::of(ctx)?.take_rows(SCAN_ROWS)?;
    // One more than asked tells whether there is a next page.
    let scanned = ctx.data::<Services>()?.features(asker).scan(behind, first + 1, asker.scope()).await;
    let mut skus = scanned.map_err(|error| unreadable(asker, &error))?;
    let more = skus.len() > first;
    skus.truncate(first);
    let wanted = wanted(node_fields(ctx).into_iter())?;
    let reads = skus.iter().map(|sku| Read { sku: sku.to_string(), wanted: wanted.clone() });
    let products = read(ctx, reads.collect()).await?;
    let cursor = |sku: &str| format!("{CURSOR}{sku}");
    let edges: Vec<ProductEdge> =
        products.into_iter().flatten().map(|node| ProductEdge { cursor: cursor(&node.read.sku), node }).collect();
    let end = skus.last().map(|sku| cursor(sku));
    Ok(ProductConnection { edges, more, behind_start: after.is_some(), end })
}

/// The fields asked of each product, below `nodes` and below `edges { node }`.
fn node_fields<'a>(ctx: &'a Context<'_>) -> Vec<SelectionField<'a>> {
    let mut fields = Vec::new();
    for field in ctx.field().selection_set() {
        match field.name() {
            "nodes" => fields.extend(field.selection_set()),
            "edges" => {
                for edge in field.selection_set().filter(|field| field.name() == "node") {
                    fields.extend(edge.selection_set());
                }
            }
            _ => {}
        }
    }
    fields
}
