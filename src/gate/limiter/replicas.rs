//! What replicas tell each other of rates, through Redis, behind the requests' backs: none ever waits for it.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use anyhow::Context;
use futures_util::StreamExt;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::Counter;
use super::known::{Heard, Mark, Next, Told};
use crate::billing::plan::Rate;
use crate::clock::Clock;
use crate::ids::ReplicaId;
use crate::redis_link::{Link, Script};
use crate::telemetry::Metrics;

/// A replica says this often that it is there,
const BEAT_EVERY: Duration = Duration::from_millis(300);
/// and is taken to be for so long.
const BEAT_LASTS: Duration = Duration::from_secs(3);
/// Fewer replicas are believed in after so many beats: a clock that jumps, or a Redis that was started anew, has forgotten some of them.
const BEATS_SEEN: usize = 4;
/// An answer that takes longer is not waited for.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// What is due is looked for this often, while there is any.
const TICK: Duration = Duration::from_millis(5);
/// Rates that are exchanged at once.
const AT_ONCE: usize = 64;
/// What the script can add to without a loss.
const USED_MAX: u64 = 4_500_000_000_000_000;

static EXCHANGE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("exchange.lua")));
static BEAT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("beat.lua")));

/// The replicas that share rates, as one of them sees them.
pub(super) struct Replicas {
    link: Link,
    prefix: String,
    name: String,
    /// Not tied to the database's: a step of that one must not hand out units.
    pub(super) clock: Clock,
    metrics: Arc<Metrics>,
    /// How many there were at the last beats.
    seen: Mutex<[u32; BEATS_SEEN]>,
    count: AtomicU32,
    is_together: AtomicBool,
    /// Rates of which others are to be told, or heard.
    listed: Mutex<Vec<Arc<Counter>>>,
    is_listed: Notify,
}

