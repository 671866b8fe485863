//! Two partners with three months of usage, closed and booked: what verification looks at.

use std::collections::BTreeMap;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Row};
use tollgate::clock::{Clock, Micros};
use tollgate::config::Durability;
use tollgate::data_dir::DataDir;
use tollgate::metering::{Journal, Mode, Product, UsageRecord};
use tollgate::segment::Options;

use crate::support::{Database, Kind, Process, Ran, per_unit, plan, tollgate};

pub(crate) const PARTNERS: [&str; 2] = ["Ada", "Bob"];

pub(crate) fn micros(instant: &str) -> Micros {
    instant.parse::<jiff::Timestamp>().unwrap().into()
}

pub(crate) struct Town {
    pub(crate) database: Database,
    /// Ids of the partners and of their keys.
    pub(crate) ids: Vec<(String, String)>,
    rng: ChaCha8Rng,
    records: u64,
}

fn plans() -> String {
    let graduated = "\n[[plan.charge]]\nmeter = \"pricing\"\nmodel = \"graduated\"\nincluded = 100\n\
        tiers = [{ up_to = 200, unit_price = \"0.05\" }, { unit_price = \"0.0111\" }]\n";
    let package = "trial_days = 20\ndiscount_percent = \"10\"\nbase_fee = { amount = \"49.00\", due = \"advance\" }\n\n\
        [[plan.charge]]\nmeter = \"inventory\"\nmodel = \"package\"\npackage_units = 50\npackage_price = \"1.99\"\n";
    plan("ada", &(per_unit("inventory", 50, "0.0333") + graduated)) + &plan("bob", package)
}

impl Town {
    /// January and February of 2026 are closed; some of January's usage came late. One invoice is paid, one credited, one void.
    pub(crate) async fn build(database: Database, rng: ChaCha8Rng) -> Self {
        database.set_now(micros("2026-01-01T00:00:00Z"));
        let file = database.file("plans.toml", &plans());
        tollgate(&database, &["plan", "apply", file.to_str().unwrap()]).ok();
        for name in PARTNERS {
            let zone = if name == "Ada" { "Asia/Kathmandu" } else { "UTC" };
            let create = ["partner", "create", name, "--plan", &name.to_lowercase(), "--timezone", zone, "--tax", "19"];
            tollgate(&database, &create).ok();
            tollgate(&database, &["key", "issue", name]).ok();
        }
        let list = |what: &str| -> Vec<Value> {
            serde_json::from_str(&tollgate(&database, &[what, "list", "--format", "json"]).ok()).unwrap()
        };
        let (partners, keys) = (list("partner"), list("key"));
        let id = |name: &str| {
            let partner = partners.iter().find(|partner| partner["name"] == name).unwrap()["id"].as_str().unwrap().to_owned();
            let key = keys.iter().find(|key| key["partner"] == partner.as_str()).unwrap()["id"].as_str().unwrap().to_owned();
            (partner, key)
        };
        let ids = PARTNERS.iter().map(|name| id(name)).collect();
        let mut town = Self { database, ids, rng, records: 0 };
        town.used("2026-01-01T00:00:00Z", "2026-01-31T18:00:00Z", 260).await;
        town.ship("2026-02-01T02:00:00Z");
        town.close("2026-01");
        // From another disk, after January was closed.
        town.used("2026-01-20T00:00:00Z", "2026-01-31T18:00:00Z", 40).await;
        town.used("2026-02-01T00:00:00Z", "2026-02-28T18:00:00Z", 260).await;
        town.ship("2026-03-01T02:00:00Z");
        town.close("2026-02");
        let number = |partner: usize, period: &str| town.invoice(partner, period)["number"].as_str().unwrap().to_owned();
        let (paid, credited, voided) = (number(0, "2026-01"), number(1, "2026-02"), number(0, "2026-02"));
        town.run(&["credit-note", "create", &paid, "--amount", "0.50", "--reason", "a gesture"]).ok();
        town.run(&["invoice", "pay", &paid]).ok();
        town.run(&["credit-note", "create", &credited, "--amount", "1.11", "--reason", "a gesture"]).ok();
        town.run(&["invoice", "void", &voided, "--reason", "a wrong address"]).ok();
        town.close("2026-02");
        town
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        tollgate(&self.database, arguments)
    }

    fn close(&self, period: &str) {
        self.run(&["invoice", "run", "--period", period, "--finalize"]).ok();
    }

