//! `/exports`: invoices and revenue as files, for finance.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::http::{HeaderValue, Response, StatusCode};
use bytes::Bytes;
use futures_util::stream;

use crate::app::App;
use crate::billing::Period;
use crate::billing::export::{self, Format, Found, Listing, Missing, Selection, Stored, Walk};
use crate::error::{Code, Refusal};
use crate::gate::answer;
use crate::ids::RequestId;
use crate::operator::{Finance, Operator};

/// What the query string asks for.
#[derive(Default)]
struct Asked {
    selection: Selection,
    format: Option<Format>,
}

/// Why there is no file.
enum Refused {
    /// The client's part.
    Told(Refusal),
    /// Ours.
    Failed(anyhow::Error),
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self::Told(refusal)
    }
}

impl From<anyhow::Error> for Refused {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Missing> for Refused {
    fn from(missing: Missing) -> Self {
        match missing {
            Missing::Nothing(words) => Self::Told(Refusal::http(StatusCode::NOT_FOUND, words)),
            Missing::Failed(error) => Self::Failed(error),
        }
    }
}

/// `GET /exports/invoices?period=2026-11&format=csv|json|pdf[&invoice=…][&state=…]`
pub(super) async fn invoices(Finance(who): Finance, State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Response<Body> {
    let query = query.unwrap_or_default();
    let file = async {
        let asked = ask(&query, &["period", "format", "invoice", "state"])?;
        let format = asked.format.ok_or_else(|| bad("Say which format: format=csv, format=json or format=pdf."))?;
        if asked.selection.period.is_none() && asked.selection.document.is_none() {
            return Err(bad("Say which invoices: period=2026-11, or invoice=NUMBER.").into());
        }
        invoice_file(&app, &asked.selection, format).await
    };
    answer(&app, &who, "invoices", &query, file.await)
}

/// `GET /exports/revenue?period=2026-11&format=csv|json`
pub(super) async fn revenue(Finance(who): Finance, State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Response<Body> {
    let query = query.unwrap_or_default();
    let file = async {
        let asked = ask(&query, &["period", "format"])?;
        let period = asked.selection.period.ok_or_else(|| bad("Say which month: period=2026-11."))?;
        let format = asked.format.filter(|format| *format != Format::Pdf);
        let format = format.ok_or_else(|| bad("Say which format: format=csv or format=json."))?;
        revenue_file(&app, period, format).await
    };
    answer(&app, &who, "revenue", &query, file.await)
}

async fn invoice_file(app: &Arc<App>, selection: &Selection, format: Format) -> Result<Response<Body>, Refused> {
    let mut snapshot = app.db.snapshot().await?;
    let found = export::select(&mut snapshot, selection).await?;
    drop(snapshot);
    let places = match found {
        Found::One(document) => return one(document, format).await,
        Found::Several(places) => places,
    };
    let listing = match format {
        Format::Csv => Listing::Csv,
        Format::Json => Listing::Json,
        Format::Pdf => {
            let count = places.len();
            let what =
                format!("A PDF holds one document, and {count} were found: add invoice=NUMBER, or take format=csv or json.");
            return Err(bad(what).into());
        }
    };
    let name = selection.period.map_or("invoices".to_owned(), |period| format!("invoices-{period}"));
    let walk = Walk::new(listing, places);
    let chunks = stream::try_unfold((walk, app.clone()), |(mut walk, app)| async move {
        let chunk = walk.next(&app.db).await.inspect_err(|error| {
            // The status has gone out: the client sees that the body breaks off.
            tracing::error!(error = format!("{error:#}"), "an export broke off");
        })?;
        anyhow::Ok(chunk.map(|chunk| (Bytes::from(chunk), (walk, app))))
    });
    Ok(file(Body::from_stream(chunks), &name, format))
}

async fn one(document: Stored, format: Format) -> Result<Response<Body>, Refused> {
    let name = document.file_stem();
    // Printing computes for a while.
    let written = tokio::task::spawn_blocking(move || document.write(format)).await;
    let written = written.map_err(anyhow::Error::from)??;
    Ok(file(Body::from(written), &name, format))
}

async fn revenue_file(app: &App, period: Period, format: Format) -> Result<Response<Body>, Refused> {
    let mut snapshot = app.db.snapshot().await?;
    let revenue = export::revenue(&mut snapshot, period).await?;
    drop(snapshot);
    if revenue.shares.is_empty() {
        let what = format!("There is no finalized invoice of {period}.");
        return Err(Refusal::http(StatusCode::NOT_FOUND, what).into());
    }
    let name = format!("revenue-{period}");
    let body = match format {
        Format::Json => serde_json::to_vec_pretty(&revenue).map_err(anyhow::Error::from)?,
        _ => revenue.csv()?,
    };
    Ok(file(Body::from(body), &name, format))
}

/// `name` is ASCII without quotes.
fn file(body: Body, name: &str, format: Format) -> Response<Body> {
    let media = match format {
        Format::Csv => "text/csv; charset=utf-8; header=present",
        Format::Json => "application/json",
        Format::Pdf => "application/pdf",
    };
    let disposition = HeaderValue::from_str(&format!("attachment; filename=\"{name}.{}\"", format.ending()));
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media));
    response.headers_mut().insert(CONTENT_DISPOSITION, disposition.unwrap_or(HeaderValue::from_static("attachment")));
    response
}

fn answer(app: &App, who: &Operator, what: &'static str, query: &str, file: Result<Response<Body>, Refused>) -> Response<Body> {
    let request = RequestId::new(app.clock.now(), &mut *app.gate.ids.lock());
    match file {
        Ok(file) => {
            tracing::info!(request.id = %request, operator.token = %who.token, operator.role = %who.role, query, "{what} exported");
            file
        }
        Err(Refused::Told(refusal)) => answer::problem(&request, &refusal),
        Err(Refused::Failed(error)) => {
            tracing::error!(request.id = %request, error = format!("{error:#}"), "an export failed");
            answer::problem(&request, &Refusal::internal(&request))
        }
    }
}

fn bad(message: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Refusal::new(Code::BadUserInput, message)
}

/// Each parameter once, and none that is not known: a mistyped one would otherwise give a file of something else.
fn ask(query: &str, known: &[&str]) -> Result<Asked, Refusal> {
    let mut asked = Asked::default();
    let mut seen = Vec::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let shown = name.escape_default();
        if !known.contains(&&*name) {
            return Err(bad(format!("The parameter \"{shown}\" is not known here: known are {}.", known.join(", "))));
        }
        if seen.contains(&name) {
            return Err(bad(format!("The parameter \"{shown}\" stands there twice.")));
        }
        match &*name {
            "period" => asked.selection.period = Some(value.parse().map_err(|error| bad(format!("period: {error}.")))?),
            "state" => {
                let wrong = || bad(format!("\"{}\" is no state: take draft, finalized, paid or void.", value.escape_default()));
                asked.selection.state = Some(export::State::from_name(&value).ok_or_else(wrong)?);
            }
            "invoice" => asked.selection.document = Some(value.into_owned()),
            _ => {
                asked.format = Some(match &*value {
                    "csv" => Format::Csv,
                    "json" => Format::Json,
                    "pdf" => Format::Pdf,
                    _ => return Err(bad(format!("\"{}\" is no format: take csv, json or pdf.", value.escape_default()))),
                });
            }
        }
        seen.push(name);
    }
    Ok(asked)
}
