//! What partners query: the GraphQL schema, and the one place where rows are read and entitlements applied.

mod asker;
mod catalog;
mod item;
mod lookahead;
mod query;
mod scalars;
mod usage;
mod viewer;

pub use asker::{Asker, Executed, Metered};
pub use query::{Query, Services};

use async_graphql::extensions::{Extension, ExtensionContext, ExtensionFactory, NextExecute, NextValidation};
use async_graphql::{EmptyMutation, EmptySubscription, Response, ServerError, ValidationResult};
use std::sync::Arc;

use crate::error::Code;

/// The partner schema.
pub type Schema = async_graphql::Schema<Query, EmptyMutation, EmptySubscription>;

/// The schema over `services`; without them it can be printed, and nothing else.
pub fn schema(services: Option<Services>) -> Schema {
    let builder = async_graphql::Schema::build(Query, EmptyMutation, EmptySubscription).extension(Phases);
    match services {
        Some(services) => builder.data(services).finish(),
        None => builder.finish(),
    }
}

/// The SDL, as it is committed in `schema.graphql` and served.
pub fn sdl() -> String {
    schema(None).sdl()
}

/// Tells a refusal by validation from an executed answer, which is what gets metered.
struct Phases;

impl ExtensionFactory for Phases {
    fn create(&self) -> Arc<dyn Extension> {
        Arc::new(Self)
    }
}

#[async_trait::async_trait]
impl Extension for Phases {
    async fn validation(
        &self,
        ctx: &ExtensionContext<'_>,
        next: NextValidation<'_>,
    ) -> Result<ValidationResult, Vec<ServerError>> {
        next.run(ctx).await.map_err(|mut errors| {
            for error in &mut errors {
                error.extensions.get_or_insert_default().set("code", Code::GraphqlValidationFailed.as_str());
            }
            errors
        })
    }

    async fn execute(&self, ctx: &ExtensionContext<'_>, operation: Option<&str>, next: NextExecute<'_>) -> Response {
        if let Ok(executed) = ctx.data::<Executed>() {
            executed.begin();
        }
        next.run(ctx, operation).await
    }
}
