//! Runs the target that `FUZZ_TARGET` names, with inputs of libFuzzer.
#![no_main]

#[path = "../tests/fuzz/targets.rs"]
mod targets;

use std::sync::LazyLock;

use targets::{Target, targets};

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names the target");
    targets().into_iter().find(|target| target.name == name).expect("FUZZ_TARGET names a target of tests/fuzz/targets.rs")
});

libfuzzer_sys::fuzz_target!(|input: &[u8]| TARGET.run(input));
