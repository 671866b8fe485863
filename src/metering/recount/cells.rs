//! What a journal's records come to, cell by cell, and the comparison with the ledger's rows.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use sqlx::AnyConnection;

use super::store::{self, Cell};
use super::{About, Report};
use crate::clock::Micros;
use crate::ids::ReplicaId;
use crate::metering::meter::Meter;
use crate::metering::reading::Glance;

/// 15 minutes UTC.
const CELL_MICROS: i64 = 15 * 60 * 1_000_000;

/// The beginning of the cell that an instant lies in.
pub(super) fn start(at: Micros) -> i64 {
    at.0.div_euclid(CELL_MICROS).saturating_mul(CELL_MICROS)
}

/// Text that was seen, once.
#[derive(Debug, Default)]
struct Names {
    numbers: HashMap<Arc<str>, u32>,
    texts: Vec<Arc<str>>,
}

impl Names {
    fn known(&self, text: &str) -> Option<u32> {
        self.numbers.get(text).copied()
    }

    fn number(&mut self, text: &str) -> u32 {
        self.known(text).unwrap_or_else(|| {
            let (number, text) = (u32::try_from(self.texts.len()).unwrap_or(u32::MAX), Arc::from(text));
            self.texts.push(Arc::clone(&text));
            self.numbers.insert(text, number);
            number
        })
    }

    fn text(&self, number: u32) -> &str {
        self.texts.get(number as usize).map_or("", |text| text)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key {
    cell_start: i64,
    partner: u32,
    meter: Meter,
    plan: u32,
    plan_version: i64,
    key: u32,
    epoch: i64,
}

/// What a row says, or what records come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    units: i128,
    waived: i128,
    records: i64,
    first: i64,
    last: i64,
}

/// Records that could not be read, by epoch: spans of sequences.
#[derive(Debug, Default)]
pub(super) struct Unread(BTreeMap<i64, Vec<(u64, u64)>>);

impl Unread {
    pub(super) fn add(&mut self, epoch: i64, first: u64, last: u64) {
        let spans = self.0.entry(epoch).or_default();
        match spans.last_mut() {
            Some(before) if before.1.checked_add(1) == Some(first) => before.1 = last,
            _ => spans.push((first, last)),
        }
    }

    fn touches(&self, cell: &Cell) -> bool {
        let (first, last) = (u64::try_from(cell.first).unwrap_or(0), u64::try_from(cell.last).unwrap_or(0));
        self.0.get(&cell.epoch).is_some_and(|spans| spans.iter().any(|span| span.0 <= last && first <= span.1))
    }
}

/// The cells of one journal whose records were read.
#[derive(Debug, Default)]
pub(super) struct Cells {
    names: Names,
    sums: HashMap<Key, Sum>,
    pub(super) unread: Unread,
    /// Rows that were compared.
    pub(super) compared: u64,
    /// Rows that were not, because some of their records could not be read.
    pub(super) skipped: u64,
}

impl Cells {
    pub(super) fn len(&self) -> usize {
        self.sums.len()
    }

    pub(super) fn add(&mut self, epoch: i64, sequence: u64, record: &Glance<'_>) {
        let sequence = i64::try_from(sequence).unwrap_or(i64::MAX);
        let names = &mut self.names;
        let (partner, plan, key) = (names.number(&record.partner), names.number(&record.plan), names.number(&record.key));
        let (cell_start, plan_version) = (start(record.at), record.plan_version);
        for (meter, counted) in record.counted() {
            let key = Key { cell_start, partner, meter, plan, plan_version, key, epoch };
            let sum = self.sums.entry(key).or_insert(Sum { first: sequence, ..Sum::default() });
            sum.units += i128::from(counted.units);
            sum.waived += i128::from(counted.waived);
            sum.records += 1;
            sum.last = sequence;
        }
    }

