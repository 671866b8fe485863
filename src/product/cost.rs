//! The directives that say what a query costs (GraphQL Cost Directives Specification), and what one would cost.

use async_graphql::{Context, Object, TypeDirective};

use super::asker::{Asker, Noted, coded};
use super::query::Services;
use crate::error::Code;
use crate::metering::{Product, Tally};
use crate::operation::Method;

/// What an estimate counts for: it reads a document of its own.
const ESTIMATE_ROWS: usize = 100;

/// Units that each object of the type counts in an answer. Only object types have one here; a plan may set another.
#[TypeDirective(
    location = "ArgumentDefinition",
    location = "Enum",
    location = "FieldDefinition",
    location = "InputFieldDefinition",
    location = "Object"
)]
pub(super) fn cost(weight: String) {}

/// How long a list is at most: as long as the slicing argument says (an Int's value; the length of a list), else
/// `assumedSize`. With `sizedFields` it is said of these fields of the object, not of the field itself.
#[TypeDirective(name = "listSize", location = "FieldDefinition")]
pub(super) fn list_size(
    assumed_size: Option<i32>,
    slicing_arguments: Option<Vec<String>>,
    sized_fields: Option<Vec<String>>,
    #[graphql(default = true)] require_one_slicing_argument: bool,
) {
}

/// Free: no object of the type counts.
pub(super) fn free() -> String {
    "0".to_owned()
}

/// One unit for each object.
pub(super) fn one() -> String {
    "1".to_owned()
}

/// What a query would cost.
pub(super) struct CostEstimate {
    units: Tally,
    refusal: Option<String>,
}

/// Units of one product.
pub(super) struct ProductUnits {
    product: Product,
    units: u64,
}

fn int(units: u64) -> i32 {
    i32::try_from(units).unwrap_or(i32::MAX)
}

/// What a query would cost you at most, and whether it would be admitted.
#[Object(directive = cost::apply(free()))]
impl CostEstimate {
    /// Units, at most.
    async fn requested_query_cost(&self) -> i32 {
        int(self.units.total())
    }

    /// The same by product.
    #[graphql(directive = list_size::apply(Some(20), None, None, false))]
    async fn by_product(&self) -> Vec<ProductUnits> {
        self.units.iter().map(|(product, units)| ProductUnits { product, units }).collect()
    }

    /// Whether it would be admitted, given enough rate, quota and spend. Arguments out of range are not looked at.
    async fn admitted(&self) -> bool {
        self.refusal.is_none()
    }

    /// Why not.
    async fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }
}

/// Units of one product.
#[Object(directive = cost::apply(free()))]
impl ProductUnits {
    /// The product.
    async fn product(&self) -> &'static str {
        self.product.as_str()
    }

    /// How many.
    async fn units(&self) -> i32 {
        int(self.units)
    }
}

impl CostEstimate {
    pub(super) fn of(ctx: &Context<'_>, query: &str, variables: Option<async_graphql::Value>) -> async_graphql::Result<Self> {
        let asker = Asker::of(ctx)?;
        Noted::of(ctx)?.take_rows(ESTIMATE_ROWS)?;
        let variables = match variables {
            None | Some(async_graphql::Value::Null) => async_graphql::Variables::default(),
            Some(variables @ async_graphql::Value::Object(_)) => async_graphql::Variables::from_value(variables),
            Some(_) => return Err(coded(Code::BadUserInput, "variables is no object. Send {\"name\": value, …}.")),
        };
        let documents = &ctx.data::<Services>()?.documents;
        let ready = documents.ready(query, None, variables, Method::Post);
        let ready = ready.map_err(|refusal| coded(refusal.code, refusal.message))?;
        let (estimate, checked) = ready.check(&asker.terms, &asker.rules);
        Ok(Self { units: estimate.units, refusal: checked.err().map(|refusal| refusal.message.into_owned()) })
    }
}
