//! What the dated stories are told with: one partner, commands of the binary on a clock of its own, and a month's end at which
//! the usage is really journaled, shipped and archived.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::Value;
use sqlx::Row;
use tollgate::clock::Micros;
use tollgate::ids::{KeyId, PartnerId, RequestId};
use tollgate::metering::{Mode, Product, UsageRecord};

use crate::support::{self, Database, Ran, tollgate};

pub(crate) struct Story {
    pub(crate) database: Database,
    /// The partner's id.
    pub(crate) partner: String,
    key: KeyId,
    /// Answered, and not yet journaled.
    answered: Vec<UsageRecord>,
}

/// `2024-01-17T15:00:00Z`, or at another offset.
pub(crate) fn micros(instant: &str) -> Micros {
    instant.parse::<Timestamp>().unwrap().into()
}

impl Story {
    /// A partner on the first of `plans`, which are TOML, since `instant`.
    pub(crate) async fn begin(database: Database, instant: &str, plans: &str, create: &[&str]) -> Self {
        database.set_now(micros(instant));
        let file = database.file("plans.toml", plans);
        tollgate(&database, &["plan", "apply", file.to_str().unwrap()]).ok();
        let plan = plans.lines().find_map(|line| line.strip_prefix("id = ")).unwrap().trim_matches('"').to_owned();
        let partner = tollgate(&database, &[&["partner", "create", "Ada", "--plan", &plan], create].concat()).ok();
        tollgate(&database, &["key", "issue", "Ada"]).ok();
        let keys: Value = serde_json::from_str(&tollgate(&database, &["key", "list", "--format", "json"]).ok()).unwrap();
        let key = keys[0]["id"].as_str().unwrap().into();
        Self { database, partner: partner.trim().to_owned(), key, answered: Vec::new() }
    }

    /// A command at an instant.
    pub(crate) fn at(&self, instant: &str, arguments: &[&str]) -> Ran {
        self.database.set_now(micros(instant));
        tollgate(&self.database, arguments)
    }

    /// An answer at an instant, under the plan that was in force then.
    pub(crate) async fn used(&mut self, instant: &str, units: &[(Product, u64)]) {
        self.used_stale(instant, units, &[]).await;
    }

    /// An answer of which some was staler than the plan promises.
    pub(crate) async fn used_stale(&mut self, instant: &str, units: &[(Product, u64)], waived: &[(Product, u64)]) {
        let at = micros(instant);
        let mut connection = self.database.connect().await;
        let in_force =
            "select plan_id, plan_version from subscription where starts_at <= $1 and (ends_at is null or ends_at > $1)";
        let row = sqlx::query(in_force).bind(at.0).fetch_one(&mut connection).await.unwrap();
        let sum = |units: &[(Product, u64)]| units.iter().copied().collect::<BTreeMap<_, _>>();
        self.answered.push(UsageRecord {
            v: 1,
            request: RequestId::new(at, &mut StdRng::from_os_rng()),
            at,
            partner: PartnerId::from(self.partner.as_str()),
            key: self.key.clone(),
            mode: Mode::Live,
            plan: row.try_get::<String, _>(0).unwrap().into(),
            plan_version: row.try_get(1).unwrap(),
            units: sum(units),
            waived_units: sum(waived),
        });
    }

    /// Journals what was answered before an instant. The run of a month ships and archives it, as no gateway is running.
    pub(crate) async fn journal(&mut self, instant: &str) {
        let answered = self.answered.extract_if(.., |record| record.at < micros(instant)).collect();
        support::journal(&self.database, answered).await;
    }

    /// Runs a month and finalizes it: what its invoices say, a line for each line and one for the sums.
    pub(crate) async fn close(&mut self, instant: &str, month: &str) -> Vec<String> {
        self.journal(instant).await;
        self.at(instant, &["invoice", "run", "--period", month]).ok();
        self.at(instant, &["invoice", "finalize", "--period", month]).ok();
        self.documents(month).iter().flat_map(told).collect()
    }

    /// What a command prints as JSON.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let text = tollgate(&self.database, &[arguments, &["--format", "json"]].concat()).ok();
        serde_json::from_str(&text).unwrap()
    }

    /// The invoices of a month that count.
    pub(crate) fn documents(&self, month: &str) -> Vec<Value> {
        let list = self.json(&["invoice", "list", "--period", month, "--state", "finalized"]);
        let ids = list.as_array().unwrap().iter().map(|invoice| invoice["id"].as_str().unwrap());
        ids.map(|id| self.json(&["invoice", "show", id])).collect()
    }

    /// What each account stands at, in minor units, without those that stand at nothing. Every transaction must sum to zero.
    pub(crate) async fn books(&self) -> Vec<(&'static str, i64)> {
        let uneven = "select cast(count(*) as bigint) from \
                      (select transaction_id from money_entry group by transaction_id having sum(amount) <> 0) uneven";
        assert_eq!(self.database.number(uneven).await, 0, "a transaction does not sum to zero");
        let mut connection = self.database.connect().await;
        let sums = "select account, cast(sum(amount) as bigint) from money_entry group by account order by account";
        let rows = sqlx::query(sums).fetch_all(&mut connection).await.unwrap();
        let accounts = ["cash", "credits", "receivable", "revenue", "tax"];
        let account = |name: String| accounts.into_iter().find(|account| *account == name).unwrap();
        let sums = rows.iter().map(|row| (account(row.try_get(0).unwrap()), row.try_get(1).unwrap()));
        sums.filter(|(_, sum)| *sum != 0).collect()
    }
}

/// An invoice in words: month, plan, kind, what is counted, what was billed before, and the amount; then its sums, which are
/// checked to be sums.
fn told(invoice: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let word = |line: &Value| {
        let mut said = format!("{} {} {}", text(&line["period"]), text(&line["plan"]), text(&line["kind"]));
        if let Some(meter) = line["meter"].as_str() {
            said += &format!(" {meter} {}", line["units"]);
        } else if let Some(days) = line["days"].as_object() {
            said += &format!(" {}/{}", days["counted"], days["of"]);
        }
        if let Some(value) = line["value"].as_str() {
            said += &format!(" worth {value}");
        }
        if let Some(before) = line["billedBefore"].as_object() {
            said += &format!(" less {}", text(&before["amount"]));
        }
        format!("{said} = {}", text(&line["amount"]))
    };
    let number = |value: &Value| value.as_str().unwrap().replace('.', "").parse::<i64>().unwrap();
    let lines = invoice["lines"].as_array().unwrap();
    assert_eq!(lines.iter().map(|line| number(&line["amount"])).sum::<i64>(), number(&invoice["subtotal"]), "{invoice}");
    assert_eq!(number(&invoice["subtotal"]) + number(&invoice["tax"]["amount"]), number(&invoice["total"]), "{invoice}");
    let [currency, subtotal, tax, total] =
        [&invoice["currency"], &invoice["subtotal"], &invoice["tax"]["amount"], &invoice["total"]].map(text);
    lines.iter().map(word).chain([format!("{currency} {subtotal} + {tax} = {total}")]).collect()
}
