//! Owns the queue message: [`Sealed`], the half that is written, and [`Envelope`], the half that is read.
//!
//! The format is a promise: a new release still reads old messages, because a queue keeps them for two weeks and a
//! dead-letter queue for two more. A version that this release does not know is quarantined, not lost.

use std::{collections::BTreeMap, fmt, io::Read};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use flate2::{
    Compression,
    read::{DeflateDecoder, DeflateEncoder},
};
use serde::{Deserialize, Serialize};

use crate::{
    change_event::Snapshot,
    connection::{Connection, ConnectionStatus},
    cursor::Fetch,
    entity::EntityKind,
    http_call::{ApiResponse, Fault},
    key::{ConnectionKey, Generation},
    origin::Origin,
    platform::{
        lists::{Listed, Lists, read_page},
        mapping::{PART, Part},
        pull::Access,
    },
    redaction::Redaction,
    request::WebhookPath,
    scheme::Strength,
    timestamp::Timestamp,
    transfer::{Listing, Transfer},
    verification::Verification,
    verify::Verified,
};

/// The version that this release writes.
pub const VERSION: u32 = 1;

/// The longest message, in bytes. SQS takes 1 MiB (1,048,576 bytes) in all; the rest is for a dead letter's attributes.
pub const MAX_MESSAGE_BYTES: usize = 1_048_576 - 4_096;

/// The level of compression: bodies are a few hundredths longer than at the usual one, for a third of the time.
const LEVEL: u32 = 3;

/// The longest body, in bytes, that travels as it is, where that is legal, and stays readable in the queue. SQS bills
/// by 64 KiB, so longer bodies are worth compressing.
pub const MAX_TEXT_BYTES: usize = 48 * 1024;

/// The most bytes that a compressed body may unpack to. Lambda takes requests of 6 MB.
const MAX_BODY_BYTES: u64 = 8 * 1024 * 1024;

/// The origin of a message. Each value belongs to constructors of [`Sealed`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Provenance {
    /// A [`Verified`] request.
    Delivery,
    /// The [`Envelope`] of a delivery, for a part or a child of it, a deferral, or a redrive.
    Envelope,
    /// An [`Answered`], directly or through other messages: an answer of the platform's API to the connection's
    /// credentials.
    Answer,
    /// The registrar itself: [`Sealed::erasure`] and [`Sealed::reprojections`], about a connection whose record says so,
    /// [`Sealed::redaction`], [`Sealed::verification`] and [`Sealed::snapshot`].
    Registrar,
}

impl Provenance {
    /// Returns the origin of messages derived from such a message. Answers to the connection's own credentials, and the
    /// registrar's commands, need no further proof.
    const fn derived(self) -> Self {
        match self {
            Self::Delivery | Self::Envelope => Self::Envelope,
            Self::Answer | Self::Registrar => self,
        }
    }
}

/// The topic (`scope`) of entities found by an incremental or full sync.
pub const POLL: &str = "poll";
/// The topic of entities found by a backfill.
pub const IMPORT: &str = "import";
/// The topic of the command to erase.
pub const ERASE: &str = "erase";
/// The topic of the command to redact persons.
pub const REDACT: &str = "redact";
/// The topic of the command to verify.
pub const VERIFY: &str = "verify";
/// The topic of the command to tell of every entity.
pub const SNAPSHOT: &str = "snapshot";
/// The topic of the command to project deleted items again under other policies.
pub const REPROJECT: &str = "reproject";

/// A page of a list, read from an answer to a call with the connection's credentials. [`Answered::read`] is the only
/// maker, so a value is always a platform's answer.
#[derive(Clone, Debug)]
pub struct Answered {
    key: ConnectionKey,
    generation: Generation,
    at: Timestamp,
    listed: Listed,
}

