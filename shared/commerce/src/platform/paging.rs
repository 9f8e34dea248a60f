//! Positions in the platforms' lists, sorted by the time of the last change or by something that stays. Entries come, go
//! and change while a list is read, so pages are not counted: the next page begins with the last time of the one before.
//! Entries are counted only within one time, with an overlap.

use serde::{Deserialize, Serialize};

use crate::{http_call::Fault, timestamp::Timestamp, transfer::Listing};

/// The number of entries that may leave before the position while a page is under way, without one being skipped.
const OVERLAP: usize = 10;

/// The position in a list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, Default)]
pub struct PageCursor {
    /// The time from which changes count; absent means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// The time to continue at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Timestamp>,
    /// The number of entries read with that time.
    #[serde(default)]
    pub offset: usize,
    /// The size of the largest page so far: platforms may return fewer entries than were asked for.
    #[serde(default)]
    pub most: usize,
}

impl PageCursor {
    /// Returns the beginning of a list of all changes since a time, or of all entries.
    pub fn start(what: &str, since: Option<Timestamp>) -> Listing {
        Self { since, ..Self::default() }.listing(what)
    }

    /// Returns the list that continues here.
    pub fn listing(&self, what: &str) -> Listing {
        Listing::new(what, serde_json::to_string(self).ok())
    }

    /// Reads the position of a list.
    ///
    /// # Errors
    /// [`Fault::Unreadable`] where it has none.
    pub fn of(listing: &Listing) -> Result<Self, Fault> {
        let place = listing.cursor.as_deref().and_then(|text| serde_json::from_str(text).ok());
        place.ok_or_else(|| Fault::Unreadable(format!("the list {:?} has no cursor", listing.what)))
    }

    /// Returns the time to ask for, in UTC, in whole seconds and without a zone. Not every platform documents whether it
    /// includes the time itself, so this is a second earlier.
    pub fn from(&self) -> Option<String> {
        let from = self.after.or(self.since)?.seconds() - 1;
        Some(Timestamp::from_micros(from.saturating_mul(1_000_000)).to_string().trim_end_matches('Z').to_owned())
    }

    /// Returns whether an entry is older than any that was asked for: the platform then ignores the filter. Platforms
    /// compare whole seconds.
    pub fn is_passed_by(&self, time: Timestamp) -> bool {
        self.since.is_some_and(|since| time.seconds() < since.seconds() - 1)
    }

    /// Returns the number and the size of the page to ask for, where pages can be counted but entries cannot. The page
    /// begins at the position, or a little before.
    pub fn page(&self, largest: usize) -> (usize, usize) {
        if self.offset == 0 {
            return (1, largest);
        }
        let most = if self.most > 0 { self.most.min(largest) } else { largest };
        // The size whose page reaches furthest.
        let furthest = (1..=most).map(|size| (self.offset / size * size + size, size)).max();
        let size = furthest.map_or(1, |(_, size)| size);
        (self.offset / size + 1, size)
    }

