//! Events that Tollgate writes itself: everything that a decision rests on stands in the log.

use bytes::Bytes;
use serde_json::{Value, json};

use super::decode::{TOLD, WATERMARK};
use super::log::NewRecord;
use crate::clock::Micros;
use crate::journey::message::Told;

const SOURCE: &str = "tollgate";

fn record(partition: u16, kind: &str, id: &str, subject: Option<&str>, time: Micros, data: &Value) -> NewRecord {
    let mut event = json!({
        "specversion": "1.0", "id": id, "source": SOURCE, "type": kind, "time": time.timestamp().to_string(), "data": data,
    });
    if let (Some(subject), Some(event)) = (subject, event.as_object_mut()) {
        event.insert("subject".to_owned(), subject.into());
    }
    NewRecord { partition, subject: subject.unwrap_or_default().to_owned(), payload: Bytes::from(event.to_string()) }
}

/// The event time of `partition` moves on to `time`.
pub fn watermark(partition: u16, time: Micros) -> NewRecord {
    record(partition, WATERMARK, &format!("watermark/{partition}/{}", time.0), None, time, &json!({}))
}

/// What a partition tells the `home` of a product.
pub fn told(home: u16, told: &Told, now: Micros) -> anyhow::Result<NewRecord> {
    let number = |message: Option<&crate::journey::message::Message>| message.map_or(0, |message| message.number);
    let (first, last) = (number(told.messages.first()), number(told.messages.last()));
    let id = format!("told/{}/{}/{first}-{last}", told.product, told.partition);
    Ok(record(home, TOLD, &id, Some(&told.product), now, &told.write()?))
}
