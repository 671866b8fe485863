//! What all processes that share a prefix must agree on, in a key of its own: how many partitions there are, and which generation
//! of keys is read. A replay writes the next generation beside the one in use.

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

use super::keys;
use super::link::Link;

const VERSION: u32 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Layout {
    version: u32,
    pub(super) generation: u32,
    partitions: u16,
}

impl Layout {
    pub(super) fn new(generation: u32, partitions: u16) -> Self {
        Self { version: VERSION, generation, partitions }
    }

    /// The one that Redis has; this one where it has none, which is then the one for all.
    pub(super) async fn agree(self, link: &Link, prefix: &str) -> anyhow::Result<Self> {
        let key = keys::layout(prefix);
        let _: bool = link.query(redis::cmd("SETNX").arg(&key).arg(serde_json::to_string(&self)?)).await?;
        self.read(link, prefix).await?.context("the feature store lost its layout while it was opened: try again")
    }

    /// The one that Redis has, if this process can live with it.
    pub(super) async fn read(self, link: &Link, prefix: &str) -> anyhow::Result<Option<Self>> {
        let text: Option<String> = link.query(redis::cmd("GET").arg(keys::layout(prefix))).await?;
        text.map(|text| self.accept(prefix, &text)).transpose()
    }

    fn accept(self, prefix: &str, text: &str) -> anyhow::Result<Self> {
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

    /// Makes it the one that everybody reads.
    pub(super) async fn write(self, link: &Link, prefix: &str) -> anyhow::Result<()> {
        let text = serde_json::to_string(&self)?;
        link.query(redis::cmd("SET").arg(keys::layout(prefix)).arg(text)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_layout_is_refused_in_words() {
        let mine = Layout::new(0, 12);
        let accept = |text| mine.accept("tg", text).map_err(|error| error.to_string());
        assert_eq!(accept(r#"{"version":1,"generation":3,"partitions":12}"#).unwrap(), Layout::new(3, 12));
        assert!(accept(r#"{"version":2,"generation":0,"partitions":12}"#).unwrap_err().contains("has layout 2"));
        assert!(accept(r#"{"version":1,"generation":0,"partitions":6}"#).unwrap_err().contains("has 6 partitions"));
        assert!(accept("PONG").unwrap_err().contains("does not hold the layout"));
    }
}
