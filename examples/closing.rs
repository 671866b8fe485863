//! What `scripts/bench-closing` measures: a month closed for many partners, how long each part of it takes and in how much memory.
//!
//! `closing make FOLDER DATABASE_URL PARTNERS RECORDS` makes partners on five plans, in four time zones, that were invoiced for the month
//! before, and last month's usage: so many records each, every one in a quarter of an hour of its own, through the journal into
//! ledger and archive. `closing run FOLDER DATABASE_URL` closes that month as `tollgate invoice run --finalize` does, and prints one line
//! of JSON.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use cpu_time::ProcessTime;
use jiff::tz::TimeZone;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tollgate::billing::Period;
use tollgate::billing::invoice::evidence::Proven;
use tollgate::billing::invoice::finalize;
use tollgate::billing::invoice::run::{self, Closable};
use tollgate::billing::invoice::store::Stored;
use tollgate::billing::plan;
use tollgate::billing::store as plans;
use tollgate::clock::{Clock, Micros};
use tollgate::config::{Durability, Settings};
use tollgate::data_dir::DataDir;
use tollgate::db::Db;
use tollgate::directory::admin::{self, NewPartner};
use tollgate::directory::{Details, Partner};
use tollgate::ids::{KeyId, PlanId, RequestId};
use tollgate::metering::{Archive, Journal, Mode, Product, UsageRecord, at_rest, replica_store};
use tollgate::segment::Options;

// As the gateway has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const QUARTER: Duration = Duration::from_secs(15 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// In every zone the days between the month's first and its last belong to it.
const QUARTERS: usize = 26 * 96;
const ZONES: [&str; 4] = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu"];
const PLAN_IDS: [&str; 5] = ["least", "tiers", "bundle", "all", "yen"];
const PLANS: &str = r#"
[[plan]]
id = "least"
version = 1
name = "Least"
currency = "EUR"
products = ["inventory"]
rate = { units_per_second = 10, burst = 50 }
trial_days = 45
minimum = "49.00"
charge = [{ meter = "inventory", model = "per_unit", included = 1000, unit_price = "0.004" }]

[[plan]]
id = "tiers"
version = 1
name = "Tiers"
currency = "EUR"
products = ["inventory"]
rate = { units_per_second = 100, burst = 400 }
base_fee = { amount = "99.00", due = "advance" }
[[plan.charge]]
meter = "inventory"
model = "graduated"
tiers = [{ up_to = 2000, unit_price = "0.0025" }, { up_to = 8000, unit_price = "0.0020" }, { unit_price = "0.0015" }]

[[plan]]
id = "bundle"
version = 1
name = "Bundle"
currency = "EUR"
products = ["inventory"]
rate = { units_per_second = 100, burst = 400 }
base_fee = { amount = "490.00", due = "arrears" }
discount_percent = "10"
charge = [
  { meter = "inventory", model = "per_unit", included = 5000, unit_price = "0.0012" },
  { meter = "requests", model = "package", package_units = 100, package_price = "0.80" },
]

[[plan]]
id = "all"
version = 1
name = "All"
currency = "USD"
products = ["inventory"]
rate = { units_per_second = 100, burst = 400 }
[[plan.charge]]
meter = "inventory"
model = "volume"
tiers = [{ up_to = 5000, unit_price = "0.003" }, { unit_price = "0.002" }]

[[plan]]
id = "yen"
version = 1
name = "Yen"
currency = "JPY"
products = ["inventory"]
rate = { units_per_second = 100, burst = 400 }
base_fee = { amount = "12000", due = "advance" }
charge = [
  { meter = "inventory", model = "per_unit", unit_price = "0.35" },
  { meter = "requests", model = "per_unit", unit_price = "0.01" },
]
"#;

/// The month that is closed, at an instant: over in every time zone.
fn period(now: Micros) -> anyhow::Result<Period> {
    Period::containing(Micros(now.0 - 2 * DAY.as_micros() as i64), &TimeZone::UTC).previous()
}

fn settings(folder: &Path) -> anyhow::Result<Settings> {
    let mut settings = Settings::defaults(folder)?;
    settings.invoice.seller.name = "Benchmark".to_owned();
    Ok(settings)
}

