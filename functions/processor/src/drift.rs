//! Counts what polling found to differ from what is here, and what of entities could not be read.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
};

use cloud::coordination::{Terms, update_json};
use commerce::{
    change::{Change, State},
    drift::{DRIFT, Drift, DriftKind, shows_drift},
    entity::{EntityKey, EntityKind},
    envelope::Content,
    item::Item,
    key::ConnectionKey,
    outcome::Outcome,
};
use futures_util::future::join_all;

use crate::{Parts, Processor, merge::Candidate, report::Entry};

/// How long the totals are kept, in seconds.
const DRIFT_SECONDS: i64 = 400 * 24 * 60 * 60;
/// How often a total is written that others write.
const TRIES: u32 = 3;

/// What polling found to differ, by connection and kind of entity.
pub(crate) type ByEntity = BTreeMap<(ConnectionKey, EntityKind), Drift>;

/// What messages have changed, by their places in the batch, as far as it would be drift if polling found it; and what of entities
/// could not be read.
#[derive(Default)]
pub(crate) struct Findings {
    drift: Mutex<Vec<(usize, DriftKind)>>,
    unreadable: Mutex<Vec<(EntityKey, Vec<String>)>>,
}

impl Findings {
    /// Adds what one message has shown.
    pub fn add(&self, index: usize, drift: DriftKind) {
        self.drift.lock().unwrap_or_else(PoisonError::into_inner).push((index, drift));
    }

    /// Adds what messages have changed that were written.
    pub fn written(
        &self,
        key: &EntityKey,
        next: &Item,
        before: &State,
        candidates: &[Candidate],
        outcomes: &[Outcome],
    ) {
        if !next.unchanged && !next.unreadable.is_empty() {
            let places = (key.clone(), next.unreadable.clone());
            self.unreadable.lock().unwrap_or_else(PoisonError::into_inner).push(places);
        }
        let was_there = before.content().is_some() && !before.is_deleted();
        for (candidate, _) in candidates.iter().zip(outcomes).filter(|(_, outcome)| **outcome == Outcome::Applied) {
            let gone = candidate.changes.iter().any(|change| matches!(change, Change::Delete(_)));
            self.add(candidate.index, if was_there && !gone { DriftKind::Stale } else { DriftKind::Missed });
        }
    }

    /// Returns what differed, by place in the batch.
    pub fn drift(self) -> Vec<(usize, DriftKind)> {
        self.drift.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the places that could not be read, of each entity that was written.
    pub fn unreadable(&self) -> Vec<(EntityKey, Vec<String>)> {
        std::mem::take(&mut *self.unreadable.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Counts, of what messages have changed, what polling found.
pub(crate) fn count(entries: &[Entry<'_>], findings: Findings) -> ByEntity {
    let (mut found, mut counted) = (ByEntity::new(), BTreeSet::new());
    for (index, drift) in findings.drift() {
        let Some(entry) = entries.get(index) else { continue };
        let Some(envelope) = entry.parsed.envelope() else { continue };
        let Content::Transfer(transfer) = &envelope.content else { continue };
        // What may work the next time is no drift yet.
        let is_drift = shows_drift(envelope) && (drift != DriftKind::Unmapped || entry.is_put_aside());
        // Pages overlap, so one entity may be found twice.
        if is_drift && counted.insert((envelope.key.clone(), transfer.entity, transfer.id.clone(), drift)) {
            found.entry((envelope.key.clone(), transfer.entity)).or_default().add(drift);
        }
    }
    found
}

impl<P: Parts> Processor<P> {
    /// Adds what differed to the totals of each connection and kind of entity. Without the note, the totals are less than they should
    /// be; the log has it all the same.
    pub(crate) async fn note_drift(&self, found: &ByEntity) {
        join_all(found.iter().map(|((key, entity), more)| self.add_drift(key, *entity, more))).await;
    }

    async fn add_drift(&self, key: &ConnectionKey, entity: EntityKind, more: &Drift) {
        let now = (self.clock)();
        let terms = Terms::once(now, DRIFT_SECONDS).tries(TRIES);
        let add =
            |total: Option<Drift>| Some(total.unwrap_or(Drift { since: Some(now), ..Drift::default() }).plus(more));
        let _ = update_json(&self.edges.notes, key, &format!("{DRIFT}{entity}"), terms, add).await;
    }
}
