//! What test keys see: a small shop that never changes, so that a partner can build against it. All of it, whatever the
//! partner's scope: it is nobody's data. It is always fresh.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use crate::clock::Micros;
use crate::event::decode;
use crate::feature::{Change, ChangeBatch, EmbeddedStore, FeatureStore, Limits};

const EVENTS: &str = include_str!("sample.ndjson");
/// 2026-02-02T09:00:00Z, behind all of them.
const APPENDED: Micros = Micros(1_770_022_800_000_000);

/// The sample set.
pub async fn sample() -> anyhow::Result<EmbeddedStore> {
    let limits = Limits { dedup_window: Duration::from_secs(3600), dedup_ids_max: 10_000, history_kept: 100 };
    // It is never written: its folder is not read.
    let store = EmbeddedStore::empty(Path::new(""), 1, limits);
    let mut changes = Vec::new();
    for (place, line) in EVENTS.lines().enumerate() {
        let event = decode(line.as_bytes(), APPENDED)
            .map_err(|reason| anyhow::anyhow!("line {} of the sample set: {reason}", place + 1))?;
        changes.push(Change { offset: place as u64, appended: APPENDED, event: Some(event), payload: line.into() });
    }
    store.apply(0, ChangeBatch { after: None, changes }).await.context("the sample set cannot be applied")?;
    store.commit(0, Some(Micros(i64::MAX))).await?;
    Ok(store)
}
