//! Every refusal as a partner sees it: status line, headers and body, in `tests/it/snapshots/NAME.snap`.
//!
//! A refusal that changed fails its test and shows both. To accept what is new, read the difference first, then
//!
//! ```text
//! INSTA_UPDATE=always scripts/test -- refusals:: && git diff tests/it/snapshots
//! ```
//!
//! Ids, instants, what is left of a rate and the seconds to a month's end are placeholders; nothing else is.

mod documents;
mod keys;
mod limits;
mod picture;
mod server;
