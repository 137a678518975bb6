//! The fuzz target that the variable `FUZZ_TARGET` names.
#![no_main]

use std::sync::LazyLock;

static ORACLE: LazyLock<oracles::Oracle> = LazyLock::new(|| {
    let wanted = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target");
    oracles::ALL
        .into_iter()
        .find(|(name, _)| *name == wanted)
        .expect("there is such a target")
        .1
});

libfuzzer_sys::fuzz_target!(|input: &[u8]| ORACLE(input));
