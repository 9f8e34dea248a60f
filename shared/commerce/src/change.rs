//! Owns the merge: changes of one entity become its state, in any order and number.
//!
//! A [`State`] is a join of its parts, each joined by taking the greater. So [`State::join`] is idempotent, commutative
//! and associative, and merging a change is joining the state that the change alone would make. The visible state
//! ([`State::visible`]) is derived from the parts, never stored as a flag of its own. `ARCHITECTURE.md` explains it at
//! length, with the simpler rules that fail; each of those is a test below.
//!
//! Contents are shared, because merging copies states freely and a content can take much memory.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{entity::Content, outcome::Outcome, timestamp::Timestamp};

/// The greatest lead of a source's time over its receipt, in seconds. A time further ahead comes from a broken clock,
/// and the time of receipt replaces it.
pub const MAX_SOURCE_LEAD_SECONDS: i64 = 24 * 60 * 60;

/// Something that happened to one entity.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// The entity has, or had, this content.
    Upsert(Upsert),
    /// The entity is gone.
    Delete(Delete),
    /// The entity was restored, with unknown content.
    Restore {
        /// The moment of observation.
        received: Timestamp,
    },
}

/// The entity with its fields, at a time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Upsert {
    /// The time at which the source changed it, by the source's clock.
    pub source: Option<Timestamp>,
    /// The moment of observation. For a pull: the instant before the first request.
    pub received: Timestamp,
    /// `true` when the source vouches that the entity exists at `received` (pull, poll, restored).
    pub observed: bool,
    /// The mapping's number. It rises when the mapping's output changes, so that a replay wins over the old mapping of
    /// the same delivery.
    pub mapping: u32,
    /// The canonical fields, without the volatile ones. For a partial payload: its facets put together.
    pub content: Arc<Content>,
    /// The facets of a partial payload, by name. Empty for a full one.
    pub facets: Facets,
}

/// Fields that always travel together (an order's core, `payment#9`), as a facet under its name. A facet of one name
/// has the same fields each time; a field that became empty is `null` in it.
pub type Facets = BTreeMap<String, Arc<Content>>;

/// The entity's end, at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Delete {
    /// The time at which the source deleted it, by the clock that also dates its upserts.
    pub source: Option<Timestamp>,
    /// The moment of observation.
    pub received: Timestamp,
}

impl Upsert {
    /// Makes the upsert of a partial payload: at least one facet, and nothing about all else.
    pub fn partial(
        source: Option<Timestamp>,
        received: Timestamp,
        observed: bool,
        mapping: u32,
        facets: Facets,
    ) -> Self {
        let mut content = Content::default();
        facets.values().for_each(|facet| content.overlay(facet));
        Self { source, received, observed, mapping, content: content.into(), facets }
    }
}

impl Change {
    /// Returns the moment of observation.
    pub fn received(&self) -> Timestamp {
        match self {
            Self::Upsert(upsert) => upsert.received,
            Self::Delete(delete) => delete.received,
            Self::Restore { received } => *received,
        }
    }

    /// Returns whether the source's clock was too far ahead to be trusted.
    pub fn is_clamped(&self) -> bool {
        let (source, received) = match self {
            Self::Upsert(upsert) => (upsert.source, upsert.received),
            Self::Delete(delete) => (delete.source, delete.received),
            Self::Restore { .. } => return false,
        };
        clamp(source, received) != source
    }
}

fn clamp(source: Option<Timestamp>, received: Timestamp) -> Option<Timestamp> {
    source.map(|at| if at > received.plus_seconds(MAX_SOURCE_LEAD_SECONDS) { received } else { at })
}

/// The place of an upsert in the total order: the greater wins. The derived order compares the fields from the top, and
/// an absent rank is below every dated one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Version {
    /// The source's time, clamped.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<Timestamp>,
    /// The moment of observation.
    #[serde(rename = "r")]
    pub received: Timestamp,
    /// The mapping's number.
    #[serde(rename = "m")]
    pub mapping: u32,
    /// The hash of the content, which makes the order total.
    #[serde(rename = "h")]
    pub hash: String,
}

/// The greatest upsert seen so far, of the whole entity or of one facet.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Winner {
    /// The upsert's place in the order.
    #[serde(rename = "v")]
    pub version: Version,
    /// The upsert's content, or `None` when a policy has dropped it.
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Arc<Content>>,
    /// The substitute for a dropped content: the greatest other content that was merged.
    #[serde(rename = "i", default, skip_serializing_if = "Option::is_none")]
    pub instead: Option<Box<StandIn>>,
}

/// A content that is shown in place of the winner's dropped one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StandIn {
    /// The content's place in the order.
    #[serde(rename = "v")]
    pub version: Version,
    /// The content.
    #[serde(rename = "c")]
    pub content: Arc<Content>,
}

impl Winner {
    /// Makes a winner with its content.
    pub fn new(version: Version, content: impl Into<Arc<Content>>) -> Self {
        Self { version, content: Some(content.into()), instead: None }
    }

