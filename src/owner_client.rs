//! A client of the server that owns the token file: MCP 2025-11-25, without a session.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use ureq::Agent;
use url::Url;

use crate::error::{Failure, Kind};
use crate::outgoing::{self, agent_config, is_loopback_host};
use crate::owner;
use crate::secret::{Secret, SecretJson};

/// For one call. None waits for longer than a few seconds.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Calls the tools of one server.
pub struct OwnerClient<'a> {
    agent: Agent,
    origin: String,
    /// What the server owns; `None` where it is one of this process.
    token_file: Option<&'a Path>,
    access_key: Option<&'a Secret>,
    user_agent: String,
}

impl<'a> OwnerClient<'a> {
    /// A client of the server at `origin`, which is sent the access key for as long as it owns
    /// `token_file`; on record there as `name`.
    ///
    /// # Errors
    /// The access key would go over a network without encryption.
    pub fn new(
        origin: &str,
        token_file: Option<&'a Path>,
        access_key: Option<&'a Secret>,
        name: &str,
    ) -> Result<Self, Failure> {
        let Some(url) = Url::parse(origin).ok().filter(is_safe) else {
            let message =
                format!("The server at {origin} cannot be spoken to from here without encryption.");
            return Err(Failure::new(Kind::Configuration, message).hint(
                "Sign in and out through an MCP client or the server's start page, or set SERVER_HOST to localhost.",
            ));
        };
        let config = agent_config(&url).proxy(None).timeout_global(Some(TIMEOUT));
        Ok(Self {
            agent: outgoing::agent(config.build()),
            origin: origin.to_owned(),
            token_file,
            access_key,
            user_agent: name.to_owned(),
        })
    }

    /// Whether it has an access key to send.
    pub fn has_access_key(&self) -> bool {
        self.access_key.is_some()
    }

    /// Where the server is.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Calls `tool` and gives the structured content of its result.
    ///
    /// # Errors
    /// The server has ended, does not answer or does not take the access key; the tool fails.
    pub fn call(&self, tool: &str, arguments: &Value) -> Result<SecretJson, Failure> {
        self.check_owner()?;
        let request = json!({
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": { "name": tool, "arguments": arguments },
        });
        let mut post = self
            .agent
            .post(format!("{}/mcp", self.origin))
            .header("Content-Type", "application/json")
            .header("Accept", "application/json, text/event-stream")
            .header("MCP-Protocol-Version", "2025-11-25")
            .header("User-Agent", &self.user_agent);
        if let Some(key) = self.access_key {
            post = post.header("Authorization", key.between("Bearer ", "").expose());
        }
        let mut answer = post
            .send(request.to_string())
            .map_err(|error| self.silent(&error))?;
        if answer.status() == 401 {
            return Err(self.not_let_in());
        }
        let text = answer.body_mut().read_to_string();
        let text = Secret::new(text.map_err(|error| self.silent(&error))?);
        let mut response = response_in(&text).ok_or_else(|| self.not_understood())?;
        let error = response.pointer("/error/message").and_then(Value::as_str);
        if let Some(message) = error {
            return Err(Failure::new(Kind::InvalidRequest, message));
        }
        let content = response.0.pointer_mut("/result/structuredContent");
        let content = content.ok_or_else(|| self.not_understood())?.take();
        let content = SecretJson(content);
        let is_error = response
            .pointer("/result/isError")
            .and_then(Value::as_bool)
            .unwrap_or(true);
        if !is_error {
            return Ok(content);
        }
        let text = response
            .pointer("/result/content/0/text")
            .and_then(Value::as_str)
            .ok_or_else(|| self.not_understood())?;
        Err(failure_in(&content, text))
    }

    /// Once the server has ended, anybody may listen at its port.
    fn check_owner(&self) -> Result<(), Failure> {
        let Some(token_file) = self.token_file else {
            return Ok(());
        };
        // One that does not say who it is is another one.
        let owner = owner::current(token_file).unwrap_or_default();
        if owner.and_then(|owner| owner.origin).as_ref() == Some(&self.origin) {
            return Ok(());
        }
        let message = format!("The running server at {} has ended.", self.origin);
        Err(Failure::new(Kind::RetryLater, message).hint("Try again."))
    }

    fn silent(&self, error: &ureq::Error) -> Failure {
        let message = format!(
            "The running server at {} does not answer: {}",
            self.origin,
            outgoing::explain(error)
        );
        Failure::new(Kind::RetryLater, message)
    }

    fn not_let_in(&self) -> Failure {
        let what = if self.has_access_key() {
            "does not take the access key that is set here"
        } else {
            "wants its access key"
        };
        let message = format!("The running server at {} {what}.", self.origin);
        Failure::new(Kind::Configuration, message)
            .hint("Set SERVER_ACCESS_KEY or SERVER_ACCESS_KEY_FILE as that server has it.")
    }

    fn not_understood(&self) -> Failure {
        let message = format!(
            "The answer of the running server at {} was not understood.",
            self.origin
        );
        Failure::new(Kind::Internal, message)
            .hint("Restart that server, so that it is of the same version as this program.")
    }
}

/// The failure of a tool with this structured content and this `text`, which says all of it.
fn failure_in(content: &Value, text: &str) -> Failure {
    let member = |name: &str| content.get(name).and_then(Value::as_str);
    let kind = member("error").and_then(Kind::from_code);
    let kind = kind.unwrap_or(Kind::Internal);
    let message = member("message").unwrap_or(text);
    match text.strip_prefix(message) {
        Some(hint) => Failure::new(kind, message).hint(hint.trim()),
        None => Failure::new(kind, text),
    }
}

/// Whether nobody between here and there can read what is sent.
fn is_safe(url: &Url) -> bool {
    match url.scheme() {
        "https" => true,
        "http" => url.host_str().is_some_and(is_loopback_host),
        _ => false,
    }
}

/// The response in the body of an answer: JSON, or a stream of events whose last is the response.
fn response_in(text: &Secret) -> Option<SecretJson> {
    let last_event = text
        .expose()
        .lines()
        .filter_map(|line| line.strip_prefix("data:"))
        .next_back();
    let json = last_event.unwrap_or(text.expose());
    serde_json::from_str(json).map(SecretJson).ok()
}
