//! The contract of every platform, with one trait for each function that needs something of it.
//!
//! A platform never holds a client: it builds calls and reads answers, so all of it is pure.
pub mod act;
pub mod delivery;
pub(crate) mod lenient;
pub mod lists;
pub mod mapping;
pub mod notice;
pub(crate) mod paging;
pub mod pull;
pub mod renewal;
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
    /// The name in paths, keys and metrics: `[a-z][a-z0-9-]*`.
    pub name: &'static str,
    /// The hosts of its API.
    pub hosts: Hosts,
    /// The receiver's part.
    pub delivery: &'static dyn Delivery,
    /// The processor's part.
    pub mapping: &'static dyn Mapping,
    /// The rate at which its API may be called for one connection.
    pub budget: Budget,
    /// The processor's part for pulling one entity, where that is possible.
    pub pull: Option<&'static dyn Pull>,
    /// The processor's and the registrar's part for listing entities, where that is possible.
    pub lists: Option<&'static dyn Lists>,
    /// The processor's part for actions at the platform, where there are any.
    pub act: Option<&'static dyn Act>,
    /// The registrar's part for reports about the connection itself, where the platform sends them.
    pub notices: Option<&'static dyn Notices>,
    /// The registrar's part.
    pub setup: &'static dyn Setup,
    /// The registrar's part for installations of an app by merchants, which give us the credentials, where there is an
    /// app.
    pub installation: Option<&'static dyn Installation>,
}

/// A platform as the receiver sees it.
#[derive(Clone, Copy)]
pub struct Inbound {
    /// The platform's name.
    pub name: &'static str,
    /// The receiver's part.
    pub delivery: &'static dyn Delivery,
}

impl Platform {
    /// Returns what the receiver sees of the platform.
    pub const fn inbound(&self) -> Inbound {
        Inbound { name: self.name, delivery: self.delivery }
    }

    /// Returns the platform's lists.
    ///
    /// # Errors
    /// [`Fault::Unreadable`] where it has none: another release made the message that names one.
    pub fn lists(&self) -> Result<&'static dyn Lists, Fault> {
        self.lists.ok_or_else(|| Fault::Unreadable(format!("{} has no lists", self.name)))
    }

    /// Returns the part that pulls one entity.
    ///
    /// # Errors
    /// [`Fault::Unreadable`] where nothing can be pulled.
    pub fn pull(&self) -> Result<&'static dyn Pull, Fault> {
        self.pull.ok_or_else(|| Fault::Unreadable(format!("nothing can be pulled from {}", self.name)))
    }

    /// Returns the part that acts at the platform.
    ///
    /// # Errors
    /// [`Fault::Unreadable`] where there are no actions.
    pub fn act(&self) -> Result<&'static dyn Act, Fault> {
        self.act.ok_or_else(|| Fault::Unreadable(format!("nothing can be done at {}", self.name)))
    }
}

/// Finds a platform by its name.
pub fn find<'a>(platforms: &'a [Platform], name: &str) -> Option<&'a Platform> {
    platforms.iter().find(|platform| platform.name == name)
}
