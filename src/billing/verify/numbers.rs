//! Whether numbers have no gaps.

use std::collections::BTreeMap;

use sqlx::AnyConnection;

use super::store;
use crate::metering::recount::{About, Report};

/// Numbers are written with six digits at least; what stands before them is a setting, and may have been another once.
const DIGITS: u64 = 1_000_000;

/// Whether each number that a series gave out is on exactly one document, and no other is.
pub(super) async fn check(connection: &mut AnyConnection, report: &mut Report) -> anyhow::Result<()> {
    let series: BTreeMap<String, i64> = store::series(connection).await?.into_iter().collect();
    let (invoices, notes) = store::numbers(connection).await?;
    for (name, what, numbers) in [("invoice", "invoices", invoices), ("credit_note", "credit notes", notes)] {
        let taken = u64::try_from(series.get(name).copied().unwrap_or(0)).unwrap_or(0);
        if taken != numbers.len() as u64 {
            report
                .differ(About::Numbers, format!("the series of {what} gave out {taken} numbers, but {} are used", numbers.len()));
        }
        // How often each ending is used less how often it must be.
        let mut endings: BTreeMap<u64, i64> = BTreeMap::new();
        for number in &numbers {
            let digits = number.len().checked_sub(6).and_then(|start| number.get(start..)).and_then(|digits| digits.parse().ok());
            match digits {
                Some(ending) => *endings.entry(ending).or_default() += 1,
                None => report.differ(About::Numbers, format!("\"{number}\" is no number of the series of {what}")),
            }
        }
        for number in 1..=taken {
            *endings.entry(number % DIGITS).or_default() -= 1;
        }
        for (ending, count) in endings.into_iter().filter(|(_, count)| *count != 0) {
            let words = if count < 0 { "is missing" } else { "is there once too often" };
            report.differ(About::Numbers, format!("the number that ends in {ending:06} {words} among {what}"));
        }
        report.held.push(format!("{taken} numbers of {what}, without a gap"));
    }
    Ok(())
}
