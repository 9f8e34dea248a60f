//! The findings of a batch: the drift that polling found, and the parts of entities that could not be read.

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

use crate::{Parts, Processor, candidate::Candidate, parse::Entry};

/// The time for which the totals are kept, in seconds.
const DRIFT_SECONDS: i64 = 400 * 24 * 60 * 60;
/// The number of attempts to write a total that others write, too.
const TRIES: u32 = 3;

/// The drift that polling found, by connection and kind of entity.
pub(crate) type ByEntity = BTreeMap<(ConnectionKey, EntityKind), Drift>;

/// The findings about messages: the changes, by place in the batch, classed as the drift that they are if polling found
/// them, and the parts of entities that could not be read.
#[derive(Default)]
pub(crate) struct Findings {
    drift: Mutex<Vec<(usize, DriftKind)>>,
    unreadable: Mutex<Vec<(EntityKey, Vec<String>)>>,
}

impl Findings {
    /// Adds a finding about one message.
    pub fn add(&self, index: usize, drift: DriftKind) {
        self.drift.lock().unwrap_or_else(PoisonError::into_inner).push((index, drift));
    }

    /// Adds the changes of messages that were written, and the unreadable places of the written item.
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

    /// Returns the changes, by place in the batch.
    pub fn drift(self) -> Vec<(usize, DriftKind)> {
        self.drift.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the unreadable places of each entity that was written.
    pub fn unreadable(&self) -> Vec<(EntityKey, Vec<String>)> {
        std::mem::take(&mut *self.unreadable.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Counts the changes that polling found.
pub(crate) fn count(entries: &[Entry<'_>], findings: Findings) -> ByEntity {
    let (mut found, mut counted) = (ByEntity::new(), BTreeSet::new());
    for (index, drift) in findings.drift() {
        let Some(entry) = entries.get(index) else { continue };
        let Some(envelope) = entry.parsed.envelope() else { continue };
        let Content::Transfer(transfer) = &envelope.content else { continue };
        // A failure that may not recur is no drift yet.
        let is_drift = shows_drift(envelope) && (drift != DriftKind::Unmapped || entry.is_put_aside());
        // Pages overlap, so polling may find an entity twice.
        if is_drift && counted.insert((envelope.key.clone(), transfer.entity, transfer.id.clone(), drift)) {
            found.entry((envelope.key.clone(), transfer.entity)).or_default().add(drift);
        }
    }
    found
}

impl<P: Parts> Processor<P> {
    /// Adds drift to the totals of each connection and kind of entity. Without the note a total is too low, but the log
    /// has the drift.
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
