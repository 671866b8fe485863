//! Usage at chosen instants, through the real journal: as if the gateway of the data folder had answered then.

use tollgate::clock::{Clock, Micros};
use tollgate::config::Durability;
use tollgate::data_dir::DataDir;
use tollgate::db::Db;
use tollgate::metering::{Journal, UsageRecord, replica_store};
use tollgate::segment::Options;

use super::{Database, Gateway};

/// Journals `records` in their order, as one start of this data folder's replica, which no gateway may hold.
pub(crate) async fn journal(database: &Database, records: Vec<UsageRecord>) {
    let Some(begun) = records.iter().map(|record| record.at).min() else { return };
    let settings = Gateway::settings(database);
    let data_dir = DataDir::try_lock(&settings.data_dir).unwrap().expect("no gateway runs on the folder");
    let replica = data_dir.replica(begun).unwrap();
    let db = Db::open(&settings.database_url(), 1, &settings.data_dir).await.unwrap();
    let mut transaction = db.begin().await.unwrap();
    let local = Journal::last_epoch(data_dir.journal().as_path()).unwrap();
    let epoch = replica_store::begin_epoch(&mut transaction, &replica, local, begun).await.unwrap().epoch;
    transaction.commit().await.unwrap();
    // Several segments, so that more than one has to be archived.
    let options = Options { segment_bytes: 64 << 10, durability: Durability::Os };
    let clock = Clock::manual(begun);
    let journal = Journal::open(data_dir.journal().as_path(), replica, epoch, options, clock.clone()).unwrap();
    let mut last = None;
    for record in records {
        clock.anchor(Micros(record.at.0.max(clock.now().0)));
        last = Some(journal.append(record).await.unwrap());
    }
    // They are written in order: the last one is durable last.
    last.unwrap().durable().await.unwrap();
    db.close().await;
}
