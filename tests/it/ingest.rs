//! Events over HTTP: each counts once, what is wrong is told by line and kept.

use serde_json::{Value, json};

use crate::support::{Database, Gateway, Kind, adjusted, compensated, counted, event, tollgate};

async fn on_hand(gateway: &Gateway, key: &str, sku: &str) -> Value {
    let answer =
        gateway.query(key, &format!("{{ product(sku: \"{sku}\") {{ inventory(location: \"X\") {{ onHand }} }} }}")).await;
    answer["data"]["product"]["inventory"]["onHand"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_count_once_whatever_is_sent_again() {
    let database = Database::new(Kind::Sqlite).await;
    let gateway = Gateway::start(&database).await;
    let (producer, partner) = (gateway.producer().await, gateway.partner("P", "wide", &[]).await);
    let events =
        [counted("c", "A", "X", 10), adjusted("a1", "A", "X", -3), adjusted("a1", "A", "X", -3), adjusted("a2", "A", "X", -2)];
    assert_eq!(gateway.feed(&producer, &events).await, json!({ "accepted": 3, "duplicates": 1, "rejected": [] }));
    assert_eq!(on_hand(&gateway, &partner.key, "A").await, "5");
    assert_eq!(gateway.feed(&producer, &events).await, json!({ "accepted": 0, "duplicates": 4, "rejected": [] }));
    assert_eq!(on_hand(&gateway, &partner.key, "A").await, "5");
    // Undone once; also when the compensation comes first.
    gateway.feed(&producer, &[compensated("k1", "A", "a1"), compensated("k2", "A", "a1"), compensated("k3", "A", "late")]).await;
    assert_eq!(on_hand(&gateway, &partner.key, "A").await, "8");
    gateway.feed(&producer, &[adjusted("late", "A", "X", -8)]).await;
    assert_eq!(on_hand(&gateway, &partner.key, "A").await, "8");

    // A clean restart begins from a snapshot, and knows the ids.
    gateway.stop().await;
    let gateway = Gateway::start(&database).await;
    assert_eq!(on_hand(&gateway, &partner.key, "A").await, "8");
    assert_eq!(gateway.feed(&producer, &events).await["duplicates"], 4);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rejects_are_told_by_line_and_kept_and_taken_on_a_later_try() {
    let database = Database::new(Kind::Sqlite).await;
    let gateway = Gateway::start_with(&database, |settings| settings.events.event_bytes_max = 1000).await;
    let (producer, partner) = (gateway.producer().await, gateway.partner("P", "wide", &[]).await);
    let foreign =
        event("inventory.counted", "/elsewhere", "f", "A", json!({ "sku": "A", "location": "X", "onHand": 4, "reserved": 0 }));
    let negative = counted("n", "A", "X", -1);
    let mut large = counted("l", "A", "X", 1);
    large["note"] = json!("x".repeat(5000));
    let body =
        format!("{}\n\nnot json\n{foreign}\n{negative}\n{large}\n{}", counted("c1", "A", "X", 9), adjusted("a", "A", "X", 1));
    let response = gateway
        .http
        .post(gateway.url("/v1/events"))
        .bearer_auth(&producer)
        .header("content-type", "application/x-ndjson")
        .body(body)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 202);
    let report: Value = response.json().await.unwrap();
    assert_eq!((&report["accepted"], &report["duplicates"]), (&json!(2), &json!(0)));
    let rejected: Vec<(u64, &Value, &str)> = report["rejected"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rejected| (rejected["line"].as_u64().unwrap(), &rejected["id"], rejected["reason"].as_str().unwrap()))
        .collect();
    let expected = [
        (3, Value::Null, "not JSON"),
        (4, json!("f"), "outside of what the producer key may write (/t)"),
        (5, json!("n"), "data.onHand is -1"),
        (6, Value::Null, "may have 1000"),
    ];
    assert_eq!(rejected.len(), expected.len(), "{report}");
    for ((line, id, reason), (expected_line, expected_id, words)) in rejected.iter().zip(&expected) {
        assert_eq!((line, *id), (expected_line, expected_id), "{report}");
        assert!(reason.contains(words), "{reason}");
    }
    gateway.applied(gateway.running.app.clock.now()).await;
    assert_eq!(on_hand(&gateway, &partner.key, "A").await, "10");

    let letters: Value = serde_json::from_str(&tollgate(&database, &["deadletter", "list", "--format", "json"]).ok()).unwrap();
    assert_eq!(letters.as_array().unwrap().len(), 4);
    assert_eq!(letters[3]["payload"]["bytes"], large.to_string().len());
    // What a key may not write is taken only by name; the others are still wrong.
    let retried = tollgate(&database, &["deadletter", "retry"]);
    assert_eq!(retried.stdout, "taken 0, still refused 4\n", "{retried:?}");
    assert!(retried.stderr.contains("dead letter 2: its producer key may not write its source"), "{retried:?}");
    assert_eq!(tollgate(&database, &["deadletter", "retry", "2"]).ok(), "taken 1, still refused 0\n");
    assert!(retried.stderr.contains("dead letter 3: data.onHand is -1"), "{retried:?}");
    let letters: Value = serde_json::from_str(&tollgate(&database, &["deadletter", "list", "--format", "json"]).ok()).unwrap();
    assert_eq!((&letters[1]["retried"], &letters[0]["retried"]), (&json!(true), &json!(false)));
    gateway.applied(gateway.running.app.clock.now()).await;
    assert_eq!(on_hand(&gateway, &partner.key, "A").await, "4");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_way_to_send_events_works_and_others_are_told() {
    let database = Database::new(Kind::Sqlite).await;
    let gateway = Gateway::start(&database).await;
    let (producer, partner) = (gateway.producer().await, gateway.partner("P", "wide", &[]).await);
    let send = async |key: &str, kind: &str, body: String| {
        let request = gateway.http.post(gateway.url("/v1/events")).bearer_auth(key).header("content-type", kind).body(body);
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let media = response.headers()["content-type"].to_str().unwrap().to_owned();
        (status, media, response.json::<Value>().await.unwrap())
    };
    let (status, _, report) = send(&producer, "application/cloudevents+json", counted("1", "A", "X", 1).to_string()).await;
    assert_eq!((status, &report["accepted"]), (202, &json!(1)));
    let batch = json!([counted("2", "A", "X", 2), { "id": "bad" }, counted("3", "A", "X", 3)]).to_string();
    let (status, _, report) = send(&producer, "application/cloudevents-batch+json; charset=utf-8", batch).await;
    assert_eq!((status, &report["accepted"], &report["rejected"][0]["line"]), (202, &json!(2), &json!(2)));

    for (key, kind, body, status, words) in [
        (&producer, "text/plain", "{}".to_owned(), 415, "Send application/cloudevents+json"),
        (&producer, "application/cloudevents-batch+json", "{}".to_owned(), 400, "no JSON list"),
        (&producer, "application/x-ndjson", "x".repeat(9 << 20), 413, "more than 8388608 bytes"),
        (&partner.key, "application/x-ndjson", String::new(), 401, "This is an API key"),
        (&"tg_producer_x".to_owned(), "application/x-ndjson", String::new(), 401, "mistyped or cut off"),
    ] {
        let (found, media, problem) = send(key, kind, body).await;
        assert_eq!((found, media.as_str()), (status, "application/problem+json"), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(words), "{problem}");
        assert_eq!(problem["status"], status);
    }
    gateway.stop().await;
}
