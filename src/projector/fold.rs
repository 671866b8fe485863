//! From a record of the log to the change that the store applies. Pure.

use crate::event::{self, Invalid, Record};
use crate::feature::Change;

/// The change that `record` makes. An event that does not keep the contract moves the position and changes nothing; why is
/// the second answer, for the dead-letter log.
pub fn fold(record: Record, partitions: u16) -> (Change, Option<Invalid>) {
    let decoded = event::read(&record.payload, record.appended).and_then(|event| {
        if event.is_own() {
            return Ok(event);
        }
        let belongs = event::partition_of(&event.subject, partitions);
        if belongs == record.at.partition {
            return Ok(event);
        }
        Err(Invalid(format!(
            "the event lies in partition {}, but its subject belongs to {belongs}: key messages by subject",
            record.at.partition
        )))
    });
    let (event, invalid) = match decoded {
        Ok(event) => (Some(event), None),
        Err(invalid) => (None, Some(invalid)),
    };
    (Change { offset: record.at.offset, appended: record.appended, event, payload: record.payload }, invalid)
}
