//! From an event's bytes to an [`Event`], or to the one sentence that says what is wrong with them.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::clock::Micros;
use crate::journey::message::Told;
use crate::money::Currency;

/// Ids, SKUs, visitors, locations: in bytes.
const NAME_BYTES_MAX: usize = 256;
/// Titles and sources.
const TEXT_BYTES_MAX: usize = 1024;
/// Counts and deltas stay far enough from the ends of i64 that no history of them can get there.
const QUANTITY_MAX: i64 = 1_000_000_000_000;
/// Types of Tollgate's own.
pub(super) const WATERMARK: &str = "watermark.advanced";
pub(super) const TOLD: &str = "journey.told";
/// How far an event's own time may lie past its append.
const AHEAD_MAX: Duration = Duration::from_secs(24 * 3600);

/// What identifies an event: `source` + `id`, as the first half of their SHA-256.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Identity([u8; 16]);

impl Identity {
    /// Of the event `id` of `source`.
    pub fn of(source: &str, id: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(source.as_bytes());
        hash.update([0]);
        hash.update(id.as_bytes());
        let mut half = [0; 16];
        half.copy_from_slice(&hash.finalize()[..16]);
        Self(half)
    }

    /// As they are.
    pub(crate) fn bytes(self) -> [u8; 16] {
        self.0
    }

    /// Its first bits, as even as those of any hash.
    pub(crate) fn prefix(self) -> u16 {
        u16::from_be_bytes([self.0[0], self.0[1]])
    }
}

/// An event that keeps the contract.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Unique within its source.
    pub id: String,
    /// Who says it.
    pub source: String,
    /// The SKU or the visitor it is about.
    pub subject: String,
    /// When it happened, by its producer.
    pub time: Micros,
    /// What happened.
    pub body: Body,
}

/// The types of the contract.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "contract.md, Events, names each field")]
pub enum Body {
    ProductUpserted {
        title: String,
        brand: String,
        category: String,
        supplier: String,
        version: Option<i64>,
    },
    InventoryCounted {
        location: String,
        on_hand: i64,
        reserved: i64,
        version: Option<i64>,
    },
    InventoryAdjusted {
        location: String,
        delta: i64,
    },
    PriceSet {
        market: String,
        currency: Currency,
        amount: Decimal,
        list_amount: Option<Decimal>,
        version: Option<i64>,
        valid_from: Option<Micros>,
    },
    JourneyRecorded {
        action: String,
        session: Option<String>,
        brand: Option<String>,
        dimensions: Dimensions,
    },
    VisitorErased,
    /// Tollgate's own: event time moves on though no event comes.
    WatermarkAdvanced,
    /// Tollgate's own: what a partition has of a journey product.
    JourneyTold(Told),
    Compensated {
        compensates: String,
    },
}

/// The dimensions of a journey event.
pub type Dimensions = BTreeMap<String, String>;

/// Why an event cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub String);

impl Event {
    /// Whether Tollgate wrote it. Such events lie where Tollgate put them, and each knows what was told before it: they need no id.
    pub fn is_own(&self) -> bool {
        matches!(self.body, Body::WatermarkAdvanced | Body::JourneyTold(_))
    }

    /// What identifies it.
    pub fn identity(&self) -> Identity {
        Identity::of(&self.source, &self.id)
    }
}

#[derive(Deserialize)]
struct Envelope<'a> {
    specversion: String,
    id: String,
    source: String,
    r#type: String,
    subject: Option<String>,
    time: Option<String>,
    datacontenttype: Option<String>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

/// Reads one event of a producer that is about to be appended at `appended`.
pub fn decode(bytes: &[u8], appended: Micros) -> Result<Event, Invalid> {
    let event = read(bytes, appended)?;
    if event.is_own() {
        return Err(Invalid(format!("{WATERMARK} and {TOLD} are written by Tollgate alone")));
    }
    Ok(event)
}

