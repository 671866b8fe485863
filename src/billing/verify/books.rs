//! The books held against the documents: each transaction sums to zero and is what its document says, and each document is booked.

use std::collections::BTreeMap;

use sqlx::AnyConnection;

use super::store::{self, Booked};
use crate::billing::books::{Account, Event};
use crate::metering::recount::{About, Report};

/// Compares every transaction with its document, both ways.
pub(super) async fn check(connection: &mut AnyConnection, report: &mut Report) -> anyhow::Result<()> {
    let mut count = 0_u64;
    store::booked(connection, |booked| {
        count += 1;
        transaction(&booked, report);
    })
    .await?;
    for (transaction, account, amount) in store::entries_of_nothing(connection).await? {
        report.differ(
            About::Books,
            format!("an entry of {amount} on {account} is of the transaction {transaction}, which is not there"),
        );
    }
    for (event, document) in store::unbooked(connection).await? {
        report.differ(About::Books, format!("{document} is not booked: the transaction {event}:{document} is missing"));
    }
    report.held.push(format!("{count} transactions of the ledger: each sums to zero and is what its document says"));
    Ok(())
}

fn transaction(booked: &Booked, report: &mut Report) {
    let name = format!("the transaction {}", booked.id);
    let sum: i128 = booked.entries.iter().map(|(_, amount)| i128::from(*amount)).sum();
    if sum != 0 {
        report.differ(About::Books, format!("{name} does not sum to zero, but to {sum} minor units of {}", booked.currency));
    }
    let Some(document) = &booked.document else {
        return report.differ(About::Books, format!("{name} is of the document {}, which is not there", booked.document_id));
    };
    if booked.id != format!("{}:{}", booked.kind, booked.document_id) {
        report.differ(About::Books, format!("{name} is the {} of {}", booked.kind, booked.document_id));
    }
    let said = (&booked.partner, &booked.currency, Some(booked.posted_at));
    let expected = (&document.partner, &document.currency, document.happened_at);
    if said != expected {
        report.differ(
            About::Books,
            format!(
                "{name} is of {}, in {}, posted at {}; but the document is of {}, in {}, and it happened at {}",
                booked.partner,
                booked.currency,
                booked.posted_at,
                document.partner,
                document.currency,
                document.happened_at.map_or_else(|| "no time".to_owned(), |at| at.to_string())
            ),
        );
    }
    let (net, tax, total) = (i128::from(document.net), i128::from(document.tax), i128::from(document.total));
    let open = total - i128::from(document.credited);
    let expected = match booked.kind.as_str() {
        kind if kind == Event::Invoice.as_str() => {
            vec![(Account::Receivable, total), (Account::Revenue, -net), (Account::Tax, -tax)]
        }
        kind if kind == Event::Void.as_str() => {
            vec![(Account::Receivable, -total), (Account::Revenue, net), (Account::Tax, tax)]
        }
        kind if kind == Event::CreditNote.as_str() => {
            vec![(Account::Receivable, -total), (Account::Tax, tax), (Account::Credits, net)]
        }
        kind if kind == Event::Payment.as_str() => vec![(Account::Receivable, -open), (Account::Cash, open)],
        kind => return report.differ(About::Books, format!("{name} is of the unknown kind \"{kind}\"")),
    };
    let expected: BTreeMap<&str, i128> =
        expected.into_iter().filter(|(_, amount)| *amount != 0).map(|(account, amount)| (account.as_str(), amount)).collect();
    let entries: BTreeMap<&str, i128> =
        booked.entries.iter().map(|(account, amount)| (account.as_str(), i128::from(*amount))).collect();
    if entries != expected {
        report.differ(About::Books, format!("{name} books {}, but its document comes to {}", say(&entries), say(&expected)));
    }
}

fn say(entries: &BTreeMap<&str, i128>) -> String {
    let said: Vec<String> = entries.iter().map(|(account, amount)| format!("{account} {amount}")).collect();
    if said.is_empty() { "nothing".to_owned() } else { said.join(", ") }
}
