//! The requests of messages, as far as each message alone states them.

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use commerce::{
    change::Change,
    change_event::Snapshot,
    connection::Connection,
    entity::{EntityKey, EntityKind},
    envelope::{BodyError, Content, Counted, Envelope, EnvelopeError, Erasure, Known, Reprojection, Swept},
    item::Writer,
    outcome::{Outcome, Reason, Rule},
    platform::{
        Platform,
        delivery::PROBE,
        find,
        mapping::{
            BySettings, Incoming, MAX_ENTRIES, MapError, Mapped, Meant, Part, Resolved, Settled, map_delivery,
            processor, resolve,
        },
        notice::Notice,
    },
    redaction::{Pseudonym, Redaction},
    request::{has_too_many_values, weight},
    scheme::Strength,
    timestamp::Timestamp,
    transfer::{EntityProcessor, Listing, Transfer, late},
    verification::Verification,
    verify::UNNAMED_SCOPE,
};

use crate::{
    Message,
    disposition::{Disposition, Ended},
};

/// A message of a batch with its envelope, which is read once.
pub(crate) struct Parsed<'m> {
    pub message: &'m Message,
    pub envelope: Result<Arc<Envelope>, EnvelopeError>,
    /// The entity that it turned out to be about.
    pub entity: OnceLock<EntityKey>,
}

impl<'m> Parsed<'m> {
    /// Reads the envelope of a message. A message that no delivery brought begins a trace by its own id, which all that
    /// comes of it keeps.
    pub fn new(message: &'m Message) -> Self {
        let envelope = Envelope::parse(&message.body).map(|mut envelope| {
            envelope.trace.get_or_insert_with(|| message.id.clone());
            Arc::new(envelope)
        });
        Self { message, envelope, entity: OnceLock::new() }
    }

    /// Returns the trace id of the message.
    pub fn trace(&self) -> &str {
        self.envelope().and_then(|envelope| envelope.trace.as_deref()).unwrap_or(&self.message.id)
    }

    /// Returns the envelope, unless it is unreadable.
    pub fn envelope(&self) -> Option<&Arc<Envelope>> {
        self.envelope.as_ref().ok()
    }

    /// Unpacks the body of a delivery, without parsing it.
    pub fn unpack(&self) -> Unpacked {
        match self.envelope().map(|envelope| &envelope.content) {
            Some(Content::Delivery(body)) => Unpacked(Some(body.unpack())),
            _ => Unpacked(None),
        }
    }
}

/// The bytes of a delivery's body; none for other messages.
pub(crate) struct Unpacked(Option<Result<Bytes, BodyError>>);

impl Unpacked {
    /// Estimates the memory that mapping the body takes, in bytes. A body with too many values is quarantined unparsed,
    /// so only its length counts.
    pub fn weight(&self) -> usize {
        match &self.0 {
            Some(Ok(body)) if has_too_many_values(body) => body.len(),
            Some(Ok(body)) => weight(body),
            _ => 0,
        }
    }
}

/// The request of a message.
pub(crate) enum Request {
    /// A request that the message states completely.
    Resolved(Resolution),
    /// A request whose topic (`scope`) says too little.
    Unresolved(Box<Unresolved>),
}

/// The request of a message, once its topic is understood.
#[derive(Clone)]
pub(crate) enum Resolution {
    /// Nothing more: the message has ended.
    Ended(Ended),
    /// One entity to bring up to date.
    Entity(Box<EntityUpdate>),
    /// A command, which needs the connection.
    Command(Box<CommandMessage>),
}

impl From<Ended> for Resolution {
    fn from(ended: Ended) -> Self {
        Self::Ended(ended)
    }
}

impl From<Rule> for Resolution {
    fn from(rule: Rule) -> Self {
        Self::Ended(rule.into())
    }
}

/// A message whose topic may mean an entity by the connection's presets.
pub(crate) struct Unresolved {
    pub index: usize,
    pub envelope: Arc<Envelope>,
    pub platform: Platform,
    body: Bytes,
    /// The request if no preset fits.
    otherwise: Resolution,
}

