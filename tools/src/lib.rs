//! What the commands behind `make` share with the tests: the sample events, a Lambda to run the release
//! binaries in, and the worst that can come to them.

pub mod events;
pub mod runtime;
pub mod worst;
