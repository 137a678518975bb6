//! What the stress programs have in common: each is the server, too, when it starts itself, and runs the scenarios
//! that its arguments name.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// The first argument of the program when it is to be the server.
const AS_SERVER: &str = "--as-server";

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
        if arguments.first().is_some_and(|first| first == AS_SERVER) {
            return Err(entra_auth_mcp::cli::run(arguments.into_iter().skip(1)));
        }
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

/// The program that serves: the binary that `RELEASE_BINARY` names, else this program once more.
pub fn binary() -> PathBuf {
    std::env::var_os("RELEASE_BINARY")
        .map_or_else(|| std::env::current_exe().unwrap(), PathBuf::from)
}

/// What makes it a server.
pub fn arguments() -> Option<&'static str> {
    std::env::var_os("RELEASE_BINARY")
        .is_none()
        .then_some(AS_SERVER)
}
