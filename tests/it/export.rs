//! Exports: what accountants get, who may fetch it, and what nobody can smuggle into it.

mod pdf;
mod sample;
