//! Owns the installation of an app at a platform by a merchant: the requests below `/apps/{platform}/`. Pure: a
//! platform says which calls to make and what follows, and the registrar does it.
//!
//! The sender of such a request is unknown. A token that the platform signed proves it, or an exchange of codes with
//! the platform itself, or a single-use nonce together with a call to the store.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use aws_lc_rs::digest;
use bytes::Bytes;
use http::{HeaderMap, Method};
use url::Url;
use zeroize::Zeroizing;

use crate::{
    apps::App,
    http_call::{ApiRequest, ApiResponse, Fault, Hosts, Loopback},
    key::ConnectionId,
    redaction::Pseudonym,
    timestamp::Timestamp,
};

/// Compares two texts in a time that reveals nothing of where they differ.
pub fn same_secret(one: &str, other: &str) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(&sha256(one), &sha256(other)).is_ok()
}

/// Returns the SHA-256 of a text, by which nonces and ids of tokens are noted.
pub fn sha256(text: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
    bytes
}

/// A request below `/apps/{platform}/`.
#[derive(Clone)]
pub struct Visit {
    /// The method, `GET` or `POST`.
    pub method: Method,
    /// The last part of the path.
    pub action: String,
    /// The query, decoded.
    pub query: BTreeMap<String, String>,
    /// The headers, which may be those of a delivery.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The time of the visit.
    pub now: Timestamp,
}

/// The visit's sizes only, because queries and bodies hold codes, tokens and keys.
impl fmt::Debug for Visit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with {} parameters and {} bytes", self.method, self.query.len(), self.body.len())
    }
}

impl Visit {
    /// Returns a required parameter of the query.
    ///
    /// # Errors
    /// [`Rejection::Malformed`].
    pub fn parameter(&self, name: &str) -> Result<&str, Rejection> {
        let value = self.query.get(name).map(String::as_str).filter(|value| !value.is_empty());
        value.ok_or_else(|| Rejection::Malformed(format!("{name} is missing in the address")))
    }
}

/// The app that is installed, with the deployment's part in it.
#[derive(Clone, Copy)]
pub struct Vendor<'a> {
    /// The app at this platform, where there is one.
    pub app: Option<&'a App>,
    /// The URL of these requests: the public base URL, and `/apps/{platform}`.
    pub apps_url: &'a str,
    /// An unguessable text that was never used.
    pub nonce: &'a str,
    /// The permission for platforms to be on this machine, for local runs.
    pub loopback: Loopback,
}

/// A fact found out for a [`Visit`], in the order of the steps that asked for them.
#[derive(Clone, Debug)]
pub enum Evidence {
    /// The answer to a [`Step::Ask`].
    Answer(ApiResponse),
    /// The intent that was noted with a nonce, from a [`Step::Spend`].
    Intent(String),
    /// The result of a [`Step::Look`]: `true` when the store is connected and was found well.
    Connected(bool),
}

/// The next step of a [`Visit`], given the evidence so far.
pub enum Step {
    /// A call to make, at one of [`Installation::hosts`].
    Ask(ApiRequest),
    /// A nonce that must be known and unspent. It is spent now, and its intent becomes evidence.
    Spend(String),
    /// A redirection of the visitor, whose nonce is noted with this intent for some minutes.
    Begin {
        /// The meaning of the nonce. Nothing secret.
        intent: String,
        /// The URL that the visitor goes to.
        location: Url,
        /// `true` when the vendor let the visitor in. Other visitors see the target before they go on, because anybody
        /// can hand out a link that leads there.
        invited: bool,
    },
    /// The connection of a proven store, with these settings, as `PUT /admin/connections/...` takes them.
    Install {
        /// The connection.
        connection: ConnectionId,
        /// The settings, as JSON. Secret.
        settings: Zeroizing<String>,
        /// `true` when the platform itself gave the credentials just now. They are kept even if the store cannot be
        /// reached, because the former ones may no longer be valid. Otherwise a call to the store proves them first.
        proven: bool,
        /// `true` when the vendor let the store in, by a key or because the platform itself says so. Otherwise an
        /// operator has to confirm it.
        invited: bool,
        /// The reply to the visitor, who may be a machine.
        reply: Reply,
    },
    /// A look at whether a store is connected already.
    Look(ConnectionId),
    /// The page of this connection, to a visitor who proved the right to see it.
    Show(ConnectionId),
    /// The uninstallation of this connection, which the platform proved.
    Uninstall {
        /// The connection.
        connection: ConnectionId,
        /// The proof, which counts once.
        once: Once,
    },
    /// The redaction of these persons, which the platform demands, in the state of this connection.
    Redact {
        /// The connection.
        connection: ConnectionId,
        /// The persons.
        persons: BTreeSet<Pseudonym>,
    },
    /// A report of the platform about this connection, for people.
    Note {
        /// The connection.
        connection: ConnectionId,
        /// The kind of report.
        kind: String,
        /// The platform's further words. Nothing secret.
        detail: String,
    },
    /// The erasure of the state of this connection, which the platform demands after the uninstallation.
    Erase(ConnectionId),
    /// No consequence, although the visit was proven.
    Nothing(Once),
    /// A reply of a few words to the visitor.
    Respond(Reply),
}

