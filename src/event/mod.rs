//! The event contract: CloudEvents 1.0 JSON (contract.md, Events), read strictly, told in one sentence when wrong.

mod decode;
mod embedded;
mod ingest;
mod kafka;
mod log;
mod partitioner;

pub mod deadletter;
pub mod ndjson;
pub mod own;
pub mod producer;

pub use decode::{Body, Dimensions, Event, Identity, Invalid, decode, read};
pub use embedded::EmbeddedLog;
pub(crate) use ingest::OUTSIDE;
pub use ingest::{Content, InFlight, Ingest, Line, Rejected, Report};
pub use kafka::{KafkaLog, KafkaOptions};
pub use log::{Batch, EventLog, EventReader, LogError, NewRecord, Position, Positions, Record};
pub use partitioner::partition_of;
