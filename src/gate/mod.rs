//! The gate: one file a step, in the order a request meets them.
//!
//! ```text
//! edge ─► authenticate ─► admit ─────────────────────────► execute ─► settle ─► journal ─► answer
//!  400      401 / 403      400  one unit of the rate: 429     │                   503
//!  406 408  429            402  documents: operation ready    └ one usage record, durable before the first byte
//!  413 415                 429  estimate: rate, quota, spend
//! ```

pub mod admit;
pub mod answer;
pub mod authenticate;
pub mod budget;
pub mod edge;
pub mod execute;
pub mod limiter;
pub mod request;
pub mod settle;
pub mod shield;
pub mod standing;

use std::any::Any;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{HeaderMap, Response};
use futures_util::FutureExt;
use parking_lot::Mutex;
use rand::SeedableRng;
use rand::rngs::StdRng;

use admit::{Admitted, Caller, House};
use answer::{Answered, Refused};
use limiter::Inside;
use request::{Media, Parameters};

use crate::clock::Clock;
use crate::directory::Directory;
use crate::error::{Code, Refusal};
use crate::ids::RequestId;
use crate::metering::{Admission, InFlight, Journal, Mode, Tally};
use crate::operation::{Documents, Method, Ready};
use crate::product::{Asker, Schema};
use crate::segment::AppendError;
use crate::telemetry::{Metrics, ProductLabel, Step};

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
    /// How much each may use in a month.
    pub budgets: budget::Budgets,
    /// Bounds that hold for everybody.
    pub house: House,
    /// Documents that were seen.
    pub documents: Arc<Documents>,
    /// What runs.
    pub schema: Schema,
    /// Who is admitted and not in the journal yet.
    pub in_flight: Arc<InFlight>,
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
    /// Where request ids come from.
    pub ids: Mutex<StdRng>,
}

/// A request to `/graphql`.
pub struct Incoming<'a> {
    /// GET or POST.
    pub method: Method,
    /// Whom the shield counts.
    pub address: IpAddr,
    /// As they came.
    pub headers: &'a HeaderMap,
    /// A GET's parameters.
    pub query_string: &'a str,
    /// A POST's.
    pub body: Body,
}

impl Gate {
    /// Randomness for ids, seeded by the operating system.
    pub fn ids() -> Mutex<StdRng> {
        Mutex::new(StdRng::from_os_rng())
    }

    /// Takes a request from its headers to its answer.
    pub async fn query(&self, incoming: Incoming<'_>) -> Response<Body> {
        let request = RequestId::new(self.clock.now(), &mut *self.ids.lock());
        let address = incoming.address;
        let (media, outcome) = match Media::of(incoming.headers) {
            Ok(media) => {
                // Nothing from outside should panic; if something does, its client gets words, and the log the same id.
                let answered = AssertUnwindSafe(self.answered(&request, incoming)).catch_unwind().await;
                (media, answered.unwrap_or_else(|panic| Err(panicked(&request, &*panic))))
            }
            Err(refusal) => (Media::Json, Err(refusal.into())),
        };
        match outcome {
            Ok(answered) => {
                self.metrics.request("OK");
                answer::data(media, &answered)
            }
            Err(refused) => {
                let refusal = &refused.refusal;
                self.metrics.request(refusal.code.as_str());
                let credential = refused.credential.as_deref();
                let partner = credential.map_or("", |credential| credential.account.partner.id.as_str());
                let key = credential.map_or("", |credential| credential.id.as_str());
                let code = refusal.code.as_str();
                if refusal.status().is_server_error() {
                    tracing::warn!(request.id = %request, partner.id = partner, key.id = key, %address, code, reason = %refusal, "refused");
                } else {
                    tracing::debug!(request.id = %request, partner.id = partner, key.id = key, %address, code, reason = %refusal, "refused");
                }
                answer::refusal(media, &request, &refused)
            }
        }
    }

