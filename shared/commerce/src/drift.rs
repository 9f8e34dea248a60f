//! Owns what polling finds out: what a full fetch has come upon, page by page, as notes, and how often what is here was not what the
//! platform has, as numbers.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    entity::{EntityKind, ExternalId},
    envelope::{Content, Envelope, POLL, Provenance},
    timestamp::Timestamp,
    transfer::Transfer,
};

/// What the names of a connection's notes begin with that hold [`Drift`]; the kind of entity follows.
pub const DRIFT: &str = "differences#";
/// The reason of a transfer request for what is known here and was not among all that were fetched.
pub const NOT_IN_SWEEP: &str = "not in the sweep";
/// A change that is younger than this when it is found, in seconds, may still be on its way as a delivery.
const UNDER_WAY_SECONDS: i64 = 600;

/// How what was here differed from what polling found.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum DriftKind {
    /// It was not here at all, or it was and should not have been.
    Missed,
    /// Its content was another one.
    Stale,
    /// It cannot be mapped, and was put aside.
    Unmapped,
}

impl DriftKind {
    /// The value of the metric's dimension.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Missed => "missed",
            Self::Stale => "stale",
            Self::Unmapped => "unmapped",
        }
    }
}

/// How often polling found a difference, of one kind of entity.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Drift {
    /// Of [`DriftKind::Missed`].
    #[serde(default)]
    pub missed: u64,
    /// Of [`DriftKind::Stale`].
    #[serde(default)]
    pub stale: u64,
    /// Of [`DriftKind::Unmapped`].
    #[serde(default)]
    pub unmapped: u64,
    /// Since when they are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

impl Drift {
    /// Reads the body of a note.
    pub fn read(body: &str) -> Option<Self> {
        serde_json::from_str(body).ok()
    }

    /// One more.
    pub fn add(&mut self, difference: DriftKind) {
        match difference {
            DriftKind::Missed => self.missed += 1,
            DriftKind::Stale => self.stale += 1,
            DriftKind::Unmapped => self.unmapped += 1,
        }
    }

    /// So many more.
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

/// Whether what comes of a message shows a loss: it was found by polling, put off or not, and no delivery of it can be under way.
pub fn shows_drift(envelope: &Envelope) -> bool {
    let Content::Transfer(Transfer { changed, reason, .. }) = &envelope.content else { return false };
    let polled = envelope.scope == POLL && envelope.provenance == Provenance::Answer && envelope.depth == 0;
    let settled = changed.is_some_and(|changed| changed.plus_seconds(UNDER_WAY_SECONDS) < envelope.received);
    polled && (settled || reason == NOT_IN_SWEEP)
}

/// What the names of the notes begin with that hold the [`SweptPage`]s of one full fetch; the page's number follows.
pub fn swept_notes(entity: EntityKind, begun: Timestamp) -> String {
    format!("swept#{entity}#{}#", begun.micros())
}

/// What was on one page of a full fetch.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SweptPage {
    /// The ids.
    pub ids: Vec<ExternalId>,
    /// Whether it is the last one.
    #[serde(default)]
    pub last: bool,
}

/// All ids of a full fetch, from its pages by their numbers; none unless all of them are there, from the first to the last.
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
