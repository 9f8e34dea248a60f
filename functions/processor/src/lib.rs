//! The processor: turns queue messages into the state of entities. This file is about one message, [`batch`] about many.
//!
//! It does not verify signatures: whatever is on the queue was proven, or made from what was.

mod act;
pub mod batch;
pub mod config;
mod group;
mod places;
mod pull;
mod report;
mod sightings;
mod strangers;
mod task;

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use cloud::{EdgeError, budget::Leases, connections::Vault, queue::DeadLetter};
use commerce::{
    change::Change,
    connection::{Connection, ConnectionStatus},
    entity::EntityKey,
    envelope::{BodyError, Content, Counted, Envelope, EnvelopeError, Erasure, Known, Provenance, Reprojection, Swept},
    key::ConnectionKey,
    outcome::{Outcome, Reason, Rule},
    platform::{
        Platform,
        delivery::PROBE,
        find,
        mapping::{Incoming, MapError, Mapped, Resolved, map_delivery, processor, resolve},
        notice::Notice,
    },
    request::{has_too_many_values, weight},
    scheme::Strength,
    timestamp::Timestamp,
    transfer::{EntityProcessor, Listing, Preset, Transfer, late},
    verify::UNNAMED_SCOPE,
};

use crate::sightings::Throttle;

/// A message at its fifth failed attempt is put aside.
pub const MAX_ATTEMPTS: u32 = 5;
/// A message that was put off this often, which takes some two days, is put aside.
pub const MAX_DEFERRALS: u32 = 200;

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
    /// Something else is to be done, which needs the connection.
    Task(Box<Task>),
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
    /// What the delivery says; nothing for what only names the entity, which is pulled.
    pub changes: Vec<Change>,
    /// The rule by which it is ignored unless the entity is known.
    pub only_if_known: Option<Rule>,
    /// Whether what the delivery says is kept beside what the platform shows, which is asked in any case.
    pub beside: bool,
    /// What the delivery takes in memory, in bytes, roughly.
    pub weight: usize,
}

impl Work {
    /// Whether the platform has to be asked, or asked before this is believed: nothing was delivered, or the proof does not cover it, or
    /// it is a delete or a restore, which could be an old one sent again.
    pub fn is_hint(&self) -> bool {
        let says = |change: &Change| match change {
            Change::Delete(_) | Change::Restore { .. } => false,
            Change::Upsert(upsert) => !upsert.observed,
        };
        self.beside || self.envelope.strength == Strength::Caller || !self.changes.iter().any(says)
    }

    /// Makes a hint of it, whatever it proves and whatever is known of the entity.
    pub fn ask_again(&mut self) {
        self.envelope.strength = Strength::Caller;
        if let Content::Transfer(transfer) = &mut self.envelope.content {
            transfer.changed = None;
        }
    }

    /// What is declared of the entity.
    pub fn processor(&self) -> Option<&'static EntityProcessor> {
        processor(self.platform.mapping, self.key.kind)
    }
}

/// A message that does not name one entity.
#[derive(Clone)]
pub(crate) struct Task {
    /// Its place in the batch.
    pub index: usize,
    /// The message as it was read.
    pub envelope: Envelope,
    /// Whose it is.
    pub platform: Platform,
    /// What is to be done.
    pub what: What,
}

impl Task {
    /// The entity that it would be about if the connection's presets do not say otherwise.
    fn without_presets(&self) -> Option<EntityKey> {
        match &self.what {
            What::Late(_, otherwise) => match otherwise.as_ref() {
                Understood::Work(work) => Some(work.key.clone()),
                _ => None,
            },
            _ => None,
        }
    }

    /// The same, with what the connection's presets make of a scope that says too little.
    fn resolved(self, presets: &[Preset]) -> Understood {
        let What::Late(body, otherwise) = &self.what else { return Understood::Task(Box::new(self)) };
        match late(presets, &self.envelope.scope, body) {
            Some(transfer) => Understood::Task(Box::new(Self { what: What::Split(vec![transfer]), ..self })),
            None => otherwise.as_ref().clone(),
        }
    }
}

