//! The whole path on in-memory edges: the functions as they are, with twins of what they stand on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod contract;
mod day;
mod engine;
mod hooks_bigcommerce;
mod hooks_cloudblue;
mod hops;
mod poll;
mod processor;
mod receiver;
mod registrar;
mod samples;
