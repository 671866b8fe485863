//! What tests stand on: a database of each kind, a gateway in this process or as a process of its own, clients, seeds.

pub(crate) mod answer;
mod asking;
mod command;
mod database;
mod events;
mod gateway;
pub(crate) mod kafka;
pub(crate) mod operations;
pub(crate) mod oracle;
mod plans;
pub(crate) mod postgres;
mod process;
pub(crate) mod redis;
mod retail;
pub(crate) mod schema;
mod seed;
pub(crate) mod topic;
mod usage;

pub(crate) use asking::{Answer, ask, issue};
pub(crate) use command::{Ran, tollgate};
pub(crate) use database::{Database, Kind};
pub(crate) use events::{adjusted, compensated, counted, event, price, upserted};
pub(crate) use gateway::{Gateway, Partner, graphql};
pub(crate) use plans::{per_unit, plan};
pub(crate) use process::Process;
pub(crate) use retail::retail;
pub(crate) use seed::{full, rng};
pub(crate) use usage::journal;

/// Runs an async test on both databases: every statement must hold on each.
macro_rules! on_both_databases {
    ($($(#[$doc:meta])* async fn $name:ident($database:ident: Database) $body:block)+) => {
        $(
            mod $name {
                use super::*;

                $(#[$doc])*
                async fn run($database: crate::support::Database) $body

                #[tokio::test(flavor = "multi_thread")]
                async fn sqlite() {
                    run(crate::support::Database::new(crate::support::Kind::Sqlite).await).await;
                }

                #[tokio::test(flavor = "multi_thread")]
                async fn postgres() {
                    run(crate::support::Database::new(crate::support::Kind::Postgres).await).await;
                }
            }
        )+
    };
}
pub(crate) use on_both_databases;