impl Answered {
    /// Reads the answer to [`Lists::list`]; `at` is the instant before the call.
    ///
    /// # Errors
    /// The [`Fault`] that the answer means.
    pub fn read(
        lists: &dyn Lists,
        path: &WebhookPath,
        access: &Access<'_>,
        listing: &Listing,
        answer: &ApiResponse,
        at: Timestamp,
    ) -> Result<Self, Fault> {
        let listed = read_page(lists, access, listing, answer, at)?;
        Ok(Self { key: path.key.clone(), generation: path.generation, at, listed })
    }

    fn envelope(&self, scope: &str, content: Content) -> Envelope {
        Envelope {
            version: VERSION,
            provenance: Provenance::Answer,
            key: self.key.clone(),
            generation: self.generation,
            scope: scope.to_owned(),
            delivery_id: None,
            user: None,
            key_id: String::new(),
            // The list names the entity; its present content is pulled.
            strength: Strength::Caller,
            received: self.at,
            claims: BTreeMap::new(),
            trace: None,
            deferrals: 0,
            depth: 0,
            origin: None,
            content,
        }
    }

    /// Reads the answer to [`Lists::count`] into the command to compare it with the count of entities known here.
    /// Returns `None` when the answer has no count.
    pub fn count(
        lists: &dyn Lists,
        path: &WebhookPath,
        entity: EntityKind,
        answer: &ApiResponse,
        at: Timestamp,
    ) -> Option<Sealed> {
        let total = lists.read_count(answer).filter(|_| answer.is_success())?;
        let listed = Listed { found: Vec::new(), next: None };
        let answered = Self { key: path.key.clone(), generation: path.generation, at, listed };
        let counted = Counted { entity, total, known: 0, after: None };
        Some(Sealed::write(&answered.envelope(POLL, Content::Counted(counted))))
    }

    /// Returns the entries of the page.
    pub fn found(&self) -> &[Transfer] {
        &self.listed.found
    }

    /// Returns the rest of the list.
    pub fn next(&self) -> Option<&Listing> {
        self.listed.next.as_ref()
    }
}

/// The content of a message.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    /// The raw bytes of a delivery, so that a replay repairs a mapping bug.
    Delivery(Body),
    /// A transfer request; its entity is pulled.
    Transfer(Transfer),
    /// A list at the platform that is to be read, each entry a transfer request.
    Listing(Listing),
    /// The end of a full sync: entities that are known here and that it did not list have to be pulled, because they
    /// may be gone.
    Swept(Swept),
    /// The platform's count of an entity. If more are known here, some are gone without a delivery.
    Counted(Counted),
    /// The command to pull all known entities whose ids begin in a given way.
    Known(Known),
    /// The command to erase the state of a connection, which is disconnected.
    Erase(Erasure),
    /// The command to project deleted items again, because the connection's delete policies were changed.
    Reproject(Reprojection),
    /// The command to redact persons.
    Redact(Redaction),
    /// The command to compare what is here with the platform.
    Verify(Verification),
    /// The command to tell readers of every entity.
    Snapshot(Snapshot),
}

/// Known entities, by the beginnings of their ids, after something that they all belonged to is gone.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Known {
    /// The kind of entity.
    pub entity: EntityKind,
    /// The beginnings of the ids. The first one is read to its end before the next.
    pub prefixes: Vec<String>,
    /// The position to continue at in the first one's entities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// A full sync of an entity that has ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Swept {
    /// The kind of entity.
    pub entity: EntityKind,
    /// The time at which it began. It need not have listed entities that came later.
    pub begun: Timestamp,
    /// The position to continue at in the known entities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// The platform's count of an entity, and the progress of counting the known ones.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Counted {
    /// The kind of entity.
    pub entity: EntityKind,
    /// The platform's count.
    pub total: u64,
    /// The number counted here so far.
    #[serde(default)]
    pub known: u64,
    /// The position to continue at in the known entities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// The progress of projecting deleted items again under another policy.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Reprojection {
    /// The kind of entity.
    pub entity: EntityKind,
    /// The position to continue at in the known entities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// The progress of an erasure.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Erasure {
    /// The position to continue at in the known entities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// A body as a message carries it. SQS takes only characters that are legal in XML.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Body {
    /// The body as it is.
    Text(String),
    /// The body in base64, because it is not legal text.
    Base64(String),
    /// The body deflated, then in base64.
    Deflate(String),
    /// A body that was left out because it fits no message; its length in bytes.
    Dropped(u64),
}

