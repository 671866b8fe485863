//! The canonical dump of what is answered: the same from every backend for the same log.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Answer;
use super::calendar::begin_of;
use super::cell::{Cell, Duration};
use super::home::{Entry, Progress};
use super::message::Slice;
use super::product::Product;
use super::tally::{END, START};

/// Lines of answers, sorted.
#[derive(Default)]
pub struct Dump(BTreeMap<(String, u8, String), Value>);

/// How an action stands in an answer.
pub fn action<'a>(product: &'a Product, number: u8, ends: &'static str) -> &'a str {
    match number {
        START => "START",
        END => ends,
        number => product.actions().nth(usize::from(number)).map_or("?", |(_, name)| name),
    }
}

fn slice(product: &Product, slice: &Slice) -> Value {
    let Slice::Of(values) = slice else { return json!({}) };
    Value::Object(product.dimensions.iter().cloned().zip(values.iter().map(|value| json!(value))).collect::<Map<_, _>>())
}

fn duration(duration: &Duration) -> Value {
    json!({ "count": duration.count, "seconds": duration.seconds, "medianDoubled": duration.median_doubled })
}

impl Dump {
    /// Adds an answer of `product`.
    pub fn add(&mut self, product: &Product, entry: &Entry, answer: &Answer) {
        let name = &product.name;
        let (order, line) = match (entry, answer) {
            (Entry::Cell(of, bucket), Answer::Cell(cell)) => {
                let mut line = json!({
                    "kind": "journey", "product": name, "slice": slice(product, of), "by": bucket.by.as_str(),
                    "from": begin_of(bucket.begin()).timestamp().to_string(), "revision": cell.revision,
                });
                if let Some(line) = line.as_object_mut() {
                    line.extend(values(product, cell));
                }
                (0, line)
            }
            (Entry::Cohorts(of, period), Answer::Cohorts(cohorts)) => {
                let date =
                    |number: i32| product.retention.as_ref().map(|retention| retention.period.first_date(number).to_string());
                let cohorts: Vec<_> = cohorts.iter().map(|(cohort, visitors)| json!([date(*cohort), visitors])).collect();
                let line = json!({
                    "kind": "retention", "product": name, "slice": slice(product, of), "period": date(*period), "cohorts": cohorts,
                });
                (1, line)
            }
            (_, Answer::Progress(progress)) => {
                let Progress { decided_to, .. } = &**progress;
                let to = decided_to.map(|hour| begin_of(hour).timestamp().to_string());
                (2, json!({ "kind": "journey.decided", "product": name, "to": to }))
            }
            _ => return,
        };
        self.0.insert((name.clone(), order, entry.name()), line);
    }

    /// All lines.
    pub fn lines(&self) -> anyhow::Result<String> {
        let mut lines = String::new();
        for line in self.0.values() {
            lines += &serde_json::to_string(line)?;
            lines.push('\n');
        }
        Ok(lines)
    }
}

fn values(product: &Product, cell: &Cell) -> Map<String, Value> {
    let mut values = Map::new();
    if let Some(of) = &cell.sessions {
        let transition =
            |(from, to, count): &(u8, u8, i64)| json!([action(product, *from, "END"), action(product, *to, "END"), count]);
        let path = |(path, sessions, visitors): &(Vec<u8>, i64, i64)| {
            json!([path.iter().map(|number| action(product, *number, "…")).collect::<Vec<_>>(), sessions, visitors])
        };
        values.extend([
            ("sessions".to_owned(), json!(of.sessions)),
            ("visitors".to_owned(), json!(of.visitors)),
            ("transitions".to_owned(), of.transitions.iter().map(transition).collect()),
            ("paths".to_owned(), of.paths.iter().map(path).collect()),
            ("carts".to_owned(), json!(of.carts)),
            ("abandoned".to_owned(), json!(of.abandoned)),
            ("converted".to_owned(), json!(of.converted)),
        ]);
    }
    if let Some(of) = &cell.conversions {
        values.insert("timeToConvert".to_owned(), duration(of));
    }
    if let Some(steps) = &cell.funnel {
        let steps = steps.iter().map(|step| json!([step.units, step.median_doubled]));
        values.insert("funnel".to_owned(), steps.collect());
    }
    values
}
