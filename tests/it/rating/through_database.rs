//! The same cases through all that lies between an answer and an invoice: the journal, the ledger's cells, the archive, runs on a
//! clock that moves, drafts, numbers, books. A hundred partners share one database, and one journal.

use std::collections::BTreeMap;

use num_bigint::BigInt;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};
use sqlx::{AnyConnection, Row};
use tollgate::billing::document::{self, Evidence};
use tollgate::billing::plan::{self, Plan};
use tollgate::clock::Micros;
use tollgate::db::Db;
use tollgate::directory::admin::{self, NewPartner};
use tollgate::directory::{Details, store};
use tollgate::ids::{PartnerId, PlanId, RequestId, SubscriptionId};
use tollgate::metering::{Mode, Product, UsageRecord};
use tollgate::money::Currency;

use super::calendar::{Month, midnight};
use super::case::Case;
use super::generate;
use super::oracle::{Invoice, Oracle};
use super::said::{Said, expected, explained, is_beyond, said};
use crate::support::{self, Database, Gateway, on_both_databases, rng, tollgate};

const PARTNERS: usize = 100;
const FIRST: Month = Month { year: 2024, month: 1 };
const DAY: i64 = 24 * 3_600_000_000;

/// A case with its partner in the database.
struct Billed {
    partner: PartnerId,
    case: Case,
    /// As journaled, in the order of the case's.
    records: Vec<UsageRecord>,
    expected: Vec<Vec<Invoice>>,
}

/// Cases whose money can be counted, on plans of their own.
fn cases(rng: &mut ChaCha8Rng) -> Vec<(Case, Vec<Vec<Invoice>>)> {
    let mut cases = Vec::new();
    while cases.len() < PARTNERS {
        let mut case = generate::case_in(rng, FIRST, 3, 1);
        for plan in &mut case.plans {
            plan.id = format!("c{}-{}", cases.len(), plan.id).leak();
        }
        let expected = Oracle::new(&case).invoices();
        if !expected.iter().any(|invoices| is_beyond(invoices)) {
            cases.push((case, expected));
        }
    }
    cases
}

async fn subscribe(connection: &mut AnyConnection, name: &str, case: &Case, rng: &mut ChaCha8Rng) -> PartnerId {
    let version = |place: usize| (PlanId::from(case.plans[place].id), case.plans[place].version);
    let first = case.subscriptions[0];
    let mut month = FIRST.previous();
    while case.zones.begins(month.next()) <= first.start {
        month = month.next();
    }
    let zone = case.zones.of(month);
    let mut details = Details::default();
    details.set_tax(&case.tax_rate).unwrap();
    let plan = PlanId::from(case.plans[first.plan].name());
    let new = NewPartner { timezone: zone.iana_name().unwrap(), details, ..NewPartner::new(name, &plan) };
    let partner = admin::create_partner(connection, new, Micros(first.start), rng).await.unwrap().id;
    for (place, (month, zone)) in case.zones.0.iter().enumerate() {
        let from = if place == 0 { "0001-01".to_owned() } else { month.to_string() };
        store::set_timezone_from(connection, &partner, &from, zone).await.unwrap();
    }
    for (place, subscription) in case.subscriptions.iter().enumerate() {
        if place > 0 {
            let (start, (plan, number)) = (Micros(subscription.start), version(subscription.plan));
            let id = SubscriptionId::new(start, rng);
            store::insert_subscription(connection, &id, &partner, (&plan, number), start, None).await.unwrap();
        }
        if let Some(end) = subscription.end {
            store::end_subscription(connection, &partner, Micros(end)).await.unwrap();
        }
    }
    partner
}

fn records(partner: &PartnerId, case: &Case, rng: &mut ChaCha8Rng) -> Vec<UsageRecord> {
    let by_product = |units: &BTreeMap<&str, u64>| -> BTreeMap<Product, u64> {
        let product = |name: &str| Product::ALL.into_iter().find(|product| product.as_str() == name).unwrap();
        units.iter().filter(|(_, units)| **units > 0).map(|(name, units)| (product(name), *units)).collect()
    };
    let record = |it: &super::case::Record| UsageRecord {
        v: 1,
        request: RequestId::new(Micros(it.at), rng),
        at: Micros(it.at),
        partner: partner.clone(),
        key: format!("key{}", rng.random_range(0..2)).into(),
        mode: if it.live { Mode::Live } else { Mode::Test },
        plan: case.plans[it.plan].id.into(),
        plan_version: case.plans[it.plan].version,
        units: by_product(&it.units),
        waived_units: by_product(&it.waived),
    };
    case.records.iter().map(record).collect()
}