/// An error for a body that its message cannot give.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BodyError {
    /// The body was left out for its size.
    #[error("the body of {0} bytes did not fit a message")]
    Dropped(u64),
    /// The body's encoding is broken.
    #[error("the body cannot be decoded")]
    Broken,
}

impl Body {
    /// Packs bytes: as text where possible, otherwise in the smaller encoding.
    pub fn pack(bytes: &[u8]) -> Self {
        if bytes.len() <= MAX_TEXT_BYTES
            && let Ok(text) = std::str::from_utf8(bytes)
            && is_legal_in_sqs(bytes)
        {
            return Self::Text(text.to_owned());
        }
        let mut deflated = Vec::new();
        let read = DeflateEncoder::new(bytes, Compression::new(LEVEL)).read_to_end(&mut deflated);
        if read.is_ok() && deflated.len() < bytes.len() {
            Self::Deflate(STANDARD.encode(&deflated))
        } else {
            Self::Base64(STANDARD.encode(bytes))
        }
    }

    /// Returns the original bytes.
    ///
    /// # Errors
    /// [`BodyError`] when the body was dropped, when its encoding is broken, or when it would unpack to more than any
    /// request.
    pub fn unpack(&self) -> Result<Bytes, BodyError> {
        match self {
            Self::Text(text) => Ok(Bytes::copy_from_slice(text.as_bytes())),
            Self::Base64(text) => STANDARD.decode(text).map(Bytes::from).map_err(|_| BodyError::Broken),
            Self::Deflate(text) => {
                let deflated = STANDARD.decode(text).map_err(|_| BodyError::Broken)?;
                let mut bytes = Vec::new();
                let mut limited = DeflateDecoder::new(deflated.as_slice()).take(MAX_BODY_BYTES + 1);
                limited.read_to_end(&mut bytes).map_err(|_| BodyError::Broken)?;
                if bytes.len() as u64 > MAX_BODY_BYTES { Err(BodyError::Broken) } else { Ok(bytes.into()) }
            }
            Self::Dropped(length) => Err(BodyError::Dropped(*length)),
        }
    }
}

/// Returns whether SQS takes a text in JSON. SQS refuses a whole message for one character that is illegal in XML. JSON
/// escapes those below U+0020, but carries the two non-characters, U+FFFE and U+FFFF, as they are.
fn is_legal_in_sqs(text: &[u8]) -> bool {
    let is_illegal = |at: usize| matches!(text.get(at..at + 3), Some([_, 0xbf, 0xbe | 0xbf]));
    !memchr::memchr_iter(0xef, text).any(is_illegal)
}

/// The content without bodies, which are never printed.
impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delivery(_) => f.write_str("Delivery(…)"),
            Self::Transfer(transfer) => transfer.fmt(f),
            Self::Listing(listing) => listing.fmt(f),
            Self::Swept(swept) => swept.fmt(f),
            Self::Counted(counted) => counted.fmt(f),
            Self::Known(known) => known.fmt(f),
            Self::Erase(erasure) => erasure.fmt(f),
            Self::Reproject(reprojection) => reprojection.fmt(f),
            Self::Redact(redaction) => redaction.fmt(f),
            Self::Verify(verification) => verification.fmt(f),
            Self::Snapshot(snapshot) => snapshot.fmt(f),
        }
    }
}

