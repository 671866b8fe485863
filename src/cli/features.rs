//! `tollgate features`.

use clap::Subcommand;

use super::context::{Context, Reached};
use super::output;

#[derive(Subcommand)]
pub(super) enum Features {
    /// The canonical dump: sorted, one JSON line an entity.
    Dump,
}

impl Features {
    pub(super) async fn run(self, context: Context) -> anyhow::Result<()> {
        let Self::Dump = self;
        let dump = match context.engine().await? {
            Reached::Here(engine, _folder) => engine.dump().await?,
            Reached::There(control) => control.dump().await?,
        };
        output::text(&dump)
    }
}
