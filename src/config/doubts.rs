//! What is no mistake but probably not meant.

use url::Url;

use super::{ApiTools, Config, PLACEHOLDER};
use crate::outgoing::is_loopback_host;

/// The API of `.env.example`, as it is kept: with a slash at the end.
const EXAMPLE_BACKEND: &str = "https://api.example.com/v1/";
/// Hosts that a browser on this machine reaches as `localhost`.
const REACHED_AS_LOCALHOST: [&str; 5] = ["localhost", "127.0.0.1", "::1", "0.0.0.0", "::"];

impl Config {
    /// What is no mistake but probably not meant, in sentences that name the setting.
    pub fn doubts(&self) -> Vec<String> {
        let doubts = [
            self.doubt_of_backend(),
            self.doubt_of_scopes(),
            self.doubt_of_api_tools(),
            self.doubt_of_redirect_port(),
            self.doubt_of_open_port(),
            self.doubt_of_redirect_host(),
            self.doubt_of_key_file(),
            self.doubt_of_headers_file(),
            self.doubt_of_authority_host(),
            self.doubt_of_domain_hint(),
        ];
        let mut all: Vec<String> = doubts.into_iter().flatten().collect();
        if let Some(description) = &self.description {
            all.extend_from_slice(description.doubts());
        }
        all
    }

    /// The settings that still have the placeholder of `.env.example`, each with what to write
    /// instead.
    pub fn placeholders(&self) -> Vec<String> {
        let mut placeholders = Vec::new();
        let mut note = |has_placeholder: bool, name: &str, mend: &str| {
            if has_placeholder {
                placeholders.push(format!("{name} is the placeholder of .env.example: {mend}"));
            }
        };
        let of_registration = "copy it from the overview of the app registration";
        let tenant = self.authority.tenant().segment();
        let backend = self.backend.as_ref().map(Url::as_str);
        note(
            self.client_id == PLACEHOLDER,
            "AZURE_CLIENT_ID",
            of_registration,
        );
        note(tenant == PLACEHOLDER, "AZURE_TENANT_ID", of_registration);
        note(
            backend == Some(EXAMPLE_BACKEND),
            "BACKEND_API_BASE_URL",
            "write the base URL of your API, or leave it out",
        );
        note(
            self.scopes.requested().contains(PLACEHOLDER),
            "CUSTOM_API_SCOPE",
            "write the scopes of your API (App registrations > the API > Expose an API)",
        );
        placeholders
    }

    fn doubt_of_backend(&self) -> Option<String> {
        self.backend.is_none().then(|| {
            "BACKEND_API_BASE_URL is not set: the API tools only explain what to set.".to_owned()
        })
    }

    fn doubt_of_scopes(&self) -> Option<String> {
        let is_without_scope = self.backend.is_some() && !self.scopes.names_a_resource();
        is_without_scope.then(|| {
            "CUSTOM_API_SCOPE is not set: your API will hardly accept the access tokens.".to_owned()
        })
    }

    fn doubt_of_api_tools(&self) -> Option<String> {
        let needs_file = matches!(self.api_tools, ApiTools::Named | ApiTools::Search);
        (needs_file && self.description.is_none()).then(|| {
            format!(
                "API_TOOLS is {}, but OPENAPI_FILE is not set: there are no operations to offer.",
                self.api_tools.name()
            )
        })
    }

    fn doubt_of_redirect_port(&self) -> Option<String> {
        let host = &self.redirect_uri.host;
        let ends_elsewhere = !self.redirect_uri_is_default
            && is_loopback_host(&host.name)
            && host.port != Some(self.server_port);
        ends_elsewhere.then(|| {
            format!(
                "REDIRECT_URI is {}, but the server listens on port {}: unless that port is \
                 forwarded here, sign-ins end where nothing listens. Leave REDIRECT_URI out; the \
                 registration needs no port.",
                self.redirect_uri.text, self.server_port
            )
        })
    }

    fn doubt_of_open_port(&self) -> Option<String> {
        let is_open = !is_loopback_host(&self.server_host);
        is_open.then(|| {
            format!(
                "SERVER_HOST is {}: whoever is on the way there can read the access key. Let only \
                 this machine or a proxy with TLS reach it.",
                self.server_host
            )
        })
    }

    fn doubt_of_redirect_host(&self) -> Option<String> {
        let host = &self.server_host;
        let is_reached = REACHED_AS_LOCALHOST
            .iter()
            .any(|name| name.eq_ignore_ascii_case(host));
        let ends_nowhere = is_loopback_host(&self.redirect_uri.host.name) && !is_reached;
        ends_nowhere.then(|| {
            format!(
                "REDIRECT_URI is {}, but the server listens on {host} alone: unless that is \
                 forwarded here, sign-ins end where nothing listens. Set SERVER_HOST to localhost, \
                 or REDIRECT_URI to where it is reached.",
                self.redirect_uri.text
            )
        })
    }

    fn doubt_of_key_file(&self) -> Option<String> {
        let is_exposed = self.access_key.as_ref().is_some_and(|key| key.is_exposed);
        is_exposed.then(|| {
            "SERVER_ACCESS_KEY_FILE can be read or written by others: chmod 600 it.".to_owned()
        })
    }

    fn doubt_of_headers_file(&self) -> Option<String> {
        let headers = self.backend_headers.as_ref();
        let is_exposed = headers.is_some_and(|headers| headers.is_exposed);
        is_exposed.then(|| {
            "BACKEND_HEADERS_FILE can be read or written by others: chmod 600 it.".to_owned()
        })
    }

    fn doubt_of_authority_host(&self) -> Option<String> {
        let cloud = self.authority.alias_of()?;
        Some(format!(
            "AZURE_AUTHORITY_HOST is {}, another name of {}: set AZURE_CLOUD={} in its place.",
            self.authority.origin(),
            cloud.origin,
            cloud.name
        ))
    }

    fn doubt_of_domain_hint(&self) -> Option<String> {
        let hint = self.domain_hint.as_deref()?;
        let tenant = self.authority.tenant().segment();
        let hints_elsewhere = match tenant {
            "organizations" => hint == "consumers",
            "consumers" => hint != "consumers",
            _ => false,
        };
        hints_elsewhere.then(|| {
            format!("DOMAIN_HINT is {hint}, but AZURE_TENANT_ID={tenant} takes no such accounts.")
        })
    }
}
