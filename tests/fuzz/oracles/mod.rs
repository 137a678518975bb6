//! What must hold for every input, whoever makes it up. The fuzzer looks for one for which it does not;
//! `tests/suite/corpus.rs` tries those that it has found worth keeping.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod answer;
mod authenticate;
mod callback;
mod chunked;
mod confinement;
mod description;
mod env_file;
mod head;
mod id_token;
pub mod lenient;
mod mcp;
mod token_file;

/// Panics when something does not hold for the input.
pub type Oracle = fn(&[u8]);

/// By the name of the target, which is that of its folder of `corpus`, too.
pub const ALL: [(&str, Oracle); 11] = [
    ("answer", answer::holds),
    ("authenticate", authenticate::holds),
    ("callback", callback::holds),
    ("chunked", chunked::holds),
    ("confinement", confinement::holds),
    ("description", description::holds),
    ("env_file", env_file::holds),
    ("head", head::holds),
    ("id_token", id_token::holds),
    ("mcp", mcp::holds),
    ("token_file", token_file::holds),
];

/// The first byte, which chooses among variants, and the rest.
fn choice(input: &[u8]) -> (usize, &[u8]) {
    input
        .split_first()
        .map_or((0, input), |(first, rest)| (usize::from(*first), rest))
}
