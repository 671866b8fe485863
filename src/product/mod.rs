//! What partners query: the GraphQL schema, and the one place where rows are read and entitlements applied.

mod asker;
mod catalog;
mod cost;
mod item;
mod journey;
mod journey_counts;
mod lookahead;
mod query;
mod retention;
mod sample;
mod scalars;
mod usage;
mod validation;
mod viewer;

pub use asker::{Asker, Noted};
pub use query::{Query, Services};
pub use sample::sample;
pub use validation::validator;

use async_graphql::{EmptyMutation, EmptySubscription, SchemaBuilder, ValidationMode};

/// The partner schema.
pub type Schema = async_graphql::Schema<Query, EmptyMutation, EmptySubscription>;

fn builder() -> SchemaBuilder<Query, EmptyMutation, EmptySubscription> {
    async_graphql::Schema::build(Query, EmptyMutation, EmptySubscription)
}

/// The schema over `services`, for operations that are validated: nothing is checked twice.
pub fn schema(services: Services) -> Schema {
    builder().data(services).validation_mode(ValidationMode::Fast).finish()
}

/// The SDL, as it is committed in `schema.graphql` and served.
pub fn sdl() -> String {
    builder().finish().sdl()
}
