//! A month that was closed by commands: two currencies, a credit on a line and one on a whole, one invoice paid, one void, one
//! still a draft.

use std::path::PathBuf;

use tollgate::clock::Clock;

use crate::support::{Database, per_unit, plan, tollgate};

/// What a spreadsheet would run, as a name that somebody gave himself.
pub(super) const EVE: &str = "=HYPERLINK(\"http://x\",\"Eve\")";

pub(super) struct Shelf {
    pub(super) database: Database,
    config: PathBuf,
    /// The month that was closed.
    pub(super) period: String,
    /// Ids of the partners' invoices.
    pub(super) ada: String,
    pub(super) eve: String,
    pub(super) kenji: String,
    pub(super) vera: String,
    pub(super) dora: String,
}

fn settings(shift_seconds: i64) -> String {
    format!(
        "[database]\nclock_shift = \"{shift_seconds}s\"\n[invoice.seller]\nname = \"Nordlicht\"\naddress = [\"Hamburg\"]\n\
         tax_id = \"DE1\"\nemail = \"a@b.example\"\npayment = [\"IBAN\"]\n"
    )
}

impl Shelf {
    pub(super) async fn new(database: Database) -> Self {
        let utc = jiff::tz::TimeZone::UTC;
        let now = Clock::system().now();
        let last_month = now.timestamp().to_zoned(utc.clone()).date().first_of_month().yesterday().unwrap().first_of_month();
        let start = last_month.to_zoned(utc).unwrap().timestamp().as_second();
        // Partners come in the first minute of last month, so that all of it is theirs.
        let then = database.file("then.toml", &settings(start + 60 - now.timestamp().as_second()));
        let config = database.file("now.toml", &settings(0));
        let period = last_month.strftime("%Y-%m").to_string();
        let mut shelf =
            Self { database, config, period, ada: "".into(), eve: "".into(), kenji: "".into(), vera: "".into(), dora: "".into() };
        let fee = |amount: &str| format!("base_fee = {{ amount = \"{amount}\", due = \"arrears\" }}\n");
        let plans = plan("basic", &(fee("50.00") + &per_unit("inventory", 100, "0.0125")))
            + &plan("yen", &(format!("currency = \"JPY\"\n{}", fee("5000")) + &per_unit("inventory", 0, "3")));
        let plans = shelf.database.file("plans.toml", &plans);
        let then = then.to_str().unwrap();
        tollgate(&shelf.database, &["--config", then, "plan", "apply", plans.to_str().unwrap()]).ok();
        let mut ids = Vec::new();
        for (name, plan) in [("Ada", "basic"), (EVE, "basic"), ("Kenji", "yen"), ("Vera", "basic"), ("Dora", "basic")] {
            let made =
                ["--config", then, "partner", "create", name, "--plan", plan, "--tax", if plan == "yen" { "10" } else { "19" }];
            ids.push(tollgate(&shelf.database, &made).ok().trim().to_owned());
        }
        shelf.used(&ids[0], "basic", 1_000, start).await;
        shelf.used(&ids[2], "yen", 7, start).await;
        let period = shelf.period.clone();
        shelf.run(&["invoice", "run", "--period", &period]);
        let mut invoices = Vec::new();
        for id in &ids {
            invoices.push(shelf.draft_of(id).await);
        }
        for invoice in &invoices[..4] {
            shelf.run(&["invoice", "finalize", invoice]);
        }
        [shelf.ada, shelf.eve, shelf.kenji, shelf.vera, shelf.dora] = invoices.try_into().unwrap();
        let (ada, eve, kenji, vera) = (&shelf.ada, &shelf.eve, &shelf.kenji, &shelf.vera);
        shelf.run(&["invoice", "pay", eve]);
        shelf.run(&["invoice", "void", vera, "--reason", "a test"]);
        shelf.run(&["credit-note", "create", ada, "--line", "2=1.25", "--reason", "+1"]);
        shelf.run(&["credit-note", "create", ada, "--amount", "10", "--reason", "goodwill"]);
        shelf.run(&["credit-note", "create", kenji, "--line", "1=500", "--reason", "goodwill"]);
        shelf
    }

    /// Units in the ledger, as they stand there without a journal.
    async fn used(&self, partner: &str, plan: &str, units: i64, at_second: i64) {
        let mut connection = self.database.connect().await;
        sqlx::query(
            "insert into usage_cell (partner_id, key_id, plan_id, plan_version, product, meter, cell_start, replica_id, epoch, units, \
             waived_units, records, first_sequence, last_sequence) \
             values ($1, 'k', $2, 1, 'inventory', 'inventory', $3, '', 0, $4, 0, 1, 0, 0)",
        )
        .bind(partner)
        .bind(plan)
        .bind((at_second + 3600) * 1_000_000)
        .bind(units)
        .execute(&mut connection)
        .await
        .unwrap();
    }

    async fn draft_of(&self, partner: &str) -> String {
        let mut connection = self.database.connect().await;
        sqlx::query_scalar("select id from invoice where partner_id = $1").bind(partner).fetch_one(&mut connection).await.unwrap()
    }

    /// One text of an invoice.
    pub(super) async fn text(&self, column: &'static str, invoice: &str) -> String {
        let mut connection = self.database.connect().await;
        let text = sqlx::AssertSqlSafe(format!("select {column} from invoice where id = $1"));
        sqlx::query_scalar(text).bind(invoice).fetch_one(&mut connection).await.unwrap()
    }

    /// A command that succeeds.
    #[track_caller]
    pub(super) fn run(&self, arguments: &[&str]) -> String {
        tollgate(&self.database, &self.arguments(arguments)).ok()
    }

    /// A command that fails, in one sentence.
    #[track_caller]
    pub(super) fn fails(&self, arguments: &[&str]) -> String {
        tollgate(&self.database, &self.arguments(arguments)).failed()
    }

    pub(super) fn arguments<'a>(&'a self, arguments: &[&'a str]) -> Vec<&'a str> {
        ["--config", self.config.to_str().unwrap()].iter().chain(arguments).copied().collect()
    }
}
