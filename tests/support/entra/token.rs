//! The token endpoint.

use super::claims::go_beyond_capabilities;
use super::{
    ACCESS_TOKEN_MARK, AccessToken, Checked, Granted, INVALID, Platform, REFRESH_TOKEN_MARK,
    RefreshToken, Refusal, State, TokenFailure, User, check_scopes, claims_of, client_info, device,
    resource_of, s256, scope_set,
};
use crate::support::http::{Answer, Reply, Request};
use crate::support::{Pairs, base64url, lock, random_token, value_of};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Write as _;
use std::sync::Mutex;

const CODE_LIFETIME: i64 = 600;
const INVALID_GRANT: &str = "invalid_grant";

pub(super) fn answer(state: &Mutex<State>, tenant: &str, request: &Request) -> Answer {
    let params = request.form();
    let polls = value_of(&params, "grant_type") == Some(device::GRANT_TYPE);
    let hold = {
        let mut state = lock(state);
        state.token_requests.push(params.clone());
        let checked = state.check_token_request(tenant, request, &params);
        let checked = checked.and_then(|()| {
            if polls {
                state.note_poll(&params)
            } else {
                Ok(())
            }
        });
        if let Err(refusal) = checked {
            return refusal.to_reply(request).into();
        }
        state.hold.clone()
    };
    if let Some(gate) = hold {
        gate.pass(); // with the lock free
    }
    let mut state = lock(state);
    let next_poll = if polls {
        state.next_poll_failures.pop_front()
    } else {
        None
    };
    let next = next_poll.or_else(|| state.next_failures.pop_front());
    let failure = next.or_else(|| state.lasting_failure.clone());
    if let Some(failure) = failure.as_ref().filter(|_| polls) {
        state.slow_down(&params, failure);
    }
    if let Some(failure) = &failure
        && !matches!(failure, TokenFailure::LoseAnswer)
    {
        return fail(failure, request);
    }
    match state.grant(tenant, request, &params) {
        _ if failure.is_some() => Answer::Close, // carried out, and the answer lost
        Ok(mut body) => {
            if let Some(tamper) = &state.body_tamper {
                tamper(&mut body);
            }
            Reply::of_json(200, &body)
                .with("Cache-Control", "no-store, no-cache")
                .into()
        }
        Err(refusal) => refusal.to_reply(request).into(),
    }
}

fn fail(failure: &TokenFailure, request: &Request) -> Answer {
    match failure.clone() {
        TokenFailure::Oauth {
            error,
            aadsts,
            suberror,
            claims,
        } => {
            let mut refusal = Refusal::new(error, aadsts, "The test wants this error.");
            refusal.suberror = suberror.map(str::to_owned);
            refusal.claims = claims.map(str::to_owned);
            refusal.to_reply(request).into()
        }
        TokenFailure::Status(status, retry_after) => {
            let reply = Reply::of_html(status, "<h1>Service unavailable</h1>");
            match retry_after {
                Some(seconds) => reply.with("Retry-After", &seconds.to_string()).into(),
                None => reply.into(),
            }
        }
        TokenFailure::Garbage => Reply::new(200, "application/json", "<html>no JSON").into(),
        TokenFailure::CloseWithoutAnswer | TokenFailure::LoseAnswer => Answer::Close,
        TokenFailure::Hang(gate) => Answer::script(move |_| {
            gate.pass();
            Ok(())
        }),
        TokenFailure::Raw(bytes) => Answer::raw(bytes),
        TokenFailure::Huge(bytes) => Answer::script(move |stream| {
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
            )?;
            write!(stream, "Content-Length: {bytes}\r\n\r\n")?;
            stream.write_all(&vec![b' '; bytes])
        }),
    }
}

