//! What the stress programs have in common: the scenarios that their arguments name, and the server that they run.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// What the program was started for.
pub struct Wanted {
    pub is_short: bool,
    scenarios: Vec<String>,
}

impl Wanted {
    /// What the arguments of the program called `name` say.
    ///
    /// # Errors
    /// How it ends when it was started for something else.
    pub fn of_arguments(name: &str) -> Result<Self, ExitCode> {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let (options, scenarios): (Vec<_>, Vec<_>) = arguments
            .into_iter()
            .partition(|word| word.starts_with('-'));
        let is_short = options == ["--short"];
        if !is_short && !options.is_empty() {
            eprintln!("usage: {name} [--short] [SCENARIO]…");
            return Err(ExitCode::from(2));
        }
        Ok(Self {
            is_short,
            scenarios,
        })
    }

    /// Runs the scenario `name`, if it is wanted, and says what came of it.
    pub fn run(&self, name: &str, scenario: impl FnOnce() -> String) {
        if self.scenarios.is_empty() || self.scenarios.iter().any(|wanted| wanted == name) {
            let begun = Instant::now();
            let outcome = scenario();
            println!("{name}: {outcome} ({:.1} s)", begun.elapsed().as_secs_f64());
        }
    }
}

/// The server: the binary that `RELEASE_BINARY` names, else the one that was built with this program.
pub fn binary() -> PathBuf {
    match std::env::var_os("RELEASE_BINARY") {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from(env!("CARGO_BIN_EXE_entra-auth-mcp")),
    }
}
