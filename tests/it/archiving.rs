//! The journal's way into the archive: sealed by age, kept while the archive is away, gone on with after kill -9, on a folder and
//! on an object store; closed by a command with and without a gateway; removed when the law lets it go.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rand::Rng;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tollgate::clock::{Clock, Micros};
use tollgate::config::Settings;
use tollgate::db::Db;
use tollgate::metering::{
    Archive, ArchivedSegment, Mode, Product, UsageRecord, archive_store, at_rest, replica_store, retention,
};

use crate::support::{self, Database, Gateway, Process, graphql, on_both_databases, per_unit, plan, tollgate};

fn record(at: Micros, n: u64) -> UsageRecord {
    UsageRecord {
        v: 1,
        request: format!("req_{n}").into(),
        at,
        partner: "partner".into(),
        key: "key".into(),
        mode: Mode::Live,
        plan: "p".into(),
        plan_version: 1,
        units: [(Product::Pricing, n)].into(),
        waived_units: BTreeMap::new(),
    }
}

async fn append(gateway: &Gateway, numbers: std::ops::Range<u64>) {
    let app = &gateway.running.app;
    for n in numbers {
        app.journal.append(record(app.clock.now(), n)).await.unwrap().durable().await.unwrap();
    }
}

async fn rows(database: &Database) -> Vec<ArchivedSegment> {
    let mut connection = database.connect().await;
    loop {
        let before = archive_store::between(&mut connection, Micros(0), Micros(i64::MAX)).await.unwrap();
        let mut rows = Vec::new();
        for replica in replica_store::replicas(&mut connection).await.unwrap() {
            rows.extend(archive_store::of_replica(&mut connection, &replica.id).await.unwrap());
        }
        // The question by time leaves out what holds no record, and nothing else. The gateway may archive between two questions.
        let after = archive_store::between(&mut connection, Micros(0), Micros(i64::MAX)).await.unwrap();
        if before == after {
            let with_records: Vec<_> = rows.iter().filter(|row| row.records > 0).cloned().collect();
            assert_eq!(after, with_records);
            return rows;
        }
    }
}

fn segments(folder: &Path) -> Vec<u64> {
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut numbers: Vec<u64> = names.filter_map(|name| name.strip_suffix(".seg")?.parse().ok()).collect();
    numbers.sort_unstable();
    numbers
}

/// The requests in a segment's bytes and their instants, read by the format's description alone.
fn requests(bytes: &[u8]) -> impl Iterator<Item = (String, i64)> {
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let mut at = 16 + u32_at(8);
    let mut found = Vec::new();
    while at < bytes.len() {
        let record: Value = serde_json::from_slice(&bytes[at + 56..at + 16 + u32_at(at)]).unwrap();
        found.push((record["request"].as_str().unwrap().to_owned(), record["at"].as_i64().unwrap()));
        at += 16 + u32_at(at);
    }
    found.into_iter()
}

/// Everything in the archive, held against the ledger's list of it; the numbers of the records in order.
async fn archived(database: &Database, archive: &Archive) -> Vec<u64> {
    let mut numbers = Vec::new();
    for row in rows(database).await {
        let bytes = archive.get(&row.replica, row.segment).await.unwrap().unwrap();
        let found: Vec<_> = requests(&bytes).collect();
        let instants = found.iter().map(|(_, at)| Micros(*at));
        assert_eq!(row.bytes, bytes.len() as u64);
        assert_eq!(row.sha256, Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        assert_eq!(row.admitted, instants.clone().min().zip(instants.max()));
        assert_eq!(row.records, found.len() as u64);
        numbers.extend(found.iter().map(|(request, _)| request["req_".len()..].parse::<u64>().unwrap_or(0)));
    }
    numbers
}

/// Waits for something, for 20 s at most.
async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) {
    for _ in 0..400 {
        if is().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what} did not happen");
}

fn own_archive(database: &Database) -> Archive {
    Archive::open(&Gateway::settings(database).archive, &database.data_dir()).unwrap()
}

