//! Owns the findings of polling: the entities that a full sync listed, page by page, as notes, and drift, the
//! differences from the platform, as counts.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    entity::{EntityKind, ExternalId},
    envelope::{Content, Envelope, POLL, Provenance},
    timestamp::Timestamp,
    transfer::Transfer,
};

/// The prefix of the names of a connection's notes that hold [`Drift`]; the kind of entity follows.
pub const DRIFT: &str = "differences#";
/// The reason of a transfer request for an entity that is known here and that a full sync did not list.
pub const NOT_IN_SWEEP: &str = "not in the sweep";
/// The age, in seconds, below which a change that polling finds may still be on its way as a delivery.
const UNDER_WAY_SECONDS: i64 = 600;

/// The way in which an item differed from what polling found.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum DriftKind {
    /// The entity was not here, or was here and should not have been.
    Missed,
    /// The entity had another content.
    Stale,
    /// The entity cannot be mapped, and its message was put aside.
    Unmapped,
}

impl DriftKind {
    /// Returns the value of the metric's dimension.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Missed => "missed",
            Self::Stale => "stale",
            Self::Unmapped => "unmapped",
        }
    }
}

/// The counts of differences that polling found, for one kind of entity.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Drift {
    /// The count of [`DriftKind::Missed`].
    #[serde(default)]
    pub missed: u64,
    /// The count of [`DriftKind::Stale`].
    #[serde(default)]
    pub stale: u64,
    /// The count of [`DriftKind::Unmapped`].
    #[serde(default)]
    pub unmapped: u64,
    /// The time since which they are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

impl Drift {
    /// Reads the body of a note.
    pub fn read(body: &str) -> Option<Self> {
        serde_json::from_str(body).ok()
    }

    /// Counts one difference.
    pub fn add(&mut self, difference: DriftKind) {
        match difference {
            DriftKind::Missed => self.missed += 1,
            DriftKind::Stale => self.stale += 1,
            DriftKind::Unmapped => self.unmapped += 1,
        }
    }

    /// Adds further counts.
    #[must_use]
    pub fn plus(self, more: &Self) -> Self {
        Self {
            missed: self.missed.saturating_add(more.missed),
            stale: self.stale.saturating_add(more.stale),
            unmapped: self.unmapped.saturating_add(more.unmapped),
            since: self.since.or(more.since),
        }
    }
}

/// Returns whether a difference that a message reveals is drift: polling found the entity, and no delivery of the
/// change can still be on its way. A message that was put off counts, too.
pub fn shows_drift(envelope: &Envelope) -> bool {
    let Content::Transfer(Transfer { changed, reason, .. }) = &envelope.content else { return false };
    let polled = envelope.scope == POLL && envelope.provenance == Provenance::Answer && envelope.depth == 0;
    let settled = changed.is_some_and(|changed| changed.plus_seconds(UNDER_WAY_SECONDS) < envelope.received);
    polled && (settled || reason == NOT_IN_SWEEP)
}

/// Returns the prefix of the names of the notes that hold the [`SweptPage`]s of one full sync; the page's number
/// follows.
pub fn swept_notes(entity: EntityKind, begun: Timestamp) -> String {
    format!("swept#{entity}#{}#", begun.micros())
}

/// The entities on one page of a full sync.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SweptPage {
    /// The ids.
    pub ids: Vec<ExternalId>,
    /// `true` for the last page.
    #[serde(default)]
    pub last: bool,
}

/// Returns all ids of a full sync from its pages by number, or `None` unless all pages are there, from the first to the
/// last.
pub fn all_swept(pages: BTreeMap<u32, SweptPage>) -> Option<BTreeSet<ExternalId>> {
    let in_a_row = pages.keys().zip(0..).all(|(number, place): (_, u32)| *number == place);
    let ends = pages.values().rposition(|page| page.last).is_some_and(|place| place + 1 == pages.len());
    (in_a_row && ends).then(|| pages.into_values().flat_map(|page| page.ids).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_form_is_a_promise() {
        let text = r#"{"missed":1,"stale":2,"unmapped":0,"since":5}"#;
        let read = Drift::read(text).unwrap();
        assert_eq!(read, Drift { missed: 1, stale: 2, unmapped: 0, since: Some(Timestamp::from_micros(5)) });
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
        assert_eq!(Drift::read("{}"), Some(Drift::default()));
        let more = Drift { missed: 2, since: Some(Timestamp::from_micros(9)), ..Drift::default() };
        assert_eq!(read.clone().plus(&more), Drift { missed: 3, ..read });
    }

    #[test]
    fn a_sweep_counts_only_when_all_its_pages_are_there() {
        let page = |ids: &[u64], last| SweptPage { ids: ids.iter().map(|id| (*id).into()).collect(), last };
        let pages = |pages: Vec<(u32, SweptPage)>| all_swept(pages.into_iter().collect());
        let whole = pages(vec![(0, page(&[1, 2], false)), (1, page(&[2, 3], true))]);
        assert_eq!(whole.map(|ids| ids.len()), Some(3));
        assert_eq!(pages(vec![(0, page(&[], true))]), Some(BTreeSet::new()), "there is nothing at all");
        assert_eq!(pages(vec![]), None);
        assert_eq!(pages(vec![(0, page(&[1], false))]), None, "the last one is not there");
        assert_eq!(pages(vec![(1, page(&[1], true))]), None, "nor is the first");
        assert_eq!(pages(vec![(0, page(&[1], false)), (2, page(&[3], true))]), None, "nor one between them");
    }
}