    /// Returns the content to show: the winner's, or its substitute.
    pub fn shown(&self) -> Option<&Content> {
        self.content.as_deref().or_else(|| self.instead.as_ref().map(|stand_in| &*stand_in.content))
    }
}

/// The state of one entity: a join. An absent value counts as before all time.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct State {
    /// The greatest upsert with a full payload.
    pub win: Option<Winner>,
    /// The greatest upsert of each facet, where it is above `win`.
    pub facets: BTreeMap<String, Winner>,
    /// The times that are joined beside the upserts.
    pub marks: Marks,
}

/// The marks of a state. Each is a maximum, except `first`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Marks {
    /// The least `received` among upserts of the leading rank, the greatest of all winners, because a copy that is
    /// delivered again must not outlive a delete.
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    pub first: Option<Timestamp>,
    /// The last `received` of an observed upsert or a restore.
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<Timestamp>,
    /// The last `received` of a delete without a source time.
    #[serde(rename = "g", default, skip_serializing_if = "Option::is_none")]
    pub gone: Option<Timestamp>,
    /// The last source time of a delete that has one.
    #[serde(rename = "gs", default, skip_serializing_if = "Option::is_none")]
    pub gone_source: Option<Timestamp>,
    /// The last `received` of a delete that has a source time.
    #[serde(rename = "gd", default, skip_serializing_if = "Option::is_none")]
    pub gone_dated: Option<Timestamp>,
}

/// A reader's view of the state: `true` when it is deleted, and the hash of its content.
pub type Visible<'a> = (bool, Option<Cow<'a, str>>);

/// A state after a change, with the change's outcome.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Merged {
    /// The state with the change in it. It must be written whenever it differs from the one before, whatever the
    /// outcome.
    pub state: State,
    /// The outcome: `applied`, `unchanged` or `superseded`.
    pub outcome: Outcome,
    /// `true` when two different contents claim the same source time, so only the source can tell which is newer.
    pub tied: bool,
}

impl State {
    /// Returns the state that a change alone makes.
    pub fn of(change: &Change) -> Self {
        let mut state = Self::default();
        match change {
            Change::Upsert(upsert) => {
                let winner = |content: &Arc<Content>| {
                    let version = Version {
                        rank: clamp(upsert.source, upsert.received),
                        received: upsert.received,
                        mapping: upsert.mapping,
                        hash: content.hash(),
                    };
                    Winner::new(version, Arc::clone(content))
                };
                state.marks.first = Some(upsert.received);
                state.marks.seen = upsert.observed.then_some(upsert.received);
                if upsert.facets.is_empty() {
                    state.win = Some(winner(&upsert.content));
                } else {
                    state.facets =
                        upsert.facets.iter().map(|(name, content)| (name.clone(), winner(content))).collect();
                }
            }
            Change::Delete(Delete { source: None, received }) => state.marks.gone = Some(*received),
            Change::Delete(Delete { source, received }) => {
                state.marks.gone_source = clamp(*source, *received);
                state.marks.gone_dated = Some(*received);
            }
            Change::Restore { received } => state.marks.seen = Some(*received),
        }
        state
    }

