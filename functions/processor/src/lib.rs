//! The processor, which turns queue messages into the state of entities.
//!
//! [`batch`] processes a batch: [`parse`] reads each message once, [`entity`] brings each entity up to date with all of
//! its messages (by the [`rules`], then [`merge`]), and [`commands`] has everything else.
//!
//! The processor verifies no signatures, because messages come only from proven requests, from answers of platforms'
//! APIs and from the registrar.

mod act;
mod activity;
pub mod aws;
pub mod batch;
mod candidate;
mod commands;
pub mod config;
mod credentials;
mod disposition;
mod drift;
mod entity;
mod merge;
mod parse;
mod places;
mod pull;
mod redaction;
mod report;
mod rules;
mod run;
mod strangers;
mod throttle;
pub mod verify;

use std::sync::Arc;

use cloud::{
    budget::Leases,
    bus::Bus,
    connections::Vault,
    coordination::Coordination,
    outbound::Outbound,
    queue::{DeadLetters, Inbox, Jobs, Retries},
    state::Entities,
};
use commerce::{change_event::Detail, http_call::Loopback, platform::Platform, timestamp::Timestamp};

pub use crate::disposition::Disposition;
use crate::{credentials::OpenedCredentials, throttle::Throttle};

/// The number of failed attempts after which a message is quarantined.
pub const MAX_ATTEMPTS: u32 = 5;
/// The number of deferrals after which a message is quarantined. They take about two days.
pub const MAX_DEFERRALS: u32 = 200;

/// One message, as the event source mapping hands it over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// The message's id from SQS.
    pub id: String,
    /// The receipt handle, with which the message is made visible again.
    pub receipt_handle: String,
    /// The message's text.
    pub body: String,
    /// The number of times that SQS delivered the message, this time included.
    pub attempts: u32,
}

/// The types of a [`Processor`]'s edges: those of AWS, or their in-memory twins.
pub trait Parts {
    /// The state of entities.
    type Entities: Entities + Sync;
    /// The processor's own queue and its dead letters.
    type Queues: Inbox + DeadLetters + Retries + Sync;
    /// The vault that decrypts credentials.
    type Vault: Vault + Sync;
    /// The client for calls to platforms.
    type Outbound: Outbound + Sync;
    /// The notes about connections.
    type Notes: Coordination + Sync;
    /// The registrar's queue.
    type Jobs: Jobs + Sync;
    /// The bus of change events.
    type Bus: Bus + Sync;
}

/// The way in which readers are told of entities.
pub struct Changes<B> {
    /// The bus of change events.
    pub bus: B,
    /// The part of an entity that travels.
    pub detail: Detail,
}

/// The edges of a [`Processor`].
pub struct Edges<P: Parts> {
    /// The state of entities.
    pub entities: P::Entities,
    /// The processor's own queue and its dead letters.
    pub queues: P::Queues,
    /// The vault that decrypts credentials.
    pub vault: P::Vault,
    /// The client for calls to platforms.
    pub outbound: P::Outbound,
    /// The notes about connections.
    pub notes: P::Notes,
    /// The registrar's queue.
    pub jobs: P::Jobs,
    /// The way in which readers are told of entities, in a stack that tells them.
    pub changes: Option<Changes<P::Bus>>,
}

/// The processor on its edges.
pub struct Processor<P: Parts> {
    pub(crate) platforms: &'static [Platform],
    pub(crate) edges: Edges<P>,
    pub(crate) loopback: Loopback,
    pub(crate) clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    pub(crate) leases: Leases,
    pub(crate) throttle: Throttle,
    pub(crate) opened: OpenedCredentials,
}

impl<P: Parts> Processor<P> {
    /// Makes a processor on these edges. With `loopback` allowed, for local runs only, platforms may be on this
    /// machine.
    pub fn new(
        platforms: &'static [Platform],
        edges: Edges<P>,
        loopback: Loopback,
        clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    ) -> Self {
        Self {
            platforms,
            edges,
            loopback,
            clock,
            leases: Leases::default(),
            throttle: Throttle::default(),
            opened: OpenedCredentials::default(),
        }
    }
}
