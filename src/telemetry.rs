//! What on-call sees: log lines that read alone and carry fields, and Prometheus metrics.

use std::collections::BTreeMap;
use std::io::IsTerminal;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use std::sync::atomic::AtomicU64;
use tracing_subscriber::EnvFilter;

use crate::clock::Micros;
use crate::config::{Log, LogFormat};
use crate::error::Code;
use crate::event::Report;
use crate::feature::{Applied, Standing};
use crate::journey::Size;

/// Sends log lines to stderr, as the settings say.
pub fn start_logging(settings: &Log) -> anyhow::Result<()> {
    // A bare word that is no level would be taken for a module's name, and switch everything off.
    let directives = settings.level.contains(['=', ',']);
    anyhow::ensure!(
        directives || settings.level.parse::<tracing::level_filters::LevelFilter>().is_ok(),
        "the setting log.level is \"{}\", but must be error, warn, info, debug, trace, off or directives such as \"tollgate=debug,info\"",
        settings.level
    );
    let filter = EnvFilter::try_new(&settings.level).map_err(|error| {
        anyhow::anyhow!(
            "the setting log.level is \"{}\", but must be error, warn, info, debug, trace or directives: {error}",
            settings.level
        )
    })?;
    let json = match settings.format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !std::io::stderr().is_terminal(),
    };
    let lines = tracing_subscriber::fmt()
        .log_internal_errors(false)
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false);
    // A second start in one process (tests) keeps the first.
    drop(if json {
        lines.json().flatten_event(true).try_init()
    } else {
        lines.with_ansi(std::io::stderr().is_terminal()).try_init()
    });
    Ok(())
}

/// A refusal's or an answer's code.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Outcome {
    /// `OK` or a code of the contract.
    pub code: &'static str,
}

