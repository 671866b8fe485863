//! `tollgate schema`.

use clap::Args;

use super::output;
use crate::product;

#[derive(Args)]
pub(super) struct Schema {}

impl Schema {
    pub(super) fn run(self) -> anyhow::Result<()> {
        output::text(&product::sdl())
    }
}
