//! `tollgate usage export`: a partner's bundle.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use clap::Args;
use sqlx::AnyConnection;

use crate::billing::Period;
use crate::billing::document::Invoice;
use crate::billing::invoice::store::{self, Filter, State, Stored};
use crate::billing::store as ledger;
use crate::billing::verify::basis::Reader;
use crate::cli::context::Context;
use crate::directory::{Partner, admin};
use crate::metering::bundle::{self, Header};
use crate::metering::evidence::{self, Part};
use crate::metering::{Archive, ArchivedSegment};

#[derive(Args)]
pub(in crate::cli) struct Export {
    /// The partner's id, or its name.
    #[arg(long)]
    partner: String,
    /// The month, such as 2026-11.
    #[arg(long)]
    period: Period,
    /// Of which invoice, where the month has one for each of several currencies.
    #[arg(long, value_name = "CUR")]
    currency: Option<String>,
    /// A file in place of stdout.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// What is exported.
struct Plan {
    header: Header,
    parts: Vec<(String, Part)>,
    segments: Vec<ArchivedSegment>,
}

impl Export {
    pub(super) async fn run(self, context: Context) -> anyhow::Result<()> {
        let (db, now) = context.db().await?;
        let archive = Archive::open(&context.settings.archive, &context.settings.data_dir)?;
        let mut connection = db.snapshot().await?;
        let partner = admin::find_partner(&mut connection, &self.partner, now).await?;
        let plan = self.plan(&mut connection, &partner).await?;
        drop(connection);
        let Plan { header, parts, segments } = plan;
        let Some(path) = &self.out else {
            let out = Box::new(BufWriter::new(std::io::stdout()));
            return bundle::write(&archive, &segments, &header, parts, out).await;
        };
        // Under its name only when it is whole.
        let draft = draft(path)?;
        let file = Arc::new(File::create(&draft).with_context(|| format!("cannot create {}", draft.display()))?);
        let out = Box::new(BufWriter::new(file.clone()));
        let written = bundle::write(&archive, &segments, &header, parts, out).await.and_then(|()| Ok(file.sync_all()?));
        if written.is_err() {
            drop(std::fs::remove_file(&draft));
        }
        written?;
        std::fs::rename(&draft, path).with_context(|| format!("cannot write {}", path.display()))
    }

    async fn plan(&self, connection: &mut AnyConnection, partner: &Partner) -> anyhow::Result<Plan> {
        let segments = evidence::segments(connection).await?;
        let mut reader = Reader::new(connection).await?;
        let calendar = ledger::calendar(connection, &partner.id).await?;
        let month = calendar.month(self.period)?;
        let mut header = Header {
            tollgate: Header::TOLLGATE.to_owned(),
            v: Header::V,
            partner: partner.id.clone(),
            period: self.period.to_string(),
            from: month.from.to_string(),
            to: month.to.to_string(),
            invoice_id: None,
            invoice: None,
            note: None,
        };
        let Some(stored) = self.invoice(connection, partner).await? else {
            header.note = Some(format!("{} has no invoice yet; these are its records that are archived so far", self.period));
            let part = Part {
                partner: partner.id.clone(),
                from: month.from,
                to: month.to,
                after: Arc::default(),
                cut: Arc::new(reader.archived()),
                plans: None,
            };
            return Ok(Plan { header, parts: vec![(self.period.to_string(), part)], segments });
        };
        let name = stored.number.clone().unwrap_or_else(|| stored.id.to_string());
        let document: Invoice = serde_json::from_str(&stored.body).with_context(|| format!("{name} cannot be read"))?;
        (header.from, header.to) = (document.period.from.clone(), document.period.to.clone());
        (header.invoice_id, header.invoice) = (Some(stored.id.clone()), stored.number.clone());
        let wanted = reader.wanted(connection, &stored, &document).await?;
        let parts = wanted.billed().into_iter().map(|(period, part)| (period.to_string(), part)).collect();
        Ok(Plan { header, parts, segments })
    }

    /// The month's invoice that counts.
    async fn invoice(&self, connection: &mut AnyConnection, partner: &Partner) -> anyhow::Result<Option<Stored>> {
        let filter = Filter { period: Some(self.period), partner: Some(&partner.id), state: None };
        let is_meant = |stored: &Stored| {
            stored.state != State::Void && self.currency.as_ref().is_none_or(|currency| *currency == stored.currency)
        };
        let mut found: Vec<_> = store::list(connection, &filter).await?.into_iter().filter(is_meant).collect();
        ensure!(
            found.len() < 2,
            "{} has invoices in several currencies for {}: say which with --currency",
            partner.name,
            self.period
        );
        ensure!(
            !found.is_empty() || self.currency.is_none(),
            "{} has no invoice in {} for {}: leave --currency out",
            partner.name,
            self.currency.as_deref().unwrap_or_default(),
            self.period
        );
        Ok(found.pop())
    }
}

/// A name beside `path`.
fn draft(path: &Path) -> anyhow::Result<PathBuf> {
    let mut name = path.file_name().with_context(|| format!("{} is no name of a file", path.display()))?.to_owned();
    name.push(".new");
    Ok(path.with_file_name(name))
}
