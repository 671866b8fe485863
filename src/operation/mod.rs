//! Operations: from a document's text to what may run.

pub mod precheck;
