//! Tests of what declared senders have of their own.
#![allow(clippy::unwrap_used)]
