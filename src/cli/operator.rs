//! `tollgate operator`.

use anyhow::Context as _;
use clap::Subcommand;

use super::context::Context;
use super::output;
use crate::operator::{Issuer, Role};

#[derive(Subcommand)]
pub(super) enum Operator {
    /// Sign a token for the operator listener; prints it alone.
    Token {
        /// What its bearer may do.
        #[arg(long, value_enum)]
        role: Role,
        /// How long it is good, at most 24h.
        #[arg(long, value_name = "DURATION", default_value = "1h")]
        ttl: String,
    },
}

impl Operator {
    pub(super) async fn run(self, mut context: Context) -> anyhow::Result<()> {
        let Self::Token { role, ttl } = self;
        let ttl = humantime::parse_duration(&ttl)
            .ok()
            .with_context(|| format!("\"{ttl}\" is no duration: give for example --ttl 1h"))?;
        let (_, now) = context.db().await?;
        let issuer = Issuer::open(&context.settings.data_dir, &mut context.rng)?;
        output::line(&issuer.issue(role, ttl, now, &mut context.rng)?)
    }
}
