//! Owns the rotation of signing keys: the steps from one ring to the next. No step makes a valid delivery fail.
//!
//! A new key is added first, and waits until every environment that proves deliveries knows it. Then it signs, and
//! every webhook is moved to it, while the former key still proves. The former key is removed when no webhook uses it
//! and it has proven nothing for long, because only that shows the use of webhooks entered by hand.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use crate::{
    activity::NOTED_EVERY_SECONDS,
    keys::{Key, KeyRing, KeyRingError, KeyState, Phase, ring_text},
    timestamp::Timestamp,
};

/// The time for which a key must have proven nothing before it is removed, in seconds.
pub const QUIET_SECONDS: i64 = 48 * 60 * 60;
/// The number of random bytes for a new key: its secret, and the end of its id.
pub const FRESH_BYTES: usize = 35;

/// The facts that a step depends on, beside the ring.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// `true` when somebody asked for a rotation.
    pub asked: bool,
    /// The time after which every environment knows a ring that was written, in seconds.
    pub known_after: i64,
    /// The number of connections with webhooks on a key other than the signing one.
    pub elsewhere: usize,
    /// The last time at which each key proved something, by the key's id.
    pub used: &'a BTreeMap<String, Timestamp>,
    /// Random bytes, never used before.
    pub fresh: &'a [u8; FRESH_BYTES],
}

/// The stage of a rotation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(inline))]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// No rotation is under way.
    None,
    /// The new key is becoming known.
    Waiting,
    /// The new key signs, and webhooks on the former one are being moved.
    Moving,
}

impl Stage {
    /// Returns the stage's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Waiting => "waiting",
            Self::Moving => "moving",
        }
    }
}

/// The next step of a rotation.
pub struct Next {
    /// The stage before this step.
    pub stage: Stage,
    /// The stage after this step.
    pub then: Stage,
    /// The text of the ring that the step writes; `None` when no step can be taken.
    pub ring: Option<Zeroizing<String>>,
    /// The earliest time of the next step.
    pub due: Option<Timestamp>,
    /// The reasons against a step now, for people.
    pub keeps: Vec<String>,
}

/// Returns the next step of a rotation, given the text of the secret.
///
/// # Errors
/// [`KeyRingError`] when the text is not a ring.
pub fn advance(text: &str, now: Timestamp, facts: &Facts<'_>) -> Result<Next, KeyRingError> {
    let mut keys: Vec<Key> = KeyRing::parse(text)?.iter().cloned().collect();
    let at = now.seconds();
    let incoming = keys.iter().position(|key| key.phase == Some(Phase::Incoming));
    let outgoing = keys.iter().any(|key| key.phase == Some(Phase::Outgoing));
    let stage = match (incoming, outgoing) {
        (Some(_), _) => Stage::Waiting,
        (None, true) => Stage::Moving,
        (None, false) => Stage::None,
    };
    // The time begins now for a phase that was entered by hand without one.
    let untimed: Vec<_> = keys.iter_mut().filter(|key| key.phase.is_some() && key.since.is_none()).collect();
    if !untimed.is_empty() {
        untimed.into_iter().for_each(|key| key.since = Some(at));
        return step(&keys, stage, stage);
    }
    let waits = |due, keeps| Ok(Next { stage, then: stage, ring: None, due, keeps });
    match (stage, incoming) {
        (Stage::Waiting, Some(place)) => {
            let due = keys[place].since.unwrap_or(at).saturating_add(facts.known_after);
            if at < due {
                let keeps = "the new key is not known to every environment yet".to_owned();
                return waits(Some(stamp(due)), vec![keeps]);
            }
            for key in keys.iter_mut().filter(|key| key.state == KeyState::Sign) {
                (key.state, key.phase, key.since) = (KeyState::Verify, Some(Phase::Outgoing), Some(at));
            }
            (keys[place].state, keys[place].phase, keys[place].since) = (KeyState::Sign, None, Some(at));
            step(&keys, stage, Stage::Moving)
        }
        (Stage::Moving, _) => {
            // Uses are noted only this often.
            let quiet = QUIET_SECONDS + NOTED_EVERY_SECONDS;
            let used = |key: &Key| facts.used.get(&key.id).map(|used| used.seconds());
            let free = |key: &Key| used(key).max(key.since).unwrap_or(at).saturating_add(quiet);
            let stays = |key: &Key| key.phase != Some(Phase::Outgoing) || at < free(key) || facts.elsewhere > 0;
            let (kept, gone): (Vec<_>, Vec<_>) = keys.iter().cloned().partition(stays);
            if !gone.is_empty() {
                let left = kept.iter().any(|key| key.phase == Some(Phase::Outgoing));
                return step(&kept, stage, if left { Stage::Moving } else { Stage::None });
            }
            let outgoing: Vec<_> = keys.iter().filter(|key| key.phase == Some(Phase::Outgoing)).collect();
            let mut keeps = Vec::new();
            if facts.elsewhere > 0 {
                keeps.push(format!("connections with webhooks on another key: {}", facts.elsewhere));
            }
            for key in outgoing.iter().filter(|key| at < free(key)) {
                let last = match used(key) {
                    Some(last) => format!("proved a delivery last at {}", stamp(last)),
                    None => "has not been seen to prove anything".to_owned(),
                };
                let hours = QUIET_SECONDS / 3600;
                keeps.push(format!("{} {last}; it goes after {hours} hours without a use", key.id));
            }
            waits(outgoing.iter().map(|key| stamp(free(key))).min(), keeps)
        }
        (Stage::None, _) if facts.asked => {
            let (secret, end) = facts.fresh.split_at(FRESH_BYTES - 3);
            let date: String = now.to_string().chars().filter(char::is_ascii_digit).take(8).collect();
            keys.push(Key {
                id: format!("k-{date}-{}", hex::encode(end)),
                state: KeyState::Verify,
                secret: Zeroizing::new(hex::encode(secret)),
                since: Some(at),
                phase: Some(Phase::Incoming),
            });
            step(&keys, stage, Stage::Waiting)
        }
        _ => waits(None, Vec::new()),
    }
}

