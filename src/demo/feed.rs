//! The stream: a simulated shop, or a file.

use std::io::BufRead;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::shop::Shop;
use crate::app::App;
use crate::event::ndjson::Lines;
use crate::event::{Content, Line};

const TICK: Duration = Duration::from_millis(50);
const CHUNK: usize = 2000;

/// Where events come from.
pub enum Feed {
    /// The simulated shop, at so many events a second.
    Shop(Box<Shop>, u32),
    /// A file, at so many events a second; at full speed where none is said.
    File(Lines<Box<dyn BufRead + Send>>, Option<u32>),
}

fn lines(events: Vec<serde_json::Value>) -> Vec<Line> {
    let line = |event: serde_json::Value| Line { number: 1, content: Content::Whole(Bytes::from(event.to_string())) };
    events.into_iter().map(line).collect()
}

/// Appends the shop's opening stock and prices.
pub async fn opening(app: &App, shop: &mut Shop) -> anyhow::Result<()> {
    for chunk in lines(shop.opening(app.clock.now().timestamp())).chunks(CHUNK) {
        app.engine.take(chunk.to_vec()).await?;
    }
    Ok(())
}

impl Feed {
    /// Feeds until `stop` says so, or the file ends.
    pub async fn run(mut self, app: Arc<App>, mut stop: watch::Receiver<bool>) {
        let mut owed = 0.0;
        loop {
            let Some(chunk) = self.next(&app, &mut owed) else {
                tracing::info!("the file is read to its end; its features stay live");
                return;
            };
            if !chunk.is_empty() {
                match app.engine.take(chunk).await {
                    Ok(report) => {
                        for rejected in report.rejected.iter().take(5) {
                            tracing::warn!(line = rejected.line, reason = rejected.reason, "an event was rejected");
                        }
                    }
                    Err(refusal) => tracing::warn!(reason = %refusal, "events were not taken; going on"),
                }
            }
            let wait = if self.at_full_speed() { Duration::ZERO } else { TICK };
            if tokio::time::timeout(wait, stop.wait_for(|stop| *stop)).await.is_ok() {
                return;
            }
        }
    }

    fn at_full_speed(&self) -> bool {
        matches!(self, Self::File(_, None))
    }

    /// The next events; `owed` carries fractions of one from tick to tick. None at a file's end.
    fn next(&mut self, app: &App, owed: &mut f64) -> Option<Vec<Line>> {
        match self {
            Self::Shop(shop, rate) => {
                *owed += f64::from(*rate) * TICK.as_secs_f64();
                let mut events = Vec::new();
                while *owed >= 1.0 {
                    let ticked = shop.tick(app.clock.now().timestamp());
                    *owed -= ticked.len() as f64;
                    events.extend(ticked);
                }
                Some(lines(events))
            }
            Self::File(file, rate) => {
                let mut chunk = Vec::new();
                let most = match rate {
                    Some(rate) => {
                        *owed += f64::from(*rate) * TICK.as_secs_f64();
                        let most = owed.floor();
                        *owed -= most;
                        most as usize
                    }
                    None => CHUNK,
                };
                while chunk.len() < most {
                    match file.next_line() {
                        Ok(Some((line, _))) => chunk.push(line),
                        Ok(None) => break,
                        Err(error) => {
                            tracing::error!(%error, "the file cannot be read any further");
                            break;
                        }
                    }
                }
                (!chunk.is_empty() || most == 0).then_some(chunk)
            }
        }
    }
}
