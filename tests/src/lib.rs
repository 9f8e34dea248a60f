//! What the tests of the whole path share: simulators of the platforms' own APIs, which cannot be had on one machine, and the
//! bundle on in-memory edges.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

pub mod merchant;
#[path = "../platforms/mod.rs"]
pub mod platforms;
pub mod truth;
pub mod world;
