//! Usage records on their way into the ledger, summed by cell. Nothing is copied a record: this is what bounds how fast a backlog
//! drains.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use anyhow::Context;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::meter::{Meter, Product};
use super::record::Mode;
use crate::clock::Micros;

/// Usage is kept in cells of 15 minutes UTC.
pub(super) const CELL_MICROS: i64 = 15 * 60 * 1_000_000;

/// A usage record as far as the ledger is concerned; text without escapes is borrowed from the journal's bytes.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Used<'a> {
    pub(super) at: Micros,
    #[serde(borrow)]
    partner: Cow<'a, str>,
    #[serde(borrow)]
    key: Cow<'a, str>,
    mode: Mode,
    #[serde(borrow)]
    plan: Cow<'a, str>,
    plan_version: i64,
    units: Units,
    #[serde(default)]
    waived_units: Units,
}

impl<'a> Used<'a> {
    /// Of a record's JSON.
    pub(super) fn parse(json: &'a [u8]) -> anyhow::Result<Self> {
        serde_json::from_slice(json).context("a journal record is no usage record that this version knows")
    }
}

/// Units by product; none where a product is left out.
#[derive(Debug, Default)]
struct Units([Option<u64>; Product::ALL.len()]);

impl<'de> Deserialize<'de> for Units {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map;
        impl<'de> Visitor<'de> for Map {
            type Value = Units;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("units by product")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Units, A::Error> {
                let mut units = Units::default();
                while let Some((product, count)) = map.next_entry::<Product, u64>()? {
                    units.0[product as usize] = Some(count);
                }
                Ok(units)
            }
        }
        deserializer.deserialize_map(Map)
    }
}

/// Text that was seen, once.
#[derive(Debug, Default)]
struct Names {
    places: HashMap<Box<str>, u32>,
    texts: Vec<Box<str>>,
}

impl Names {
    fn place(&mut self, text: &str) -> u32 {
        if let Some(&place) = self.places.get(text) {
            return place;
        }
        let place = u32::try_from(self.texts.len()).unwrap_or(u32::MAX);
        self.places.insert(text.into(), place);
        self.texts.push(text.into());
        place
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    partner: u32,
    key: u32,
    plan: u32,
    plan_version: i64,
    cell_start: i64,
}

/// What a cell gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) units: i64,
    pub(super) waived_units: i64,
    pub(super) records: i64,
    pub(super) first_sequence: i64,
    pub(super) last_sequence: i64,
    /// The earliest admission.
    earliest: Micros,
}

/// A cell and what it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cell<'a> {
    pub(super) partner: &'a str,
    pub(super) cell_start: i64,
    pub(super) product: &'static str,
    pub(super) meter: &'static str,
    pub(super) plan: &'a str,
    pub(super) plan_version: i64,
    pub(super) key: &'a str,
    pub(super) sum: Sum,
}

/// Records of one epoch, in order, summed by cell.
#[derive(Debug, Default)]
pub(super) struct Aggregate {
    names: Names,
    /// By meter too, so that a record is looked up once.
    cells: HashMap<Key, [Option<Sum>; Meter::ALL.len()]>,
    /// How many.
    pub(super) records: u64,
    /// The last one's sequence.
    pub(super) last: u64,
    /// The first one's admission.
    pub(super) begins: Micros,
}

impl Aggregate {
    /// Adds the record of `sequence`, which follows the last one. A test-mode record moves the watermark only.
    pub(super) fn add(&mut self, sequence: u64, used: &Used<'_>) -> anyhow::Result<()> {
        if self.records == 0 {
            self.begins = used.at;
        }
        self.last = sequence;
        self.records += 1;
        if used.mode == Mode::Test {
            return Ok(());
        }
        let sequence = i64::try_from(sequence)?;
        let names = &mut self.names;
        let of = Key {
            partner: names.place(&used.partner),
            key: names.place(&used.key),
            plan: names.place(&used.plan),
            plan_version: used.plan_version,
            cell_start: used.at.0.div_euclid(CELL_MICROS) * CELL_MICROS,
        };
        let sums = self.cells.entry(of).or_default();
        let products = Product::ALL.into_iter().filter_map(|product| {
            let (units, waived) = (used.units.0[product as usize], used.waived_units.0[product as usize]);
            let counted = (Meter::from(product), units.unwrap_or(0), waived.unwrap_or(0));
            (units.is_some() || waived.is_some()).then_some(counted)
        });
        for (meter, units, waived) in products.chain([(Meter::Requests, 1, 0)]) {
            let empty =
                Sum { units: 0, waived_units: 0, records: 0, first_sequence: sequence, last_sequence: 0, earliest: used.at };
            let sum = sums[meter as usize].get_or_insert(empty);
            let plus = |sum: i64, units: u64| i64::try_from(units).ok().and_then(|units| sum.checked_add(units));
            let too_many = || format!("the units of record {sequence} are more than the ledger can hold");
            sum.units = plus(sum.units, units).with_context(too_many)?;
            sum.waived_units = plus(sum.waived_units, waived).with_context(too_many)?;
            sum.records += 1;
            sum.last_sequence = sequence;
            sum.earliest = sum.earliest.min(used.at);
        }
        Ok(())
    }