    /// Compares the cells that begin in [from, to) with the ledger's, and lets them go.
    pub(super) async fn compare(
        &mut self,
        connection: &mut AnyConnection,
        replica: &ReplicaId,
        shipped: &BTreeMap<i64, u64>,
        span: (i64, i64),
        report: &mut Report,
    ) -> anyhow::Result<()> {
        store::cells(connection, replica, span, |cell| self.row(replica, &cell, shipped, report)).await?;
        let mut missing: Vec<_> = self.sums.extract_if(|key, _| span.0 <= key.cell_start && key.cell_start < span.1).collect();
        missing.sort_unstable_by_key(|(key, _)| *key);
        for (key, sum) in missing {
            let text = |number| self.names.text(number);
            let name =
                name(text(key.partner), key.cell_start, key.meter.as_str(), text(key.plan), key.plan_version, text(key.key));
            report.differ(
                About::Cells,
                format!(
                    "the ledger has no cell {name}, but records {} of replica {replica} count in it: {}",
                    records(key.epoch, &sum),
                    say(&sum)
                ),
            );
        }
        Ok(())
    }

    fn row(&mut self, replica: &ReplicaId, cell: &Cell, shipped: &BTreeMap<i64, u64>, report: &mut Report) {
        let name = || name(&cell.partner, cell.cell_start, &cell.meter, &cell.plan, cell.plan_version, &cell.key);
        let of = || format!("of replica {replica} in epoch {}", cell.epoch);
        let last = shipped.get(&cell.epoch).copied().unwrap_or(0);
        if u64::try_from(cell.last).is_ok_and(|of_cell| of_cell > last) {
            report.differ(
                About::Cells,
                format!(
                    "the ledger's cell {} {} says that it counts record {}/{}, but the ledger's watermark stands at {}/{last}",
                    name(),
                    of(),
                    cell.epoch,
                    cell.last,
                    cell.epoch
                ),
            );
        }
        let meter = Meter::from_name(&cell.meter);
        let product = meter.map(|meter| meter.product().map_or("gateway", |product| product.as_str()));
        if product != Some(cell.product.as_str()) {
            report.differ(About::Cells, format!("the ledger's cell {} {} has the product \"{}\"", name(), of(), cell.product));
        }
        let key = meter.and_then(|meter| {
            Some(Key {
                cell_start: cell.cell_start,
                partner: self.names.known(&cell.partner)?,
                meter,
                plan: self.names.known(&cell.plan)?,
                plan_version: cell.plan_version,
                key: self.names.known(&cell.key)?,
                epoch: cell.epoch,
            })
        });
        let counted = key.and_then(|key| self.sums.remove(&key));
        if self.unread.touches(cell) {
            self.skipped += 1;
            return;
        }
        self.compared += 1;
        let has = Sum {
            units: cell.units.into(),
            waived: cell.waived.into(),
            records: cell.records,
            first: cell.first,
            last: cell.last,
        };
        match counted {
            None => report.differ(
                About::Cells,
                format!("the ledger has a cell {} {} with {}, but no record counts in it", name(), of(), say(&has)),
            ),
            Some(counted) if counted != has => report.differ(
                About::Cells,
                format!(
                    "the ledger's cell {} {} has {} of the records {}, but the records {} come to {}",
                    name(),
                    of(),
                    say(&has),
                    records(cell.epoch, &has),
                    records(cell.epoch, &counted),
                    say(&counted)
                ),
            ),
            Some(_) => {}
        }
    }
}

fn name(partner: &str, cell_start: i64, meter: &str, plan: &str, version: i64, key: &str) -> String {
    format!("{partner} {} {meter} under {plan}@{version} by key {key}", Micros(cell_start))
}

fn records(epoch: i64, sum: &Sum) -> String {
    format!("{epoch}/{} to {epoch}/{}", sum.first, sum.last)
}

fn say(sum: &Sum) -> String {
    format!("{} units, {} waived, {} records", sum.units, sum.waived, sum.records)
}
