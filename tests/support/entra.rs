//! A stand-in for the Entra v2.0 endpoints that asserts what Entra asserts, and one thing more:
//! what a correct client never sends is kept as a *violation*, which fails the test at its end.
//!
//! Error numbers and texts are Entra's (reference-error-codes.md).

mod authorize;
mod pages;
mod token;

use super::http::{Answer, Reply, Request, StandIn};
use super::{Gate, Hold, Pairs, base64url, lock, random_bytes, value_of};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

pub const CLIENT_ID: &str = "22961fbc-5a1e-4c5e-9d3b-0c6a3f7e8b11";
pub const TENANT_ID: &str = "7d1c4e0a-9f35-4b6e-8a2d-1f0e5c3b7a94";
pub const OTHER_TENANT_ID: &str = "e2b7a6d4-30c8-4f1b-b5e9-64d2c8f01a37";
pub const REDIRECT_URI: &str = "http://localhost/auth/callback";
pub const LOGOUT_REDIRECT_URI: &str = "http://localhost/auth/logout-complete";
pub const ADA: &str = "ada@contoso.example";
pub const GRACE: &str = "grace@contoso.example";
/// Belongs to another tenant.
pub const EVE: &str = "eve@fabrikam.example";
pub const ADA_OID: &str = "0a1b2c3d-1111-4aaa-8bbb-000000000001";
pub const GRACE_OID: &str = "0a1b2c3d-2222-4aaa-8bbb-000000000002";
pub const EVE_OID: &str = "0a1b2c3d-3333-4aaa-8bbb-000000000003";

/// How codes and tokens begin, to look for them where they must not be.
pub const CODE_MARK: &str = "CODE-";
pub const ACCESS_TOKEN_MARK: &str = "AT-";
pub const REFRESH_TOKEN_MARK: &str = "RT-";

const GRAPH: &str = "https://graph.microsoft.com";
const INVALID: &str = "invalid_request";
const TIMESTAMP: &str = "2026-07-28 09:00:00Z";
const OIDC_SCOPES: [&str; 4] = ["openid", "profile", "email", "offline_access"];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub oid: String,
    pub tid: String,
    pub username: String,
    pub name: String,
    pub email: String,
}

impl User {
    pub fn new(oid: &str, tid: &str, username: &str, name: &str) -> Self {
        Self {
            oid: oid.to_owned(),
            tid: tid.to_owned(),
            username: username.to_owned(),
            name: name.to_owned(),
            email: username.to_owned(),
        }
    }

    pub fn ada() -> Self {
        Self::new(ADA_OID, TENANT_ID, ADA, "Ada Lovelace")
    }
}

/// The platform under which the redirect URI was registered; it decides the type of client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Platform {
    PublicClient,
    Web,
    Spa,
}

/// The app registration and how Entra behaves; change it with [`Entra::set`].
pub struct Settings {
    pub client_id: String,
    pub redirect_uris: Vec<String>,
    pub platform: Platform,
    /// `common` and `organizations` are refused (AADSTS50194).
    pub single_tenant: bool,
    pub users: Vec<User>,
    /// Of access tokens. The server refreshes five minutes early, so 60 forces a refresh at the
    /// next call while the backend still takes the token.
    pub expires_in: i64,
    pub refresh_in: Option<i64>,
    /// As older stacks emit them.
    pub numbers_as_strings: bool,
    pub omit_refresh_token_on_refresh: bool,
    /// Entra lets a rotated refresh token live on; with this, the strict behaviour.
    pub reject_reused_refresh_tokens: bool,
    pub accept_other_scope_on_refresh: bool,
    /// The page that posts the answer is sent with `Referrer-Policy: no-referrer`, which makes
    /// the browser send `Origin: null`.
    pub opaque_origin: bool,
    /// Added to the clock: codes and tokens age.
    pub clock_offset: i64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            client_id: CLIENT_ID.to_owned(),
            redirect_uris: vec![REDIRECT_URI.to_owned(), LOGOUT_REDIRECT_URI.to_owned()],
            platform: Platform::PublicClient,
            single_tenant: false,
            users: vec![
                User::ada(),
                User::new(GRACE_OID, TENANT_ID, GRACE, "Grace Hopper"),
                User::new(EVE_OID, OTHER_TENANT_ID, EVE, "Eve Fabrikam"),
            ],
            expires_in: 3900,
            refresh_in: None,
            numbers_as_strings: false,
            omit_refresh_token_on_refresh: false,
            reject_reused_refresh_tokens: false,
            accept_other_scope_on_refresh: false,
            opaque_origin: false,
            clock_offset: 0,
        }
    }
}