/// A message as it was read. It cannot be constructed, only parsed, by a reader of a queue.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Envelope {
    /// The schema's version.
    pub version: u32,
    /// The origin, which identifies the constructor of [`Sealed`].
    pub provenance: Provenance,
    /// Platform and connection.
    #[serde(flatten)]
    pub key: ConnectionKey,
    /// The generation of the path that the delivery came over.
    pub generation: Generation,
    /// The topic: the platform's own event name.
    pub scope: String,
    /// The platform's id of the delivery. Not unique.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery_id: Option<String>,
    /// The user on whose account it happened, where the delivery says. For people, and as reliable as the proof of the
    /// caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The id of the key that proved it.
    pub key_id: String,
    /// The coverage of its proof.
    pub strength: Strength,
    /// The time of receipt, in microseconds since 1970. It is set once and survives retry, quarantine, redrive and
    /// replay.
    pub received: Timestamp,
    /// The further claims of its proof.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, String>,
    /// The trace id of the delivery: the one that its sender was given, and that every line of the log about it names. All
    /// that comes of the delivery keeps it. Absent from messages that no delivery brought, and from those of older
    /// releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// The number of deferrals.
    #[serde(default, skip_serializing_if = "crate::json::is_default")]
    pub deferrals: u32,
    /// The number of transfer requests for related entities between the delivery and this message. The processor bounds
    /// it.
    #[serde(default, skip_serializing_if = "crate::json::is_default")]
    pub depth: u32,
    /// The origin of the message, where its provenance and topic do not tell it. [`Envelope::origin`] returns it for every
    /// message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// The content.
    pub content: Content,
}

/// An error for a text that this release cannot read as a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// The text is not JSON, or has no version.
    #[error("not a message of commerce-hooks")]
    NotAMessage,
    /// A version that this release does not know.
    #[error("message version {0} is not known to this release")]
    UnknownVersion(u32),
    /// A known version with a wrong form.
    #[error("a message of version {VERSION} with missing or malformed parts")]
    Malformed,
}

impl Envelope {
    /// Parses a message.
    ///
    /// # Errors
    /// [`EnvelopeError`]; the caller quarantines the message.
    pub fn parse(text: &str) -> Result<Self, EnvelopeError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let Versioned { version } = serde_json::from_str(text).map_err(|_| EnvelopeError::NotAMessage)?;
        if version != VERSION {
            return Err(EnvelopeError::UnknownVersion(version));
        }
        serde_json::from_str(text).map_err(|_| EnvelopeError::Malformed)
    }

    /// Returns the origin of the message, such as a webhook or a poll.
    pub fn origin(&self) -> Origin {
        self.origin.unwrap_or(match self.provenance {
            Provenance::Delivery | Provenance::Envelope => Origin::Webhook,
            Provenance::Answer if self.scope == IMPORT => Origin::Backfill,
            Provenance::Answer => Origin::Poll,
            Provenance::Registrar if self.scope == REDACT => Origin::Redaction,
            Provenance::Registrar if self.scope == VERIFY => Origin::Repair,
            Provenance::Registrar => Origin::Policy,
        })
    }

    /// Returns the path of the webhook that delivered it.
    pub fn path(&self) -> WebhookPath {
        WebhookPath { key: self.key.clone(), generation: self.generation }
    }
}

/// A message that may go on the queue. It can only be made from proven data.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed {
    text: String,
    group: String,
}

impl Sealed {
    /// Seals a delivery, with its trace id. A body that fits no message is left out; the message then ends as
    /// `quarantined: too-large`.
    pub fn from_verified(verified: &Verified, trace: Option<&str>) -> Self {
        let with = |body: Body| {
            Self::write(&Envelope {
                version: VERSION,
                provenance: Provenance::Delivery,
                key: verified.path().key.clone(),
                generation: verified.path().generation,
                scope: verified.scope().to_owned(),
                delivery_id: verified.delivery_id().map(str::to_owned),
                user: verified.user().map(str::to_owned),
                key_id: verified.key_id().to_owned(),
                strength: verified.strength(),
                received: verified.received(),
                claims: verified.claims().clone(),
                trace: trace.map(str::to_owned),
                deferrals: 0,
                depth: 0,
                origin: None,
                content: Content::Delivery(body),
            })
        };
        let sealed = with(Body::pack(verified.body()));
        if sealed.text.len() <= MAX_MESSAGE_BYTES {
            return sealed;
        }
        with(Body::Dropped(verified.body().len() as u64))
    }

