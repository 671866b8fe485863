//! What is sent: documents, variables, bodies, methods and media types. Where the two media types differ, both.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tollgate::config::Settings;

use super::picture::{self, Ask, JSON, RESPONSE_JSON};
use crate::support::{Answer, Database, Gateway, Kind};

/// A gateway with settings of the section `[gate]`.
async fn gateway(database: &Database, gate: &str) -> Gateway {
    let file = database.file("gate.toml", &format!("[gate]\n{gate}"));
    let gate = Settings::load(Some(&file)).unwrap().gate;
    Gateway::start_with(database, |settings| settings.gate = gate).await
}

#[tokio::test(flavor = "multi_thread")]
async fn documents() {
    let database = Database::new(Kind::Sqlite).await;
    let gateway = gateway(&database, "suggestions = true\nintrospection = \"on\"\n").await;
    let key = gateway.partner("P", "wide", &[]).await.key;
    let product = "query($sku: ID!) { product(sku: $sku) { sku } }";
    for (name, body) in [
        ("parse_failed", json!({ "query": "{ viewer { name " })),
        ("validation_failed_with_a_suggestion", json!({ "query": "{ viewer { nam } }" })),
        ("validation_failed_without_an_argument", json!({ "query": "{ product { sku } }" })),
        ("variable_missing", json!({ "query": product })),
        ("variable_null", json!({ "query": product, "variables": { "sku": null } })),
        ("variable_of_a_wrong_type", json!({ "query": product, "variables": { "sku": ["A"] } })),
        ("operation_unknown", json!({ "query": "query A { __typename }", "operationName": "B" })),
        ("operation_not_chosen", json!({ "query": "query A { __typename } query B { __typename }" })),
        ("subscription", json!({ "query": "subscription { priceChanged { sku } }" })),
    ] {
        for (accept, media) in [(RESPONSE_JSON, "response"), (JSON, "legacy")] {
            let ask = Ask::body(&key, &body.to_string()).with("accept", accept);
            let answer = ask.of(&gateway).await;
            assert!(answer.json().get("data").is_none(), "{name}: {answer:?}");
            assert_eq!(answer.status == 200, accept == JSON, "{name}: {answer:?}");
            picture::assert(&format!("{name}_{media}"), &ask, &answer);
        }
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_suggestions_and_introspection() {
    let database = Database::new(Kind::Sqlite).await;
    let gateway = gateway(&database, "suggestions = false\nintrospection = \"off\"\n").await;
    let key = gateway.partner("P", "wide", &[]).await.key;
    for (name, query) in [
        ("validation_failed_without_a_suggestion", "{ viewer { nam } }"),
        ("introspection_off", "{ __schema { queryType { name } } }"),
        ("introspection_off_of_a_type", "{ __type(name: \"Product\") { name } }"),
    ] {
        let ask = Ask::query(&key, query);
        picture::assert(name, &ask, &ask.of(&gateway).await);
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_methods_and_media_types() {
    let database = Database::new(Kind::Sqlite).await;
    let gateway = Gateway::start_with(&database, |settings| settings.server.body_timeout = Duration::from_millis(300)).await;
    let key = &gateway.partner("P", "wide", &[]).await.key;
    let (good, query) = ("{\"query\":\"{ __typename }\"}", "?query=%7B__typename%7D");
    let large = json!({ "query": "{ __typename }", "x": "x".repeat(70_000) }).to_string();
    for (name, status, ask) in [
        ("body_is_a_batch", 400, Ask::body(key, &format!("[{good}]"))),
        ("body_is_not_json", 400, Ask::body(key, "{\"query\":")),
        ("body_is_not_json_legacy", 400, Ask::body(key, "{\"query\":").with("accept", JSON)),
        ("body_without_a_query", 400, Ask::body(key, "{}")),
        ("body_with_a_query_of_a_wrong_type", 400, Ask::body(key, "{\"query\":5}")),
        ("body_with_variables_of_a_wrong_type", 400, Ask::body(key, "{\"query\":\"{ __typename }\",\"variables\":[]}")),
        ("body_too_large", 413, Ask::body(key, &large)),
        ("content_type_is_text", 415, Ask::body(key, good).with("content-type", "text/plain")),
        ("content_type_missing", 415, Ask::body(key, good).without("content-type")),
        ("content_type_of_another_charset", 415, Ask::body(key, good).with("content-type", "application/json; charset=latin1")),
        ("accept_of_nothing_that_there_is", 406, Ask::body(key, good).with("accept", "text/html")),
        ("method_not_allowed", 405, Ask::method(key, Method::PUT, "")),
        ("method_get_without_a_query", 400, Ask::method(key, Method::GET, "")),
        ("method_get_of_a_mutation", 405, Ask::method(key, Method::GET, "?query=mutation%7B__typename%7D")),
        ("method_get_with_broken_variables", 400, Ask::method(key, Method::GET, &format!("{query}&variables=%7B"))),
    ] {
        let answer = ask.of(&gateway).await;
        assert_eq!(answer.status, status, "{name}: {answer:?}");
        picture::assert(name, &ask, &answer);
    }

    // A body that does not come: no client library sends half of one.
    let head = "POST /graphql HTTP/1.1\ncontent-type: application/json\ncontent-length: 50\n\n{ … and nothing more\n";
    let mut stream = TcpStream::connect(gateway.running.address).await.unwrap();
    let request = head.trim_end().replace('\n', "\r\n");
    let request = request.replacen("\r\n", &format!("\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {key}\r\n"), 1);
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    tokio::time::timeout(Duration::from_secs(20), read).await.expect("the connection stays open").unwrap();
    let answer = parsed(&answer);
    assert_eq!(answer.status, 408, "{answer:?}");
    picture::assert_text("body_too_slow", head, &answer);
    gateway.stop().await;
}

/// An answer off the wire.
fn parsed(text: &str) -> Answer {
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines();
    let line = lines.next().unwrap().to_owned();
    let header = |line: &str| {
        let (name, value) = line.split_once(':').unwrap();
        (name.to_ascii_lowercase(), value.trim().to_owned())
    };
    let mut headers: Vec<(String, String)> = lines.map(header).collect();
    headers.sort();
    Answer { status: line.split(' ').nth(1).unwrap().parse().unwrap(), line, headers, text: body.to_owned() }
}
