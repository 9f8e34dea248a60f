//! The whole path on in-memory edges: the real functions, with twins of the services below them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod admin;
mod bulk;
mod chains;
mod contract;
mod controller;
mod custom;
mod day;
mod engine;
mod generated;
mod hidden;
mod hops;
mod install;
mod kinds;
mod limits;
mod money;
mod poll;
mod processor;
mod publisher;
mod receiver;
mod redaction;
mod registrar;
mod rotation;
mod samples;
mod sender;
mod shopify;
mod sightings;
mod tenants;
mod verify;
mod webhooks_bigcommerce;
mod webhooks_cloudblue;
mod woocommerce;
