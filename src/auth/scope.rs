//! Scopes: what is requested, and what Entra will refuse before we send it.

use crate::text::is_guid;

/// The scopes that we add to every request: an ID token, its profile claims, a refresh token.
const ADDED: [&str; 3] = ["openid", "profile", "offline_access"];

/// What else means Microsoft Graph: its application id, which is the same in every cloud, and its
/// hosts in the clouds (learn.microsoft.com/graph/deployments).
const GRAPH_NAMES: [&str; 5] = [
    "00000003-0000-0000-c000-000000000000",
    "https://graph.microsoft.com",
    "https://graph.microsoft.us",
    "https://dod-graph.microsoft.us",
    "https://microsoftgraph.chinacloudapi.cn",
];

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
    /// A sentence that says what Entra would refuse: a resource without a scope, `.default` mixed
    /// with other scopes, or scopes that certainly belong to two resources (one access token is for
    /// one resource).
    pub fn parse(custom: &str) -> Result<Self, String> {
        let mut openid_scopes = ADDED.to_vec();
        let mut resource_scopes = Vec::new();
        for scope in custom.split_whitespace() {
            check_characters(scope)?;
            let scopes = if is_openid(&scope) {
                &mut openid_scopes
            } else {
                check_is_scope(scope)?;
                &mut resource_scopes
            };
            if !scopes.contains(&scope) {
                scopes.push(scope);
            }
        }
        if resource_scopes.len() > 1 && resource_scopes.iter().any(is_default) {
            let problem = "'.default' stands for everything and cannot be mixed with other scopes (AADSTS70011)";
            return Err(problem.to_owned());
        }
        check_is_one_resource(&resource_scopes)?;
        Ok(Self([openid_scopes, resource_scopes].concat().join(" ")))
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

fn check_characters(scope: &str) -> Result<(), String> {
    let is_bad = |c: &char| !c.is_ascii_graphic() || matches!(c, '"' | '\\');
    match scope.chars().find(is_bad) {
        Some(bad) => Err(format!(
            "it holds {bad:?}, which no scope may (RFC 6749 §3.3)"
        )),
        None => Ok(()),
    }
}

/// Refuses what names a resource and no scope of it: a bare GUID, a URI without a path.
fn check_is_scope(scope: &str) -> Result<(), String> {
    let root = root(scope);
    let rest = scope.strip_prefix(root).unwrap_or_default();
    let names_a_scope = !scope.ends_with('/') && !rest.is_empty();
    // The name of a permission of Microsoft Graph has no colon.
    let is_of_graph = rest.is_empty() && !is_guid(scope) && !scope.contains([':', '/']);
    if names_a_scope || is_of_graph {
        return Ok(());
    }
    let resource = scope.trim_end_matches('/');
    Err(format!(
        "'{scope}' names an API but no scope of it: write {resource}/.default for all that the app \
         is registered for, or {resource}/ and the name of a scope"
    ))
}

fn check_is_one_resource(scopes: &[&str]) -> Result<(), String> {
    let Some((first, rest)) = scopes.split_first() else {
        return Ok(());
    };
    let first_resource = Resource::of(first);
    for other in rest {
        if first_resource.is_certainly_not(&Resource::of(other)) {
            return Err(format!(
                "'{first}' and '{other}' belong to two resources, and one access token is for one resource (AADSTS28000)"
            ));
        }
    }
    Ok(())
}

/// What is certain of a scope's resource. Both a scope's name and an application ID URI may hold
/// slashes, so where one ends and the other begins, only Entra knows.
enum Resource<'a> {
    Graph,
    /// The client id of the resource's app registration, which may have any URIs.
    ClientId(&'a str),
    /// Scheme and host of its application ID URI.
    Uri(&'a str),
}

impl<'a> Resource<'a> {
    fn of(scope: &'a str) -> Self {
        let root = root(scope);
        let is_graph = |name: &&str| name.eq_ignore_ascii_case(root);
        if root == scope || GRAPH_NAMES.iter().any(is_graph) {
            Self::Graph
        } else if is_guid(root) {
            Self::ClientId(root)
        } else {
            Self::Uri(root)
        }
    }

    fn is_certainly_not(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Graph, Self::Graph)
            | (Self::ClientId(_), Self::Uri(_))
            | (Self::Uri(_), Self::ClientId(_)) => false,
            (Self::ClientId(one), Self::ClientId(other)) | (Self::Uri(one), Self::Uri(other)) => {
                !one.eq_ignore_ascii_case(other)
            }
            (Self::Graph, _) | (_, Self::Graph) => true,
        }
    }
}

/// What stands before the first slash of a scope, that of `://` aside; all of a bare name.
fn root(scope: &str) -> &str {
    let host = scope.find("://").map_or(0, |at| at + "://".len());
    let after_host = scope.get(host..).unwrap_or_default();
    match after_host.find('/') {
        Some(slash) => scope.get(..host + slash).unwrap_or_default(),
        None => scope,
    }
}