impl Replicas {
    pub(super) async fn open(
        url: &str,
        prefix: &str,
        name: &ReplicaId,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<Self> {
        let replicas = Self {
            link: Link::open(url).await?,
            prefix: format!("{prefix}:rate"),
            name: name.as_str().to_owned(),
            clock,
            metrics,
            seen: Mutex::new([1; BEATS_SEEN]),
            count: AtomicU32::new(1),
            is_together: AtomicBool::new(true),
            listed: Mutex::default(),
            is_listed: Notify::new(),
        };
        // Before the first request: who takes others for absent takes their part.
        let count = replicas.say(true).await.context("the rates cannot be shared")?;
        replicas.count_is(count);
        replicas.metrics.rate_shared().set(1);
        Ok(replicas)
    }

    /// How many, this one among them.
    pub(super) fn count(&self) -> u32 {
        self.count.load(Ordering::Acquire)
    }

    /// Whether they hear of each other.
    pub(super) fn is_together(&self) -> bool {
        self.is_together.load(Ordering::Acquire)
    }

    /// The key of a rate's cell.
    pub(super) fn key(&self, whose: &super::Whose) -> String {
        format!("{}:{whose}", self.prefix)
    }

    /// To be exchanged when its time has come.
    pub(super) fn list(&self, counter: Arc<Counter>) {
        self.listed.lock().push(counter);
        self.is_listed.notify_one();
    }

    /// Exchanges and beats until `stop` says so; then tells the rest, and leaves.
    pub(super) async fn run(&self, stop: watch::Receiver<bool>) {
        tokio::join!(self.exchange_until(stop.clone()), self.beat_until(stop));
        if self.is_together() {
            self.exchange_due(true).await;
        }
        if let Err(error) = self.say(false).await {
            tracing::debug!(
                error = format!("{error:#}"),
                "the other gateways were not told of the stop; they see it within seconds"
            );
        }
    }

    async fn beat_until(&self, mut stop: watch::Receiver<bool>) {
        while tokio::time::timeout(BEAT_EVERY, stop.wait_for(|stop| *stop)).await.is_err() {
            self.beat().await;
        }
    }

    async fn exchange_until(&self, mut stop: watch::Receiver<bool>) {
        loop {
            if self.listed.lock().is_empty() {
                tokio::select! {
                    () = self.is_listed.notified() => {}
                    _ = stop.wait_for(|stop| *stop) => return,
                }
            }
            self.exchange_due(false).await;
            let pause = if self.is_together() { TICK } else { BEAT_EVERY };
            if tokio::time::timeout(pause, stop.wait_for(|stop| *stop)).await.is_ok() {
                return;
            }
        }
    }

    /// Says that this replica is there, and counts them.
    pub(super) async fn beat(&self) {
        match self.say(true).await {
            Ok(count) => {
                self.count_is(count);
                if !self.is_together() && self.can_exchange().await {
                    self.found();
                }
            }
            Err(error) => self.lost(&error),
        }
    }

    async fn say(&self, is_here: bool) -> anyhow::Result<u32> {
        let call = self.link.script(&BEAT, |command| {
            command.arg(1).arg(format!("{}:replicas", self.prefix));
            command.arg(&self.name).arg(BEAT_LASTS.as_millis() as u64).arg(u8::from(is_here));
        });
        tokio::time::timeout(ANSWER_TIMEOUT, call).await.context("Redis does not answer")?.with_context(|| self.link.failed())
    }

    fn count_is(&self, count: u32) {
        let mut seen = self.seen.lock();
        seen.rotate_left(1);
        seen[BEATS_SEEN - 1] = count.max(1);
        let count = seen.iter().copied().fold(1, u32::max);
        self.count.store(count, Ordering::Release);
        self.metrics.rate_replicas().set(i64::from(count));
    }

    /// Where one rate could not be exchanged, that one must succeed: on a cluster it may be on another node than the beats.
    async fn can_exchange(&self) -> bool {
        let first = {
            let mut listed = self.listed.lock();
            (!listed.is_empty()).then(|| listed.remove(0))
        };
        let Some(counter) = first else { return true };
        let next = counter.known.lock().next(self.count(), true, self.clock.now());
        match next {
            Next::Tell(told) => self.exchange(counter, told).await,
            Next::Wait | Next::Nothing => true,
        }
    }

    /// Exchanges what is due; with `at_once` all that is listed.
    pub(super) async fn exchange_due(&self, at_once: bool) {
        if !self.is_together() {
            return;
        }
        let mut listed = std::mem::take(&mut *self.listed.lock());
        let (count, now) = (self.count(), self.clock.now());
        let mut due = Vec::new();
        listed.retain(|counter| match counter.known.lock().next(count, at_once, now) {
            Next::Tell(told) => {
                due.push((counter.clone(), told));
                false
            }
            Next::Wait => true,
            Next::Nothing => false,
        });
        self.listed.lock().append(&mut listed);
        let due = futures_util::stream::iter(due);
        due.for_each_concurrent(AT_ONCE, |(counter, told)| async move {
            self.exchange(counter, told).await;
        })
        .await;
    }

    /// Tells and hears of a rate that was taken from the list. Whether that succeeded.
    async fn exchange(&self, counter: Arc<Counter>, told: Told) -> bool {
        let call = self.link.script(&EXCHANGE, |command| {
            let Rate { units_per_second, burst } = told.rate;
            let (mark, count) = told.mark.map_or((String::new(), 0), |mark| (mark.is_of.to_string(), mark.count));
            command.arg(1).arg(&counter.key).arg(units_per_second).arg(burst);
            command.arg(told.units).arg(told.used_at_most(USED_MAX)).arg(mark).arg(count).arg(rand::random::<u64>());
        });
        let answered: anyhow::Result<(u64, i64, i64)> = match tokio::time::timeout(ANSWER_TIMEOUT, call).await {
            Ok(answered) => answered.with_context(|| self.link.failed()),
            Err(late) => Err(late).context("Redis does not answer"),
        };
        match answered {
            Ok((is_of, count, more)) => {
                let heard = Heard { mark: Mark { is_of, count }, more };
                let has_more = counter.known.lock().hear(&told, heard, self.count(), self.clock.now());
                if has_more {
                    self.list(counter);
                }
                true
            }
            Err(error) => {
                counter.known.lock().miss(&told);
                // The first that is tried once Redis is back.
                self.listed.lock().insert(0, counter);
                self.metrics.rate_exchange_failures.inc();
                self.lost(&error);
                false
            }
        }
    }

    fn lost(&self, error: &anyhow::Error) {
        if self.is_together.swap(false, Ordering::AcqRel) {
            self.metrics.rate_shared().set(0);
            let (replicas, error) = (self.count(), format!("{error:#}"));
            tracing::warn!(replicas, error, "rates are not shared for now: this gateway keeps to its part of each");
        }
    }

    fn found(&self) {
        if !self.is_together.swap(true, Ordering::AcqRel) {
            self.metrics.rate_shared().set(1);
            tracing::info!(replicas = self.count(), "rates are shared again");
            self.is_listed.notify_one();
        }
    }
}