async fn metric(gateway: &Gateway, name: &str) -> u64 {
    let url = format!("http://{}/metrics", gateway.running.operator_address);
    let text = gateway.http.get(url).send().await.unwrap().text().await.unwrap();
    let line =
        text.lines().find(|line| line.starts_with(&format!("tollgate_{name} "))).unwrap_or_else(|| panic!("no {name}: {text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// Both kinds of archive behave alike. `away` makes it go, and come back.
async fn the_journal_gets_into_the_archive(database: &Database, change: impl Fn(&mut Settings), away: impl Fn(bool)) {
    let mut settings = Gateway::settings(database);
    change(&mut settings);
    let archive = Archive::open(&settings.archive, &database.data_dir()).unwrap();
    let journal = database.data_dir().join("journal");

    // An idle gateway seals by age.
    let gateway = Gateway::start_with(database, |settings| {
        change(settings);
        settings.journal.segment_age = Duration::from_millis(300);
    })
    .await;
    append(&gateway, 1..6).await;
    until("archiving by age", async || archived(database, &archive).await == [1, 2, 3, 4, 5]).await;
    until("removing what is archived", async || segments(&journal).len() == 1).await;

    // While the archive is away everything stays here, and is brought there when it is back.
    let here = segments(&journal)[0];
    away(true);
    append(&gateway, 6..8).await;
    until("a failure", async || metric(&gateway, "archive_failures_total").await > 0).await;
    append(&gateway, 8..9).await;
    let error = format!("{:#}", gateway.running.app.close_journal().await.unwrap_err());
    assert!(error.starts_with("the usage is in the ledger, but not in the archive: "), "{error}");
    assert!(!error.contains('\n'), "{error}");
    assert_eq!(segments(&journal)[0], here, "nothing is removed");
    assert!(metric(&gateway, "archive_backlog_segments").await >= 1);
    assert_eq!(database.number("select cast(sum(units) as bigint) from usage_cell where meter = 'pricing'").await, 36);
    away(false);
    until("archiving afterwards", async || archived(database, &archive).await == [1, 2, 3, 4, 5, 6, 7, 8]).await;
    until("no backlog", async || metric(&gateway, "archive_backlog_segments").await == 0).await;

    // Asked for, nothing is waited for; a stop leaves nothing behind.
    append(&gateway, 9..10).await;
    let asked = gateway.running.app.clock.now();
    let closed = gateway.running.app.close_journal().await.unwrap();
    assert!(closed >= asked, "nobody is in flight: {closed} when asked at {asked}");
    assert_eq!(archived(database, &archive).await, (1..10).collect::<Vec<_>>());
    append(&gateway, 10..12).await;
    gateway.stop().await;
    assert_eq!(archived(database, &archive).await, (1..12).collect::<Vec<_>>());
    assert_eq!(segments(&journal).len(), 1);
}

/// A gateway's database and key; what `environment` says comes on top.
fn ready(database: &Database) -> String {
    let plans = database.file("plans.toml", &plan("p", &per_unit("inventory", 0, "0.01")));
    tollgate(database, &["plan", "apply", plans.to_str().unwrap()]).ok();
    let id = tollgate(database, &["partner", "create", "One", "--plan", "p"]).ok();
    tollgate(database, &["key", "issue", id.trim()]).ok().trim().to_owned()
}

/// Kills at any moment leave each record in the archive once, in segments without a gap.
async fn nothing_is_lost_by_kills(database: &Database, environment: &[(&str, String)], archive: &Archive) {
    let (seed, mut rng) = support::rng("nothing_is_lost_by_kills");
    let key = ready(database);
    let start = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        command.arg("serve").env("TOLLGATE__JOURNAL__SEGMENT_BYTES", "4096").env("TOLLGATE__JOURNAL__SEGMENT_AGE", "150ms");
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        Process::start(command, database)
    };
    let mut received = BTreeSet::new();
    for _ in 0..6 {
        let process = start();
        let url = format!("http://{}/graphql", process.address);
        let client = async {
            let http = reqwest::Client::new();
            loop {
                let request = http.post(&url).bearer_auth(&key).json(&json!({ "query": "{ viewer { name } }" })).send().await;
                let Ok(response) = request else { break };
                let Ok(body) = response.json::<Value>().await else { break };
                assert!(received.insert(body["extensions"]["usage"]["requestId"].as_str().unwrap().to_owned()));
            }
        };
        let wait = Duration::from_millis(rng.random_range(200..2500));
        let kill = async {
            tokio::time::sleep(wait).await;
            assert!(Command::new("kill").args(["-KILL", &process.pid()]).status().unwrap().success());
        };
        tokio::join!(client, kill);
        process.kill();
    }
    start().terminate();
    let mut found = BTreeSet::new();
    let mut next = 1;
    for row in rows(database).await {
        assert_eq!(row.segment, next, "seed {seed}");
        next += 1;
        let bytes = archive.get(&row.replica, row.segment).await.unwrap().unwrap();
        assert!(requests(&bytes).all(|(request, _)| found.insert(request)), "seed {seed}: a record twice");
    }
    let lost = received.difference(&found).count();
    let counted = database.number("select cast(sum(units) as bigint) from usage_cell where meter = 'requests'").await;
    println!("seed {seed}: {} answers, {} archived in {} segments, {lost} lost", received.len(), found.len(), next - 1);
    assert_eq!(lost, 0, "seed {seed}");
    assert_eq!(i64::try_from(found.len()).unwrap(), counted, "seed {seed}");
    assert!(received.len() > 60 && next > 10, "seed {seed}: too little happened to mean anything");
    let here = segments(&database.data_dir().join("journal"));
    assert!(here.len() == 1, "seed {seed}: {here:?} stayed");
}

/// What stands between a gateway and moto: lets through, or nothing.
struct Bucket {
    endpoint: String,
    name: String,
    open: watch::Sender<bool>,
}

impl Bucket {
    /// None where there is no server: `scripts/test` says so in its summary.
    async fn new() -> Option<Self> {
        let server = std::env::var("TOLLGATE_TEST_S3").ok()?;
        let name = format!("test-{:016x}", rand::random::<u64>());
        let made = reqwest::Client::new().put(format!("{server}/{name}")).send().await.unwrap();
        assert!(made.status().is_success(), "{made:?}");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (open, mut is_open) = watch::channel(true);
        tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let (server, mut cut) = (server.trim_start_matches("http://").to_owned(), is_open.clone());
                if *is_open.borrow_and_update() {
                    tokio::spawn(async move {
                        let mut server = TcpStream::connect(server).await.unwrap();
                        tokio::select! {
                            _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                            _ = cut.wait_for(|open| !open) => {}
                        }
                    });
                }
            }
        });
        Some(Self { endpoint, name, open })
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("TOLLGATE__ARCHIVE__URL", format!("s3://{}/evidence", self.name)),
            ("TOLLGATE__ARCHIVE__ENDPOINT", self.endpoint.clone()),
            ("TOLLGATE__ARCHIVE__REGION", "eu-central-1".to_owned()),
            ("TOLLGATE__ARCHIVE__ALLOW_HTTP", "true".to_owned()),
            ("AWS_ACCESS_KEY_ID", "tollgate".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "canary-in-the-secret".to_owned()),
        ]
    }

    fn settings(&self, settings: &mut Settings) {
        let archive = &mut settings.archive;
        archive.url = format!("s3://{}/evidence", self.name);
        archive.endpoint = self.endpoint.clone();
        archive.region = "eu-central-1".to_owned();
        archive.access_key_id = "tollgate".to_owned();
        archive.secret_access_key = "canary-in-the-secret".to_owned();
        archive.allow_http = true;
        assert!(!format!("{settings:?}").contains("canary"), "settings do not tell secrets");
    }
}

