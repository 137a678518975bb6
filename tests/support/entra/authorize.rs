//! The endpoints that a browser sees: authorize, sign-in, logout; and discovery.

use super::settings::Audience;
use super::{
    CODE_MARK, Checked, Code, DECLINED, INVALID, OIDC_SCOPES, Refusal, State, Transaction, User,
    check_scopes, client_info, guid, is_base64url, pages, scope_set,
};
use crate::support::http::{Reply, Request};
use crate::support::{Pairs, encode_pairs, random_token, value_of};
use serde_json::json;

impl State {
    pub(super) fn authorize(&mut self, tenant: &str, request: &Request) -> Reply {
        let params = request.query.clone();
        self.authorize_requests.push(params.clone());
        if let Err(refusal) = self.check_before_redirect(tenant, &params) {
            return refusal.to_page(request);
        }
        if let Err(refusal) = self.check_authorize(&params) {
            return self.answer_app(&params, refusal.to_fields(request));
        }
        let id = random_token();
        let page = pages::sign_in(&self.settings, tenant, &params, &id);
        let tenant = tenant.to_owned();
        self.transactions.insert(id, Transaction { tenant, params });
        Reply::of_html(200, page)
    }

    /// What must hold before anything is sent to the redirect URI (RFC 6749 §4.1.2.1).
    fn check_before_redirect(&mut self, tenant: &str, params: &Pairs) -> Checked {
        self.check_tenant(tenant)?;
        self.check_params(params)?;
        self.check_client(params)?;
        let redirect_uri = value_of(params, "redirect_uri").unwrap_or_default();
        let message = format!(
            "The redirect URI '{redirect_uri}' specified in the request does not match the \
             redirect URIs configured for the application '{}'.",
            self.settings.client_id
        );
        Refusal::unless(self.is_registered(redirect_uri), INVALID, 50011, message)?;
        let mode = value_of(params, "response_mode").unwrap_or("query");
        let known = ["query", "form_post", "fragment"].contains(&mode);
        let message = format!("The response_mode '{mode}' is not supported.");
        self.must(known, INVALID, 70007, message)
    }

    fn check_authorize(&mut self, params: &Pairs) -> Checked {
        let value = |name| value_of(params, name).unwrap_or_default();
        let message = "The response_type must be 'code'.";
        let is_code = value("response_type") == "code";
        self.must(is_code, "unsupported_response_type", 700_054, message)?;
        // Entra echoes the state after stripping HTML from it.
        for name in ["state", "nonce"] {
            let message = format!("'{name}' must be there and be base64url.");
            self.must(is_base64url(value(name)), INVALID, 900_144, message)?;
        }
        // RFC 7636 §4.2. Entra reads an absent method as `plain`, and accepts that.
        let challenge = value("code_challenge");
        let is_s256 = value("code_challenge_method") == "S256";
        let is_digest = challenge.len() == 43 && is_base64url(challenge);
        let message = "A code_challenge of 43 base64url characters with method S256 is due.";
        self.must(is_s256 && is_digest, INVALID, 501_481, message)?;
        let scopes = scope_set(value("scope"));
        let message = "The scope 'openid' must be requested to sign a user in.";
        self.must(scopes.contains("openid"), INVALID, 900_144, message)?;
        check_scopes(&scopes)?;
        let prompt = value("prompt");
        let known = ["", "none", "login", "consent", "select_account", "create"];
        let message = format!("Unsupported 'prompt' value '{prompt}'.");
        self.must(known.contains(&prompt), INVALID, 90023, message)?;
        let message = "A silent sign-in request was sent but no user is signed in.";
        Refusal::unless(prompt != "none", "login_required", 50058, message)
    }

    /// Ports are ignored for loopback names, everything else counts, case of the path included.
    fn is_registered(&self, redirect_uri: &str) -> bool {
        let without_port = |uri: &str| {
            let mut url = url::Url::parse(uri).ok()?;
            if matches!(url.host_str(), Some("localhost" | "127.0.0.1")) {
                url.set_port(None).ok()?;
            }
            Some(url)
        };
        let asked = without_port(redirect_uri);
        let mut registered = self.settings.redirect_uris.iter();
        asked.is_some() && registered.any(|uri| without_port(uri) == asked)
    }

