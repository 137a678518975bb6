//! Failures, named by what the person or the model who reads them must do.

use std::time::Duration;

/// What the reader of a [`Failure`] must do about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Sign in (again).
    SignInRequired,
    /// Wait, then try the same again.
    RetryLater,
    /// Mend the settings or the app registration.
    Configuration,
    /// Accept a refusal by the user, an administrator or a policy.
    Refused,
    /// Send a different request.
    InvalidRequest,
    /// See why the backend cannot be reached.
    BackendUnreachable,
    /// See to the token file.
    TokenCache,
    /// Report it: this should not happen.
    #[default]
    Internal,
}

impl Kind {
    /// The name that goes into `error` of a tool result.
    pub fn code(self) -> &'static str {
        match self {
            Self::SignInRequired => "sign_in_required",
            Self::RetryLater => "retry_later",
            Self::Configuration => "configuration",
            Self::Refused => "refused",
            Self::InvalidRequest => "invalid_request",
            Self::BackendUnreachable => "backend_unreachable",
            Self::TokenCache => "token_cache",
            Self::Internal => "internal",
        }
    }
}

/// One failure: a sentence that says what happened and a sentence that says what to do next.
/// Neither ever holds a token, a code, a verifier, a state or a cookie.
#[derive(Clone, Debug, Default)]
pub struct Failure {
    /// What the reader must do.
    pub kind: Kind,
    /// What happened.
    pub message: String,
    /// What to do next, in words that fit this configuration; may be empty.
    pub hint: String,
    /// How long to wait before trying again, where somebody said so.
    pub retry_after: Option<Duration>,
    /// The number of Entra's own error code, without the `AADSTS`.
    pub aadsts: Option<u32>,
    /// Entra's correlation id: what Microsoft's support asks for.
    pub correlation_id: Option<String>,
}

impl Failure {
    /// A failure with its message and nothing else.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), ..Self::default() }
    }

    /// The same with what to do next.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// The same with how long to wait.
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Message and hint as one text.
    pub fn text(&self) -> String {
        if self.hint.is_empty() { self.message.clone() } else { format!("{} {}", self.message, self.hint) }
    }
}
