//! What the commands behind `make` share with the tests: the sample events.

pub mod events;
