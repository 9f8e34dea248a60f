//! The shared parts of the tests of the whole path: simulators of the platforms' APIs, which cannot run on one machine,
//! and the bundle on in-memory edges.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

pub mod merchant;
#[path = "../platforms/mod.rs"]
pub mod platforms;
pub mod reader;
pub mod truth;
pub mod world;
