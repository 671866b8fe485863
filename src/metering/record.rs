//! The usage record: one for each executed answer, durable before the answer leaves.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::meter::Product;
use crate::clock::Micros;
use crate::ids::{KeyId, PartnerId, PlanId, RequestId};

/// Whether an answer is billed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Real data, billed.
    Live,
    /// Never rated.
    Test,
}

impl Mode {
    /// As the database and listings name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Test => "test",
        }
    }
}

/// What one answer used. JSON in the journal, so that evidence can be read without Tollgate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UsageRecord {
    /// The layout's version: 1.
    pub v: u8,
    /// The answer's request.
    pub request: RequestId,
    /// Admission time; decides the billing period.
    pub at: Micros,
    /// Who pays.
    pub partner: PartnerId,
    /// With which key.
    pub key: KeyId,
    /// Whether it is billed.
    pub mode: Mode,
    /// Under which plan,
    pub plan: PlanId,
    /// and which version of it.
    pub plan_version: i64,
    /// Units that are billed, by product; those that are zero are left out.
    pub units: BTreeMap<Product, u64>,
    /// Units of what was staler than the plan promises, by product: never rated.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub waived_units: BTreeMap<Product, u64>,
}
