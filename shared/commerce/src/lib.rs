//! The pure part of commerce-hooks: the proof of deliveries, the messages on the queue, the entities, the merge of
//! changes into state, and the platforms. It has no AWS, no async, no clock and no environment: time and keys are
//! arguments, and a call to a platform is a value that the edges run.
//!
//! Read the modules in the order that a delivery takes: [`request`] → [`verify`] → [`envelope`] ⇒ queue ⇒ [`envelope`]
//! → [`transfer`] → [`platforms`] (map) → [`change`] (merge) → [`item`].

pub mod activity;
pub mod apps;
pub mod change;
pub mod change_event;
pub mod connection;
pub mod cursor;
pub mod declaration;
pub mod drift;
pub mod endpoint;
pub mod entity;
pub mod envelope;
pub mod health;
pub mod http_call;
pub mod install;
pub mod item;
pub mod job;
pub mod json;
pub mod key;
pub mod keys;
pub mod origin;
pub mod outcome;
pub mod platform;
pub mod platforms;
pub mod redaction;
pub mod request;
pub mod rotation;
pub mod scheme;
pub mod timestamp;
pub mod transfer;
pub mod trial;
pub mod verification;
pub mod verify;