    /// Seals an answer of a platform's API: a message for each entity of the page that a fetch read.
    pub fn from_answer(answered: &Answered, fetch: Fetch) -> Vec<Self> {
        let scope = if fetch == Fetch::Backfill { IMPORT } else { POLL };
        let origin = (fetch == Fetch::Full).then_some(Origin::FullSync);
        let with =
            |transfer: &Transfer| Envelope { origin, ..answered.envelope(scope, Content::Transfer(transfer.clone())) };
        answered.listed.found.iter().map(|transfer| Self::write(&with(transfer))).collect()
    }

    /// Seals the end of a full sync of an entity, from its last page.
    pub fn swept(answered: &Answered, entity: EntityKind, begun: Timestamp) -> Self {
        let swept = answered.envelope(POLL, Content::Swept(Swept { entity, begun, after: None }));
        Self::write(&Envelope { origin: Some(Origin::FullSync), ..swept })
    }

    /// Seals the command to erase the state of a connection. Returns `None` when it is not disconnected.
    pub fn erasure(key: &ConnectionKey, connection: &Connection, now: Timestamp) -> Option<Self> {
        (connection.status == ConnectionStatus::Disconnected)
            .then(|| Self::ordered(key, connection, ERASE, Content::Erase(Erasure::default()), now))
    }

    /// Seals the commands to project deleted items under a connection's present delete policies: one for each entity
    /// whose policy was changed.
    pub fn reprojections(key: &ConnectionKey, connection: &Connection, now: Timestamp) -> Vec<Self> {
        let order = |entity| Content::Reproject(Reprojection { entity, after: None });
        connection
            .reproject
            .iter()
            .map(|entity| Self::ordered(key, connection, REPROJECT, order(*entity), now))
            .collect()
    }

    /// Seals the command to redact persons.
    pub fn redaction(key: &ConnectionKey, connection: &Connection, redaction: Redaction, now: Timestamp) -> Self {
        Self::ordered(key, connection, REDACT, Content::Redact(redaction), now)
    }

    /// Seals the command to verify a connection.
    pub fn verification(
        key: &ConnectionKey,
        connection: &Connection,
        verification: Verification,
        now: Timestamp,
    ) -> Self {
        Self::ordered(key, connection, VERIFY, Content::Verify(verification), now)
    }

    /// Seals the transfer request for an entity that a verification found to differ.
    pub fn repair(key: &ConnectionKey, connection: &Connection, transfer: Transfer, now: Timestamp) -> Self {
        Self::ordered(key, connection, VERIFY, Content::Transfer(transfer), now)
    }

    /// Seals the command to tell readers of every entity.
    pub fn snapshot(key: &ConnectionKey, connection: &Connection, snapshot: Snapshot, now: Timestamp) -> Self {
        Self::ordered(key, connection, SNAPSHOT, Content::Snapshot(snapshot), now)
    }

    fn ordered(key: &ConnectionKey, connection: &Connection, scope: &str, content: Content, now: Timestamp) -> Self {
        Self::write(&Envelope {
            version: VERSION,
            provenance: Provenance::Registrar,
            key: key.clone(),
            generation: connection.generation,
            scope: scope.to_owned(),
            delivery_id: None,
            user: None,
            key_id: String::new(),
            strength: Strength::Caller,
            received: now,
            claims: BTreeMap::new(),
            trace: None,
            deferrals: 0,
            depth: 0,
            origin: None,
            content,
        })
    }

    /// Seals a part of a message: one of the transfer requests that it stands for, or a list. It keeps the delivery's
    /// id, receipt and proof.
    pub fn part(envelope: &Envelope, content: Content) -> Self {
        Self::write(&Envelope { provenance: envelope.provenance.derived(), content, deferrals: 0, ..envelope.clone() })
    }

