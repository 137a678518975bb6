//! The corpora of `tests/fuzz`, against the same oracles that the fuzzer uses.
#[path = "../fuzz/oracles/mod.rs"]
pub mod oracles;

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

#[test]
fn what_the_fuzzer_has_found_holds() {
    for (name, holds) in oracles::ALL {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fuzz/corpus")
            .join(name);
        let mut count = 0;
        for entry in fs::read_dir(&corpus).unwrap() {
            let path = entry.unwrap().path();
            let input = fs::read(&path).unwrap();
            assert!(input.len() <= 1024, "{} is not small", path.display());
            assert!(
                catch_unwind(|| holds(&input)).is_ok(),
                "{} does not hold",
                path.display()
            );
            count += 1;
        }
        assert!(count > 0, "there is no corpus of {name}");
    }
}
