//! The endpoint confinement: what passes lies under the base for the most lenient reader, and for `url`.

use entra_auth_mcp::api::endpoint::Base;
use url::{Url, form_urlencoded};

use super::lenient::stays_below;

const BASES: [&str; 4] = [
    "http://127.0.0.1:8080/v1.0/",
    "https://api.contoso.example/v1.0/",
    "https://api.contoso.example/",
    "https://localhost/api/a%20b/v1.0/",
];

/// The endpoint, then perhaps lines of parameters.
pub fn holds(input: &[u8]) {
    let (choice, rest) = super::choice(input);
    let base: Url = BASES[choice % BASES.len()].parse().unwrap();
    let text = String::from_utf8_lossy(rest);
    let (endpoint, parameters) = text.split_once('\u{1}').unwrap_or((&text, ""));
    let endpoint = endpoint.replace("{base}", base.as_str());
    let parameters: Vec<(String, String)> = form_urlencoded::parse(parameters.as_bytes())
        .into_owned()
        .collect();
    let Ok(target) = Base(base.clone()).target(&endpoint, &parameters) else {
        return;
    };
    let target = target.as_str();
    assert!(
        target.starts_with(base.as_str()),
        "{endpoint:?} led to {target}"
    );
    assert!(
        target
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'#'),
        "{endpoint:?} led to {target}"
    );
    let url: Url = target.parse().unwrap();
    assert_eq!(
        (url.as_str(), url.origin()),
        (target, base.origin()),
        "{endpoint:?}"
    );
    assert!(
        url.username().is_empty() && url.password().is_none(),
        "{endpoint:?} led to {target}"
    );
    // Below the base, where `/` is the whole of it: nothing of the base's own is decoded.
    let below = &target[base.as_str().len()..];
    assert!(
        stays_below(&format!("/base/{below}"), "base"),
        "{endpoint:?} led to {target}"
    );
    let sent: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    assert!(
        sent.ends_with(&parameters),
        "{parameters:?} became {sent:?}"
    );
}