/// How the token endpoint fails when told to.
#[derive(Clone)]
pub enum TokenFailure {
    Oauth {
        error: &'static str,
        aadsts: u32,
        suberror: Option<&'static str>,
        claims: Option<&'static str>,
    },
    /// With `Retry-After` in seconds.
    Status(u16, Option<u32>),
    /// 200, but not JSON.
    Garbage,
    CloseWithoutAnswer,
    /// The grant is carried out, rotation included, and the answer is lost.
    LoseAnswer,
    /// No answer until the gate opens; then the connection is closed.
    Hang(Gate),
    /// 200 with an answer of so many bytes.
    Huge(usize),
}

type Tamper = Box<dyn Fn(&mut Value) + Send>;

struct Transaction {
    tenant: String,
    params: Pairs,
}

#[derive(Clone)]
struct Code {
    user: User,
    tenant: String,
    params: Pairs,
    issued: i64,
    redeemed: bool,
}

struct RefreshToken {
    user: User,
    /// What the code was redeemed for.
    scope: BTreeSet<String>,
    rotated: bool,
    revoked: bool,
}

struct AccessToken {
    user: User,
    expires: i64,
}

#[derive(Default)]
struct State {
    settings: Settings,
    transactions: HashMap<String, Transaction>,
    codes: HashMap<String, Code>,
    refresh_tokens: HashMap<String, RefreshToken>,
    access_tokens: HashMap<String, AccessToken>,
    authorize_requests: Vec<Pairs>,
    token_requests: Vec<Pairs>,
    logouts: Vec<Pairs>,
    redemptions: usize,
    refreshes: usize,
    reused_refresh_tokens: usize,
    serial: usize,
    violations: Vec<String>,
    violations_allowed: bool,
    next_failures: VecDeque<TokenFailure>,
    lasting_failure: Option<TokenFailure>,
    hold: Option<Gate>,
    tamper: Option<Tamper>,
}

/// Whether a bearer token is valid, and whose it is.
pub type TokenCheck = Arc<dyn Fn(&str) -> Option<User> + Send + Sync>;

/// The stand-in. Dropped, it panics if there were violations.
pub struct Entra {
    addr: SocketAddr,
    server: Mutex<Option<StandIn>>,
    state: Arc<Mutex<State>>,
}

impl Entra {
    pub fn start() -> Self {
        let state = Arc::default();
        let server = StandIn::serve(handler(&state));
        Self { addr: server.addr(), server: Mutex::new(Some(server)), state }
    }

    /// For the demo and for tests of what is wrong: violations are kept, but fail nothing.
    pub fn start_lenient() -> Self {
        let entra = Self::start();
        entra.allow_violations();
        entra
    }

    /// `http://127.0.0.1:port`, the value of `AZURE_AUTHORITY_HOST`.
    pub fn authority_host(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub fn token_endpoint(&self, tenant: &str) -> String {
        format!("{}/{tenant}/oauth2/v2.0/token", self.authority_host())
    }

    /// Connections are refused until [`Entra::up`].
    pub fn down(&self) {
        lock(&self.server).take();
    }

    /// Back at the same address, with everything remembered.
    pub fn up(&self) {
        let server = StandIn::serve_at(self.addr, handler(&self.state));
        *lock(&self.server) = Some(server);
    }

    pub fn set(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.state().settings);
    }

    pub fn expires_in(&self, seconds: i64) {
        self.set(|settings| settings.expires_in = seconds);
    }

    /// Lets time pass for codes and tokens.
    pub fn advance(&self, seconds: i64) {
        self.set(|settings| settings.clock_offset += seconds);
    }

    /// Changes the claims of every ID token issued from now on.
    pub fn id_token_tamper(&self, change: impl Fn(&mut Value) + Send + 'static) {
        self.state().tamper = Some(Box::new(change));
    }

    /// Several calls queue up.
    pub fn fail_next_token(&self, failure: TokenFailure) {
        self.state().next_failures.push_back(failure);
    }

    /// Until [`Entra::heal`].
    pub fn fail_tokens(&self, failure: TokenFailure) {
        self.state().lasting_failure = Some(failure);
    }

    pub fn heal(&self) {
        let mut state = self.state();
        state.lasting_failure = None;
        state.next_failures.clear();
        state.tamper = None;
    }

    /// Token requests wait, uncarried out, until the hold is dropped.
    #[must_use]
    pub fn hold_tokens(&self) -> Hold {
        let gate = Gate::default();
        self.state().hold = Some(gate.clone());
        Hold(gate)
    }

    /// As an administrator does: refresh tokens answer `invalid_grant` (AADSTS50173).
    pub fn revoke_all(&self) {
        for token in self.state().refresh_tokens.values_mut() {
            token.revoked = true;
        }
    }

    /// The backend refuses every access token issued so far.
    pub fn revoke_access_tokens(&self) {
        self.state().access_tokens.clear();
    }

    pub fn valid_access_token(&self, token: &str) -> Option<User> {
        self.state().valid_access_token(token)
    }

