//! Owns the verdict on a subscription. Pure.