async fn make(folder: &Path, url: &str, partners: usize, records: usize) -> anyhow::Result<()> {
    let (settings, mut rng) = (settings(folder)?, StdRng::seed_from_u64(7));
    let data_dir = DataDir::lock(folder)?;
    let db = Db::open(url, 2, folder).await?;
    let period = period(db.now().await?)?;
    // Some way into the month before, in every zone.
    let since = period.previous()?.begins(&TimeZone::UTC)?.plus(2 * DAY);
    let partners = make_partners(&db, partners, since, &mut rng).await?;
    let archive = Archive::open(&settings.archive, folder)?;
    let closable = run::closable(&db, &settings.invoice, period.previous()?, None).await?;
    let proven = Proven::read(&db, &archive, &closable).await?;
    let drafts = run::drafts(&db, &settings.invoice, &closable, &proven, &mut rng).await?.drafts;
    finalize_all(&db, &settings, drafts).await?;
    write(&data_dir, &db, &settings, &partners, records, since, &mut rng).await?;
    at_rest::close(&data_dir.journal(), &data_dir.replica(since)?, &db, &archive).await
}

async fn make_partners(db: &Db, count: usize, since: Micros, rng: &mut StdRng) -> anyhow::Result<Vec<Partner>> {
    let mut transaction = db.begin().await?;
    admin::apply_plans(&mut transaction, &plan::parse(PLANS)?, since).await?;
    let mut partners = Vec::with_capacity(count);
    for n in 0..count {
        let (name, plan) = (format!("Partner {n:06}"), PlanId::from(PLAN_IDS[n % PLAN_IDS.len()]));
        let mut details = Details { address: vec![format!("{n} High Street"), "Springfield".to_owned()], ..Details::default() };
        details.set_tax(["19", "7.7", "exempt: reverse charge"][n % 3])?;
        let new = NewPartner { timezone: ZONES[n / PLAN_IDS.len() % ZONES.len()], details, ..NewPartner::new(&name, &plan) };
        partners.push(admin::create_partner(&mut transaction, new, since, rng).await?);
    }
    transaction.commit().await?;
    Ok(partners)
}

/// A month's usage, in order of admission. In each quarter of an hour every fifth partner, or as many as it takes, has one answer.
async fn write(
    data_dir: &DataDir,
    db: &Db,
    settings: &Settings,
    partners: &[Partner],
    records: usize,
    since: Micros,
    rng: &mut StdRng,
) -> anyhow::Result<()> {
    ensure!(records > 0 && records <= QUARTERS, "a partner has 1 to {QUARTERS} records: a quarter of an hour for each");
    let replica = data_dir.replica(since)?;
    let mut transaction = db.begin().await?;
    // At work since then: what it admitted is not late.
    let begun = replica_store::begin_epoch(&mut transaction, &replica, 0, since).await?;
    transaction.commit().await?;
    let options = Options { segment_bytes: settings.journal.segment_bytes, durability: Durability::Os };
    let journal = Journal::open(&data_dir.journal(), replica, begun.epoch, options, Clock::system())?;
    let first = period(db.now().await?)?.begins(&TimeZone::UTC)?.plus(DAY);
    let stride = QUARTERS / records;
    let mut last = None;
    for quarter in 0..stride * records {
        let begins = first.plus(QUARTER * quarter as u32);
        for (n, partner) in partners.iter().enumerate().skip(quarter % stride).step_by(stride) {
            let at = Micros(begins.0 + (QUARTER.as_micros() as usize * n / partners.len()) as i64);
            last = Some(journal.append(record(n, partner, at, rng)?).await?);
        }
    }
    last.context("there is no partner")?.durable().await?;
    Ok(())
}

fn record(n: usize, partner: &Partner, at: Micros, rng: &mut StdRng) -> anyhow::Result<UsageRecord> {
    let (plan, plan_version) = partner.plan.clone().context("the partner has no plan")?;
    Ok(UsageRecord {
        v: 1,
        request: RequestId::new(at, rng),
        at,
        partner: partner.id.clone(),
        key: KeyId::from(format!("{n:012}")),
        mode: Mode::Live,
        plan,
        plan_version,
        units: [(Product::Inventory, rng.random_range(1..40))].into(),
        waived_units: if rng.random_bool(0.01) { [(Product::Inventory, 1)].into() } else { BTreeMap::new() },
    })
}