/// The step without settings and nonces, which are secret.
impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ask(request) => write!(f, "Ask({request:?})"),
            Self::Spend(_) => f.write_str("Spend(…)"),
            Self::Begin { intent, .. } => write!(f, "Begin({intent})"),
            Self::Install { connection, proven, .. } => write!(f, "Install({connection}, proven: {proven})"),
            Self::Look(connection) => write!(f, "Look({connection})"),
            Self::Show(connection) => write!(f, "Show({connection})"),
            Self::Redact { connection, persons } => write!(f, "Redact({connection}, {} persons)", persons.len()),
            Self::Note { connection, kind, .. } => write!(f, "Note({connection}, {kind})"),
            Self::Erase(connection) => write!(f, "Erase({connection})"),
            Self::Uninstall { connection, once } => write!(f, "Uninstall({connection}, {once:?})"),
            Self::Nothing(once) => write!(f, "Nothing({once:?})"),
            Self::Respond(reply) => write!(f, "Respond({reply:?})"),
        }
    }
}

/// A proof that counts once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Once {
    /// The proof's id.
    pub id: String,
    /// The time of issue. A proof from before the connection was made says nothing of it.
    pub issued: Timestamp,
    /// The time from which the proof is invalid for everyone.
    pub until: Timestamp,
}

/// The reply to a visitor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// A page with a heading and a line of text.
    Page {
        /// The heading.
        title: String,
        /// The text.
        text: String,
    },
    /// The page of the connection.
    Store,
    /// 200 without a body, for a machine.
    Ok,
}

/// The reason for which a visit leads nowhere. It is for our logs: visitors learn only what they can act on.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Rejection {
    /// The action does not exist.
    #[error("there is no such action")]
    NoAction,
    /// The method is not the action's.
    #[error("the method is not the action's")]
    Method,
    /// Something is missing or unreadable. The text says what, and the next step, and repeats nothing, because visitors
    /// see it.
    #[error("{0}")]
    Malformed(String),
    /// The token, the code or the nonce is invalid.
    #[error("not proven: {0}")]
    NotProven(String),
    /// The vendor's credentials for the platform are not configured.
    #[error("the app's credentials are not configured")]
    NoApp,
    /// Nobody may install the app. Visitors are told that the action does not exist.
    #[error("nobody may install it: set \"install_key\", or \"open\": true, in the app's credentials")]
    Closed,
    /// Too many stores have connected themselves within an hour.
    #[error(
        "more than {0} stores within an hour; raise \"installs_per_hour\" in the app's credentials if that is right"
    )]
    TooMany(u32),
    /// The call to the platform failed.
    #[error("{0}")]
    Platform(Fault),
}

impl From<Fault> for Rejection {
    fn from(fault: Fault) -> Self {
        Self::Platform(fault)
    }
}

/// The platform's part in installing an app, as the registrar needs it.
pub trait Installation: Sync {
    /// Returns the last parts of the known paths. No other visit gets this far.
    fn actions(&self) -> &'static [&'static str];

    /// Returns the hosts that calls may go to before there is a connection. With [`Hosts::Site`], they may go to any
    /// public host.
    fn hosts(&self) -> Hosts;

    /// Returns the hosts whose pages may hold ours in a frame, as CSP sources.
    fn framed_by(&self) -> &'static [&'static str] {
        &[]
    }

    /// Returns the next step of a visit.
    ///
    /// # Errors
    /// [`Rejection`].
    fn visit(&self, visit: &Visit, vendor: &Vendor<'_>, known: &[Evidence]) -> Result<Step, Rejection>;
}
