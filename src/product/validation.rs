//! Validation, without execution: once for each document.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_graphql::extensions::{Extension, ExtensionContext, ExtensionFactory, NextExecute, NextValidation};
use async_graphql::{Request, Response, ServerError, ValidationResult};
use futures_util::FutureExt;

use crate::error::{Code, Refusal};
use crate::operation::Validate;

/// Refuses documents that the schema does not allow. With `suggestions`, it says which names were perhaps meant.
pub fn validator(suggestions: bool) -> Validate {
    let builder = super::builder().extension(OnlyValidate);
    let schema = if suggestions { builder.finish() } else { builder.disable_suggestions().finish() };
    Box::new(move |document| {
        let valid = Valid::default();
        let mut request = Request::new(String::new()).data(valid.clone());
        request.set_parsed_query(document);
        // Nothing in it waits.
        let response = schema.execute(request).now_or_never();
        if valid.0.load(Ordering::Acquire) {
            return Ok(());
        }
        let error = response.and_then(|response| response.errors.into_iter().next());
        Err(error.map_or_else(|| Refusal::unavailable("The query could not be checked. Try again."), |error| refusal(&error)))
    })
}

fn refusal(error: &ServerError) -> Refusal {
    let by_a_rule = error.extensions.as_ref().is_some_and(|extensions| extensions.get("code").is_some());
    // What is refused before the rules are asked nests too deep.
    let code = if by_a_rule { Code::GraphqlValidationFailed } else { Code::QueryTooComplex };
    let message = error.message.trim_end();
    let Some(place) = error.locations.first() else { return Refusal::new(code, format!("{message}.")) };
    Refusal::new(code, format!("{message} (line {}, column {})", place.line, place.column)).at(place.line, place.column)
}

/// Set once all rules were held.
#[derive(Clone, Default)]
struct Valid(Arc<AtomicBool>);

/// Notes the outcome of validation, and runs nothing.
struct OnlyValidate;

impl ExtensionFactory for OnlyValidate {
    fn create(&self) -> Arc<dyn Extension> {
        Arc::new(Self)
    }
}

#[async_trait::async_trait]
impl Extension for OnlyValidate {
    async fn validation(
        &self,
        ctx: &ExtensionContext<'_>,
        next: NextValidation<'_>,
    ) -> Result<ValidationResult, Vec<ServerError>> {
        let outcome = next.run(ctx).await.map_err(|mut errors| {
            for error in &mut errors {
                error.extensions.get_or_insert_default().set("code", Code::GraphqlValidationFailed.as_str());
            }
            errors
        })?;
        if let Ok(valid) = ctx.data::<Valid>() {
            valid.0.store(true, Ordering::Release);
        }
        Ok(outcome)
    }

    async fn execute(&self, _: &ExtensionContext<'_>, _: Option<&str>, _: NextExecute<'_>) -> Response {
        Response::default()
    }
}
