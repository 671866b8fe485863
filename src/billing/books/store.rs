//! The books in the database.

use sqlx::AnyConnection;

use super::Transaction;

/// Books a transaction, in the database transaction of what it is about.
pub async fn book(connection: &mut AnyConnection, transaction: &Transaction<'_>) -> anyhow::Result<()> {
    transaction.check()?;
    let id = transaction.id();
    sqlx::query(
        "insert into money_transaction (id, kind, document_id, partner_id, currency, posted_at) values ($1, $2, $3, $4, $5, $6)",
    )
    .bind(id.as_str())
    .bind(transaction.event.as_str())
    .bind(transaction.document)
    .bind(transaction.partner.as_str())
    .bind(transaction.currency)
    .bind(transaction.at.0)
    .execute(&mut *connection)
    .await?;
    for (account, amount) in transaction.entries.iter().filter(|(_, amount)| *amount != 0) {
        sqlx::query("insert into money_entry (transaction_id, account, amount) values ($1, $2, $3)")
            .bind(id.as_str())
            .bind(account.as_str())
            .bind(*amount)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}