/// Reads one event that was appended at `appended`: a producer's, or one of Tollgate's own.
pub fn read(bytes: &[u8], appended: Micros) -> Result<Event, Invalid> {
    let text = std::str::from_utf8(bytes).map_err(|_| Invalid("the event is not UTF-8".into()))?;
    let envelope: Envelope<'_> = serde_json::from_str(text).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => Invalid(format!("the event is no CloudEvent: {}", told(&error))),
        _ => Invalid(format!("the event is not JSON: {}", told(&error))),
    })?;
    if envelope.specversion != "1.0" {
        return Err(Invalid(format!("specversion is \"{}\", but must be \"1.0\"", short(&envelope.specversion))));
    }
    if let Some(kind) = &envelope.datacontenttype
        && !kind.starts_with("application/json")
    {
        return Err(Invalid(format!("datacontenttype is \"{}\", but must be application/json", short(kind))));
    }
    let id = named("id", envelope.id, NAME_BYTES_MAX)?;
    let source = named("source", envelope.source, TEXT_BYTES_MAX)?;
    let is_watermark = envelope.r#type == WATERMARK;
    let subject = match envelope.subject {
        None if is_watermark => String::new(),
        subject => named("subject", subject.ok_or_else(|| Invalid("subject is missing".into()))?, NAME_BYTES_MAX)?,
    };
    let time = instant("time", &envelope.time.ok_or_else(|| Invalid("time is missing".into()))?)?;
    if is_watermark {
        return Ok(Event { id, source, subject, time, body: Body::WatermarkAdvanced });
    }
    if time > appended.plus(AHEAD_MAX) {
        return Err(Invalid(format!("time is {time}, more than 24 h in the future: check the producer's clock")));
    }
    let data = envelope.data.ok_or_else(|| Invalid("data is missing".into()))?;
    let body = body(&envelope.r#type, data, &subject)?;
    Ok(Event { id, source, subject, time, body })
}