    /// Seals a part of a delivery that has many. It keeps the delivery's receipt and proof.
    pub fn delivered_part(envelope: &Envelope, part: &Part) -> Self {
        let mut claims = envelope.claims.clone();
        claims.insert(PART.to_owned(), "true".to_owned());
        let with = |body: Body| {
            Self::write(&Envelope {
                provenance: envelope.provenance.derived(),
                scope: part.scope.clone(),
                delivery_id: part.delivery_id.clone().or_else(|| envelope.delivery_id.clone()),
                claims: claims.clone(),
                deferrals: 0,
                content: Content::Delivery(body),
                ..envelope.clone()
            })
        };
        let sealed = with(Body::pack(&part.body));
        match sealed.text.len() <= MAX_MESSAGE_BYTES {
            true => sealed,
            false => with(Body::Dropped(part.body.len() as u64)),
        }
    }

    /// Seals a transfer request that takes the place of a message whose content must not stay. It names no user.
    pub fn in_place_of(envelope: &Envelope, transfer: Transfer) -> Self {
        Self::part(&Envelope { user: None, ..envelope.clone() }, Content::Transfer(transfer))
    }

    /// Seals the transfer request for a related entity.
    pub fn child(envelope: &Envelope, transfer: Transfer) -> Self {
        let content = Content::Transfer(transfer);
        let depth = envelope.depth.saturating_add(1);
        let provenance = envelope.provenance.derived();
        Self::write(&Envelope { provenance, content, deferrals: 0, depth, ..envelope.clone() })
    }

    /// Seals a deferred copy of a message: the same delivery and receipt, one deferral more.
    pub fn deferred(envelope: &Envelope) -> Self {
        Self::write(&Envelope {
            provenance: envelope.provenance.derived(),
            deferrals: envelope.deferrals.saturating_add(1),
            ..envelope.clone()
        })
    }

    /// Seals a copy of a message from the dead-letter queue. Its deferrals count from 0 again.
    pub fn redriven(envelope: &Envelope) -> Self {
        let (provenance, origin) = (envelope.provenance.derived(), Some(Origin::Replay));
        Self::write(&Envelope { provenance, origin, deferrals: 0, ..envelope.clone() })
    }

    /// Returns the message's text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the `MessageGroupId`, which keeps one connection's backlog from delaying the others.
    pub fn group(&self) -> &str {
        &self.group
    }

    fn write(envelope: &Envelope) -> Self {
        match serde_json::to_string(envelope) {
            // Topics and ids can contain characters that SQS refuses; JSON can escape them.
            Ok(text) if text.contains(['\u{fffe}', '\u{ffff}']) => {
                let text = text.replace('\u{fffe}', "\\ufffe").replace('\u{ffff}', "\\uffff");
                Self { text, group: envelope.key.to_string() }
            }
            Ok(text) => Self { text, group: envelope.key.to_string() },
            Err(_) => unreachable!("an envelope holds only strings and numbers"),
        }
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealed").field("group", &self.group).field("bytes", &self.text.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn envelope(body: Body) -> Envelope {
        Envelope {
            version: VERSION,
            provenance: Provenance::Delivery,
            key: ConnectionKey { platform: "woocommerce".into(), connection: "shop.example.com".parse().unwrap() },
            generation: Generation::FIRST,
            scope: "order.updated".into(),
            delivery_id: Some("d1".into()),
            user: None,
            key_id: "initial".into(),
            strength: Strength::Body,
            received: Timestamp::from_millis(1_795_219_200_123),
            claims: BTreeMap::new(),
            trace: None,
            deferrals: 0,
            depth: 0,
            origin: None,
            content: Content::Delivery(body),
        }
    }

