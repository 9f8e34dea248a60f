//! Owns what is remembered of deliveries that were seen, as notes: when each scope of a connection delivered last and how long it is
//! usually quiet, and when each signing key proved something last.

use serde::{Deserialize, Serialize};

use crate::{key::Generation, timestamp::Timestamp};

/// What the names of a connection's notes begin with that hold a [`Activity`]; the scope follows.
pub const SEEN: &str = "seen#";
/// What the names of the deployment's notes begin with that hold a [`KeyUse`]; the key's id follows.
pub const USED: &str = "used#";
/// A sighting, and the use of a key, is noted at most this often, in seconds.
pub const NOTED_EVERY_SECONDS: i64 = 300;
/// What the name of the note ends with for all scopes that no entity processor declares: some platforms' names can be anything, and the
/// notes of a connection must stay few.
pub const OTHER: &str = "other";
/// How many pauses between sightings are remembered.
const REMEMBERED: usize = 20;

/// When a scope delivered.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Activity {
    /// When it delivered last, as far as it was noted.
    pub last: Timestamp,
    /// The generation that it was proven for: another one is another life of the connection.
    pub generation: Generation,
    /// The signing key that proved it.
    pub key_id: String,
    /// The longest pauses between two sightings, in seconds, oldest first. Not the last ones: those of a busy day say nothing of the night.
    #[serde(default)]
    pub gaps: Vec<i64>,
}

impl Activity {
    /// The sighting after this one.
    #[must_use]
    pub fn next(before: Option<Self>, last: Timestamp, generation: Generation, key_id: &str) -> Self {
        let mut next = Self { last, generation, key_id: key_id.to_owned(), gaps: Vec::new() };
        if let Some(before) = before.filter(|before| before.generation == generation) {
            next.gaps = before.gaps;
            next.gaps.push((last.seconds() - before.last.seconds()).max(0));
            while next.gaps.len() > REMEMBERED
                && let Some((shortest, _)) = next.gaps.iter().enumerate().min_by_key(|(_, gap)| **gap)
            {
                next.gaps.remove(shortest);
            }
            next.last = last.max(before.last);
        }
        next
    }
}

/// When a key proved something.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeyUse {
    /// When it did last, as far as it was noted.
    pub last: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_remembered_for_as_long_as_the_connection_is_the_same() {
        let at = |seconds: i64| Timestamp::from_millis(seconds * 1000);
        let mut sighting = None;
        for number in 0..30 {
            sighting = Some(Activity::next(sighting, at(number * 600), Generation::FIRST, "a"));
        }
        let before = sighting.clone();
        assert_eq!(before.as_ref().map(|sighting| sighting.gaps.as_slice()), Some([600; REMEMBERED].as_slice()));
        let late = Activity::next(sighting.clone(), at(0), Generation::FIRST, "a");
        assert_eq!(
            (late.last, &late.gaps),
            (at(29 * 600), &vec![600; REMEMBERED]),
            "what comes late takes nothing back"
        );
        let mut seen = Activity::next(before, at(29 * 600 + 40_000), Generation::FIRST, "a");
        for number in 1..100 {
            seen = Activity::next(Some(seen), at(29 * 600 + 40_000 + number * 700), Generation::FIRST, "a");
        }
        let gaps = seen.gaps;
        assert_eq!((gaps.len(), gaps[0]), (REMEMBERED, 40_000), "a night is remembered through the day");
        let anew = Activity::next(sighting, at(90_000), Generation::FIRST.next(), "b");
        assert!(anew.gaps.is_empty());
    }
}
