//! `tollgate demo`: a gateway with a simulated shop, for a first look.

use std::fs::File;
use std::io::BufReader;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde_json::json;
use tokio::sync::watch;

use super::context::Context;
use super::output;
use super::serve::Stop;
use crate::billing::Period;
use crate::config::Settings;
use crate::demo::history;
use crate::demo::shop::Shop;
use crate::demo::{Example, Feed, Ready, opening, set_up};
use crate::event::ndjson::Lines;
use crate::serve::{self, Running};

/// How long the first events may take to become answers.
const READY_TRIES: u32 = 300;
const READY_PAUSE: Duration = Duration::from_millis(100);

#[derive(Args)]
pub(super) struct Demo {
    /// Where partners reach it; operators one port up.
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// A file of NDJSON in place of the simulated shop.
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
    /// Events a second: 50 for the shop, as fast as they go for a file.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: Option<u32>,
    /// The same seed gives the same shop.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Where it keeps its data; by default where the other commands look.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl Demo {
    pub(super) async fn run(self, mut context: Context) -> anyhow::Result<()> {
        let mut settings = context.settings.clone();
        if let Some(listen) = self.listen {
            settings.server.listen = listen;
            let port = if listen.port() == 0 {
                0
            } else {
                listen.port().checked_add(1).context("--listen has the highest port: take a lower one")?
            };
            settings.server.operator_listen = SocketAddr::new(listen.ip(), port);
        }
        if let Some(data_dir) = self.data_dir {
            settings.data_dir = data_dir;
        }
        let file = self.events.as_deref().map(|path| open(path, &settings)).transpose()?;
        let mut stop = Stop::new()?;
        let running = serve::start(settings).await?;
        let app = running.app.clone();
        let (stop_feeding, stopping) = watch::channel(false);
        let started = async {
            let mut expected = None;
            let feeding = match file {
                Some(lines) => tokio::spawn(Feed::File(lines, self.rate).run(app.clone(), stopping)),
                None => {
                    let run = format!("{:x}", app.clock.now().0);
                    let mut shop = Shop::new(self.seed, &run);
                    opening(&app, &mut shop).await?;
                    let best_seller = shop.example();
                    expected = Some(Example {
                        sku: best_seller.sku,
                        location: best_seller.location.to_owned(),
                        market: best_seller.market.to_owned(),
                        brand: Some(best_seller.brand.to_owned()),
                    });
                    tokio::spawn(Feed::Shop(Box::new(shop), self.rate.unwrap_or(50)).run(app.clone(), stopping))
                }
            };
            let example = example(&running, expected).await?;
            let ready = set_up(&app, running.db(), &example, &mut context.rng).await?;
            let (last_month, from, to) = history::last_month(app.clock.now())?;
            if ready.iter().all(|ready| ready.is_new) {
                history::write(&app, &ready, self.seed, (from, to)).await?;
            }
            output::text(&banner(&running, &example, &ready, self.seed, self.events.as_deref(), last_month))?;
            anyhow::Ok(feeding)
        };
        let feeding = tokio::select! {
            started = started => started,
            () = stop.asked() => Err(anyhow::anyhow!("stopped before it was ready")),
        };
        if feeding.is_ok() {
            stop.asked().await;
        }
        stop_feeding.send_replace(true);
        let feeding = match feeding {
            Ok(feeding) => feeding.await.map_err(anyhow::Error::from),
            Err(error) => Err(error),
        };
        stop.unless_asked_again(running.stop()).await?;
        feeding
    }
}

fn open(path: &Path, settings: &Settings) -> anyhow::Result<Lines<Box<dyn std::io::BufRead + Send>>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    Ok(Lines::new(Box::new(BufReader::new(file)), settings.events.event_bytes_max))
}

/// A SKU whose stock and price can be asked for already: the expected one, or the first that there is.
async fn example(running: &Running, expected: Option<Example>) -> anyhow::Result<Example> {
    for _ in 0..READY_TRIES {
        let dump = running.app.engine.dump().await?;
        match &expected {
            Some(expected) if Example::is_in(expected, &dump) => return Ok(expected.clone()),
            Some(_) => {}
            None => {
                if let Some(first) = Example::from_dump(&dump) {
                    return Ok(first);
                }
            }
        }
        tokio::time::sleep(READY_PAUSE).await;
    }
    anyhow::bail!("no event brought both a stock level and a price of one SKU within 30 s: check the file, or raise --rate")
}

fn banner(running: &Running, example: &Example, ready: &[Ready], seed: u64, file: Option<&Path>, last_month: Period) -> String {
    let query = "query($sku: ID!, $location: String!, $market: String!) { product(sku: $sku) { sku title brand \
                 inventory(location: $location) { onHand reserved available updatedAt freshness { asOf lagMs } } \
                 price(market: $market) { currency amount updatedAt freshness { asOf lagMs } } } }";
    let variables = json!({ "sku": example.sku, "location": example.location, "market": example.market });
    let body = json!({ "query": query, "variables": variables }).to_string().replace('\'', "'\\''");
    let address = running.address;
    let command = std::env::args().next().unwrap_or_else(|| "tollgate".to_owned());
    let data_dir = running.app.settings.data_dir.display();
    // The other terminal may be in another folder, and has not this one's environment.
    let default_dir = running.app.settings.data_dir == Path::new("./tollgate-data");
    let absolute = std::path::absolute(&running.app.settings.data_dir).unwrap_or_default();
    let command = if default_dir { command } else { format!("TOLLGATE__DATA_DIR='{}' {command}", absolute.display()) };
    let stream = match file {
        Some(file) => format!("the events of {}", file.display()),
        None => format!("a simulated shop (seed {seed})"),
    };
    let mut text = format!("\nTollgate sells live data from {stream}. Ctrl-C stops it.\n\n");
    text.push_str(&format!("  queries    http://{address}/graphql     schema   http://{address}/schema.graphql\n"));
    text.push_str(&format!("  metrics    http://{}/metrics     data     {data_dir}\n\n", running.operator_address));
    for Ready { partner, key, .. } in ready {
        let plan = partner.plan.as_ref().map(|(plan, version)| format!("{plan}@{version}")).unwrap_or_default();
        let scope = partner.scope.pairs().join(" ");
        let sees = if scope.is_empty() { "all rows".to_owned() } else { format!("rows with {scope}") };
        text.push_str(&format!("  {} ({plan}, {sees})\n    key {key}\n", partner.name));
    }
    let key = ready.first().map(|ready| ready.key.as_str()).unwrap_or_default();
    text.push_str(&format!(
        "\nPaste this:\n\n  curl -s http://{address}/graphql -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' -d '{body}'\n\n"
    ));
    text.push_str(&format!("Then, in another terminal, see what it cost:\n\n  {command} invoice preview\n\n"));
    text.push_str(&format!(
        "{last_month} is ready to close. An invoice names its seller, so:\n\n  \
         export TOLLGATE__INVOICE__SELLER__NAME='Kontor Data GmbH'\n  \
         {command} invoice run --period {last_month} --finalize\n  \
         {command} invoice export --period {last_month} --format pdf --out invoices\n\n"
    ));
    text
}
