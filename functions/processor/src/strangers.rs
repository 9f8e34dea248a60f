//! Deletes of what was never here. Some platforms tell of more than was deleted: when WooCommerce trashes a product, it tells of the coupon
//! of that id, too, which never was. What the platform does not know, and is not known here ([`Rule::NEVER_HERE`]), must leave no item
//! behind: whoever follows the table would see what never was be deleted.
//!
//! But it must not be forgotten either. The delivery that made the entity may still be on the queue, or have been put aside, and would
//! bring it to life when it comes; and so would a pull that began before. So the delete is noted instead, with its time, for longer than any
//! message lives, and of what is here for the first time the note is looked for. If there is one, the platform is asked: about what nobody has
//! vouched for always, as about every update of what is marked as deleted; about what was pulled if that is older. That holds when both
//! happen at the same moment: the delete writes its note and then looks for the item, the update writes the item and then looks for the
//! note, and both look consistently, so one of them sees the other. An update that crashes in between comes back, and finds its own item.

use cloud::{
    EdgeError,
    coordination::{Coordination, Terms, Update, update},
    state::Entities,
};
#[cfg(doc)]
use commerce::outcome::Rule;
use commerce::{change::Change, entity::EntityKey, item::Item, timestamp::Timestamp};

use crate::{Parts, Processor, parse::EntityUpdate};

/// How long a delete of what was never here is remembered, in seconds: longer than a message can be on the queue and then be put aside.
const GONE_SECONDS: i64 = 40 * 24 * 60 * 60;
/// How often a note is written that others write.
const TRIES: u32 = 5;

fn name(key: &EntityKey) -> String {
    format!("gone#{}", key.sort())
}

/// Whether a change says how an entity is, and nobody has vouched for that.
fn is_unseen(change: &Change) -> bool {
    matches!(change, Change::Upsert(upsert) if !upsert.observed)
}

/// Whether a change may be older than a delete that was received at a time.
pub(crate) fn may_precede(change: &Change, gone: Timestamp) -> bool {
    is_unseen(change) || matches!(change, Change::Upsert(upsert) if upsert.received <= gone)
}

/// Whether a message may be the first that is heard of an entity: it is not here, or was just put there by the same message, which came back.
pub(crate) fn may_be_first(update: &EntityUpdate, item: Option<&Item>, message: &str) -> bool {
    let own = |item: &Item| item.by == message && item.state().marks.seen.is_none();
    update.platform.mapping.tells_of_strangers() && update.changes.iter().any(is_unseen) && item.is_none_or(own)
}

impl<P: Parts> Processor<P> {
    /// When a delete of an entity was told that was not here then.
    pub(crate) async fn told_gone(&self, key: &EntityKey) -> Result<Option<Timestamp>, EdgeError> {
        let note = self.edges.notes.note(&key.connection, &name(key)).await?;
        Ok(note.filter(|note| note.is_live((self.clock)())).and_then(|note| read(&note.body)))
    }

    /// Remembers that an entity that is not here was gone at a time; gives it if it is here by now.
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
