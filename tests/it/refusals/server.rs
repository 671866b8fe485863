//! Ours: what cannot be served for now. There is no INTERNAL here: nothing that a partner can send provokes one.

use std::process::Command;
use std::time::Duration;

use rand::SeedableRng;
use serde_json::json;

use super::picture::{self, Ask};
use crate::support::{Database, Gateway, Kind, Process, ask, counted, issue, plan, tollgate};

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_nobody_confirms() {
    let database = Database::new(Kind::Sqlite).await;
    let gateway = Gateway::start_with(&database, |settings| {
        settings.gate.directory_poll = Duration::from_secs(3600);
        settings.gate.directory_stale_max = Duration::from_millis(1);
    })
    .await;
    let partner = gateway.partner("P", "wide", &[]).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let ask = Ask::query(&partner.key, "{ viewer { name } }");
    let answer = ask.of(&gateway).await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "UNAVAILABLE"), "{answer:?}");
    picture::assert("unavailable_keys_cannot_be_checked", &ask, &answer);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_takes_too_long() {
    let database = Database::new(Kind::Sqlite).await;
    let gateway = Gateway::start_with(&database, |settings| {
        settings.server.execution_timeout = Duration::from_millis(100);
        settings.database.connections_max = 2;
    })
    .await;
    let partner = gateway.partner("P", "wide", &[]).await;
    // The one field that waits for the database, which has no connection left.
    let mut held = Vec::new();
    while held.len() < 2 {
        held.push(gateway.running.db().read().await.unwrap());
    }
    let ask = Ask::query(&partner.key, "{ usage { period } }");
    let answer = ask.of(&gateway).await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "UNAVAILABLE"), "{answer:?}");
    picture::assert("unavailable_query_took_too_long", &ask, &answer);
    drop(held);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_cannot_be_read() {
    let database = Database::new(Kind::Sqlite).await;
    let gateway = Gateway::start(&database).await;
    let partner = gateway.partner("P", "wide", &[]).await;
    let mut connection = database.connect().await;
    let strange = "insert into usage_cell (partner_id, key_id, plan_id, plan_version, product, meter, cell_start, \
                   replica_id, epoch, units, waived_units, records, first_sequence, last_sequence) \
                   select partner.id, 'k', 'wide', 1, 'gold', 'gold', $1, 'r', 1, 1, 0, 1, 1, 1 from partner";
    let cell = gateway.running.app.clock.now().0 / 900_000_000 * 900_000_000;
    sqlx::query(strange).bind(cell).execute(&mut connection).await.unwrap();
    let ask = Ask::query(&partner.key, "{ usage { period } viewer { name } }");
    let answer = ask.of(&gateway).await;
    assert_eq!((answer.status, answer.code().as_str()), (200, "UNAVAILABLE"), "{answer:?}");
    picture::assert("field_unavailable_ledger_cannot_be_read", &ask, &answer);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_cannot_be_written() {
    // As bad_input.rs has it: files may not grow past a limit, and PostgreSQL keeps the ledger out of its way.
    let database = Database::new(Kind::Postgres).await;
    let plan = plan("p", "products = [\"inventory\"]");
    tollgate(&database, &["plan", "apply", database.file("plan.toml", &plan).to_str().unwrap()]).ok();
    tollgate(&database, &["partner", "create", "Ada", "--plan", "p"]).ok();
    let key = issue(&database, &["Ada"]).key;
    let events = database.file("events.ndjson", &format!("{}\n", counted("c", "A", "X", 1)));
    tollgate(&database, &["ingest", events.to_str().unwrap()]).ok();
    let mut command = Command::new("bash");
    command.args(["-c", "trap '' XFSZ; ulimit -f 24; exec \"$0\" serve", env!("CARGO_BIN_EXE_tollgate")]);
    let process = Process::start(command, &database);
    let (http, url) = (reqwest::Client::new(), format!("http://{}/graphql", process.address));
    let body = json!({ "query": "{ product(sku: \"A\") { inventory(location: \"X\") { onHand } } }" });
    for _ in 0..1000 {
        let answer = ask(&http, &url, &key, body.clone()).await;
        if answer.status != 200 {
            assert_eq!((answer.status, answer.code().as_str()), (503, "UNAVAILABLE"), "{answer:?}");
            picture::assert("unavailable_usage_cannot_be_recorded", &Ask::body(&key, &body.to_string()), &answer);
            process.kill();
            return;
        }
    }
    panic!("1000 answers, and the disk is not full");
}

/// Nothing that a client can send is known to provoke it: this is how it would look.
#[tokio::test]
async fn something_of_ours_that_nobody_expected() {
    let request = tollgate::ids::RequestId::new(tollgate::clock::Micros(0), &mut rand_chacha::ChaCha8Rng::seed_from_u64(1));
    let refusal = tollgate::error::Refusal::internal(&request).into();
    let response = tollgate::gate::answer::refusal(tollgate::gate::request::Media::GraphqlResponse, &request, &refusal);
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, 10_000).await.unwrap();
    let mut told = format!("(a panic, say)\n{}\n", parts.status);
    for (name, value) in &parts.headers {
        told += &format!("{name}: {}\n", value.to_str().unwrap());
    }
    picture::compare("internal", &format!("{told}\n{}", String::from_utf8_lossy(&body)));
}
