//! The program; [`entra_auth_mcp::cli`] is where it begins.

use std::process::ExitCode;

fn main() -> ExitCode {
    entra_auth_mcp::cli::run(
        std::env::args_os()
            .skip(1)
            .map(|argument| argument.to_string_lossy().into_owned()),
    )
}
