//! What the fuzz targets run. `tests/it/corpus.rs` replays the committed corpus through the same functions, so they know nothing
//! of libFuzzer and panic when a promise is broken.

pub mod event;
pub mod operation;
pub mod recount;
pub mod watch;
