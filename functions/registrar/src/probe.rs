//! Finding out whether a delivery of a platform gets through.
