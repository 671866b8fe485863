//! What an operator sells of journeys: a product, as its file says.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::calendar::Period;
use crate::clock::Micros;

/// Steps of a funnel.
const STEPS_MAX: usize = 32;
/// What a window may be at most: events are kept until all that they may count in is decided.
const WINDOW_MAX: Duration = Duration::from_secs(31 * 86_400);
const LATENESS_MAX: Duration = Duration::from_secs(7 * 86_400);
/// Fewer visitors than these stand behind no answer.
pub const K_MIN: u32 = 10;
const K_MAX: u32 = 100_000;
const ACTIONS_MAX: usize = 200;
const DIMENSIONS_MAX: usize = 4;
const PERIODS_MAX: u32 = 60;
const NAME_BYTES_MAX: usize = 64;

/// The part of what puts something into the cart,
pub const ADD_TO_CART: &str = "add_to_cart";
/// and the part of buying.
pub const PURCHASE: &str = "purchase";

/// What a funnel counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Sessions.
    Session,
    /// Visitors, across their sessions.
    Visitor,
}

/// Where sessions come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sessions {
    /// From gaps of more than 30 min.
    #[default]
    Gap,
    /// From the events' own `session`.
    Source,
}

/// How retention is counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// By days, weeks or months
    pub period: Period,
    /// of this time zone,
    #[serde(default = "utc")]
    pub timezone: String,
    /// so many of them behind the first.
    pub periods: u32,
}

/// How long what is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Keep {
    /// What of each visitor's events can still be revised, past what open cells need.
    #[serde(with = "duration")]
    pub events: Duration,
    /// When a visitor was first and last seen, after that: past it, one who comes again is new.
    #[serde(with = "duration")]
    pub visitors: Duration,
    /// What was released.
    #[serde(with = "duration")]
    pub cells: Duration,
}

impl Default for Keep {
    fn default() -> Self {
        let days = |days: u64| Duration::from_secs(days * 86_400);
        Self { events: days(7), visitors: days(400), cells: days(762) }
    }
}

/// A journey product.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Product {
    /// As queries name it.
    pub name: String,
    /// Distinct visitors that must stand behind what is answered.
    #[serde(default = "k_default")]
    pub k: u32,
    /// Where sessions come from.
    #[serde(default)]
    pub session: Sessions,
    /// How much later than its partition's latest event another may come, and be in time.
    #[serde(with = "duration")]
    pub lateness: Duration,
    /// All steps of a funnel lie within this.
    #[serde(with = "duration")]
    pub window: Duration,
    /// What the funnel counts.
    pub unit: Unit,
    /// Parts, in the order of the funnel.
    pub steps: Vec<String>,
    /// By what cells are told apart.
    #[serde(default)]
    pub dimensions: Vec<String>,
    /// Whether the total over all values is sold beside.
    #[serde(default = "yes")]
    pub total: bool,
    /// The actions that play each part.
    pub actions: BTreeMap<String, Vec<String>>,
    /// Whether, and how, retention is counted.
    pub retention: Option<Retention>,
    /// How long what is kept.
    #[serde(default)]
    pub keep: Keep,
    /// What happened before is not read: a product that was retired read it. No file says this.
    #[serde(default)]
    pub begins: Option<Micros>,
}

fn utc() -> String {
    "UTC".to_owned()
}

fn k_default() -> u32 {
    50
}

fn yes() -> bool {
    true
}

mod duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(*span))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_duration(&text)
            .map_err(|error| D::Error::custom(format!("\"{text}\" is no duration such as \"30m\" or \"2 days\": {error}")))
    }
}

/// Reads a product file.
///
/// # Errors
///
/// One sentence that says what is wrong, and how to mend it.
pub fn parse(text: &str) -> anyhow::Result<Product> {
    let product: Product = toml::from_str(text).context("it is no journey product")?;
    product.check()?;
    Ok(product)
}

impl Product {
    fn check(&self) -> anyhow::Result<()> {
        let name = &self.name;
        named("name", name)?;
        ensure!(self.begins.is_none(), "unknown field `begins`: a product is counted from the event log's start");
        ensure!(
            (K_MIN..=K_MAX).contains(&self.k),
            "k is {}, but {K_MIN} to {K_MAX} visitors must stand behind what is answered",
            self.k
        );
        ensure!(
            !self.window.is_zero() && self.window <= WINDOW_MAX,
            "the window of {} is {}, but may be 31 days at most, and not zero: events are kept until it has passed",
            name,
            humantime::format_duration(self.window)
        );
        ensure!(
            self.lateness <= LATENESS_MAX,
            "the lateness is {}, but may be 7 days at most: nothing is answered before it has passed",
            humantime::format_duration(self.lateness)
        );
        ensure!(
            (1..=STEPS_MAX).contains(&self.steps.len()),
            "the funnel has {} steps, but must have 1 to {STEPS_MAX}: name parts of [actions] in steps",
            self.steps.len()
        );
        ensure!(!self.actions.is_empty(), "no action is named: write [actions], such as view = [\"view\"]");
        let mut actions = BTreeMap::new();
        for (part, names) in &self.actions {
            named("a part", part)?;
            ensure!(!names.is_empty(), "the part {part} has no action: name one, or leave it out");
            for action in names {
                ensure!(
                    !action.is_empty() && action.len() <= 256 && !action.chars().any(char::is_control),
                    "\"{}\" is no action: use 1 to 256 bytes without control characters",
                    action.escape_debug()
                );
                if let Some(other) = actions.insert(action.as_str(), part) {
                    bail!("the action \"{action}\" has two parts, {other} and {part}: give it one");
                }
            }
        }
        ensure!(actions.len() <= ACTIONS_MAX, "{} actions are named, but {ACTIONS_MAX} may be", actions.len());
        for step in &self.steps {
            ensure!(self.actions.contains_key(step), "the step \"{step}\" is no part: add it to [actions]");
        }
        ensure!(
            self.dimensions.len() <= DIMENSIONS_MAX,
            "{} dimensions are named, but there may be {DIMENSIONS_MAX}",
            self.dimensions.len()
        );
        for (n, dimension) in self.dimensions.iter().enumerate() {
            named("a dimension", dimension)?;
            ensure!(!self.dimensions[..n].contains(dimension), "the dimension {dimension} is named twice");
        }
        ensure!(
            self.total || !self.dimensions.is_empty(),
            "without dimensions and without a total there is nothing to sell: name dimensions, or set total = true"
        );
        if let Some(retention) = &self.retention {
            ensure!(
                (1..=PERIODS_MAX).contains(&retention.periods),
                "retention has {} periods, but must have 1 to {PERIODS_MAX}",
                retention.periods
            );
            retention.zone()?;
        }
        Ok(())
    }