on_both_databases! {
    async fn a_folder_takes_the_journal_and_may_be_away(database: Database) {
        let folder = database.data_dir().join("archive");
        let aside = folder.with_extension("away");
        the_journal_gets_into_the_archive(&database, |_| {}, |gone| {
            if gone {
                std::fs::rename(&folder, &aside).unwrap();
                std::fs::write(&folder, "in the way").unwrap();
            } else {
                std::fs::remove_file(&folder).unwrap();
                std::fs::rename(&aside, &folder).unwrap();
            }
        })
        .await;
    }

    async fn an_object_store_takes_the_journal_and_may_be_away(database: Database) {
        let Some(bucket) = Bucket::new().await else { return };
        the_journal_gets_into_the_archive(&database, |settings| bucket.settings(settings), |gone| {
            bucket.open.send_replace(!gone);
        }).await;
    }

    async fn kills_lose_nothing_on_the_way_into_a_folder(database: Database) {
        let archive = own_archive(&database);
        nothing_is_lost_by_kills(&database, &[], &archive).await;
    }

    async fn kills_lose_nothing_on_the_way_into_an_object_store(database: Database) {
        let Some(bucket) = Bucket::new().await else { return };
        let mut settings = Gateway::settings(&database);
        bucket.settings(&mut settings);
        let archive = Archive::open(&settings.archive, &database.data_dir()).unwrap();
        nothing_is_lost_by_kills(&database, &bucket.environment(), &archive).await;
    }

    async fn other_bytes_under_a_segments_name_stop_the_archiver_and_are_kept(database: Database) {
        let gateway = Gateway::start_with(&database, |settings| settings.journal.segment_age = Duration::from_millis(100)).await;
        let replica = gateway.running.app.journal.replica().clone();
        let archive = own_archive(&database);
        append(&gateway, 1..2).await;
        until("archiving", async || archived(&database, &archive).await == [1]).await;
        let next = gateway.running.app.journal.watch().borrow().segment;
        archive.put(&replica, next, "of somebody else".into()).await.unwrap();
        append(&gateway, 2..3).await;
        let error = format!("{:#}", gateway.running.app.close_journal().await.unwrap_err());
        assert!(error.contains(&format!("segment {next} of replica {replica}")) && error.contains("other bytes"), "{error}");
        assert_eq!(archive.get(&replica, next).await.unwrap().unwrap(), "of somebody else");
        assert!(segments(&database.data_dir().join("journal")).contains(&next));
        archive.remove(&replica, next).await.unwrap();
        gateway.running.app.close_journal().await.unwrap();
        assert_eq!(archived(&database, &archive).await, [1, 2]);
        gateway.stop().await;
    }

    async fn a_stopped_machine_ships_and_archives_by_command(database: Database) {
        let key = ready(&database);
        let process = Process::serve(&database);
        let url = format!("http://{}/graphql", process.address);
        let http = reqwest::Client::new();
        for _ in 0..20 {
            assert_eq!(graphql(&http, &url, &key, json!({ "query": "{ viewer { name } }" })).await.0, 200);
        }
        process.kill();
        let settings = Gateway::settings(&database);
        let db = Db::open(&settings.database_url(), 2, &database.data_dir()).await.unwrap();
        let archive = own_archive(&database);
        let replica = replica_store::replicas(&mut db.read().await.unwrap()).await.unwrap().remove(0);
        let journal = database.data_dir().join("journal");
        let before = db.now().await.unwrap();
        for _ in 0..2 {
            at_rest::close(&journal, &replica.id, &db, &archive).await.unwrap();
            assert_eq!(archived(&database, &archive).await.len(), 20);
            assert_eq!(database.number("select cast(sum(units) as bigint) from usage_cell where meter = 'requests'").await, 20);
        }
        let after = replica_store::replicas(&mut db.read().await.unwrap()).await.unwrap().remove(0);
        assert!(after.watermark >= before && after.epoch == 1, "{after:?}");
        // The next start goes on, and finds its last segment archived already.
        let process = Process::serve(&database);
        assert_eq!(graphql(&http, &format!("http://{}/graphql", process.address), &key, json!({ "query": "{ viewer { name } }" })).await.0, 200);
        process.terminate();
        assert_eq!(archived(&database, &archive).await.len(), 21);
        assert_eq!(database.number("select count(*) from usage_late").await, 0);
    }

    async fn retention_removes_objects_by_months_and_keeps_the_rows(database: Database) {
        let gateway = Gateway::start(&database).await;
        let (app, db) = (gateway.running.app.clone(), gateway.running.db().clone());
        let archive = own_archive(&database);
        let day = 86_400_000_000;
        let now = app.clock.now();
        // Two records a segment: the second segment's last one is young enough to keep both.
        for (n, days) in [(1, 800), (2, 790), (3, 801), (4, 700), (5, 0)] {
            app.journal.append(record(Micros(now.0 - days * day), n)).await.unwrap().durable().await.unwrap();
            if n % 2 == 0 {
                app.close_journal().await.unwrap();
            }
        }
        app.close_journal().await.unwrap();
        let before = rows(&database).await;
        assert_eq!(archived(&database, &archive).await, [1, 2, 3, 4, 5]);
        let kept = jiff::Span::new().months(25);
        let sweep = async || retention::remove_old(&archive, &db, &app.clock, app.journal.replica(), kept).await.unwrap();
        assert_eq!((sweep().await, sweep().await), (1, 0));
        let after = rows(&database).await;
        assert_eq!(after.iter().map(|row| row.removed_at.is_some()).collect::<Vec<_>>(), [true, false, false]);
        for (before, after) in before.iter().zip(&after) {
            assert_eq!(*before, ArchivedSegment { removed_at: None, ..after.clone() });
            assert_eq!(archive.get(&after.replica, after.segment).await.unwrap().is_none(), after.removed_at.is_some());
        }
        // A clock far ahead, of this process or of the database, destroys nothing.
        let ahead = Clock::manual(Micros(now.0 + 4000 * day));
        assert_eq!(retention::remove_old(&archive, &db, &ahead, app.journal.replica(), kept).await.unwrap(), 0);
        let shifted = db.clone().shifted(jiff::SignedDuration::from_hours(24 * 4000));
        assert_eq!(retention::remove_old(&archive, &shifted, &app.clock, app.journal.replica(), kept).await.unwrap(), 0);
        assert_eq!(retention::remove_old(&archive, &shifted, &ahead, app.journal.replica(), kept).await.unwrap(), 2);
        gateway.stop().await;
    }

    async fn replicas_are_listed_and_retired_by_command(database: Database) {
        let key = ready(&database);
        let list = || -> Value { serde_json::from_str(&tollgate(&database, &["replica", "list", "--format", "json"]).ok()).unwrap() };
        assert_eq!(list(), json!([]));
        let process = Process::serve(&database);
        graphql(&reqwest::Client::new(), &format!("http://{}/graphql", process.address), &key, json!({ "query": "{ viewer { name } }" })).await;
        let one = list()[0].clone();
        let id = one["id"].as_str().unwrap().to_owned();
        assert!(id.starts_with("rep_") && one["epoch"] == 1 && one["retiredAt"].is_null() && one["backlogRecords"].is_u64(), "{one}");
        assert!(one["watermark"].as_str() >= one["startedAt"].as_str(), "{one}");
        let refused = tollgate(&database, &["replica", "retire", &id]).failed();
        assert!(refused.contains("seems to run: stop it first, or use --force"), "{refused}");
        process.terminate();
        assert!(tollgate(&database, &["replica", "retire", &id]).failed().contains("reported"), "a minute is not over");
        assert!(tollgate(&database, &["replica", "retire", "rep_none"]).failed().contains("there is no replica rep_none"));
        assert!(tollgate(&database, &["replica", "retire", &id, "--force"]).ok().contains("is retired: no close waits for it since"));
        assert!(tollgate(&database, &["replica", "retire", &id]).ok().contains("was retired before"));
        let retired = list()[0].clone();
        assert!(retired["retiredAt"].is_string() && retired["backlogRecords"].is_null(), "{retired}");
        assert!(tollgate(&database, &["replica", "list"]).ok().contains(&id));
        // Its process comes back: what it ships is late.
        assert_eq!(database.number("select count(*) from usage_late").await, 0);
        let process = Process::serve(&database);
        graphql(&reqwest::Client::new(), &format!("http://{}/graphql", process.address), &key, json!({ "query": "{ viewer { name } }" })).await;
        process.terminate();
        assert_eq!(database.number("select count(*) from usage_late").await, 1);
    }
}
