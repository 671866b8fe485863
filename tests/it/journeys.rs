//! Journeys: what is counted against an oracle that looks at all events at once, and what is answered against whoever would find out
//! more.

mod attack;
mod brute;
mod elsewhere;
mod equal;
mod generate;
mod log;
mod shop;
mod sold;
