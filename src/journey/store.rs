//! Journey products and the key of visitors, in the database.

use std::sync::Arc;

use anyhow::{Context, ensure};
use sqlx::{AnyConnection, Row};

use super::product::Product;
use crate::clock::Micros;

/// A product, and since when it is sold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// What it says.
    pub product: Product,
    /// Since when.
    pub applied_at: Micros,
    /// Until when.
    pub retired_at: Option<Micros>,
}

/// All products, by name; those that are retired too.
pub async fn all(connection: &mut AnyConnection) -> anyhow::Result<Vec<Applied>> {
    let rows =
        sqlx::query("select name, body, applied_at, retired_at from journey_product order by name").fetch_all(connection).await?;
    let applied = |row: &sqlx::any::AnyRow| -> anyhow::Result<Applied> {
        let (name, body): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        let product = serde_json::from_str(&body).with_context(|| format!("the journey product {name} cannot be read"))?;
        let retired_at: Option<i64> = row.try_get(3)?;
        Ok(Applied { product, applied_at: Micros(row.try_get(2)?), retired_at: retired_at.map(Micros) })
    };
    rows.iter().map(applied).collect()
}

/// Products that are sold.
pub async fn sold(connection: &mut AnyConnection) -> anyhow::Result<Vec<Arc<Product>>> {
    let all = all(connection).await?;
    Ok(all.into_iter().filter(|applied| applied.retired_at.is_none()).map(|applied| Arc::new(applied.product)).collect())
}

/// Stores a new product.
pub async fn insert(connection: &mut AnyConnection, product: &Product, now: Micros) -> anyhow::Result<()> {
    sqlx::query("insert into journey_product (name, body, applied_at) values ($1, $2, $3)")
        .bind(&product.name)
        .bind(serde_json::to_string(product)?)
        .bind(now.0)
        .execute(connection)
        .await
        .with_context(|| format!("cannot store the journey product {}", product.name))?;
    Ok(())
}

/// Ends a product.
pub async fn retire(connection: &mut AnyConnection, name: &str, now: Micros) -> anyhow::Result<()> {
    let retired = sqlx::query("update journey_product set retired_at = $1 where name = $2 and retired_at is null")
        .bind(now.0)
        .bind(name)
        .execute(connection)
        .await?;
    ensure!(retired.rows_affected() == 1, "there is no journey product \"{name}\" that is sold: see tollgate product list");
    Ok(())
}

/// The key of visitors; `fresh` becomes it where there is none yet.
pub async fn visitor_secret(connection: &mut AnyConnection, fresh: &[u8; 32]) -> anyhow::Result<[u8; 32]> {
    let text: String = fresh.iter().map(|byte| format!("{byte:02x}")).collect();
    sqlx::query("insert into visitor_key (id, secret) values (1, $1) on conflict (id) do nothing")
        .bind(text)
        .execute(&mut *connection)
        .await?;
    let row = sqlx::query("select secret from visitor_key where id = 1").fetch_one(connection).await?;
    let text: String = row.try_get(0)?;
    let mut secret = [0; 32];
    for (byte, digits) in secret.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits)?, 16).context("the key of visitors is damaged")?;
    }
    Ok(secret)
}