    pub fn token_check(&self) -> TokenCheck {
        let state = Arc::clone(&self.state);
        Arc::new(move |token| lock(&state).valid_access_token(token))
    }

    pub fn allow_violations(&self) {
        self.state().violations_allowed = true;
    }

    pub fn violations(&self) -> Vec<String> {
        self.state().violations.clone()
    }

    pub fn refreshes(&self) -> usize {
        self.state().refreshes
    }

    pub fn redemptions(&self) -> usize {
        self.state().redemptions
    }

    pub fn reused_refresh_tokens(&self) -> usize {
        self.state().reused_refresh_tokens
    }

    pub fn authorize_requests(&self) -> Vec<Pairs> {
        self.state().authorize_requests.clone()
    }

    pub fn last_authorize(&self) -> Pairs {
        let last = self.state().authorize_requests.last().cloned();
        last.expect("an authorize request")
    }

    pub fn token_requests(&self) -> Vec<Pairs> {
        self.state().token_requests.clone()
    }

    pub fn last_token_request(&self) -> Pairs {
        let last = self.state().token_requests.last().cloned();
        last.expect("a token request")
    }

    pub fn logouts(&self) -> Vec<Pairs> {
        self.state().logouts.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Drop for Entra {
    fn drop(&mut self) {
        let (allowed, violations) = {
            let state = self.state();
            (state.violations_allowed, state.violations.join("\n  "))
        };
        if !allowed && !std::thread::panicking() {
            assert!(violations.is_empty(), "Entra was sent:\n  {violations}");
        }
    }
}

fn handler(state: &Arc<Mutex<State>>) -> impl Fn(&Request) -> Answer + Send + Sync + 'static + use<> {
    let state = Arc::clone(state);
    move |request| {
        let path = request.path.trim_start_matches('/');
        let (tenant, endpoint) = path.split_once('/').unwrap_or((path, ""));
        match (request.method.as_str(), endpoint) {
            (_, "oauth2/v2.0/token") => return token::answer(&state, tenant, request),
            ("GET", "oauth2/v2.0/authorize") => lock(&state).authorize(tenant, request),
            ("POST", "login") => lock(&state).login(tenant, request),
            ("GET", "oauth2/v2.0/logout") => lock(&state).logout(request),
            ("GET", "v2.0/.well-known/openid-configuration") => lock(&state).discovery(tenant, request),
            _ => Reply::new(404, "text/plain", "The stand-in for Entra has no such page."),
        }
        .into()
    }
}

type Checked = Result<(), Refusal>;

/// An OAuth error as Entra words it.
struct Refusal {
    status: u16,
    error: String,
    aadsts: u32,
    message: String,
    suberror: Option<String>,
    claims: Option<String>,
}

impl Refusal {
    fn new(error: &str, aadsts: u32, message: impl Into<String>) -> Self {
        Self {
            status: if error == "invalid_client" { 401 } else { 400 },
            error: error.to_owned(),
            aadsts,
            message: message.into(),
            suberror: None,
            claims: None,
        }
    }

    fn description(&self, trace: &str, correlation: &str) -> String {
        format!(
            "AADSTS{}: {} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {TIMESTAMP}",
            self.aadsts, self.message
        )
    }

    /// The token endpoint's error body.
    fn to_reply(&self, request: &Request) -> Reply {
        let (trace, correlation) = (guid(), correlation_id(request));
        let mut body = json!({
            "error": self.error,
            "error_description": self.description(&trace, &correlation),
            "error_codes": [self.aadsts],
            "timestamp": TIMESTAMP,
            "trace_id": trace,
            "correlation_id": correlation,
            "error_uri": format!("{}/error?code={}", request.origin, self.aadsts),
        });
        for (name, value) in [("suberror", &self.suberror), ("claims", &self.claims)] {
            if let Some(value) = value {
                body[name] = json!(value);
            }
        }
        Reply::of_json(self.status, &body).with("Cache-Control", "no-store, no-cache")
    }

    /// What never reaches the app, because client or redirect URI are not trusted.
    fn to_page(&self, request: &Request) -> Reply {
        let description = self.description(&guid(), &correlation_id(request));
        Reply::of_html(400, pages::failed(&description))
    }

    /// What is sent to the redirect URI.
    fn to_fields(&self, request: &Request) -> Pairs {
        let description = self.description(&guid(), &correlation_id(request));
        let mut fields = vec![("error".to_owned(), self.error.clone()), ("error_description".to_owned(), description)];
        if self.error == "access_denied" {
            fields.push(("error_subcode".to_owned(), "cancel".to_owned()));
        }
        fields
    }

