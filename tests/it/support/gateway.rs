//! A gateway in this process, and clients of it.

use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use tollgate::clock::Micros;
use tollgate::config::Settings;
use tollgate::directory::admin::NewPartner;
use tollgate::directory::{KeyTerms, Scope, admin};
use tollgate::ids::{KeyId, PlanId};
use tollgate::serve::{self, Running};

use super::{Database, per_unit, plan};

/// Every product, fast enough not to be in the way; and stock alone, slow.
fn plans() -> String {
    let charges = per_unit("inventory", 3, "0.0125") + &per_unit("pricing", 0, "0.0333");
    plan("wide", &charges) + &plan("stock", "products = [\"inventory\"]\nrate = { units_per_second = 1, burst = 5 }")
}

/// A gateway on free ports.
pub(crate) struct Gateway {
    pub(crate) running: Running,
    pub(crate) http: reqwest::Client,
}

/// A partner with a key.
pub(crate) struct Partner {
    pub(crate) key: String,
    pub(crate) key_id: KeyId,
}

impl Gateway {
    pub(crate) async fn start(database: &Database) -> Self {
        Self::start_with(database, |_| {}).await
    }

    pub(crate) fn settings(database: &Database) -> Settings {
        let mut settings = Settings::defaults(&database.data_dir()).unwrap();
        settings.database.url = database.url.clone();
        settings.database.clock_shift = database.clock_shift();
        settings.server.listen = "127.0.0.1:0".parse().unwrap();
        settings.server.operator_listen = "127.0.0.1:0".parse().unwrap();
        settings
    }

    pub(crate) async fn start_with(database: &Database, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Self::settings(database);
        change(&mut settings);
        let running = serve::start(settings).await.unwrap();
        let gateway = Self { running, http: reqwest::Client::new() };
        gateway.plans(&plans()).await;
        gateway
    }

    /// Publishes the plans of a TOML text.
    pub(crate) async fn plans(&self, toml: &str) {
        let now = self.running.app.clock.now();
        let mut transaction = self.running.db().begin().await.unwrap();
        admin::apply_plans(&mut transaction, &tollgate::billing::plan::parse(toml).unwrap(), now).await.unwrap();
        transaction.commit().await.unwrap();
    }

    /// A sum over the ledger's cells.
    pub(crate) async fn sum(&self, column: &'static str, meter: &'static str, plan: &'static str) -> i64 {
        let text = format!("select cast(coalesce(sum({column}), 0) as bigint) from usage_cell where meter = $1 and plan_id = $2");
        let mut connection = self.running.db().read().await.unwrap();
        let query = sqlx::query_scalar(sqlx::AssertSqlSafe(text)).bind(meter).bind(plan);
        query.fetch_one(&mut *connection).await.unwrap()
    }

    pub(crate) async fn stop(self) {
        self.running.stop().await.unwrap();
    }

    /// A partner on `plan` since the month's beginning, so that a plan's included units are whole; it may see the rows of
    /// `scope`.
    pub(crate) async fn partner(&self, name: &str, plan: &str, scope: &[&str]) -> Partner {
        let now = self.running.app.clock.now();
        let mut rng = StdRng::from_os_rng();
        let mut transaction = self.running.db().begin().await.unwrap();
        let scope = Scope::parse(scope.iter().copied()).unwrap();
        let plan = PlanId::from(plan);
        let new = NewPartner { scope, ..NewPartner::new(name, &plan) };
        let month = now.timestamp().to_zoned(jiff::tz::TimeZone::UTC).date().first_of_month();
        let month: Micros = month.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp().into();
        let partner = admin::create_partner(&mut transaction, new, month, &mut rng).await.unwrap();
        let key = admin::issue_key(&mut transaction, &partner.id, KeyTerms::default(), now, &mut rng).await.unwrap();
        transaction.commit().await.unwrap();
        self.running.app.directory.refresh().await.unwrap();
        Partner { key: key.text, key_id: key.id }
    }

    /// A producer key for sources that begin with `/t`.
    pub(crate) async fn producer(&self) -> String {
        let now = self.running.app.clock.now();
        let mut transaction = self.running.db().begin().await.unwrap();
        let sources = vec!["/t".to_owned()];
        let key = admin::issue_producer(&mut transaction, "p", sources, now, &mut StdRng::from_os_rng()).await.unwrap();
        transaction.commit().await.unwrap();
        self.running.app.directory.refresh().await.unwrap();
        key.text
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.running.address)
    }

    /// Appends events over HTTP, and waits until they are applied.
    pub(crate) async fn feed(&self, key: &str, events: &[Value]) -> Value {
        let ndjson: String = events.iter().map(|event| format!("{event}\n")).collect();
        let response = self
            .http
            .post(self.url("/v1/events"))
            .bearer_auth(key)
            .header("content-type", "application/x-ndjson")
            .body(ndjson)
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 202, "{response:?}");
        let fed = self.running.app.clock.now();
        self.applied(fed).await;
        response.json().await.unwrap()
    }

    /// Waits until everything appended before `instant` is applied.
    pub(crate) async fn applied(&self, instant: Micros) {
        for _ in 0..500 {
            let standings = self.running.app.engine.features().standings().await.unwrap();
            if standings.iter().all(|standing| standing.as_of.is_some_and(|as_of| as_of >= instant)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the projector did not catch up");
    }

    /// A query's whole answer.
    pub(crate) async fn query(&self, key: &str, query: &str) -> Value {
        graphql(&self.http, &self.url("/graphql"), key, json!({ "query": query })).await.1
    }
}

/// Status and body of a GraphQL request.
pub(crate) async fn graphql(http: &reqwest::Client, url: &str, key: &str, body: Value) -> (u16, Value) {
    let response =
        http.post(url).bearer_auth(key).header("accept", "application/graphql-response+json").json(&body).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}
