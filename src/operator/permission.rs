//! Permissions as extractors: a handler that takes [`Finance`] cannot be called without it.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::response::Response;

use super::{Operator, Role};
use crate::app::App;
use crate::error::{Code, Refusal};
use crate::gate::answer;
use crate::ids::RequestId;

macro_rules! permission {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $name(pub Operator);

        impl FromRequestParts<Arc<App>> for $name {
            /// 401 without a good token, 403 with one of another role.
            type Rejection = Response;

            async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Self::Rejection> {
                permit(parts, app, Role::$name).map(Self).map_err(|refusal| {
                    let request = RequestId::new(app.clock.now(), &mut *app.gate.ids.lock());
                    tracing::info!(request.id = %request, path = parts.uri.path(), code = refusal.code.as_str(), "an operator was refused");
                    answer::problem(&request, &refusal)
                })
            }
        }
    };
}

permission!(
    /// Whoever may do everything.
    Admin
);
permission!(
    /// Whoever may see and change invoices.
    Finance
);
permission!(
    /// Whoever may look on.
    Viewer
);

fn permit(parts: &Parts, app: &App, needed: Role) -> Result<Operator, Refusal> {
    let refused = |message: String| Refusal::new(Code::Unauthenticated, message);
    let header = parts.headers.get(AUTHORIZATION).ok_or_else(|| {
        refused("There is no token. Send Authorization: Bearer … with one of: tollgate operator token --role finance".to_owned())
    })?;
    let token = header.to_str().ok().and_then(|value| {
        let (scheme, token) = value.trim().split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    let token = token.ok_or_else(|| refused("The Authorization header holds no bearer token.".to_owned()))?;
    let operator = app.operators.verify(token, app.clock.now()).map_err(|untrusted| refused(untrusted.to_string()))?;
    if !operator.role.may(needed) {
        let what = format!("This takes the role {needed}, and your token has the role {}.", operator.role);
        return Err(Refusal::new(Code::Forbidden, what));
    }
    Ok(operator)
}
