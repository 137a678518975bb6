//! The token file of the Python server that this program replaces: an object of accounts by
//! `user_id`, with times as floating point numbers.

use std::sync::Arc;

use serde_json::Value;

use super::account::{Account, Binding, Stored};
use super::id_token::Person;
use crate::secret::Secret;

/// The accounts of such a file; `None` if `json` is none. They belong to `binding` and asked for
/// `requested_scope`, which the file does not say.
pub fn accounts(json: &Value, binding: &Binding, requested_scope: &str) -> Option<Vec<Stored>> {
    json.as_object()?
        .iter()
        .map(|(user_id, entry)| {
            Some(Stored {
                user_id: user_id.clone(),
                account: account(entry, binding, requested_scope)?,
            })
        })
        .collect()
}

fn account(entry: &Value, binding: &Binding, requested_scope: &str) -> Option<Account> {
    let text = |pointer: &str| {
        let text = entry.pointer(pointer).and_then(Value::as_str);
        text.filter(|text| !text.is_empty()).map(str::to_owned)
    };
    entry.get("access_token")?;
    let timestamp = seconds(entry.get("timestamp")?)?;
    let lifetime = entry
        .get("expires_in")
        .and_then(seconds)
        .unwrap_or_default();
    let person = match (text("/id_token_claims/tid"), text("/id_token_claims/oid")) {
        (Some(tid), Some(oid)) => Some(Person {
            tid: tid.to_ascii_lowercase(),
            oid,
        }),
        _ => None,
    };
    Some(Account {
        binding: binding.clone(),
        person,
        username: text("/id_token_claims/preferred_username").unwrap_or_default(),
        name: text("/id_token_claims/name").unwrap_or_default(),
        requested_scope: requested_scope.to_owned(),
        granted_scope: text("/scope").unwrap_or_default(),
        access_token: text("/access_token").map(Secret::new),
        expires_at: timestamp.saturating_add(lifetime),
        refresh_at: None,
        refresh_token: text("/refresh_token").map(Secret::new),
        signed_in_at: timestamp,
        cookies: Arc::default(),
    })
}

/// A time or a length. A negative or absurd one becomes 0 or the largest, which is what it means.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn seconds(value: &Value) -> Option<u64> {
    value.as_f64().map(|seconds| seconds as u64)
}