fn body(kind: &str, data: &RawValue, subject: &str) -> Result<Body, Invalid> {
    #[derive(Deserialize)]
    struct Product {
        sku: String,
        title: String,
        brand: String,
        category: String,
        supplier: String,
        version: Option<i64>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Count {
        sku: String,
        location: String,
        on_hand: i64,
        reserved: i64,
        version: Option<i64>,
    }
    #[derive(Deserialize)]
    struct Adjustment {
        sku: String,
        location: String,
        delta: i64,
        reason: String,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Price {
        sku: String,
        market: String,
        currency: String,
        amount: String,
        list_amount: Option<String>,
        version: Option<i64>,
        valid_from: Option<String>,
    }
    #[derive(Deserialize)]
    struct Journey {
        visitor: String,
        session: Option<String>,
        action: String,
        sku: Option<String>,
        brand: Option<String>,
        value: Option<String>,
        #[serde(default)]
        dimensions: Dimensions,
    }
    #[derive(Deserialize)]
    struct Erasure {
        visitor: String,
    }
    #[derive(Deserialize)]
    struct Compensation {
        compensates: String,
        reason: String,
    }
    let same = |field: &str, value: &str| {
        if value == subject {
            return Ok(());
        }
        Err(Invalid(format!(
            "data.{field} is \"{}\", but subject is \"{}\": they must be the same",
            short(value),
            short(subject)
        )))
    };
    match kind {
        "catalog.product.upserted" => {
            let Product { sku, title, brand, category, supplier, version } = parse(kind, data)?;
            same("sku", &sku)?;
            Ok(Body::ProductUpserted {
                title: named("data.title", title, TEXT_BYTES_MAX)?,
                brand: named("data.brand", brand, NAME_BYTES_MAX)?,
                category: named("data.category", category, NAME_BYTES_MAX)?,
                supplier: named("data.supplier", supplier, NAME_BYTES_MAX)?,
                version,
            })
        }
        "inventory.counted" => {
            let Count { sku, location, on_hand, reserved, version } = parse(kind, data)?;
            same("sku", &sku)?;
            for (field, value) in [("onHand", on_hand), ("reserved", reserved)] {
                if !(0..=QUANTITY_MAX).contains(&value) {
                    return Err(Invalid(format!("data.{field} is {value}, but a count lies between 0 and {QUANTITY_MAX}")));
                }
            }
            Ok(Body::InventoryCounted { location: named("data.location", location, NAME_BYTES_MAX)?, on_hand, reserved, version })
        }
        "inventory.adjusted" => {
            let Adjustment { sku, location, delta, reason } = parse(kind, data)?;
            same("sku", &sku)?;
            named("data.reason", reason, TEXT_BYTES_MAX)?;
            if !(-QUANTITY_MAX..=QUANTITY_MAX).contains(&delta) {
                return Err(Invalid(format!("data.delta is {delta}, but lies between -{QUANTITY_MAX} and {QUANTITY_MAX}")));
            }
            Ok(Body::InventoryAdjusted { location: named("data.location", location, NAME_BYTES_MAX)?, delta })
        }
        "price.set" => {
            let Price { sku, market, currency, amount, list_amount, version, valid_from } = parse(kind, data)?;
            same("sku", &sku)?;
            Ok(Body::PriceSet {
                market: named("data.market", market, NAME_BYTES_MAX)?,
                currency: Currency::from_code(&currency).ok_or_else(|| {
                    Invalid(format!("data.currency is \"{}\", which is no currency of ISO 4217", short(&currency)))
                })?,
                amount: price("data.amount", &amount)?,
                list_amount: list_amount.map(|amount| price("data.listAmount", &amount)).transpose()?,
                version,
                valid_from: valid_from.map(|from| instant("data.validFrom", &from)).transpose()?,
            })
        }
        "journey.recorded" => {
            let Journey { visitor, session, action, sku, brand, value, dimensions } = parse(kind, data)?;
            same("visitor", &visitor)?;
            for (field, value) in [("data.sku", sku), ("data.brand", brand.clone()), ("data.session", session.clone())] {
                value.map(|value| named(field, value, NAME_BYTES_MAX)).transpose()?;
            }
            value.map(|value| price("data.value", &value)).transpose()?;
            Ok(Body::JourneyRecorded { action: named("data.action", action, NAME_BYTES_MAX)?, session, brand, dimensions })
        }
        "visitor.erased" => {
            let Erasure { visitor } = parse(kind, data)?;
            same("visitor", &visitor)?;
            Ok(Body::VisitorErased)
        }
        "event.compensated" => {
            let Compensation { compensates, reason } = parse(kind, data)?;
            named("data.reason", reason, TEXT_BYTES_MAX)?;
            Ok(Body::Compensated { compensates: named("data.compensates", compensates, NAME_BYTES_MAX)? })
        }
        TOLD => {
            let told = Told::read(data.get()).map_err(|error| Invalid(format!("data of {TOLD}: {error:#}")))?;
            same("product", &told.product)?;
            Ok(Body::JourneyTold(told))
        }
        unknown => Err(Invalid(format!("type is \"{}\", which is not a type of the contract", short(unknown)))),
    }
}

fn parse<'a, T: Deserialize<'a>>(kind: &str, data: &'a RawValue) -> Result<T, Invalid> {
    serde_json::from_str(data.get()).map_err(|error| Invalid(format!("data of {kind}: {}", told(&error))))
}

/// Without the middle of a long one: serde repeats the value that it did not expect, however long, and then says what it did.
fn told(error: &serde_json::Error) -> String {
    const END_CHARS: usize = 120;
    let text = error.to_string();
    let middle = text.char_indices().nth(END_CHARS).zip(text.char_indices().nth_back(END_CHARS));
    match middle {
        Some(((head, _), (tail, _))) if head < tail => format!("{} … {}", &text[..head], &text[tail..]),
        _ => text,
    }
}

fn named(field: &str, value: String, bytes_max: usize) -> Result<String, Invalid> {
    if value.is_empty() {
        return Err(Invalid(format!("{field} is empty")));
    }
    if value.len() > bytes_max {
        return Err(Invalid(format!("{field} has {} bytes, but may have {bytes_max}", value.len())));
    }
    if value.chars().any(char::is_control) {
        return Err(Invalid(format!("{field} holds a control character")));
    }
    Ok(value)
}

fn instant(field: &str, text: &str) -> Result<Micros, Invalid> {
    text.parse::<Timestamp>().map(Micros::from).map_err(|_| {
        Invalid(format!("{field} is \"{}\", but must be an RFC 3339 instant such as 2026-11-22T17:48:00Z", short(text)))
    })
}

fn price(field: &str, text: &str) -> Result<Decimal, Invalid> {
    // from_str_exact refuses what does not fit instead of rounding it; it also takes signs, `1_000`, `.5` and `5.`, which we do not.
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    Decimal::from_str_exact(text)
        .ok()
        .filter(|amount| digits(whole) && digits(fraction) && amount.scale() <= 12)
        .ok_or_else(|| Invalid(format!("{field} is \"{}\", but must be a decimal of at least 0 such as \"12.50\"", short(text))))
}

/// Enough of a client's text to recognise it by.
fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Micros = Micros(1_763_596_800_000_000);

    fn event(kind: &str, data: &str) -> String {
        format!(
            r#"{{"specversion":"1.0","id":"e1","source":"/s","type":"{kind}","subject":"P1","time":"2025-11-20T00:00:00Z","data":{data}}}"#
        )
    }

    fn reason(text: &str) -> String {
        decode(text.as_bytes(), NOW).unwrap_err().0
    }

    #[test]
    fn a_price_keeps_its_decimals() {
        let text = event("price.set", r#"{"sku":"P1","market":"DE","currency":"EUR","amount":"12.50","extra":1}"#);
        let Body::PriceSet { amount, .. } = decode(text.as_bytes(), NOW).unwrap().body else { panic!("not a price") };
        assert_eq!(amount.to_string(), "12.50");
    }

    #[test]
    fn identity_tells_source_from_id() {
        assert_ne!(Identity::of("/a", "b"), Identity::of("/", "ab"));
        assert_eq!(Identity::of("/a", "b"), Identity::of("/a", "b"));
    }

    #[test]
    fn what_is_wrong_is_said_in_one_sentence() {
        let count = |on_hand: &str| {
            event("inventory.counted", &format!(r#"{{"sku":"P1","location":"L","onHand":{on_hand},"reserved":0}}"#))
        };
        let amount = |a: &str| event("price.set", &format!(r#"{{"sku":"P1","market":"M","currency":"EUR","amount":{a}}}"#));
        for (text, words) in [
            ("{".to_owned(), "not JSON"),
            ("[]".to_owned(), "no CloudEvent"),
            ("7".to_owned(), "no CloudEvent"),
            (count("-1"), "data.onHand is -1"),
            (count("1.5"), "data of inventory.counted"),
            (count("\"5\""), "data of inventory.counted"),
            (count("99999999999999999999"), "data of inventory.counted"),
            (amount("\"-1\""), "data.amount"),
            (amount("\"1e3\""), "data.amount"),
            (amount("\"1_000\""), "data.amount"),
            (amount("\"1.\""), "data.amount"),
            (amount("\".5\""), "data.amount"),
            (amount("\"+1\""), "data.amount"),
            (amount("12.5"), "data of price.set"),
            (amount("\"0.0000000000001\""), "data.amount"),
            (event("price.set", r#"{"sku":"P1","market":"M","currency":"EUX","amount":"1"}"#), "data.currency"),
            (event("price.set", r#"{"sku":"P2","market":"M","currency":"EUR","amount":"1"}"#), "must be the same"),
            (event("shelf.moved", "{}"), "not a type of the contract"),
            (event("watermark.advanced", "{}"), "by Tollgate alone"),
            (event("event.compensated", r#"{"compensates":"","reason":"r"}"#), "data.compensates is empty"),
            (event("visitor.erased", r#"{"visitor":"P1"}"#).replace("2025-11-20", "2025-11-22"), "more than 24 h"),
            (event("visitor.erased", r#"{"visitor":"P1"}"#).replace("2025-11-20T00:00:00Z", "yesterday"), "RFC 3339"),
            (event("visitor.erased", r#"{"visitor":"P1"}"#).replace("\"1.0\"", "\"0.3\""), "specversion"),
            (event("visitor.erased", r#"{"visitor":"P1"}"#).replace("\"e1\"", "\"\""), "id is empty"),
        ] {
            let found = reason(&text);
            assert!(found.contains(words) && !found.contains('\n'), "{text}\ngave: {found}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_in_short() {
        let long = "é\n".repeat(2_000).replace('\n', "\\n");
        for text in [
            event("inventory.counted", &format!(r#"{{"sku":"P1","location":"L","onHand":"{long}","reserved":0}}"#)),
            event("journey.recorded", &format!(r#"{{"visitor":"P1","action":"view","dimensions":"{long}"}}"#)),
            format!("\"{long}\""),
        ] {
            let found = reason(&text);
            assert!(found.len() < 600 && !found.contains('\n'), "{found}");
            assert!(found.contains("invalid type: string") && found.contains(", expected ") && found.contains(" … "), "{found}");
        }
    }
}
