//! The persons who were redacted, and whom nothing that is written may name again.

use std::collections::BTreeSet;

use cloud::{
    EdgeError,
    coordination::{Coordination, Note},
};
use commerce::{
    change::State,
    entity::{Content, EntityKey},
    key::ConnectionKey,
    platform::find,
    redaction::{Pseudonym, REDACTED, is_later, named},
    timestamp::Timestamp,
};
use futures_util::future::join_all;

use crate::{Parts, Processor};

/// The most persons that are looked up one by one. For more, all notes of the connection are read.
const LOOKED_UP: usize = 16;

impl<P: Parts> Processor<P> {
    /// Returns the redacted persons whom a state of an entity names, unless it was made after their redaction.
    pub(crate) async fn redacted_persons(
        &self,
        key: &EntityKey,
        state: &State,
    ) -> Result<BTreeSet<Pseudonym>, EdgeError> {
        let (connection, shown) = (&key.connection, state.content().unwrap_or_default());
        let persons: Vec<Pseudonym> = self.named_in(key, state).into_iter().collect();
        let meant = |note: &Note| {
            let at = note.body.parse().ok().map(Timestamp::from_micros);
            note.is_live((self.clock)()) && at.is_none_or(|at| !is_later(&shown, at))
        };
        if persons.len() > LOOKED_UP {
            let notes = self.edges.notes.notes(connection, REDACTED).await?;
            let notes: BTreeSet<String> =
                notes.into_iter().filter(|(_, note)| meant(note)).map(|(name, _)| name).collect();
            return Ok(persons.into_iter().filter(|person| notes.contains(&person.note())).collect());
        }
        let looked_up = persons.iter().map(|person| async move {
            let note = self.edges.notes.note(connection, &person.note()).await?;
            Ok::<_, EdgeError>((person, note))
        });
        let mut redacted = BTreeSet::new();
        for looked_up in join_all(looked_up).await {
            let (person, note) = looked_up?;
            if note.is_some_and(|note| meant(&note)) {
                redacted.insert(person.clone());
            }
        }
        Ok(redacted)
    }

    /// Returns the pseudonyms of all whom a state of an entity names, also where no reader sees it.
    pub(crate) fn named_in(&self, key: &EntityKey, state: &State) -> BTreeSet<Pseudonym> {
        let ids = self.customer_members(&key.connection);
        let of = |content: &Content| named(&key.connection, key.kind, &key.id, content, ids);
        of(&Content::default()).into_iter().chain(state.contents().flat_map(of)).collect()
    }

    /// Returns the platform's names of a member that holds a customer's id.
    pub(crate) fn customer_members(&self, key: &ConnectionKey) -> &'static [&'static str] {
        find(self.platforms, &key.platform).map_or(&[], |platform| platform.mapping.customer_members())
    }
}
