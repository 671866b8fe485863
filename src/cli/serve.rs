//! `tollgate serve`.

use clap::{Args, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use super::context::Context;
use crate::serve;

#[derive(Args)]
pub(super) struct Serve {
    /// What this process does: answer partners, apply events, or both. Apart they need Kafka and Redis.
    #[arg(long, value_enum, default_value_t = Role::All)]
    role: Role,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    All,
    Gateway,
    Projector,
}

impl Serve {
    pub(super) async fn run(self, context: Context) -> anyhow::Result<()> {
        let mut stop = Stop::new()?;
        if self.role != Role::All {
            anyhow::ensure!(
                context.settings.features.is_shared(),
                "--role needs an event log and a feature store that processes share: set events.url to kafka://… and features.url to \
                 redis://…, or leave out --role"
            );
        }
        if self.role == Role::Projector {
            let running = tokio::select! {
                running = serve::projector::start(context.settings) => running?,
                () = stop.asked() => anyhow::bail!("asked to stop before it had started"),
            };
            stop.asked().await;
            return stop.unless_asked_again(running.stop()).await;
        }
        let running = tokio::select! {
            running = serve::start_gateway(context.settings, self.role == Role::All) => running?,
            // A start may wait for the ledger.
            () = stop.asked() => anyhow::bail!("asked to stop before it had started"),
        };
        stop.asked().await;
        stop.unless_asked_again(running.stop()).await
    }
}

/// Ctrl-C, or what a supervisor sends.
pub(super) struct Stop {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Stop {
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Stops cleanly, unless somebody asks once more: usage is durable, and the next start picks up the rest.
    pub(super) async fn unless_asked_again(&mut self, stop: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
        tokio::select! {
            stopped = stop => stopped,
            () = self.asked() => anyhow::bail!("asked twice to stop: stopped at once, the next start picks up what is left"),
        }
    }

    /// Returns when the process was asked to stop.
    pub(super) async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
