//! Execute: the engine runs the operation; what it noticed is remembered for settling.

use std::sync::Arc;
use std::time::Duration;

use async_graphql::Response;

use crate::error::{Code, Refusal};
use crate::operation::Ready;
use crate::product::{Asker, Noted, Schema};

/// An executed operation.
pub struct Done {
    /// Its answer.
    pub response: Response,
    /// What the resolvers noticed.
    pub noted: Arc<Noted>,
}

/// Runs the operation. It is validated, and its variables are checked: what fails now is a field.
pub async fn execute(schema: &Schema, ready: &mut Ready, asker: Asker, timeout: Duration) -> Result<Done, Refusal> {
    let noted = Arc::new(Noted::default());
    let request = ready.request().data(asker).data(noted.clone());
    let mut response = tokio::time::timeout(timeout, schema.execute(request))
        .await
        .map_err(|_| Refusal::unavailable("The query took too long. Ask for less at a time."))?;
    ready.tidy(&mut response.data);
    for error in &mut response.errors {
        let extensions = error.extensions.get_or_insert_default();
        // Ours have one; the engine's own are about arguments.
        if extensions.get("code").is_none() {
            extensions.set("code", Code::BadUserInput.as_str());
        }
    }
    Ok(Done { response, noted })
}