/// Returns the text of the ring without an outgoing key, whatever still uses the key, or `None` when no such key is
/// outgoing. It is for a compromised key.
///
/// # Errors
/// [`KeyRingError`] when the text is not a ring.
pub fn retire(text: &str, id: &str) -> Result<Option<Zeroizing<String>>, KeyRingError> {
    let ring = KeyRing::parse(text)?;
    let (gone, kept): (Vec<Key>, Vec<Key>) =
        ring.iter().cloned().partition(|key| key.id == id && key.phase == Some(Phase::Outgoing));
    let stage = if kept.iter().any(|key| key.phase == Some(Phase::Outgoing)) { Stage::Moving } else { Stage::None };
    if gone.is_empty() { Ok(None) } else { Ok(step(&kept, Stage::Moving, stage)?.ring) }
}

fn stamp(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds.saturating_mul(1000))
}

/// Makes the step to a ring, after checking that the ring can be read.
fn step(keys: &[Key], stage: Stage, then: Stage) -> Result<Next, KeyRingError> {
    let ring = ring_text(keys);
    KeyRing::parse(&ring)?;
    Ok(Next { stage, then, ring: Some(ring), due: None, keeps: Vec::new() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const BARE: &str = "0123456789abcdef0123456789abcdef";
    const KNOWN: i64 = 420;
    const NOON: i64 = 1_795_262_400;

    fn next(text: &str, at: i64, asked: bool, elsewhere: usize, used: &[(&str, i64)]) -> Next {
        let used = used.iter().map(|(id, at)| ((*id).to_owned(), stamp(*at))).collect();
        let facts = Facts { asked, known_after: KNOWN, elsewhere, used: &used, fresh: &[7; FRESH_BYTES] };
        advance(text, stamp(at), &facts).unwrap()
    }

    /// Returns the id, state and phase of each key.
    fn shown(text: &str) -> Vec<(String, KeyState, Option<Phase>)> {
        KeyRing::parse(text).unwrap().iter().map(|key| (key.id.clone(), key.state, key.phase)).collect()
    }

    #[test]
    fn a_rotation_from_beginning_to_end() {
        let (old, new) = (KeyRing::parse(BARE).unwrap().signing().id().to_owned(), "k-20261121-070707".to_owned());
        assert!(next(BARE, NOON, false, 0, &[]).ring.is_none(), "nobody asked");
        let added = next(BARE, NOON, true, 0, &[]).ring.unwrap();
        let expected =
            vec![(old.clone(), KeyState::Sign, None), (new.clone(), KeyState::Verify, Some(Phase::Incoming))];
        assert_eq!(shown(&added), expected);
        assert_eq!(KeyRing::parse(&added).unwrap().signing().secret(), BARE.as_bytes(), "the former one is the same");

        let waiting = next(&added, NOON + KNOWN - 1, true, 0, &[]);
        assert_eq!((waiting.stage, waiting.due), (Stage::Waiting, Some(stamp(NOON + KNOWN))));
        assert!(waiting.ring.is_none() && waiting.keeps.len() == 1, "asked again, it is the same one");
        let begun = NOON + KNOWN;
        let moved = next(&added, begun, false, 9, &[]);
        assert_eq!((moved.stage, moved.then), (Stage::Waiting, Stage::Moving));
        let moved = moved.ring.unwrap();
        let expected =
            vec![(new.clone(), KeyState::Sign, None), (old.clone(), KeyState::Verify, Some(Phase::Outgoing))];
        assert_eq!(shown(&moved), expected);

        let quiet = QUIET_SECONDS + NOTED_EVERY_SECONDS;
        for (at, elsewhere, used, due, keeps) in [
            (begun, 0, None, begun + quiet, 1),
            (begun + quiet - 1, 0, None, begun + quiet, 1),
            (begun + quiet, 1, None, begun + quiet, 1),
            (begun + quiet, 0, Some(begun + 10), begun + 10 + quiet, 1),
            (begun + quiet, 3, Some(begun + 10), begun + 10 + quiet, 2),
        ] {
            let used: Vec<_> = used.map(|used| (old.as_str(), used)).into_iter().collect();
            let still = next(&moved, at, true, elsewhere, &used);
            assert_eq!((still.stage, still.due, still.keeps.len()), (Stage::Moving, Some(stamp(due)), keeps));
            assert!(still.ring.is_none());
        }
        // Uses from before the key became outgoing, and uses of the new key, do not count.
        let used = [(old.as_str(), begun - 10), (new.as_str(), begun + quiet)];
        let done = next(&moved, begun + quiet, false, 0, &used);
        assert_eq!(done.then, Stage::None);
        assert_eq!(shown(&done.ring.unwrap()), [(new, KeyState::Sign, None)]);
    }

    #[test]
    fn only_what_is_on_its_way_out_is_retired() {
        let added = next(BARE, NOON, true, 0, &[]).ring.unwrap();
        let moved = next(&added, NOON + KNOWN, false, 0, &[]).ring.unwrap();
        let (new, old) = (shown(&moved)[0].0.clone(), shown(&moved)[1].0.clone());
        for (text, id) in [(&added, old.as_str()), (&added, new.as_str()), (&moved, new.as_str()), (&moved, "unknown")]
        {
            assert!(retire(text, id).unwrap().is_none(), "{id}");
        }
        let retired = retire(&moved, &old).unwrap().unwrap();
        assert_eq!(shown(&retired), [(new, KeyState::Sign, None)]);
    }

    #[test]
    fn what_no_rotation_brought_stays() {
        let text = format!(
            r#"{{"keys":[{{"id":"a","state":"sign","secret":"{BARE}"}},{{"id":"b","state":"verify","secret":"{BARE}"}}]}}"#
        );
        let added = next(&text, NOON, true, 0, &[]).ring.unwrap();
        let moved = next(&added, NOON + KNOWN, false, 0, &[]).ring.unwrap();
        let done = next(&moved, NOON + 10 * QUIET_SECONDS, false, 0, &[]).ring.unwrap();
        let ids: Vec<_> = shown(&done).into_iter().map(|(id, ..)| id).collect();
        assert_eq!(ids, ["k-20261121-070707", "b"]);
    }

    #[test]
    fn of_what_was_entered_without_a_time_it_begins_now() {
        let text = format!(
            r#"{{"keys":[{{"id":"a","state":"sign","secret":"{BARE}"}},{{"id":"b","state":"verify","phase":"outgoing","secret":"{BARE}"}}]}}"#
        );
        let timed = next(&text, NOON, false, 0, &[]);
        assert_eq!((timed.stage, timed.then), (Stage::Moving, Stage::Moving));
        let timed = timed.ring.unwrap();
        assert_eq!(next(&timed, NOON + 1, false, 0, &[]).due, Some(stamp(NOON + QUIET_SECONDS + NOTED_EVERY_SECONDS)));
    }
}