    /// A message that an earlier release wrote. Never change this text: add another beside it.
    #[test]
    fn version_1_stays_readable() {
        let text = r#"{"version":1,"provenance":"delivery","platform":"woocommerce","connection":"shop.example.com","generation":1,"scope":"order.updated","delivery_id":"d1","key_id":"initial","strength":"body","received":1795219200123000,"content":{"delivery":{"text":"{\"id\":13}"}}}"#;
        let expected = envelope(Body::Text(r#"{"id":13}"#.into()));
        assert_eq!(Envelope::parse(text), Ok(expected.clone()));
        assert_eq!(Sealed::write(&expected).text(), text);
        assert_eq!(Sealed::write(&expected).group(), "woocommerce#shop.example.com");
    }

    #[test]
    fn who_it_was_travels_with_it() {
        let text = r#"{"version":1,"provenance":"delivery","platform":"woocommerce","connection":"shop.example.com","generation":1,"scope":"order.updated","delivery_id":"d1","user":"ada","key_id":"initial","strength":"body","received":1795219200123000,"content":{"delivery":{"text":"{\"id\":13}"}}}"#;
        let expected = Envelope { user: Some("ada".into()), ..envelope(Body::Text(r#"{"id":13}"#.into())) };
        assert_eq!(Envelope::parse(text), Ok(expected.clone()));
        assert_eq!(Sealed::write(&expected).text(), text);
        for again in [Sealed::deferred(&expected), Sealed::redriven(&expected)] {
            assert_eq!(Envelope::parse(again.text()).unwrap().user.as_deref(), Some("ada"));
        }
    }

    #[test]
    fn all_that_comes_of_a_delivery_keeps_its_trace() {
        let text = r#"{"version":1,"provenance":"delivery","platform":"woocommerce","connection":"shop.example.com","generation":1,"scope":"order.updated","delivery_id":"d1","key_id":"initial","strength":"body","received":1795219200123000,"trace":"t1","content":{"delivery":{"text":"{\"id\":13}"}}}"#;
        let expected = Envelope { trace: Some("t1".into()), ..envelope(Body::Text(r#"{"id":13}"#.into())) };
        assert_eq!(Envelope::parse(text), Ok(expected.clone()));
        assert_eq!(Sealed::write(&expected).text(), text);
        let transfer = || Transfer::new(EntityKind::Order, 1.into(), "x");
        let part = Part { scope: "order.updated".into(), delivery_id: None, body: Bytes::from_static(b"{}") };
        for derived in [
            Sealed::deferred(&expected),
            Sealed::redriven(&expected),
            Sealed::part(&expected, Content::Transfer(transfer())),
            Sealed::delivered_part(&expected, &part),
            Sealed::in_place_of(&expected, transfer()),
            Sealed::child(&expected, transfer()),
        ] {
            assert_eq!(Envelope::parse(derived.text()).unwrap().trace.as_deref(), Some("t1"));
        }
    }

    #[test]
    fn a_message_tells_what_brought_it() {
        let delivery = envelope(Body::Text("{}".into()));
        let answer = |scope: &str| Envelope { provenance: Provenance::Answer, scope: scope.into(), ..delivery.clone() };
        let registrar = Envelope { provenance: Provenance::Registrar, ..delivery.clone() };
        let full = Envelope { origin: Some(Origin::FullSync), ..answer(POLL) };
        for (message, origin) in [
            (&delivery, Origin::Webhook),
            (&answer(IMPORT), Origin::Backfill),
            (&answer(POLL), Origin::Poll),
            (&full, Origin::FullSync),
            (&registrar, Origin::Policy),
        ] {
            assert_eq!(message.origin(), origin);
            let part = Sealed::part(message, Content::Delivery(Body::Text(String::new())));
            for derived in [Sealed::deferred(message), part] {
                assert_eq!(Envelope::parse(derived.text()).unwrap().origin(), origin);
            }
            let redriven = Envelope::parse(Sealed::redriven(message).text()).unwrap();
            assert_eq!(redriven.origin(), Origin::Replay);
        }
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        assert_eq!(Envelope::parse("hello"), Err(EnvelopeError::NotAMessage));
        assert_eq!(Envelope::parse(r#"{"id":1}"#), Err(EnvelopeError::NotAMessage));
        assert_eq!(Envelope::parse(r#"{"version":2,"new":true}"#), Err(EnvelopeError::UnknownVersion(2)));
        assert_eq!(Envelope::parse(r#"{"version":1}"#), Err(EnvelopeError::Malformed));
        let bad_id = Sealed::write(&envelope(Body::Text(String::new()))).text.replace("shop.example", "../x");
        assert_eq!(Envelope::parse(&bad_id), Err(EnvelopeError::Malformed));
    }

    #[test]
    fn a_deferral_keeps_delivery_and_receipt() {
        let before = envelope(Body::Text("{}".into()));
        let after = Envelope::parse(Sealed::deferred(&before).text()).unwrap();
        let expected = Envelope { deferrals: 1, provenance: Provenance::Envelope, ..before };
        assert_eq!(after, expected);
    }

    /// A message from an answer to the connection's own credentials needs no claims, however often it is deferred.
    #[test]
    fn what_comes_of_an_answer_is_from_an_answer() {
        let content = Content::Transfer(Transfer::new(EntityKind::Order, 1.into(), "x"));
        let before = Envelope { provenance: Provenance::Answer, content, ..envelope(Body::Text(String::new())) };
        let transfer = Transfer::new(EntityKind::Customer, 2.into(), "x");
        for sealed in [
            Sealed::deferred(&before),
            Sealed::redriven(&before),
            Sealed::part(&before, Content::Transfer(transfer.clone())),
            Sealed::child(&before, transfer),
        ] {
            assert_eq!(Envelope::parse(sealed.text()).unwrap().provenance, Provenance::Answer);
        }
    }

    #[test]
    fn bodies_are_readable_where_that_is_legal_and_small() {
        assert!(matches!(Body::pack(b"{\"id\":1}"), Body::Text(_)));
        assert!(matches!(Body::pack("{\"name\":\"Malm\u{f6} \u{1F375}\"}".as_bytes()), Body::Text(_)));
        assert!(matches!(Body::pack("\u{ffff}".as_bytes()), Body::Base64(_)));
        assert!(matches!(Body::pack("\u{feff}\u{fffd} \u{fffe}".as_bytes()), Body::Base64(_)));
        assert!(matches!(Body::pack("\u{feff}\u{fffd} \u{f000}\u{10ffff}".as_bytes()), Body::Text(_)));
        assert!(matches!(Body::pack(&[0xff, 0xfe]), Body::Base64(_)));
        assert!(matches!(Body::pack(&vec![b'x'; MAX_TEXT_BYTES + 1]), Body::Deflate(_)));
    }

    #[test]
    fn a_deflated_body_cannot_become_larger_than_any_request() {
        let bomb = Body::pack(&vec![0; usize::try_from(MAX_BODY_BYTES).unwrap() + 1]);
        assert_eq!(bomb.unpack(), Err(BodyError::Broken));
        assert_eq!(Body::Base64("?".into()).unpack(), Err(BodyError::Broken));
        assert_eq!(Body::Deflate("AAAA".into()).unpack(), Err(BodyError::Broken));
        assert_eq!(Body::Dropped(7).unpack(), Err(BodyError::Dropped(7)));
    }

    proptest! {
        #[test]
        fn any_body_survives_and_is_legal(bytes in proptest::collection::vec(any::<u8>(), 0..2000), text in any::<String>()) {
            for body in [bytes.as_slice(), text.as_bytes()] {
                let sealed = Sealed::write(&envelope(Body::pack(body)));
                let legal = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
                prop_assert!(sealed.text().chars().all(legal));
                let Content::Delivery(read) = Envelope::parse(sealed.text()).unwrap().content else { unreachable!() };
                prop_assert_eq!(read.unpack().unwrap(), body);
            }
        }

        #[test]
        fn no_text_makes_reading_panic(text in any::<String>()) {
            prop_assert!(Envelope::parse(&text).is_err());
        }
    }
}
