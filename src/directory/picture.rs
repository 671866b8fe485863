//! The picture of the control plane that the gate holds in memory: no request waits for the database to know a key.
//!
//! PostgreSQL tells of changes, and they are looked for every `gate.directory_poll` besides; past `gate.directory_stale_max` without an answer from the
//! database it no longer counts as good.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use ipnet::IpNet;
use tokio::sync::watch;

use super::key::SecretHash;
use super::key_store::{self, ApiKey};
use super::store::{self, Partner};
use super::terms::{KeyBudget, KeyTerms};
use crate::billing::calendar::Calendar;
use crate::billing::plan::{Plan, Rate};
use crate::billing::store as plans;
use crate::clock::{Clock, Micros};
use crate::db::{ANSWER_TIMEOUT, Db, within};
use crate::event::producer::Producer;
use crate::ids::KeyId;
use crate::metering::{Mode, Product, Terms};

/// A partner and the plan version that it is on.
#[derive(Debug)]
pub struct Account {
    /// Who.
    pub partner: Partner,
    /// Its billing months, and what it was subscribed to in them.
    pub calendar: Arc<Calendar>,
    /// None between subscriptions: then nothing is sold to it.
    pub plan: Option<Arc<Plan>>,
}

/// What is known of an API key.
#[derive(Clone)]
pub struct Credential {
    /// The public part.
    pub id: KeyId,
    /// Any of them opens it, each until its end.
    pub secrets: Arc<[(SecretHash, Option<Micros>)]>,
    /// Whether its answers are billed.
    pub mode: Mode,
    /// Of what the plan sells, this alone; none: all of it.
    pub products: Option<BTreeSet<Product>>,
    /// It is good from there alone; empty: from anywhere.
    pub addresses: Arc<[IpNet]>,
    /// Limits of its own, in addition to its partner's.
    pub budget: Option<KeyBudget>,
    /// It is not good until it is resumed.
    pub suspended: bool,
    /// It is no longer good from then on.
    pub expires_at: Option<Micros>,
    /// It was revoked.
    pub revoked: bool,
    /// Whose.
    pub account: Arc<Account>,
    /// When it was last let in, in microseconds; zero: never. Shared with the pictures before and after this one.
    pub used: Arc<AtomicI64>,
}

impl Credential {
    /// What a request with it may read.
    pub fn terms(&self, plan: &Plan) -> Terms {
        let of_the_key = |product| self.products.as_ref().is_none_or(|products| products.contains(&product));
        plan.terms().only(of_the_key)
    }

    /// Its own rate, beside the partner's.
    pub fn rate(&self) -> Option<Rate> {
        self.budget?.rate
    }

    /// Its own units a month, beside the plan's.
    pub fn quota_units(&self) -> Option<u64> {
        self.budget?.quota_units
    }
}

/// What is known of a producer key.
#[derive(Clone)]
pub struct ProducerCredential {
    /// Of its secret.
    pub hash: SecretHash,
    /// It was revoked.
    pub revoked: bool,
    /// Whose.
    pub producer: Arc<Producer>,
}

/// The control plane at one version.
pub struct Picture {
    version: i64,
    keys: HashMap<KeyId, Arc<Credential>>,
    producers: HashMap<KeyId, ProducerCredential>,
}

impl Picture {
    /// The API key of a public id.
    pub fn key(&self, id: &str) -> Option<&Arc<Credential>> {
        self.keys.get(id)
    }

    /// All API keys.
    pub fn keys(&self) -> impl Iterator<Item = &Arc<Credential>> {
        self.keys.values()
    }

    /// The producer key of a public id.
    pub fn producer(&self, id: &str) -> Option<&ProducerCredential> {
        self.producers.get(id)
    }

