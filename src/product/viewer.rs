//! Who asks: what a partner needs to know of itself.

use async_graphql::{ID, Object};

use super::asker::Asker;
use super::scalars::DateTime;
use crate::metering::{Mode, Product};

/// You.
pub(super) struct Viewer(pub(super) Asker);

/// You: partner, key, plan and scope. Free.
#[Object]
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

    /// What your plan sells you.
    async fn products(&self) -> Vec<&'static str> {
        let plan = self.0.account().plan.as_ref();
        plan.map(|plan| plan.products.iter().copied().map(Product::as_str).collect()).unwrap_or_default()
    }

    /// Which rows you see, as KEY=VALUE: values of one key are alternatives, different keys all hold. Empty: all rows.
    async fn scope(&self) -> Vec<String> {
        self.0.scope().pairs()
    }
}