async fn set_up(database: &Database, rng: &mut ChaCha8Rng) -> Vec<Billed> {
    let settings = Gateway::settings(database);
    let db = Db::open(&settings.database_url(), 1, &settings.data_dir).await.unwrap();
    let mut transaction = db.begin().await.unwrap();
    let mut all = Vec::new();
    for (place, (case, expected)) in cases(rng).into_iter().enumerate() {
        let plans: Vec<Plan> = case.plans.iter().flat_map(|it| plan::parse(&it.toml()).unwrap()).collect();
        admin::apply_plans(&mut transaction, &plans, Micros(0)).await.unwrap();
        let partner = subscribe(&mut transaction, &format!("P{place}"), &case, rng).await;
        let records = records(&partner, &case, rng);
        all.push(Billed { partner, case, records, expected });
    }
    transaction.commit().await.unwrap();
    db.close().await;
    all
}

impl Billed {
    /// The places of a month's cuts.
    fn cuts(&self, month: Month) -> Vec<usize> {
        (0..self.case.cuts.len()).filter(|place| self.case.cuts[*place].month == month).collect()
    }

    fn arriving(&self, cut: usize) -> impl Iterator<Item = UsageRecord> {
        let all = self.case.records.iter().zip(&self.records);
        all.filter(move |(record, _)| record.arrives == cut).map(|(_, journaled)| journaled.clone())
    }

    /// The invoices of a month say what the oracle says of a cut.
    async fn compare(&self, connection: &mut AnyConnection, month: Month, cut: usize) {
        let name = format!("{} at cut {cut} ({month})", self.partner);
        let bodies = "select body from invoice where partner_id = $1 and period = $2 and state = 'finalized' order by currency";
        let query = sqlx::query(bodies).bind(self.partner.as_str()).bind(month.to_string());
        let rows = query.fetch_all(&mut *connection).await.unwrap();
        let wanted = &self.expected[cut];
        assert_eq!(rows.len(), wanted.len(), "{name}: {wanted:#?}\n{:#?}", self.case);
        for (row, wanted) in rows.iter().zip(wanted) {
            let invoice: document::Invoice = serde_json::from_str(row.try_get(0).unwrap()).unwrap();
            assert_eq!(invoice.currency, wanted.currency, "{name}");
            let currency = Currency::from_code(&invoice.currency).unwrap();
            let mut found: Vec<Said> = invoice.lines.iter().map(|line| said(line, currency)).collect();
            let mut expected: Vec<Said> = wanted.lines.iter().map(|line| expected(&self.case, line)).collect();
            found.sort();
            expected.sort();
            assert_eq!(found, expected, "{name}\n{:#?}", self.case);
            invoice.lines.iter().try_for_each(|line| explained(line, currency)).unwrap();
            let minor = |text: &str| text.replace('.', "").parse::<BigInt>().unwrap();
            let found = [&invoice.subtotal, &invoice.tax.amount, &invoice.total].map(|text| minor(text));
            assert_eq!(found, [&wanted.subtotal, &wanted.tax, &wanted.total].map(BigInt::clone), "{name}");
            assert_eq!(invoice.evidence, self.evidence(cut, &invoice.currency), "{name}\n{:#?}", self.case);
        }
    }

