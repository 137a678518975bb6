//! Scopes: what is requested, and what Entra will refuse before we send it.

/// The scopes that we add to every request: an ID token, its profile claims, a refresh token.
const ADDED: [&str; 3] = ["openid", "profile", "offline_access"];

/// A bare scope name means Microsoft Graph.
const GRAPH: &str = "https://graph.microsoft.com";

/// The scopes of one authorization request, in the order in which they are sent. What is sent on
/// refresh is this same text, never the list that the token response granted: Entra echoes
/// `.default` beside resource scopes and then refuses the mix (AADSTS70011).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scopes(String);

impl Default for Scopes {
    /// What is requested where no scope is configured.
    fn default() -> Self {
        Self(ADDED.join(" "))
    }
}

impl Scopes {
    /// Takes `CUSTOM_API_SCOPE`: scopes separated by white space, possibly none.
    ///
    /// # Errors
    /// A sentence that says what Entra would refuse: `.default` mixed with other scopes, or
    /// scopes of two resources (one access token is for one resource).
    pub fn parse(custom: &str) -> Result<Self, String> {
        let mut scopes = ADDED.to_vec();
        for scope in custom.split_whitespace() {
            if let Some(bad) = scope
                .chars()
                .find(|c| !c.is_ascii_graphic() || matches!(c, '"' | '\\'))
            {
                return Err(format!(
                    "it holds {bad:?}, which no scope may (RFC 6749 §3.3)"
                ));
            }
            if !scopes.contains(&scope) {
                scopes.push(scope);
            }
        }
        let (openid_scopes, resource_scopes): (Vec<&str>, Vec<&str>) =
            scopes.into_iter().partition(is_openid);
        if resource_scopes.len() > 1 && resource_scopes.iter().any(is_default) {
            let problem = "'.default' stands for everything and cannot be mixed with other scopes (AADSTS70011)";
            return Err(problem.to_owned());
        }
        if let [first, rest @ ..] = resource_scopes.as_slice()
            && let Some(other) = rest.iter().find(|scope| resource(scope) != resource(first))
        {
            return Err(format!(
                "'{first}' and '{other}' belong to two resources, and one access token is for one resource (AADSTS28000)"
            ));
        }
        Ok(Self([openid_scopes, resource_scopes].concat().join(" ")))
    }

    /// These scopes and `extra` ones, which must be of the same resource. `None` where that asks for nothing
    /// more. Beside `.default` no other scope may stand: there it is the extra ones alone.
    pub fn with(&self, extra: &str) -> Option<Self> {
        let own = self.resource()?;
        let configured = if self.is_default() { "" } else { &self.0 };
        let wider = Self::parse(&format!("{configured} {extra}")).ok()?;
        let is_of_own_resource = extra.split_whitespace().all(|scope| resource(scope) == own);
        let is_more = extra.split_whitespace().any(|scope| !self.holds(scope));
        (is_of_own_resource && is_more).then_some(wider)
    }

    /// What to ask for beyond these scopes where `known` ones were asked for before and `missing` ones are
    /// wanted; a bare name is one of the configured resource. `None` where nothing of that is new, or it cannot
    /// be asked for.
    pub fn widened(&self, known: &str, missing: &[String]) -> Option<String> {
        let own = self.resource()?;
        let is_bare = |scope: &str| own != GRAPH && !scope.contains('/');
        let qualified = |scope: &String| {
            if is_bare(scope) {
                format!("{own}/{scope}")
            } else {
                scope.clone()
            }
        };
        let known: Vec<&str> = known
            .split_whitespace()
            .filter(|scope| resource(scope) == own)
            .collect();
        let missing = missing
            .iter()
            .filter(|scope| !is_openid(&scope.as_str()))
            .map(qualified);
        let new: Vec<String> = missing
            .filter(|scope| !self.holds(scope) && !known.contains(&scope.as_str()))
            .collect();
        let wider = format!("{} {}", known.join(" "), new.join(" "))
            .trim()
            .to_owned();
        (!new.is_empty() && self.with(&wider).is_some()).then_some(wider)
    }

    /// The resource of all of them, where there is one.
    fn resource(&self) -> Option<&str> {
        self.0
            .split(' ')
            .find(|scope| !is_openid(scope))
            .map(resource)
    }

    fn holds(&self, scope: &str) -> bool {
        self.0.split(' ').any(|own| own == scope)
    }

    /// Whether everything that the app is registered for is asked for at once.
    pub fn is_default(&self) -> bool {
        self.0.split(' ').any(|scope| is_default(&scope))
    }

    /// The `scope` parameter: `openid profile offline_access` and the configured ones.
    pub fn requested(&self) -> &str {
        &self.0
    }

    /// Whether any scope beyond OpenID Connect's own was configured.
    pub fn names_a_resource(&self) -> bool {
        !self.0.split(' ').all(|scope| is_openid(&scope))
    }
}

fn is_default(scope: &&str) -> bool {
    scope.rsplit('/').next() == Some(".default")
}

/// Whether `scope` is one of OpenID Connect's own.
fn is_openid(scope: &&str) -> bool {
    *scope == "email" || ADDED.contains(scope)
}

/// The resource of a scope: what stands before its last slash.
fn resource(scope: &str) -> &str {
    scope
        .rsplit_once('/')
        .map_or(GRAPH, |(resource, _)| resource)
}
