//! The callback's form: exactly one state, and either a code or an error, each once.

use entra_auth_mcp::auth::response::parse;
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
    let is_once = ["state", "code", "error", "error_description", "iss"]
        .map(values)
        .iter()
        .all(|found| found.len() < 2);
    let fits = matches!((codes.as_slice(), errors.as_slice()), ([code], []) if !code.is_empty())
        || matches!((codes.as_slice(), errors.as_slice()), ([], [_]));
    let has_state = states.first().is_some_and(|state| !state.is_empty());
    let response = parse(input);
    assert_eq!(response.is_ok(), is_once && fits && has_state, "{pairs:?}");
    let Ok(response) = response else { return };
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
    assert!(parse(reversed.as_bytes()).is_ok_and(|again| again.state.expose() == states[0]));
}
