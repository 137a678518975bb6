//! The `claims` parameter: what a client declares of itself, and what it asks for its token.

use super::{Checked, INVALID, State};
use crate::support::{Pairs, value_of};
use serde_json::{Value, json};

impl State {
    /// A JSON object and, where it is demanded, with the client capability `cp1`.
    pub(super) fn check_claims(&mut self, params: &Pairs) -> Checked {
        let claims = serde_json::from_str::<Value>(value_of(params, "claims").unwrap_or("{}"));
        let is_object = claims.as_ref().is_ok_and(Value::is_object);
        self.must(
            is_object,
            INVALID,
            9_002_313,
            "The 'claims' parameter is not a JSON object.",
        )?;
        let declares = claims.is_ok_and(|claims| {
            let values = claims
                .pointer("/access_token/xms_cc/values")
                .and_then(Value::as_array);
            values.is_some_and(|values| values.contains(&json!("cp1")))
        });
        let message = "The 'claims' parameter does not declare the client capability 'cp1'.";
        self.must(
            declares || !self.settings.demand_cp1,
            INVALID,
            9_002_313,
            message,
        )
    }
}

/// The claims of a request that was checked.
pub(super) fn claims_of(params: &Pairs) -> Value {
    value_of(params, "claims")
        .map_or_else(|| json!({}), |claims| serde_json::from_str(claims).unwrap())
}

/// Whether anything is asked but to take the client for a capable one.
pub(super) fn go_beyond_capabilities(claims: &Value) -> bool {
    let mut claims = claims.clone();
    if let Some(access_token) = claims["access_token"].as_object_mut() {
        access_token.remove("xms_cc");
    }
    claims
        .as_object()
        .unwrap()
        .values()
        .any(|of_token| of_token.as_object().is_some_and(|asked| !asked.is_empty()))
}
