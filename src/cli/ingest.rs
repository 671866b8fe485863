//! `tollgate ingest`: in chunks, so that a file of any size goes through bounded memory and each chunk is one group commit.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use serde::Deserialize;

use super::context::{Context, Reached};
use super::output::{self, Format};
use crate::clock::Micros;
use crate::event::deadletter::{Letter, Origin};
use crate::event::ndjson::Lines;
use crate::event::{Content, Line, Rejected, Report};

const CHUNK_LINES: usize = 2000;
const CHUNK_BYTES: usize = 4 << 20;

#[derive(Args)]
pub(super) struct Ingest {
    /// NDJSON, one event a line; - for stdin.
    file: PathBuf,
    /// Close all that the file's journeys open: what else comes before the end of their month is late.
    #[arg(long)]
    close: bool,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Ingest {
    pub(super) async fn run(self, context: Context) -> anyhow::Result<()> {
        let (input, bytes) = open(&self.file)?;
        let reached = context.engine().await?;
        let progress = progress(bytes);
        let (mut sum, mut last) = (Report::default(), None);
        let mut lines = Lines::new(input, context.settings.events.event_bytes_max);
        let mut ended = false;
        while !ended {
            let mut chunk = Vec::new();
            let mut chunk_bytes = 0;
            let mut input_bytes = 0;
            while chunk.len() < CHUNK_LINES && chunk_bytes < CHUNK_BYTES {
                let Some((line, taken)) = lines.next_line().with_context(|| format!("cannot read {}", self.file.display()))?
                else {
                    ended = true;
                    break;
                };
                if let Content::Whole(bytes) = &line.content {
                    chunk_bytes += bytes.len();
                    last = last.max(journey_time(bytes));
                }
                input_bytes += taken;
                chunk.push(line);
            }
            let report = take(&reached, chunk).await?;
            for rejected in &report.rejected {
                let id = rejected.id.as_ref().map(|id| format!(" (id {id})")).unwrap_or_default();
                progress.suspend(|| output::complain(&format!("line {}{id}: {}", rejected.line, rejected.reason)));
            }
            sum.accepted += report.accepted;
            sum.duplicates += report.duplicates;
            sum.rejected.extend(report.rejected);
            progress.inc(input_bytes);
            progress.set_message(format!("{} events", sum.accepted + sum.duplicates));
        }
        progress.finish_and_clear();
        finish(reached, last.filter(|_| self.close)).await?;
        match self.format {
            Format::Json => output::json(&sum),
            Format::Table => output::line(&format!(
                "accepted {}, duplicates {}, rejected {}{}",
                sum.accepted,
                sum.duplicates,
                sum.rejected.len(),
                if sum.rejected.is_empty() { "" } else { " (see tollgate deadletter list)" }
            )),
        }
    }
}

fn open(file: &Path) -> anyhow::Result<(Box<dyn BufRead + Send>, Option<u64>)> {
    if file.as_os_str() == "-" {
        return Ok((Box::new(BufReader::new(std::io::stdin())), None));
    }
    let opened = File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    let metadata = opened.metadata()?;
    anyhow::ensure!(!metadata.is_dir(), "{} is a folder: give a file of NDJSON", file.display());
    Ok((Box::new(BufReader::with_capacity(1 << 20, opened)), Some(metadata.len())))
}

fn progress(bytes: Option<u64>) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, style) = match bytes {
        Some(bytes) => {
            (ProgressBar::new(bytes), "{bar:40} {percent:>3} %  {bytes}/{total_bytes}  {bytes_per_sec}  eta {eta}  {msg}")
        }
        None => (ProgressBar::new_spinner(), "{spinner} {bytes}  {bytes_per_sec}  {msg}"),
    };
    match ProgressStyle::with_template(style) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

async fn take(reached: &Reached, chunk: Vec<Line>) -> anyhow::Result<Report> {
    match reached {
        Reached::Here(engine, _) => Ok(engine.take(chunk).await?),
        Reached::There(control) => {
            let Some(first) = chunk.first() else { return Ok(Report::default()) };
            let before = first.number - 1;
            let mut number = before;
            let (mut body, mut letters, mut too_large) = (Vec::new(), Vec::new(), Vec::new());
            for line in chunk {
                // The gateway numbers lines itself: blank ones stand for what is not sent.
                body.resize(body.len() + usize::try_from(line.number - number - 1)?, b'\n');
                number = line.number;
                match line.content {
                    Content::Whole(bytes) => body.extend_from_slice(&bytes),
                    Content::Oversized(payload) => {
                        let bytes = payload.bytes;
                        let reason = format!(
                            "the event has {bytes} bytes, more than events.event_bytes_max: split it, or raise the setting"
                        );
                        too_large.push(Rejected { line: number, id: None, reason: reason.clone() });
                        letters.push(Letter { reason, origin: Origin::Ingest { producer: None, line: number }, payload });
                    }
                }
                body.push(b'\n');
            }
            let mut report = control.ingest(before, body).await?;
            if !letters.is_empty() {
                control.keep_letters(&letters).await?;
                report.rejected.extend(too_large);
                report.rejected.sort_by_key(|rejected| rejected.line);
            }
            Ok(report)
        }
    }
}

/// Returns when queries see what was appended. Without a gateway, this command applies it, and leaves a snapshot.
async fn finish(reached: Reached, last_journey: Option<Micros>) -> anyhow::Result<()> {
    match reached {
        Reached::There(control) => match last_journey {
            Some(last) => control.close_journeys(last).await,
            None => control.settle().await,
        },
        Reached::Here(engine, _folder) => {
            engine.catch_up().await?;
            if let Some(last) = last_journey {
                engine.close_journeys(last).await?;
            }
            engine.settle_journeys().await?;
            engine.checkpoint().await
        }
    }
}

/// When a journey event happened; none of what is no such event.
fn journey_time(line: &[u8]) -> Option<Micros> {
    #[derive(Deserialize)]
    struct Event<'a> {
        #[serde(borrow)]
        r#type: Cow<'a, str>,
        #[serde(borrow)]
        time: Cow<'a, str>,
    }
    let event: Event<'_> = serde_json::from_slice(line).ok()?;
    (event.r#type == "journey.recorded").then(|| event.time.parse::<Timestamp>().ok().map(Micros::from)).flatten()
}
