//! Looking at invoices: previews, lists, one of them.

use anyhow::Context as _;
use sqlx::AnyConnection;

use super::{Filter, Selection, selected};
use crate::billing::document::{self, Line, Pricing};
use crate::billing::invoice::store::{self, Stored};
use crate::billing::preview::{self, Preview, PreviewView};
use crate::billing::store as plans;
use crate::cli::context::Context;
use crate::cli::output::{self, Format};
use crate::directory::{admin, store as directory};
use crate::money::{Currency, Money};

async fn previews(context: &Context, selection: &Selection) -> anyhow::Result<Vec<Preview>> {
    let (db, now) = context.db().await?;
    let mut connection = db.snapshot().await?;
    let plans = plans::plans_by_version(&mut connection).await?;
    let mut previews = Vec::new();
    for partner in selected(&mut connection, selection.partner.as_deref(), now).await? {
        previews.push(preview::preview(&mut connection, &plans, &partner, selection.period, now).await?);
    }
    Ok(previews)
}

pub(super) async fn preview(context: &Context, selection: &Selection, format: Format) -> anyhow::Result<()> {
    // What was answered until now belongs on it.
    context.ship().await?;
    let previews = previews(context, selection).await?;
    if format == Format::Json {
        return output::json(&previews.iter().map(PreviewView::from).collect::<Vec<_>>());
    }
    let mut rows = Vec::new();
    for preview in &previews {
        let name = [preview.partner.name.clone(), preview.period.to_string()];
        for line in &preview.lines {
            let mut cells = cells(&line.line);
            if line.key.period != preview.period {
                cells[1] += &format!(", for {}", line.key.period);
            }
            rows.push(name.iter().cloned().chain(cells).chain([line.amount.currency.code().to_owned()]).collect());
        }
        for total in &preview.totals {
            let blank = ["", "before tax", "", "", ""].map(str::to_owned);
            let total = [total.to_string(), total.currency.code().to_owned()];
            rows.push(name.iter().cloned().chain(blank).chain(total).collect());
        }
    }
    let columns = ["partner", "period", "plan", "line", "units", "included", "price", "amount", "currency"];
    output::table(&columns, &["units", "included", "price", "amount"], rows)
}

/// plan, line, units, included, price, amount
fn cells(line: &Line) -> [String; 6] {
    let text = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
    [
        line.plan.clone(),
        describe(line),
        text(line.units),
        text(line.pricing.as_ref().map(|pricing| pricing.included)),
        line.pricing.as_ref().map(price).unwrap_or_default(),
        line.amount.clone(),
    ]
}

fn describe(line: &Line) -> String {
    let mut text = line.description.clone();
    if let Some(days) = line.days.filter(|days| days.counted != days.of) {
        text += &format!(", {} of {} days", days.counted, days.of);
    }
    if let Some(value) = &line.value {
        text += &format!(", worth {value}");
    }
    if let Some(before) = &line.billed_before {
        text += &format!(", less {} on {}", before.amount, before.invoices.join(", "));
    }
    text
}

fn price(pricing: &Pricing) -> String {
    match (pricing.model.as_str(), pricing.steps.as_slice()) {
        ("none", _) => "free".to_owned(),
        (_, [step]) => match step.package {
            Some(units) => format!("{} per {units}", step.price),
            None => step.price.clone(),
        },
        (_, steps) => {
            let reached = steps.iter().filter(|step| step.quantity > 0);
            let tiers: Vec<_> = reached.map(|step| format!("{} × {}", step.quantity, step.price)).collect();
            tiers.join(" + ")
        }
    }
}

pub(super) async fn list(context: &Context, filter: &Filter, format: Format) -> anyhow::Result<()> {
    let (db, now) = context.db().await?;
    let mut connection = db.read().await?;
    let partner = match &filter.partner {
        Some(partner) => Some(admin::find_partner(&mut connection, partner, now).await?.id),
        None => None,
    };
    let filter = store::Filter { period: filter.period, partner: partner.as_ref(), state: filter.state.map(Into::into) };
    let invoices = store::list(&mut connection, &filter).await?;
    print(&mut connection, &invoices, format, now).await
}

