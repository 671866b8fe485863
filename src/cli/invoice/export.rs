//! `tollgate invoice export` and `summary`: files for those who keep the books.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use clap::{Args, ValueEnum};

use super::StateName;
use crate::billing::Period;
use crate::billing::export::pdf::Printer;
use crate::billing::export::{self, Found, Listing, Place, Revenue, Selection, Stored, Walk};
use crate::cli::context::Context;
use crate::cli::output;
use crate::db::Db;

#[derive(Args)]
pub(in crate::cli) struct Export {
    /// Invoices of this month, such as 2026-11, with their credit notes; of all months when left out.
    #[arg(long)]
    period: Option<Period>,
    /// The one invoice or credit note of this number or id.
    #[arg(long, value_name = "NUMBER")]
    invoice: Option<String>,
    /// Invoices in this state; all but drafts when left out.
    #[arg(long, value_enum)]
    state: Option<StateName>,
    /// How they are written. JSON of one document is exactly what was hashed.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// The folder for the files: one a month for CSV and JSON, one a document for PDF and for a document that was named. Standard
    /// output when left out.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(Args)]
pub(in crate::cli) struct Summary {
    /// The month, such as 2026-11.
    #[arg(long)]
    period: Period,
    /// How it is printed.
    #[arg(long, value_enum, default_value_t)]
    format: output::Format,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum Format {
    #[default]
    Csv,
    Json,
    Pdf,
}

impl From<Format> for export::Format {
    fn from(format: Format) -> Self {
        match format {
            Format::Csv => Self::Csv,
            Format::Json => Self::Json,
            Format::Pdf => Self::Pdf,
        }
    }
}

impl Export {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let (db, _) = context.db().await?;
        let selection = Selection { period: self.period, document: self.invoice.clone(), state: self.state.map(Into::into) };
        let mut snapshot = db.snapshot().await?;
        let found = export::select(&mut snapshot, &selection).await?;
        drop(snapshot);
        if let Some(folder) = &self.out {
            fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        }
        match (found, self.format) {
            (Found::One(document), format) => self.one(&document, format.into()),
            (Found::Several(places), Format::Pdf) => self.printed(&db, places).await,
            (Found::Several(places), Format::Csv) => self.listed(&db, places, Listing::Csv, "csv").await,
            (Found::Several(places), Format::Json) => self.listed(&db, places, Listing::Json, "json").await,
        }
    }

    fn one(&self, document: &Stored, format: export::Format) -> anyhow::Result<()> {
        let is_paper = format == export::Format::Pdf;
        let to_terminal = self.out.is_none() && is_paper && io::stdout().is_terminal();
        ensure!(!to_terminal, "a PDF does not belong on a terminal: give --out DIR, or send it on with > FILE");
        let bytes = document.write(format)?;
        match &self.out {
            Some(folder) => written(&folder.join(format!("{}.{}", document.file_stem(), format.ending())), &bytes),
            None => output::bytes(&bytes),
        }
    }

    /// One file a month, or all on standard output.
    async fn listed(&self, db: &Db, places: Vec<Place>, listing: Listing, ending: &str) -> anyhow::Result<()> {
        let Some(folder) = &self.out else {
            let mut walk = Walk::new(listing, places);
            while let Some(chunk) = walk.next(db).await? {
                output::bytes(&chunk)?;
            }
            return Ok(());
        };
        for month in places.chunk_by(|a, b| a.period == b.period) {
            let Some(first) = month.first() else { continue };
            let path = folder.join(format!("invoices-{}.{ending}", first.period));
            let mut file = Draft::begin(&path)?;
            let mut walk = Walk::new(listing, month.to_vec());
            while let Some(chunk) = walk.next(db).await? {
                file.write(&chunk)?;
            }
            file.finish()?;
        }
        Ok(())
    }

    /// One file a document.
    async fn printed(&self, db: &Db, places: Vec<Place>) -> anyhow::Result<()> {
        let Some(folder) = &self.out else {
            bail!(
                "a PDF holds one document, and {} were found: give --out DIR for a file each, or --invoice NUMBER",
                places.len()
            );
        };
        let printer = Printer::new()?;
        for place in places {
            let documents = export::at(&mut *db.read().await?, &place).await?;
            for document in documents {
                let path = folder.join(format!("{}.pdf", document.file_stem()));
                written(&path, &printer.print(&document)?)?;
            }
        }
        Ok(())
    }
}

fn written(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut file = Draft::begin(path)?;
    file.write(bytes)?;
    file.finish()
}

/// A file that gets its name once all of it is written, and then says so.
struct Draft {
    file: File,
    draft: PathBuf,
    path: PathBuf,
}

impl Draft {
    fn begin(path: &Path) -> anyhow::Result<Self> {
        let draft = PathBuf::from(format!("{}.part", path.display()));
        let file = File::create(&draft).with_context(|| format!("cannot write {}", draft.display()))?;
        Ok(Self { file, draft, path: path.to_owned() })
    }

    fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.file.write_all(bytes).with_context(|| format!("cannot write {}", self.draft.display()))
    }

    fn finish(self) -> anyhow::Result<()> {
        let named = self.file.sync_all().and_then(|()| fs::rename(&self.draft, &self.path));
        named.with_context(|| format!("cannot write {}", self.path.display()))?;
        output::line(&self.path.display().to_string())
    }
}

impl Summary {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let (db, _) = context.db().await?;
        let revenue = export::revenue(&mut *db.snapshot().await?, self.period).await?;
        match self.format {
            output::Format::Json => output::json(&revenue),
            output::Format::Table => table(&revenue),
        }
    }
}

fn table(revenue: &Revenue) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for total in &revenue.totals {
        for share in revenue.shares.iter().filter(|share| share.currency == total.currency) {
            let text = [share.currency, &share.plan, &share.product, &share.kind, &share.revenue, &share.credited, &share.net];
            rows.push(text.map(str::to_owned).to_vec());
        }
        let text = [total.currency, "", "", "total", &total.revenue, &total.credited, &total.net];
        rows.push(text.map(str::to_owned).to_vec());
    }
    let columns = ["currency", "plan", "product", "kind", "revenue", "credited", "net"];
    output::table(&columns, &["revenue", "credited", "net"], rows)
}
