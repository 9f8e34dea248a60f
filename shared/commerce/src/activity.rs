//! Owns the activity of deliveries, as notes: the time at which each topic (`scope`) of a connection was last seen and
//! its usual pauses, and the last use of each signing key.

use serde::{Deserialize, Serialize};

use crate::{key::Generation, timestamp::Timestamp};

/// The prefix of the names of a connection's notes that hold an [`Activity`]; the topic follows.
pub const SEEN: &str = "seen#";
/// The prefix of the names of the deployment's notes that hold a [`KeyUse`]; the key's id follows.
pub const USED: &str = "used#";
/// The least time between two notes of the same topic, or of the same key, in seconds.
pub const NOTED_EVERY_SECONDS: i64 = 300;
/// The end of the note's name for all topics that no entity processor declares. Some platforms' topics can have any
/// name, and a connection must have few notes.
pub const OTHER: &str = "other";
/// The number of pauses that are kept.
const REMEMBERED: usize = 20;

/// The activity of a topic.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Activity {
    /// The time at which it was last seen, as far as noted.
    pub last: Timestamp,
    /// The generation that the delivery was proven for. Another generation is another life of the connection.
    pub generation: Generation,
    /// The signing key that proved the delivery.
    pub key_id: String,
    /// The longest pauses between two deliveries, in seconds, oldest first. The latest pauses would not do, because
    /// those of a busy day say nothing of the night.
    #[serde(default)]
    pub gaps: Vec<i64>,
}

impl Activity {
    /// Returns the activity after a further delivery.
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

/// The last use of a key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeyUse {
    /// The time at which the key last proved something, as far as noted.
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
