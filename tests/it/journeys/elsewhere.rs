//! Journeys through Kafka into Redis: partitions tell each other over the topic, whoever projects them, and what is answered is what one
//! machine alone answers.

use std::time::{Duration, Instant};

use serde_json::json;

use super::shop;
use crate::support::topic::Topic;
use crate::support::{Database, Kind, Process, graphql, plan, redis, tollgate};

#[tokio::test(flavor = "multi_thread")]
async fn a_shops_journeys_go_through_kafka_into_redis() {
    let product = shop::spec(false, false).toml();
    let lines: Vec<String> = shop::events().iter().map(ToString::to_string).collect();
    let alone = Database::new(Kind::Sqlite).await;
    let apply = |database: &Database| {
        tollgate(database, &["product", "apply", database.file("product.toml", &product).to_str().unwrap()]).ok();
    };
    apply(&alone);
    tollgate(&alone, &["ingest", alone.file("shop.ndjson", &lines.join("\n")).to_str().unwrap(), "--close"]).ok();
    let expected = tollgate(&alone, &["features", "dump"]).ok();
    assert!(expected.lines().any(|line| line.contains("\"kind\":\"journey\"")), "{expected}");

    let topic = Topic::new(6).await;
    let one = Database::new(Kind::Postgres)
        .await
        .and("events.url", &format!("kafka://{}", topic.bootstrap))
        .and("events.topic", &topic.name)
        .and("events.kafka.session_timeout_ms", "6000")
        .and("features.url", &redis::single())
        .and("features.prefix", &redis::prefix());
    let (other, serving, feeding) = (one.beside(), one.beside(), one.beside());
    let (first, second) = (Process::projector(&one), Process::projector(&other));
    let gateway = Process::gateway(&serving);
    // A part is in the topic before the product is there, and a projector dies in between.
    let (before, after) = lines.split_at(lines.len() / 3);
    tollgate(&feeding, &["ingest", feeding.file("before.ndjson", &before.join("\n")).to_str().unwrap()]).ok();
    apply(&feeding);
    let (middle, after) = after.split_at(after.len() / 2);
    tollgate(&feeding, &["ingest", feeding.file("middle.ndjson", &middle.join("\n")).to_str().unwrap()]).ok();
    first.kill();
    tollgate(&feeding, &["ingest", feeding.file("after.ndjson", &after.join("\n")).to_str().unwrap(), "--close"]).ok();
    let begun = Instant::now();
    loop {
        let dump = tollgate(&feeding, &["features", "dump"]).stdout;
        if dump == expected {
            break;
        }
        let difference = || dump.lines().zip(expected.lines()).find(|(one, other)| one != other);
        assert!(
            begun.elapsed() < Duration::from_secs(120),
            "{} lines of {}: {:?}",
            dump.lines().count(),
            expected.lines().count(),
            difference()
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }

    tollgate(&serving, &["plan", "apply", serving.file("plan.toml", &plan("p", "products = [\"journey\"]")).to_str().unwrap()])
        .ok();
    tollgate(&serving, &["partner", "create", "Ada", "--plan", "p"]).ok();
    let key = tollgate(&serving, &["key", "issue", "Ada"]).ok();
    let query = "{ journey(product: \"shop\", from: \"2020-01-01T00:00:00Z\", to: \"2026-06-01T00:00:00Z\", by: MONTH, first: 100) { cells { \
                 counts { sessions } } } }";
    let url = format!("http://{}/graphql", gateway.address);
    let (_, answer) = graphql(&reqwest::Client::new(), &url, key.trim(), json!({ "query": query })).await;
    let answered = answer["data"]["journey"]["cells"].as_array().unwrap().iter().filter(|cell| !cell["counts"].is_null()).count();
    let told = |line: &&str| line.contains("\"by\":\"month\"") && line.contains("\"slice\":{}");
    assert_eq!(answered, expected.lines().filter(told).count(), "{answer}");
    second.terminate();
}
