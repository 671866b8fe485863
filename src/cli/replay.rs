//! `tollgate replay`.

use clap::Args;

use super::context::{Context, Reached};
use super::output;

#[derive(Args)]
pub(super) struct Replay {
    /// Compare the rebuilt store with the live one, and leave the live one alone.
    #[arg(long)]
    verify: bool,
}

impl Replay {
    pub(super) async fn run(self, context: Context) -> anyhow::Result<()> {
        let replayed = match context.engine().await? {
            Reached::There(control) => control.replay(self.verify).await?,
            Reached::Here(engine, _folder) => engine.replay(self.verify).await?,
        };
        if let Some((live, rebuilt)) = &replayed.difference {
            output::complain(&format!("live:    {live}\nrebuilt: {rebuilt}"));
        }
        let events = replayed.events;
        match (self.verify, replayed.identical) {
            (true, Some(true)) => {
                output::line(&format!("Rebuilt from {events} events: the same as the live store, byte for byte."))
            }
            (true, _) => {
                anyhow::bail!(
                    "the store rebuilt from {events} events differs from the live one: tollgate replay puts the rebuilt one in its place"
                )
            }
            (false, Some(true)) => output::line(&format!("Rebuilt from {events} events; nothing differed.")),
            (false, Some(false)) => {
                output::line(&format!("Rebuilt from {events} events; the live store differed and was replaced."))
            }
            (false, None) => output::line(&format!("Rebuilt from {events} events, and put in the place of the live store.")),
        }
    }
}