    /// How many cells there are at most.
    pub(super) fn cells_max(&self) -> usize {
        self.cells.len() * Meter::ALL.len()
    }

    /// The cells, in the order of their key in the ledger, so that transactions at once take their locks in one order.
    pub(super) fn cells(&self) -> Vec<Cell<'_>> {
        let text = |place: u32| self.names.texts.get(place as usize).map_or("", |text| &**text);
        let cell = |key: &Key, meter: Meter, sum: Sum| Cell {
            partner: text(key.partner),
            cell_start: key.cell_start,
            product: meter.product().map_or("gateway", |product| product.as_str()),
            meter: meter.as_str(),
            plan: text(key.plan),
            plan_version: key.plan_version,
            key: text(key.key),
            sum,
        };
        let mut cells = Vec::with_capacity(self.cells_max());
        for (key, sums) in &self.cells {
            let used = Meter::ALL.into_iter().filter_map(|meter| sums[meter as usize].map(|sum| cell(key, meter, sum)));
            cells.extend(used);
        }
        cells.sort_unstable_by_key(|cell| {
            (cell.partner, cell.cell_start, cell.product, cell.meter, cell.plan, cell.plan_version, cell.key)
        });
        cells
    }
}

impl Cell<'_> {
    /// Whether a record in it was admitted before `instant`.
    pub(super) fn reaches_before(&self, instant: Micros) -> bool {
        self.sum.earliest < instant
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(aggregate: &mut Aggregate, sequence: u64, json: &str) {
        aggregate.add(sequence, &Used::parse(json.as_bytes()).unwrap()).unwrap();
    }

    fn record(partner: &str, at: i64, mode: &str, units: &str) -> String {
        format!(
            r#"{{"v":1,"request":"req_1","at":{at},"partner":"{partner}","key":"k","mode":"{mode}","plan":"p","planVersion":3,{units}}}"#
        )
    }

    #[test]
    fn cells_say_which_records_they_came_from() {
        let mut aggregate = Aggregate::default();
        add(&mut aggregate, 5, &record("a", CELL_MICROS + 7, "live", r#""units":{"inventory":2}"#));
        add(&mut aggregate, 6, &record("a", CELL_MICROS + 3, "test", r#""units":{"inventory":900}"#));
        add(&mut aggregate, 7, &record("a", CELL_MICROS + 5, "live", r#""units":{"inventory":1},"waivedUnits":{"pricing":4}"#));
        add(&mut aggregate, 8, &record("a", -1, "live", r#""units":{}"#));
        assert_eq!((aggregate.records, aggregate.last, aggregate.begins), (4, 8, Micros(CELL_MICROS + 7)));
        let told: Vec<_> = aggregate
            .cells()
            .iter()
            .map(|cell| {
                let sum = cell.sum;
                (
                    cell.cell_start,
                    cell.product,
                    cell.meter,
                    sum.units,
                    sum.waived_units,
                    sum.records,
                    sum.first_sequence,
                    sum.last_sequence,
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                (-CELL_MICROS, "gateway", "requests", 1, 0, 1, 8, 8),
                (CELL_MICROS, "gateway", "requests", 2, 0, 2, 5, 7),
                (CELL_MICROS, "inventory", "inventory", 3, 0, 2, 5, 7),
                (CELL_MICROS, "pricing", "pricing", 0, 4, 1, 7, 7),
            ]
        );
        assert!(!aggregate.cells()[1].reaches_before(Micros(CELL_MICROS + 5)));
        assert!(aggregate.cells()[1].reaches_before(Micros(CELL_MICROS + 6)));
    }

    #[test]
    fn text_is_the_same_text_however_json_writes_it() {
        let mut aggregate = Aggregate::default();
        add(&mut aggregate, 1, &record("a\\u00e9\\\"", 0, "live", r#""units":{}"#));
        add(&mut aggregate, 2, &record("aé\\u0022", 0, "live", r#""units":{}"#));
        let cells = aggregate.cells();
        assert_eq!((cells.len(), cells[0].partner, cells[0].sum.records), (1, "aé\"", 2));
    }

    #[test]
    fn what_is_no_record_or_no_number_stops_loudly() {
        for bad in [r#""units":{"gold":1}"#, r#""units":{"inventory":-1}"#, r#""units":3"#, r#""none":{}"#] {
            let json = record("a", 0, "live", bad);
            let error = format!("{:#}", Used::parse(json.as_bytes()).unwrap_err());
            assert!(error.contains("no usage record"), "{bad}: {error}");
        }
        let mut aggregate = Aggregate::default();
        let json = record("a", 0, "live", &format!(r#""units":{{"inventory":{}}}"#, i64::MAX));
        add(&mut aggregate, 1, &json);
        let error = aggregate.add(2, &Used::parse(json.as_bytes()).unwrap()).unwrap_err().to_string();
        assert!(error.contains("more than the ledger can hold"), "{error}");
    }
}