impl Unresolved {
    /// Returns the entity that the message is about if no preset fits.
    pub fn entity_without_presets(&self) -> Option<&EntityKey> {
        match &self.otherwise {
            Resolution::Entity(update) => Some(&update.key),
            Resolution::Ended(_) | Resolution::Command(_) => None,
        }
    }

    /// Resolves the topic with the connection's presets, or with its own mapping where it has one.
    pub fn resolve(self, connection: Option<&Connection>) -> Resolution {
        if let (Some(mapping), Some(connection)) = (self.platform.mapping.by_settings(), connection) {
            let own = || self.resolve_by(mapping, connection);
            return catch_unwind(AssertUnwindSafe(own)).unwrap_or_else(|_| Ended::retry(Reason::Panic, "").into());
        }
        let presets = connection.map(|connection| connection.presets.as_slice()).unwrap_or_default();
        let Self { index, envelope, platform, body, otherwise } = self;
        match late(presets, &envelope.scope, &body) {
            Some(transfer) => {
                let command = Command::Split(vec![transfer]);
                Resolution::Command(Box::new(CommandMessage { index, envelope, platform, command }))
            }
            None => otherwise,
        }
    }
}

impl Unresolved {
    fn resolve_by(&self, mapping: &dyn BySettings, connection: &Connection) -> Resolution {
        let Self { index, envelope, platform, body, otherwise: _ } = self;
        let reader = Reader { index: *index, envelope, platform };
        let delivery = Settled {
            settings: &connection.settings,
            scope: &envelope.scope,
            delivery_id: envelope.delivery_id.as_deref(),
            claims: &envelope.claims,
            body,
            received: envelope.received,
        };
        match mapping.map(&delivery) {
            Ok(Meant::Entity(kind, mapped)) => reader.mapped(kind, weight(body), mapped),
            Ok(Meant::Parts(parts)) if parts.len() > MAX_ENTRIES => {
                let error = MapError::TooLarge(format!("more than {MAX_ENTRIES} entities"));
                Ended::quarantined(Reason::Malformed, error).into()
            }
            Ok(Meant::Parts(parts)) => reader.command(Command::Parts(parts)),
            Ok(Meant::Ignored(rule)) => rule.into(),
            Err(error) => Ended::quarantined(Reason::Malformed, error).into(),
        }
    }
}

/// A message that concerns one entity.
#[derive(Clone)]
pub(crate) struct EntityUpdate {
    /// The message's place in the batch.
    pub index: usize,
    pub envelope: Arc<Envelope>,
    pub platform: Platform,
    pub key: EntityKey,
    /// The delivered changes. A message that only names the entity has none, and the entity is pulled.
    pub changes: Vec<Change>,
    /// The rule by which the message is ignored unless the entity is known.
    pub only_if_known: Option<Rule>,
    /// `true` when the delivered content is kept beside the platform's, which is asked in any case.
    pub beside: bool,
    /// The memory that the delivery takes, in bytes, roughly.
    pub weight: usize,
}

impl EntityUpdate {
    /// Returns whether the platform has to be asked, alone or before the message is believed: no content was delivered,
    /// the content is kept beside the platform's, the proof does not cover it, or the message is a delete or a restore,
    /// which could be an old one sent again.
    pub fn is_hint(&self) -> bool {
        let says = |change: &Change| match change {
            Change::Delete(_) | Change::Restore { .. } => false,
            Change::Upsert(upsert) => !upsert.observed,
        };
        self.beside || self.envelope.strength == Strength::Caller || !self.changes.iter().any(says)
    }

    /// Makes the message a hint, whatever it proves and whenever its entity changed.
    pub fn ask_again(&mut self) {
        let envelope = Arc::make_mut(&mut self.envelope);
        envelope.strength = Strength::Caller;
        if let Content::Transfer(transfer) = &mut envelope.content {
            transfer.changed = None;
        }
    }

    /// Returns whether the platform's API returns such an entity by its id, for this connection.
    pub fn can_be_pulled(&self, connection: &Connection) -> bool {
        self.platform.mapping.pulls(&connection.settings, self.key.kind)
    }