    /// What proves the records that a cut bills in a currency: those that no earlier invoice that stands had.
    fn evidence(&self, cut: usize, currency: &str) -> Evidence {
        let had = |record: &super::case::Record| {
            let stands = |place: &usize| !self.case.cuts[*place].voided && record.arrives <= *place;
            (0..cut).filter(stands).any(|place| self.case.zones.begins(self.case.cuts[place].month.next()) > record.at)
        };
        let ends = self.case.zones.begins(self.case.cuts[cut].month.next());
        let mut days: BTreeMap<(Month, jiff::civil::Date), Vec<&UsageRecord>> = BTreeMap::new();
        for (record, journaled) in self.case.records.iter().zip(&self.records) {
            let is_of = self.case.plans[record.plan].currency == currency && record.live && record.at < ends;
            if is_of && record.arrives <= cut && !had(record) {
                let mut month = FIRST.previous();
                while self.case.zones.begins(month.next()) <= record.at {
                    month = month.next();
                }
                let day = journaled.at.timestamp().to_zoned(jiff::tz::TimeZone::UTC).date();
                days.entry((month, day)).or_default().push(journaled);
            }
        }
        let mut roots = Vec::new();
        let mut told = Vec::new();
        for ((month, day), mut records) in days {
            records.sort_by(|a, b| (a.at, &a.request).cmp(&(b.at, &b.request)));
            let leaves: Vec<Vec<u8>> = records.iter().map(|record| serde_json::to_vec(record).unwrap()).collect();
            let root = merkle(&leaves);
            let (period, day, records) = (month.to_string(), day.to_string(), leaves.len().try_into().unwrap());
            told.push(document::EvidenceDay { period, day, records, root: hex(&root) });
            roots.push(root);
        }
        Evidence { root: hex(&merkle(&roots)), records: told.iter().map(|day| day.records).sum(), days: told }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// RFC 6962, section 2.1, word by word.
fn merkle(leaves: &[Vec<u8>]) -> Vec<u8> {
    match leaves {
        [] => Sha256::digest([]).to_vec(),
        [leaf] => Sha256::digest([&[0], leaf.as_slice()].concat()).to_vec(),
        _ => {
            let split = (1..).map(|power| 1 << power).take_while(|split| *split < leaves.len()).last().unwrap_or(1);
            let (left, right) = leaves.split_at(split);
            Sha256::digest([vec![1], merkle(left), merkle(right)].concat()).to_vec()
        }
    }
}

/// Journals what arrives, runs the month and finalizes what it made.
async fn close(database: &Database, month: Month, days_later: i64, arriving: Vec<UsageRecord>) {
    support::journal(database, arriving).await;
    let ends = midnight(month.next().first(), &jiff::tz::TimeZone::UTC);
    database.set_now(Micros(ends + days_later * DAY));
    let month = month.to_string();
    let ran = tollgate(database, &["invoice", "run", "--period", &month]);
    if ran.code == 0 {
        let finalized = tollgate(database, &["invoice", "finalize", "--period", &month]);
        if finalized.code != 0 {
            let nothing = finalized.failed();
            assert!(nothing.contains("there is no draft"), "{nothing}");
        }
    } else {
        let nothing = ran.failed();
        assert!(nothing.contains("nothing to bill") || nothing.contains("nothing is left to bill"), "{nothing}");
    }
}

/// What must hold of all that is stored, whatever was billed.
async fn hold_together(database: &Database) {
    for (what, count) in [
        (
            "lines that do not sum to their invoice",
            "select cast(count(*) as bigint) from invoice where subtotal <> \
          (select coalesce(sum(amount), 0) from invoice_line where invoice_line.invoice_id = invoice.id)",
        ),
        ("totals that are no sums", "select cast(count(*) as bigint) from invoice where total <> subtotal + tax"),
        (
            "transactions that do not sum to zero",
            "select cast(count(*) as bigint) from \
          (select transaction_id from money_entry group by transaction_id having sum(amount) <> 0) uneven",
        ),
        (
            "gaps in the numbers",
            "select (select coalesce(max(taken), 0) from number_series where id = 'invoice') - \
          (select count(distinct number) from invoice)",
        ),
        (
            "what the books are out by",
            "select cast(coalesce(sum(amount), 0) as bigint) - \
          (select cast(coalesce(sum(total), 0) as bigint) from invoice where state = 'finalized') from money_entry where account = 'receivable'",
        ),
    ] {
        assert_eq!(database.number(count).await, 0, "{what}");
    }
}

on_both_databases! {
    async fn a_hundred_partners_are_billed_as_the_slow_reading_says(database: Database) {
        let (_, mut rng) = rng("a_hundred_partners_are_billed_as_the_slow_reading_says");
        let mut own = ChaCha8Rng::from_rng(&mut rng);
        let all = set_up(&database, &mut own).await;
        let mut connection = database.connect().await;
        let mut months = vec![FIRST.previous()];
        while months.len() < 5 {
            months.push(months[months.len() - 1].next());
        }
        for month in months {
            let arriving = all.iter().flat_map(|billed| billed.arriving(billed.cuts(month)[0])).collect();
            close(&database, month, 2, arriving).await;
            let mut again = Vec::new();
            for billed in &all {
                let cuts = billed.cuts(month);
                billed.compare(&mut connection, month, cuts[0]).await;
                if let Some(&cut) = cuts.get(1) {
                    let numbers = "select number from invoice where partner_id = $1 and period = $2 and state = 'finalized'";
                    let query = sqlx::query_scalar(numbers).bind(billed.partner.as_str()).bind(month.to_string());
                    let numbers: Vec<String> = query.fetch_all(&mut connection).await.unwrap();
                    for number in numbers {
                        tollgate(&database, &["invoice", "void", &number, "--reason", "a test"]).ok();
                    }
                    again.push((billed, cut));
                }
            }
            close(&database, month, 3, again.iter().flat_map(|(billed, cut)| billed.arriving(*cut)).collect()).await;
            for (billed, cut) in again {
                billed.compare(&mut connection, month, cut).await;
            }
        }
        hold_together(&database).await;
        // Made again from the archive, every document is the same, byte for byte.
        let verified = tollgate(&database, &["usage", "verify"]).ok();
        println!("{verified}");
    }
}
