//! A body of `POST /v1/events`: lines, then events.

use std::io::{BufRead, BufReader};

use tollgate::clock::Micros;
use tollgate::event::ndjson::Lines;
use tollgate::event::{Body, Content, Event, decode, partition_of};

use serde_json::{Value, json};

/// 2026-11-22, so that an input means the same in every run.
const NOW: Micros = Micros(1_795_305_600_000_000);
/// Small, so that a fuzzer's lines get past it.
const EVENT_BYTES_MAX: usize = 4096;
const REASON_BYTES_MAX: usize = 512;

/// How many events of an input were taken and refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub taken: usize,
    pub refused: usize,
}

/// Reads `data` as NDJSON, and as one event: `application/cloudevents+json` may hold line ends.
///
/// # Panics
///
/// - The lines depend on how the bytes come in, or hold what is not in the input.
/// - A refusal is not one short line of text.
/// - What was taken reads otherwise once it is written again.
pub fn event(data: &[u8]) -> Outcome {
    let lines = lines(data);
    assert_eq!(lines, self::lines(BufReader::with_capacity(7, data)), "the lines depend on the buffer");
    let mut outcome = Outcome::default();
    for line in lines {
        match line {
            Ok(bytes) => one(&bytes, &mut outcome),
            Err(_) => outcome.refused += 1,
        }
    }
    if data.contains(&b'\n') {
        one(data, &mut Outcome::default());
    }
    outcome
}

/// Lines that came whole, and the sizes of those that did not.
fn lines(input: impl BufRead) -> Vec<Result<Vec<u8>, u64>> {
    let mut lines = Lines::new(input, EVENT_BYTES_MAX);
    let (mut found, mut before) = (Vec::new(), 0);
    while let Some((line, _)) = lines.next_line().expect("reading from memory does not fail") {
        assert!(line.number > before, "line numbers go up");
        before = line.number;
        found.push(match line.content {
            Content::Whole(bytes) => {
                assert!(!bytes.trim_ascii().is_empty() && !bytes.contains(&b'\n') && bytes.len() <= EVENT_BYTES_MAX);
                Ok(bytes.to_vec())
            }
            Content::Oversized(payload) => {
                assert!(payload.bytes > EVENT_BYTES_MAX as u64 && payload.sha256.len() == 64);
                Err(payload.bytes)
            }
        });
    }
    found
}

fn one(bytes: &[u8], outcome: &mut Outcome) {
    match decode(bytes, NOW) {
        Err(invalid) => {
            let reason = invalid.0;
            assert!(!reason.is_empty() && !reason.chars().any(char::is_control), "not one line: {reason:?}");
            assert!(reason.len() <= REASON_BYTES_MAX, "{} bytes of reason: {reason:.200}…", reason.len());
            outcome.refused += 1;
        }
        Ok(event) => {
            let again = decode(encode(&event).to_string().as_bytes(), NOW);
            assert_eq!(again.as_ref(), Ok(&event), "it reads otherwise once it is written again");
            assert!(partition_of(&event.subject, 12) < 12);
            outcome.taken += 1;
        }
    }
}

/// Written from contract.md. What the decoder checks and lets go of, such as a reason, is made up.
fn encode(Event { id, source, subject, time, body }: &Event) -> Value {
    let instant = |at: Micros| at.timestamp().to_string();
    let (kind, data) = match body {
        Body::ProductUpserted { title, brand, category, supplier, version } => (
            "catalog.product.upserted",
            json!({
                "sku": subject, "title": title, "brand": brand, "category": category, "supplier": supplier, "version": version,
            }),
        ),
        Body::InventoryCounted { location, on_hand, reserved, version } => (
            "inventory.counted",
            json!({ "sku": subject, "location": location, "onHand": on_hand, "reserved": reserved, "version": version }),
        ),
        Body::InventoryAdjusted { location, delta } => {
            ("inventory.adjusted", json!({ "sku": subject, "location": location, "delta": delta, "reason": "any" }))
        }
        Body::PriceSet { market, currency, amount, list_amount, version, valid_from } => (
            "price.set",
            json!({
                "sku": subject, "market": market, "currency": currency.code(), "amount": amount.to_string(),
                "listAmount": list_amount.map(|amount| amount.to_string()), "version": version,
                "validFrom": valid_from.map(instant),
            }),
        ),
        Body::JourneyRecorded { action, session, brand, dimensions } => (
            "journey.recorded",
            json!({ "visitor": subject, "action": action, "session": session, "brand": brand, "dimensions": dimensions }),
        ),
        Body::VisitorErased => ("visitor.erased", json!({ "visitor": subject })),
        Body::WatermarkAdvanced | Body::JourneyTold(_) => panic!("producers cannot say what Tollgate alone says"),
        Body::Compensated { compensates } => ("event.compensated", json!({ "compensates": compensates, "reason": "any" })),
    };
    json!({
        "specversion": "1.0", "id": id, "source": source, "type": kind, "subject": subject, "time": instant(*time), "data": data,
    })
}
