//! Tollgate sells live data: a stream of events in, a metered GraphQL API out, bills that add up.
//!
//! ```text
//! events  ─► event ─► projector ─► feature ────────────┐
//!            (log)    (fold, apply)  (store)           │ one read a request
//!                                                      ▼
//! partner ─► http ─► gate: edge ─► authenticate ─► admit ─► execute (product) ─► settle ─► journal ─► answer
//!                          │  directory: keys, plans, partners                             │
//! bill    ◄─ billing ◄─ ledger (db) ◄─ metering: shipper ◄─────────────────────────────────┘
//! ```
//!
//! `segment` is what event log, dead letters and journal are written with, `redis_link` how features and rates reach Redis; `engine`,
//! `app` and `serve` put everything together; `cli` and `demo` are the outside. ARCHITECTURE.md has the walls and the decisions.

pub mod app;
pub mod billing;
pub mod cli;
pub mod clock;
pub mod config;
pub mod data_dir;
pub mod db;
pub mod demo;
pub mod directory;
pub mod engine;
pub mod error;
pub mod event;
pub mod feature;
pub mod gate;
pub mod http;
pub mod ids;
pub mod journey;
pub mod metering;
pub mod money;
pub mod operation;
pub mod operator;
pub mod product;
pub mod projector;
mod redis_link;
pub mod segment;
pub mod serve;
pub mod telemetry;