    async fn answered(&self, request: &RequestId, incoming: Incoming<'_>) -> Result<Answered, Refused> {
        let Incoming { method, address, headers, query_string, body } = incoming;
        let step = Instant::now();
        let came = self.clock.now();
        let credential = match authenticate::partner(&self.directory, headers, address, came) {
            Ok(credential) => credential,
            Err(refusal) => return Err(self.shield.judge(address, refusal).await.into()),
        };
        let caller = Caller::new(credential, &self.house, came);
        let mut caller = caller.ok_or_else(|| Refusal::new(Code::Forbidden, authenticate::NO_PLAN))?;
        self.metrics.step(Step::Authenticate, step.elapsed());

        let step = Instant::now();
        let (inside, entered) = self.enter(&caller);
        let body = match method {
            Method::Get => Ok(Default::default()),
            Method::Post => {
                // The body first: a connection whose body was not read cannot be told 429, only closed.
                let body = edge::collect(body, self.body_bytes_max, self.body_timeout).await;
                request::content_type(headers).and(body)
            }
        };
        // The instant of admission: what was long in coming belongs to the month in which it is here.
        let (now, admission) = self.in_flight.admit(&self.clock, came);
        caller.now = now;
        let caller = &caller;
        let refused = |refusal| self.refused(caller, &inside, refusal, None);
        let body = body.map_err(refused)?;
        entered.map_err(refused)?;
        let parameters = match method {
            Method::Get => request::of_query_string(query_string),
            Method::Post => request::of_body(&body),
        };
        let mut ready = self.ready(parameters.map_err(refused)?, method).map_err(refused)?;
        let admitted = self.admit(caller, &ready, &inside).await?;
        self.metrics.step(Step::Admit, step.elapsed());
        let requested = admitted.estimate.units.total();

        let step = Instant::now();
        let Caller { credential, terms, rules, .. } = caller;
        let asker = Asker { credential: credential.clone(), terms: *terms, rules: *rules, now, request: request.clone() };
        let executed = execute::execute(&self.schema, &mut ready, asker, self.execution_timeout).await;
        let done = executed.map_err(|refusal| self.refused(caller, &inside, refusal, Some(requested)))?;
        self.metrics.step(Step::Execute, step.elapsed());

        let step = Instant::now();
        let settled = settle::settle(&ready, &caller.terms, &done);
        self.metrics.step(Step::Settle, step.elapsed());

        let step = Instant::now();
        self.journal(request, caller, admission, admitted, settled)
            .await
            .map_err(|refusal| self.refused(caller, &inside, refusal, Some(requested)))?;
        self.metrics.step(Step::Journal, step.elapsed());
        tracing::debug!(
            request.id = %request,
            partner.id = %caller.credential.account.partner.id,
            key.id = %caller.credential.id,
            units = settled.billed.total(),
            errors = done.response.errors.len(),
            duration_us = self.clock.now().since(now).as_micros() as u64,
            "answered"
        );
        let standing = caller.standing(&inside, &self.budgets);
        Ok(Answered { request: request.clone(), response: done.response, requested, settled, standing })
    }

    /// A place inside, and one unit of the rate: the least that a request costs, before anything is spent on its text.
    fn enter(&self, caller: &Caller) -> (Inside, Result<(), Refusal>) {
        let Caller { credential, now, .. } = caller;
        let partner = &credential.account.partner.id;
        let (inside, entered) = self.limiter.enter(partner, &credential.id, credential.mode, caller.limits());
        let taken = entered.and_then(|()| inside.take(1, *now));
        (inside, taken)
    }

    fn ready(&self, parameters: Parameters<'_>, method: Method) -> Result<Ready, Refusal> {
        let Parameters { query, operation_name, variables, .. } = parameters;
        self.documents.ready(&query, operation_name.as_deref(), variables.unwrap_or_default(), method)
    }

    async fn admit(&self, caller: &Caller, ready: &Ready, inside: &Inside) -> Result<Admitted, Refused> {
        let (estimate, checked) = ready.check(&caller.terms, &caller.rules);
        checked.map_err(|refusal| self.refused(caller, inside, refusal, Some(estimate.units.total())))?;
        let admitted = admit::admit(caller, estimate, inside, &self.budgets).await;
        admitted.map_err(|refusal| self.refused(caller, inside, refusal, Some(estimate.units.total())))
    }

    fn refused(&self, caller: &Caller, inside: &Inside, refusal: Refusal, requested: Option<u64>) -> Refused {
        let standing = Some(Box::new(caller.standing(inside, &self.budgets)));
        Refused { refusal, standing, requested, credential: Some(caller.credential.clone()) }
    }

    /// Makes the usage durable, and puts what is billed in the place of what was held back.
    async fn journal(
        &self,
        request: &RequestId,
        caller: &Caller,
        admission: Admission,
        admitted: Admitted,
        settled: settle::Settled,
    ) -> Result<(), Refusal> {
        let record = settle::record(request, &caller.credential, caller.now, &settled);
        let withheld = |error: AppendError| {
            let error = anyhow::Error::from(error);
            tracing::error!(request.id = %request, error = format!("{error:#}"), "usage could not be journaled; the answer is withheld");
            let what = "Usage cannot be recorded for now, so nothing is answered and nothing is billed. Try again.";
            Refusal::unavailable(what)
        };
        let on_its_way = self.journal.append_admitted(record, admission).await.map_err(withheld)?;
        // A client that goes away from here on drops this future; what is on its way is counted all the same.
        let billed = if caller.credential.mode == Mode::Live { settled.billed } else { Tally::default() };
        let entry = Entry { metrics: &self.metrics, reservation: admitted.reservation, billed };
        on_its_way.durable().await.map(drop).map_err(|error| {
            entry.withdraw();
            withheld(error)
        })
    }
}

/// What counts as used once it is dropped.
struct Entry<'a> {
    metrics: &'a Metrics,
    reservation: Option<budget::Reservation>,
    billed: Tally,
}

impl Entry<'_> {
    /// Nothing was used after all.
    fn withdraw(mut self) {
        drop(self.reservation.take());
        std::mem::forget(self);
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        if let Some(reservation) = self.reservation.take() {
            reservation.settle(self.billed);
        }
        self.metrics.journaled_records.inc();
        for (product, units) in self.billed.iter() {
            self.metrics.units.get_or_create(&ProductLabel { product: product.as_str() }).inc_by(units);
        }
    }
}

fn panicked(request: &RequestId, panic: &(dyn Any + Send)) -> Refused {
    let said = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(request.id = %request, panic = said.unwrap_or("without words"), "a request panicked");
    Refusal::internal(request).into()
}
