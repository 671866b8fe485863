//! Three gateways on one PostgreSQL, one Redis and one topic, each with its own journal and replica id, killed and suspended at
//! random moments while all of them are asked: what clients received is what the ledger has, each replica's journal has no gap, and
//! neither a quota that is far nor one that is reached is leased or billed past.

mod asking;
mod copies;
mod evidence;

use std::process::Child;
use std::time::{Duration, Instant};

use rand::Rng;
use rand::seq::{IteratorRandom, SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use sqlx::{AnyConnection, Row};

use self::asking::{Clients, Partner};
use self::evidence::Evidence;
use super::stock;
use crate::support::topic::{Topic, is_real};
use crate::support::{self, Database, Kind, Process, ask, full, issue, per_unit, plan, redis, tollgate};

const GATEWAYS: usize = 3;
/// Who is silent for so long is not taken for alive, and another folder could have its id.
const SILENT: Duration = Duration::from_secs(61);

/// What happens to one of them, or two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Disturbance {
    Kill,
    KillTwo,
    /// In the middle of a transaction on the ledger, or of a lease.
    KillInTransaction,
    /// While it starts, with a backlog to ship.
    KillAtStart,
    /// For so long that others take it for gone; then it goes on.
    Suspend,
    /// The same in the middle of a transaction, whose locks it keeps.
    SuspendInTransaction,
    /// Suspended for so long, then killed.
    SuspendAndKill,
}

use Disturbance::{Kill, KillAtStart, KillInTransaction, KillTwo, Suspend, SuspendAndKill, SuspendInTransaction};

const DISTURBANCES: [Disturbance; 9] =
    [Kill, KillTwo, KillInTransaction, KillInTransaction, KillTwo, KillAtStart, Suspend, SuspendInTransaction, SuspendAndKill];

/// What was done.
#[derive(Debug, Default)]
struct Done {
    kills: usize,
    in_transaction: usize,
    of_the_ledger: usize,
    suspensions: usize,
}

struct Gateway {
    machine: Database,
    process: Option<Process>,
    /// What the database knows its connections by.
    name: String,
    /// Starts that came to serve, and those that were killed before.
    starts: i64,
    half_starts: i64,
}

impl Gateway {
    fn new(mut machine: Database, n: usize) -> Self {
        let name = format!("gateway{n}");
        machine.url = format!("{}?application_name={name}", machine.url);
        Self { machine, process: None, name, starts: 0, half_starts: 0 }
    }

    fn start(&mut self) {
        self.process = Some(Process::gateway(&self.machine));
        self.starts += 1;
    }

    fn process(&self) -> &Process {
        self.process.as_ref().unwrap()
    }

    fn spawn(&self) -> Child {
        copies::spawn(&self.machine, &["--role", "gateway"])
    }

    /// A second process on the folder ends at once, with its reason.
    fn is_alone(&self) {
        let said = copies::refused(self.spawn());
        assert!(said.contains(&format!("is in use by another tollgate process (pid {})", self.process().pid())), "{said}");
    }

    /// The last statement of a write that it is suspended in the middle of.
    async fn open_write(&self, of: &str, connection: &mut AnyConnection) -> Option<String> {
        let open = "select query from pg_stat_activity where datname = current_database() and application_name = $1 \
                    and state = 'idle in transaction' and query ~ '^(insert|update|delete)' and query ~ $2 \
                    and state_change < clock_timestamp() - interval '15 milliseconds'";
        let found = sqlx::query(open).bind(&self.name).bind(of).fetch_optional(connection).await.unwrap();
        found.map(|row| row.get(0))
    }