    /// Returns the next position after a page that began at `begin`, was to have `asked` entries, and has entries with
    /// these times; `None` after the last page. Where the platform does not tell (`last`), a page is the last one when it
    /// has fewer entries than it could have, and none with a later time.
    #[must_use]
    pub fn next(self, begin: usize, asked: usize, times: &[Option<Timestamp>], last: Option<bool>) -> Option<Self> {
        let (count, most) = (times.len(), self.most.max(times.len()));
        let latest = times.last().copied().flatten().filter(|latest| self.after.is_none_or(|after| *latest > after));
        if count == 0 || last.unwrap_or(latest.is_none() && count < most.min(asked)) {
            return None;
        }
        let on = count - OVERLAP.min(count / 2);
        Some(match latest {
            // The whole page has one time.
            Some(latest) if times.first() == Some(&Some(latest)) => {
                Self { after: Some(latest), offset: on, most, ..self }
            }
            Some(latest) => Self { after: Some(latest), offset: 0, most, ..self },
            None => {
                let end = begin.saturating_add(count);
                let ahead = end.saturating_sub(self.offset);
                Self { offset: (end - OVERLAP.min(ahead / 2)).max(self.offset + 1), most, ..self }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rand_like::Numbers;

    use super::*;

    /// Numbers that are the same each time.
    mod rand_like {
        pub struct Numbers(pub u64);
        impl Numbers {
            pub fn below(&mut self, end: usize) -> usize {
                self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                usize::try_from(self.0 >> 33).unwrap() % end.max(1)
            }
        }
    }

    /// Goes through a list of entries, by (time, id), that change, come and go while it is gone through. Gives what was found.
    fn walk(seed: u64, cap: usize, counted: bool, timed: bool) -> (Vec<usize>, Vec<usize>) {
        let mut random = Numbers(seed);
        let mut entries: Vec<(i64, usize)> = (0..60).map(|id| (random.below(5) as i64, id)).collect();
        let (mut found, mut now, mut next_id) = (Vec::new(), 5, 60);
        let mut place = PageCursor::default();
        for round in 0..1000 {
            assert!(round < 999, "there is no end of it");
            if timed {
                entries.sort_unstable()
            } else {
                entries.sort_unstable_by_key(|(_, id)| *id)
            }
            let from = place.after.map(|after| after.seconds() - 1);
            let listed: Vec<_> = entries.iter().filter(|(at, _)| !timed || Some(*at) >= from).collect();
            let (number, size) = place.page(20);
            let per_page = size.min(cap);
            let begin = if counted { place.offset } else { (number - 1) * per_page };
            let page: Vec<_> = listed.iter().skip(begin).take(if counted { cap } else { per_page }).collect();
            found.extend(page.iter().map(|(_, id)| *id));
            let times: Vec<_> = page.iter().map(|(at, _)| timed.then(|| Timestamp::from_millis(at * 1000))).collect();
            let last = counted.then(|| begin + page.len() >= listed.len());
            let Some(next) = place.next(begin, per_page, &times, last) else { break };
            place = next;
            // One or two entries go or change between two pages.
            for _ in 0..random.below(3).min(if counted { cap / 3 } else { cap / 7 }) {
                let at = random.below(entries.len());
                match random.below(3) {
                    0 if !entries.is_empty() => _ = entries.remove(at),
                    1 if now < 40 => {
                        now += 1;
                        entries.push((now, next_id));
                        next_id += 1;
                    }
                    _ if now < 40 && at < entries.len() => {
                        now += 1;
                        entries[at].0 = now;
                    }
                    _ => {}
                }
            }
        }
        (found, entries.into_iter().map(|(_, id)| id).collect())
    }

    #[test]
    fn nothing_is_passed_over_whatever_comes_goes_and_changes_meanwhile() {
        for seed in 0..300 {
            for cap in [1, 3, 7, 20] {
                // Where only pages can be counted, very small ones cannot overlap.
                let modes = [(true, true), (true, false), (false, true), (false, false)];
                for (counted, timed) in modes.into_iter().filter(|(counted, _)| *counted || cap > 3) {
                    let (found, there) = walk(seed, cap, counted, timed);
                    let lost: Vec<_> = there.iter().filter(|id| !found.contains(id)).collect();
                    assert!(lost.is_empty(), "seed {seed}, pages of {cap}, {counted} {timed}: {lost:?}");
                }
            }
        }
    }

    #[test]
    fn a_page_begins_at_its_place_or_a_little_before() {
        for (offset, most) in [(0, 0), (1, 1), (240, 250), (470, 250), (999, 37), (3, 250)] {
            let (number, size) = PageCursor { offset, most, ..PageCursor::default() }.page(250);
            let begin = (number - 1) * size;
            assert!(begin <= offset && begin + size > offset && size <= 250, "{offset} {most}: {number} of {size}");
        }
    }

    #[test]
    fn times_are_asked_for_from_a_second_before() {
        let place = PageCursor { since: Some(Timestamp::from_millis(1_795_225_719_500)), ..PageCursor::default() };
        assert_eq!(place.from().unwrap(), "2026-11-21T01:48:38");
        let time = |millis: i64| Timestamp::from_millis(1_795_225_718_000 + millis);
        assert!(!place.is_passed_by(time(0)) && place.is_passed_by(time(-1)), "what was asked for is taken");
        assert_eq!(PageCursor::of(&place.listing("x")), Ok(place));
        assert!(PageCursor::of(&Listing::new("x", None)).is_err());
    }
}
