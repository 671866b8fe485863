//! When keys were last used, on its way to the database: in batches, off the request path.
//!
//! The gate marks a use in memory; a crash forgets the marks of the last `gate.last_used_every`, and nothing else.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;

use super::Directory;
use super::key_store;
use crate::clock::Micros;
use crate::db::{ANSWER_TIMEOUT, Db, within};
use crate::ids::KeyId;

/// The one writer of a directory's uses.
pub struct LastUsed {
    directory: Arc<Directory>,
    db: Db,
    /// What the database knows.
    written: HashMap<KeyId, Micros>,
}

impl LastUsed {
    /// To be made before the first request: what the directory holds then is what the database said.
    pub fn new(directory: Arc<Directory>, db: Db) -> Self {
        let mut this = Self { directory, db, written: HashMap::new() };
        this.written = this.news().into_iter().collect();
        this
    }

    /// Writes every `every`; once more, for the last requests, when `stop` says so.
    pub async fn run(mut self, every: Duration, mut stop: watch::Receiver<bool>) {
        let mut failing = false;
        loop {
            let stopping = tokio::time::timeout(every, stop.wait_for(|stop| *stop)).await.is_ok();
            match self.write().await {
                Ok(()) => failing = false,
                // The next round has it: told once.
                Err(error) if !failing => {
                    failing = true;
                    tracing::warn!(error = format!("{error:#}"), "when keys were last used cannot be written; trying again");
                }
                Err(_) => {}
            }
            if stopping {
                return;
            }
        }
    }

    async fn write(&mut self) -> anyhow::Result<()> {
        let news = self.news();
        if news.is_empty() {
            return Ok(());
        }
        within(ANSWER_TIMEOUT, async {
            let mut transaction = self.db.begin().await?;
            key_store::set_last_used(&mut transaction, self.db.dialect(), &news).await?;
            Ok(transaction.commit().await?)
        })
        .await?;
        self.written.extend(news);
        Ok(())
    }

    /// The uses that the database does not know yet.
    fn news(&self) -> Vec<(KeyId, Micros)> {
        let newest = self.directory.newest();
        let used = newest.keys().map(|key| (&key.id, Micros(key.used.load(Ordering::Relaxed))));
        let news = used.filter(|(id, at)| *at > self.written.get(*id).copied().unwrap_or_default());
        let mut news: Vec<_> = news.map(|(id, at)| (id.clone(), at)).collect();
        // Gateways that lock rows in one order do not wait for each other in a circle.
        news.sort_unstable();
        news
    }
}