    /// Returns the least state that contains both.
    ///
    /// The full winner is a floor: a facet that is not above it is gone. Floors only grow, and what is below one floor
    /// is below every later one, so the moment at which a facet is dropped does not matter: this is still a join.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        let first = match self.lead().cmp(&other.lead()) {
            std::cmp::Ordering::Greater => self.marks.first,
            std::cmp::Ordering::Less => other.marks.first,
            std::cmp::Ordering::Equal => self.marks.first.min(other.marks.first),
        };
        let marks = Marks {
            first,
            seen: self.marks.seen.max(other.marks.seen),
            gone: self.marks.gone.max(other.marks.gone),
            gone_source: self.marks.gone_source.max(other.marks.gone_source),
            gone_dated: self.marks.gone_dated.max(other.marks.gone_dated),
        };
        let win = greater(self.win, other.win);
        let mut facets = self.facets;
        for (name, theirs) in other.facets {
            let ours = facets.remove(&name);
            facets.extend(greater(ours, Some(theirs)).map(|winner| (name, winner)));
        }
        if let Some(floor) = &win {
            facets.retain(|_, facet| facet.version > floor.version);
        }
        Self { win, facets, marks }
    }

    /// Returns the greatest rank of all upserts, to which `first` belongs, or `None` without any upsert. Dropping a
    /// facet never lowers it, because the facet's version was not above the floor's, nor was its rank, and the floor
    /// itself counts.
    pub fn lead(&self) -> Option<Option<Timestamp>> {
        self.win.iter().chain(self.facets.values()).map(|winner| winner.version.rank).max()
    }

    /// Returns the content that a reader sees: the full winner's, with the facets put over it in ascending order.
    /// Returns `None` when there is no content, or when it was dropped and nothing substitutes for it.
    pub fn content(&self) -> Option<Cow<'_, Content>> {
        let full = self.win.as_ref().and_then(Winner::shown);
        if self.facets.is_empty() {
            return full.map(Cow::Borrowed);
        }
        let mut facets: Vec<&Winner> = self.facets.values().collect();
        facets.sort_by(|a, b| a.version.cmp(&b.version));
        let facets: Vec<&Content> = facets.into_iter().filter_map(Winner::shown).collect();
        if full.is_none() && facets.is_empty() {
            return None;
        }
        let mut content = full.cloned().unwrap_or_default();
        facets.into_iter().for_each(|facet| content.overlay(facet));
        Some(Cow::Owned(content.without_empty()))
    }

    /// Returns the latest time that any of its parts was received, by whichever clock.
    pub fn latest(&self) -> Option<Timestamp> {
        let Marks { first, seen, gone, gone_source: _, gone_dated } = self.marks;
        let winners = self.win.iter().chain(self.facets.values());
        winners.map(|winner| Some(winner.version.received)).chain([first, seen, gone, gone_dated]).flatten().max()
    }

    /// Returns whether a winner's content was dropped and has not come again.
    pub fn lacks_content(&self) -> bool {
        self.win.iter().chain(self.facets.values()).any(|winner| winner.content.is_none())
    }

    /// Returns the state without any content, but with all that decides merges.
    #[must_use]
    pub fn without_content(&self) -> Self {
        let bare = |winner: &Winner| Winner { version: winner.version.clone(), content: None, instead: None };
        let facets = self.facets.iter().map(|(name, facet)| (name.clone(), bare(facet))).collect();
        Self { win: self.win.as_ref().map(bare), facets, marks: self.marks }
    }

    /// Returns the state in which a content that is not what its version says counts as before all others, because
    /// somebody altered it.
    #[must_use]
    pub fn distrusting(mut self) -> Self {
        for winner in self.win.iter_mut().chain(self.facets.values_mut()) {
            if winner.content.as_ref().is_some_and(|content| content.hash() != winner.version.hash) {
                winner.version = Version { rank: None, hash: String::new(), ..winner.version.clone() };
            }
        }
        self
    }

    /// Returns all contents, also those that no reader sees.
    pub fn contents(&self) -> impl Iterator<Item = &Content> {
        let winners = self.win.iter().chain(self.facets.values());
        winners.flat_map(|winner| {
            winner.content.as_deref().into_iter().chain(winner.instead.as_deref().map(|stand_in| &*stand_in.content))
        })
    }

    /// Returns the state with other contents, and with all that decides merges.
    #[must_use]
    pub fn with_contents(&self, of: impl Fn(&Content) -> Content) -> Self {
        let shown =
            |stand_in: &StandIn| StandIn { version: stand_in.version.clone(), content: of(&stand_in.content).into() };
        let winner = |winner: &Winner| Winner {
            version: winner.version.clone(),
            content: winner.content.as_deref().map(|content| of(content).into()),
            instead: winner.instead.as_deref().map(|stand_in| Box::new(shown(stand_in))),
        };
        let facets = self.facets.iter().map(|(name, facet)| (name.clone(), winner(facet))).collect();
        Self { win: self.win.as_ref().map(winner), facets, marks: self.marks }
    }

    /// Returns whether the entity is deleted, according to all changes so far.
    pub fn is_deleted(&self) -> bool {
        let Marks { first, seen, gone, gone_source, gone_dated } = self.marks;
        // `None` is less than every `Some`: absent is before all time.
        let by_receipt = gone.is_some() && gone >= first && gone > seen;
        let by_source = gone_dated > seen
            && match self.lead().flatten() {
                Some(rank) => gone_source >= Some(rank),
                None => gone_dated >= first,
            };
        by_receipt || by_source
    }

    /// Returns a reader's view of the state.
    pub fn visible(&self) -> Visible<'_> {
        let hash = match &self.win {
            Some(win) if self.facets.is_empty() && win.content.is_some() => {
                Some(Cow::Borrowed(win.version.hash.as_str()))
            }
            _ => self.content().map(|content| Cow::Owned(content.hash())),
        };
        (self.is_deleted(), hash)
    }

    /// Merges one change. The outcome is for a reader who sees the state as it is.
    pub fn merge(&self, change: &Change) -> Merged {
        self.merge_as(change, |state| {
            let (deleted, hash) = state.visible();
            (deleted, hash.map(Cow::into_owned))
        })
    }

    /// Merges one change. The outcome is for a reader who sees `shown` of a state.
    pub fn merge_as<V: PartialEq>(&self, change: &Change, shown: impl Fn(&Self) -> V) -> Merged {
        let alone = Self::of(change);
        let tied = match change {
            Change::Upsert(upsert) if !upsert.observed => {
                is_tied(self.win.as_ref(), alone.win.as_ref())
                    || alone.facets.iter().any(|(name, new)| is_tied(self.facets.get(name), Some(new)))
            }
            _ => false,
        };
        let incoming = alone.win.as_ref().map(|win| win.version.hash.clone());
        let state = self.clone().join(alone);
        let in_force = match change {
            Change::Upsert(upsert) if upsert.facets.is_empty() => {
                state.win.as_ref().map(|win| &win.version.hash) == incoming.as_ref()
            }
            Change::Upsert(upsert) => state.says(&upsert.content),
            Change::Delete(_) => state.is_deleted(),
            Change::Restore { .. } => !state.is_deleted(),
        };
        let outcome = if shown(&state) != shown(self) {
            Outcome::Applied
        } else if in_force {
            Outcome::Unchanged
        } else {
            Outcome::Superseded
        };
        Merged { state, outcome, tied }
    }

    /// Returns whether the state keeps the content of a change.
    pub fn keeps(&self, change: &Change) -> bool {
        let Self { win, facets, .. } = Self::of(change);
        let version = |winner: &Winner| winner.version.clone();
        win.is_some() && win.as_ref().map(version) == self.win.as_ref().map(version)
            || facets.iter().any(|(name, new)| self.facets.get(name).map(version) == Some(version(new)))
    }

    /// Returns whether a reader sees all values of the facets, whichever facets they come from.
    fn says(&self, facets: &Content) -> bool {
        self.content().is_some_and(|content| {
            let mut with = content.clone().into_owned();
            with.overlay(facets);
            with.without_empty() == *content
        })
    }
}

