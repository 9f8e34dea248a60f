//! The memory that the entities of a batch take at a time. Light entities are brought up to date side by side. Heavy
//! ones, by their delivery, their item or their store's answers, take turns: there is one place for all of them, and a
//! connection never queues for it twice, so one store's heavy entities cost the others one turn each.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use commerce::key::ConnectionKey;
use tokio::sync::{Semaphore, SemaphorePermit};

/// The most weight of deliveries that a batch holds at a time, in bytes as [`commerce::request::weight`] counts them. A
/// single delivery may be heavier.
pub(crate) const ROUND_WEIGHT: usize = 8 * 1024 * 1024;
/// The most messages that are processed at a time: each may have an item of 400 KB.
pub(crate) const ROUND_MESSAGES: usize = 25;
/// The most weight of a light entity, in bytes. Bookkeeping copies all of it a few times.
const LIGHT: usize = 256 * 1024;
/// The number of answers read at a time, of all connections together. An answer may be some MB before its weight is
/// known.
const CALLS: usize = 6;
/// The number of answers read at a time, of one connection.
const CALLS_OF_ONE: usize = 3;

/// The places that the entities of a batch share.
pub(crate) struct Places {
    calls: Semaphore,
    heavy: Semaphore,
    own: BTreeMap<ConnectionKey, Own>,
}

/// The places that the entities of a connection share.
struct Own {
    calls: Semaphore,
    heavy: Semaphore,
}

/// The place of one entity, or of a command, from its beginning to its end.
pub(crate) struct Place<'p> {
    places: &'p Places,
    own: Option<&'p Own>,
    weight: AtomicUsize,
    heavy: Mutex<Option<[SemaphorePermit<'p>; 2]>>,
}

impl Places {
    /// Makes the places of these connections.
    pub(crate) fn new(connections: &[ConnectionKey]) -> Self {
        let own =
            |key: &ConnectionKey| (key.clone(), Own { calls: Semaphore::new(CALLS_OF_ONE), heavy: Semaphore::new(1) });
        let own = connections.iter().map(own).collect();
        Self { calls: Semaphore::new(CALLS), heavy: Semaphore::new(1), own }
    }

    /// Returns a place for an entity or a command of a connection.
    pub(crate) fn of(&self, key: &ConnectionKey) -> Place<'_> {
        Place { places: self, own: self.own.get(key), weight: AtomicUsize::new(0), heavy: Mutex::default() }
    }
}

impl<'p> Place<'p> {
    /// Returns an empty place for another entity of the same connection.
    pub(crate) fn another(&self) -> Self {
        Place { places: self.places, own: self.own, weight: AtomicUsize::new(0), heavy: Mutex::default() }
    }

    /// Holds this much more weight, in bytes, as soon as there is room.
    pub(crate) async fn hold(&self, weight: usize) {
        let held = self.weight.fetch_add(weight, Ordering::Relaxed).saturating_add(weight);
        let Some(own) = self.own.filter(|_| held > LIGHT && !self.is_heavy()) else { return };
        // Neither semaphore is ever closed.
        let (Ok(own), Ok(all)) = (own.heavy.acquire().await, self.places.heavy.acquire().await) else { return };
        *self.heavy.lock().unwrap_or_else(PoisonError::into_inner) = Some([own, all]);
    }

    /// Waits for the permit to read an answer. A heavy place needs none, so that nobody waits for a waiting place.
    pub(crate) async fn call(&self) -> Option<[SemaphorePermit<'p>; 2]> {
        let own = self.own.filter(|_| !self.is_heavy())?;
        Some([own.calls.acquire().await.ok()?, self.places.calls.acquire().await.ok()?])
    }

    fn is_heavy(&self) -> bool {
        self.heavy.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn connections() -> [ConnectionKey; 2] {
        ["a.example.com", "b.example.com"].map(|connection| ConnectionKey {
            platform: "p".into(),
            connection: connection.parse().unwrap_or_else(|_| unreachable!("it is one")),
        })
    }

    #[test]
    fn one_heavy_entity_is_held_at_a_time_and_each_connection_waits_for_one_turn_of_another() {
        let keys = connections();
        let places = Places::new(&keys);
        let [first, second, third] = [(); 3].map(|()| places.of(&keys[0]));
        let other = places.of(&keys[1]);
        assert_eq!(first.hold(LIGHT).now_or_never(), Some(()), "light");
        assert_eq!(first.hold(1).now_or_never(), Some(()), "the first heavy one");
        let mut same = [Box::pin(second.hold(LIGHT + 1)), Box::pin(third.hold(LIGHT + 1))];
        let mut others = Box::pin(other.hold(LIGHT + 1));
        let mut ready = || same.each_mut().map(|hold| hold.as_mut().now_or_never().is_some());
        assert_eq!((ready(), others.as_mut().now_or_never()), ([false, false], None), "one at a time");
        drop(first);
        assert_eq!(
            (ready(), others.as_mut().now_or_never()),
            ([false, false], Some(())),
            "the other connection is next"
        );
        drop(others);
        drop(other);
        assert_eq!(ready(), [true, false], "and then the same one again");
    }

    #[test]
    fn whoever_is_heavy_asks_on_while_others_wait() {
        let keys = connections();
        let places = Places::new(&keys);
        let light: Vec<_> = (0..CALLS_OF_ONE).map(|_| places.of(&keys[0])).collect();
        let calls: Vec<_> = light.iter().map(|place| place.call().now_or_never().flatten()).collect();
        assert!(calls.iter().all(Option::is_some));
        let heavy = places.of(&keys[0]);
        assert_eq!(heavy.call().now_or_never().map(|call| call.is_some()), None, "no more of one connection");
        assert_eq!(heavy.hold(LIGHT + 1).now_or_never(), Some(()));
        assert_eq!(heavy.call().now_or_never().map(|call| call.is_some()), Some(false), "it waits for nobody");
        assert!(places.of(&keys[1]).call().now_or_never().flatten().is_some(), "others have theirs");
    }
}
