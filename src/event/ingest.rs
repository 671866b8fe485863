//! The way into the event log: check each event, sort out duplicates and rejects, append the rest.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::deadletter::{DeadLetters, Letter, Origin, Payload};
use super::decode::{Identity, decode};
use super::log::{EventLog, NewRecord};
use super::partitioner::partition_of;
use super::producer::Producer;
use crate::clock::Clock;
use crate::error::Refusal;
use crate::feature::FeatureStore;
use crate::telemetry::Metrics;

/// How the reason begins where a producer key may not write a source.
pub(crate) const OUTSIDE: &str = "source is outside";

/// One event as it came, with its line or its place in the batch.
#[derive(Clone, Debug)]
pub struct Line {
    /// From 1.
    pub number: u64,
    /// The event.
    pub content: Content,
}

/// What a line holds.
#[derive(Clone, Debug)]
pub enum Content {
    /// All of it.
    Whole(Bytes),
    /// It was larger than events may be.
    Oversized(Payload),
}

/// What became of a request's events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// In the log now.
    pub accepted: u64,
    /// In the log already, by `source` and `id`.
    pub duplicates: u64,
    /// In the dead-letter log now.
    pub rejected: Vec<Rejected>,
}

/// An event that was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// Its line, or its place in the batch.
    pub line: u64,
    /// Its id, where it has a readable one.
    pub id: Option<String>,
    /// What is wrong with it.
    pub reason: String,
}

/// Events that are on their way between the log and the feature store, which does not know their ids yet.
///
/// `true` once the log has the event: only then may another copy be answered as a duplicate.
#[derive(Default)]
pub struct InFlight(Mutex<HashMap<Identity, bool>>);

impl InFlight {
    /// The feature store knows these now.
    pub fn applied(&self, ids: impl Iterator<Item = Identity>) {
        let mut waiting = self.0.lock();
        for id in ids {
            waiting.remove(&id);
        }
    }

    fn appended(&self, ids: &[Identity], is_there: bool) {
        let mut waiting = self.0.lock();
        for id in ids {
            if !is_there {
                waiting.remove(id);
            } else if let Some(durable) = waiting.get_mut(id) {
                // The projector may have been faster: then there is nothing left to mark.
                *durable = true;
            }
        }
    }
}

/// Takes events in.
pub struct Ingest {
    /// Where they go.
    pub log: Arc<dyn EventLog>,
    /// Knows the ids of those already applied.
    pub features: Arc<dyn FeatureStore>,
    /// Where rejects go.
    pub dead_letters: Arc<DeadLetters>,
    /// Shared with the projector of this process, where it applies all that is appended here.
    pub in_flight: Option<Arc<InFlight>>,
    /// Append time.
    pub clock: Clock,
    /// `events.event_bytes_max`.
    pub event_bytes_max: usize,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

impl Ingest {
    /// Takes `lines` in, durably when it returns. `producer` is none for the operator's own command.
    pub async fn take(&self, lines: Vec<Line>, producer: Option<&Producer>) -> Result<Report, Refusal> {
        let now = self.clock.now();
        let mut report = Report::default();
        let mut letters = Vec::new();
        let mut records = Vec::new();
        let mut fresh = Vec::new();
        let mut of_this_request = HashSet::new();
        for line in lines {
            let checked = match &line.content {
                Content::Oversized(payload) => Err((None, self.too_large(payload.bytes))),
                Content::Whole(bytes) if bytes.len() > self.event_bytes_max => Err((None, self.too_large(bytes.len() as u64))),
                Content::Whole(bytes) => match decode(bytes, now) {
                    Err(invalid) => Err((readable_id(bytes), invalid.0)),
                    Ok(event) => match producer {
                        Some(producer) if !producer.may_write(&event.source) => Err((
                            Some(event.id),
                            format!("{OUTSIDE} of what the producer key may write ({})", producer.sources.join(", ")),
                        )),
                        _ => Ok((event, bytes.clone())),
                    },
                },
            };
            match checked {
                Err((id, reason)) => {
                    let payload = match line.content {
                        Content::Whole(bytes) => Payload::of(&bytes),
                        Content::Oversized(payload) => payload,
                    };
                    let producer = producer.map(|producer| producer.name.clone());
                    let origin = Origin::Ingest { producer, line: line.number };
                    letters.push(Letter { reason: reason.clone(), origin, payload });
                    report.rejected.push(Rejected { line: line.number, id, reason });
                }
                Ok((event, payload)) => {
                    let identity = event.identity();
                    let partition = partition_of(&event.subject, self.log.partitions());
                    let known = !of_this_request.insert(identity)
                        || self.claim(identity)
                        || self.forget_if(self.features.has_seen(partition, identity, now), identity);
                    if known {
                        report.duplicates += 1;
                    } else {
                        fresh.push(identity);
                        records.push(NewRecord { partition, subject: event.subject, payload });
                    }
                }
            }
        }
        report.accepted = records.len() as u64;
        if !records.is_empty() {
            let appended = self.log.append(records).await;
            if let Some(in_flight) = &self.in_flight {
                in_flight.appended(&fresh, appended.is_ok());
            }
            if let Err(error) = appended {
                tracing::error!(%error, "events refused");
                return Err(Refusal::unavailable(
                    "The event log takes no events for now. Send the request again; what was accepted counts once.",
                ));
            }
        }
        self.dead_letters.append(letters).await.map_err(|error| {
            tracing::error!(%error, "rejected events could not be kept");
            Refusal::unavailable("Rejected events cannot be kept for now. Send the request again; what was accepted counts once.")
        })?;
        self.metrics.events_taken(&report);
        Ok(report)
    }

    /// Takes one event that was refused before, `from_log` by the projector; the reason when it is refused again, without another dead letter.
    pub async fn retry(&self, payload: Bytes, from_log: bool) -> anyhow::Result<Result<(), String>> {
        let now = self.clock.now();
        if payload.len() > self.event_bytes_max {
            return Ok(Err(self.too_large(payload.len() as u64)));
        }
        if let Err(invalid) = decode(&payload, now) {
            return Ok(Err(invalid.0));
        }
        let report = self.take(vec![Line { number: 1, content: Content::Whole(payload) }], None).await?;
        if report.accepted == 0 && from_log {
            return Ok(Err("the log has it, and it was refused when it was applied: send it anew under another id".into()));
        }
        Ok(Ok(()))
    }

    /// Whether the log has the event, unapplied yet; if nobody is bringing it, we are.
    fn claim(&self, identity: Identity) -> bool {
        self.in_flight.as_ref().is_some_and(|waiting| *waiting.0.lock().entry(identity).or_insert(false))
    }

    fn forget_if(&self, known: bool, identity: Identity) -> bool {
        if known && let Some(waiting) = &self.in_flight {
            waiting.0.lock().remove(&identity);
        }
        known
    }

    fn too_large(&self, bytes: u64) -> String {
        format!("the event has {bytes} bytes, but may have {}: split it, or raise events.event_bytes_max", self.event_bytes_max)
    }
}

/// The id of an event that is otherwise wrong, so that its producer finds it.
fn readable_id(bytes: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Id {
        id: String,
    }
    serde_json::from_slice::<Id>(bytes).ok().map(|event| event.id.chars().filter(|c| !c.is_control()).take(256).collect())
}
