//! How often a connection's API is called, over all environments: a budget for each stretch of time, kept as a note, of which an
//! environment leases a few calls at a time. When the platform asks to be left alone, all of them leave it alone.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use commerce::{
    http_call::Fault,
    key::{ConnectionKey, Generation},
    platform::pull::Budget,
    timestamp::Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::{
    EdgeError,
    coordination::{Coordination, Terms, Update, update_json},
};

/// The note's name.
const NAME: &str = "budget";
/// How many calls are leased at once, at most: one write pays for so many.
const LEASE: u32 = 10;
/// The part of a budget that one environment leases, at most: what it does not use is lost to the others.
const SHARE: u32 = 20;
/// How often a conflict is tried again.
const TRIES: u32 = 5;
/// The longest pause that a platform can ask for, in seconds.
const LONGEST_PAUSE: i64 = 86_400;
/// How many connections' leases one environment keeps.
const MAX_LEASES: usize = 2_000;

/// What the note says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
struct Ledger {
    /// The stretch of time, counted since 1970.
    window: i64,
    /// How many of its calls are given out.
    used: u32,
    /// Until when the platform wants to be left alone, seconds since 1970.
    #[serde(default)]
    paused_until: i64,
    /// The generation of the connection that was told so: one that is connected anew may be to another site, and to a mended one.
    #[serde(default)]
    generation: u32,
}

impl Ledger {
    /// Until when a generation of the connection has to wait.
    fn paused(&self, generation: u32) -> i64 {
        // What was noted before generations were counts for all.
        if [0, generation].contains(&self.generation) { self.paused_until } else { 0 }
    }

    /// Takes up to `wanted` calls; how many, and the ledger after it.
    fn take(self, generation: u32, budget: Budget, wanted: u32, now: i64) -> Result<(u32, Self), Fault> {
        let seconds = i64::from(budget.seconds.max(1));
        if self.paused(generation) > now {
            return Err(Fault::Throttled { seconds: self.paused(generation) - now });
        }
        let window = now.div_euclid(seconds);
        let used = if self.window == window { self.used } else { 0 };
        let taken = wanted.min(budget.calls.saturating_sub(used));
        if taken == 0 {
            return Err(Fault::Throttled { seconds: (window + 1) * seconds - now });
        }
        Ok((taken, Self { window, used: used + taken, ..self }))
    }
}

/// What is left of the calls that this environment has leased.
#[derive(Default)]
pub struct Leases {
    left: Mutex<HashMap<ConnectionKey, (i64, u32)>>,
    /// One at a time: those who wait find what the first one leased.
    leasing: tokio::sync::Mutex<()>,
}

impl Leases {
    /// Takes one call out of the connection's budget.
    ///
    /// # Errors
    /// [`Fault::Throttled`] until there are more, and [`Fault::Unavailable`] when the notes cannot be had.
    pub async fn take(
        &self,
        notes: &(impl Coordination + Sync),
        key: &ConnectionKey,
        generation: Generation,
        budget: Budget,
        now: Timestamp,
    ) -> Result<(), Fault> {
        let now = now.seconds();
        let window = now.div_euclid(i64::from(budget.seconds.max(1)));
        if self.take_leased(key, window) {
            return Ok(());
        }
        let _one_at_a_time = self.leasing.lock().await;
        if self.take_leased(key, window) {
            return Ok(());
        }
        let lease = (budget.calls / SHARE).clamp(1, LEASE);
        let taken =
            write(notes, key, now, budget.seconds, |ledger| ledger.take(generation.number(), budget, lease, now))
                .await?;
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        if left.len() >= MAX_LEASES {
            left.clear();
        }
        left.insert(key.clone(), (window, taken - 1));
        Ok(())
    }

    fn take_leased(&self, key: &ConnectionKey, window: i64) -> bool {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        match left.get_mut(key) {
            Some((of, left)) if *of == window && *left > 0 => {
                *left -= 1;
                true
            }
            _ => false,
        }
    }

    /// Leaves the connection's platform alone, for as long as it asked for, in this generation of the connection.
    pub async fn pause(
        &self,
        notes: &(impl Coordination + Sync),
        key: &ConnectionKey,
        generation: Generation,
        seconds: i64,
        now: Timestamp,
    ) {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        let now = now.seconds();
        let until = now.saturating_add(seconds.clamp(1, LONGEST_PAUSE));
        let paused = write(notes, key, now, 0, |ledger| {
            let generation = generation.number();
            Ok((0, Ledger { paused_until: ledger.paused(generation).max(until), generation, ..ledger }))
        });
        if let Err(error) = paused.await {
            crate::telemetry::warn("pause-not-noted", &format!("{key}: {error}"));
        }
    }
}

async fn write(
    notes: &(impl Coordination + Sync),
    key: &ConnectionKey,
    now: i64,
    seconds: u32,
    change: impl Fn(Ledger) -> Result<(u32, Ledger), Fault> + Send + Sync,
) -> Result<u32, Fault> {
    let unavailable = |error: EdgeError| Fault::Unavailable(format!("the connection's budget: {error}"));
    // The note outlives the longest pause and the stretch of time that it counts.
    let lasting = LONGEST_PAUSE + i64::from(seconds) * 2 + 3600;
    let terms = Terms::once(Timestamp::from_millis(now.saturating_mul(1000)), lasting).tries(TRIES);
    let mut taken = Err(Fault::Throttled { seconds: 1 });
    let updated = update_json(notes, key, NAME, terms, |ledger: Option<Ledger>| {
        let changed = change(ledger.unwrap_or_default());
        let (result, next) = changed.map_or_else(|fault| (Err(fault), None), |(taken, next)| (Ok(taken), Some(next)));
        taken = result;
        next
    });
    match updated.await.map_err(unavailable)? {
        Update::Written | Update::Left => taken,
        Update::Contended => Err(Fault::Throttled { seconds: 1 }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const BUDGET: Budget = Budget { calls: 15, seconds: 30 };

    #[test]
    fn a_stretch_of_time_has_so_many_calls() {
        let (taken, ledger) = Ledger::default().take(1, BUDGET, 10, 61).unwrap();
        assert_eq!((taken, ledger.used), (10, 10));
        let (taken, ledger) = ledger.take(1, BUDGET, 10, 75).unwrap();
        assert_eq!((taken, ledger.used), (5, 15));
        assert_eq!(ledger.take(1, BUDGET, 10, 80), Err(Fault::Throttled { seconds: 10 }));
        assert_eq!(ledger.take(1, BUDGET, 10, 90).unwrap().0, 10, "the next stretch");
    }

    #[test]
    fn a_pause_outlasts_the_stretch() {
        let paused = Ledger { window: 2, used: 0, paused_until: 200, generation: 1 };
        assert_eq!(paused.take(1, BUDGET, 1, 100), Err(Fault::Throttled { seconds: 100 }));
        assert_eq!(paused.take(1, BUDGET, 1, 200).unwrap().0, 1);
    }

    #[test]
    fn a_pause_ends_with_its_generation() {
        let paused = Ledger { paused_until: 200, generation: 1, ..Ledger::default() };
        assert_eq!(paused.take(2, BUDGET, 1, 100).unwrap().0, 1);
        assert!(paused.take(1, BUDGET, 1, 100).is_err());
        let of_before: Ledger = serde_json::from_str(r#"{"window":2,"used":0,"paused_until":200}"#).unwrap();
        assert!(of_before.take(1, BUDGET, 1, 100).is_err() && of_before.take(2, BUDGET, 1, 100).is_err());
    }
}
