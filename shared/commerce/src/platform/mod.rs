//! The contract that every platform fulfils, one trait for each function that asks something of it.
//!
//! A platform never holds a client: it says what to ask and reads what was answered, so all of it is pure.
pub mod delivery;
pub(crate) mod lenient;
pub mod mapping;
pub mod notice;
pub(crate) mod paging;
pub mod settings;
pub mod webhooks;

use crate::{
    http_call::Hosts,
    install::Installation,
    platform::{delivery::Delivery, mapping::Mapping, webhooks::Setup},
};

/// One platform, for each of the three functions.
#[derive(Clone, Copy)]
pub struct Platform {
    /// Its name in paths, keys and metrics: `[a-z][a-z0-9-]*`.
    pub name: &'static str,
    /// Where its API is.
    pub hosts: Hosts,
    /// For the receiver.
    pub delivery: &'static dyn Delivery,
    /// For the processor.
    pub mapping: &'static dyn Mapping,
    /// For the registrar.
    pub setup: &'static dyn Setup,
    /// For the registrar, where merchants can install an app, which gives us the credentials.
    pub installation: Option<&'static dyn Installation>,
}

/// Finds a platform by its name.
pub fn find<'a>(platforms: &'a [Platform], name: &str) -> Option<&'a Platform> {
    platforms.iter().find(|platform| platform.name == name)
}
