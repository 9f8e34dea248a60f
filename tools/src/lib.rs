//! The parts that the commands behind `make` share with the tests: the sample events, a Lambda that runs the release
//! binaries, and the worst legal input.

pub mod events;
pub mod runtime;
mod tls;
pub mod worst;
