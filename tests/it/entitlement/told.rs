//! What a partner is told: the whole answer, less what may differ from one request to the next.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tollgate::config::Durability;
use tollgate::http::Peer;
use tower::ServiceExt;

use super::shop::{self, Target};
use crate::support::{Database, Gateway, Kind};

/// A gateway over a store, asked without a socket between: what partners are told begins at its router.
pub(super) struct Shop {
    pub(super) database: Database,
    pub(super) gateway: Gateway,
    router: Router,
    /// The billing month that it is.
    pub(super) period: String,
    /// Answers, and what they said that they cost.
    asked: Arc<[AtomicU64; 3]>,
}

/// An answer.
#[derive(Clone, Debug)]
pub(super) struct Told {
    /// Status, headers and body, with placeholders for names, instants, ids and what is left of the rate.
    pub(super) whole: String,
    pub(super) status: u16,
    pub(super) data: Value,
    /// Code and message, with placeholders.
    pub(super) errors: Vec<(String, String)>,
    pub(super) requested: u64,
    pub(super) actual: u64,
    /// By product.
    pub(super) units: BTreeMap<String, u64>,
}

impl Shop {
    /// Its store holds what there is within `scope`.
    pub(super) async fn open(scope: &[&str]) -> Self {
        let database = Database::new(Kind::Sqlite).await;
        let gateway = Gateway::start_with(&database, |settings| settings.journal.durability = Durability::Os).await;
        gateway.plans(&shop::plans()).await;
        let (producer, events) = (gateway.producer().await, shop::events(scope));
        if !events.is_empty() {
            let report = gateway.feed(&producer, &events).await;
            assert_eq!(report["accepted"], json!(events.len()), "{report}");
        }
        let router = tollgate::http::partner(gateway.running.app.clone());
        let period = gateway.running.app.clock.now().to_string()[..7].to_owned();
        Self { database, gateway, router, period, asked: Arc::default() }
    }

    /// Asks; `target`'s names become placeholders.
    pub(super) async fn ask(&self, key: &str, operation: &str, variables: &Value, target: &Target) -> Told {
        let body = json!({ "query": operation, "variables": variables }).to_string();
        let request = Request::post("/graphql")
            .header("authorization", format!("Bearer {key}"))
            .header("content-type", "application/json")
            .header("accept", "application/graphql-response+json")
            .extension(Peer("127.0.0.1:1".parse().unwrap()))
            .body(Body::from(body))
            .unwrap();
        let (parts, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let mut whole = format!("{}\n", parts.status);
        let mut headers: Vec<(String, String)> =
            parts.headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
        headers.sort();
        for (name, value) in headers {
            match name.as_str() {
                "date" => {}
                // Instants and counters have lengths of their own; of the body itself nothing is left out.
                "content-length" => assert_eq!(value, body.len().to_string()),
                "ratelimit" => whole.push_str(&format!("{name}: {}\n", without_numbers(&value))),
                _ => whole.push_str(&format!("{name}: {value}\n")),
            }
        }
        let answer: Value = serde_json::from_slice(&body).unwrap_or_else(|error| panic!("{error}: {whole}{body:?}"));
        let mut shown = answer.clone();
        placeholders(&mut shown, target);
        whole.push_str(&shown.to_string());

        let extensions = &answer["extensions"];
        let cost = |name: &str| {
            let of = &extensions["cost"][name];
            of.as_u64().unwrap_or_else(|| panic!("no extensions.cost.{name}: {operation} {variables}: {answer}"))
        };
        let by_product = extensions["usage"]["byProduct"].as_object().unwrap_or_else(|| panic!("no usage: {answer}"));
        let units: BTreeMap<String, u64> =
            by_product.iter().map(|(product, units)| (product.clone(), units.as_u64().unwrap())).collect();
        assert_eq!(units.values().sum::<u64>(), extensions["usage"]["units"].as_u64().unwrap(), "{answer}");
        for (place, count) in [
            (0, 1),
            (1, units.get("inventory").copied().unwrap_or_default()),
            (2, units.get("pricing").copied().unwrap_or_default()),
        ] {
            self.asked[place].fetch_add(count, Ordering::Relaxed);
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let errors = shown["errors"].as_array().into_iter().flatten();
        Told {
            whole,
            status: parts.status.as_u16(),
            errors: errors.map(|error| (text(&error["extensions"]["code"]), text(&error["message"]))).collect(),
            requested: cost("requestedQueryCost"),
            actual: cost("actualQueryCost"),
            units,
            data: answer["data"].clone(),
        }
    }

    /// How many answers there were; the ledger must hold what they said, and nothing else.
    pub(super) async fn settle(self) -> u64 {
        self.gateway.running.app.ship().await.unwrap();
        for (place, meter) in [
            (0, "select cast(coalesce(sum(units), 0) as bigint) from usage_cell where meter = 'requests'"),
            (1, "select cast(coalesce(sum(units), 0) as bigint) from usage_cell where meter = 'inventory'"),
            (2, "select cast(coalesce(sum(units), 0) as bigint) from usage_cell where meter = 'pricing'"),
        ] {
            let answered = self.asked[place].load(Ordering::Relaxed);
            assert_eq!(u64::try_from(self.database.number(meter).await).unwrap(), answered, "{meter}");
        }
        self.gateway.stop().await;
        self.asked[0].load(Ordering::Relaxed)
    }
}

impl Told {
    /// What is billed.
    pub(super) fn billed(&self) -> u64 {
        self.units.values().sum()
    }
}

/// `"rate";r=…;t=…`
fn without_numbers(header: &str) -> String {
    header.chars().filter(|character| !character.is_ascii_digit()).collect()
}

/// Takes out what differs between any two requests, and the names that `target` is asked by.
fn placeholders(value: &mut Value, target: &Target) {
    match value {
        Value::Object(fields) => {
            for varying in ["requestId", "currentlyAvailable"] {
                fields.remove(varying);
            }
            if let Some(lag) = fields.get_mut("lagMs").filter(|lag| lag.is_i64()) {
                *lag = json!("<milliseconds>");
            }
            fields.values_mut().for_each(|value| placeholders(value, target));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| placeholders(item, target)),
        Value::String(text) if text.parse::<jiff::Timestamp>().is_ok() => "<instant>".clone_into(text),
        Value::String(text) => {
            for (name, placeholder) in [(target.sku, "<sku>"), (target.location, "<location>"), (target.market, "<market>")] {
                if !name.is_empty() && text.contains(name) {
                    *text = text.replace(name, placeholder);
                }
            }
        }
        _ => {}
    }
}
