//! The command to redact persons: their further pseudonyms are found, then the entities that name them are redacted, and
//! then the dead letters that name them are removed. After a while both are looked through once more, because a batch that
//! began before may have written one of them, or put one aside, meanwhile.

use cloud::{
    coordination::{Terms, Update, update_json},
    queue::{DeadLetters, HIDDEN_SECONDS, Inbox, Received},
    state::{Entities, Put, Stored},
};
use commerce::{
    change::{Change, State},
    connection::Connection,
    entity::{EntityKey, EntityKind},
    envelope::{Content, Sealed},
    item::{Item, Projection},
    outcome::{Outcome, Reason, Rule},
    platform::mapping::deleted_fields,
    redaction::{
        NOTED_SECONDS, Pseudonym, RECEIPT, Receipt, Redaction, Stage, is_later, is_personal, named_in_text, own, redact,
    },
    transfer::Transfer,
};
use serde_json::json;

use crate::{
    Message, Parts, Processor,
    disposition::Ended,
    parse::{CommandMessage, Parsed, Request, Resolution, request},
};

/// The number of whole items that are read at once.
const ITEMS_AT_ONCE: u32 = 25;
/// The number of pages of items that one message reads. The rest becomes a message of its own.
const PAGES: usize = 20;
/// The most times that all messages of a redaction receive dead letters: more than a queue has that anybody looks after.
const MAX_RECEIVES: u32 = 20_000;
/// The number of times that one message receives dead letters.
const RECEIVES: usize = 50;
/// The number of empty answers in a row after which the dead-letter queue counts as read.
const EMPTY_ANSWERS: u32 = 2;
/// The time until the second look, in seconds: the longest that a batch may run.
const AGAIN_SECONDS: i32 = 900;
/// The number of attempts to write an item or a note that others write, too.
const TRIES: u32 = 8;
/// The reason of a pull that takes the place of a removed dead letter.
const INSTEAD: &str = "in place of a dead letter";

impl<P: Parts> Processor<P> {
    pub(super) async fn redact(
        &self,
        message: &CommandMessage,
        redaction: &Redaction,
        connection: Option<&Connection>,
    ) -> Result<Outcome, Ended> {
        match redaction.stage {
            Stage::Customers => self.find_persons(message, redaction).await,
            Stage::Entities => self.redact_entities(message, redaction, connection).await,
            Stage::DeadLetters => self.remove_letters(message, redaction, connection).await,
        }
    }

    /// Finds the further pseudonyms of the given persons among the customers, and notes them.
    async fn find_persons(&self, message: &CommandMessage, redaction: &Redaction) -> Result<Outcome, Ended> {
        let key = &message.envelope.key;
        let mut next = redaction.clone();
        for _ in 0..PAGES {
            let (items, after) = self.items(message, Some(EntityKind::Customer), next.after.as_deref()).await?;
            // Each is opened when its turn comes, because a whole item takes much memory.
            for (entity, stored) in items {
                let Some((item, _)) = stored.open() else { continue };
                let content = content(&item);
                let persons = own(key, &entity.id, &content);
                if !redaction.given.is_disjoint(&persons) && !is_later(&content, redaction.at) {
                    self.note_persons(message, redaction, &persons).await?;
                    next.pseudonyms.extend(persons);
                }
            }
            next.after = after;
            if next.after.is_none() {
                next.stage = Stage::Entities;
                break;
            }
        }
        let persons = next.pseudonyms.clone();
        self.add_to_receipt(message, redaction, |receipt| receipt.pseudonyms.extend(persons.iter().cloned())).await?;
        self.go_on(message, Content::Redact(next), 0).await
    }