    /// The action of this product that an event's text names.
    pub fn action(&self, name: &str) -> Option<u8> {
        // At most 200: see ACTIONS_MAX.
        self.actions().position(|(_, action)| action == name).and_then(|at| u8::try_from(at).ok())
    }

    /// Part and name of each action, in the order of their numbers.
    pub fn actions(&self) -> impl Iterator<Item = (&str, &str)> {
        self.actions.iter().flat_map(|(part, names)| names.iter().map(move |name| (part.as_str(), name.as_str())))
    }

    /// Refuses a product that reads what another does: what one holds back, the other could give.
    pub fn check_beside<'a>(&self, others: impl Iterator<Item = &'a Self>) -> anyhow::Result<()> {
        for other in others.filter(|other| other.name != self.name) {
            if let Some((_, action)) = self.actions().find(|(_, action)| other.action(action).is_some()) {
                bail!(
                    "{} and {} overlap: both read the action \"{action}\", and what one holds back to protect visitors, the other could give \
                     away; take the action out of one of them",
                    self.name,
                    other.name
                );
            }
        }
        Ok(())
    }
}

impl Retention {
    /// The periods that begin within a range.
    pub fn periods_within(&self, from: Micros, to: Micros) -> Vec<i32> {
        let Ok(zone) = self.zone() else { return Vec::new() };
        let first = self.period.of(from, &zone);
        let first = if self.period.begin(first, &zone) < from { first + 1 } else { first };
        (first..).take_while(|period| self.period.begin(*period, &zone) < to).take(1001).collect()
    }

    /// Its time zone.
    pub fn zone(&self) -> anyhow::Result<TimeZone> {
        TimeZone::get(&self.timezone)
            .map_err(|_| anyhow::anyhow!("\"{}\" is no time zone: use a name such as Europe/Berlin", self.timezone))
    }
}

fn named(what: &str, name: &str) -> anyhow::Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    ensure!(
        !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.chars().all(plain),
        "\"{}\" is no name for {what}: use 1 to {NAME_BYTES_MAX} letters, digits, - and _",
        name.escape_debug()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
name = "shop"
lateness = "10m"
window = "1h"
unit = "session"
steps = ["view", "purchase"]
dimensions = ["brand"]
[actions]
view = ["view", "look"]
purchase = ["buy"]
[retention]
period = "week"
periods = 8
"#;

    #[test]
    fn a_file_is_read_and_written() {
        let product = parse(GOOD).unwrap();
        assert_eq!((product.k, product.total, product.keep.events), (50, true, Duration::from_secs(7 * 86_400)));
        assert_eq!(product.action("look"), Some(2), "by part, then as written");
        let again: Product = serde_json::from_str(&serde_json::to_string(&product).unwrap()).unwrap();
        assert_eq!(again, product);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let steps = |n: usize| format!("steps = {:?}", vec!["view"; n]);
        for (from, to, words) in [
            ("steps = [\"view\", \"purchase\"]", "steps = []", "has 0 steps, but must have 1 to 32"),
            ("steps = [\"view\", \"purchase\"]", &*steps(33), "has 33 steps"),
            ("window = \"1h\"", "window = \"1 year\"", "may be 31 days at most"),
            ("window = \"1h\"", "window = \"soon\"", "no duration"),
            ("lateness = \"10m\"", "lateness = \"8 days\"", "7 days at most"),
            ("\"view\", \"purchase\"]", "\"view\", \"pay\"]", "the step \"pay\" is no part"),
            ("[\"buy\"]", "[\"look\"]", "has two parts, purchase and view"),
            ("name = \"shop\"", "name = \"shop\"\nk = 9", "k is 9"),
            ("name = \"shop\"", "name = \"a b\"", "is no name"),
            ("name = \"shop\"", "name = \"shop\"\ncolour = 1", "unknown field `colour`"),
            ("period = \"week\"", "period = \"week\"\ntimezone = \"Mars\"", "no time zone"),
            ("dimensions = [\"brand\"]", "total = false", "nothing to sell"),
        ] {
            let error = format!("{:#}", parse(&GOOD.replace(from, to)).unwrap_err());
            assert!(error.contains(words), "{to}: {error}");
        }
    }

    #[test]
    fn products_that_overlap_are_refused() {
        let (one, mut other) = (parse(GOOD).unwrap(), parse(&GOOD.replace("shop", "other")).unwrap());
        let error = other.check_beside([&one].into_iter()).unwrap_err().to_string();
        assert!(error.contains("other and shop overlap: both read the action \"buy\""), "{error}");
        other.actions = [("view".to_owned(), vec!["see".to_owned()])].into();
        other.check_beside([&one].into_iter()).unwrap();
    }
}