    /// The button that the person pressed. Answers again when pressed again, with another code.
    pub(super) fn login(&mut self, tenant: &str, request: &Request) -> Reply {
        let form = request.form();
        let id = value_of(&form, "transaction").unwrap_or_default();
        let Some(transaction) = self.transactions.get(id).filter(|t| t.tenant == tenant) else {
            let message = "This sign-in request is unknown.";
            return Refusal::new(INVALID, 9_002_313, message).to_page(request);
        };
        let params = transaction.params.clone();
        if value_of(&form, "deny").is_some() {
            let message = "User declined to consent to access the app.";
            let refusal = Refusal::new("access_denied", DECLINED, message);
            return self.answer_app(&params, refusal.to_fields(request));
        }
        let account = value_of(&form, "account").unwrap_or_default();
        let picked = self
            .page_error()
            .and_then(|()| self.settings.pick_user(tenant, account));
        match (picked, self.settings.fail_authorize) {
            (Err(refusal), _) => refusal.to_page(request),
            (Ok(user), Some((error, aadsts, message)))
                if self.settings.fail_only.is_none_or(|oid| oid == user.oid) =>
            {
                self.answer_app(
                    &params,
                    Refusal::new(error, aadsts, message).to_fields(request),
                )
            }
            (Ok(user), _) => self.issue_code(user, tenant, params),
        }
    }

    fn issue_code(&mut self, user: User, tenant: &str, params: Pairs) -> Reply {
        let code = format!("{CODE_MARK}{}-{}", self.serial(), random_token());
        let mut fields = vec![("code".to_owned(), code.clone())];
        if value_of(&params, "client_info") == Some("1") {
            fields.push(("client_info".to_owned(), client_info(&user)));
        }
        let reply = self.answer_app(&params, fields);
        self.accept(
            &user,
            &scope_set(value_of(&params, "scope").unwrap_or_default()),
        );
        let code_for = Code {
            user,
            tenant: tenant.to_owned(),
            params,
            issued: self.now(),
            redeemed: false,
        };
        self.codes.insert(code, code_for);
        reply
    }

    /// Sends `fields` to the redirect URI, in the response mode that was asked for.
    fn answer_app(&self, params: &Pairs, mut fields: Pairs) -> Reply {
        let value = |name| value_of(params, name).unwrap_or_default();
        for (name, value) in [
            ("state", value("state")),
            ("session_state", &guid()),
            ("unknown_to_all", "clients ignore what they do not know"),
        ] {
            fields.push((name.to_owned(), value.to_owned()));
        }
        let mut url = url::Url::parse(value("redirect_uri")).unwrap();
        match value("response_mode") {
            "form_post" => {
                let policy = if self.settings.opaque_origin {
                    "no-referrer"
                } else {
                    "strict-origin-when-cross-origin"
                };
                return Reply::of_html(200, pages::form_post(value("redirect_uri"), &fields))
                    .with("Referrer-Policy", policy);
            }
            "fragment" => url.set_fragment(Some(&encode_pairs(&fields))),
            _ => drop(url.query_pairs_mut().extend_pairs(fields)),
        }
        Reply::empty(302).with("Location", url.as_str())
    }

    pub(super) fn logout(&mut self, request: &Request) -> Reply {
        self.logouts.push(request.query.clone());
        match value_of(&request.query, "post_logout_redirect_uri") {
            Some(uri) if self.is_registered(uri) => Reply::empty(302).with("Location", uri),
            _ => Reply::of_html(200, pages::signed_out()),
        }
    }

    pub(super) fn discovery(&self, tenant: &str, request: &Request) -> Reply {
        let issuer = match self.settings.audience(tenant) {
            Ok(Audience::Tenant(guid)) => guid,
            Ok(Audience::Everybody | Audience::WorkAccounts) => "{tenantid}".to_owned(),
            Err(refusal) => {
                let error = "invalid_tenant".to_owned();
                return Refusal { error, ..refusal }.to_reply(request);
            }
        };
        let host = &request.origin;
        let oauth = format!("{host}/{tenant}/oauth2/v2.0");
        let body = json!({
            "issuer": format!("{host}/{issuer}/v2.0"),
            "authorization_endpoint": format!("{oauth}/authorize"),
            "token_endpoint": format!("{oauth}/token"),
            "device_authorization_endpoint": format!("{oauth}/devicecode"),
            "end_session_endpoint": format!("{oauth}/logout"),
            "jwks_uri": format!("{host}/{tenant}/discovery/v2.0/keys"),
            "response_modes_supported": ["query", "fragment", "form_post"],
            "response_types_supported": ["code", "id_token", "code id_token"],
            "scopes_supported": OIDC_SCOPES,
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
        });
        Reply::of_json(200, &body)
    }
}
