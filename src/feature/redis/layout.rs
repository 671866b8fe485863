//! What all processes that share a prefix must agree on, in a key of its own: how many partitions there are, and which generation
//! of keys is read. A replay writes the next generation beside the one in use.

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

use super::{head, keys};
use crate::redis_link::Link;

const VERSION: u32 = 1;

/// KEYS: the layout. ARGV: what must be there; what is then.
const REPLACE: &str = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end redis.call('SET', KEYS[1], ARGV[2]) return 1";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Layout {
    version: u32,
    pub(super) generation: u32,
    partitions: u16,
    /// How many replays have sealed this store.
    #[serde(default, skip_serializing_if = "is_zero")]
    seals: u64,
    /// The seal of the one that is about to switch to the next generation: its number, then a mark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sealed: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Layout {
    pub(super) fn new(generation: u32, partitions: u16) -> Self {
        Self { version: VERSION, generation, partitions, seals: 0, sealed: None }
    }

    /// With a seal that nobody else has.
    pub(super) fn sealed_anew(&self) -> (Self, String) {
        let seals = self.seals.saturating_add(1);
        let seal = format!("{seals}{}", head::new_mark());
        (Self { seals, sealed: Some(seal.clone()), ..self.clone() }, seal)
    }

    pub(super) fn unsealed(&self) -> Self {
        Self { sealed: None, ..self.clone() }
    }

    pub(super) fn switched_to(&self, generation: u32) -> Self {
        Self { generation, sealed: None, ..self.clone() }
    }

    pub(super) fn seal(&self) -> Option<&str> {
        self.sealed.as_deref()
    }

    /// The one that Redis has; this one where it has none, which is then the one for all.
    pub(super) async fn agree(&self, link: &Link, prefix: &str) -> anyhow::Result<Self> {
        let key = keys::layout(prefix);
        let _: bool = link.query(redis::cmd("SETNX").arg(&key).arg(serde_json::to_string(self)?)).await?;
        self.read(link, prefix).await?.context("the feature store lost its layout while it was opened: try again")
    }

    /// The one that Redis has, if this process can live with it.
    pub(super) async fn read(&self, link: &Link, prefix: &str) -> anyhow::Result<Option<Self>> {
        let text: Option<String> = link.query(redis::cmd("GET").arg(keys::layout(prefix))).await?;
        text.map(|text| self.accept(prefix, &text)).transpose()
    }

    fn accept(&self, prefix: &str, text: &str) -> anyhow::Result<Self> {
        let there: Self = serde_json::from_str(text)
            .with_context(|| format!("the key {} does not hold the layout of a feature store", keys::layout(prefix)))?;
        ensure!(
            there.version <= VERSION,
            "the feature store under \"{prefix}\" has layout {}, but this version of Tollgate knows layout {VERSION}: upgrade it",
            there.version
        );
        ensure!(
            there.partitions == self.partitions,
            "the feature store under \"{prefix}\" has {} partitions, but the event log has {}: use another prefix, or the log that \
             it was made from",
            there.partitions,
            self.partitions
        );
        Ok(there)
    }

    /// Puts `next` in this one's place, if this is the one that Redis has.
    pub(super) async fn replace(&self, next: &Self, link: &Link, prefix: &str) -> anyhow::Result<bool> {
        let (this, next) = (serde_json::to_string(self)?, serde_json::to_string(next)?);
        // Not sent twice by itself: the second would find what the first put there.
        let replaced = link.raw(redis::cmd("EVAL").arg(REPLACE).arg(1).arg(keys::layout(prefix)).arg(this).arg(next)).await;
        replaced.with_context(|| link.failed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_layout_is_refused_in_words() {
        let mine = Layout::new(0, 12);
        let accept = |text: &str| mine.accept("tg", text).map_err(|error| error.to_string());
        assert_eq!(accept(r#"{"version":1,"generation":3,"partitions":12}"#).unwrap(), Layout::new(3, 12));
        let sealed = Layout::new(3, 12).sealed_anew().0;
        assert_eq!(accept(&serde_json::to_string(&sealed).unwrap()).unwrap(), sealed);
        assert!(accept(r#"{"version":2,"generation":0,"partitions":12}"#).unwrap_err().contains("has layout 2"));
        assert!(accept(r#"{"version":1,"generation":0,"partitions":6}"#).unwrap_err().contains("has 6 partitions"));
        assert!(accept("PONG").unwrap_err().contains("does not hold the layout"));
    }
}
