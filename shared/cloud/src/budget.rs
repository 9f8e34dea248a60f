//! The rate of calls to a connection's API over all environments: a budget for each period, kept as a note, of which an
//! environment leases a few calls at a time. When the platform asks to wait, all environments wait.

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

/// The name of the note.
const NAME: &str = "budget";
/// The most calls that are leased at once, with one write.
const LEASE: u32 = 10;
/// The divisor that makes the largest lease of a budget, because calls that one environment does not use are lost to
/// the others.
const SHARE: u32 = 20;
/// The number of attempts at a write that conflicts.
const TRIES: u32 = 5;
/// The longest pause that a platform can ask for, in seconds.
const LONGEST_PAUSE: i64 = 86_400;
/// The number of connections whose leases one environment keeps.
const MAX_LEASES: usize = 2_000;

/// The content of the note.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
struct Ledger {
    /// The period, counted since 1970.
    window: i64,
    /// The number of its calls that are given out.
    used: u32,
    /// The time until which the platform asks to wait, in seconds since 1970.
    #[serde(default)]
    paused_until: i64,
    /// The generation of the connection that the platform asked. A connection that is made anew may be to another site,
    /// or to a mended one.
    #[serde(default)]
    generation: u32,
}

impl Ledger {
    /// Returns the time until which a generation of the connection has to wait, in seconds since 1970.
    fn paused(&self, generation: u32) -> i64 {
        // A pause that was noted without a generation, by an older release, counts for all.
        if [0, generation].contains(&self.generation) { self.paused_until } else { 0 }
    }

    /// Takes up to `wanted` calls. Returns their number, and the ledger after it.
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

/// The calls left of this environment's leases.
#[derive(Default)]
pub struct Leases {
    left: Mutex<HashMap<ConnectionKey, (i64, u32)>>,
    /// The lock that lets one task lease at a time. The tasks that wait find what it leased.
    leasing: tokio::sync::Mutex<()>,
}

impl Leases {
    /// Takes one call out of the connection's budget.
    ///
    /// # Errors
    /// [`Fault::Throttled`] until there are more calls, and [`Fault::Unavailable`] when the note cannot be read or
    /// written.
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

    /// Stops calls to the connection's platform for this many seconds, in this generation of the connection.
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
    // The note outlives the longest pause and the period that it counts.
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
