//! Scopes: what is requested, and what Entra will refuse before we send it.

/// The scopes that we add to every request: an ID token, its profile claims, a refresh token.
const ADDED: [&str; 3] = ["openid", "profile", "offline_access"];

/// A bare scope name means Microsoft Graph.
const GRAPH: &str = "https://graph.microsoft.com";

/// The scopes of one authorization request, in the order in which they are sent. What is sent on
/// refresh is this same text, never the list that the token response granted: Entra echoes
/// `.default` beside resource scopes and then refuses the mix (AADSTS70011).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scopes {
    requested: String,
    names_a_resource: bool,
}

impl Scopes {
    /// Takes `CUSTOM_API_SCOPE`: scopes separated by white space, possibly none.
    ///
    /// # Errors
    /// A sentence that says what Entra would refuse: `.default` mixed with other scopes, or
    /// scopes of two resources (one access token is for one resource).
    pub fn parse(custom: &str) -> Result<Self, String> {
        let mut resource_scopes: Vec<&str> = Vec::new();
        let mut openid_scopes: Vec<&str> = ADDED.to_vec();
        for scope in custom.split_whitespace() {
            if let Some(bad) = scope.chars().find(|c| !c.is_ascii_graphic() || matches!(c, '"' | '\\')) {
                return Err(format!("it holds {bad:?}, which no scope may (RFC 6749 §3.3)"));
            }
            let list = if scope == "email" { &mut openid_scopes } else { &mut resource_scopes };
            if !ADDED.contains(&scope) && !list.contains(&scope) {
                list.push(scope);
            }
        }
        if resource_scopes.len() > 1 && resource_scopes.iter().any(|scope| is_default(scope)) {
            return Err(
                "'.default' stands for everything and cannot be mixed with other scopes (AADSTS70011)".to_owned()
            );
        }
        if let [first, rest @ ..] = resource_scopes.as_slice()
            && let Some(other) = rest.iter().find(|scope| resource(scope) != resource(first))
        {
            return Err(format!(
                "'{first}' and '{other}' belong to two resources, and one access token is for one resource (AADSTS28000)"
            ));
        }
        let names_a_resource = !resource_scopes.is_empty();
        openid_scopes.extend(resource_scopes);
        Ok(Self { requested: openid_scopes.join(" "), names_a_resource })
    }

    /// The `scope` parameter: `openid profile offline_access` and the configured ones.
    pub fn requested(&self) -> &str {
        &self.requested
    }

    /// Whether any scope beyond OpenID Connect's own was configured.
    pub fn names_a_resource(&self) -> bool {
        self.names_a_resource
    }
}

fn is_default(scope: &str) -> bool {
    scope == ".default" || scope.ends_with("/.default")
}

/// The resource of a scope: what stands before its last slash.
fn resource(scope: &str) -> &str {
    scope.rsplit_once('/').map_or(GRAPH, |(resource, _)| resource)
}
