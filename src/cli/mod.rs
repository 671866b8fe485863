//! The command line: one file a command, thin over the library.
//!
//! Results go to stdout and nothing else does; logs and progress go to stderr. Exit 0 done, 1 failed with one sentence,
//! 2 bad usage.

mod context;
mod control;
mod credit_note;
mod deadletter;
mod demo;
mod features;
mod ingest;
mod invoice;
mod key;
mod migrate;
mod operator;
mod output;
mod partner;
mod plan;
mod producer;
mod product;
mod replay;
mod replica;
mod schema;
mod serve;
mod usage;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::Settings;
use crate::telemetry;
use context::Context;

/// A self-hosted gateway that sells live data.
#[derive(Parser)]
#[command(name = "tollgate", version, about, arg_required_else_help = true)]
struct Cli {
    /// A settings file over the built-in defaults.
    #[arg(long, global = true, env = "TOLLGATE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Everything in one process, with a simulated shop: for a first look.
    Demo(demo::Demo),
    /// Run the gateway.
    Serve(serve::Serve),
    /// Bring the database's schema up to date.
    Migrate,
    /// Append events from a file of NDJSON, or from stdin.
    Ingest(ingest::Ingest),
    /// Rebuild the feature store from the event log.
    Replay(replay::Replay),
    /// Look into the feature store.
    #[command(subcommand)]
    Features(features::Features),
    /// Publish and read plans.
    #[command(subcommand)]
    Plan(plan::Plan),
    /// Journey products: what is sold of shoppers' journeys.
    #[command(subcommand)]
    Product(product::Product),
    /// Keys for those who append events over HTTP.
    #[command(subcommand)]
    Producer(producer::Producer),
    /// Events that could not be taken.
    #[command(subcommand)]
    Deadletter(deadletter::DeadLetter),
    /// Who queries and pays.
    #[command(subcommand)]
    Partner(partner::Partner),
    /// Keys for those who query.
    #[command(subcommand)]
    Key(key::Key),
    /// Gateways and how far their usage is in the ledger.
    #[command(subcommand)]
    Replica(replica::Replica),
    /// What was used.
    #[command(subcommand)]
    Usage(usage::Usage),
    /// What it costs: preview, close, show.
    #[command(subcommand)]
    Invoice(invoice::Invoice),
    /// What an invoice had too much.
    #[command(subcommand)]
    CreditNote(credit_note::CreditNote),
    /// Who runs the house.
    #[command(subcommand)]
    Operator(operator::Operator),
    /// Print the partner schema.
    Schema(schema::Schema),
}

/// Runs the command of this process's arguments.
pub fn run() -> ExitCode {
    // clap prints usage errors itself, and exits with 2.
    let cli = Cli::parse();
    match dispatch(cli) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads us has seen enough.
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn dispatch(cli: Cli) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let settings = Settings::load(cli.config.as_deref())?;
    // Commands speak through their results; the gateway, through its log.
    let quiet = !matches!(cli.command, Command::Serve(_) | Command::Demo(_));
    let mut log = settings.log.clone();
    if quiet && log.level == "info" {
        log.level = "warn".to_owned();
    }
    telemetry::start_logging(&log)?;
    let context = Context::new(settings);
    runtime.block_on(async {
        match cli.command {
            Command::Demo(command) => command.run(context).await,
            Command::Serve(command) => command.run(context).await,
            Command::Migrate => migrate::run(context).await,
            Command::Ingest(command) => command.run(context).await,
            Command::Replay(command) => command.run(context).await,
            Command::Features(command) => command.run(context).await,
            Command::Plan(command) => command.run(context).await,
            Command::Product(command) => command.run(context).await,
            Command::Producer(command) => command.run(context).await,
            Command::Deadletter(command) => command.run(context).await,
            Command::Partner(command) => command.run(context).await,
            Command::Key(command) => command.run(context).await,
            Command::Replica(command) => command.run(context).await,
            Command::Usage(command) => command.run(context).await,
            Command::Invoice(command) => command.run(context).await,
            Command::CreditNote(command) => command.run(context).await,
            Command::Operator(command) => command.run(context).await,
            Command::Schema(command) => command.run(),
        }
    })
}
