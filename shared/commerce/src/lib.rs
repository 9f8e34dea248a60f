//! What commerce-hooks knows, pure: how a delivery is proven, what travels on the queue, what an entity is, how changes
//! become state, and what each platform says. No AWS, no async, no clock and no environment: time and keys are arguments,
//! and a call to a platform is a value that the edges run.
//!
//! The way of a delivery, left to right, is the order to read in:
//! [`request`] → [`verify`] → [`envelope`] ⇒ queue ⇒ [`envelope`] → [`transfer`] → [`platforms`] (map) → [`change`] (merge)
//! → [`item`].

pub mod activity;
pub mod apps;
pub mod change;
pub mod connection;
pub mod cursor;
pub mod drift;
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
pub mod outcome;
pub mod platform;
pub mod platforms;
pub mod request;
pub mod rotation;
pub mod scheme;
pub mod timestamp;
pub mod transfer;
pub mod verify;
