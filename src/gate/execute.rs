//! Execute: the engine runs the operation; what it resolved is remembered for settling.

use std::sync::Arc;
use std::time::Duration;

use async_graphql::{Request, Response};

use crate::error::{Code, Refusal};
use crate::product::{Asker, Executed, Metered, Schema};

/// An executed operation.
pub struct Done {
    /// Its answer.
    pub response: Response,
    /// What was answered.
    pub metered: Arc<Metered>,
}

/// Runs the operation, or says why it did not run.
pub async fn execute(schema: &Schema, request: Request, asker: Asker, timeout: Duration) -> Result<Done, Refusal> {
    let metered = Arc::new(Metered::default());
    let executed = Executed::default();
    let request = request.data(asker).data(metered.clone()).data(executed.clone());
    let response = tokio::time::timeout(timeout, schema.execute(request))
        .await
        .map_err(|_| Refusal::unavailable("The query took too long. Ask for less at a time."))?;
    if executed.began() {
        return Ok(Done { response, metered });
    }
    Err(not_run(&response))
}

/// Parsing is done by now: what is left is validation, the choice of the operation, and variables.
fn not_run(response: &Response) -> Refusal {
    let Some(error) = response.errors.first() else {
        return Refusal::unavailable("The query did not run. Try again.");
    };
    let validation = error.extensions.as_ref().is_some_and(|extensions| extensions.get("code").is_some());
    let code = if validation { Code::GraphqlValidationFailed } else { Code::BadUserInput };
    let place = error.locations.first().map(|at| format!(" (line {}, column {})", at.line, at.column)).unwrap_or_default();
    Refusal::new(code, format!("{}{place}", error.message.trim_end()))
}
