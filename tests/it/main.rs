//! The integration tests: behaviour at the seams, against real servers. `scripts/test` starts what they need.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on says where, and prints its seed")]

mod support;

mod archiving;
mod bad_input;
mod bundle;
mod chaos;
mod commands;
mod corpus;
mod cost;
mod cost_oracle;
mod demo;
mod entitlement;
mod event_log;
mod exactly_once;
mod export;
mod feature_store;
mod freshness;
mod gateway;
mod hostile;
mod ingest;
mod journeys;
mod kafka;
mod keys;
mod kill;
mod limits;
mod over_http;
mod power_cut;
mod rating;
mod redis_store;
mod refusals;
mod restored;
mod retail;
mod scenario;
mod schema;
mod streams;
mod tidy;
mod verify;
mod watermark;
mod word;
