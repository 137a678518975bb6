//! A stand-in for the Entra v2.0 endpoints that asserts what Entra asserts, and one thing more:
//! what a correct client never sends is kept as a *violation*, which fails the test at its end.
//!
//! Error numbers and texts are Entra's (reference-error-codes.md).

mod authorize;
mod claims;
mod device;
mod pages;
mod settings;
mod token;

pub use settings::{Platform, Settings, User};

use super::http::{Answer, Reply, Request, StandIn};
use super::{Gate, Hold, Pairs, base64url, http_date, lock, random_bytes, value_of};
use claims::claims_of;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

pub const CLIENT_ID: &str = "22961fbc-5a1e-4c5e-9d3b-0c6a3f7e8b11";
pub const TENANT_ID: &str = "7d1c4e0a-9f35-4b6e-8a2d-1f0e5c3b7a94";
pub const OTHER_TENANT_ID: &str = "e2b7a6d4-30c8-4f1b-b5e9-64d2c8f01a37";
/// The tenant of all personal accounts.
pub const CONSUMERS_TENANT_ID: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";
pub const REDIRECT_URI: &str = "http://localhost/auth/callback";
pub const LOGOUT_REDIRECT_URI: &str = "http://localhost/auth/logout-complete";
pub const ADA: &str = "ada@contoso.example";
pub const GRACE: &str = "grace@contoso.example";
/// Belongs to another tenant.
pub const EVE: &str = "eve@fabrikam.example";
/// Has a personal account; may sign in where [`Settings::consumers_allowed`] says so.
pub const PAT: &str = "pat@outlook.example";
pub const ADA_OID: &str = "0a1b2c3d-1111-4aaa-8bbb-000000000001";
pub const GRACE_OID: &str = "0a1b2c3d-2222-4aaa-8bbb-000000000002";
pub const EVE_OID: &str = "0a1b2c3d-3333-4aaa-8bbb-000000000003";
pub const PAT_OID: &str = "00000000-0000-0000-4444-000000000004";

/// How codes and tokens begin, to look for them where they must not be.
pub const CODE_MARK: &str = "CODE-";
pub const ACCESS_TOKEN_MARK: &str = "AT-";
pub const REFRESH_TOKEN_MARK: &str = "RT-";
pub const DEVICE_CODE_MARK: &str = "device-secret-";

const GRAPH: &str = "https://graph.microsoft.com";
/// The person declined.
const DECLINED: u32 = 65004;
const INVALID: &str = "invalid_request";
const TIMESTAMP: &str = "2026-07-28 09:00:00Z";
const OIDC_SCOPES: [&str; 4] = ["openid", "profile", "email", "offline_access"];

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
    /// These bytes on the wire.
    Raw(Vec<u8>),
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
    granted: Granted,
    expires: i64,
}

/// What an access token stands for.
#[derive(Clone, Debug, PartialEq)]
pub struct Granted {
    pub user: User,
    /// What was asked for, and so granted.
    pub scope: BTreeSet<String>,
    /// The claims that the token was asked for with; an empty object where there were none.
    pub claims: Value,
}

/// A device code and how far it got.
#[derive(Clone, Debug)]
pub struct Device {
    pub user_code: String,
    pub scope: BTreeSet<String>,
    pub claims: Value,
    /// Those that came too soon and those that failed included.
    pub polls: usize,
    pub redeemed: bool,
    /// Its device code.
    secret: String,
    tenant: String,
    progress: Progress,
    expires: i64,
    /// In milliseconds, as is `next_poll`.
    interval: i64,
    /// Not before then.
    next_poll: i64,
}

#[derive(Clone, Debug)]
enum Progress {
    Pending,
    Approved(User),
    Declined,
}

