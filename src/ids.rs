//! Ids: a newtype each, with a prefix outside, so that one kind cannot be passed, or pasted, for another.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::clock::Micros;

/// Prefix + ULID in lower case: sorts by the time it was made.
fn generate(prefix: &str, now: Micros, rng: &mut impl Rng) -> Arc<str> {
    let milliseconds = u64::try_from(now.0 / 1000).unwrap_or(0);
    let ulid = ulid::Ulid::from_parts(milliseconds, rng.random());
    format!("{prefix}{}", ulid.to_string().to_ascii_lowercase()).into()
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text as it stands outside.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        /// Maps keyed by it are asked by text, without a copy of the text.
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        id!($(#[$doc])* $name);

        impl $name {
            /// A new one.
            pub fn new(now: Micros, rng: &mut impl Rng) -> Self {
                Self(generate($prefix, now, rng))
            }
        }
    };
}

id!(
    /// A partner: who queries and pays.
    PartnerId, "pt_"
);
id!(
    /// A subscription: a partner on a plan version over time.
    SubscriptionId, "sub_"
);
id!(
    /// One request at the gate; it is in the answer, the log line and the usage record.
    RequestId, "req_"
);
id!(
    /// One gateway process's place: its journal folder's name in the ledger.
    ReplicaId, "rep_"
);
id!(
    /// An invoice, from its draft on; what partners see is its number.
    InvoiceId, "inv_"
);
id!(
    /// A credit note; what partners see is its number.
    CreditNoteId, "cn_"
);
id!(
    /// An operator's token.
    TokenId, "tok_"
);
id!(
    /// A plan, named by the operator (`starter`).
    PlanId
);
id!(
    /// The public part of an API key or a producer key.
    KeyId
);

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn ids_carry_their_prefix_and_sort_by_time() {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        let earlier = PartnerId::new(Micros(1_000_000), &mut rng);
        let later = PartnerId::new(Micros(2_000_000), &mut rng);
        assert!(earlier.as_str().starts_with("pt_"));
        assert_eq!(earlier.as_str().len(), 3 + 26);
        assert!(earlier < later);
    }
}
