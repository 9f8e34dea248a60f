//! The processor: turns queue messages into the state of entities. This file is about one message, [`batch`] about many.
//!
//! It does not verify signatures: whatever is on the queue was proven, or made from what was.

pub mod batch;
pub mod config;
mod group;
mod report;

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
};

use cloud::{EdgeError, connections::Vault, queue::DeadLetter};
use commerce::{
    change::Change,
    connection::{Connection, ConnectionKey, ConnectionStatus, Generation},
    entity::EntityKey,
    envelope::{BodyError, Content, Envelope, EnvelopeError},
    outcome::{Outcome, Reason, Rule},
    platforms::{Incoming, MapError, Mapped, Platform, find},
    stamp::Stamp,
    transfer::{Resolved, resolve},
    verify::Strength,
};

/// A message at its fifth failed attempt is put aside.
pub const MAX_ATTEMPTS: u32 = 5;
/// A message that was put off this often is put aside.
pub const MAX_DEFERRALS: u32 = 50;

/// The most values that a body may hold. What is not known of an entity is kept as a tree, in which the smallest objects take
/// some 80 times their text: without a bound, one store could take the memory of all.
pub const MAX_VALUES: usize = 200_000;

/// Whether a JSON text holds more values than an entity can have, by its commas and brackets: never fewer than there are.
pub(crate) fn has_too_many_values(body: &[u8]) -> bool {
    body.len() > MAX_VALUES && body.iter().filter(|byte| matches!(byte, b',' | b'{' | b'[')).count() > MAX_VALUES
}

/// One message, as the event source mapping hands it over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// The id that SQS gave it.
    pub id: String,
    /// What it is made visible again with.
    pub receipt_handle: String,
    /// Its text.
    pub body: String,
    /// How often it was received, this time included.
    pub attempts: u32,
}

/// How one message ended, this time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    /// For good.
    Outcome(Outcome),
    /// A copy comes back after so many seconds.
    Deferred(i64),
    /// It comes back, for something failed that may work the next time.
    Failed(Reason, String),
    /// It comes back, for there was no time left.
    Unfinished,
}

/// What a message asks for, once it is understood.
pub(crate) enum Understood {
    /// Nothing more: it has ended.
    End(End, String),
    /// An entity is to be brought up to date.
    Work(Box<Work>),
}

/// A message that concerns an entity.
#[derive(Clone)]
pub(crate) struct Work {
    /// Its place in the batch.
    pub index: usize,
    /// The message as it was read.
    pub envelope: Envelope,
    /// Whose it is.
    pub platform: Platform,
    /// The entity.
    pub key: EntityKey,
    /// What the delivery says; none for a transfer request, whose entity is pulled.
    pub change: Option<Change>,
}

impl Work {
    /// Whether the platform has to be asked before this is believed: nothing was delivered, or the proof does not cover it, or
    /// it is a delete or a restore, which could be an old one sent again.
    pub fn is_hint(&self) -> bool {
        let undated = match &self.change {
            None | Some(Change::Delete(_) | Change::Restore { .. }) => true,
            Some(Change::Upsert(upsert)) => upsert.observed,
        };
        undated || self.envelope.strength == Strength::Caller
    }
}

/// Understands one message. A panic in a mapping is that message's failure alone.
pub(crate) fn understand(platforms: &'static [Platform], index: usize, message: &Message) -> Understood {
    catch_unwind(AssertUnwindSafe(|| read(platforms, index, message)))
        .unwrap_or_else(|_| Understood::End(End::Failed(Reason::Panic, String::new()), String::new()))
}