#[derive(Default)]
struct State {
    settings: Settings,
    transactions: HashMap<String, Transaction>,
    codes: HashMap<String, Code>,
    refresh_tokens: HashMap<String, RefreshToken>,
    access_tokens: HashMap<String, AccessToken>,
    devices: Vec<Device>,
    /// What each person, by `oid`, was ever asked to consent to.
    asked_scopes: HashMap<String, BTreeSet<String>>,
    authorize_requests: Vec<Pairs>,
    token_requests: Vec<Pairs>,
    device_requests: Vec<Pairs>,
    logouts: Vec<Pairs>,
    redemptions: usize,
    refreshes: usize,
    reused_refresh_tokens: usize,
    serial: usize,
    violations: Vec<String>,
    violations_allowed: bool,
    next_failures: VecDeque<TokenFailure>,
    next_poll_failures: VecDeque<TokenFailure>,
    lasting_failure: Option<TokenFailure>,
    hold: Option<Gate>,
    tamper: Option<Tamper>,
    body_tamper: Option<Tamper>,
}

/// Whether a bearer token is valid, and what it stands for.
pub type TokenCheck = Arc<dyn Fn(&str) -> Option<Granted> + Send + Sync>;

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
        Self {
            addr: server.addr(),
            server: Mutex::new(Some(server)),
            state,
        }
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

    /// Changes every token response from now on.
    pub fn token_tamper(&self, change: impl Fn(&mut Value) + Send + 'static) {
        self.state().body_tamper = Some(Box::new(change));
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
        state.next_poll_failures.clear();
        state.tamper = None;
        state.body_tamper = None;
    }

    /// Token requests wait, uncarried out, until the hold is dropped.
    #[must_use]
    pub fn hold_tokens(&self) -> Hold {
        let gate = Gate::default();
        self.state().hold = Some(gate.clone());
        Hold(gate)
    }

    /// The next poll of the device grant answers an OAuth error; several calls queue up.
    pub fn fail_next_poll(&self, error: &'static str, aadsts: u32) {
        self.fail_next_device_poll(TokenFailure::Oauth {
            error,
            aadsts,
            suberror: None,
            claims: None,
        });
    }

    /// As [`Entra::fail_next_token`], for polls of the device grant alone.
    pub fn fail_next_device_poll(&self, failure: TokenFailure) {
        self.state().next_poll_failures.push_back(failure);
    }

    /// Every device code, the oldest first.
    pub fn devices(&self) -> Vec<Device> {
        self.state().devices.clone()
    }

    /// As a person does who types the code and picks an account.
    pub fn approve_device(&self, user_code: &str, username: &str) {
        done(self.state().approve_device(user_code, username));
    }

    pub fn decline_device(&self, user_code: &str) {
        done(self.state().decline_device(user_code));
    }

    pub fn expire_device(&self, user_code: &str) {
        done(self.state().expire_device(user_code));
    }

    /// While true, a refresh with claims beyond `cp1` is refused: the person is needed.
    pub fn require_interaction_for_claims(&self, required: bool) {
        self.set(|settings| settings.interaction_for_claims = required);
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
        self.granted(token).map(|granted| granted.user)
    }

    /// `None` where the token is not, or no longer, valid.
    pub fn granted(&self, token: &str) -> Option<Granted> {
        self.state().granted(token)
    }

    pub fn token_check(&self) -> TokenCheck {
        let state = Arc::clone(&self.state);
        Arc::new(move |token| lock(&state).granted(token))
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

    pub fn device_requests(&self) -> Vec<Pairs> {
        self.state().device_requests.clone()
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

/// What a test does to a device code must work.
fn done(checked: Checked) {
    if let Err(refusal) = checked {
        panic!("{} (AADSTS{})", refusal.message, refusal.aadsts);
    }
}

fn handler(
    state: &Arc<Mutex<State>>,
) -> impl Fn(&Request) -> Answer + Send + Sync + 'static + use<> {
    let state = Arc::clone(state);
    move |request| match answer(&state, request) {
        Answer::Reply(reply) => reply.with("Date", &lock(&state).date()).into(),
        other => other,
    }
}

fn answer(state: &Mutex<State>, request: &Request) -> Answer {
    let path = request.path.trim_start_matches('/');
    let (tenant, endpoint) = path.split_once('/').unwrap_or((path, ""));
    match (request.method.as_str(), endpoint) {
        (_, "oauth2/v2.0/token") => return token::answer(state, tenant, request),
        (_, "oauth2/v2.0/devicecode") => lock(state).devicecode(tenant, request),
        ("GET", "oauth2/v2.0/authorize") => lock(state).authorize(tenant, request),
        ("POST", "login") => lock(state).login(tenant, request),
        ("GET", "oauth2/v2.0/logout") => lock(state).logout(request),
        ("GET", "v2.0/.well-known/openid-configuration") => lock(state).discovery(tenant, request),
        ("GET", "") if tenant == "device" => {
            Reply::of_html(200, pages::device(&lock(state).settings))
        }
        ("POST", "") if tenant == "device" => lock(state).answer_device(request),
        _ => Reply::new(
            404,
            "text/plain",
            "The stand-in for Entra has no such page.",
        ),
    }
    .into()
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

    fn with_suberror(mut self, suberror: &str) -> Self {
        self.suberror = Some(suberror.to_owned());
        self
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
        let mut fields = vec![
            ("error".to_owned(), self.error.clone()),
            ("error_description".to_owned(), description),
        ];
        if self.aadsts == DECLINED {
            fields.push(("error_subcode".to_owned(), "cancel".to_owned()));
        }
        fields
    }

    /// Refuses what a misconfigured but correct client sends.
    fn unless(holds: bool, error: &str, aadsts: u32, message: impl Into<String>) -> Checked {
        if holds {
            Ok(())
        } else {
            Err(Self::new(error, aadsts, message))
        }
    }
}

impl State {
    /// Refuses what no correct client sends, however configured, and keeps it as a violation.
    fn must(
        &mut self,
        holds: bool,
        error: &str,
        aadsts: u32,
        message: impl Into<String>,
    ) -> Checked {
        let checked = Refusal::unless(holds, error, aadsts, message);
        self.keep_violation(checked)
    }

    fn keep_violation(&mut self, checked: Checked) -> Checked {
        if let Err(Refusal {
            aadsts, message, ..
        }) = &checked
        {
            self.violations.push(format!("{message} (AADSTS{aadsts})"));
        }
        checked
    }

    fn now_in_milliseconds(&self) -> i64 {
        let clock = self
            .settings
            .clock_stands_at
            .unwrap_or_else(SystemTime::now);
        let since = clock.duration_since(UNIX_EPOCH).unwrap();
        i64::try_from(since.as_millis()).unwrap() + self.settings.clock_offset * 1000
    }

    fn now(&self) -> i64 {
        self.now_in_milliseconds() / 1000
    }

    fn date(&self) -> String {
        http_date(self.now() + self.settings.date_offset)
    }

    fn serial(&mut self) -> usize {
        self.serial += 1;
        self.serial
    }

    fn granted(&self, token: &str) -> Option<Granted> {
        let token = self.access_tokens.get(token)?;
        (token.expires > self.now()).then(|| token.granted.clone())
    }

    /// The person accepts what the app asks for.
    fn accept(&mut self, user: &User, scope: &BTreeSet<String>) {
        self.asked_scopes
            .entry(user.oid.clone())
            .or_default()
            .extend(scope.iter().cloned());
        if let Some(consented) = &mut self.settings.consented {
            consented.extend(scope.iter().cloned());
        }
    }

    fn page_error(&self) -> Checked {
        match self.settings.page_error.clone() {
            Some((aadsts, message)) => Err(Refusal::new(INVALID, aadsts, message)),
            None => Ok(()),
        }
    }

    fn check_tenant(&self, tenant: &str) -> Checked {
        self.settings.audience(tenant).map(drop)
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
        self.check_claims(params)
    }
}

fn scope_set(scope: &str) -> BTreeSet<String> {
    scope.split_whitespace().map(str::to_owned).collect()
}

/// What a scope is for; `None` for those of OIDC.
fn resource_of(scope: &str) -> Option<&str> {
    let resource = scope
        .rsplit_once('/')
        .map_or(GRAPH, |(resource, _)| resource);
    (!OIDC_SCOPES.contains(&scope)).then_some(resource)
}

/// `.default` cannot be mixed with dynamic scopes, and `offline_access` alone asks for nothing.
fn check_scopes(scopes: &BTreeSet<String>) -> Checked {
    let (default, named): (Vec<_>, Vec<_>) = scopes
        .iter()
        .filter(|scope| resource_of(scope).is_some())
        .partition(|scope| scope.ends_with("/.default"));
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
    let sent = request
        .header(name)
        .or_else(|| value_of(&request.query, name));
    sent.map_or_else(guid, str::to_owned)
}
