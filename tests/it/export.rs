//! Exports: what accountants get, who may fetch it, and what nobody can smuggle into it.

mod csv;
mod files;
mod numbers;
mod operators;
mod pdf;
mod sample;
mod shelf;
mod tokens;
mod walk;
mod words;
