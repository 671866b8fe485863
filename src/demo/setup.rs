//! What stands before the first query: plans, partners, keys, and a SKU to ask for.

use anyhow::Context;
use rand::rngs::StdRng;
use serde::Deserialize;

use super::history;
use crate::app::App;
use crate::billing::plan;
use crate::db::Db;
use crate::directory::admin::NewPartner;
use crate::directory::{KeyTerms, Partner, Scope, admin, key_store, store};
use crate::ids::{KeyId, PlanId};

const PLANS: &str = include_str!("../../plans.example.toml");
/// A marketplace that may see everything, and a brand that sees its own rows.
const MARKETPLACE: &str = "Nordlicht Marketplace";

/// What the pasted query asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// It exists,
    pub sku: String,
    /// here,
    pub location: String,
    /// and is sold here.
    pub market: String,
    /// The second partner's.
    pub brand: Option<String>,
}

/// A partner that is ready to ask.
pub struct Ready {
    /// Who.
    pub partner: Partner,
    /// Its key, which is kept nowhere else,
    pub key: String,
    /// and the public part of it.
    pub key_id: KeyId,
    /// It was not here before.
    pub is_new: bool,
}

/// Publishes the plans, and makes the partners and fresh keys; the keys of an earlier demo are revoked. New partners have last
/// month behind them.
pub async fn set_up(app: &App, db: &Db, example: &Example, rng: &mut StdRng) -> anyhow::Result<Vec<Ready>> {
    let now = app.clock.now();
    let (_, since, _) = history::last_month(now)?;
    let mut transaction = db.begin().await?;
    admin::apply_plans(&mut transaction, &plan::parse(PLANS)?, now).await.context("the demo's plans cannot be published here")?;
    let mut partners = vec![(MARKETPLACE.to_owned(), "growth", Scope::default())];
    if let Some(brand) = &example.brand {
        partners.push((format!("{brand} (brand)"), "starter", Scope::parse([format!("brand={brand}").as_str()])?));
    } else {
        partners.push(("Second Partner".to_owned(), "starter", Scope::default()));
    }
    let existing = store::partners(&mut transaction, now).await?;
    let keys = key_store::api_keys(&mut transaction).await?;
    let mut ready = Vec::new();
    for (name, plan, scope) in partners {
        let known = existing.iter().any(|partner| partner.name == name);
        let partner = match existing.iter().find(|partner| partner.name == name) {
            Some(partner) => partner.clone(),
            None => {
                let plan = PlanId::from(plan);
                let new = NewPartner { scope, ..NewPartner::new(&name, &plan) };
                // Here for the whole of last month, so that there is one to close.
                admin::create_partner(&mut transaction, new, since, rng).await?
            }
        };
        for old in keys.iter().filter(|key| key.partner == partner.id && key.revoked_at.is_none()) {
            admin::revoke_key(&mut transaction, &old.id, now).await?;
        }
        let key = admin::issue_key(&mut transaction, &partner.id, KeyTerms::default(), now, rng).await?;
        ready.push(Ready { partner, key: key.text, key_id: key.id, is_new: !known });
    }
    transaction.commit().await?;
    app.directory.refresh().await?;
    Ok(ready)
}

#[derive(Deserialize)]
struct Entity {
    kind: String,
    sku: String,
    brand: Option<String>,
    location: Option<String>,
    market: Option<String>,
}

fn entities(dump: &str) -> impl Iterator<Item = Entity> {
    dump.lines().filter_map(|line| serde_json::from_str(line).ok())
}

impl Example {
    /// Whether a dump has both its stock and its price.
    pub fn is_in(&self, dump: &str) -> bool {
        let (mut stock, mut price) = (false, false);
        for entity in entities(dump).filter(|entity| entity.sku == self.sku) {
            stock |= entity.location.as_ref() == Some(&self.location);
            price |= entity.market.as_ref() == Some(&self.market);
        }
        stock && price
    }

    /// The first SKU of a dump that has both stock and a price.
    pub fn from_dump(dump: &str) -> Option<Self> {
        let mut found: Option<(String, Option<String>, Option<String>)> = None;
        for entity in entities(dump) {
            let current = match &mut found {
                Some(current) if current.0 == entity.sku => current,
                _ => found.insert((entity.sku, None, None)),
            };
            match entity.kind.as_str() {
                "catalog" => current.1 = entity.brand,
                "inventory" => current.2 = current.2.take().or(entity.location),
                _ => {
                    if let (sku, brand, Some(location), Some(market)) = (&current.0, &current.1, &current.2, entity.market) {
                        return Some(Self { sku: sku.clone(), location: location.clone(), market, brand: brand.clone() });
                    }
                }
            }
        }
        None
    }
}