/// As the command does it.
async fn finalize_all(db: &Db, settings: &Settings, drafts: Vec<Stored>) -> anyhow::Result<Vec<Stored>> {
    let plans = plans::plans_by_version(&mut *db.read().await?).await?;
    let mut finalized = Vec::new();
    for drafts in drafts.chunks(100) {
        let mut transaction = db.begin().await?;
        let now = db.now().await?;
        for draft in drafts {
            finalized.push(finalize::finalize(&mut transaction, &settings.invoice, &plans, draft, now).await?);
        }
        transaction.commit().await?;
    }
    Ok(finalized)
}

/// The most memory that this process ever had.
fn memory_peak_mib() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("the peak of memory is read from /proc")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("/proc has no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? / 1024)
}

/// Times the parts of the run.
struct Laps {
    since: Instant,
    cpu: ProcessTime,
    told: serde_json::Map<String, serde_json::Value>,
}

impl Laps {
    fn begin() -> Self {
        Self { since: Instant::now(), cpu: ProcessTime::now(), told: serde_json::Map::new() }
    }

    fn lap(&mut self, phase: &str) -> anyhow::Result<()> {
        let thousandths = |took: Duration| took.as_millis() as f64 / 1000.0;
        let told = serde_json::json!({
            "seconds": thousandths(self.since.elapsed()),
            "cpuSeconds": thousandths(self.cpu.elapsed()),
            "memoryPeakMib": memory_peak_mib()?,
        });
        self.told.insert(phase.to_owned(), told);
        (self.since, self.cpu) = (Instant::now(), ProcessTime::now());
        Ok(())
    }
}

async fn close(folder: &Path, url: &str) -> anyhow::Result<()> {
    let settings = settings(folder)?;
    let db = Db::open(url, 2, folder).await?;
    let period = period(db.now().await?)?;
    let archive = Archive::open(&settings.archive, folder)?;
    let mut rng = StdRng::from_os_rng();
    let begun = Instant::now();
    let mut laps = Laps::begin();
    let closable = run::closable(&db, &settings.invoice, period, None).await?;
    laps.lap("closable")?;
    let proven = Proven::read(&db, &archive, &closable).await?;
    laps.lap("evidence")?;
    let ran = run::drafts(&db, &settings.invoice, &closable, &proven, &mut rng).await?;
    laps.lap("drafts")?;
    ensure!(ran.left.is_empty(), "{} partners were left out: {}", ran.left.len(), ran.left[0]);
    let finalized = finalize_all(&db, &settings, ran.drafts).await?;
    laps.lap("finalize")?;
    let took = begun.elapsed();
    let Closable { accounts, archived, .. } = &closable;
    ensure!(finalized.len() == accounts.len(), "{} invoices for {} partners", finalized.len(), accounts.len());
    let proven: u64 = accounts.iter().map(|account| proven.records(&account.partner.id)).sum();
    ensure!(archived.values().sum::<u64>() == proven, "the invoices prove {proven} records, and more are archived");
    let told = serde_json::json!({
        "partners": accounts.len(),
        "records": proven,
        "invoices": finalized.len(),
        "seconds": took.as_millis() as f64 / 1000.0,
        "invoicesPerSecond": (finalized.len() as f64 / took.as_secs_f64()).round(),
        "memoryPeakMib": memory_peak_mib()?,
        "phases": laps.told,
    });
    writeln!(std::io::stdout(), "{told}").context("nobody reads the result")
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["make", folder, url, partners, records] => {
            let partners = partners.parse().context("PARTNERS is no number")?;
            make(Path::new(folder), url, partners, records.parse().context("RECORDS is no number")?).await
        }
        ["run", folder, url] => close(Path::new(folder), url).await,
        _ => bail!("usage: closing make FOLDER DATABASE_URL PARTNERS RECORDS | closing run FOLDER DATABASE_URL"),
    }
}
