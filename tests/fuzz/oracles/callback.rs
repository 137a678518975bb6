//! The callback's form: exactly one state, and either a code or an error, each once.

use entra_auth_mcp::auth::response::{Arrival, parse};
use url::form_urlencoded;

pub fn holds(input: &[u8]) {
    let pairs: Vec<(String, String)> = form_urlencoded::parse(input).into_owned().collect();
    let values = |name: &str| {
        pairs
            .iter()
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value)
            .collect::<Vec<_>>()
    };
    let [states, codes, errors] = ["state", "code", "error"].map(values);
    let consents = values("admin_consent");
    let is_once = [
        "state",
        "code",
        "error",
        "error_description",
        "iss",
        "admin_consent",
    ]
    .map(values)
    .iter()
    .all(|found| found.len() < 2);
    let fits = matches!((codes.as_slice(), errors.as_slice()), ([code], []) if !code.is_empty())
        || matches!((codes.as_slice(), errors.as_slice()), ([], [_]));
    let has_state = states.first().is_some_and(|state| !state.is_empty());
    let is_consent = !consents.is_empty() && codes.is_empty();
    let arrival = parse(input);
    let is_expected = is_once && (is_consent || (fits && has_state));
    assert_eq!(arrival.is_ok(), is_expected, "{pairs:?}");
    let response = match arrival {
        Ok(Arrival::Response(response)) => response,
        Ok(Arrival::AdminConsent) => {
            assert!(is_consent, "{pairs:?}");
            return;
        }
        Err(_) => return,
    };
    assert_eq!(response.state.expose(), states[0]);
    assert_eq!(response.issuer.as_ref(), values("iss").first().copied());
    match response.outcome {
        Ok(code) => assert_eq!([code.expose()], codes.as_slice()),
        Err(error) => {
            assert_eq!(error.error, errors[0].chars().take(64).collect::<String>());
            assert!(error.description.chars().count() <= 600);
            let _ = (error.kind(), error.ends_refresh_token());
        }
    }
    // The order of the parameters means nothing.
    let reversed = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(pairs.iter().rev())
        .finish();
    match parse(reversed.as_bytes()) {
        Ok(Arrival::Response(again)) => assert_eq!(again.state.expose(), states[0]),
        _ => panic!("{reversed:?}"),
    }
}
