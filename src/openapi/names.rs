//! The names of tools and arguments. The APIs of models accept them, and they stay the same from
//! run to run.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest as _, Sha256};

use super::operation::Operation;
use super::parameter::{Parameter, Place};
use crate::sorted;

/// The names of our own tools, which no operation gets.
pub const OWN_TOOLS: [&str; 13] = [
    "ping",
    "get_server_info",
    "authenticate_user",
    "check_auth_status",
    "view_userid",
    "logout_user",
    "api_get_request",
    "api_post_request",
    "api_put_request",
    "api_patch_request",
    "api_delete_request",
    "find_operations",
    "describe_operation",
];

/// The longest name of a tool. Clients put a prefix before it, and both together may have 64
/// characters.
const MOST_NAME_CHARS: usize = 48;
/// The longest name of an argument.
const MOST_ARGUMENT_CHARS: usize = 64;
const HASH_CHARS: usize = 5;
/// RFC 4648 §6, in lower case.
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Names every operation's tool.
///
/// A name that models accept is kept. A changed name gets a hash of the original, even if no other
/// operation has that name, so that an operation that is added later does not rename it.
pub(super) fn name_tools(operations: &mut [Operation]) {
    let mut used = sorted::set(OWN_TOOLS.iter().map(|name| (*name).to_owned()));
    for operation in operations {
        let line = operation.line();
        let given = operation.id.clone().unwrap_or_else(|| line.clone());
        let mut folded = folded(&given, |c| {
            c.is_ascii_alphanumeric() || matches!(c, '_' | '-')
        });
        if !begins_a_name(&folded) {
            folded.insert(0, '_');
        }
        let fits = folded == given && given.len() <= MOST_NAME_CHARS;
        let mut name = if fits {
            given.clone()
        } else {
            hashed(&folded, &given)
        };
        // The name of one of the server's own tools, or a duplicate id.
        if used.contains(&name) {
            name = hashed(&folded, &line);
        }
        used.insert(name.clone());
        operation.name = name;
    }
}

/// Names the argument of every parameter. It has the name of the parameter, unless models do not
/// accept that, or two parameters in different places have it.
pub(super) fn name_arguments(parameters: &mut [Parameter]) {
    // Gemini's API wants an identifier.
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
    for parameter in parameters.iter_mut() {
        parameter.argument = folded(&parameter.name, is_allowed);
        parameter.argument.truncate(MOST_ARGUMENT_CHARS - 1);
        if !begins_a_name(&parameter.argument) {
            parameter.argument.insert(0, '_');
        }
    }
    let mut places: BTreeMap<String, BTreeSet<Place>> = BTreeMap::new();
    for parameter in parameters.iter() {
        let of_name = places.entry(parameter.argument.clone()).or_default();
        of_name.insert(parameter.place);
    }
    for parameter in parameters.iter_mut() {
        let of_name = places.get(&parameter.argument);
        if of_name.is_some_and(|of_name| of_name.len() > 1) {
            let suffix = format!("_{}", parameter.place.name());
            parameter
                .argument
                .truncate(MOST_ARGUMENT_CHARS - suffix.len());
            parameter.argument.push_str(&suffix);
        }
    }
    // Names that became the same when they were changed. One that was not changed stays.
    let (same, changed): (Vec<_>, Vec<_>) = parameters
        .iter_mut()
        .partition(|known| known.argument == known.name);
    let mut used = sorted::set(same.into_iter().map(|known| known.argument.clone()));
    for parameter in changed {
        if !used.insert(parameter.argument.clone()) {
            let hash = hash(&format!("{} {}", parameter.place.name(), parameter.name));
            parameter
                .argument
                .truncate(MOST_ARGUMENT_CHARS - hash.len() - 1);
            parameter.argument = format!("{}_{hash}", parameter.argument);
            used.insert(parameter.argument.clone());
        }
    }
}

/// Whether a name may begin so: Gemini's API wants a letter or an underscore.
fn begins_a_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

/// `text` with an underscore for every run of characters that are not allowed; none at the ends.
fn folded(text: &str, is_allowed: impl Fn(char) -> bool) -> String {
    let mut folded = String::new();
    let mut is_in_run = false;
    for c in text.chars() {
        if is_allowed(c) {
            if is_in_run && !folded.is_empty() {
                folded.push('_');
            }
            folded.push(c);
        }
        is_in_run = !is_allowed(c);
    }
    folded
}

/// The beginning of `folded` with a hash of `whole`.
fn hashed(folded: &str, whole: &str) -> String {
    let mut name = folded.to_owned();
    name.truncate(MOST_NAME_CHARS - HASH_CHARS - 1);
    format!("{name}_{}", hash(whole))
}

/// A few characters that tell `text` from others.
fn hash(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let letters = digest.iter().take(HASH_CHARS);
    letters
        .filter_map(|byte| BASE32.get(usize::from(byte % 32)))
        .map(|letter| char::from(*letter))
        .collect()
}