fn read(platforms: &'static [Platform], index: usize, message: &Message) -> Understood {
    let quarantined = |reason, detail: String| Understood::End(End::Outcome(Outcome::Quarantined(reason)), detail);
    let ignored = |rule| Understood::End(End::Outcome(Outcome::Ignored(rule)), String::new());
    let envelope = match Envelope::parse(&message.body) {
        Ok(envelope) => envelope,
        Err(error @ (EnvelopeError::NotAMessage | EnvelopeError::UnknownVersion(_) | EnvelopeError::Malformed)) => {
            return quarantined(Reason::UnknownMessage, error.to_string());
        }
    };
    let Some(platform) = find(platforms, &envelope.key.platform) else {
        return quarantined(Reason::UnknownPlatform, "this release has no such platform".into());
    };
    let connection = envelope.key.clone();
    let body = match &envelope.content {
        Content::Transfer(transfer) => {
            let key = EntityKey { connection, kind: transfer.entity, id: transfer.id.clone() };
            return Understood::Work(Box::new(Work { index, platform: *platform, key, change: None, envelope }));
        }
        Content::Delivery(body) => match body.unpack() {
            Ok(body) => body,
            Err(error @ BodyError::Dropped(_)) => return quarantined(Reason::TooLarge, error.to_string()),
            Err(error @ BodyError::Broken) => return quarantined(Reason::UnknownMessage, error.to_string()),
        },
    };
    if has_too_many_values(&body) {
        return quarantined(Reason::TooLarge, "the body holds more values than any entity".into());
    }
    let (entity, action) = match resolve(platform.mapping, &envelope.scope) {
        Resolved::Entity(entity, action) => (entity, action),
        Resolved::Ignored(rule) => return ignored(rule),
    };
    let incoming = Incoming { entity, action, body: &body, received: envelope.received };
    match platform.mapping.map(&incoming) {
        Ok(Mapped::Change(id, change)) => {
            let key = EntityKey { connection, kind: entity, id };
            Understood::Work(Box::new(Work { index, platform: *platform, key, change: Some(change), envelope }))
        }
        Ok(Mapped::Ignored(rule)) => ignored(rule),
        Err(error @ MapError::Malformed(_)) => quarantined(Reason::Malformed, error.to_string()),
        Err(error @ MapError::PlatformError(_)) => quarantined(Reason::PlatformError, error.to_string()),
    }
}

/// Whether a connection takes this message at all; if not, by which rule.
pub(crate) fn gate(connection: Option<&Connection>, generation: Generation) -> Result<&Connection, Rule> {
    let Some(connection) = connection else { return Err(Rule::UNKNOWN_CONNECTION) };
    if connection.status == ConnectionStatus::Disconnected {
        return Err(Rule::DISCONNECTED);
    }
    if connection.generation != generation {
        return Err(Rule::RETIRED_GENERATION);
    }
    Ok(connection)
}

/// A message as it is put aside: with its body as it came, and what can be told of it.
pub(crate) fn dead_letter(message: &Message, reason: Reason) -> DeadLetter {
    let envelope = Envelope::parse(&message.body).ok();
    DeadLetter {
        body: message.body.clone(),
        reason,
        platform: envelope.as_ref().map(|envelope| envelope.key.platform.clone()),
        connection: envelope.as_ref().map(|envelope| envelope.key.connection.to_string()),
        scope: envelope.map(|envelope| envelope.scope),
    }
}

/// The processor on its edges.
pub struct Processor<E, Q, V, O> {
    pub(crate) platforms: &'static [Platform],
    pub(crate) entities: E,
    pub(crate) queues: Q,
    pub(crate) vault: V,
    pub(crate) outbound: O,
    pub(crate) clock: Arc<dyn Fn() -> Stamp + Send + Sync>,
    opened: Mutex<HashMap<ConnectionKey, Opened>>,
}

/// Credentials that were decrypted, with what they were decrypted from.
struct Opened {
    cipher: String,
    plain: zeroize::Zeroizing<String>,
}

/// How many connections' credentials one environment keeps decrypted.
const MAX_OPENED: usize = 500;

impl<E, Q, V: Vault, O> Processor<E, Q, V, O> {
    /// On these edges.
    pub fn new(
        platforms: &'static [Platform],
        entities: E,
        queues: Q,
        vault: V,
        outbound: O,
        clock: Arc<dyn Fn() -> Stamp + Send + Sync>,
    ) -> Self {
        Self { platforms, entities, queues, vault, outbound, clock, opened: Mutex::default() }
    }

    /// A connection's credentials, decrypted once for as long as they stay the same.
    pub(crate) async fn open(
        &self,
        key: &ConnectionKey,
        cipher: &str,
    ) -> Result<zeroize::Zeroizing<String>, EdgeError> {
        {
            let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(known) = opened.get(key).filter(|known| known.cipher == cipher) {
                return Ok(known.plain.clone());
            }
        }
        let plain = zeroize::Zeroizing::new(self.vault.decrypt(key, cipher).await?);
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if opened.len() >= MAX_OPENED {
            opened.clear();
        }
        opened.insert(key.clone(), Opened { cipher: cipher.to_owned(), plain: plain.clone() });
        Ok(plain)
    }
}
