//! `tollgate deadletter`.

use clap::Subcommand;

use super::context::{Context, Reached};
use super::output::{self, Format};
use crate::event::deadletter::{DeadLetter as Kept, Origin};

#[derive(Subcommand)]
pub(super) enum DeadLetter {
    /// What could not be taken, and why.
    List {
        /// How the list is printed; JSON has the payloads.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Try them again: those named, or all that were not taken yet.
    Retry {
        /// Numbers from the list.
        ids: Vec<u64>,
    },
}

impl DeadLetter {
    pub(super) async fn run(self, context: Context) -> anyhow::Result<()> {
        let reached = context.engine().await?;
        match self {
            Self::List { format } => {
                let letters = match &reached {
                    Reached::Here(engine, _) => engine.dead_letters().await?,
                    Reached::There(control) => control.dead_letters().await?,
                };
                list(&letters, format)
            }
            Self::Retry { ids } => {
                let retried = match &reached {
                    Reached::Here(engine, _) => {
                        let retried = engine.retry(&ids).await?;
                        engine.catch_up().await?;
                        engine.checkpoint().await?;
                        retried
                    }
                    Reached::There(control) => control.retry(&ids).await?,
                };
                for (id, reason) in &retried.refused {
                    output::complain(&format!("dead letter {id}: {reason}"));
                }
                output::line(&format!("taken {}, still refused {}", retried.taken, retried.refused.len()))
            }
        }
    }
}

fn list(letters: &[Kept], format: Format) -> anyhow::Result<()> {
    if format == Format::Json {
        return output::json(&letters);
    }
    let row = |letter: &Kept| {
        let origin = match &letter.letter.origin {
            Origin::Ingest { producer: Some(producer), line } => format!("producer {producer}, line {line}"),
            Origin::Ingest { producer: None, line } => format!("line {line}"),
            Origin::Log { partition, offset } => format!("partition {partition}, offset {offset}"),
        };
        let state = if letter.retried { "taken" } else { "kept" };
        let bytes = letter.letter.payload.bytes.to_string();
        vec![letter.id.to_string(), letter.at.to_string(), state.to_owned(), origin, bytes, letter.letter.reason.clone()]
    };
    output::table(&["id", "at", "state", "from", "bytes", "reason"], &["id", "bytes"], letters.iter().map(row))
}