/// What is to be done about a [`Task`].
#[derive(Clone)]
pub(crate) enum What {
    /// It stands for several transfer requests.
    Split(Vec<Transfer>),
    /// A list has to be gone through; with the end that it comes to when the platform cannot be asked.
    List(Listing, Option<(End, String)>),
    /// What was not among all that were fetched has to be asked for.
    Swept(Swept),
    /// How many are known has to be compared with how many there are.
    Count(Counted),
    /// What is known here and begins so has to be asked for.
    Known(Known),
    /// The state of a disconnected connection has to be erased.
    Erase(Erasure),
    /// What is marked has to be shown by the policies that there are now.
    Reproject(Reprojection),
    /// The registrar has to know.
    Note(Notice),
    /// The same, where an error was delivered; and what is done all the same.
    Complaint(Notice, Box<Understood>),
    /// Its scope says too little: the connection's presets may know which entity is meant. Else it is what it would be without.
    Late(Bytes, Box<Understood>),
}

impl Clone for Understood {
    fn clone(&self) -> Self {
        match self {
            Self::End(end, why) => Self::End(end.clone(), why.clone()),
            Self::Work(work) => Self::Work(work.clone()),
            Self::Task(task) => Self::Task(task.clone()),
        }
    }
}

/// A message that was unpacked: what it says of itself, and its body's bytes.
pub(crate) struct Unpacked {
    envelope: Result<Envelope, EnvelopeError>,
    body: Option<Result<Bytes, BodyError>>,
}

impl Unpacked {
    /// Unpacks a message. Nothing is built of its body yet.
    pub(crate) fn of(message: &Message) -> Self {
        let envelope = Envelope::parse(&message.body);
        let body = match envelope.as_ref().map(|envelope| &envelope.content) {
            Ok(Content::Delivery(body)) => Some(body.unpack()),
            _ => None,
        };
        Self { envelope, body }
    }

    /// What it takes in memory to understand it, in bytes, roughly. What is too large is put aside as it is.
    pub(crate) fn weight(&self) -> usize {
        match &self.body {
            Some(Ok(body)) if has_too_many_values(body) => body.len(),
            Some(Ok(body)) => weight(body),
            _ => 0,
        }
    }
}

/// Understands one message. A panic in a mapping is that message's failure alone.
pub(crate) fn understand(platforms: &'static [Platform], index: usize, unpacked: Unpacked) -> Understood {
    catch_unwind(AssertUnwindSafe(|| read(platforms, index, unpacked)))
        .unwrap_or_else(|_| Understood::End(End::Failed(Reason::Panic, String::new()), String::new()))
}

fn quarantined(reason: Reason, detail: impl ToString) -> Understood {
    Understood::End(End::Outcome(Outcome::Quarantined(reason)), detail.to_string())
}

fn ignored(rule: Rule) -> Understood {
    Understood::End(End::Outcome(Outcome::Ignored(rule)), String::new())
}

