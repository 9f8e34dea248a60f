//! Deletes of entities that were never here. Some platforms deliver more deletes than happened: when WooCommerce
//! trashes a product, it also delivers a delete of the coupon of that id, which never existed. A delete of an entity
//! that neither the platform nor the table knows ([`Rule::NEVER_HERE`]) must leave no item behind, because followers of
//! the table would see a delete of something that never was.
//!
//! But such a delete must not be forgotten either. The delivery that made the entity may still be on the queue or in
//! quarantine, and a pull may have begun before the delete; either would revive the entity. So the delete is noted with
//! its time, for longer than any message lives, and each entity that comes for the first time is looked up among the
//! notes. If there is a note, the platform is asked: always about an update that it did not vouch for, as about every
//! such update of an entity marked as deleted, and about a pulled entity unless the pull began minutes after the delete
//! or after the note was read. This holds even if both happen at the same moment: the delete writes its note and then
//! reads the item, the update writes the item and then reads the note, and both read consistently, so one of them sees
//! the other. An update that crashes in between comes back, and finds its own item.

use cloud::{
    EdgeError,
    coordination::{Coordination, Terms, Update, update},
    state::Entities,
};
#[cfg(doc)]
use commerce::outcome::Rule;
use commerce::{change::Change, entity::EntityKey, item::Item, timestamp::Timestamp};

use crate::{Parts, Processor, parse::EntityUpdate};

/// The time for which a delete of an entity that was never here is remembered, in seconds: longer than a message can be
/// on the queue and then in quarantine.
const GONE_SECONDS: i64 = 40 * 24 * 60 * 60;
/// The greatest difference between the clocks of two environments, in seconds, at which an order of a pull and a delete
/// is not believed.
const CLOCKS_SECONDS: i64 = 5 * 60;
/// The number of attempts to write a note that others write, too.
const TRIES: u32 = 5;

fn name(key: &EntityKey) -> String {
    format!("gone#{}", key.sort())
}

/// Returns whether a change is an upsert that the source did not vouch for.
fn is_unseen(change: &Change) -> bool {
    matches!(change, Change::Upsert(upsert) if !upsert.observed)
}

/// Returns whether a change may be older than a delete that was received at `gone`.
pub(crate) fn may_precede(change: &Change, gone: Timestamp) -> bool {
    is_unseen(change)
        || matches!(change, Change::Upsert(upsert) if upsert.received <= gone.plus_seconds(CLOCKS_SECONDS))
}

/// Returns whether a message may be the first about its entity: the item is absent, or the same message wrote it before
/// it came back. Only an update that the source did not vouch for counts, at a platform that delivers deletes of
/// entities that never existed.
pub(crate) fn may_be_first(update: &EntityUpdate, item: Option<&Item>, message: &str) -> bool {
    let own = |item: &Item| item.is_written_by(message) && item.state().marks.seen.is_none();
    update.platform.mapping.tells_of_strangers() && update.changes.iter().any(is_unseen) && item.is_none_or(own)
}

impl<P: Parts> Processor<P> {
    /// Returns the time of the last delete of an entity that was not here at that time, if one was noted.
    pub(crate) async fn told_gone(&self, key: &EntityKey) -> Result<Option<Timestamp>, EdgeError> {
        let note = self.edges.notes.note(&key.connection, &name(key)).await?;
        Ok(note.filter(|note| note.is_live((self.clock)())).and_then(|note| read(&note.body)))
    }

    /// Notes that an entity that is not here was deleted at a time, and returns its item if it is here by now.
    pub(crate) async fn note_gone(&self, key: &EntityKey, at: Timestamp) -> Result<Option<Item>, EdgeError> {
        let terms = Terms::once((self.clock)(), GONE_SECONDS).tries(TRIES);
        let name = name(key);
        let noted = update(&self.edges.notes, &key.connection, &name, terms, |before| {
            let at = before.as_deref().and_then(read).map_or(at, |before| before.max(at));
            Some(at.micros().to_string())
        });
        match noted.await? {
            Update::Written | Update::Left => self.edges.entities.latest(key).await,
            Update::Contended => Err(EdgeError::new("noting a delete", "others wrote the note each time")),
        }
    }
}

fn read(says: &str) -> Option<Timestamp> {
    says.parse().ok().map(Timestamp::from_micros)
}