    /// Notes redacted persons, before anything is redacted.
    async fn note_persons<'a>(
        &self,
        message: &CommandMessage,
        redaction: &Redaction,
        persons: impl IntoIterator<Item = &'a Pseudonym>,
    ) -> Result<(), Ended> {
        for person in persons {
            let terms = Terms::once((self.clock)(), NOTED_SECONDS).tries(TRIES);
            // A person who is redacted again is so from the later time on.
            let later = |before: Option<i64>| Some(before.unwrap_or(0).max(redaction.at.micros()));
            let noted = update_json(&self.edges.notes, &message.envelope.key, &person.note(), terms, later).await?;
            if noted == Update::Contended {
                return Err(contended());
            }
        }
        Ok(())
    }

    /// Redacts the entities that name the persons.
    async fn redact_entities(
        &self,
        message: &CommandMessage,
        redaction: &Redaction,
        connection: Option<&Connection>,
    ) -> Result<Outcome, Ended> {
        let mut next = redaction.clone();
        for _ in 0..PAGES {
            let (items, after) = self.items(message, None, next.after.as_deref()).await?;
            for (entity, stored) in items {
                let item = stored.open().map(|(item, _)| item).filter(|item| self.is_meant(redaction, &entity, item));
                let Some(item) = item else { continue };
                // The receipt comes first: what is redacted no longer names anybody.
                let (kind, id) = (entity.kind, entity.id.clone());
                self.add_to_receipt(message, redaction, |receipt| receipt.add(kind, id.clone())).await?;
                self.redact_item(message, redaction, connection, &entity, item).await?;
            }
            next.after = after;
            if next.after.is_none() {
                break;
            }
        }
        if next.after.is_none() {
            next.stage = Stage::DeadLetters;
        }
        self.add_to_receipt(message, redaction, |_| {}).await?;
        self.go_on(message, Content::Redact(next), 0).await
    }

    /// Redacts one item, whatever others write meanwhile.
    async fn redact_item(
        &self,
        message: &CommandMessage,
        redaction: &Redaction,
        connection: Option<&Connection>,
        entity: &EntityKey,
        item: Item,
    ) -> Result<(), Ended> {
        let policy = connection.map(|connection| connection.delete_policy(entity.kind)).unwrap_or_default();
        let (key, deleted_fields) = (&entity.connection, deleted_fields());
        let projection = Projection::new(policy, &deleted_fields).redacted(is_personal(entity.kind));
        let mut present = Some(item);
        for _ in 0..TRIES {
            let Some(item) = present.filter(|item| self.is_meant(redaction, entity, item)) else { return Ok(()) };
            let state = item.state();
            let state = state.with_contents(|content| redact(key, entity.kind, content, &redaction.pseudonyms));
            let writer = message.writer((self.clock)());
            let Ok(next) = projection.item(entity, &state, Some(&item), writer) else {
                return Err(Ended::quarantined(Reason::ItemTooLarge, item));
            };
            match self.edges.entities.put(&next, Some(&item.rev)).await? {
                Put::Written => return Ok(()),
                Put::Conflict(stored) => present = stored.map(|stored| *stored),
            }
        }
        Err(contended())
    }

    /// Removes the connection's dead letters that name the persons. Each is replaced, so that the state does not lack it.
    async fn remove_letters(
        &self,
        message: &CommandMessage,
        redaction: &Redaction,
        connection: Option<&Connection>,
    ) -> Result<Outcome, Ended> {
        let begun = (self.clock)();
        let (mut removed, mut kept, mut empty, mut receives) = (0, Vec::new(), 0, 0);
        while empty < EMPTY_ANSWERS && receives < RECEIVES {
            receives += 1;
            let letters = self.edges.queues.receive().await?;
            empty = if letters.is_empty() { empty + 1 } else { 0 };
            for letter in letters {
                if self.names(message, redaction, &letter, connection) {
                    self.replace(&letter, connection).await?;
                    self.edges.queues.remove(&letter.handle).await?;
                    removed += 1;
                } else {
                    kept.push(letter.handle);
                }
            }
            // Letters that would show again come a second time.
            if begun.plus_seconds(i64::from(HIDDEN_SECONDS) / 2) < (self.clock)() {
                break;
            }
        }
        let received = redaction.receives + u32::try_from(receives).unwrap_or(u32::MAX);
        let (is_read, gives_up) = (empty >= EMPTY_ANSWERS, received >= MAX_RECEIVES);
        let (ended, now) = (is_read || gives_up, (self.clock)());
        self.add_to_receipt(message, redaction, |receipt| {
            receipt.dead_letters += removed;
            receipt.letters_left |= gives_up && !is_read;
            receipt.done = receipt.done.or(ended.then_some(now));
            receipt.looked_again = receipt.looked_again.or((ended && redaction.again).then_some(now));
        })
        .await?;
        if !ended {
            // The letters read so far stay hidden, so that the next message reads others.
            let next = Redaction { receives: received, ..redaction.clone() };
            return self.go_on(message, Content::Redact(next), 0).await;
        }
        for handle in &kept {
            self.edges.queues.release(handle).await;
        }
        if redaction.again {
            return Ok(Outcome::Ignored(Rule::REDACTED));
        }
        let again = Redaction { stage: Stage::Entities, after: None, receives: 0, again: true, ..redaction.clone() };
        self.edges.queues.send(&Sealed::part(&message.envelope, Content::Redact(again)), AGAIN_SECONDS).await?;
        cloud::telemetry::emit(&json!({
            "level": "INFO", "event": "redaction-done", "connection": message.envelope.key.to_string(),
            "redaction": redaction.id(), "dead_letters": removed,
        }));
        Ok(Outcome::Split(1))
    }

    /// Returns whether a letter is of the connection and names one of the persons.
    fn names(
        &self,
        message: &CommandMessage,
        redaction: &Redaction,
        letter: &Received,
        connection: Option<&Connection>,
    ) -> bool {
        let dead = dead_message(letter);
        let parsed = Parsed::new(&dead);
        let Some(envelope) = parsed.envelope().filter(|envelope| envelope.key == message.envelope.key) else {
            return false;
        };
        let key = &envelope.key;
        let concerns = |text: &str| redaction.concerns(&named_in_text(key, text, self.customer_members(key)));
        let Content::Delivery(body) = &envelope.content else { return concerns(&letter.body) };
        let user = envelope.user.as_deref().unwrap_or_default();
        let text = body.unpack().map(|body| String::from_utf8_lossy(&body).into_owned()).unwrap_or_default();
        if concerns(&text) || concerns(user) {
            return true;
        }
        // The platform's mapping knows where else an entity names its customer.
        self.entity(&parsed, connection).is_some_and(|(entity, changes)| {
            changes.iter().any(|change| redaction.concerns(&self.named_in(&entity, &State::of(change))))
        })
    }

    /// Returns the entity that a message is about, with the changes that it tells.
    fn entity(&self, parsed: &Parsed<'_>, connection: Option<&Connection>) -> Option<(EntityKey, Vec<Change>)> {
        match request(self.platforms, 0, parsed, parsed.unpack()) {
            Request::Resolved(Resolution::Entity(update)) => Some((update.key, update.changes)),
            Request::Unresolved(unresolved) => match unresolved.entity_without_presets() {
                Some(key) => Some((key.clone(), Vec::new())),
                None => match unresolved.resolve(connection) {
                    Resolution::Entity(update) => Some((update.key, update.changes)),
                    Resolution::Ended(_) | Resolution::Command(_) => None,
                },
            },
            Request::Resolved(_) => None,
        }
    }

    /// Queues a pull of the entity that a letter is about. If it cannot be pulled, the message itself comes back, because
    /// the merge redacts it. A message that cannot be mapped goes for good.
    async fn replace(&self, letter: &Received, connection: Option<&Connection>) -> Result<(), Ended> {
        let dead = dead_message(letter);
        let parsed = Parsed::new(&dead);
        let found = self.entity(&parsed, connection);
        let (Some(envelope), Some((entity, _))) = (parsed.envelope(), found) else { return Ok(()) };
        let platform = commerce::platform::find(self.platforms, &entity.connection.platform);
        let can_ask = platform.zip(connection).is_some_and(|(platform, connection)| {
            connection.credentials.is_some() && platform.mapping.pulls(&connection.settings, entity.kind)
        });
        let sealed = if can_ask {
            Sealed::in_place_of(envelope, Transfer::new(entity.kind, entity.id, INSTEAD))
        } else {
            Sealed::redriven(envelope)
        };
        self.edges.queues.send(&sealed, 0).await?;
        Ok(())
    }

    /// Reads a page of whole items.
    async fn items(
        &self,
        message: &CommandMessage,
        kind: Option<EntityKind>,
        after: Option<&str>,
    ) -> Result<(Vec<(EntityKey, Stored)>, Option<String>), Ended> {
        let known = self.edges.entities.keys(&message.envelope.key, kind, after, ITEMS_AT_ONCE).await?;
        let keys: Vec<_> = known.keys.into_iter().map(|(entity, _)| entity).collect();
        let read = self.edges.entities.read(&keys, &[]).await?;
        Ok((read.items.into_iter().collect(), known.next))
    }

    /// Returns whether an item has to be redacted: it names one of the persons, and was made before the redaction.
    fn is_meant(&self, redaction: &Redaction, entity: &EntityKey, item: &Item) -> bool {
        let is_earlier = !item.redacted && !is_later(&content(item), redaction.at);
        is_earlier && redaction.concerns(&self.named_in(entity, &item.state()))
    }

    async fn add_to_receipt(
        &self,
        message: &CommandMessage,
        redaction: &Redaction,
        add: impl Fn(&mut Receipt) + Send + Sync,
    ) -> Result<(), Ended> {
        let (now, name) = ((self.clock)(), format!("{RECEIPT}{}", redaction.id()));
        let terms = Terms::once(now, NOTED_SECONDS).tries(TRIES);
        let updated = update_json(&self.edges.notes, &message.envelope.key, &name, terms, |before: Option<Receipt>| {
            let mut receipt = before.unwrap_or_else(|| Receipt::new(redaction.at));
            add(&mut receipt);
            receipt.moved = now;
            Some(receipt)
        });
        if updated.await? == Update::Contended { Err(contended()) } else { Ok(()) }
    }
}

fn contended() -> Ended {
    Ended::retry(Reason::Contention, "others wrote each time")
}

fn dead_message(letter: &Received) -> Message {
    Message { id: String::new(), receipt_handle: String::new(), body: letter.body.clone(), attempts: 1 }
}

/// Returns the content that an item shows.
fn content(item: &Item) -> commerce::entity::Content {
    item.state().content().map(std::borrow::Cow::into_owned).unwrap_or_default()
}