impl State {
    /// What holds for every form that a client posts.
    pub(super) fn check_form_request(
        &mut self,
        tenant: &str,
        request: &Request,
        params: &Pairs,
    ) -> Checked {
        let has = |name: &str| value_of(params, name).is_some();
        let method = &request.method;
        let message = format!("The endpoint only accepts POST requests. Received {method}.");
        self.must(method == "POST", INVALID, 900_561, message)?;
        let media_type = request.header("Content-Type").unwrap_or_default();
        let is_form = media_type.split(';').next() == Some("application/x-www-form-urlencoded");
        let message = format!("The Content-Type '{media_type}' is not a form's.");
        self.must(is_form, INVALID, 900_144, message)?;
        let message = "Parameters belong in the body, and cookies nowhere.";
        let is_bare = request.query.is_empty() && request.header("Cookie").is_none();
        self.must(is_bare, INVALID, 9_002_313, message)?;
        let message = "Cross-origin token redemption is permitted only for the 'Single-Page \
                       Application' client-type.";
        let no_origin = request.header("Origin").is_none();
        self.must(no_origin, INVALID, 9_002_326, message)?;
        let message = "Client is public so neither 'client_assertion' nor 'client_secret' should \
                       be presented.";
        let secret = has("client_secret") || has("client_assertion");
        let is_public = !secret && request.header("Authorization").is_none();
        self.must(is_public, "invalid_client", 700_025, message)?;
        self.check_params(params)?;
        self.check_tenant(tenant)?;
        self.check_client(params)
    }

    /// The platform decides for every grant that began with a redirect URI.
    fn check_token_request(&mut self, tenant: &str, request: &Request, params: &Pairs) -> Checked {
        self.check_form_request(tenant, request, params)?;
        if value_of(params, "grant_type") == Some(device::GRANT_TYPE) {
            return Ok(());
        }
        let platform = self.settings.platform;
        let message = "The request body must contain the following parameter: 'client_assertion' \
                       or 'client_secret'.";
        Refusal::unless(
            platform != Platform::Web,
            "invalid_client",
            7_000_218,
            message,
        )?;
        let message = "Tokens issued for the 'Single-Page Application' client-type may only be \
                       redeemed via cross-origin requests.";
        Refusal::unless(platform != Platform::Spa, INVALID, 9_002_327, message)
    }

    fn grant(&mut self, tenant: &str, request: &Request, params: &Pairs) -> Result<Value, Refusal> {
        let grant_type = value_of(params, "grant_type").unwrap_or_default();
        let grant = match grant_type {
            "authorization_code" => self.redeem(tenant, params)?,
            "refresh_token" => self.refresh(params)?,
            device::GRANT_TYPE => self.redeem_device(tenant, params)?,
            _ => {
                let message = format!("The grant type '{grant_type}' is unknown.");
                self.must(false, "unsupported_grant_type", 70003, message)?;
                unreachable!("refused")
            }
        };
        let mut body = self.issue_tokens(&grant, &request.origin);
        let fields = body.as_object_mut().unwrap();
        if grant_type == "refresh_token" && self.settings.omit_refresh_token_on_refresh {
            fields.remove("refresh_token");
        }
        if value_of(params, "client_info") == Some("1") {
            fields.insert("client_info".to_owned(), json!(client_info(&grant.user)));
        }
        Ok(body)
    }

    fn redeem(&mut self, tenant: &str, params: &Pairs) -> Result<Grant, Refusal> {
        let value = |name| value_of(params, name).unwrap_or_default();
        let Some(code) = self.codes.get(value("code")).cloned() else {
            let message = "The authorization code is malformed or unknown.";
            return Err(Refusal::new(INVALID_GRANT, 9_002_313, message));
        };
        let asked = |name| value_of(&code.params, name).unwrap_or_default();
        let message = "OAuth2 Authorization code was already redeemed, please retry with a new \
                       valid code.";
        self.must(!code.redeemed, INVALID_GRANT, 54005, message)?;
        let message = "The code was issued for another tenant segment than it is redeemed at.";
        self.must(code.tenant == tenant, INVALID_GRANT, 700_005, message)?;
        let same_uri = asked("redirect_uri") == value("redirect_uri");
        let message = "The reply address does not match the one provided when requesting the code.";
        self.must(same_uri, INVALID_GRANT, 500_112, message)?;
        let verifier = value("code_verifier");
        let proves = is_verifier(verifier) && s256(verifier) == asked("code_challenge");
        let message = "The Code_Verifier does not match the code_challenge of the authorization.";
        self.must(proves, INVALID_GRANT, 501_481, message)?;
        let message = "The provided authorization code has expired.";
        let fresh = self.now() - code.issued <= CODE_LIFETIME;
        Refusal::unless(fresh, INVALID_GRANT, 70008, message)?;
        // `scope` is Microsoft's extension here, so no duty.
        let scope = scope_set(value_of(params, "scope").unwrap_or(asked("scope")));
        let message = "The scope asks for more than the authorization did.";
        let within = scope.is_subset(&scope_set(asked("scope")));
        self.must(within, INVALID_GRANT, 65001, message)?;
        self.check_one_resource(&scope)?;
        let claims = claims_of(params);
        let message = "The claims are not those of the authorization.";
        self.must(
            claims == claims_of(&code.params),
            INVALID,
            9_002_313,
            message,
        )?;
        let spent = self.codes.get_mut(value("code"));
        spent.unwrap().redeemed = true;
        self.redemptions += 1;
        Ok(Grant {
            nonce: Some(asked("nonce").to_owned()),
            user: code.user,
            scope,
            claims,
        })
    }

