//! The feature store rebuilt from the log alone: compared with the live one, or put in its place.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Engine;
use crate::feature::{Bounds, EmbeddedStore, FeatureStore, JourneyStore, RedisStore};
use crate::projector;

/// A store that others write to is looked at this often, until it stands still for a dump.
const STILL_TRIES: u32 = 20;
const STILL_PAUSE: Duration = Duration::from_millis(100);
/// Readers of the generation before have gone over by then.
const GENERATION_READ_ON: Duration = Duration::from_secs(3);

/// What a replay found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replayed {
    /// Events read from the log.
    pub events: u64,
    /// Whether the rebuilt store's dump is, byte for byte, the live one's; none where the live one went on meanwhile.
    pub identical: Option<bool>,
    /// The first line that differs: live, then rebuilt.
    pub difference: Option<(String, String)>,
}

impl Replayed {
    fn of(events: u64, live: &str, rebuilt: &str) -> Self {
        let difference = live
            .lines()
            .map(Some)
            .chain(std::iter::repeat(None))
            .zip(rebuilt.lines().map(Some).chain(std::iter::repeat(None)))
            .take_while(|(live, rebuilt)| live.is_some() || rebuilt.is_some())
            .find(|(live, rebuilt)| live != rebuilt)
            .map(|(live, rebuilt)| (live.unwrap_or("(nothing)").to_owned(), rebuilt.unwrap_or("(nothing)").to_owned()));
        Self { events, identical: Some(live == rebuilt), difference }
    }
}

impl Engine {
    /// Rebuilds the store from the log's start and compares; without `verify`, the rebuilt one takes the live one's place.
    /// Queries are answered meanwhile; a batch is never seen half.
    pub async fn replay(&self, verify: bool) -> anyhow::Result<Replayed> {
        if let (Some(live), false) = (&self.parts.shared_store, verify) {
            return self.replay_beside(live).await;
        }
        let _step = self.step.lock().await;
        let (until, live) = self.stand_still().await?;
        let bounds = Bounds { products: self.parts.store.sold(), ..self.bounds.clone() };
        let rebuilt = EmbeddedStore::empty(&self.snapshots, self.partitions(), bounds);
        let events = projector::advance(&*self.parts.log, &rebuilt, Some(&until)).await?;
        let replayed = Replayed::of(events, &live, &rebuilt.dump().await?);
        if let (Some(store), false) = (&self.parts.own_store, verify) {
            store.adopt(rebuilt);
            store.forget_heard();
            // Both kept snapshots: a restart must not bring the old state back.
            self.snapshot().await?;
            self.snapshot().await?;
        }
        Ok(replayed)
    }

    /// Positions, and the dump at just these.
    async fn stand_still(&self) -> anyhow::Result<(Vec<Option<u64>>, String)> {
        let positions = async || -> anyhow::Result<Vec<Option<u64>>> {
            Ok(self.parts.store.standings().await?.iter().map(|standing| standing.applied).collect())
        };
        for _ in 0..STILL_TRIES {
            let before = positions().await?;
            let dump = self.parts.store.dump().await?;
            if positions().await? == before {
                return Ok((before, dump));
            }
            tokio::time::sleep(STILL_PAUSE).await;
        }
        anyhow::bail!(
            "the feature store does not stand still for a comparison: try when fewer events come, or stop the projectors meanwhile"
        )
    }

    /// Writes the next generation while the live one is read and written, then switches. Projectors go on from the new one's checkpoints.
    async fn replay_beside(&self, live: &RedisStore) -> anyhow::Result<Replayed> {
        let before = live.generation();
        let next = live.next_generation().await?;
        let mut events = projector::advance(&*self.parts.log, &next, None).await?;
        // What came meanwhile is little by now.
        let same = match self.stand_still().await {
            Ok((until, dump)) => {
                let positions = next.standings().await?.iter().map(|standing| standing.applied).collect::<Vec<_>>();
                (until == positions).then_some(dump)
            }
            Err(_) => None,
        };
        let compared = match same {
            Some(dump) => Some(Replayed::of(events, &dump, &next.dump().await?)),
            None => None,
        };
        next.forget_heard();
        next.save().await;
        // Again, so that nothing waits for more than what came during one such pass.
        events += projector::advance(&*self.parts.log, &next, None).await?;
        let seal = live.seal().await?;
        match projector::advance(&*self.parts.log, &next, None).await {
            Ok(more) => events += more,
            Err(error) => {
                live.break_seal(seal).await?;
                return Err(error);
            }
        }
        live.switch_to(next.generation(), seal).await?;
        tokio::time::sleep(GENERATION_READ_ON).await;
        live.remove(before).await?;
        Ok(compared.map_or(Replayed { events, identical: None, difference: None }, |compared| Replayed { events, ..compared }))
    }
}
