//! The `claims` that we ask of Entra, and the challenges by which the backend asks for others
//! (RFC 6750 §3, RFC 9110 §11.6.1). Nothing else of a challenge is used, least of all an address.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use serde_json::{Map, Value, json};

/// Says that we handle claims challenges; Entra may then issue tokens that are revoked at once.
const CAPABILITY: &str = "cp1";
const MOST_CLAIMS_BYTES: usize = 8 * 1024;
const MOST_SCOPE_BYTES: usize = 2 * 1024;
const MOST_SCOPES: usize = 20;

const WHITE_SPACE: [char; 2] = [' ', '\t'];

/// Our capability and nothing else, as the value of `claims`.
const CAPABILITY_ALONE: &str = r#"{"access_token":{"xms_cc":{"values":["cp1"]}}}"#;

/// Claims that are asked for (OpenID Connect Core §5.5): a JSON object as text, which always
/// declares our capability.
#[derive(Clone, Debug)]
pub struct Claims(String);

/// Two are equal if they ask for the same, but for the time that a token must be newer than
/// (`nbf`): that is another one in each challenge.
impl PartialEq for Claims {
    fn eq(&self, other: &Self) -> bool {
        self.without_time() == other.without_time()
    }
}

impl Eq for Claims {}

/// The parameter `claims` of a request that asks for `claims`. Every request declares our
/// capability.
pub fn parameter(claims: Option<&Claims>) -> &str {
    claims.map_or(CAPABILITY_ALONE, Claims::as_str)
}

impl Claims {
    /// The claims for the access token that a challenge demands, with our capability among them.
    /// Nothing else of `json` is kept: an API has no say in the ID token or in what `UserInfo`
    /// returns. `None` when `json` is too long, not of the form of §5.5, or demands nothing for the
    /// access token.
    pub fn of_challenge(json: &str) -> Option<Self> {
        if json.len() > MOST_CLAIMS_BYTES {
            return None;
        }
        let mut challenge: Map<String, Value> = serde_json::from_str(json).ok()?;
        let mut access_token = challenge.remove("access_token")?;
        let demanded = access_token.as_object_mut()?;
        if demanded.is_empty() {
            return None;
        }
        let values = demanded
            .entry("xms_cc")
            .or_insert_with(|| json!({}))
            .as_object_mut()?
            .entry("values")
            .or_insert_with(|| json!([]))
            .as_array_mut()?;
        if !values.iter().any(|value| value == CAPABILITY) {
            values.push(CAPABILITY.into());
        }
        Some(Self(json!({"access_token": access_token}).to_string()))
    }

    fn without_time(&self) -> Value {
        let mut json: Value = serde_json::from_str(&self.0).unwrap_or_default();
        json.pointer_mut("/access_token/nbf").map(Value::take);
        json
    }

    /// The JSON text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What the backend demands of the next token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// A token with these claims.
    Claims(Claims),
    /// A token with more scopes: these, or none where the backend does not say which.
    InsufficientScope(Vec<String>),
}

impl Challenge {
    /// Reads all `WWW-Authenticate` fields of an answer; `None` when they demand neither. Claims
    /// come first, since the scopes of a token that is no longer good do not matter.
    pub fn of_backend<'a>(fields: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut challenges = Vec::new();
        for field in fields {
            read(field, &mut challenges);
        }
        let mut bearer = challenges
            .iter()
            .filter(|challenge| challenge.scheme.eq_ignore_ascii_case("Bearer"));
        let claims = bearer
            .clone()
            .find_map(AuthChallenge::claims)
            .map(Self::Claims);
        claims.or_else(|| {
            bearer
                .find_map(AuthChallenge::scopes)
                .map(Self::InsufficientScope)
        })
    }
}

/// A challenge as it stands in a field: an auth-scheme and its auth-params.
struct AuthChallenge<'a> {
    scheme: &'a str,
    parameters: Vec<(&'a str, String)>,
}

impl AuthChallenge<'_> {
    /// The parameter `name`; one that stands there twice, which it must not, is none.
    fn parameter(&self, name: &str) -> Option<&str> {
        let mut values = self
            .parameters
            .iter()
            .filter(|(given, _)| given.eq_ignore_ascii_case(name));
        let (_, value) = values.next()?;
        values.next().is_none().then_some(value)
    }

    /// Entra's documents require `error` beside `claims`, namely `insufficient_claims`; Azure
    /// Resource Manager says `invalid_token`.
    fn claims(&self) -> Option<Claims> {
        matches!(
            self.parameter("error")?,
            "insufficient_claims" | "invalid_token"
        )
        .then_some(())?;
        let encoded = self
            .parameter("claims")?
            .trim_end_matches('=')
            .replace('-', "+")
            .replace('_', "/");
        Claims::of_challenge(&String::from_utf8(BASE64_STANDARD_NO_PAD.decode(encoded).ok()?).ok()?)
    }

    fn scopes(&self) -> Option<Vec<String>> {
        (self.parameter("error")? == "insufficient_scope").then_some(())?;
        let scope = self.parameter("scope").unwrap_or_default();
        let scopes: Vec<_> = scope
            .split(' ')
            .filter(|scope| !scope.is_empty())
            .map(str::to_owned)
            .collect();
        // RFC 6749 §3.3
        let is_fit = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
        let are_fit = scopes.iter().all(|scope| scope.bytes().all(is_fit));
        let are_few = scope.len() <= MOST_SCOPE_BYTES && scopes.len() <= MOST_SCOPES;
        Some(if are_fit && are_few {
            scopes
        } else {
            Vec::new()
        })
    }
}

/// Adds the challenges of one field, as far as it can be read. A comma parts challenges as well as
/// parameters: a word that begins an element is a scheme, unless a value is assigned to it. The
/// padding of a token68 makes a parameter of it that nobody asks for.
fn read<'a>(mut rest: &'a str, challenges: &mut Vec<AuthChallenge<'a>>) {
    let mut begins_element = true;
    loop {
        rest = rest.trim_start_matches(WHITE_SPACE);
        let element = rest.trim_start_matches([' ', '\t', ',']);
        begins_element |= element.len() < rest.len();
        let (word, after) = split(element, |c| {
            !c.is_ascii_alphanumeric() && !"!#$%&'*+-./^_`|~".contains(c)
        });
        if word.is_empty() {
            return;
        }
        rest = after.trim_start_matches(WHITE_SPACE);
        if let Some(assigned) = rest.strip_prefix('=') {
            let Some((value, after)) = value(assigned.trim_start_matches(WHITE_SPACE)) else {
                return;
            };
            if let Some(challenge) = challenges.last_mut() {
                challenge.parameters.push((word, value));
            }
            rest = after;
        } else if begins_element {
            challenges.push(AuthChallenge {
                scheme: word,
                parameters: Vec::new(),
            });
        }
        begins_element = false;
    }
}

/// A value and what follows it; `None` when its quotes are not closed. One without quotes ends at
/// white space or a comma, though more than a token stands there: unquoted addresses and Base64 are
/// common.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, after) = split(text, |c| " \t,".contains(c));
        return Some((value.to_owned(), after));
    };
    let (mut value, mut characters) = (String::new(), quoted.chars());
    loop {
        match characters.next()? {
            '"' => return Some((value, characters.as_str())),
            '\\' => value.push(characters.next()?),
            character => value.push(character),
        }
    }
}

/// Splits before the first character that `ends`.
fn split(text: &str, ends: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(ends).unwrap_or(text.len()))
}