    /// What `before` knows of the keys' uses is carried over: the database hears of them later.
    async fn read(db: &Db, clock: &Clock, before: Option<&Self>) -> anyhow::Result<Self> {
        let mut connection = db.snapshot().await?;
        let version = store::version(&mut connection).await?;
        // Behind the snapshot: whatever it holds has begun. Subscriptions begin by the database's clock or by ours.
        let now = db.now().await?.max(clock.now());
        let plans = plans::plans_by_version(&mut connection).await?;
        let mut calendars = plans::calendars(&mut connection, None).await?;
        let mut accounts = HashMap::new();
        for partner in store::partners(&mut connection, now).await? {
            let plan = partner.plan.as_ref().and_then(|on| plans.get(on).cloned());
            let calendar = calendars.remove(&partner.id);
            let calendar = Arc::new(calendar.with_context(|| format!("the partner {} has no time zone", partner.id))?);
            accounts.insert(partner.id.clone(), Arc::new(Account { partner, calendar, plan }));
        }
        let mut keys = HashMap::new();
        for key in key_store::api_keys(&mut connection).await? {
            let account = accounts.get(&key.partner).with_context(|| format!("the key {} has no partner", key.id))?.clone();
            let used = match before.and_then(|before| before.key(key.id.as_str())) {
                Some(known) => known.used.clone(),
                None => Arc::new(AtomicI64::new(key.last_used_at.unwrap_or_default().0)),
            };
            keys.insert(key.id.clone(), Arc::new(credential(key, account, used)));
        }
        let producers = store::producers(&mut connection).await?;
        let producers = producers
            .into_iter()
            .map(|key| {
                let (hash, revoked) = (key.hash, key.revoked_at.is_some());
                (key.producer.id.clone(), ProducerCredential { hash, revoked, producer: Arc::new(key.producer) })
            })
            .collect();
        Ok(Self { version, keys, producers })
    }
}

fn credential(key: ApiKey, account: Arc<Account>, used: Arc<AtomicI64>) -> Credential {
    let KeyTerms { mode, expires_at, products, addresses, budget } = key.terms;
    Credential {
        id: key.id,
        secrets: key.secrets.iter().map(|secret| (secret.hash, secret.ends_at)).collect(),
        mode,
        products,
        addresses: addresses.into(),
        budget,
        suspended: key.suspended,
        expires_at,
        revoked: key.revoked_at.is_some(),
        account,
        used,
    }
}

/// The newest picture, kept up to date.
pub struct Directory {
    picture: ArcSwap<Picture>,
    /// One reader at a time: a slow one must not put an older picture over a newer, nor two draw up a key's uses apart.
    reading: tokio::sync::Mutex<()>,
    confirmed: ArcSwap<Micros>,
    stale_max: Duration,
    clock: Clock,
    db: Db,
}

impl Directory {
    /// Reads the control plane.
    pub async fn open(db: Db, clock: Clock, stale_max: Duration) -> anyhow::Result<Self> {
        let now = clock.now();
        let picture = Picture::read(&db, &clock, None).await.context("the control plane cannot be read")?;
        let (picture, confirmed) = (ArcSwap::from_pointee(picture), ArcSwap::from_pointee(now));
        Ok(Self { picture, reading: tokio::sync::Mutex::new(()), confirmed, stale_max, clock, db })
    }

    /// The newest picture; none when the database has not confirmed it for too long.
    pub fn current(&self, now: Micros) -> Option<arc_swap::Guard<Arc<Picture>>> {
        (self.age(now) <= self.stale_max).then(|| self.picture.load())
    }

    /// The newest picture, however old it is.
    pub(super) fn newest(&self) -> Arc<Picture> {
        self.picture.load_full()
    }

    /// How long ago the database confirmed the picture.
    pub fn age(&self, now: Micros) -> Duration {
        now.since(**self.confirmed.load())
    }

    /// Looks for a change, and reads the control plane anew when there is one.
    pub async fn refresh(&self) -> anyhow::Result<()> {
        within(ANSWER_TIMEOUT, async {
            let _alone = self.reading.lock().await;
            let asked = self.clock.now();
            let version = store::version(&mut *self.db.read().await?).await?;
            let before = self.picture.load_full();
            if version != before.version {
                self.picture.store(Arc::new(Picture::read(&self.db, &self.clock, Some(&before)).await?));
            }
            self.confirmed.store(Arc::new(asked));
            Ok(())
        })
        .await
    }

    /// Refreshes until `stop` says so: when there is word of a change, and every `poll` in case word was lost.
    pub async fn follow(&self, poll: Duration, mut stop: watch::Receiver<bool>) {
        let (told, mut word) = watch::channel(0);
        let listening = tokio::spawn({
            let db = self.db.clone();
            async move { db.listen(told).await }
        });
        let mut failing = false;
        loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                Ok(()) = word.changed() => {}
                () = tokio::time::sleep(poll) => {}
            }
            match self.refresh().await {
                Ok(()) if failing => {
                    failing = false;
                    tracing::info!("keys, plans and partners are up to date again");
                }
                Ok(()) => {}
                Err(error) if !failing => {
                    failing = true;
                    tracing::error!(
                        error = format!("{error:#}"),
                        "keys, plans and partners cannot be refreshed; serving from memory"
                    );
                }
                Err(_) => {}
            }
        }
        listening.abort();
    }
}
