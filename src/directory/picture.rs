//! The picture of the control plane that the gate holds in memory: no request waits for the database to know a key.
//!
//! It is looked for changes every `gate.directory_poll`; past `gate.directory_stale_max` without an answer from the
//! database it no longer counts as good.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::key::SecretHash;
use super::store::{self, Partner};
use crate::billing::plan::{Plan, Rate};
use crate::billing::store as plans;
use crate::clock::{Clock, Micros};
use crate::db::{ANSWER_TIMEOUT, Db, within};
use crate::event::producer::Producer;
use crate::ids::KeyId;
use crate::metering::{Mode, Terms};

/// A partner and the plan version that it is on.
#[derive(Debug)]
pub struct Account {
    /// Who.
    pub partner: Partner,
    /// None between subscriptions: then nothing is sold to it.
    pub plan: Option<Arc<Plan>>,
}

/// What is known of an API key.
#[derive(Clone)]
pub struct Credential {
    /// The public part.
    pub id: KeyId,
    /// Of its secret.
    pub hash: SecretHash,
    /// Whether its answers are billed.
    pub mode: Mode,
    /// It is no longer good from then on.
    pub expires_at: Option<Micros>,
    /// It was revoked.
    pub revoked: bool,
    /// Whose.
    pub account: Arc<Account>,
}

impl Credential {
    /// What a request with it may read.
    pub fn terms(&self, plan: &Plan) -> Terms {
        plan.terms()
    }

    /// Its own rate, beside the partner's.
    pub fn rate(&self) -> Option<Rate> {
        None
    }

    /// Its own units a month, beside the plan's.
    pub fn quota_units(&self) -> Option<u64> {
        None
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
    keys: HashMap<KeyId, Credential>,
    producers: HashMap<KeyId, ProducerCredential>,
}

impl Picture {
    /// The API key of a public id.
    pub fn key(&self, id: &str) -> Option<&Credential> {
        self.keys.get(&KeyId::from(id))
    }

    /// The producer key of a public id.
    pub fn producer(&self, id: &str) -> Option<&ProducerCredential> {
        self.producers.get(&KeyId::from(id))
    }

    async fn read(db: &Db) -> anyhow::Result<Self> {
        // By the database's clock, which is the one that subscriptions begin by.
        let now = db.now().await?;
        let mut connection = db.snapshot().await?;
        let version = store::version(&mut connection).await?;
        let published = plans::plans(&mut connection).await?;
        let plans: HashMap<_, _> =
            published.into_iter().map(|p| ((p.plan.id.clone(), p.plan.version), Arc::new(p.plan))).collect();
        let accounts: HashMap<_, _> = store::partners(&mut connection, now)
            .await?
            .into_iter()
            .map(|partner| {
                let plan = partner.plan.as_ref().and_then(|on| plans.get(on).cloned());
                (partner.id.clone(), Arc::new(Account { partner, plan }))
            })
            .collect();
        let mut keys = HashMap::new();
        for key in store::api_keys(&mut connection).await? {
            let account = accounts.get(&key.partner).with_context(|| format!("the key {} has no partner", key.id))?.clone();
            let (id, hash, mode, expires_at) = (key.id.clone(), key.hash, key.mode, key.expires_at);
            keys.insert(key.id, Credential { id, hash, mode, expires_at, revoked: key.revoked_at.is_some(), account });
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

/// The newest picture, kept up to date.
pub struct Directory {
    picture: ArcSwap<Picture>,
    confirmed: ArcSwap<Micros>,
    stale_max: Duration,
    clock: Clock,
    db: Db,
}

impl Directory {
    /// Reads the control plane.
    pub async fn open(db: Db, clock: Clock, stale_max: Duration) -> anyhow::Result<Self> {
        let now = clock.now();
        let picture = Picture::read(&db).await.context("the control plane cannot be read")?;
        Ok(Self { picture: ArcSwap::from_pointee(picture), confirmed: ArcSwap::from_pointee(now), stale_max, clock, db })
    }

    /// The newest picture; none when the database has not confirmed it for too long.
    pub fn current(&self, now: Micros) -> Option<arc_swap::Guard<Arc<Picture>>> {
        (self.age(now) <= self.stale_max).then(|| self.picture.load())
    }

    /// How long ago the database confirmed the picture.
    pub fn age(&self, now: Micros) -> Duration {
        now.since(**self.confirmed.load())
    }

    /// Looks for a change, and reads the control plane anew when there is one.
    pub async fn refresh(&self) -> anyhow::Result<()> {
        let asked = self.clock.now();
        within(ANSWER_TIMEOUT, async {
            let version = store::version(&mut *self.db.read().await?).await?;
            if version != self.picture.load().version {
                self.picture.store(Arc::new(Picture::read(&self.db).await?));
            }
            Ok(())
        })
        .await?;
        self.confirmed.store(Arc::new(asked));
        Ok(())
    }

    /// Refreshes until `stop` says so.
    pub async fn follow(&self, poll: Duration, mut stop: watch::Receiver<bool>) {
        let mut failing = false;
        while tokio::time::timeout(poll, stop.wait_for(|stop| *stop)).await.is_err() {
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
    }
}