    /// Returns the platform's declaration of the entity.
    pub fn declared(&self) -> Option<&'static EntityProcessor> {
        processor(self.platform.mapping, self.key.kind)
    }
}

/// A message that does not name one entity.
#[derive(Clone)]
pub(crate) struct CommandMessage {
    /// The message's place in the batch.
    pub index: usize,
    pub envelope: Arc<Envelope>,
    pub platform: Platform,
    pub command: Command,
}

impl CommandMessage {
    /// Returns the writer of what the command writes at a time.
    pub fn writer(&self, now: Timestamp) -> Writer<'_> {
        let envelope = &self.envelope;
        let (trace, received) = (envelope.trace.as_deref(), Some(envelope.received));
        Writer { by: &envelope.scope, origin: envelope.origin(), trace, received, now }
    }
}

/// The request of a message that does not name one entity.
#[derive(Clone)]
pub(crate) enum Command {
    /// A message for each of these transfer requests.
    Split(Vec<Transfer>),
    /// A message for each of these parts of a delivery.
    Parts(Vec<Part>),
    /// A list to read.
    List(Listing),
    /// An entity to find, in whose place the platform delivered an error.
    Recover(Recovery),
    /// Entities to pull because a full sync did not list them.
    PullUnlisted(Swept),
    /// A count of known entities to compare with the platform's.
    Count(Counted),
    /// Known entities to pull, by the beginnings of their ids.
    PullKnown(Known),
    /// The state of a disconnected connection, to erase.
    Erase(Erasure),
    /// Deleted entities to project again, by the present policies.
    Reproject(Reprojection),
    /// The platform's demand to redact persons.
    DemandRedaction(BTreeSet<Pseudonym>),
    /// Persons to redact.
    Redact(Redaction),
    /// A verification, which takes a step.
    Verify(Verification),
    /// Entities to tell readers of.
    Snapshot(Snapshot),
    /// A notice for the registrar.
    Notice(Notice),
}

/// The response to a delivery that holds an error in place of the entity.
#[derive(Clone)]
pub(crate) struct Recovery {
    /// The list in which the entity has to be.
    pub listing: Option<Listing>,
    /// The notice for the registrar.
    pub complaint: Option<Notice>,
    /// The end of the message if the entity is not found.
    pub otherwise: Ended,
}

/// Reads the request of one message. A panic in a mapping fails that message alone.
pub(crate) fn request(
    platforms: &'static [Platform],
    index: usize,
    parsed: &Parsed<'_>,
    unpacked: Unpacked,
) -> Request {
    catch_unwind(AssertUnwindSafe(|| read(platforms, index, parsed, unpacked)))
        .unwrap_or_else(|_| Request::Resolved(Ended::retry(Reason::Panic, "").into()))
}

fn read(platforms: &'static [Platform], index: usize, parsed: &Parsed<'_>, unpacked: Unpacked) -> Request {
    let envelope = match &parsed.envelope {
        Ok(envelope) => envelope,
        Err(error @ (EnvelopeError::NotAMessage | EnvelopeError::UnknownVersion(_) | EnvelopeError::Malformed)) => {
            return Request::Resolved(Ended::quarantined(Reason::UnknownMessage, error).into());
        }
    };
    let Some(platform) = find(platforms, &envelope.key.platform) else {
        let ended = Ended::quarantined(Reason::UnknownPlatform, "this release has no such platform");
        return Request::Resolved(ended.into());
    };
    let reader = Reader { index, envelope, platform };
    match &envelope.content {
        Content::Transfer(transfer) => {
            let key = reader.entity(transfer);
            Request::Resolved(Resolution::Entity(Box::new(reader.update(key, Vec::new(), 0))))
        }
        Content::Listing(listing) => Request::Resolved(reader.command(Command::List(listing.clone()))),
        Content::Swept(swept) => Request::Resolved(reader.command(Command::PullUnlisted(swept.clone()))),
        Content::Counted(counted) => Request::Resolved(reader.command(Command::Count(counted.clone()))),
        Content::Known(known) => Request::Resolved(reader.command(Command::PullKnown(known.clone()))),
        Content::Erase(erasure) => Request::Resolved(reader.command(Command::Erase(erasure.clone()))),
        Content::Reproject(reprojection) => Request::Resolved(reader.command(Command::Reproject(reprojection.clone()))),
        Content::Redact(redaction) => Request::Resolved(reader.command(Command::Redact(redaction.clone()))),
        Content::Snapshot(snapshot) => Request::Resolved(reader.command(Command::Snapshot(snapshot.clone()))),
        Content::Verify(verification) => Request::Resolved(reader.command(Command::Verify(verification.clone()))),
        Content::Delivery(_) => match unpacked.0 {
            Some(Ok(body)) => reader.delivery(body),
            Some(Err(error @ BodyError::Dropped(_))) => {
                Request::Resolved(Ended::quarantined(Reason::TooLarge, error).into())
            }
            Some(Err(BodyError::Broken)) | None => {
                Request::Resolved(Ended::quarantined(Reason::UnknownMessage, BodyError::Broken).into())
            }
        },
    }
}