fn read(platforms: &'static [Platform], index: usize, unpacked: Unpacked) -> Understood {
    let envelope = match unpacked.envelope {
        Ok(envelope) => envelope,
        Err(error @ (EnvelopeError::NotAMessage | EnvelopeError::UnknownVersion(_) | EnvelopeError::Malformed)) => {
            return quarantined(Reason::UnknownMessage, error);
        }
    };
    let Some(platform) = find(platforms, &envelope.key.platform).copied() else {
        return quarantined(Reason::UnknownPlatform, "this release has no such platform");
    };
    let connection = envelope.key.clone();
    let task = |envelope: Envelope, what| Understood::Task(Box::new(Task { index, envelope, platform, what }));
    let body = match &envelope.content {
        Content::Transfer(transfer) => {
            let key = EntityKey { connection, kind: transfer.entity, id: transfer.id.clone() };
            let (changes, only_if_known, beside, weight) = (Vec::new(), None, false, 0);
            let work = Work { index, platform, key, changes, only_if_known, beside, weight, envelope };
            return Understood::Work(Box::new(work));
        }
        Content::Listing(listing) => {
            let listing = listing.clone();
            return task(envelope, What::List(listing, None));
        }
        Content::Swept(swept) => {
            let swept = swept.clone();
            return task(envelope, What::Swept(swept));
        }
        Content::Counted(counted) => {
            let counted = counted.clone();
            return task(envelope, What::Count(counted));
        }
        Content::Known(known) => {
            let known = known.clone();
            return task(envelope, What::Known(known));
        }
        Content::Erase(erasure) => {
            let erasure = erasure.clone();
            return task(envelope, What::Erase(erasure));
        }
        Content::Reproject(reprojection) => {
            let reprojection = reprojection.clone();
            return task(envelope, What::Reproject(reprojection));
        }
        Content::Delivery(_) => match unpacked.body {
            Some(Ok(body)) => body,
            Some(Err(error @ BodyError::Dropped(_))) => return quarantined(Reason::TooLarge, error),
            Some(Err(error @ BodyError::Broken)) => return quarantined(Reason::UnknownMessage, error),
            None => return quarantined(Reason::UnknownMessage, BodyError::Broken),
        },
    };
    if has_too_many_values(&body) {
        return quarantined(Reason::TooLarge, "the body holds more values than any entity");
    }
    let mapping = platform.mapping;
    // Any connection may be probed, whatever else it takes.
    if envelope.scope == PROBE {
        return ignored(Rule::PROBE);
    }
    let resolved = resolve(&platform, &envelope.scope);
    let (entity, action) = match resolved {
        Resolved::Entity(entity, action) => (entity, action),
        Resolved::Notice => {
            return match read_notice(platform, &envelope, &body) {
                Ok(notice) => task(envelope, What::Note(notice)),
                Err(error) => quarantined(Reason::Malformed, error),
            };
        }
        // It was proven, but what it is about could not be read.
        Resolved::Ignored(Rule::UNKNOWN_SCOPE) if envelope.scope == UNNAMED_SCOPE => {
            return quarantined(Reason::Malformed, MapError::Malformed("the scope".into()));
        }
        // To this connection it may mean something.
        Resolved::Ignored(rule) => return task(envelope, What::Late(body, Box::new(ignored(rule)))),
    };
    let late = mapping.fallback() == Some((entity, action));
    let incoming = Incoming {
        connection: &connection,
        scope: &envelope.scope,
        delivery_id: envelope.delivery_id.as_deref(),
        entity,
        action,
        body: &body,
        received: envelope.received,
    };
    let work = |id, changes| {
        let key = EntityKey { connection: connection.clone(), kind: entity, id };
        let envelope = envelope.clone();
        let weight = weight(&body);
        Box::new(Work { index, platform, key, changes, only_if_known: None, beside: false, weight, envelope })
    };
    let by_user = |mapped| match &envelope.user {
        Some(user) => mapping.by_user(&incoming, user, mapped),
        None => mapped,
    };
    let understood = match map_delivery(mapping, &incoming).map(by_user) {
        Ok(Mapped::Change(id, change)) => Understood::Work(work(id, vec![change])),
        Ok(Mapped::IfKnown(id, change, rule)) => {
            Understood::Work(Box::new(Work { only_if_known: Some(rule), ..*work(id, vec![change]) }))
        }
        Ok(Mapped::Pull(id)) => Understood::Work(work(id, Vec::new())),
        Ok(Mapped::PullWith(id, change)) => {
            Understood::Work(Box::new(Work { beside: true, ..*work(id, vec![change]) }))
        }
        Ok(Mapped::Known(entity, prefixes)) => {
            task(envelope.clone(), What::Known(Known { entity, prefixes, after: None }))
        }
        Ok(Mapped::Split(transfers)) => task(envelope.clone(), What::Split(transfers)),
        Ok(Mapped::List(listing)) => task(envelope.clone(), What::List(listing, None)),
        Ok(Mapped::Ignored(rule)) => ignored(rule),
        Err(error @ MapError::Malformed(_)) => quarantined(Reason::Malformed, error),
        Err(error @ MapError::TooLarge(_)) => quarantined(Reason::TooLarge, error),
        Err(error @ MapError::PlatformError(_)) => {
            let then = match mapping.recover(&incoming) {
                Some(listing) => {
                    let end = End::Outcome(Outcome::Quarantined(Reason::PlatformError));
                    task(envelope.clone(), What::List(listing, Some((end, error.to_string()))))
                }
                None => quarantined(Reason::PlatformError, error),
            };
            match platform.notices.and_then(|notices| notices.complaint(&incoming)) {
                Some(notice) => task(envelope.clone(), What::Complaint(notice, Box::new(then))),
                None => then,
            }
        }
    };
    // A scope that nobody declared may mean something to this connection.
    if late { task(envelope, What::Late(body, Box::new(understood))) } else { understood }
}

