//! Clients that ask all gateways: each has one, and goes on elsewhere while that one is away.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tokio::task::JoinSet;

pub(super) const ONE_UNIT: &str = "{ product(sku: \"A\") { inventory(location: \"X\") { onHand } } }";
const QUERIES: [&str; 4] = [
    ONE_UNIT,
    "{ product(sku: \"A\") { inventory(location: \"X\") { onHand } price(market: \"X\") { amount } } }",
    "{ products(skus: [\"A\", \"B\", \"none\"]) { sku price(market: \"X\") { amount } } }",
    "{ viewer { name } }",
];

/// Those of a partner that is far from its quota, and of one that comes to it.
const FAR_CLIENTS: usize = 9;
const NEAR_CLIENTS: usize = 3;

#[derive(Clone)]
pub(super) struct Partner {
    pub(super) id: String,
    pub(super) key: String,
    pub(super) quota: i64,
}

/// What clients saw.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// Request ids and units.
    pub(super) received: Vec<(String, u64)>,
    /// Requests that were sent and not answered, or not to the end.
    pub(super) cut_off: usize,
    /// Such as 429 and 503: not billed.
    pub(super) over_quota: usize,
    pub(super) unavailable: usize,
}

struct Shared {
    /// Where each gateway is, while it is.
    addresses: Mutex<Vec<Option<SocketAddr>>>,
    /// Of each gateway.
    answers: Vec<AtomicU64>,
    seen: Mutex<Answers>,
    stop: AtomicBool,
}

pub(super) struct Clients {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

impl Clients {
    pub(super) fn begin(addresses: Vec<SocketAddr>, far: &Partner, near: &Partner, rng: &mut ChaCha8Rng) -> Self {
        let answers = addresses.iter().map(|_| AtomicU64::new(0)).collect();
        let addresses = Mutex::new(addresses.into_iter().map(Some).collect());
        let shared = Arc::new(Shared { addresses, answers, seen: Mutex::default(), stop: AtomicBool::new(false) });
        let mut tasks = JoinSet::new();
        for n in 0..FAR_CLIENTS + NEAR_CLIENTS {
            let is_near = n >= FAR_CLIENTS;
            let key = if is_near { &near.key } else { &far.key };
            let pause = Duration::from_millis(if is_near { 5 } else { 0 });
            let who = Who { home: n % shared.answers.len(), key: key.clone(), is_near, pause };
            tasks.spawn(client(shared.clone(), who, ChaCha8Rng::seed_from_u64(rng.random())));
        }
        Self { shared, tasks }
    }

    /// Nobody goes to a gateway any more; who waits there goes on waiting.
    pub(super) fn leave(&self, gateway: usize) {
        self.shared.addresses.lock()[gateway] = None;
    }

    pub(super) fn find(&self, gateway: usize, address: SocketAddr) {
        self.shared.addresses.lock()[gateway] = Some(address);
    }

    /// How many answers came from these until now.
    pub(super) fn answers(&self, gateways: &[usize]) -> u64 {
        gateways.iter().map(|gateway| self.shared.answers[*gateway].load(Ordering::Relaxed)).sum()
    }

    /// Until each has the last answer that it waits for.
    pub(super) async fn stop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }

    /// Takes an answer that somebody else received.
    pub(super) fn received(&self, body: Value) {
        self.shared.received(&body);
    }

    pub(super) fn end(self) -> Answers {
        std::mem::take(&mut self.shared.seen.lock())
    }
}

impl Shared {
    fn received(&self, body: &Value) {
        let usage = &body["extensions"]["usage"];
        let answer = (usage["requestId"].as_str().unwrap().to_owned(), usage["units"].as_u64().unwrap());
        self.seen.lock().received.push(answer);
    }
}

struct Who {
    home: usize,
    key: String,
    is_near: bool,
    pause: Duration,
}

async fn client(shared: Arc<Shared>, who: Who, mut rng: ChaCha8Rng) {
    let Who { home, key, is_near, pause } = who;
    let http = reqwest::Client::new();
    while !shared.stop.load(Ordering::Relaxed) {
        let other = rng.random_range(0..shared.answers.len());
        let query = QUERIES[rng.random_range(0..QUERIES.len())];
        let found = {
            let addresses = shared.addresses.lock();
            [home, other].into_iter().find_map(|gateway| Some((gateway, addresses[gateway]?)))
        };
        let Some((gateway, address)) = found else {
            tokio::time::sleep(Duration::from_millis(2)).await;
            continue;
        };
        let request = http.post(format!("http://{address}/graphql")).bearer_auth(&key).json(&json!({ "query": query }));
        let answer = async {
            let response = request.send().await?;
            Ok::<_, reqwest::Error>((response.status().as_u16(), response.json::<Value>().await?))
        };
        let (status, body) = match answer.await {
            Ok(answer) => answer,
            Err(error) => {
                // Who could not connect has asked nothing.
                shared.seen.lock().cut_off += usize::from(!error.is_connect());
                continue;
            }
        };
        let code = body["errors"][0]["extensions"]["code"].as_str().unwrap_or_default();
        match (status, code) {
            (200, _) => {
                shared.received(&body);
                shared.answers[gateway].fetch_add(1, Ordering::Relaxed);
            }
            (429, "QUOTA_EXCEEDED") if is_near => shared.seen.lock().over_quota += 1,
            (503, _) => shared.seen.lock().unavailable += 1,
            _ => panic!("{status} {body}"),
        }
        tokio::time::sleep(if status == 200 { pause } else { Duration::from_millis(20) }).await;
    }
}