/// A message of a platform, while it is read.
#[derive(Clone, Copy)]
struct Reader<'a> {
    index: usize,
    envelope: &'a Arc<Envelope>,
    platform: &'a Platform,
}

impl Reader<'_> {
    fn entity(&self, transfer: &Transfer) -> EntityKey {
        EntityKey { connection: self.envelope.key.clone(), kind: transfer.entity, id: transfer.id.clone() }
    }

    fn update(&self, key: EntityKey, changes: Vec<Change>, weight: usize) -> EntityUpdate {
        EntityUpdate {
            index: self.index,
            envelope: self.envelope.clone(),
            platform: *self.platform,
            key,
            changes,
            only_if_known: None,
            beside: false,
            weight,
        }
    }

    fn command(&self, command: Command) -> Resolution {
        let Self { index, envelope, platform } = *self;
        Resolution::Command(Box::new(CommandMessage {
            index,
            envelope: envelope.clone(),
            platform: *platform,
            command,
        }))
    }

    /// Leaves the meaning of the topic to the connection's presets.
    fn unresolved(&self, body: Bytes, otherwise: Resolution) -> Request {
        let Self { index, envelope, platform } = *self;
        Request::Unresolved(Box::new(Unresolved {
            index,
            envelope: envelope.clone(),
            platform: *platform,
            body,
            otherwise,
        }))
    }

    /// Reads a delivery.
    fn delivery(&self, body: Bytes) -> Request {
        let (envelope, mapping) = (self.envelope, self.platform.mapping);
        if has_too_many_values(&body) {
            let ended = Ended::quarantined(Reason::TooLarge, "the body holds more values than any entity");
            return Request::Resolved(ended.into());
        }
        // Any connection may be probed, whatever else it accepts.
        if envelope.scope == PROBE {
            return Request::Resolved(Rule::PROBE.into());
        }
        // The connection alone knows what its deliveries mean.
        if mapping.by_settings().is_some() {
            return self.unresolved(body, Rule::UNKNOWN_CONNECTION.into());
        }
        match resolve(self.platform, &envelope.scope) {
            Resolved::Notice => Request::Resolved(self.notice(&body)),
            // The delivery was proven, but its topic could not be read.
            Resolved::Ignored(Rule::UNKNOWN_SCOPE) if envelope.scope == UNNAMED_SCOPE => {
                let error = MapError::Malformed("the topic".into());
                Request::Resolved(Ended::quarantined(Reason::Malformed, error).into())
            }
            // The connection's presets may know the topic.
            Resolved::Ignored(rule) => self.unresolved(body, rule.into()),
            Resolved::Entity(entity, action) => {
                let incoming = Incoming {
                    connection: &envelope.key,
                    scope: &envelope.scope,
                    delivery_id: envelope.delivery_id.as_deref(),
                    entity,
                    action,
                    body: &body,
                    received: envelope.received,
                };
                let resolution = self.map(&incoming);
                // The connection's presets may know a topic that nobody declared.
                match mapping.fallback() == Some((entity, action)) {
                    true => self.unresolved(body, resolution),
                    false => Request::Resolved(resolution),
                }
            }
        }
    }

    fn notice(&self, body: &[u8]) -> Resolution {
        let Some(notices) = self.platform.notices else { return Rule::UNKNOWN_SCOPE.into() };
        match notices.read(&self.envelope.scope, body, self.envelope.received) {
            Ok(notice) => self.command(Command::Notice(notice)),
            Err(error) => Ended::quarantined(Reason::Malformed, error).into(),
        }
    }

    /// Maps a delivery to its request.
    fn map(&self, incoming: &Incoming<'_>) -> Resolution {
        let mapping = self.platform.mapping;
        let by_user = |mapped| match &self.envelope.user {
            Some(user) => mapping.by_user(incoming, user, mapped),
            None => mapped,
        };
        match map_delivery(mapping, incoming).map(by_user) {
            Ok(mapped) => self.mapped(incoming.entity, weight(incoming.body), mapped),
            Err(error @ MapError::Malformed(_)) => Ended::quarantined(Reason::Malformed, error).into(),
            Err(error @ MapError::TooLarge(_)) => Ended::quarantined(Reason::TooLarge, error).into(),
            Err(error @ MapError::PlatformError(_)) => self.recovery(incoming, &error),
        }
    }

    /// Returns the request that a mapped delivery of this weight is.
    fn mapped(&self, kind: EntityKind, weight: usize, mapped: Mapped) -> Resolution {
        let update = |id, changes| {
            let key = EntityKey { connection: self.envelope.key.clone(), kind, id };
            self.update(key, changes, weight)
        };
        let entity = |update| Resolution::Entity(Box::new(update));
        match mapped {
            Mapped::Change(id, change) => entity(update(id, vec![change])),
            Mapped::IfKnown(id, change, rule) => {
                entity(EntityUpdate { only_if_known: Some(rule), ..update(id, vec![change]) })
            }
            Mapped::Pull(id) => entity(update(id, Vec::new())),
            Mapped::PullWith(id, change) => entity(EntityUpdate { beside: true, ..update(id, vec![change]) }),
            Mapped::Known(entity, prefixes) => {
                self.command(Command::PullKnown(Known { entity, prefixes, after: None }))
            }
            Mapped::Split(transfers) => self.command(Command::Split(transfers)),
            Mapped::List(listing) => self.command(Command::List(listing)),
            Mapped::Redact(persons) => self.command(Command::DemandRedaction(persons)),
            Mapped::Ignored(rule) => rule.into(),
        }
    }

    /// Returns the request of a delivery that holds an error in place of an entity.
    fn recovery(&self, incoming: &Incoming<'_>, error: &MapError) -> Resolution {
        let listing = self.platform.mapping.recover(incoming);
        let complaint = self.platform.notices.and_then(|notices| notices.complaint(incoming));
        let otherwise = Ended::quarantined(Reason::PlatformError, error);
        match (&listing, &complaint) {
            (None, None) => otherwise.into(),
            _ => self.command(Command::Recover(Recovery { listing, complaint, otherwise })),
        }
    }
}

/// Returns whether an end is a quarantine.
pub(crate) fn is_put_aside(ended: &Ended) -> bool {
    matches!(ended.disposition, Disposition::Done(Outcome::Quarantined(_)))
}

/// A message with its end.
pub(crate) struct Entry<'a> {
    pub parsed: &'a Parsed<'a>,
    pub ended: Ended,
}

impl Entry<'_> {
    /// Returns whether the message has to stay on the queue.
    pub fn comes_back(&self) -> bool {
        matches!(self.ended.disposition, Disposition::Retry(..) | Disposition::Unfinished)
    }

    /// Returns whether the message was quarantined.
    pub fn is_put_aside(&self) -> bool {
        is_put_aside(&self.ended)
    }

    /// Returns the name of the end, as reports have it.
    pub fn name(&self) -> &'static str {
        match &self.ended.disposition {
            Disposition::Done(outcome) => outcome.name(),
            Disposition::Deferred(_) => "deferred",
            Disposition::Retry(..) => "failed",
            Disposition::Unfinished => "unfinished",
        }
    }
}
