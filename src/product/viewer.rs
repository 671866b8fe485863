//! Who asks: what a partner needs to know of itself.

use async_graphql::{ID, Object};

use super::asker::Asker;
use super::cost::{cost, free, list_size};
use super::scalars::DateTime;
use crate::directory::Scope;
use crate::metering::{Mode, Product};

/// You.
pub(super) struct Viewer(pub(super) Asker);

/// You: partner, key, plan and scope. Free.
#[Object(directive = cost::apply(free()))]
impl Viewer {
    /// Your partner id.
    async fn partner_id(&self) -> ID {
        ID(self.0.account().partner.id.to_string())
    }

    /// Your name.
    async fn name(&self) -> &str {
        &self.0.account().partner.name
    }

    /// Your billing months are calendar months of this time zone.
    async fn timezone(&self) -> &str {
        &self.0.account().partner.timezone
    }

    /// The public part of the key that you asked with.
    async fn key_id(&self) -> ID {
        ID(self.0.credential.id.to_string())
    }

    /// Whether answers to this key are billed: `live`, or not: `test`.
    async fn key_mode(&self) -> &'static str {
        match self.0.credential.mode {
            Mode::Live => "live",
            Mode::Test => "test",
        }
    }

    /// When this key stops being good; null when it does not.
    async fn key_expires_at(&self) -> Option<DateTime> {
        self.0.credential.expires_at.map(DateTime)
    }

    /// Your plan version, such as `starter@1`.
    async fn plan(&self) -> Option<String> {
        self.0.account().plan.as_ref().map(|plan| format!("{}@{}", plan.id, plan.version))
    }

    /// What your plan, and this key, sell you.
    #[graphql(directive = list_size::apply(Some(20), None, None, false))]
    async fn products(&self) -> Vec<&'static str> {
        Product::ALL.into_iter().filter(|product| self.0.terms.sells(*product)).map(Product::as_str).collect()
    }

    /// Which rows you see, as KEY=VALUE: values of one key are alternatives, different keys all hold. Empty: all rows.
    #[graphql(directive = list_size::apply(Some(Scope::VALUES_MAX as i32), None, None, false))]
    async fn scope(&self) -> Vec<String> {
        self.0.scope().pairs()
    }
}
