//! Word of a change, from process to process, by PostgreSQL's NOTIFY: what a poll would find a moment later. SQLite has none; there, and
//! whenever word does not come through, polling is what finds it.

use std::time::Duration;

use sqlx::postgres::PgListener;
use sqlx::{AnyConnection, Executor};
use tokio::sync::watch;

use super::dialect::Dialect;

const CHANNEL: &str = "tollgate_control_plane";
/// After a connection that was lost.
const PAUSE: Duration = Duration::from_secs(1);

/// Tells everybody who listens, once the caller's transaction commits.
pub(crate) async fn tell(connection: &mut AnyConnection) -> anyhow::Result<()> {
    if connection.backend_name() == <sqlx::Postgres as sqlx::Database>::NAME {
        connection.execute("select pg_notify('tollgate_control_plane', '')").await?;
    }
    Ok(())
}

/// Counts up `told` whenever there is word of a change, or may have been; forever.
pub(super) async fn listen(url: String, dialect: Dialect, told: watch::Sender<u64>) {
    if dialect == Dialect::Sqlite {
        return;
    }
    loop {
        if let Err(error) = hear(&url, &told).await {
            tracing::warn!(
                error = format!("{error:#}"),
                "the database tells of no changes for now; they are looked for every gate.directory_poll"
            );
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn hear(url: &str, told: &watch::Sender<u64>) -> sqlx::Result<()> {
    let mut listener = PgListener::connect(url).await?;
    listener.listen(CHANNEL).await?;
    loop {
        // What was told before somebody listened is found by looking.
        told.send_modify(|times| *times += 1);
        if listener.try_recv().await?.is_none() {
            // It connects again by itself; meanwhile there may have been word.
            tracing::info!("the connection on which the database tells of changes was lost and is made again");
        }
    }
}