    /// Refuses what a misconfigured but correct client sends.
    fn unless(holds: bool, error: &str, aadsts: u32, message: impl Into<String>) -> Checked {
        if holds { Ok(()) } else { Err(Self::new(error, aadsts, message)) }
    }
}

impl State {
    /// Refuses what no correct client sends, however configured, and keeps it as a violation.
    fn must(&mut self, holds: bool, error: &str, aadsts: u32, message: impl Into<String>) -> Checked {
        let checked = Refusal::unless(holds, error, aadsts, message);
        self.keep_violation(checked)
    }

    fn keep_violation(&mut self, checked: Checked) -> Checked {
        if let Err(Refusal { aadsts, message, .. }) = &checked {
            self.violations.push(format!("{message} (AADSTS{aadsts})"));
        }
        checked
    }

    fn now(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        i64::try_from(since.as_secs()).unwrap() + self.settings.clock_offset
    }

    fn serial(&mut self) -> usize {
        self.serial += 1;
        self.serial
    }

    fn valid_access_token(&self, token: &str) -> Option<User> {
        let token = self.access_tokens.get(token)?;
        (token.expires > self.now()).then(|| token.user.clone())
    }

    fn check_tenant(&self, tenant: &str) -> Checked {
        let (holds, aadsts, message) = match tenant {
            "common" | "organizations" => (
                !self.settings.single_tenant,
                50194,
                "Application is not configured as a multi-tenant application.".to_owned(),
            ),
            "consumers" => {
                (false, 9_002_332, "Application is configured for use by Microsoft Entra users only.".to_owned())
            }
            guid => {
                (self.settings.users.iter().any(|user| user.tid == guid), 90002, format!("Tenant '{guid}' not found."))
            }
        };
        Refusal::unless(holds, INVALID, aadsts, message)
    }

    fn check_client(&self, params: &Pairs) -> Checked {
        let client = value_of(params, "client_id").unwrap_or_default();
        let message = format!("Application with identifier '{client}' was not found.");
        let holds = client == self.settings.client_id;
        Refusal::unless(holds, "unauthorized_client", 700_016, message)
    }

    /// What holds at every endpoint.
    fn check_params(&mut self, params: &Pairs) -> Checked {
        let mut seen = BTreeSet::new();
        for (name, _) in params {
            let message = format!("The parameter '{name}' is duplicated.");
            self.must(seen.insert(name), INVALID, 9_000_411, message)?;
        }
        let message = "The 'resource' request parameter is not supported.";
        let no_resource = value_of(params, "resource").is_none();
        self.must(no_resource, "invalid_target", 901_002, message)?;
        let claims = value_of(params, "claims").unwrap_or("{}");
        let is_object = serde_json::from_str::<Map<String, Value>>(claims).is_ok();
        let message = "The 'claims' parameter is not a JSON object.";
        self.must(is_object, INVALID, 9_002_313, message)
    }
}

fn scope_set(scope: &str) -> BTreeSet<String> {
    scope.split_whitespace().map(str::to_owned).collect()
}

/// What a scope is for; `None` for those of OIDC.
fn resource_of(scope: &str) -> Option<&str> {
    let resource = scope.rsplit_once('/').map_or(GRAPH, |(resource, _)| resource);
    (!OIDC_SCOPES.contains(&scope)).then_some(resource)
}

/// `.default` cannot be mixed with dynamic scopes, and `offline_access` alone asks for nothing.
fn check_scopes(scopes: &BTreeSet<String>) -> Checked {
    let (default, named): (Vec<_>, Vec<_>) =
        scopes.iter().filter(|scope| resource_of(scope).is_some()).partition(|scope| scope.ends_with("/.default"));
    let message = ".default scope can't be combined with resource-specific scopes.";
    let unmixed = default.is_empty() || named.is_empty();
    Refusal::unless(unmixed, "invalid_scope", 70011, message)?;
    let message = "The scope 'offline_access' is not valid alone.";
    let asks = scopes.iter().any(|scope| scope != "offline_access");
    Refusal::unless(asks, "invalid_scope", 70011, message)
}

fn client_info(user: &User) -> String {
    let info = json!({ "uid": user.oid, "utid": user.tid });
    base64url(info.to_string().as_bytes())
}

/// RFC 7636 §4.2.
pub fn s256(verifier: &str) -> String {
    base64url(&Sha256::digest(verifier))
}

fn is_base64url(text: &str) -> bool {
    let alphabet = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
    !text.is_empty() && text.bytes().all(alphabet)
}

fn guid() -> String {
    let hex = format!("{:032x}", u128::from_be_bytes(random_bytes()));
    let groups = [0..8, 8..12, 12..16, 16..20, 20..32];
    groups.map(|group| hex[group].to_owned()).join("-")
}

fn correlation_id(request: &Request) -> String {
    let name = "client-request-id";
    let sent = request.header(name).or_else(|| value_of(&request.query, name));
    sent.map_or_else(guid, str::to_owned)
}
