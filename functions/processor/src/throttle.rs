//! The throttle of work that one environment must not repeat all the time.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use commerce::{activity::NOTED_EVERY_SECONDS, key::ConnectionKey, timestamp::Timestamp};

/// The number of pieces of work that one environment remembers.
const MAX_REMEMBERED: usize = 5_000;

/// The times at which this environment last did a piece of work, by connection and name.
#[derive(Default)]
pub(crate) struct Throttle(Mutex<HashMap<(ConnectionKey, String), Timestamp>>);

impl Throttle {
    /// Returns whether the work was not done in the last [`NOTED_EVERY_SECONDS`] seconds.
    pub fn is_due(&self, key: &ConnectionKey, name: &str, at: Timestamp) -> bool {
        let done = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = done.get(&(key.clone(), name.to_owned()));
        last.is_none_or(|last| at >= last.plus_seconds(NOTED_EVERY_SECONDS))
    }

    /// Remembers that the work was done.
    pub fn note(&self, key: &ConnectionKey, name: &str, at: Timestamp) {
        let mut done = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if done.len() >= MAX_REMEMBERED {
            done.clear();
        }
        done.insert((key.clone(), name.to_owned()), at);
    }

    /// Returns whether the work is due, and if so remembers it as done.
    pub fn take(&self, key: &ConnectionKey, name: &str, at: Timestamp) -> bool {
        let due = self.is_due(key, name, at);
        if due {
            self.note(key, name, at);
        }
        due
    }
}
