//! The processor: turns queue messages into the state of entities.
//!
//! A batch goes through [`batch`]: each message is read once ([`parse`]), those of one entity are brought up to date together
//! ([`entity`], by the [`rules`], then [`merge`]), and everything else is a command ([`commands`]).
//!
//! It does not verify signatures: whatever is on the queue was proven, or made from what was.

mod act;
mod activity;
pub mod batch;
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
mod report;
mod rules;
mod strangers;
mod throttle;

use std::sync::Arc;

use cloud::{
    budget::Leases,
    connections::Vault,
    coordination::Coordination,
    outbound::Outbound,
    queue::{DeadLetters, Inbox, Jobs, Retries},
    state::Entities,
};
use commerce::{http_call::Loopback, platform::Platform, timestamp::Timestamp};

pub use crate::disposition::Disposition;
use crate::{credentials::OpenedCredentials, throttle::Throttle};

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

/// The kinds of a [`Processor`]'s edges: those of AWS, or their twins in memory.
pub trait Parts {
    /// The state.
    type Entities: Entities + Sync;
    /// The processor's own queue and its dead letters.
    type Queues: Inbox + DeadLetters + Retries + Sync;
    /// What credentials are decrypted with.
    type Vault: Vault + Sync;
    /// What platforms are called with.
    type Outbound: Outbound + Sync;
    /// Notes about connections.
    type Notes: Coordination + Sync;
    /// The registrar's queue.
    type Jobs: Jobs + Sync;
}

/// The edges of a [`Processor`].
pub struct Edges<P: Parts> {
    /// The state.
    pub entities: P::Entities,
    /// The processor's own queue and its dead letters.
    pub queues: P::Queues,
    /// What credentials are decrypted with.
    pub vault: P::Vault,
    /// What platforms are called with.
    pub outbound: P::Outbound,
    /// Notes about connections.
    pub notes: P::Notes,
    /// The registrar's queue.
    pub jobs: P::Jobs,
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
    /// Makes a processor on these edges. With `loopback` allowed, for local runs, platforms may be on this machine.
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