/// Invoices as a list.
pub(super) async fn print(
    connection: &mut AnyConnection,
    invoices: &[Stored],
    format: Format,
    now: crate::clock::Micros,
) -> anyhow::Result<()> {
    if format == Format::Json {
        return output::json(&invoices.iter().map(view).collect::<Vec<_>>());
    }
    let names = directory::partners(connection, now).await?;
    let row = |invoice: &Stored| {
        let name = names.iter().find(|partner| partner.id == invoice.partner);
        vec![
            invoice.number.clone().unwrap_or_else(|| invoice.id.to_string()),
            name.map_or_else(|| invoice.partner.to_string(), |partner| partner.name.clone()),
            invoice.period.to_string(),
            invoice.state.to_string(),
            amount(invoice, invoice.subtotal),
            amount(invoice, invoice.tax),
            amount(invoice, invoice.total),
            invoice.currency.clone(),
        ]
    };
    let columns = ["invoice", "partner", "period", "state", "subtotal", "tax", "total", "currency"];
    output::table(&columns, &["subtotal", "tax", "total"], invoices.iter().map(row))
}

fn amount(invoice: &Stored, minor: i64) -> String {
    match Currency::from_code(&invoice.currency) {
        Some(currency) => Money { minor, currency }.to_string(),
        None => minor.to_string(),
    }
}

fn view(invoice: &Stored) -> serde_json::Value {
    let instant = |at: Option<crate::clock::Micros>| at.map(|at| at.to_string());
    serde_json::json!({
        "id": invoice.id,
        "number": invoice.number,
        "partner": invoice.partner,
        "period": invoice.period.to_string(),
        "state": invoice.state.as_str(),
        "currency": invoice.currency,
        "subtotal": amount(invoice, invoice.subtotal),
        "tax": amount(invoice, invoice.tax),
        "total": amount(invoice, invoice.total),
        "sha256": invoice.sha256,
        "finalizedAt": instant(invoice.finalized_at),
        "paidAt": instant(invoice.paid_at),
        "voidedAt": instant(invoice.voided_at),
        "voidReason": invoice.void_reason,
    })
}

/// The invoice of a number, or of an id.
pub(super) async fn find(connection: &mut AnyConnection, text: &str) -> anyhow::Result<Stored> {
    let found = store::find(connection, text).await?;
    found.with_context(|| format!("there is no invoice \"{text}\": see tollgate invoice list"))
}

pub(super) async fn show(context: &Context, invoice: &str, format: Format) -> anyhow::Result<()> {
    let (db, _) = context.db().await?;
    let stored = find(&mut *db.read().await?, invoice).await?;
    if format == Format::Json {
        return output::line(&stored.body);
    }
    let document: document::Invoice = serde_json::from_str(&stored.body).context("the invoice cannot be read")?;
    let name = document.number.clone().unwrap_or_else(|| format!("{} (draft)", document.id));
    let mut lines = vec![
        format!("{name}  {}  {}", document.period.month, stored.state),
        format!("to      {}", document.buyer.name),
        format!("month   {} to {} ({})", document.period.from, document.period.to, document.period.timezone),
    ];
    if let (Some(issued), Some(due)) = (&document.issued_at, &document.due_on) {
        lines.push(format!("issued  {issued}, due {due}"));
    }
    let days = document.evidence.days.len();
    lines.push(format!("usage   {} records on {days} days, root {}", document.evidence.records, document.evidence.root));
    lines.push(format!("sha256  {}", stored.sha256));
    output::text(&(lines.join("\n") + "\n\n"))?;
    let row = |(place, line): (usize, &Line)| {
        let head = [(place + 1).to_string(), line.period.clone()];
        head.into_iter().chain(cells(line)).collect()
    };
    let blank = |what: &str, amount: &str| {
        let mut row = vec![String::new(); 7];
        row[3] = what.to_owned();
        row.push(amount.to_owned());
        row
    };
    let tax = match &document.tax.exemption {
        Some(reason) => format!("tax: exempt, {reason}"),
        None => format!("tax, {} %", document.tax.rate),
    };
    let mut rows: Vec<Vec<String>> = document.lines.iter().enumerate().map(row).collect();
    rows.push(blank("before tax", &document.subtotal));
    rows.push(blank(&tax, &document.tax.amount));
    rows.push(blank(&format!("total, {}", document.currency), &document.total));
    let columns = ["no", "month", "plan", "line", "units", "included", "price", "amount"];
    output::table(&columns, &["no", "units", "included", "price", "amount"], rows)
}
