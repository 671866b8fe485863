//! What `scripts/bench-ledger` measures: how fast a journal's backlog gets into the ledger, and in how much memory.
//!
//! `ledger write FOLDER RECORDS` writes a journal as a gateway does: 1,000 partners of which few are large, two keys each, five plans,
//! 2,000 answers a second. `ledger ship FOLDER DATABASE_URL` ships it and prints one line of JSON.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use cpu_time::ProcessTime;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;
use tollgate::clock::{Clock, Micros};
use tollgate::config::Durability;
use tollgate::db::Db;
use tollgate::ids::{ReplicaId, RequestId};
use tollgate::metering::{InFlight, Journal, Mode, Product, Shipper, UsageRecord, replica_store};
use tollgate::segment::Options;
use tollgate::telemetry::Metrics;

// As the gateway has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PARTNERS: usize = 1000;
const ANSWERS_PER_SECOND: i64 = 2000;
const START: Micros = Micros(1_780_000_000_000_000);
const REPLICA: &str = "rep_01jz0000000000000000000000";

fn options() -> Options {
    Options { segment_bytes: 64 << 20, durability: Durability::Os }
}

/// A record as the gate makes it. Of a thousand partners the first have most of the traffic.
fn record(n: i64, rng: &mut StdRng) -> UsageRecord {
    let skewed: f64 = rng.random();
    let partner = (skewed * skewed * skewed * PARTNERS as f64) as usize;
    let at = Micros(START.0 + n * 1_000_000 / ANSWERS_PER_SECOND);
    let mut units = vec![(Product::Inventory, rng.random_range(1..40))];
    if rng.random_bool(0.5) {
        units.push((Product::Pricing, rng.random_range(1..20)));
    }
    UsageRecord {
        v: 1,
        request: RequestId::new(at, rng),
        at,
        partner: format!("pt_01jz00000000000000000{partner:05}").into(),
        key: format!("{partner:06}{:06}", rng.random_range(0..2)).into(),
        mode: Mode::Live,
        plan: format!("plan-{}", partner % 5).into(),
        plan_version: 1,
        units: units.into_iter().collect(),
        waived_units: if rng.random_bool(0.01) { [(Product::Pricing, 1)].into() } else { Default::default() },
    }
}

async fn write(folder: &Path, records: i64) -> anyhow::Result<()> {
    let journal = Journal::open(folder, REPLICA.into(), 1, options(), Clock::manual(START))?;
    let mut rng = StdRng::seed_from_u64(7);
    let mut last = None;
    for n in 0..records {
        last = Some(journal.append(record(n, &mut rng)).await?);
    }
    if let Some(last) = last {
        last.durable().await?;
    }
    Ok(())
}

/// The most memory that this process ever had.
fn memory_peak_mib() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("the peak of memory is read from /proc")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("/proc has no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? / 1024)
}

async fn ship(folder: &Path, url: &str) -> anyhow::Result<()> {
    let db = Db::open(url, 4, folder).await?;
    let clock = Clock::system();
    clock.anchor(db.now().await?);
    let replica = ReplicaId::from(REPLICA);
    let mut transaction = db.begin().await?;
    let local = Journal::last_epoch(folder)?;
    let begun = replica_store::begin_epoch(&mut transaction, &replica, local, clock.now()).await?;
    transaction.commit().await?;
    let journal = Arc::new(Journal::open(folder, replica, begun.epoch, options(), clock.clone())?);
    let in_flight = Arc::new(InFlight::new(&clock));
    let metrics = Arc::new(Metrics::default());
    let (_now, asked) = watch::channel(0);
    let every = Duration::from_millis(200);
    let (shipper, mut shipped) = Shipper::new(journal.clone(), in_flight, db.clone(), clock, every, metrics.clone(), asked);
    let (stop, stopping) = watch::channel(false);
    let end = *journal.watch().borrow();
    let (begun, cpu) = (Instant::now(), ProcessTime::now());
    let shipper = tokio::spawn(shipper.run(stopping));
    shipped.wait_for(|shipped| shipped.to >= end).await?;
    let (took, cpu) = (begun.elapsed(), cpu.elapsed());
    stop.send_replace(true);
    shipper.await?;
    let records = metrics.shipped_records.get();
    ensure!(metrics.ship_failures.get() == 0, "a shipment failed: see the log");
    let told = serde_json::json!({
        "records": records,
        "seconds": took.as_secs_f64(),
        "recordsPerSecond": (records as f64 / took.as_secs_f64()).round(),
        "cpuSeconds": cpu.as_secs_f64(),
        "memoryPeakMib": memory_peak_mib()?,
    });
    writeln!(std::io::stdout(), "{told}").context("nobody reads the result")
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["write", folder, records] => write(Path::new(folder), records.parse().context("RECORDS is no number")?).await,
        ["ship", folder, url] => ship(Path::new(folder), url).await,
        _ => bail!("usage: ledger write FOLDER RECORDS | ledger ship FOLDER DATABASE_URL"),
    }
}