    /// The document of the invoice of a partner's month that counts.
    pub(crate) fn invoice(&self, partner: usize, period: &str) -> Value {
        let arguments = ["invoice", "list", "--period", period, "--partner", &self.ids[partner].0, "--format", "json"];
        let list: Vec<Value> = serde_json::from_str(&self.run(&arguments).ok()).unwrap();
        let counts = list.iter().find(|invoice| invoice["state"] != "void").unwrap();
        let shown = self.run(&["invoice", "show", counts["id"].as_str().unwrap(), "--format", "json"]).ok();
        serde_json::from_str(&shown).unwrap()
    }

    /// Answers to both partners between two instants, in the order of admission but for a few, journaled in one start.
    pub(crate) async fn used(&mut self, from: &str, to: &str, count: usize) {
        let (from, to) = (micros(from), micros(to));
        let mut records: Vec<_> = (0..count).map(|_| self.record(from, to)).collect();
        records.sort_by_key(|record| record.at);
        for place in (1..records.len()).step_by(7) {
            records.swap(place - 1, place);
        }
        let mut connection = self.database.connect().await;
        let data_dir = DataDir::try_lock(&self.database.data_dir()).unwrap().unwrap();
        let replica = data_dir.replica(from).unwrap();
        let begin = "insert into replica (id, epoch, started_at) values ($1, 1, $2) \
                     on conflict (id) do update set epoch = replica.epoch + 1 returning epoch";
        let begin = sqlx::query(begin).bind(replica.as_str()).bind(from.0);
        let epoch = begin.fetch_one(&mut connection).await.unwrap().try_get(0).unwrap();
        let options = Options { segment_bytes: 8192, durability: Durability::Os };
        let journal = Journal::open(&data_dir.journal(), replica, epoch, options, Clock::manual(from)).unwrap();
        for record in records {
            journal.append(record).await.unwrap().durable().await.unwrap();
        }
    }

    fn record(&mut self, from: Micros, to: Micros) -> UsageRecord {
        self.records += 1;
        let rng = &mut self.rng;
        let who = rng.random_range(0..self.ids.len());
        let (partner, key) = &self.ids[who];
        let mut units = BTreeMap::from([(Product::Inventory, rng.random_range(1..30))]);
        if rng.random_bool(0.5) {
            units.insert(Product::Pricing, rng.random_range(1..20));
        }
        let waived_units = if rng.random_bool(0.1) { [(Product::Inventory, 7)].into() } else { BTreeMap::new() };
        UsageRecord {
            v: 1,
            request: format!("req_{:026}", self.records).into(),
            at: Micros(rng.random_range(from.0..to.0)),
            partner: partner.as_str().into(),
            key: key.as_str().into(),
            mode: if rng.random_bool(0.05) { Mode::Test } else { Mode::Live },
            plan: PARTNERS[who].to_lowercase().into(),
            plan_version: 1,
            units,
            waived_units,
        }
    }

    /// The gateway runs at an instant until all that was answered is in the ledger and archived.
    pub(crate) fn ship(&self, instant: &str) {
        self.database.set_now(micros(instant));
        Process::serve(&self.database).terminate();
    }

    /// The archive's files, in order.
    pub(crate) fn segments(&self) -> Vec<std::path::PathBuf> {
        let replica = std::fs::read_to_string(self.database.data_dir().join("replica")).unwrap();
        let folder = self.database.data_dir().join("archive/journal").join(replica.trim());
        let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    /// Statements past Tollgate's own code.
    pub(crate) async fn execute(&self, statements: &[&str]) {
        let mut connection = self.database.connect().await;
        for statement in statements {
            sqlx::query(AssertSqlSafe((*statement).to_owned())).execute(&mut connection).await.unwrap();
        }
    }

    /// One text.
    pub(crate) async fn text(&self, sql: &str) -> String {
        let mut connection = self.database.connect().await;
        sqlx::query(AssertSqlSafe(sql.to_owned())).fetch_one(&mut connection).await.unwrap().try_get(0).unwrap()
    }

    /// Takes the guards of a table away.
    pub(crate) async fn unguard(&self, table: &str, triggers: &[&str]) {
        for trigger in triggers {
            let of = if self.database.kind == Kind::Postgres { format!(" on {table}") } else { String::new() };
            self.execute(&[&format!("drop trigger {trigger}{of}")]).await;
        }
    }

    /// What a verification that must fail says.
    #[track_caller]
    pub(crate) fn differs(&self, arguments: &[&str]) -> Vec<String> {
        let ran = self.run(&[&["usage", "verify"], arguments].concat());
        assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{ran:?}");
        let differences: Vec<String> =
            ran.stderr.lines().filter_map(|line| line.strip_prefix("differs: ")).map(str::to_owned).collect();
        assert!(ran.stderr.trim_end().ends_with("differences were found; they are told above"), "{ran:?}");
        assert!(!differences.is_empty(), "{ran:?}");
        differences
    }
}