    fn refresh(&mut self, params: &Pairs) -> Result<Grant, Refusal> {
        let value = |name| value_of(params, name).unwrap_or_default();
        let Some(token) = self.refresh_tokens.get_mut(value("refresh_token")) else {
            let message = "The refresh token is malformed or unknown.";
            return Err(Refusal::new(INVALID_GRANT, 9_002_313, message));
        };
        let message = "The provided grant has expired due to it being revoked, a fresh auth token \
                       is needed.";
        Refusal::unless(!token.revoked, INVALID_GRANT, 50173, message)?;
        let reused = token.rotated;
        let (user, requested) = (token.user.clone(), token.scope.clone());
        self.reused_refresh_tokens += usize::from(reused);
        if reused && self.settings.reject_reused_refresh_tokens {
            return Err(
                Refusal::new(INVALID_GRANT, 70000, "The grant was used before.")
                    .with_suberror("bad_token"),
            );
        }
        let scope = scope_set(value("scope"));
        self.check_one_resource(&scope)?;
        if !scope.iter().all(|scope| self.settings.has_consent(scope)) {
            let message = "The user or administrator has not consented to use the application.";
            return Err(
                Refusal::new(INVALID_GRANT, 65001, message).with_suberror("consent_required")
            );
        }
        let known = self.may_refresh(&user, &requested, &scope);
        let message = format!("Refreshed with scope {scope:?}, but requested was {requested:?}.");
        self.must(known, INVALID_GRANT, 70011, message)?;
        let claims = claims_of(params);
        if self.settings.interaction_for_claims && go_beyond_capabilities(&claims) {
            let message = "You must use multi-factor authentication to access the resource.";
            let mut refusal =
                Refusal::new(INVALID_GRANT, 50076, message).with_suberror("basic_action");
            refusal.claims = Some(value("claims").to_owned());
            return Err(refusal);
        }
        if let Some(spent) = self.refresh_tokens.get_mut(value("refresh_token")) {
            spent.rotated = true;
        }
        self.refreshes += 1;
        Ok(Grant {
            user,
            scope,
            nonce: None,
            claims,
        })
    }

    /// A refresh repeats what was requested, or adds to it what the person was asked for in
    /// another sign-in or what the test has consented to by name.
    fn may_refresh(
        &self,
        user: &User,
        requested: &BTreeSet<String>,
        scope: &BTreeSet<String>,
    ) -> bool {
        let asked = self.asked_scopes.get(&user.oid);
        let was_asked = asked.is_some_and(|asked| scope.is_subset(asked));
        let adds = scope.is_superset(requested) && (was_asked || self.settings.consented.is_some());
        scope == requested || adds || self.settings.accept_other_scope_on_refresh
    }

    pub(super) fn check_one_resource(&mut self, scopes: &BTreeSet<String>) -> Checked {
        self.keep_violation(check_scopes(scopes))?;
        let resources: BTreeSet<_> = scopes.iter().filter_map(|s| resource_of(s)).collect();
        let message = format!("The scope contains more than one resource: {resources:?}.");
        self.must(resources.len() <= 1, "invalid_scope", 28000, message)
    }

