//! The gate: one file a step, in the order a request meets them.
//!
//! ```text
//! edge ─► authenticate ─► admit ─► execute ─► settle ─► journal ─► answer
//!  400      401 / 429     400/429               │          503
//!  408 413  403                                 └ one usage record, durable before the first byte
//! ```

pub mod admit;
pub mod answer;
pub mod authenticate;
pub mod edge;
pub mod execute;
pub mod limiter;
pub mod settle;
pub mod shield;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{HeaderMap, Response};
use parking_lot::Mutex;
use rand::SeedableRng;
use rand::rngs::StdRng;

use answer::Answered;

use crate::clock::Clock;
use crate::directory::Directory;
use crate::error::Refusal;
use crate::ids::RequestId;
use crate::metering::Journal;
use crate::product::{Asker, Schema};
use crate::segment::AppendError;
use crate::telemetry::{Metrics, ProductLabel};

/// What the gate works with.
pub struct Gate {
    /// Admission time.
    pub clock: Clock,
    /// Who is who.
    pub directory: Arc<Directory>,
    /// Against callers whose keys fail.
    pub shield: shield::Shield,
    /// How fast each partner may ask.
    pub limiter: limiter::Limiter,
    /// What runs.
    pub schema: Schema,
    /// Where usage becomes durable.
    pub journal: Arc<Journal>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The largest body.
    pub body_bytes_max: usize,
    /// How long a client may take to send it.
    pub body_timeout: Duration,
    /// How long a query may run.
    pub execution_timeout: Duration,
    /// What an operation's text may hold.
    pub bounds: crate::operation::precheck::Bounds,
    /// Where request ids come from.
    pub ids: Mutex<StdRng>,
}

impl Gate {
    /// Randomness for ids, seeded by the operating system.
    pub fn ids() -> Mutex<StdRng> {
        Mutex::new(StdRng::from_os_rng())
    }

    /// Takes one `POST /graphql` from its headers to its answer.
    pub async fn query(&self, address: IpAddr, headers: &HeaderMap, body: Body) -> Response<Body> {
        let request = RequestId::new(self.clock.now(), &mut *self.ids.lock());
        let accepts = answer::Media::of(headers);
        match self.answered(&request, address, headers, body).await {
            Ok(answered) => {
                self.metrics.request("OK");
                answer::data(accepts, answered)
            }
            Err((refusal, remaining)) => {
                self.metrics.request(refusal.code.as_str());
                if refusal.status().is_server_error() {
                    tracing::warn!(request.id = %request, %address, code = refusal.code.as_str(), reason = %refusal, "refused");
                } else {
                    tracing::debug!(request.id = %request, %address, code = refusal.code.as_str(), reason = %refusal, "refused");
                }
                answer::refusal(accepts, &request, &refusal, remaining)
            }
        }
    }

    async fn answered(&self, request: &RequestId, address: IpAddr, headers: &HeaderMap, body: Body) -> Result<Answered, Refused> {
        let step = Instant::now();
        let now = self.clock.now();
        let credential = match authenticate::partner(&self.directory, headers, now) {
            Ok(credential) => credential,
            Err(refusal) => return Err((self.shield.judge(address, refusal).await, None)),
        };
        self.metrics.step("authenticate", step.elapsed());

        let step = Instant::now();
        // The body first: a connection whose body was not read cannot be told 429, only closed.
        let body = edge::read(headers, body, self.body_bytes_max, self.body_timeout).await.map_err(|refusal| (refusal, None))?;
        let allowed = self.limiter.take(&credential.account)?;
        let refused = |refusal: Refusal| (refusal, Some(allowed));
        let operation = admit::operation(&body, &self.bounds).map_err(refused)?;
        self.metrics.step("admit", step.elapsed());

        let step = Instant::now();
        let asker = Asker { credential: credential.clone(), now };
        let executed = execute::execute(&self.schema, operation, asker, self.execution_timeout).await.map_err(refused)?;
        self.metrics.step("execute", step.elapsed());

        let step = Instant::now();
        let record = settle::record(request, &credential, now, &executed);
        let units = record.units.clone();
        self.metrics.step("settle", step.elapsed());

        let step = Instant::now();
        // On a task of its own: a client that goes away must not keep what becomes durable from being counted.
        let (journal, metrics) = (self.journal.clone(), self.metrics.clone());
        let journaled = tokio::spawn(async move {
            let units = record.units.clone();
            journal.append(record).await?;
            metrics.journaled_records.inc();
            for (product, units) in units {
                metrics.units.get_or_create(&ProductLabel { product: product.as_str() }).inc_by(units);
            }
            Ok::<_, AppendError>(())
        });
        let journaled = journaled.await.map_err(anyhow::Error::from).and_then(|journaled| Ok(journaled?));
        journaled.map_err(|error| {
            tracing::error!(request.id = %request, error = format!("{error:#}"), "usage could not be journaled; the answer is withheld");
            refused(Refusal::unavailable(
                "Usage cannot be recorded for now, so nothing is answered and nothing is billed. Try again.",
            ))
        })?;
        self.metrics.step("journal", step.elapsed());
        tracing::debug!(
            request.id = %request,
            partner.id = %credential.account.partner.id,
            key.id = %credential.id,
            units = units.values().sum::<u64>(),
            duration_us = self.clock.now().since(now).as_micros() as u64,
            "answered"
        );
        Ok(Answered { request: request.clone(), response: executed.response, units, allowed })
    }
}

/// With what is left of the partner's rate, once it is known who asks.
type Refused = (Refusal, Option<limiter::Allowed>);