    /// Suspends it in the middle of a write that matches `of`, after `passed` others; gives the statement. None when it was never found
    /// in one: then it runs.
    async fn suspend_in_transaction(&self, of: &str, passed: u32) -> Option<String> {
        let mut connection = self.machine.connect().await;
        let mut found = 0;
        for _ in 0..200 {
            self.process().signal("STOP");
            // What it had sent is done by then, and nothing more comes.
            tokio::time::sleep(Duration::from_millis(25)).await;
            if let Some(query) = self.open_write(of, &mut connection).await {
                if found == passed {
                    return Some(query);
                }
                found += 1;
            }
            self.process().signal("CONT");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        None
    }

    /// As others see it, it has been suspended for longer than a lease lasts.
    async fn lease_ends(&self) {
        let mut connection = self.machine.connect().await;
        // What it suspended over could be its own row: then it looks alive for longer.
        let text = "update replica set reported_at = reported_at - $1 where id = \
                    (select id from replica where id = $2 for update skip locked)";
        let silent = i64::try_from(SILENT.as_micros()).unwrap();
        sqlx::query(text).bind(silent).bind(evidence::replica(&self.machine)).execute(&mut connection).await.unwrap();
    }
}

struct World {
    gateways: Vec<Gateway>,
    clients: Clients,
    done: Done,
}

impl World {
    fn kill(&mut self, victim: usize) {
        self.clients.leave(victim);
        self.gateways[victim].process.take().unwrap().kill();
        self.done.kills += 1;
    }

    fn start(&mut self, victim: usize) {
        self.gateways[victim].start();
        self.clients.find(victim, self.gateways[victim].process().address);
    }