    /// The successful answer; remembers what it issues.
    fn issue_tokens(&mut self, grant: &Grant, authority: &str) -> Value {
        let access_token = format!("{ACCESS_TOKEN_MARK}{}-{}", self.serial(), random_token());
        let expires_in = self.settings.expires_in;
        let mut body = json!({
            "token_type": "Bearer",
            "scope": echoed_scope(&grant.scope),
            "expires_in": self.number(expires_in),
            "ext_expires_in": self.number(expires_in),
            "access_token": access_token,
        });
        if let Some(seconds) = self.settings.refresh_in {
            body["refresh_in"] = self.number(seconds);
        }
        if grant.scope.contains("openid") {
            body["id_token"] = json!(self.id_token(grant, authority));
        }
        let granted = Granted {
            user: grant.user.clone(),
            scope: grant.scope.clone(),
            claims: grant.claims.clone(),
        };
        let access = AccessToken {
            granted,
            expires: self.now() + expires_in,
        };
        self.access_tokens.insert(access_token, access);
        if grant.scope.contains("offline_access") {
            let token = format!("{REFRESH_TOKEN_MARK}{}-{}", self.serial(), random_token());
            body["refresh_token"] = json!(token);
            let refresh = RefreshToken {
                user: grant.user.clone(),
                scope: grant.scope.clone(),
                rotated: false,
                revoked: false,
            };
            self.refresh_tokens.insert(token, refresh);
        }
        body
    }

    pub(super) fn number(&self, number: i64) -> Value {
        if self.settings.numbers_as_strings {
            json!(number.to_string())
        } else {
            json!(number)
        }
    }

    /// Three parts, the last of them garbage: public clients gain nothing from the signature.
    fn id_token(&self, grant: &Grant, authority: &str) -> String {
        let (now, user) = (self.now(), &grant.user);
        let client_id = &self.settings.client_id;
        let mut claims = json!({
            "aud": client_id,
            "iss": format!("{authority}/{}/v2.0", user.tid),
            "iat": now,
            "nbf": now,
            "exp": now + 3600,
            "sub": s256(&format!("{client_id} {}", user.oid)), // pairwise
            "tid": user.tid,
            "uti": random_token(),
            "ver": "2.0",
        });
        if let Some(nonce) = &grant.nonce {
            claims["nonce"] = json!(nonce);
        }
        if grant.scope.contains("profile") {
            claims["oid"] = json!(user.oid);
            claims["name"] = json!(user.name);
            claims["preferred_username"] = json!(user.username);
        }
        if grant.scope.contains("email") {
            claims["email"] = json!(user.email);
        }
        if let Some(tamper) = &self.tamper {
            tamper(&mut claims);
        }
        let header = json!({ "typ": "JWT", "alg": "RS256", "kid": "stand-in" });
        let [header, claims] = [header, claims].map(|part| base64url(part.to_string().as_bytes()));
        format!("{header}.{claims}.{}", base64url(&[0x5a; 256]))
    }
}

/// What tokens are issued for.
pub(super) struct Grant {
    pub user: User,
    pub scope: BTreeSet<String>,
    /// Of the authorization; no other grant has one.
    pub nonce: Option<String>,
    pub claims: Value,
}

/// What was granted, as Entra reports it: fully qualified, reordered, with `.default` beside the
/// scopes it stands for and without `offline_access`. A client that sends this back breaks.
fn echoed_scope(scopes: &BTreeSet<String>) -> String {
    let mut echoed = Vec::new();
    for scope in scopes.iter().rev().filter(|s| *s != "offline_access") {
        let Some(resource) = resource_of(scope) else {
            echoed.push(scope.clone());
            continue;
        };
        let name = match scope.rsplit('/').next() {
            Some(".default") | None => "user_impersonation",
            Some(name) => name,
        };
        echoed.push(format!("{resource}/{name}"));
        echoed.push(format!("{resource}/.default"));
    }
    echoed.join(" ")
}

/// RFC 7636 §4.1: 43 to 128 unreserved characters.
fn is_verifier(verifier: &str) -> bool {
    let unreserved = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    (43..=128).contains(&verifier.len()) && verifier.bytes().all(unreserved)
}
