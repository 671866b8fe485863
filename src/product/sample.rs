//! What test keys see: a small shop that never changes, so that a partner can build against it. All of it, whatever the
//! partner's scope: it is nobody's data. It is always fresh.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use serde_json::json;

use crate::clock::Micros;
use crate::event::{NewRecord, own, read};
use crate::feature::{Bounds, Change, ChangeBatch, EmbeddedStore, FeatureStore, JourneyStore, Limits};
use crate::journey::{VisitorKey, product};

const EVENTS: &str = include_str!("sample.ndjson");
const JOURNEYS: &str = include_str!("sample_journeys.toml");
/// Two weeks of January 2026, from a Monday on. Every start counts them: they are few.
const JOURNEYS_BEGIN: Micros = Micros(1_767_571_200_000_000);
const JOURNEY_DAYS: i64 = 14;
const VISITORS: i64 = 30;
/// 2026-02-02T09:00:00Z, behind all of them.
const APPENDED: Micros = Micros(1_770_022_800_000_000);

/// The sample set.
pub async fn sample() -> anyhow::Result<EmbeddedStore> {
    let limits = Limits { dedup_window: Duration::from_secs(3600), dedup_ids_max: 10_000, history_kept: 100 };
    let bounds = Bounds { limits, visitors: VisitorKey::new(&[0; 32]), products: vec![product::parse(JOURNEYS)?.into()] };
    // It is never written: its folder is not read.
    let store = EmbeddedStore::empty(Path::new(""), 1, bounds);
    let mut payloads: Vec<Bytes> = EVENTS.lines().map(Bytes::from).collect();
    payloads.extend(journeys());
    payloads.push(own::watermark(0, APPENDED).payload);
    apply(&store, payloads).await.context("the sample set cannot be applied")?;
    loop {
        let told = store.untold(0, &|_| 0, usize::MAX);
        let records = told.iter().map(|told| own::told(0, told, APPENDED)).collect::<anyhow::Result<Vec<NewRecord>>>()?;
        if records.is_empty() {
            break;
        }
        apply(&store, records.into_iter().map(|record| record.payload).collect()).await?;
        told.iter().for_each(|told| store.heard(0, &told.product, told.messages.last().map_or(0, |message| message.number)));
    }
    store.commit(0, Some(Micros(i64::MAX))).await?;
    Ok(store)
}

async fn apply(store: &EmbeddedStore, payloads: Vec<Bytes>) -> anyhow::Result<()> {
    let after = store.resume(0).await?;
    let begin = after.map_or(0, |last| last + 1);
    let mut changes = Vec::new();
    for (offset, payload) in (begin..).zip(payloads) {
        let event =
            read(&payload, APPENDED).map_err(|reason| anyhow::anyhow!("event {} of the sample set: {reason}", offset + 1))?;
        changes.push(Change { offset, appended: APPENDED, event: Some(event), payload });
    }
    store.apply(0, ChangeBatch { after, changes }).await?;
    Ok(())
}

/// Visitors who look at noon, and some of whom buy: enough of them to be told of.
fn journeys() -> Vec<Bytes> {
    let mut events = Vec::new();
    let mut add = |visitor: i64, day: i64, minute: i64, action: &str| {
        let time = Micros(JOURNEYS_BEGIN.0 + (day * 1440 + 660 + minute) * 60_000_000);
        let brand = if visitor % 2 == 0 { "Alba" } else { "Birk" };
        let event = json!({
            "specversion": "1.0", "id": format!("sample-{visitor}-{day}-{minute}"), "source": "/sample", "type": "journey.recorded",
            "subject": format!("v{visitor}"), "time": time.timestamp().to_string(),
            "data": { "visitor": format!("v{visitor}"), "action": action, "brand": brand },
        });
        events.push((time, Bytes::from(event.to_string())));
    };
    for day in 0..JOURNEY_DAYS {
        // Fewer come in the second week.
        for visitor in 0..VISITORS - day / 7 * 6 {
            let minute = visitor * 2;
            add(visitor, day, minute, "view");
            if (visitor / 2 + day) % 2 == 0 {
                add(visitor, day, minute + 1, "add_to_cart");
                if (visitor / 2 + day) % 4 == 0 {
                    add(visitor, day, minute + 3 + visitor % 5, "purchase");
                }
            }
        }
    }
    events.sort_by_key(|(time, _)| *time);
    events.into_iter().map(|(_, payload)| payload).collect()
}
