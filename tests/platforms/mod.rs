//! Simulators of platforms, one folder each. They behave like the real ones in their faults, too.

pub mod woocommerce;