/// Returns whether two different contents of the same thing claim the same source time.
fn is_tied(stored: Option<&Winner>, new: Option<&Winner>) -> bool {
    let (Some(Winner { version: stored, .. }), Some(Winner { version: new, .. })) = (stored, new) else { return false };
    stored.rank.is_some() && stored.rank == new.rank && stored.mapping == new.mapping && stored.hash != new.hash
}

/// Returns the greater of two winners. If its content was dropped, the greatest other content substitutes for it, until
/// the same version comes with its content.
fn greater(one: Option<Winner>, other: Option<Winner>) -> Option<Winner> {
    let (one, other) = match (one, other) {
        (Some(one), Some(other)) => (one, other),
        (one, other) => return one.or(other),
    };
    let (mut win, less) = if one.version >= other.version { (one, other) } else { (other, one) };
    if win.content.is_some() {
        return Some(win);
    }
    if less.version == win.version && less.content.is_some() {
        return Some(less);
    }
    let less_own = less.content.map(|content| Box::new(StandIn { version: less.version, content }));
    let all = [win.instead.take(), less.instead, less_own];
    win.instead = all.into_iter().flatten().max_by(|a, b| a.version.cmp(&b.version));
    Some(win)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::{collection::vec, prelude::*, sample::Index};
    use serde_json::json;

    use super::*;

    fn content(text: &str) -> Content {
        let serde_json::Value::Object(fields) = json!({ "name": text }) else { unreachable!() };
        Content { fields, ..Content::default() }
    }

    const fn at(n: i64) -> Timestamp {
        Timestamp::from_micros(n * 1_000_000)
    }

    /// Makes `U(source, received, content)`, as in the table of `ARCHITECTURE.md`.
    fn u(source: impl Into<Option<i64>>, received: i64, text: &str) -> Change {
        Change::Upsert(Upsert {
            source: source.into().map(at),
            received: at(received),
            observed: false,
            mapping: 1,
            content: content(text).into(),
            facets: Facets::new(),
        })
    }

    fn observed(source: impl Into<Option<i64>>, received: i64, text: &str) -> Change {
        let Change::Upsert(upsert) = u(source, received, text) else { unreachable!() };
        Change::Upsert(Upsert { observed: true, ..upsert })
    }

    /// Makes a partial payload with these facets.
    fn part(source: impl Into<Option<i64>>, received: i64, facets: &[(&str, serde_json::Value)]) -> Change {
        let content =
            |fields: &serde_json::Value| Content::facet(fields.as_object().unwrap().clone(), Default::default());
        let facets = facets.iter().map(|(name, fields)| ((*name).to_owned(), content(fields).into())).collect();
        Change::Upsert(Upsert::partial(source.into().map(at), at(received), false, 1, facets))
    }

    /// Returns the fields that a reader sees after these changes, in any order.
    fn fields(changes: &[Change]) -> serde_json::Value {
        all_orders(changes).content().map(|content| content.fields.clone().into()).unwrap_or_default()
    }

    fn d(received: i64) -> Change {
        Change::Delete(Delete { source: None, received: at(received) })
    }

    fn dated(source: i64, received: i64) -> Change {
        Change::Delete(Delete { source: Some(at(source)), received: at(received) })
    }

    fn restore(received: i64) -> Change {
        Change::Restore { received: at(received) }
    }

    fn fold<'a>(changes: impl IntoIterator<Item = &'a Change>) -> State {
        changes.into_iter().fold(State::default(), |state, change| state.merge(change).state)
    }

    /// Merges a few changes in every order, and checks that all end in one state.
    fn all_orders(changes: &[Change]) -> State {
        let mut orders = vec![vec![]];
        for change in changes {
            orders = orders
                .into_iter()
                .flat_map(|order: Vec<&Change>| {
                    (0..=order.len()).map(move |place| {
                        let mut order = order.clone();
                        order.insert(place, change);
                        order
                    })
                })
                .collect();
        }
        let end = fold(changes);
        for order in orders {
            assert_eq!(fold(order.iter().copied()), end, "{order:?}");
        }
        end
    }

    /// Returns a reader's view after these changes, in any order.
    fn any_order(changes: &[Change]) -> (bool, Option<String>) {
        let end = all_orders(changes);
        let text = end.content().map(|content| content.fields["name"].as_str().unwrap().to_owned());
        (end.is_deleted(), text)
    }

    fn alive(text: &str) -> (bool, Option<String>) {
        (false, Some(text.to_owned()))
    }

    fn deleted(text: &str) -> (bool, Option<String>) {
        (true, Some(text.to_owned()))
    }

    mod simpler_rules_fail {
        use super::*;

        #[test]
        fn compare_source_times_if_both_have_one_else_receipts() {
            assert_eq!(any_order(&[u(2, 1, "B"), u(None, 2, "A"), u(1, 3, "A")]), alive("B"));
        }

        #[test]
        fn on_a_full_tie_the_stored_or_the_incoming_stays() {
            let (gone, text) = any_order(&[u(None, 1, "A"), u(None, 1, "B")]);
            let greater = if content("A").hash() > content("B").hash() { "A" } else { "B" };
            assert_eq!((gone, text.as_deref()), (false, Some(greater)));
        }

        #[test]
        fn write_nothing_when_the_content_did_not_change() {
            assert_eq!(any_order(&[u(1, 1, "12.90"), u(3, 3, "12.90"), u(2, 2, "13.50")]), alive("12.90"));
        }

        #[test]
        fn equal_content_keeps_its_first_receipt() {
            assert_eq!(any_order(&[u(1, 1, "A"), u(1, 2, "B"), u(1, 3, "A")]), alive("A"));
        }

        #[test]
        fn a_superseded_delete_is_not_recorded() {
            assert_eq!(any_order(&[u(1, 3, "A"), d(2), u(2, 1, "A")]), deleted("A"));
        }

        #[test]
        fn a_late_upsert_on_a_tombstone_is_not_recorded() {
            assert_eq!(any_order(&[d(2), u(2, 1, "A"), u(1, 3, "A")]), deleted("A"));
        }

        #[test]
        fn deleted_is_a_stored_flag() {
            assert_eq!(any_order(&[d(2), u(1, 1, "A")]), deleted("A"));
        }

        #[test]
        fn the_version_is_the_greatest_source_and_the_greatest_receipt() {
            assert_eq!(any_order(&[u(2, 1, "A"), u(1, 3, "A"), u(2, 2, "B")]), alive("B"));
        }

        #[test]
        fn deleted_iff_the_delete_was_received_after_the_winner() {
            assert_eq!(any_order(&[u(1, 1, "A"), d(2), u(1, 3, "A")]), deleted("A"));
        }

        #[test]
        fn deleted_by_comparing_the_delete_s_receipt_with_source_time() {
            assert_eq!(any_order(&[u(100, 51, "A"), d(60)]), deleted("A"));
        }

        #[test]
        fn a_missing_source_time_counts_as_its_receipt() {
            assert_eq!(any_order(&[u(None, 105, "registered"), u(104, 107, "checkout")]), alive("checkout"));
        }

        #[test]
        fn received_of_a_pull_is_its_end() {
            // The pull began at 1 and was answered at 3; the delete came at 2.
            assert_eq!(any_order(&[observed(1, 1, "A"), d(2)]), deleted("A"));
            assert_eq!(any_order(&[observed(1, 3, "A"), d(2)]), alive("A"));
        }

        #[test]
        fn partial_payload_older_dropped_or_older_fills_gaps() {
            let payment = part(2, 1, &[("payment#9", json!({"payments": {"9": {"status": "Paid"}}}))]);
            let order = part(1, 2, &[("core", json!({"status": "Pending"}))]);
            let both = json!({"status": "Pending", "payments": {"9": {"status": "Paid"}}});
            assert_eq!(fields(&[payment, order]), both);
            let status = part(3, 1, &[("core.status", json!({"status": "Paid"}))]);
            let customer = |n: i64| part(n, 2, &[("core.customer", json!({"customer": n.to_string()}))]);
            assert_eq!(fields(&[status, customer(1), customer(2)]), json!({"status": "Paid", "customer": "2"}));
        }
    }

    #[test]
    fn a_full_payload_is_the_floor_of_facets() {
        let older = part(1, 1, &[("core", json!({"name": "older", "note": "x"}))]);
        let newer = part(3, 1, &[("core", json!({"name": "newer", "note": null}))]);
        let full = u(2, 2, "full");
        assert_eq!(fields(&[older.clone(), full.clone()]), json!({"name": "full"}));
        assert_eq!(fields(&[older.clone(), newer, full]), json!({"name": "newer"}));
        // The leading upsert decides about deletes, whether it is full or a facet.
        assert_eq!(any_order(&[u(1, 1, "A"), part(5, 1, &[("a", json!({"b": 1}))]), dated(4, 9)]), alive("A"));
        assert_eq!(any_order(&[u(1, 1, "A"), part(5, 1, &[("a", json!({"b": 1}))]), dated(5, 9)]), deleted("A"));
    }

    #[test]
    fn outcomes_of_facets() {
        let core = |source: i64, name: &str| part(source, source, &[("core", json!({"name": name}))]);
        let pay = |source: i64, status: &str| part(source, source, &[("payment#9", json!({"paid": status}))]);
        let mut state = State::default();
        let mut outcomes = vec![];
        for change in [
            core(2, "B"),
            core(1, "A"),
            core(1, "B"),
            pay(1, "no"),
            core(2, "B"),
            u(5, 5, "C"),
            pay(4, "yes"),
            core(4, "C"),
        ] {
            let merged = state.merge(&change);
            outcomes.push(merged.outcome.name());
            state = merged.state;
        }
        assert_eq!(outcomes.join(" "), "applied superseded unchanged applied unchanged applied superseded unchanged");
        let tied = |before: Change, after: Change| State::of(&before).merge(&after).tied;
        assert!(tied(core(1, "A"), core(1, "B")));
        assert!(!tied(core(1, "A"), pay(1, "no")) && !tied(core(1, "A"), u(1, 1, "B")));
    }

    #[test]
    fn ties_between_marks() {
        assert_eq!(any_order(&[u(1, 2, "A"), d(2)]), deleted("A"));
        assert_eq!(any_order(&[u(1, 1, "A"), d(2), restore(2)]), alive("A"));
        assert_eq!(any_order(&[d(1)]), (true, None));
        assert_eq!(any_order(&[restore(1)]), (false, None));
    }

    #[test]
    fn deletes_with_the_clock_of_the_upserts() {
        assert_eq!(any_order(&[u(5, 1, "A"), dated(4, 9)]), alive("A"));
        assert_eq!(any_order(&[u(5, 1, "A"), dated(5, 2)]), deleted("A"));
        assert_eq!(any_order(&[u(None, 1, "A"), dated(5, 2)]), deleted("A"));
        assert_eq!(any_order(&[dated(5, 2), u(None, 3, "A")]), alive("A"));
        assert_eq!(any_order(&[u(5, 1, "A"), dated(6, 2), restore(3)]), alive("A"));
    }

    #[test]
    fn a_broken_clock_does_not_win_for_ever() {
        let year = 365 * 24 * 60 * 60;
        assert!(u(year, 1, "future").is_clamped() && dated(year, 1).is_clamped() && !u(86_401, 1, "ok").is_clamped());
        assert_eq!(any_order(&[u(year, 1, "future"), u(2, 2, "now")]), alive("now"));
    }

    #[test]
    fn outcomes() {
        let run = |changes: &[Change]| {
            let mut state = State::default();
            let mut outcomes = vec![];
            for change in changes {
                let merged = state.merge(change);
                outcomes.push(merged.outcome.name());
                state = merged.state;
            }
            outcomes.join(" ")
        };
        assert_eq!(
            run(&[u(1, 1, "A"), u(1, 1, "A"), u(2, 2, "A"), u(3, 3, "B")]),
            "applied unchanged unchanged applied"
        );
        assert_eq!(run(&[u(2, 1, "B"), u(1, 2, "A")]), "applied superseded");
        assert_eq!(run(&[u(1, 1, "A"), d(2), d(3), restore(4), d(3)]), "applied applied unchanged applied superseded");
        assert_eq!(run(&[u(1, 1, "A"), d(2), restore(1)]), "applied applied superseded");
        // A loser and a winner on a tombstone are still recorded.
        assert_eq!(run(&[d(2), u(1, 1, "A"), u(2, 1, "A"), u(3, 3, "A")]), "applied applied unchanged applied");
    }

    #[test]
    fn only_different_content_at_one_source_time_is_tied() {
        let tied = |before: Change, after: Change| State::of(&before).merge(&after).tied;
        assert!(tied(u(1, 1, "A"), u(1, 2, "B")));
        assert!(!tied(u(1, 1, "A"), u(1, 2, "A")));
        assert!(!tied(u(1, 1, "A"), u(2, 2, "B")));
        assert!(!tied(u(None, 1, "A"), u(None, 2, "B")));
        assert!(!tied(u(1, 1, "A"), observed(1, 2, "B")));
    }

    #[test]
    fn what_has_won_is_kept() {
        let facet = |source: i64| part(source, 1, &[("a", json!({"b": source}))]);
        let state = fold(&[u(1, 1, "A"), u(2, 2, "B"), facet(3), facet(4)]);
        let kept = |change: Change| state.keeps(&change);
        assert!(kept(u(2, 2, "B")) && kept(facet(4)));
        assert!(!kept(u(1, 1, "A")) && !kept(facet(3)) && !kept(d(9)) && !State::default().keeps(&d(9)));
    }

    // The few distinct values make ties of every kind common.
    fn upserts() -> impl Strategy<Value = Change> {
        let far = MAX_SOURCE_LEAD_SECONDS + 100;
        let source = prop_oneof![Just(None), (0_i64..6).prop_map(Some), Just(Some(far))];
        (source, 0_i64..6, any::<bool>(), 1_u32..3, 0_usize..3).prop_map(
            |(source, received, observed, mapping, text)| {
                let Change::Upsert(upsert) = u(source, received, ["A", "B", "C"][text]) else { unreachable!() };
                Change::Upsert(Upsert { observed, mapping, ..upsert })
            },
        )
    }

    /// Makes partial payloads: facets that share no field, one that is part of another, and several at once; values and
    /// `null`s.
    fn partials() -> impl Strategy<Value = Change> {
        let value = |n: usize| [json!(null), json!("A"), json!("B")][n].clone();
        let facets = (0_usize..6, 0_usize..3, 0_usize..3).prop_map(move |(which, a, b)| {
            let core = || ("core", json!({"name": value(a), "note": value(b)}));
            let payment = |id: &str| json!({"payments": {id: {"status": value(a), "kind": value(b)}}});
            match which {
                0 => vec![core()],
                1 => vec![("core.name", json!({"name": value(a)}))],
                2 => vec![("core.note", json!({"note": value(b)}))],
                3 => vec![("payment#1", payment("1"))],
                4 => vec![("payment#2", payment("2"))],
                _ => vec![("core.name", json!({"name": value(b)})), ("payment#1", payment("1"))],
            }
        });
        (upserts(), facets).prop_map(|(dated, facets)| {
            let (Change::Upsert(dated), Change::Upsert(facets)) = (dated, part(None, 0, &facets)) else {
                unreachable!()
            };
            let Upsert { source, received, observed, mapping, .. } = dated;
            Change::Upsert(Upsert::partial(source, received, observed, mapping, facets.facets))
        })
    }

    fn changes() -> impl Strategy<Value = Change> {
        prop_oneof![
            4 => upserts(),
            4 => partials(),
            2 => (0_i64..6).prop_map(d),
            1 => (0_i64..6, 0_i64..6).prop_map(|(source, received)| dated(source, received)),
            1 => (0_i64..6).prop_map(restore),
        ]
    }

    fn states() -> impl Strategy<Value = State> {
        vec(changes(), 0..5).prop_map(|changes| fold(&changes))
    }

    /// Merges the same changes in another order, some of them again, cut into batches that are merged on their own.
    fn shuffled(changes: &[Change], order: &[Index], cut: Index) -> State {
        let mut rest: Vec<&Change> = changes.iter().collect();
        let mut sequence = vec![];
        for index in order {
            sequence.push(index.get(changes));
            if !rest.is_empty() {
                sequence.push(rest.remove(index.index(rest.len())));
            }
        }
        sequence.extend(rest);
        let cut = cut.index(sequence.len() + 1);
        fold(sequence[..cut].iter().copied()).join(fold(sequence[cut..].iter().copied()))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        // 1. Any permutation, duplication and batch split gives the same full state.
        #[test]
        fn order_number_and_batches_do_not_matter(changes in vec(changes(), 1..9), order in vec(any::<Index>(), 9), cut in any::<Index>()) {
            prop_assert_eq!(shuffled(&changes, &order, cut), fold(&changes));
        }

        // 2. The join laws; the order is total; merging twice equals once, and the second is never `applied`.
        #[test]
        fn states_are_a_semilattice(a in states(), b in states(), c in states()) {
            prop_assert_eq!(a.clone().join(a.clone()), a.clone());
            prop_assert_eq!(a.clone().join(b.clone()), b.clone().join(a.clone()));
            prop_assert_eq!(a.clone().join(b.clone()).join(c.clone()), a.clone().join(b.clone().join(c.clone())));
            prop_assert_eq!(State::default().join(a.clone()), a);
        }

        #[test]
        fn facets_have_the_same_order(a in partials(), b in partials()) {
            for one in State::of(&a).facets.values() {
                for other in State::of(&b).facets.values().filter(|other| other.version == one.version) {
                    prop_assert_eq!(&one.content, &other.content);
                }
            }
        }

        #[test]
        fn the_order_is_total_up_to_equal_content(a in upserts(), b in upserts()) {
            let (a, b) = (State::of(&a).win.unwrap(), State::of(&b).win.unwrap());
            if a.version == b.version { prop_assert_eq!(a.content, b.content); }
        }

        #[test]
        fn the_second_time_is_never_applied(state in states(), change in changes()) {
            let once = state.merge(&change);
            let twice = once.state.merge(&change);
            prop_assert_eq!(&twice.state, &once.state);
            prop_assert_ne!(twice.outcome, Outcome::Applied);
        }

        // 4. An unobserved upsert of smaller rank never changes the visible state; one of greater rank always sets the
        //    content.
        #[test]
        fn rank_decides_the_content(state in states(), change in upserts()) {
            let Change::Upsert(upsert) = &change else { unreachable!() };
            let rank = clamp(upsert.source, upsert.received);
            let merged = state.merge(&change).state;
            match state.win.as_ref().map(|win| win.version.rank) {
                Some(winner) if rank < winner && !upsert.observed => prop_assert_eq!(merged.visible(), state.visible()),
                Some(winner) if rank <= winner => {}
                _ => prop_assert_eq!(merged.win.unwrap().content, Some(upsert.content.clone())),
            }
        }

        // 5. A copy of an earlier upsert never revives; an upsert newer in both clocks does; a restore does at any
        //    rank.
        #[test]
        fn revival(changes in vec(changes(), 1..6), again in any::<Index>(), late in 10_i64..20) {
            let state = fold(&changes).merge(&d(9)).state;
            let before = again.get(&changes);
            if let Change::Upsert(upsert) = before && upsert.source.is_some() && !before.is_clamped() {
                let copy = Change::Upsert(Upsert { received: at(late), observed: false, ..upsert.clone() });
                prop_assert!(state.merge(&copy).state.is_deleted());
            }
            prop_assert!(!state.merge(&u(MAX_SOURCE_LEAD_SECONDS + 5, late, "new")).state.is_deleted());
            prop_assert!(!state.merge(&restore(late)).state.is_deleted());
        }

        // 6. An undated delete received last deletes, whatever the platform's clock says.
        #[test]
        fn the_last_delete_deletes(changes in vec(changes(), 0..8), offset in -1000_i64..1000) {
            let shift = |change: &Change| shifted(change, offset);
            let state = fold(changes.iter().map(shift).collect::<Vec<_>>().iter());
            prop_assert!(state.merge(&d(6)).state.is_deleted());
        }

        // 7. A constant offset of the source's clock changes nothing, below the clamp.
        #[test]
        fn a_slow_or_fast_clock_changes_nothing(changes in vec(changes(), 0..8), offset in -1000_i64..1000) {
            let changes: Vec<Change> = changes.into_iter().filter(|change| !change.is_clamped()).collect();
            let moved: Vec<Change> = changes.iter().map(|change| shifted(change, offset)).collect();
            let (before, after) = (fold(&changes), fold(&moved));
            prop_assert_eq!(before.visible(), after.visible());
        }

        // 8. A replay of any subset with a higher mapping number: the same delivery wins, with new content where it was
        //    replayed.
        #[test]
        fn replays_with_a_new_mapping(changes in vec(upserts(), 1..7), again in vec(any::<bool>(), 7)) {
            let mut places: Vec<_> = changes.iter().map(|change| { let v = State::of(change).win.unwrap().version; (v.rank, v.received) }).collect();
            places.sort();
            places.dedup();
            prop_assume!(places.len() == changes.len());
            let state = fold(&changes);
            let mut replayed = state.clone();
            let mut expected = state.win.clone().unwrap();
            for (change, _) in changes.iter().zip(&again).filter(|(_, again)| **again) {
                let Change::Upsert(upsert) = change else { unreachable!() };
                let anew = Change::Upsert(Upsert { mapping: 9, content: content("remapped").into(), ..upsert.clone() });
                let winner = State::of(change).win.unwrap().version;
                if winner == expected.version { expected = State::of(&anew).win.unwrap(); }
                replayed = replayed.merge(&anew).state;
            }
            prop_assert_eq!(replayed.win.unwrap(), expected);
            prop_assert_eq!(replayed.marks, state.marks);
        }

        // 9. A reader sees the latest full payload and the newer partial ones, in any order.
        #[test]
        fn facets_are_the_latest_full_and_newer_partials(
            changes in vec(prop_oneof![1 => upserts(), 4 => partials()], 1..9),
            order in vec(any::<Index>(), 9),
            cut in any::<Index>(),
        ) {
            let alone: Vec<State> = changes.iter().map(State::of).collect();
            let full = alone.iter().filter_map(|state| state.win.clone()).max_by(|a, b| a.version.cmp(&b.version));
            let mut newer: Vec<Winner> = alone.iter().flat_map(|state| state.facets.values().cloned()).collect();
            newer.retain(|facet| full.as_ref().is_none_or(|full| facet.version > full.version));
            newer.sort_by(|a, b| a.version.cmp(&b.version));
            let mut expected = full.and_then(|full| full.content).map(Arc::unwrap_or_clone).unwrap_or_default();
            newer.iter().for_each(|facet| expected.overlay(facet.shown().unwrap()));
            let state = shuffled(&changes, &order, cut);
            prop_assert_eq!(state.content().unwrap().into_owned(), expected.without_empty());
        }

        // 10. `applied` exactly when the visible state differs.
        #[test]
        fn applied_means_visible(state in states(), change in changes()) {
            let merged = state.merge(&change);
            prop_assert_eq!(merged.outcome == Outcome::Applied, merged.state.visible() != state.visible());
        }
    }

    fn shifted(change: &Change, offset: i64) -> Change {
        match change.clone() {
            Change::Upsert(upsert) => {
                Change::Upsert(Upsert { source: upsert.source.map(|at| at.plus_seconds(offset)), ..upsert })
            }
            Change::Delete(delete) => {
                Change::Delete(Delete { source: delete.source.map(|at| at.plus_seconds(offset)), ..delete })
            }
            restore @ Change::Restore { .. } => restore,
        }
    }
}
