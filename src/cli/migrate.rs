//! `tollgate migrate`.

use super::context::Context;
use super::output;

pub(super) async fn run(context: Context) -> anyhow::Result<()> {
    // Opening the database brings its schema up to date; so does every other command.
    let (db, _) = context.db().await?;
    db.close().await;
    output::line("The schema is up to date.")
}
