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

    /// The kind whose name is `code`.
    pub fn from_code(code: &str) -> Option<Self> {
        let all = [
            Self::SignInRequired,
            Self::RetryLater,
            Self::Configuration,
            Self::Refused,
            Self::InvalidRequest,
            Self::BackendUnreachable,
            Self::TokenCache,
            Self::Internal,
        ];
        all.into_iter().find(|kind| kind.code() == code)
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
    /// What Entra said of it, where it was Entra who failed it.
    pub entra: Option<Box<EntraError>>,
}

/// Entra's account of an error, beside the message: help for people, on which nothing is decided.
#[derive(Clone, Debug, Default)]
pub struct EntraError {
    /// The number, without the `AADSTS`.
    pub aadsts: Option<u32>,
    /// What the number means, in a few words, where it is known here.
    pub title: Option<&'static str>,
    /// With the two below, what Microsoft's support asks for.
    pub correlation_id: Option<String>,
    /// See `correlation_id`.
    pub trace_id: Option<String>,
    /// See `correlation_id`; as Entra writes it.
    pub timestamp: Option<String>,
}

impl EntraError {
    /// What to tell Microsoft's support; empty when Entra gave nothing.
    pub fn support(&self) -> String {
        let Self {
            correlation_id,
            trace_id,
            timestamp,
            ..
        } = self;
        let given = [
            ("correlation id", correlation_id),
            ("trace id", trace_id),
            ("timestamp", timestamp),
        ];
        let given = given
            .iter()
            .filter_map(|(name, value)| Some(format!("{name} {}", value.as_deref()?)));
        let given = given.collect::<Vec<_>>().join(", ");
        if given.is_empty() {
            given
        } else {
            format!("For Microsoft's support: {given}.")
        }
    }
}

impl Failure {
    /// A failure with its message and nothing else. It is rare: what leads here is kept small.
    #[cold]
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            ..Self::default()
        }
    }

    /// The same with what to do next.
    #[cold]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// The same with how long to wait.
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// What it is, in a few words, where Entra's number says so.
    pub fn title(&self) -> Option<&'static str> {
        self.entra.as_ref()?.title
    }

    /// All of it as one text.
    pub fn text(&self) -> String {
        let title = self.title().map(|title| format!("{title}."));
        let support = self.entra.as_ref().map(|entra| entra.support());
        let parts = [
            title.as_deref(),
            Some(&self.message),
            Some(&self.hint),
            support.as_deref(),
        ];
        parts
            .into_iter()
            .flatten()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(" ")
    }
}
