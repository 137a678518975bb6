//! Where MCP clients look for OAuth when the access key is missing (MCP 2025-11-25 authorization).
//! There is none here, and each path says so in the form that clients show to a person.

use serde_json::json;

use super::pages::Pages;
use crate::error::{Failure, Kind};
use crate::http::message::{Reply, json_reply};

/// What a client wants there.
#[derive(Clone, Copy)]
pub(super) enum Wanted {
    /// Metadata of a protected resource or of an authorization server (RFC 9728 §3.1, RFC 8414
    /// §3.1, OpenID Connect Discovery §4).
    Metadata,
    /// To be registered (RFC 7591 §3).
    Registration,
    /// To lead a browser to a sign-in (RFC 6749 §3.1).
    Authorization,
    /// A token (RFC 6749 §3.2).
    Token,
}

impl Wanted {
    /// What is wanted at `path`, if it is one of those.
    pub(super) fn at(path: &str) -> Option<Self> {
        // Some clients put the well-known path behind that of the endpoint, others before it.
        let below = path.strip_prefix("/mcp").unwrap_or(path);
        match below {
            "/register" => return Some(Self::Registration),
            "/authorize" => return Some(Self::Authorization),
            "/token" => return Some(Self::Token),
            _ => {}
        }
        let name = below.strip_prefix("/.well-known/")?.split('/').next();
        let is_metadata = matches!(
            name,
            Some(
                "oauth-authorization-server" | "oauth-protected-resource" | "openid-configuration"
            )
        );
        is_metadata.then_some(Self::Metadata)
    }

    /// That it is not here; `instead` says what a client must do. No client takes any of these for
    /// a sign that there is OAuth.
    pub(super) fn refusal(self, instead: &str, pages: &Pages) -> Reply {
        let error = match self {
            Self::Metadata => return json_reply(404, json!({"error": instead}).to_string()),
            Self::Authorization => {
                let failure = Failure::new(Kind::Refused, instead);
                return pages.failure(404, "There is no sign-in here", &failure);
            }
            // RFC 7591 §3.2.2
            Self::Registration => "invalid_client_metadata",
            // RFC 6749 §5.2
            Self::Token => "unsupported_grant_type",
        };
        let body = json!({"error": error, "error_description": instead});
        json_reply(400, body.to_string())
    }
}
