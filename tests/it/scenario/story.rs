//! What the dated stories are told with: one partner, commands of the binary on a clock of its own, and a month's end at which
//! the usage is really journaled, shipped and archived.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::Value;
use sqlx::Row;
use tollgate::clock::{Clock, Micros};
use tollgate::config::Durability;
use tollgate::data_dir::DataDir;
use tollgate::ids::{KeyId, PartnerId, RequestId};
use tollgate::metering::{Journal, Mode, Product, UsageRecord};
use tollgate::segment::Options;

use crate::support::{Database, Process, Ran, tollgate};

pub(crate) struct Story {
    pub(crate) database: Database,
    /// The partner's id.
    pub(crate) partner: String,
    key: KeyId,
    /// Answered, and not yet journaled.
    answered: Vec<UsageRecord>,
}

/// `2024-01-17T15:00:00Z`, or at another offset.
pub(crate) fn micros(instant: &str) -> Micros {
    instant.parse::<Timestamp>().unwrap().into()
}

impl Story {
    /// A partner on the first of `plans`, which are TOML, since `instant`.
    pub(crate) async fn begin(database: Database, instant: &str, plans: &str, create: &[&str]) -> Self {
        database.set_now(micros(instant));
        let file = database.file("plans.toml", plans);
        tollgate(&database, &["plan", "apply", file.to_str().unwrap()]).ok();
        let plan = plans.lines().find_map(|line| line.strip_prefix("id = ")).unwrap().trim_matches('"').to_owned();
        let partner = tollgate(&database, &[&["partner", "create", "Ada", "--plan", &plan], create].concat()).ok();
        tollgate(&database, &["key", "issue", "Ada"]).ok();
        let keys: Value = serde_json::from_str(&tollgate(&database, &["key", "list", "--format", "json"]).ok()).unwrap();
        let key = keys[0]["id"].as_str().unwrap().into();
        Self { database, partner: partner.trim().to_owned(), key, answered: Vec::new() }
    }

    /// A command at an instant.
    pub(crate) fn at(&self, instant: &str, arguments: &[&str]) -> Ran {
        self.database.set_now(micros(instant));
        tollgate(&self.database, arguments)
    }

    /// An answer at an instant, under the plan that was in force then.
    pub(crate) async fn used(&mut self, instant: &str, units: &[(Product, u64)]) {
        self.used_stale(instant, units, &[]).await;
    }

    /// An answer of which some was staler than the plan promises.
    pub(crate) async fn used_stale(&mut self, instant: &str, units: &[(Product, u64)], waived: &[(Product, u64)]) {
        let at = micros(instant);
        let mut connection = self.database.connect().await;
        let in_force = "select plan_id, plan_version from subscription where starts_at <= $1 and (ends_at is null or ends_at > $1)";
        let row = sqlx::query(in_force).bind(at.0).fetch_one(&mut connection).await.unwrap();
        let sum = |units: &[(Product, u64)]| units.iter().copied().collect::<BTreeMap<_, _>>();
        self.answered.push(UsageRecord {
            v: 1,
            request: RequestId::new(at, &mut StdRng::from_os_rng()),
            at,
            partner: PartnerId::from(self.partner.as_str()),
            key: self.key.clone(),
            mode: Mode::Live,
            plan: row.try_get::<String, _>(0).unwrap().into(),
            plan_version: row.try_get(1).unwrap(),
            units: sum(units),
            waived_units: sum(waived),
        });
    }

    /// Journals what was answered, as the gateway of this folder would have.
    async fn journal(&mut self) {
        let mut connection = self.database.connect().await;
        let data_dir = DataDir::try_lock(&self.database.data_dir()).unwrap().unwrap();
        let replica = data_dir.replica(self.answered[0].at).unwrap();
        let begin = "insert into replica (id, epoch, started_at) values ($1, 1, $2) \
                     on conflict (id) do update set epoch = replica.epoch + 1 returning epoch";
        let begin = sqlx::query(begin).bind(replica.as_str()).bind(self.answered[0].at.0);
        let epoch = begin.fetch_one(&mut connection).await.unwrap().try_get(0).unwrap();
        let options = Options { segment_bytes: 1 << 20, durability: Durability::Os };
        let clock = Clock::manual(self.answered[0].at);
        let journal = Journal::open(&data_dir.journal(), replica, epoch, options, clock.clone()).unwrap();
        for record in self.answered.drain(..) {
            clock.anchor(record.at);
            journal.append(record).await.unwrap().durable().await.unwrap();
        }
    }

    /// The gateway runs at an instant until all that was answered is in the ledger and archived.
    pub(crate) async fn ship(&mut self, instant: &str) {
        if !self.answered.is_empty() {
            self.journal().await;
        }
        self.database.set_now(micros(instant));
        let gateway = Process::serve(&self.database);
        gateway.terminate();
    }
}
