//! Keeps what this environment does from being done all the time.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use commerce::{activity::NOTED_EVERY_SECONDS, key::ConnectionKey, timestamp::Timestamp};

/// How many things one environment remembers that it did.
const MAX_REMEMBERED: usize = 5_000;

/// When this environment did what is not to be done all the time, by connection and name.
#[derive(Default)]
pub(crate) struct Throttle(Mutex<HashMap<(ConnectionKey, String), Timestamp>>);

impl Throttle {
    /// Whether it was not done in the [`NOTED_EVERY_SECONDS`] before.
    pub fn is_due(&self, key: &ConnectionKey, name: &str, at: Timestamp) -> bool {
        let done = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = done.get(&(key.clone(), name.to_owned()));
        last.is_none_or(|last| at >= last.plus_seconds(NOTED_EVERY_SECONDS))
    }

    /// Remembers that it was done.
    pub fn note(&self, key: &ConnectionKey, name: &str, at: Timestamp) {
        let mut done = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if done.len() >= MAX_REMEMBERED {
            done.clear();
        }
        done.insert((key.clone(), name.to_owned()), at);
    }

    /// Whether it is due; if so, remembers that it is done now.
    pub fn take(&self, key: &ConnectionKey, name: &str, at: Timestamp) -> bool {
        let due = self.is_due(key, name, at);
        if due {
            self.note(key, name, at);
        }
        due
    }
}
