//! Bad input: one clear sentence each, and nothing changed.

use std::net::TcpListener;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Database, Gateway, Kind, Process, counted, graphql, plan, tollgate};

#[tokio::test(flavor = "multi_thread")]
async fn broken_lines_are_told_by_line_kept_as_dead_letters_and_the_rest_is_taken() {
    let database = Database::new(Kind::Sqlite).await;
    // 1 MiB is the largest event.
    let text = format!("{}\n\nnot json\n{}\n{}\n", counted("c1", "A", "X", 1), "x".repeat(3 << 20), counted("c2", "B", "X", 2));
    let file = database.file("events.ndjson", &text);
    for beside_a_gateway in [false, true] {
        let process = beside_a_gateway.then(|| Process::serve(&database));
        let ran = tollgate(&database, &["ingest", file.to_str().unwrap(), "--format", "json"]);
        let told: Vec<&str> = ran.stderr.lines().collect();
        assert_eq!(told.len(), 2, "{ran:?}");
        assert!(told[0].starts_with("line 3: the event is not JSON"), "{ran:?}");
        assert!(told[1].starts_with("line 4: the event has 3145728 bytes"), "{ran:?}");
        let report: Value = serde_json::from_str(&ran.ok()).unwrap();
        let taken = if beside_a_gateway { ("duplicates", "accepted") } else { ("accepted", "duplicates") };
        assert_eq!((&report[taken.0], &report[taken.1]), (&json!(2), &json!(0)), "{report}");
        let letters: Value =
            serde_json::from_str(&tollgate(&database, &["deadletter", "list", "--format", "json"]).ok()).unwrap();
        let letters = letters.as_array().unwrap();
        assert_eq!(letters.len(), if beside_a_gateway { 4 } else { 2 });
        let large = &letters.iter().find(|letter| letter["payload"]["bytes"] == 3 << 20).unwrap()["payload"];
        assert_eq!(large["text"].as_str().unwrap().len(), 64 << 10);
        assert_eq!(large["sha256"].as_str().unwrap().len(), 64);
        if let Some(process) = process {
            process.terminate();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_bad_key_gets_its_sentence_and_too_many_of_them_a_pause() {
    let database = Database::new(Kind::Sqlite).await;
    let gateway = Gateway::start_with(&database, |settings| settings.gate.shield_burst = 9).await;
    let (partner, other) = (gateway.partner("P", "wide", &[]).await, gateway.partner("Q", "wide", &[]).await);
    // Another last letter, whatever the drawn key ends in.
    let last = if partner.key.ends_with('x') { "y" } else { "x" };
    let mistyped = format!("{}{last}", &partner.key[..partner.key.len() - 1]);
    // A good checksum over an id that is not known, and over a known id with another secret.
    let unknown = tollgate::directory::key::generate(tollgate::directory::key::Kind::Live, &mut rand::rng()).text;
    let ask = async |header: (&str, String)| {
        let request = gateway
            .http
            .post(gateway.url("/graphql"))
            .header(header.0, header.1)
            .json(&json!({ "query": "{ viewer { name } }" }));
        let response = request.send().await.unwrap();
        let (status, wants) = (response.status().as_u16(), response.headers().get("www-authenticate").is_some());
        let body: Value = response.json().await.unwrap();
        let error = &body["errors"][0];
        assert!(error["extensions"]["requestId"].as_str().is_none_or(|id| id.starts_with("req_")));
        (
            status,
            wants,
            error["extensions"]["code"].as_str().unwrap_or_default().to_owned(),
            error["message"].as_str().unwrap_or_default().to_owned(),
        )
    };
    for (header, words) in [
        (("x-nothing", String::new()), "There is no key"),
        (("authorization", "Basic abc".to_owned()), "holds no bearer key"),
        (("authorization", "Bearer".to_owned()), "holds no bearer key"),
        (("authorization", format!("Bearer {mistyped}")), "mistyped or cut off"),
        (("x-api-key", partner.key[..20].to_owned()), "mistyped or cut off"),
        (("x-api-key", unknown), "This key is not known"),
        (("authorization", format!("Bearer {}", gateway.producer().await)), "This is a producer key"),
    ] {
        let (status, wants, code, message) = ask(header).await;
        assert_eq!((status, wants, code.as_str()), (401, true, "UNAUTHENTICATED"), "{message}");
        assert!(message.contains(words), "{message}");
    }
    tollgate(&database, &["key", "revoke", partner.key_id.as_str()]).ok();
    gateway.running.app.directory.refresh().await.unwrap();
    let revoked = ask(("x-api-key", partner.key.clone())).await;
    assert_eq!((revoked.0, revoked.3.as_str()), (401, "This key was revoked. Ask for a new one."));
    // The address has used up its failures; a good key from it is answered all the same.
    ask(("x-api-key", "wrong".to_owned())).await;
    let (status, _, code, message) = ask(("x-api-key", "wrong".to_owned())).await;
    assert_eq!((status, code.as_str()), (429, "RATE_LIMITED"), "{message}");
    assert_eq!(ask(("authorization", format!("bearer {}", other.key))).await.0, 200);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn impossible_arguments_settings_and_plans_change_nothing() {
    let database = Database::new(Kind::Sqlite).await;
    let plan = database
        .file("plan.toml", "[[plan]]\nid = \"p\"\nversion = 1\nname = \"P\"\ncurrency = \"EUR\"\nproducts = [\"gold\"]\n");
    let failed = tollgate(&database, &["plan", "apply", plan.to_str().unwrap()]).failed();
    assert!(failed.contains("is not applied: line 6: unknown variant `gold`"), "{failed}");
    let missing = tollgate(&database, &["plan", "apply", "/nowhere/plan.toml"]).failed();
    assert!(missing.contains("cannot read /nowhere/plan.toml"), "{missing}");
    for (arguments, words) in [
        (&["partner", "create", "Ada", "--plan", "none"][..], "there is no plan \"none\""),
        (&["partner", "create", "Ada", "--plan", "none", "--scope", "colour=red"], "\"colour\" is no key of a scope"),
        (&["partner", "suspend", "Ada"], "there is no partner \"Ada\""),
        (&["key", "issue", "Ada"], "there is no partner \"Ada\""),
        (&["key", "issue", "Ada", "--expires", "soon"], "\"soon\" is no date"),
        (&["key", "revoke", "abc"], "there is no key \"abc\""),
        (&["producer", "revoke", "abc"], "there is no producer \"abc\""),
        (&["producer", "issue", "Till", "--source", ""], "give at least one prefix"),
        (&["ingest", "/nowhere/events.ndjson"], "cannot open /nowhere/events.ndjson"),
        (&["ingest", "/tmp"], "is a folder"),
        (&["serve", "--config", "/nowhere/tollgate.toml"], "cannot read the settings file"),
        (&["serve", "--role", "gateway"], "set events.url to kafka://… and features.url to redis://…"),
    ] {
        let failed = tollgate(&database, arguments).failed();
        assert!(failed.contains(words), "{arguments:?}: {failed}");
    }
    for arguments in [&["invoice", "preview", "--period", "2026-13"][..], &["nothing"], &["demo", "--rate", "0"]] {
        assert_eq!(tollgate(&database, arguments).code, 2, "{arguments:?}");
    }
    let ran = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(["plan", "list"])
        .envs(database.environment())
        .env("TOLLGATE__DATABASE__URL", "postgres://u:canary@127.0.0.1:1/x")
        .output()
        .unwrap();
    let told = String::from_utf8(ran.stderr).unwrap();
    assert!(told.contains("check database.url and that the server runs") && told.contains("refused"), "{told}");
    assert!(!told.contains("canary"), "{told}");
    let unknown = database.file("tollgate.toml", "[server]\nlisen = \"127.0.0.1:1\"\n");
    let failed = tollgate(&database, &["serve", "--config", unknown.to_str().unwrap()]).failed();
    assert!(failed.contains("unknown setting server.lisen in") && failed.contains("listen"), "{failed}");
    let ran = Command::new(env!("CARGO_BIN_EXE_tollgate")).arg("serve").env("TOLLGATE__SERVER__LISEN", "x").output().unwrap();
    let told = String::from_utf8(ran.stderr).unwrap();
    assert!(ran.status.code() == Some(1) && told.contains("unknown setting server.lisen in the environment"), "{told}");
    for table in [
        "select count(*) from plan",
        "select count(*) from partner",
        "select count(*) from api_key",
        "select count(*) from producer",
    ] {
        assert_eq!(database.number(table).await, 0, "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_and_a_taken_folder_are_named() {
    let database = Database::new(Kind::Sqlite).await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let config = database.file("tollgate.toml", &format!("[server]\nlisten = \"{address}\"\n"));
    let failed = tollgate(&database, &["serve", "--config", config.to_str().unwrap()]).failed();
    assert!(failed.contains(&format!("cannot listen on {address}: stop what listens there, or set server.listen")), "{failed}");

    let process = Process::serve(&database);
    for command in ["serve", "demo"] {
        let failed = tollgate(&database, &[command]).failed();
        let expected =
            format!("is in use by another tollgate process (pid {}): stop that one, or set another data_dir", process.pid());
        assert!(failed.contains(&expected), "{failed}");
    }
    process.terminate();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_503_before_any_unbilled_answer() {
    // The kernel refuses to let files grow past the limit, as a full disk would: EFBIG in place of ENOSPC. PostgreSQL keeps the
    // ledger out of its way.
    let database = Database::new(Kind::Postgres).await;
    let plan = plan("p", "products = [\"inventory\"]");
    let plan = database.file("plan.toml", &plan);
    tollgate(&database, &["plan", "apply", plan.to_str().unwrap()]).ok();
    tollgate(&database, &["partner", "create", "Ada", "--plan", "p"]).ok();
    let key = tollgate(&database, &["key", "issue", "Ada"]).ok();
    let producer = tollgate(&database, &["producer", "issue", "Till", "--source", "/t"]).ok();
    let events = database.file("events.ndjson", &format!("{}\n", counted("c", "A", "X", 1)));
    tollgate(&database, &["ingest", events.to_str().unwrap()]).ok();

    let mut command = Command::new("bash");
    // In blocks of 1024 bytes; the signal would end the process before it sees the error.
    command.args(["-c", "trap '' XFSZ; ulimit -f 24; exec \"$0\" serve", env!("CARGO_BIN_EXE_tollgate")]);
    let process = Process::start(command, &database);
    let url = format!("http://{}/graphql", process.address);
    let http = reqwest::Client::new();
    let (mut answered, mut refused) = (0, 0);
    for _ in 0..300 {
        let body = json!({ "query": "{ product(sku: \"A\") { inventory(location: \"X\") { onHand } } }" });
        let (status, answer) = graphql(&http, &url, key.trim(), body).await;
        match status {
            200 => answered += 1,
            503 => {
                refused += 1;
                assert_eq!(answer["errors"][0]["extensions"]["code"], "UNAVAILABLE", "{answer}");
                assert!(answer.get("data").is_none());
            }
            other => panic!("{other}: {answer}"),
        }
    }
    assert!(answered > 20 && refused > 20, "{answered} answered, {refused} refused");
    // Producers are told the same, and nothing of the request is kept.
    let large: String = (0..200).map(|n| format!("{}\n", counted(&format!("n{n}"), &format!("N{n}"), "X", 1))).collect();
    let response = http
        .post(format!("http://{}/v1/events", process.address))
        .bearer_auth(producer.trim())
        .header("content-type", "application/x-ndjson")
        .body(large.clone())
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 503);
    process.kill();

    // With room again, everything that was answered is counted, and nothing else.
    let process = Process::serve(&database);
    assert_eq!(
        graphql(&http, &format!("http://{}/graphql", process.address), key.trim(), json!({ "query": "{ viewer { name } }" }))
            .await
            .0,
        200
    );
    let report = tollgate(&database, &["ingest", database.file("again.ndjson", &large).to_str().unwrap()]).ok();
    assert_eq!(report, "accepted 200, duplicates 0, rejected 0\n");
    process.terminate();
    assert_eq!(database.number("select cast(sum(units) as bigint) from usage_cell where meter = 'inventory'").await, answered);
}
