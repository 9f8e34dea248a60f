//! Owns how a merchant installs an app at a platform: what the requests below `/apps/{platform}/` ask for. Pure: a platform says what
//! to ask and what follows, and the registrar does it.
//!
//! Nobody who sends such a request is known. What follows from one is proven by a token that the platform signed, by an exchange of
//! codes with the platform itself, or by a single-use nonce together with a call to the store.

use std::{collections::BTreeMap, fmt};

use aws_lc_rs::digest;
use bytes::Bytes;
use http::Method;
use url::Url;
use zeroize::Zeroizing;

use crate::{
    apps::App,
    http_call::{ApiRequest, ApiResponse, Fault, Hosts},
    key::ConnectionId,
    timestamp::Timestamp,
};

/// Whether two texts are the same, in a time that says nothing of where they differ.
pub fn same_secret(one: &str, other: &str) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(&sha256(one), &sha256(other)).is_ok()
}

/// The setting that lists the permissions that a store did not grant, for those who look at the connection.
pub const MISSING_PERMISSIONS: &str = "missing_permissions";

/// SHA-256 of a text: nonces and ids of tokens are noted by it.
pub fn sha256(text: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
    bytes
}

/// A request below `/apps/{platform}/`.
#[derive(Clone)]
pub struct Visit {
    /// `GET`, or `POST`.
    pub method: Method,
    /// The last part of the path.
    pub action: String,
    /// The query, decoded.
    pub query: BTreeMap<String, String>,
    /// The body.
    pub body: Bytes,
    /// The time.
    pub now: Timestamp,
}

/// Queries and bodies hold codes, tokens and keys.
impl fmt::Debug for Visit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with {} parameters and {} bytes", self.method, self.query.len(), self.body.len())
    }
}

impl Visit {
    /// A parameter of the query that has to be there.
    ///
    /// # Errors
    /// [`Turned::Malformed`].
    pub fn parameter(&self, name: &str) -> Result<&str, Turned> {
        let value = self.query.get(name).map(String::as_str).filter(|value| !value.is_empty());
        value.ok_or_else(|| Turned::Malformed(format!("{name} is missing in the address")))
    }
}

/// Who is installed, and where.
#[derive(Clone, Copy)]
pub struct Vendor<'a> {
    /// The app at this platform, where there is one.
    pub app: Option<&'a App>,
    /// Where these requests come to: the public base URL, and `/apps/{platform}`.
    pub apps_url: &'a str,
    /// An unguessable text that nobody has seen yet.
    pub nonce: &'a str,
    /// For local runs: platforms may be on this machine.
    pub allow_loopback: bool,
}

/// What was found out for a [`Visit`], in the order in which it was asked for.
#[derive(Clone, Debug)]
pub enum Known {
    /// The answer to a [`Step::Ask`].
    Answer(ApiResponse),
    /// What was noted when the nonce was given out, by a [`Step::Spend`].
    Intent(String),
}

/// What follows from a [`Visit`], seen what is known so far.
pub enum Step {
    /// This has to be asked, at one of [`Installation::hosts`].
    Ask(ApiRequest),
    /// This nonce has to be known and not yet spent; it is spent now. What was noted with it is added to what is known.
    Spend(String),
    /// The visitor's nonce is noted with this intent for some minutes, and the visitor is sent on.
    Begin {
        /// What the nonce stands for. Nothing secret.
        intent: String,
        /// Where the visitor goes.
        location: Url,
        /// Whether the vendor let the visitor in. Whoever comes by an open door sees where the way leads before going on, for anybody can
        /// hand out a link that leads there.
        invited: bool,
    },
    /// The store is proven: it is connected with these settings, as `PUT /admin/connections/...` takes them.
    Install {
        /// The connection.
        connection: ConnectionId,
        /// The settings, as JSON. Secret.
        settings: Zeroizing<String>,
        /// Whether the platform itself gave the credentials just now: they are kept even if the store cannot be asked, for those of
        /// before may be worth nothing any more. Else a call to the store proves them first.
        proven: bool,
        /// Whether the vendor let the store in, by a key or because it is the platform that says so; else an operator has to confirm it.
        invited: bool,
        /// What the visitor, who may be a machine, gets.
        reply: Reply,
    },
    /// The visitor is proven to look at this connection.
    Show(ConnectionId),
    /// The platform is proven to say that this connection was uninstalled.
    Uninstall {
        /// The connection.
        connection: ConnectionId,
        /// The proof, which counts once.
        once: Once,
    },
    /// Proven, and nothing follows.
    Nothing(Once),
    /// The visitor sees a few words.
    Tell(Reply),
}

/// Settings and nonces are secret.
impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ask(request) => write!(f, "Ask({request:?})"),
            Self::Spend(_) => f.write_str("Spend(…)"),
            Self::Begin { intent, .. } => write!(f, "Begin({intent})"),
            Self::Install { connection, proven, .. } => write!(f, "Install({connection}, proven: {proven})"),
            Self::Show(connection) => write!(f, "Show({connection})"),
            Self::Uninstall { connection, once } => write!(f, "Uninstall({connection}, {once:?})"),
            Self::Nothing(once) => write!(f, "Nothing({once:?})"),
            Self::Tell(reply) => write!(f, "Tell({reply:?})"),
        }
    }
}

/// A proof that counts once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Once {
    /// Its id.
    pub id: String,
    /// When it was issued: one from before the connection was made says nothing of it.
    pub issued: Timestamp,
    /// When it is no longer good, whoever has it.
    pub until: Timestamp,
}

/// What a visitor gets.
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

/// Why a visit leads nowhere. For our logs: visitors learn only what they can do about it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Turned {
    /// There is no such action.
    #[error("there is no such action")]
    NoAction,
    /// Another method is meant.
    #[error("the method is not the action's")]
    Method,
    /// Something is missing, or cannot be read. Says what, and the next step, and repeats nothing: visitors see it.
    #[error("{0}")]
    Malformed(String),
    /// The token, the code or the nonce is not good.
    #[error("not proven: {0}")]
    NotProven(String),
    /// The vendor's credentials for the platform are not configured.
    #[error("the app's credentials are not configured")]
    NoApp,
    /// Nobody may install it. For those who look: there is no such action.
    #[error("nobody may install it: set \"install_key\", or \"open\": true, in the app's credentials")]
    Closed,
    /// Too many stores have connected themselves of late.
    #[error(
        "more than {0} stores within an hour; raise \"installs_per_hour\" in the app's credentials if that is right"
    )]
    TooMany(u32),
    /// The platform could not be asked.
    #[error("{0}")]
    Platform(Fault),
}

impl From<Fault> for Turned {
    fn from(fault: Fault) -> Self {
        Self::Platform(fault)
    }
}

/// What the registrar has to know of installing an app at a platform.
pub trait Installation: Sync {
    /// The last parts of the paths that there are: no other visit gets this far.
    fn actions(&self) -> &'static [&'static str];

    /// Where calls may go before there is a connection; a call to [`Hosts::Site`] may go to any public host.
    fn hosts(&self) -> Hosts;

    /// Hosts whose pages may hold ours in a frame, as CSP sources.
    fn framed_by(&self) -> &'static [&'static str] {
        &[]
    }

    /// What follows from a visit.
    ///
    /// # Errors
    /// [`Turned`].
    fn visit(&self, visit: &Visit, vendor: &Vendor<'_>, known: &[Known]) -> Result<Step, Turned>;
}
