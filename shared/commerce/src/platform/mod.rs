//! The contract that every platform fulfils, one trait for each function that asks something of it.
//!
//! A platform never holds a client: it says what to ask and reads what was answered, so all of it is pure.
pub mod act;
pub mod delivery;
pub(crate) mod lenient;
pub mod lists;
pub mod mapping;
pub mod notice;
pub(crate) mod paging;
pub mod pull;
pub mod settings;
pub mod webhooks;

use crate::{
    http_call::{Fault, Hosts},
    install::Installation,
    platform::{
        act::Act,
        delivery::Delivery,
        lists::Lists,
        mapping::Mapping,
        notice::Notices,
        pull::{Budget, Pull},
        webhooks::Setup,
    },
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
    /// How often its API may be called for one connection.
    pub budget: Budget,
    /// For the processor, where one entity can be asked for.
    pub pull: Option<&'static dyn Pull>,
    /// For the processor and the registrar, where entities can be listed.
    pub lists: Option<&'static dyn Lists>,
    /// For the processor, where something can be done at the platform.
    pub act: Option<&'static dyn Act>,
    /// For the registrar, where the platform tells of the connection itself.
    pub notices: Option<&'static dyn Notices>,
    /// For the registrar.
    pub setup: &'static dyn Setup,
    /// For the registrar, where merchants can install an app, which gives us the credentials.
    pub installation: Option<&'static dyn Installation>,
}

impl Platform {
    /// Returns its lists.
    ///
    /// # Errors
    /// [`Fault::Unreadable`] where it has none: what points to one was made by another release.
    pub fn lists(&self) -> Result<&'static dyn Lists, Fault> {
        self.lists.ok_or_else(|| Fault::Unreadable(format!("{} has no lists", self.name)))
    }

    /// Returns what one of its entities is asked for with.
    ///
    /// # Errors
    /// [`Fault::Unreadable`] where none can be.
    pub fn pull(&self) -> Result<&'static dyn Pull, Fault> {
        self.pull.ok_or_else(|| Fault::Unreadable(format!("nothing can be pulled from {}", self.name)))
    }

    /// Returns what is done at it.
    ///
    /// # Errors
    /// [`Fault::Unreadable`] where nothing is.
    pub fn act(&self) -> Result<&'static dyn Act, Fault> {
        self.act.ok_or_else(|| Fault::Unreadable(format!("nothing can be done at {}", self.name)))
    }
}

/// Finds a platform by its name.
pub fn find<'a>(platforms: &'a [Platform], name: &str) -> Option<&'a Platform> {
    platforms.iter().find(|platform| platform.name == name)
}