fn read_notice(platform: Platform, envelope: &Envelope, body: &[u8]) -> Result<Notice, MapError> {
    let notices =
        platform.notices.ok_or_else(|| MapError::Malformed("the scope: it tells the registrar nothing".into()))?;
    notices.read(&envelope.scope, body, envelope.received)
}

/// Whether a connection takes this message at all; if not, by which rule.
pub(crate) fn gate<'c>(
    connection: Option<&'c Connection>,
    platform: &Platform,
    envelope: &Envelope,
) -> Result<&'c Connection, Rule> {
    let Some(connection) = connection else { return Err(Rule::UNKNOWN_CONNECTION) };
    if connection.status == ConnectionStatus::Disconnected {
        return Err(Rule::DISCONNECTED);
    }
    if connection.status == ConnectionStatus::Paused {
        return Err(Rule::PAUSED);
    }
    if connection.generation != envelope.generation {
        return Err(Rule::RETIRED_GENERATION);
    }
    if connection.is_unwanted(&envelope.scope) {
        return Err(Rule::UNWANTED_SCOPE);
    }
    // What its own credentials were answered needs no other proof.
    if envelope.provenance != Provenance::Answer {
        platform.mapping.admits(connection, &envelope.claims)?;
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

/// What a [`Processor`] is made of.
pub struct Edges<E, Q, V, O, C, J> {
    /// The state.
    pub entities: E,
    /// Both queues.
    pub queues: Q,
    /// What credentials are decrypted with.
    pub vault: V,
    /// What platforms are called with.
    pub outbound: O,
    /// Notes about connections.
    pub coordination: C,
    /// The registrar's queue.
    pub jobs: J,
}

/// The processor on its edges.
pub struct Processor<E, Q, V, O, C, J> {
    pub(crate) platforms: &'static [Platform],
    pub(crate) edges: Edges<E, Q, V, O, C, J>,
    pub(crate) allow_loopback: bool,
    pub(crate) clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    pub(crate) leases: Leases,
    pub(crate) lately: Throttle,
    opened: Mutex<HashMap<ConnectionKey, Opened>>,
}

/// Credentials that were decrypted, with what they were decrypted from.
struct Opened {
    cipher: String,
    plain: zeroize::Zeroizing<String>,
    until: Timestamp,
}

/// How many connections' credentials one environment keeps decrypted.
const MAX_OPENED: usize = 500;
/// How long it keeps them, in seconds.
const OPENED_SECONDS: i64 = 900;

impl<E, Q, V: Vault, O, C, J> Processor<E, Q, V, O, C, J> {
    /// On these edges. With `allow_loopback`, for local runs, platforms may be on this machine.
    pub fn new(
        platforms: &'static [Platform],
        edges: Edges<E, Q, V, O, C, J>,
        allow_loopback: bool,
        clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    ) -> Self {
        let (leases, lately) = (Leases::default(), Throttle::default());
        Self { platforms, edges, allow_loopback, clock, leases, lately, opened: Mutex::default() }
    }

    /// A connection's credentials, decrypted once for as long as they stay the same, and not for ever.
    pub(crate) async fn open(
        &self,
        key: &ConnectionKey,
        cipher: &str,
    ) -> Result<zeroize::Zeroizing<String>, EdgeError> {
        let now = (self.clock)();
        {
            let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(known) = opened.get(key).filter(|known| known.cipher == cipher && now < known.until) {
                return Ok(known.plain.clone());
            }
        }
        let plain = zeroize::Zeroizing::new(self.edges.vault.decrypt(key, cipher).await?);
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if opened.len() >= MAX_OPENED {
            opened.clear();
        }
        let until = now.plus_seconds(OPENED_SECONDS);
        opened.insert(key.clone(), Opened { cipher: cipher.to_owned(), plain: plain.clone(), until });
        Ok(plain)
    }
}