/// A step of the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "gate/mod.rs")]
pub enum Step {
    Authenticate,
    Admit,
    Execute,
    Settle,
    Journal,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StepLabel {
    step: &'static str,
}

/// One histogram a step, looked up once.
struct Steps {
    family: Family<StepLabel, Histogram, fn() -> Histogram>,
    by_step: [Histogram; 5],
}

impl Default for Steps {
    fn default() -> Self {
        let family: Family<StepLabel, Histogram, fn() -> Histogram> = Family::new_with_constructor(steps);
        let names = ["authenticate", "admit", "execute", "settle", "journal"];
        let by_step = names.map(|step| family.get_or_create(&StepLabel { step }).clone());
        Self { family, by_step }
    }
}

/// What became of an event.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct EventOutcome {
    /// accepted, duplicate, rejected; applied, duplicate, refused.
    pub outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorLabel {
    error: String,
}

type NoLabels = [(&'static str, &'static str); 0];

/// A product.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ProductLabel {
    /// Its name.
    pub product: &'static str,
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PartitionLabel {
    /// Its number.
    pub partition: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct JourneyLabel {
    product: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ApartLabel {
    product: String,
    why: &'static str,
}

/// What journeys hold, by product.
#[derive(Default)]
struct Journeys {
    visitors: Family<JourneyLabel, Gauge>,
    cells: Family<JourneyLabel, Gauge>,
    untold: Family<JourneyLabel, Gauge>,
    apart: Family<ApartLabel, Gauge>,
}

/// 10 µs to 10 s.
const STEP_BUCKETS: [f64; 19] =
    [1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

fn steps() -> Histogram {
    Histogram::new(STEP_BUCKETS)
}

/// All counters of the process.
pub struct Metrics {
    registry: Registry,
    /// Partner requests by outcome.
    pub requests: Family<Outcome, Counter>,
    /// Seconds in each step of the gate.
    steps: Steps,
    /// Units answered, by product.
    pub units: Family<ProductLabel, Counter>,
    /// Usage records made durable.
    pub journaled_records: Counter,
    /// Usage records shipped to the ledger.
    pub shipped_records: Counter,
    /// Those of them that were journaled since the start.
    pub shipped_of_this_start: Counter,
    /// Times that the ledger could not be reached.
    pub ship_failures: Counter,
    /// How old the oldest record was that the last shipment began with; 0 when nothing waits.
    pub ship_lag_seconds: Gauge<f64, AtomicU64>,
    /// Now less the instant before which all that was admitted is in the ledger, at the last promise.
    pub watermark_lag_seconds: Gauge<f64, AtomicU64>,
    /// Segments brought into the archive.
    pub archived_segments: Counter,
    /// Times that one could not be.
    pub archive_failures: Counter,
    /// Sealed segments that are not there yet.
    pub archive_backlog_segments: Gauge,
    backlog_records: Gauge,
    taken: Family<EventOutcome, Counter>,
    sent: Counter,
    send_seconds: Histogram,
    not_sent: Family<ErrorLabel, Counter>,
    applied: Family<EventOutcome, Counter>,
    /// Events that the projector sent to the dead-letter log.
    pub dead_letters: Counter,
    /// Times that the projector began again after a failure.
    pub projector_failures: Counter,
    lag_seconds: Family<PartitionLabel, Gauge<f64, AtomicU64>>,
    dedup_ids: Family<PartitionLabel, Gauge>,
    journeys: Journeys,
    directory_age_seconds: Gauge<f64, AtomicU64>,
    /// Open connections on the partner listener.
    pub connections: Gauge,
    /// Without a value where nothing is shared.
    rate_shared: Family<NoLabels, Gauge>,
    rate_replicas: Family<NoLabels, Gauge>,
    /// Times that a rate could not be exchanged with the other gateways.
    pub rate_exchange_failures: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("tollgate"),
            requests: Family::default(),
            steps: Steps::default(),
            units: Family::default(),
            journaled_records: Counter::default(),
            shipped_records: Counter::default(),
            shipped_of_this_start: Counter::default(),
            ship_failures: Counter::default(),
            ship_lag_seconds: Gauge::default(),
            watermark_lag_seconds: Gauge::default(),
            archived_segments: Counter::default(),
            archive_failures: Counter::default(),
            archive_backlog_segments: Gauge::default(),
            backlog_records: Gauge::default(),
            taken: Family::default(),
            sent: Counter::default(),
            send_seconds: steps(),
            not_sent: Family::default(),
            applied: Family::default(),
            dead_letters: Counter::default(),
            projector_failures: Counter::default(),
            lag_seconds: Family::default(),
            dedup_ids: Family::default(),
            journeys: Journeys::default(),
            directory_age_seconds: Gauge::default(),
            connections: Gauge::default(),
            rate_shared: Family::default(),
            rate_replicas: Family::default(),
            rate_exchange_failures: Counter::default(),
        };
        metrics.register();
        // From zero, so that a first one shows as a change.
        for code in Code::ALL.map(Code::as_str).into_iter().chain(["OK"]) {
            drop(metrics.requests.get_or_create(&Outcome { code }));
        }
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let r = &mut self.registry;
        r.register("requests", "Partner requests, by outcome: OK or the code of the refusal", self.requests.clone());
        r.register_with_unit("gate_step", "Time in each step of the gate", Unit::Seconds, self.steps.family.clone());
        r.register("units", "Units answered, by product", self.units.clone());
        r.register("journal_records", "Usage records made durable in the journal", self.journaled_records.clone());
        r.register("journal_shipped_records", "Usage records shipped to the ledger", self.shipped_records.clone());
        r.register("journal_ship_failures", "Shipments that failed and were tried again", self.ship_failures.clone());
        r.register(
            "journal_backlog_records",
            "Usage records in the journal and not yet in the ledger",
            self.backlog_records.clone(),
        );
        r.register_with_unit(
            "journal_ship_lag",
            "Age of the oldest usage record when its shipment began; 0 when nothing waits",
            Unit::Seconds,
            self.ship_lag_seconds.clone(),
        );
        r.register_with_unit(
            "journal_watermark_lag",
            "Now less the instant before which all that was admitted is in the ledger, when that was last reported",
            Unit::Seconds,
            self.watermark_lag_seconds.clone(),
        );
        r.register("archive_segments", "Journal segments brought into the archive", self.archived_segments.clone());
        r.register(
            "archive_failures",
            "Times that a segment could not be archived and was kept here",
            self.archive_failures.clone(),
        );
        r.register(
            "archive_backlog_segments",
            "Sealed journal segments that are not in the archive yet",
            self.archive_backlog_segments.clone(),
        );
        r.register("events", "Events at the ingest endpoint, by outcome", self.taken.clone());
        r.register("events_sent", "Events that Kafka acknowledged", self.sent.clone());
        r.register_with_unit(
            "events_send",
            "Time until Kafka acknowledged a request's events",
            Unit::Seconds,
            self.send_seconds.clone(),
        );
        r.register("events_send_errors", "Events that Kafka did not acknowledge, by error", self.not_sent.clone());
        r.register("projector_events", "Events at the projector, by outcome", self.applied.clone());
        r.register("projector_dead_letters", "Events that the projector sent to the dead-letter log", self.dead_letters.clone());
        r.register("projector_failures", "Failures after which the projector began again", self.projector_failures.clone());
        r.register_with_unit(
            "projector_lag",
            "Now less the instant to which a partition is applied",
            Unit::Seconds,
            self.lag_seconds.clone(),
        );
        r.register("dedup_ids", "Event ids remembered, by partition", self.dedup_ids.clone());
        let Journeys { visitors, cells, untold, apart } = &self.journeys;
        r.register("journey_visitors", "Visitors kept by the partitions of this process", visitors.clone());
        r.register("journey_cells", "Journey cells that are answered, of products at home in this process", cells.clone());
        r.register("journey_untold", "Messages that partitions of this process have not told yet", untold.clone());
        r.register("journey_apart", "Events that count in no cell so far, by why: late, overflow, erased", apart.clone());
        r.register_with_unit(
            "directory_age",
            "Time since the database confirmed keys, plans and partners",
            Unit::Seconds,
            self.directory_age_seconds.clone(),
        );
        r.register("connections", "Open connections on the partner listener", self.connections.clone());
        r.register(
            "rate_shared",
            "1 while the gateways on one Redis share rates, 0 while this one keeps to its part of each",
            self.rate_shared.clone(),
        );
        r.register("rate_replicas", "Gateways that share rates, as this one sees them", self.rate_replicas.clone());
        r.register(
            "rate_exchange_failures",
            "Times that a rate could not be exchanged with the other gateways and was tried again",
            self.rate_exchange_failures.clone(),
        );
    }

    /// Counts a partner request.
    pub fn request(&self, code: &'static str) {
        self.requests.get_or_create(&Outcome { code }).inc();
    }

    /// 1 while rates are shared.
    pub fn rate_shared(&self) -> Gauge {
        self.rate_shared.get_or_create_owned(&[])
    }

    /// Gateways that share them.
    pub fn rate_replicas(&self) -> Gauge {
        self.rate_replicas.get_or_create_owned(&[])
    }

    /// Counts time in a step of the gate.
    pub fn step(&self, step: Step, took: std::time::Duration) {
        self.steps.by_step[step as usize].observe(took.as_secs_f64());
    }

    /// Counts what ingest did.
    pub fn events_taken(&self, report: &Report) {
        let count = |outcome, n| self.taken.get_or_create(&EventOutcome { outcome }).inc_by(n);
        count("accepted", report.accepted);
        count("duplicate", report.duplicates);
        count("rejected", report.rejected.len() as u64);
    }

    /// Counts events that Kafka acknowledged, and how long a request's took.
    pub fn events_sent(&self, events: u64, took: std::time::Duration) {
        self.sent.inc_by(events);
        self.send_seconds.observe(took.as_secs_f64());
    }

    /// Counts an event that Kafka did not acknowledge.
    pub fn event_not_sent(&self, error: String) {
        self.not_sent.get_or_create(&ErrorLabel { error }).inc();
    }

    /// Counts what the projector did.
    pub fn applied(&self, applied: &Applied) {
        let count = |outcome, n| self.applied.get_or_create(&EventOutcome { outcome }).inc_by(n);
        count("applied", applied.applied);
        count("duplicate", applied.duplicates);
        count("refused", applied.refused.len() as u64);
    }

    /// What a gateway measures at the moment of asking.
    pub fn measure_gateway(&self, directory_age: std::time::Duration, backlog: u64) {
        self.directory_age_seconds.set(directory_age.as_secs_f64());
        self.backlog_records.set(i64::try_from(backlog).unwrap_or(i64::MAX));
    }

    /// How much journeys hold at the moment of asking.
    pub fn measure_journeys(&self, sizes: &[(u16, String, Size)]) {
        let mut sums: BTreeMap<&str, Size> = BTreeMap::new();
        for (_, product, size) in sizes {
            sums.entry(product).or_default().add(size);
        }
        let gauge = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        for (product, Size { visitors, cells, untold, apart }) in sums {
            let label = JourneyLabel { product: product.to_owned() };
            self.journeys.visitors.get_or_create(&label).set(gauge(visitors as u64));
            self.journeys.cells.get_or_create(&label).set(gauge(cells as u64));
            self.journeys.untold.get_or_create(&label).set(gauge(untold as u64));
            for (why, count) in [("late", apart.late), ("overflow", apart.overflow), ("erased", apart.erased)] {
                self.journeys.apart.get_or_create(&ApartLabel { product: product.to_owned(), why }).set(gauge(count));
            }
        }
    }

    /// The Prometheus text, with how each partition stands at the moment of asking.
    pub fn render(&self, standings: &[Standing], now: Micros) -> String {
        for (partition, standing) in standings.iter().enumerate() {
            let label = PartitionLabel { partition: u16::try_from(partition).unwrap_or(u16::MAX) };
            let lag = standing.as_of.map_or(f64::INFINITY, |as_of| now.since(as_of).as_secs_f64());
            self.lag_seconds.get_or_create(&label).set(lag);
            self.dedup_ids.get_or_create(&label).set(i64::try_from(standing.ids).unwrap_or(i64::MAX));
        }
        let mut text = String::new();
        if prometheus_client::encoding::text::encode(&mut text, &self.registry).is_err() {
            text.push_str("# encoding failed\n");
        }
        text
    }
}