    async fn disturb(&mut self, what: Disturbance, rng: &mut ChaCha8Rng) {
        let hit = (0..GATEWAYS).choose_multiple(rng, 1 + usize::from(what == KillTwo));
        let (victim, passed) = (hit[0], rng.random_range(0..4));
        let away = Duration::from_millis(if rng.random_bool(0.5) { 0 } else { rng.random_range(0..1000) });
        if matches!(what, KillInTransaction | SuspendInTransaction) {
            let query = self.gateways[victim].suspend_in_transaction("", passed).await.unwrap_or_default();
            self.done.in_transaction += usize::from(!query.is_empty());
            let of_the_ledger = ["journal_watermark", "usage_cell", "into replica"];
            self.done.of_the_ledger += usize::from(of_the_ledger.iter().any(|of| query.contains(of)));
        }
        match what {
            Kill | KillTwo | KillInTransaction => hit.iter().for_each(|victim| self.kill(*victim)),
            KillAtStart => {
                self.kill(victim);
                let mut child = self.gateways[victim].spawn();
                tokio::time::sleep(Duration::from_millis(rng.random_range(0..400))).await;
                child.kill().unwrap();
                child.wait().unwrap();
                self.done.kills += 1;
                self.gateways[victim].half_starts += 1;
            }
            Suspend | SuspendInTransaction | SuspendAndKill => {
                self.gateways[victim].process().signal("STOP");
                self.done.suspensions += 1;
                self.gateways[victim].lease_ends().await;
                let others: Vec<_> = (0..GATEWAYS).filter(|other| *other != victim).collect();
                let before = self.clients.answers(&others);
                tokio::time::sleep(Duration::from_millis(rng.random_range(1000..2500))).await;
                assert!(self.clients.answers(&others) > before, "nobody else serves while one is suspended");
                self.gateways[victim].is_alone();
                if what != SuspendAndKill {
                    self.gateways[victim].process().signal("CONT");
                    return;
                }
                self.kill(victim);
            }
        }
        tokio::time::sleep(away).await;
        hit.iter().for_each(|victim| self.start(*victim));
    }
}

fn plans(near: i64) -> String {
    let charges = per_unit("inventory", 0, "0.0125") + &per_unit("pricing", 0, "0.0333") + &per_unit("requests", 0, "0.00007");
    let far = "quota = { units = 1000000000, then = \"refuse\" }\nspend_cap = \"50000000.00\"";
    plan("far", &format!("{far}{charges}")) + &plan("near", &format!("quota = {{ units = {near}, then = \"refuse\" }}"))
}

/// A partner with a key.
fn partner(machine: &Database, name: &str, plan: &str) -> (String, String) {
    let id = tollgate(machine, &["partner", "create", name, "--plan", plan]).ok().trim().to_owned();
    (id, issue(machine, &[name]).key)
}

/// Asks until the quota is used, and not a unit more is given by anybody.
async fn to_the_end(world: &World, near: &Partner, used: &Evidence) {
    let http = reqwest::Client::new();
    let begun = Instant::now();
    for round in 0.. {
        let url = format!("http://{}/graphql", world.gateways[round % GATEWAYS].process().address);
        let answer = ask(&http, &url, &near.key, json!({ "query": asking::ONE_UNIT })).await;
        if answer.status == 200 {
            world.clients.received(answer.json());
            continue;
        }
        if answer.code() == "QUOTA_EXCEEDED" && used.billed(&near.id).await == near.quota {
            break;
        }
        assert!(matches!(answer.status, 429 | 503), "{answer:?}");
        assert!(begun.elapsed() < Duration::from_secs(60), "what is left cannot be used: {}", used.billed(&near.id).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_three_gateways_are_records_counted() {
    if !is_real() {
        return;
    }
    let (seed, mut rng) = support::rng("answers_of_three_gateways_are_records_counted");
    let mut disturbances = DISTURBANCES.repeat(if full() { 8 } else { 1 });
    disturbances.shuffle(&mut rng);
    let quota = i64::try_from(disturbances.len()).unwrap() * 100;

    let topic = Topic::new(2).await;
    let archive = tempfile::tempdir().unwrap();
    let projecting = Database::new(Kind::Postgres)
        .await
        .and("events.url", &format!("kafka://{}", topic.bootstrap))
        .and("events.topic", &topic.name)
        .and("features.url", &redis::single())
        .and("features.prefix", &redis::prefix())
        .and("archive.url", archive.path().to_str().unwrap())
        .and("journal.ship_every", "5ms")
        // Some are sealed, archived and removed on the way.
        .and("journal.segment_bytes", "262144");
    tollgate(&projecting, &["plan", "apply", projecting.file("plans.toml", &plans(quota)).to_str().unwrap()]).ok();
    let (far, near) = (partner(&projecting, "Far", "far"), partner(&projecting, "Near", "near"));
    let far = Partner { id: far.0, key: far.1, quota: 1_000_000_000 };
    let near = Partner { id: near.0, key: near.1, quota };
    stock(&projecting);
    let projector = Process::projector(&projecting);

    let mut gateways: Vec<_> = (0..GATEWAYS).map(|n| Gateway::new(projecting.beside(), n)).collect();
    gateways.iter_mut().for_each(Gateway::start);
    let evidence = Evidence::new(projecting.beside(), &gateways, archive.path(), [far.clone(), near.clone()]);
    let addresses = gateways.iter().map(|gateway| gateway.process().address);
    let mut world =
        World { clients: Clients::begin(addresses.collect(), &far, &near, &mut rng), gateways, done: Done::default() };
    let watched = evidence.watch();
    for what in disturbances {
        tokio::time::sleep(Duration::from_millis(rng.random_range(30..700))).await;
        println!("{what:?}");
        world.disturb(what, &mut rng).await;
    }
    world.clients.stop().await;
    to_the_end(&world, &near, &evidence).await;
    for gateway in &mut world.gateways {
        // A clean stop ships what is left.
        gateway.process.take().unwrap().terminate();
    }
    let looks = watched.end().await;
    projector.terminate();

    let told = format!("seed {seed}: {:?}, {looks} looks at grants and ledger", world.done);
    let answers = world.clients.end();
    evidence.hold(&world.gateways, &answers, &told).await;
    assert!(world.done.kills >= 5 && world.done.in_transaction > 0 && world.done.of_the_ledger > 0, "{told}");
}
