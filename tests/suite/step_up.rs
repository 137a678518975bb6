//! An API that wants more than the token it was sent: claims challenges, plain refusals and missing
//! scopes, by the silent way where there is one, and by way of the person where there is none.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::backend::{WRITE_SCOPE, cae_claims, claims_challenge, claims_header};
use crate::support::browser::{Browser, Page};
use crate::support::entra::{ADA, GRACE, TokenFailure};
use crate::support::http::{Answer, Reply, Request, StandIn};
use crate::support::server::{
    Answered, Mcp, Process, Running, Setup, World, elicitation_error, input_required,
};
use crate::support::{Gate, Pairs, decode_pairs, encode_pairs, value_of};
use base64::Engine as _;
use base64::prelude::{
    BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD,
};
use serde_json::{Value, json};

/// What is declared wherever nothing more is asked for.
const CP1: &str = r#"{"access_token":{"xms_cc":{"values":["cp1"]}}}"#;
/// What the stand-in backend's `/cae` wants, as it must reach Entra.
const WANTED: &str =
    r#"{"access_token":{"acrs":{"essential":true,"value":"c1"},"xms_cc":{"values":["cp1"]}}}"#;
/// Other claims, as Entra may want them instead, and how they must come back to it.
const ENTRAS: &str = r#"{"access_token":{"capolids":{"essential":true,"values":["p1"]}}}"#;
const ENTRAS_SENT: &str = r#"{"access_token":{"capolids":{"essential":true,"values":["p1"]},"xms_cc":{"values":["cp1"]}}}"#;
const SCOPE: &str = "openid profile offline_access api://backend/access";
/// The name of Ada's account here; her address then comes from what is known of her.
const LABEL: &str = "work";
/// As long as what Entra has refused is not asked for again.
const PAUSE: u64 = 61;
/// As long as a sign-in may take.
const SIGN_IN: u64 = 600;
/// A token is due for a refresh, and has expired.
const EXPIRED: u64 = 3950;
const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

impl World {
    /// Ada is signed in under a name that is not her address.
    fn labelled() -> Self {
        Self::labelled_with(|setup| setup)
    }

    fn labelled_with(change: impl FnOnce(Setup) -> Setup) -> Self {
        let world = Self::new().with(change);
        sign_in(&world.server.url());
        world
    }

    /// Backend requests and completed refreshes that `act` led to, and what it gave.
    fn during<T>(&self, act: impl FnOnce() -> T) -> (T, usize, usize) {
        let (requests, refreshes) = (self.backend.requests().len(), self.entra.refreshes());
        let given = act();
        (
            given,
            self.backend.requests().len() - requests,
            self.entra.refreshes() - refreshes,
        )
    }

    /// From now on the API answers so, but for the calls of `/me`.
    fn answer(&self, reply: Reply) {
        self.backend
            .on(move |request| (!request.path.ends_with("/me")).then(|| reply.clone().into()));
    }

    /// How often Entra was asked to refresh with `claims`.
    fn refreshes_with(&self, claims: &str) -> usize {
        let requests = self.entra.token_requests();
        let is_it = |form: &&Pairs| {
            value_of(form, "grant_type") == Some("refresh_token")
                && value_of(form, "claims") == Some(claims)
        };
        requests.iter().filter(is_it).count()
    }

    fn last_claims(&self) -> String {
        value_of(&self.entra.last_token_request(), "claims")
            .unwrap()
            .to_owned()
    }

    fn only_account(&self) -> Value {
        self.setup.stored_account(LABEL)
    }

    /// Entra refuses the next token request with this.
    fn fail_next(
        &self,
        error: &'static str,
        suberror: Option<&'static str>,
        claims: Option<&'static str>,
    ) {
        self.entra.fail_next_token(TokenFailure::Oauth {
            error,
            aadsts: 50076,
            suberror,
            claims,
        });
    }
}

/// A client that opens URLs of either era, and one that does not.
fn clients(server: &Running) -> [Mcp; 3] {
    [
        server.modern_url(),
        server.legacy_url("2025-11-25"),
        server.modern(),
    ]
}

const CLIENTS: usize = 3;

/// Where a person is asked to sign in, why, and what the client then repeats its call with.
struct Asked {
    url: String,
    message: String,
    extra: Value,
}

/// What a call came to.
enum Outcome {
    Asked(Asked),
    /// Its structured content.
    Done(Value),
}

impl Outcome {
    fn of(response: &Value) -> Self {
        if response.get("error").is_some() {
            let (url, message, _) = elicitation_error(response);
            return Self::Asked(Asked {
                url,
                message,
                extra: json!({}),
            });
        }
        let result = &response["result"];
        if result["resultType"] == "input_required" {
            let asked = input_required(response);
            let extra = asked.answered_with("accept");
            return Self::Asked(Asked {
                url: asked.url,
                message: asked.message,
                extra,
            });
        }
        let content = &result["structuredContent"];
        match content["sign_in_url"].as_str() {
            Some(url) => {
                let message = format!("{} {}", content["message"], content["hint"]);
                Self::Asked(Asked {
                    url: url.to_owned(),
                    message,
                    extra: json!({}),
                })
            }
            None => Self::Done(content.clone()),
        }
    }
}

fn make(mcp: &mut Mcp, method: &str, arguments: &Value, extra: &Value) -> Outcome {
    let tool = format!("api_{method}_request");
    Outcome::of(
        &mcp.call_with(&tool, arguments.clone(), extra.clone())
            .response,
    )
}

fn get(mcp: &mut Mcp, endpoint: &str) -> Outcome {
    make(
        mcp,
        "get",
        &json!({"endpoint": endpoint, "user_id": LABEL}),
        &json!({}),
    )
}

/// A call that asks for a sign-in.
fn asks(mcp: &mut Mcp, endpoint: &str) -> Asked {
    match get(mcp, endpoint) {
        Outcome::Asked(asked) => asked,
        Outcome::Done(content) => panic!("a sign-in is due, not {content}"),
    }
}

/// A call that asks for nothing.
fn done(mcp: &mut Mcp, endpoint: &str) -> Value {
    is_done(get(mcp, endpoint))
}

fn is_done(outcome: Outcome) -> Value {
    match outcome {
        Outcome::Done(content) => content,
        Outcome::Asked(asked) => panic!("a sign-in is asked for: {}", asked.message),
    }
}

/// A call that goes through.
fn ok(mcp: &mut Mcp, endpoint: &str) -> Value {
    let content = done(mcp, endpoint);
    assert_eq!(content["success"], true, "{content}");
    content
}

/// A call that gets the API's own refusal.
fn handed_on(mcp: &mut Mcp, endpoint: &str, status: u16) {
    is_handed_on(get(mcp, endpoint), status);
}

fn is_handed_on(outcome: Outcome, status: u16) {
    let content = is_done(outcome);
    assert_eq!(
        (&content["error"], &content["status"]),
        (&json!("http_error"), &json!(status)),
        "{content}"
    );
    assert!(
        content["hint"]
            .as_str()
            .is_some_and(|hint| !hint.is_empty()),
        "{content}"
    );
}

/// Ada signs in at the page that was asked for, and the client repeats its call.
fn comes_back(mcp: &mut Mcp, endpoint: &str, asked: &Asked) -> Outcome {
    signs_in(asked);
    repeats(mcp, endpoint, asked)
}

fn signs_in(asked: &Asked) -> Page {
    let page = Browser::new().sign_in(&asked.url, ADA);
    assert_eq!(page.status, 200, "{}", page.text());
    page
}

fn repeats(mcp: &mut Mcp, endpoint: &str, asked: &Asked) -> Outcome {
    make(
        mcp,
        "get",
        &json!({"endpoint": endpoint, "user_id": LABEL}),
        &asked.extra,
    )
}

/// What the client repeats its call with when the person does not want to.
fn declined(asked: &Asked) -> Value {
    let mut extra = asked.extra.clone();
    for response in extra["inputResponses"]
        .as_object_mut()
        .unwrap()
        .values_mut()
    {
        response["action"] = json!("decline");
    }
    extra
}

/// A call that goes through once Ada has signed in for it; gives the parameters of the authorization request.
fn steps_up(world: &World, mcp: &mut Mcp, endpoint: &str) -> Pairs {
    let asked = asks(mcp, endpoint);
    let content = is_done(comes_back(mcp, endpoint, &asked));
    assert_eq!(content["success"], true, "{content}");
    world.entra.last_authorize()
}

/// As a person does who starts in the browser.
fn sign_in(server: &str) {
    let page = Browser::new().sign_in(&login_url(server), ADA);
    assert_eq!(page.status, 200, "{}", page.text());
}

fn login_url(server: &str) -> String {
    format!(
        "{server}/auth/login?{}",
        encode_pairs(&[("user_id", LABEL)])
    )
}

/// The parameters of the authorization request that a person who starts in the browser is sent on with.
fn login_leads_to(server: &Running) -> Pairs {
    let reply = server.navigate(&format!(
        "/auth/login?{}",
        encode_pairs(&[("user_id", LABEL)])
    ));
    let location = reply.header("Location").unwrap_or_default().to_owned();
    decode_pairs(location.split_once('?').expect("a query").1.as_bytes())
}

fn status(server: &Running) -> Value {
    server
        .modern()
        .ok("check_auth_status", json!({"user_id": LABEL}))
}

/// Whether `authenticate_user` says that nothing is to be done.
fn says_signed_in(server: &Running) -> bool {
    server
        .modern()
        .ok("authenticate_user", json!({"user_id": LABEL}))["already_signed_in"]
        == true
}

fn refused(status: u16, lines: &[&str]) -> Reply {
    let reply = Reply::of_json(status, &json!({"error": "refused"}));
    lines
        .iter()
        .fold(reply, |reply, line| reply.with("WWW-Authenticate", line))
}

// ---- The capability ----

fn without_scope(scope: &str) -> Reply {
    refused(
        403,
        &[&format!(
            "Bearer error=\"insufficient_scope\", scope=\"{scope}\""
        )],
    )
}

#[test]
fn every_request_to_entra_declares_that_claims_challenges_are_handled() {
    let world = World::labelled_with(|setup| setup.with("ALLOW_DEVICE_CODE", "true"));
    let mut mcp = world.server.modern();
    world.advance(EXPIRED);
    ok(&mut mcp, "/me");
    mcp.ok(
        "authenticate_user",
        json!({"user_id": "other", "method": "device_code"}),
    );
    assert_eq!(value_of(&world.entra.last_authorize(), "claims"), Some(CP1));
    assert_eq!(
        value_of(&world.entra.device_requests()[0], "claims"),
        Some(CP1)
    );
    let grants: Vec<_> = world.entra.token_requests();
    for (form, grant) in grants.iter().zip(["authorization_code", "refresh_token"]) {
        assert_eq!(
            (value_of(form, "grant_type"), value_of(form, "claims")),
            (Some(grant), Some(CP1))
        );
    }
}

// ---- The silent way ----

#[test]
fn a_claims_challenge_leads_to_one_refresh_and_one_retry_however_it_is_written() {
    let claims = cae_claims().to_string();
    let [standard, bare, url_safe, bare_url_safe] = [
        BASE64_STANDARD.encode(&claims),
        BASE64_STANDARD_NO_PAD.encode(&claims),
        BASE64_URL_SAFE.encode(&claims),
        BASE64_URL_SAFE_NO_PAD.encode(&claims),
    ];
    let elsewhere = StandIn::serve(|_: &Request| -> Answer { panic!("nobody is to come here") });
    let uri = elsewhere.url();
    for lines in [
        vec![format!(
            "Bearer realm=\"\", authorization_uri=\"{uri}\", error=\"insufficient_claims\", claims=\"{standard}\""
        )],
        vec![format!(
            "Bearer claims=\"{bare}\", error=\"insufficient_claims\", authorization_uri=\"{uri}\""
        )],
        vec![format!(
            "Bearer error=\"invalid_token\", authorization_uri=\"{uri}\", claims=\"{url_safe}\""
        )],
        vec![format!(
            "Negotiate, Basic realm=\"a, b\", bearer error=insufficient_claims, claims={bare_url_safe}"
        )],
        vec![
            "Negotiate".to_owned(),
            format!("PoP error=\"insufficient_claims\", claims=\"{standard}\""),
            format!("Bearer error=\"insufficient_claims\", claims=\"{standard}\""),
        ],
    ] {
        let world = World::labelled();
        world.backend.challenge_with(lines.clone());
        let (content, requests, refreshes) =
            world.during(|| ok(&mut world.server.modern(), "/cae"));
        assert_eq!(content["data"], json!({"cae": true}));
        assert_eq!(
            (requests, refreshes, world.entra.token_requests().len()),
            (2, 1, 2),
            "{lines:?}"
        );
        assert_eq!(world.last_claims(), WANTED);
    }
}

#[test]
fn every_method_is_repeated_as_it_was() {
    for method in METHODS {
        let world = World::labelled();
        let mut arguments =
            json!({"endpoint": "/cae?a=%20b", "user_id": LABEL, "headers": {"X-Request-Id": "1"}});
        if !matches!(method, "get" | "delete") {
            arguments["data"] = json!({"z": 1, "a": [1.5, "ü\u{0}"]});
        }
        let made = || {
            is_done(make(
                &mut world.server.modern(),
                method,
                &arguments,
                &json!({}),
            ))
        };
        let (content, requests, refreshes) = world.during(made);
        assert_eq!(
            (&content["data"], requests, refreshes),
            (&json!({"cae": true}), 2, 1),
            "{method}"
        );
        let sent = world.backend.requests();
        let without_token = |request: &Request| {
            let headers = request
                .headers
                .iter()
                .filter(|(name, _)| !name.eq_ignore_ascii_case("authorization"));
            (
                request.method.clone(),
                request.target.clone(),
                headers.cloned().collect::<Vec<_>>(),
                request.body.clone(),
            )
        };
        assert_eq!(without_token(&sent[0]), without_token(&sent[1]));
        assert_eq!(sent[0].body.is_empty(), arguments.get("data").is_none());
        assert_ne!(
            sent[0].header("authorization"),
            sent[1].header("authorization")
        );
    }
}

#[test]
fn claims_that_the_api_asks_for_in_second_place_are_fetched_without_the_person() {
    let world = World::labelled();
    world.entra.revoke_access_tokens();
    let (content, requests, refreshes) =
        world.during(|| ok(&mut world.server.modern_url(), "/cae"));
    assert_eq!(
        (&content["data"], requests, refreshes),
        (&json!({"cae": true}), 3, 2)
    );
}

#[test]
fn a_refusal_without_claims_leads_to_one_refresh_a_minute() {
    let world = World::labelled();
    let mut mcp = world.server.modern();
    world.entra.revoke_access_tokens();
    assert_eq!(world.during(|| drop(ok(&mut mcp, "/me"))), ((), 2, 1));

    world.advance(PAUSE);
    world.answer(refused(401, &["Bearer error=\"invalid_token\""]));
    for (requests, refreshes) in [(2, 1), (1, 0), (1, 0)] {
        assert_eq!(
            world.during(|| handed_on(&mut mcp, "/x", 401)),
            ((), requests, refreshes)
        );
    }
    world.advance(PAUSE);
    assert_eq!(world.during(|| handed_on(&mut mcp, "/x", 401)), ((), 2, 1));
    assert_eq!(world.refreshes_with(CP1), 3);
    assert!(says_signed_in(&world.server));
}

#[test]
fn the_minute_after_a_refresh_for_a_refusal_is_sixty_seconds() {
    let world = World::labelled_with(Setup::by_the_second);
    let mut mcp = world.server.modern();
    world.answer(refused(401, &["Bearer error=\"invalid_token\""]));
    for (seconds, requests, refreshes) in [(0, 2, 1), (59, 1, 0), (1, 2, 1)] {
        world.advance(seconds);
        assert_eq!(
            world.during(|| handed_on(&mut mcp, "/x", 401)),
            ((), requests, refreshes),
            "{seconds}"
        );
    }
}

#[test]
fn a_call_is_not_made_again_as_somebody_else_who_has_signed_in_meanwhile() {
    for challenge in [refused(401, &["Bearer"]), claims_challenge(&cae_claims())] {
        let world = World::labelled();
        let login = login_url(&world.server.url());
        world.backend.on(move |_| {
            assert_eq!(Browser::new().sign_in(&login, GRACE).status, 200);
            Some(challenge.clone().into())
        });
        let mut mcp = world.server.modern_url();
        assert_eq!(world.during(|| handed_on(&mut mcp, "/x", 401)), ((), 1, 0));
        assert_eq!(world.only_account()["username"], GRACE);
    }
}

#[test]
fn a_sign_in_while_a_refresh_for_a_challenge_fails_serves_the_call() {
    let world = World::labelled();
    let count = AtomicUsize::new(0);
    world.backend.on(move |_| {
        let is_first = count.fetch_add(1, Ordering::SeqCst) == 0;
        is_first.then(|| claims_challenge(&cae_claims()).into())
    });
    let held = world.entra.hold_tokens();
    thread::scope(|scope| {
        let call = scope.spawn(|| ok(&mut world.server.modern(), "/me"));
        held.wait_for_arrivals(1);
        drop(world.entra.hold_tokens()); // those that come now are not held
        sign_in(&world.server.url());
        world.entra.fail_next_token(TokenFailure::Status(503, None));
        drop(held);
        call.join().unwrap();
    });
}

#[test]
fn challenges_that_alternate_cost_a_refresh_each_in_a_minute_and_sixteen_in_all() {
    let world = World::labelled_with(Setup::by_the_second);
    let mut mcp = world.server.modern();
    let mut refreshes_for = |number: usize| {
        let claims =
            json!({"access_token": {"acrs": {"essential": true, "value": format!("c{number}")}}});
        world.answer(claims_challenge(&claims));
        world.during(|| get(&mut mcp, "/x")).2
    };
    assert_eq!([0, 1, 0, 1, 0].map(&mut refreshes_for), [1, 1, 0, 0, 0]);
    assert_eq!((2..20).map(&mut refreshes_for).sum::<usize>(), 14);
    world.advance(PAUSE);
    assert_eq!([0, 19].map(refreshes_for), [1, 1]);
}

#[test]
fn while_entra_cannot_be_had_it_is_asked_for_no_other_claims_either() {
    let world = World::labelled_with(Setup::by_the_second);
    world.entra.fail_tokens(TokenFailure::Status(503, Some(30)));
    let mut mcp = world.server.modern();
    let mut asked_for = |number: usize| {
        let claims = json!({"access_token": {"acrs": {"value": format!("c{number}")}}});
        world.answer(claims_challenge(&claims));
        let before = world.entra.token_requests().len();
        handed_on(&mut mcp, "/x", 401);
        world.entra.token_requests().len() - before
    };
    assert_eq!([1, 2, 1, 3].map(&mut asked_for), [1, 0, 0, 0]);
    world.advance(30);
    assert_eq!([2, 1].map(asked_for), [1, 0]);
}

#[test]
fn where_no_refresh_can_be_had_the_apis_own_refusal_is_handed_on() {
    let failures = [
        TokenFailure::Status(503, None),
        TokenFailure::CloseWithoutAnswer,
        TokenFailure::Garbage,
        TokenFailure::Oauth {
            error: "invalid_client",
            aadsts: 7_000_218,
            suberror: None,
            claims: None,
        },
        TokenFailure::Oauth {
            error: "invalid_scope",
            aadsts: 70011,
            suberror: None,
            claims: None,
        },
    ];
    for failure in failures {
        for challenge in [refused(401, &["Bearer"]), claims_challenge(&cae_claims())] {
            let world = World::labelled();
            world.answer(challenge);
            world.entra.fail_tokens(failure.clone());
            for mut mcp in clients(&world.server) {
                handed_on(&mut mcp, "/x", 401);
                ok(&mut mcp, "/me");
            }
            assert_eq!(world.entra.token_requests().len(), 2);
            assert!(says_signed_in(&world.server));
        }
    }
}

#[test]
fn without_a_refresh_token_a_refusal_is_handed_on_and_claims_are_asked_of_the_person() {
    let world = World::labelled().with_stored(LABEL, |account| {
        account["refresh_token"] = Value::Null;
    });
    let mut mcp = world.server.modern_url();
    world.answer(refused(401, &["Bearer error=\"invalid_token\""]));
    assert_eq!(world.during(|| handed_on(&mut mcp, "/x", 401)), ((), 1, 0));
    world.backend.on(|_| None);
    let authorized = steps_up(&world, &mut mcp, "/cae");
    assert_eq!(value_of(&authorized, "claims"), Some(WANTED));
    assert_eq!(world.entra.refreshes(), 0);
}

#[test]
fn a_sign_in_that_has_run_out_is_asked_of_the_same_person_by_name() {
    let world = World::labelled().with_stored(LABEL, |account| {
        account["refresh_token"] = Value::Null;
    });
    world.advance(EXPIRED);
    let asked = asks(&mut world.server.modern_url(), "/me");
    Browser::new().navigate(&asked.url);
    // Entra has wanted nothing here, nor has the API.
    assert_eq!(
        value_of(&world.entra.last_authorize(), "login_hint"),
        Some(ADA)
    );
}

#[test]
fn many_calls_with_one_refused_token_share_one_refresh() {
    for endpoint in ["/me", "/cae"] {
        let world = World::labelled();
        if endpoint == "/me" {
            world.entra.revoke_access_tokens();
        }
        let gate = Gate::default();
        let at_backend = gate.clone();
        world.backend.on(move |_| {
            at_backend.pass();
            None
        });
        let ((), requests, refreshes) = world.during(|| {
            thread::scope(|scope| {
                for _ in 0..6 {
                    scope.spawn(|| ok(&mut world.server.modern(), endpoint));
                }
                gate.wait_for_arrivals(6);
                gate.open();
            });
        });
        assert_eq!((requests, refreshes), (12, 1), "{endpoint}");
        assert_eq!(world.entra.token_requests().len(), 2);
    }
}

// ---- By way of the person ----

#[test]
fn where_entra_wants_the_person_the_sign_in_carries_the_claims_and_the_call_goes_through() {
    for number in 0..CLIENTS {
        for (of_entra, carried) in [(None, WANTED), (Some(ENTRAS), ENTRAS_SENT)] {
            let world = World::labelled();
            world.fail_next("invalid_grant", Some("basic_action"), of_entra);
            let mut mcp = clients(&world.server).into_iter().nth(number).unwrap();
            let (asked, requests, refreshes) = world.during(|| asks(&mut mcp, "/cae"));
            assert_eq!(
                (requests, refreshes, world.last_claims().as_str()),
                (1, 0, WANTED)
            );

            // The token is as good as it was, for calls that need no more.
            ok(&mut mcp, "/me");
            assert_eq!(status(&world.server)["authenticated"], true);
            assert!(!says_signed_in(&world.server));
            assert_eq!(
                value_of(&login_leads_to(&world.server), "claims"),
                Some(carried)
            );

            let outcome = comes_back(&mut mcp, "/cae", &asked);
            let authorized = world.entra.last_authorize();
            let of = |name| value_of(&authorized, name);
            assert_eq!(
                (of("claims"), of("login_hint"), of("prompt")),
                (Some(carried), Some(ADA), None)
            );
            assert_eq!(of("scope"), Some(SCOPE));
            let requests = world.entra.token_requests();
            let mut codes = requests
                .iter()
                .filter(|form| value_of(form, "grant_type") == Some("authorization_code"));
            assert_eq!(
                value_of(codes.next_back().unwrap(), "claims"),
                Some(carried)
            );
            assert_eq!(is_done(outcome)["success"], true);
            assert!(says_signed_in(&world.server));
            assert_eq!(status(&world.server)["authenticated"], true);
        }
    }
}

#[test]
fn a_challenge_that_is_repeated_for_ever_costs_one_refresh_and_one_sign_in() {
    for number in 0..CLIENTS {
        let world = World::labelled_with(Setup::by_the_second);
        let mut mcp = clients(&world.server).into_iter().nth(number).unwrap();
        world.answer(claims_challenge(&cae_claims()));
        let (asked, requests, refreshes) = world.during(|| asks(&mut mcp, "/x"));
        assert_eq!((requests, refreshes), (2, 1));
        let (again, requests, refreshes) = world.during(|| asks(&mut mcp, "/x"));
        assert_eq!((requests, refreshes, &again.url), (1, 0, &asked.url));
        assert!(!says_signed_in(&world.server));

        let (outcome, requests, refreshes) = world.during(|| comes_back(&mut mcp, "/x", &asked));
        is_handed_on(outcome, 401);
        assert!(
            requests <= 2 && refreshes <= 1,
            "{requests} requests, {refreshes} refreshes"
        );
        assert!(says_signed_in(&world.server));
        ok(&mut mcp, "/me");
        // Other calls that the person has signed in for are not asked for again at once.
        handed_on(&mut mcp, "/x", 401);
        world.advance(59);
        handed_on(&mut mcp, "/x", 401);
        world.advance(1);
        let ((), requests, refreshes) = world.during(|| drop(asks(&mut mcp, "/x")));
        assert_eq!((requests, refreshes), (2, 1));
    }
}

#[test]
fn a_challenge_that_differs_in_its_time_alone_costs_one_refresh_in_a_minute() {
    let world = World::labelled();
    let count = AtomicUsize::new(0);
    world.backend.on(move |_| {
        let value = count.fetch_add(1, Ordering::SeqCst).to_string();
        Some(
            claims_challenge(
                &json!({"access_token": {"nbf": {"essential": true, "value": value}}}),
            )
            .into(),
        )
    });
    let mut costs = [(2, 1), (1, 0), (1, 0)].into_iter();
    let mut links = BTreeSet::new();
    for mut mcp in clients(&world.server) {
        let (asked, requests, refreshes) = world.during(|| asks(&mut mcp, "/x"));
        assert_eq!(Some((requests, refreshes)), costs.next());
        links.insert(asked.url);
    }
    // They are shown one sign-in, and push out nobody else's.
    assert_eq!(links.len(), 1);
    // Whoever has signed in for one is not asked for the next at once.
    let mut mcp = world.server.modern_url();
    let asked = asks(&mut mcp, "/x");
    is_handed_on(comes_back(&mut mcp, "/x", &asked), 401);
    handed_on(&mut mcp, "/x", 401);
    world.advance(PAUSE);
    asks(&mut mcp, "/x");
}

#[test]
fn a_sign_in_that_has_not_satisfied_entra_is_not_followed_at_once_by_the_next() {
    for number in 0..CLIENTS {
        for of_entra in [None, Some(ENTRAS)] {
            let world = World::labelled();
            let mut mcp = clients(&world.server).into_iter().nth(number).unwrap();
            world.answer(claims_challenge(&cae_claims()));
            world.fail_next("invalid_grant", Some("basic_action"), of_entra);
            let asked = asks(&mut mcp, "/x");
            signs_in(&asked);
            world.fail_next("interaction_required", None, of_entra);
            is_handed_on(repeats(&mut mcp, "/x", &asked), 401);
            // The account goes on to work.
            ok(&mut mcp, "/me");
        }
    }
}

#[test]
fn a_refresh_that_is_refused_forgets_nothing_that_an_api_has_demanded() {
    let world = World::labelled();
    world.entra.require_interaction_for_claims(true);
    let mut mcp = world.server.modern();
    asks(&mut mcp, "/cae");
    assert_eq!(
        value_of(&login_leads_to(&world.server), "claims"),
        Some(WANTED)
    );
    world.fail_next("invalid_grant", Some("bad_token"), None);
    handed_on_or_asked(&mut mcp, "/status/401");
    assert_eq!(
        value_of(&login_leads_to(&world.server), "claims"),
        Some(WANTED)
    );
}

/// A call whose token the API refuses, while there is no other.
fn handed_on_or_asked(mcp: &mut Mcp, endpoint: &str) {
    match get(mcp, endpoint) {
        Outcome::Asked(_) => {}
        Outcome::Done(content) => assert_eq!(content["success"], false, "{content}"),
    }
}

#[test]
fn how_a_sign_in_ended_shows_for_ten_minutes_after_it_would_have_expired() {
    let world = World::labelled();
    let mut browser = Browser::new();
    let page = browser.sign_in(&login_url(&world.server.url()), ADA);
    world.advance(SIGN_IN + 1);
    assert_eq!(browser.navigate(page.url.as_str()).body, page.body);
    world.advance(SIGN_IN);
    assert_eq!(browser.navigate(page.url.as_str()).status, 400);
}

/// A client of 2025-11-25 repeats the call when the person has signed in.
#[test]
fn a_sign_in_that_a_prompt_has_asked_for_does_not_answer_the_same_call_much_later() {
    for (seconds, answers) in [(SIGN_IN - 1, true), (SIGN_IN, false)] {
        let world = World::labelled_with(Setup::by_the_second);
        let mut mcp = world.server.legacy_url("2025-11-25");
        let arguments = json!({"user_id": LABEL, "prompt": "login"});
        let call = |mcp: &mut Mcp| {
            mcp.call_with("authenticate_user", arguments.clone(), json!({}))
                .response
        };
        let begun = call(&mut mcp);
        let (url, _, _) = elicitation_error(&begun);
        assert_eq!(Browser::new().sign_in(&url, ADA).status, 200);
        world.advance(seconds);
        let later = call(&mut mcp);
        assert_eq!(later.get("error").is_none(), answers, "{later}");
    }
}

#[test]
fn what_a_refused_sign_in_was_for_binds_nobody_who_starts_in_the_browser() {
    let world = World::labelled();
    let mut mcp = world.server.modern_url();
    world.answer(claims_challenge(&cae_claims()));
    world.fail_next("invalid_grant", Some("basic_action"), Some(ENTRAS));
    let asked = asks(&mut mcp, "/x");
    world.fail_next("interaction_required", None, Some(ENTRAS));
    assert_ne!(Browser::new().sign_in(&asked.url, ADA).status, 200);
    let page = Browser::new().sign_in(&login_url(&world.server.url()), GRACE);
    assert_eq!(page.status, 200, "{}", page.text());
    assert_eq!(world.only_account()["username"], GRACE);
}

/// A page cannot begin a sign-in that is for a certain person.
#[test]
fn a_failed_sign_in_for_a_call_is_tried_again_by_the_call_alone() {
    let world = World::labelled();
    world.answer(claims_challenge(&cae_claims()));
    world.fail_next("invalid_grant", Some("basic_action"), None);
    let asked = asks(&mut world.server.modern_url(), "/x");
    world.entra.fail_next_token(TokenFailure::Status(503, None));
    let failed = Browser::new().sign_in(&asked.url, ADA);
    assert_eq!(failed.status, 400);
    let mut links = failed.links().into_iter();
    assert!(links.all(|(_, text)| text != "Try again"));
}

#[test]
fn the_prompt_of_a_sign_in_that_was_refused_is_not_that_of_the_next() {
    let world = World::labelled();
    let arguments = json!({"user_id": LABEL, "prompt": "consent"});
    let begun = world.server.modern().ok("authenticate_user", arguments);
    world.fail_next("interaction_required", None, Some(ENTRAS));
    let url = begun["sign_in_url"].as_str().unwrap();
    assert_ne!(Browser::new().sign_in(url, ADA).status, 200);
    let sent = login_leads_to(&world.server);
    assert_eq!(value_of(&sent, "claims"), Some(ENTRAS_SENT));
    assert_ne!(value_of(&sent, "prompt"), Some("consent"));
    world.advance(SIGN_IN);
    let sent = login_leads_to(&world.server);
    assert_eq!(value_of(&sent, "claims"), Some(CP1));
}

#[test]
fn a_declined_step_up_leaves_the_account_in_use_and_is_forgotten_after_ten_minutes() {
    let endpoint = "/cae";
    for legacy in [false, true] {
        let world = World::labelled();
        world.entra.require_interaction_for_claims(true);
        let mut mcp = world.server.modern_url();
        let asked = asks(&mut mcp, endpoint);
        if legacy {
            // There a client declines by not repeating the call.
            ok(&mut world.server.legacy_url("2025-11-25"), "/me");
            world.advance(SIGN_IN);
        } else {
            let extra = declined(&asked);
            let arguments = json!({"endpoint": endpoint, "user_id": LABEL});
            let (outcome, requests, _) = world.during(|| make(&mut mcp, "get", &arguments, &extra));
            assert_eq!(
                (&is_done(outcome)["error"], requests),
                (&json!("refused"), 0)
            );
            assert_eq!(Browser::new().navigate(&asked.url).status, 400);
        }
        assert_eq!(status(&world.server)["authenticated"], true);
        for mut mcp in clients(&world.server) {
            ok(&mut mcp, "/me");
        }
        if !legacy {
            // Who signs in anew all the same does it for the call that wanted it.
            assert!(!says_signed_in(&world.server));
            let leads_to = login_leads_to(&world.server);
            assert_eq!(value_of(&leads_to, "claims"), Some(WANTED));
            world.advance(SIGN_IN);
        }
        assert!(says_signed_in(&world.server));
        let leads_to = login_leads_to(&world.server);
        assert_eq!(value_of(&leads_to, "claims"), Some(CP1));
        // Whoever calls for it again needs it again, whether Entra is asked meanwhile or not.
        asks(&mut mcp, endpoint);
        let leads_to = login_leads_to(&world.server);
        assert_eq!(value_of(&leads_to, "claims"), Some(WANTED));
    }
}

/// As when an administrator has lifted a policy meanwhile.
#[test]
fn a_refresh_that_brings_what_was_wanted_makes_the_sign_in_for_it_needless_for_that_person_alone() {
    let world = World::labelled();
    Browser::new().sign_in(
        &format!("{}/auth/login?user_id=other", world.server.url()),
        GRACE,
    );
    world.entra.require_interaction_for_claims(true);
    let mut mcp = world.server.modern();
    for user_id in [LABEL, "other"] {
        mcp.fails(
            "api_get_request",
            json!({"endpoint": "/cae", "user_id": user_id}),
        );
    }
    // One without the claims brings nothing.
    handed_on(&mut mcp, "/status/401", 401);
    assert!(!says_signed_in(&world.server));
    world.entra.require_interaction_for_claims(false);
    world.advance(PAUSE);
    assert_eq!(world.during(|| drop(ok(&mut mcp, "/cae"))).2, 1);
    assert!(says_signed_in(&world.server));
    assert_eq!(
        mcp.ok("authenticate_user", json!({"user_id": "other"}))["already_signed_in"],
        false
    );
}

#[test]
fn what_a_sign_in_must_bring_is_due_for_as_long_as_it_may_take() {
    let world = World::labelled_with(Setup::by_the_second);
    world.entra.require_interaction_for_claims(true);
    asks(&mut world.server.modern_url(), "/cae");
    for (seconds, claims) in [(SIGN_IN - 1, WANTED), (1, CP1)] {
        world.advance(seconds);
        assert_eq!(
            value_of(&login_leads_to(&world.server), "claims"),
            Some(claims)
        );
    }
}

#[test]
fn a_sign_in_that_fails_for_no_more_than_its_code_leaves_nothing_due() {
    let world = World::labelled();
    world.fail_next("invalid_grant", None, None);
    assert_eq!(
        Browser::new()
            .sign_in(&login_url(&world.server.url()), ADA)
            .status,
        400
    );
    assert!(says_signed_in(&world.server));
}

/// Whoever makes up names could else fill the memory.
#[test]
fn of_too_many_people_of_whom_more_is_wanted_one_gives_way_to_the_next() {
    let world = World::new();
    let login = |number: usize| format!("/auth/login?user_id=user-{number}");
    let (kept, claims) = (64, Some(ENTRAS));
    world.entra.fail_tokens(TokenFailure::Oauth {
        error: "invalid_grant",
        aadsts: 50076,
        suberror: None,
        claims,
    });
    for number in 0..=kept {
        assert_eq!(
            Browser::new()
                .sign_in(&format!("{}{}", world.server.url(), login(number)), ADA)
                .status,
            400
        );
    }
    let is_due = |number: &usize| {
        let reply = world.server.navigate(&login(*number));
        let query = reply.header("Location").unwrap().split_once('?').unwrap().1;
        value_of(&decode_pairs(query.as_bytes()), "claims") == Some(ENTRAS_SENT)
    };
    assert!(is_due(&kept), "the newest stays");
    assert_eq!((0..=kept).filter(is_due).count(), kept);
}

#[test]
fn a_person_who_is_in_the_middle_of_a_sign_in_that_the_client_declines_gets_to_its_end() {
    let world = World::labelled();
    world.entra.require_interaction_for_claims(true);
    let mut mcp = world.server.modern_url();
    let asked = asks(&mut mcp, "/cae");
    let mut browser = Browser::new();
    let accounts = browser.navigate(&asked.url);
    let arguments = json!({"endpoint": "/cae", "user_id": LABEL});
    assert_eq!(
        is_done(make(&mut mcp, "get", &arguments, &declined(&asked)))["error"],
        "refused"
    );
    let page = browser.submit(&accounts, ADA);
    assert_eq!(browser.auto_submit(&page).status, 200);
    ok(&mut mcp, "/cae");
}

#[test]
fn a_sign_in_for_a_call_is_for_the_person_in_whose_name_the_call_is_made() {
    for number in 0..CLIENTS {
        for endpoint in ["/cae", "/me"] {
            let world = World::labelled();
            world.entra.require_interaction_for_claims(true);
            if endpoint == "/me" {
                world.advance(EXPIRED);
                world.fail_next("invalid_grant", None, None);
            }
            let mut mcp = clients(&world.server).into_iter().nth(number).unwrap();
            let asked = asks(&mut mcp, endpoint);
            let before = world.only_account();
            let page = Browser::new().sign_in(&asked.url, GRACE);
            assert_eq!(page.status, 400);
            assert!(
                page.text().contains("not the person known as work here"),
                "{}",
                page.text()
            );
            assert_eq!(world.only_account(), before, "nothing is stored");
            // What could be tried again from there would be for anybody.
            let links = page.links();
            assert!(
                links.iter().all(|(_, text)| text != "Try again"),
                "{links:?}"
            );
            assert_eq!(
                world.during(|| drop(repeats(&mut mcp, endpoint, &asked))).2,
                0
            );
            assert_eq!(world.only_account()["username"], ADA);
        }
    }
}

#[test]
fn a_declined_sign_in_that_every_call_needs_is_still_due() {
    let world = World::labelled();
    world.advance(EXPIRED);
    world.fail_next("invalid_grant", Some("basic_action"), Some(ENTRAS));
    let asked = asks(&mut world.server.modern_url(), "/me");
    let extra = declined(&asked);
    is_done(make(
        &mut world.server.modern_url(),
        "get",
        &json!({"endpoint": "/me", "user_id": LABEL}),
        &extra,
    ));
    assert!(!says_signed_in(&world.server));
    assert_eq!(status(&world.server)["authenticated"], false);
    assert_eq!(
        value_of(&login_leads_to(&world.server), "claims"),
        Some(ENTRAS_SENT)
    );
}

#[test]
fn a_call_waits_for_its_step_up_though_other_calls_go_through_meanwhile() {
    let world = World::labelled_with(|setup| {
        setup.limits(|limits| limits.silence = Duration::from_millis(20))
    });
    world.entra.require_interaction_for_claims(true);
    let mut mcp = world.server.modern_url();
    let asked = asks(&mut mcp, "/cae");
    world.advance(EXPIRED - 3600);
    // The old token is refused, and another one fetched for that.
    handed_on(&mut world.server.modern(), "/status/401", 401);
    ok(&mut world.server.modern(), "/me");
    let arguments = json!({"endpoint": "/cae", "user_id": LABEL});
    let (head, events) = mcp.open_call("api_get_request", arguments, asked.extra.clone());
    assert_eq!(head.header("Content-Type"), Some("text/event-stream"));
    signs_in(&asked);
    let answered = Answered::read(&head, events);
    assert_eq!(is_done(Outcome::of(&answered.response))["success"], true);
}

#[test]
fn a_step_up_with_the_link_of_before_ends_the_wait_for_the_next_one() {
    let world = World::labelled();
    world.entra.require_interaction_for_claims(true);
    let mut mcp = world.server.modern_url();
    let before = asks(&mut mcp, "/cae");
    let mut browser = Browser::new();
    browser.navigate(&before.url);
    // While she is at Entra, a call comes that cannot be shown her link.
    let next = asks(&mut mcp, "/cae");
    assert_ne!(next.url, before.url);
    assert_eq!(browser.sign_in(&before.url, ADA).status, 200);
    assert_eq!(is_done(repeats(&mut mcp, "/cae", &next))["success"], true);
}

#[test]
fn a_missing_scope_is_named_with_the_setting_and_nobody_is_asked_to_sign_in() {
    let world = World::labelled();
    let before = world.entra.authorize_requests().len();
    for (line, named) in [
        (
            "Bearer error=\"insufficient_scope\", scope=\"api://backend/write b\"",
            "api://backend/write, b",
        ),
        ("Bearer error=\"insufficient_scope\"", "a scope"),
        (
            "Bearer error=\"insufficient_scope\", scope=\"a\\b\"",
            "a scope",
        ),
    ] {
        world.answer(refused(403, &[line]));
        for mut mcp in clients(&world.server) {
            let (answer, requests, refreshes) = world.during(|| done(&mut mcp, "/x"));
            assert_eq!((requests, refreshes), (1, 0));
            // The API's own answer stands.
            assert_eq!(answer["status"], 403, "{answer}");
            assert_eq!(answer["error"], "configuration", "{answer}");
            assert_eq!(answer["data"]["error"], "refused", "{answer}");
            let message = answer["message"].as_str().unwrap();
            assert!(message.contains(named), "{message}");
            let hint = answer["hint"].as_str().unwrap();
            assert!(hint.contains("CUSTOM_API_SCOPE"), "{hint}");
        }
    }
    // Only an error of a Bearer challenge in a 403 says it.
    for (status, line) in [
        (403, "Bearer scope=\"api://backend/write\""),
        (
            403,
            "Basic error=\"insufficient_scope\", scope=\"api://backend/write\"",
        ),
        (
            400,
            "Bearer error=\"insufficient_scope\", scope=\"api://backend/write\"",
        ),
        (
            500,
            "Bearer error=\"insufficient_scope\", scope=\"api://backend/write\"",
        ),
    ] {
        world.answer(refused(status, &[line]));
        let answer = done(&mut world.server.modern(), "/x");
        assert_eq!(answer["status"], status, "{answer}");
        assert_eq!(answer["error"], "http_error", "{answer}");
    }
    assert!(says_signed_in(&world.server));
    assert_eq!(world.entra.authorize_requests().len(), before);
}

#[test]
fn what_is_wanted_of_one_account_is_still_wanted_when_something_is_wanted_of_another() {
    let world = World::labelled();
    let page = Browser::new().sign_in(
        &format!("{}/auth/login?user_id=other", world.server.url()),
        GRACE,
    );
    assert_eq!(page.status, 200, "{}", page.text());
    world.entra.require_interaction_for_claims(true);
    let mut mcp = world.server.modern_url();
    for user_id in [LABEL, "other"] {
        let arguments = json!({"endpoint": "/cae", "user_id": user_id});
        assert!(matches!(
            make(&mut mcp, "get", &arguments, &json!({})),
            Outcome::Asked(_)
        ));
    }
    assert_eq!(
        value_of(&login_leads_to(&world.server), "claims"),
        Some(WANTED)
    );
}

// ---- Scopes ----

/// The settings are the ceiling.
// Issue 13 §3
#[test]
fn a_scope_beyond_the_settings_is_an_error_that_names_it_and_nobody_is_asked_for_it() {
    let world = World::labelled();
    let entra_was_asked = world.entra.token_requests().len();
    for mut mcp in clients(&world.server) {
        let (content, requests, _) = world.during(|| done(&mut mcp, "/write"));
        assert_eq!((&content["success"], requests), (&json!(false), 1));
        assert!(content.to_string().contains(WRITE_SCOPE), "{content}");
        assert_ne!(content["error"], "sign_in_required");
    }
    assert_eq!(world.entra.token_requests().len(), entra_was_asked);
    assert!(says_signed_in(&world.server));
    assert_eq!(
        value_of(&login_leads_to(&world.server), "scope"),
        Some(SCOPE)
    );
}

// ---- What Entra says to a refresh ----

#[test]
fn the_suberror_says_whether_to_ask_and_whether_the_refresh_token_is_kept() {
    for (suberror, kept) in [
        ("basic_action", true),
        ("additional_action", true),
        ("user_password_expired", true),
        ("consent_required", true),
        ("something_new", true),
        ("bad_token", false),
        ("token_expired", false),
        ("client_mismatch", false),
    ] {
        for endpoint in ["/me", "/cae"] {
            let world = World::labelled();
            if endpoint == "/me" {
                world.advance(EXPIRED);
            }
            world.fail_next("invalid_grant", Some(suberror), None);
            let mut mcp = world.server.modern_url();
            let asked = asks(&mut mcp, endpoint);
            assert_eq!(
                world.only_account()["refresh_token"].is_string(),
                kept,
                "{suberror}"
            );
            // A token that is still good is good for other calls, unless the grant itself is over.
            assert_eq!(
                status(&world.server)["authenticated"],
                kept && endpoint == "/cae",
                "{suberror} {endpoint}"
            );
            assert!(!says_signed_in(&world.server));
            assert_eq!(
                is_done(comes_back(&mut mcp, endpoint, &asked))["success"],
                true
            );
        }
    }
}

#[test]
fn what_a_sign_in_would_not_mend_is_refused_and_neither_asked_nor_repeated() {
    for suberror in ["message_only", "protection_policy_required"] {
        for endpoint in ["/me", "/cae", "/status/401"] {
            let world = World::labelled();
            if endpoint == "/me" {
                world.advance(EXPIRED);
            }
            world.entra.fail_tokens(TokenFailure::Oauth {
                error: "invalid_grant",
                aadsts: 53000,
                suberror: Some(suberror),
                claims: Some(ENTRAS),
            });
            for _ in 0..2 {
                for mut mcp in clients(&world.server) {
                    assert_eq!(
                        done(&mut mcp, endpoint)["error"],
                        "refused",
                        "{suberror} {endpoint}"
                    );
                }
            }
            assert_eq!(world.entra.token_requests().len(), 2);
            // Where every call is refused, nobody says that nothing is to be done.
            assert_eq!(says_signed_in(&world.server), endpoint != "/me");
            world.advance(PAUSE);
            done(&mut world.server.modern(), endpoint);
            assert_eq!(world.entra.token_requests().len(), 3);
            world.entra.heal();
            world.advance(PAUSE);
            assert_ne!(
                done(&mut world.server.modern(), endpoint)["error"],
                "refused"
            );
            assert_eq!(world.entra.refreshes(), 1);
        }
    }
}

#[test]
fn what_entra_has_refused_is_not_sent_again_for_a_minute() {
    let world = World::labelled();
    world.entra.require_interaction_for_claims(true);
    let mut mcp = world.server.modern_url();
    // Other calls, which go through, make no difference.
    for _ in 0..3 {
        asks(&mut mcp, "/cae");
        assert_eq!(
            value_of(&login_leads_to(&world.server), "claims"),
            Some(WANTED)
        );
        ok(&mut mcp, "/me");
    }
    assert_eq!(world.refreshes_with(WANTED), 1);
    // Nor do other claims, which are tried.
    let other = json!({"access_token": {"acrs": {"essential": true, "value": "c2"}}});
    let (wanted, header) = (WANTED.replace("c1", "c2"), claims_header(&other));
    world.backend.challenge_with(vec![header]);
    for _ in 0..2 {
        asks(&mut mcp, "/cae");
        ok(&mut mcp, "/me");
    }
    world
        .backend
        .challenge_with(vec![claims_header(&cae_claims())]);
    asks(&mut mcp, "/cae");
    assert_eq!(
        (world.refreshes_with(WANTED), world.refreshes_with(&wanted)),
        (1, 1)
    );
    world.advance(PAUSE);
    asks(&mut mcp, "/cae");
    assert_eq!(
        (world.refreshes_with(WANTED), world.refreshes_with(&wanted)),
        (2, 1)
    );
}

/// An API that thinks of other claims for each call could else have Entra asked without end.
#[test]
fn after_sixteen_refusals_entra_is_not_asked_for_further_claims_for_a_minute() {
    let world = World::labelled_with(Setup::by_the_second);
    world.entra.require_interaction_for_claims(true);
    let mut mcp = world.server.modern_url();
    let mut asked = |number: usize| {
        let value = format!("c{number}");
        let claims = json!({"access_token": {"acrs": {"essential": true, "value": value}}});
        world.backend.challenge_with(vec![claims_header(&claims)]);
        asks(&mut mcp, "/cae");
        world.refreshes_with(&WANTED.replace("c1", &value))
    };
    assert_eq!((0..18).map(&mut asked).sum::<usize>(), 16);
    // The person is asked for what is wanted, all the same.
    let wanted = WANTED.replace("c1", "c17");
    assert_eq!(
        value_of(&login_leads_to(&world.server), "claims"),
        Some(wanted.as_str())
    );
    assert_eq!(
        [15, 16, 0].map(&mut asked),
        [1, 0, 1],
        "one of them more than once"
    );
    world.advance(PAUSE);
    assert_eq!([16, 0].map(asked), [1, 2]);
}

#[test]
fn a_device_code_that_entra_has_refused_is_not_asked_for_again_for_a_minute() {
    let world = World::labelled_with(|setup| setup.with("SIGN_IN_METHOD", "device_code"));
    world.entra.allow_violations();
    let client_id = crate::support::entra::CLIENT_ID.to_owned();
    world
        .entra
        .set(|settings| settings.client_id = "of-another-registration".to_owned());
    let mut mcp = world.server.modern();
    for asked in [1, 1, 2, 2] {
        mcp.fails("authenticate_user", json!({"user_id": "other"}));
        if world.entra.device_requests().len() < asked {
            world.advance(PAUSE);
            mcp.fails("authenticate_user", json!({"user_id": "other"}));
        }
        assert_eq!(world.entra.device_requests().len(), asked);
    }
    world.entra.set(|settings| settings.client_id = client_id);
    world.advance(PAUSE);
    mcp.ok("authenticate_user", json!({"user_id": "other"}));
}

#[test]
fn a_device_code_that_was_refused_is_refused_to_whoever_wants_the_same() {
    let world = World::labelled_with(|setup| setup.with("SIGN_IN_METHOD", "device_code"));
    world
        .entra
        .set(|settings| settings.client_id = "of-another-registration".to_owned());
    let asked = || world.entra.device_requests().len();
    let mut mcp = world.server.modern();
    // In whose name it is wanted is not what Entra is asked.
    world.advance(EXPIRED);
    done(&mut mcp, "/me");
    mcp.fails("authenticate_user", json!({"user_id": "other"}));
    done(&mut mcp, "/me");
    assert_eq!(asked(), 1);
}

#[test]
fn a_device_code_carries_what_the_api_wants() {
    let world = World::labelled_with(|setup| setup.with("SIGN_IN_METHOD", "device_code"));
    world.entra.require_interaction_for_claims(true);
    asks(&mut world.server.modern_url(), "/cae");
    let request = world.entra.device_requests()[0].clone();
    assert_eq!(
        (value_of(&request, "claims"), value_of(&request, "scope")),
        (Some(WANTED), Some(SCOPE))
    );
}

// ---- What others write ----

#[test]
fn hostile_claims_never_reach_entra_and_break_no_call() {
    let long = format!(r#"{{"access_token":{{"a":"{}"}}}}"#, "x".repeat(8192));
    let deep = format!("{}1{}", r#"{"a":"#.repeat(500), "}".repeat(500));
    let deep_list = "[".repeat(5000);
    for claims in [
        &long,
        &deep,
        &deep_list,
        "[]",
        "null",
        "7",
        "\"text\"",
        "",
        "{",
        "{} {}",
        r#"{"access_token":[]}"#,
        r#"{"access_token":"x"}"#,
        r#"{"access_token":{"xms_cc":["cp1"]}}"#,
        r#"{"access_token":{"xms_cc":"cp1"}}"#,
        r#"{"access_token":{"xms_cc":{"values":"cp1"}}}"#,
        r#"{"access_token":{"xms_cc":{"values":{}}}}"#,
        "{\"a\":\"\u{1b}\n\"}",
    ] {
        let world = World::labelled();
        let header = format!(
            "Bearer error=\"insufficient_claims\", claims=\"{}\"",
            BASE64_STANDARD.encode(claims)
        );
        world.answer(refused(401, &[&header]));
        for mut mcp in clients(&world.server) {
            handed_on(&mut mcp, "/x", 401);
        }
        assert_eq!(world.entra.token_requests().len(), 2);
        assert_eq!(world.last_claims(), CP1, "{claims}");
        assert!(says_signed_in(&world.server));
    }
}

#[test]
fn hostile_claims_of_entra_give_way_to_those_of_the_challenge() {
    for of_entra in [
        "",
        "[]",
        "null",
        "{",
        r#"{"access_token":[]}"#,
        r#"{"access_token":{"xms_cc":[]}}"#,
    ] {
        let world = World::labelled();
        world.fail_next("invalid_grant", Some("basic_action"), Some(of_entra));
        let authorized = steps_up(&world, &mut world.server.modern_url(), "/cae");
        assert_eq!(value_of(&authorized, "claims"), Some(WANTED), "{of_entra}");
    }
}

#[test]
fn the_longest_claims_get_to_entra_whole() {
    let world = World::labelled();
    let of_length =
        |length: usize| json!({"access_token": {"acrs": {"value": "ü\"".repeat(length / 6)}}});
    let claims = of_length(7900);
    world.answer(claims_challenge(&claims));
    let mut mcp = world.server.modern_url();
    let asked = asks(&mut mcp, "/x");
    is_handed_on(comes_back(&mut mcp, "/x", &asked), 401);
    let authorized = world.entra.last_authorize();
    let sent: Value = serde_json::from_str(value_of(&authorized, "claims").unwrap()).unwrap();
    assert_eq!(sent["access_token"]["acrs"], claims["access_token"]["acrs"]);
}

#[test]
fn nothing_that_the_api_demands_gets_into_a_page_or_a_log_line_as_it_is() {
    let (setup, backend, _entra) = World::new().stop();
    let process = Process::start(Command::new(env!("CARGO_BIN_EXE_entra-auth-mcp")), &setup);
    sign_in(&process.url());
    let mut mcp = Mcp::modern(process.client(), Mcp::can_open_urls());
    let claims = json!({"access_token": {"<b>": {"value": "\u{1b}[31m\r\n<script>"}}});
    let challenge = claims_challenge(&claims);
    backend.on(move |_| Some(challenge.clone().into()));
    let asked = asks(&mut mcp, "/x");
    assert!(
        !asked.message.contains(char::is_control),
        "{}",
        asked.message
    );
    for page in [signs_in(&asked), Browser::new().navigate(&process.url())] {
        assert!(
            !page.body.contains("<b>") && !page.body.contains("<script"),
            "{}",
            page.body
        );
    }
    is_handed_on(repeats(&mut mcp, "/x", &asked), 401);
    let missing = without_scope("api://backend/<script>'{{title}}&amp;");
    backend.on(move |_| Some(missing.clone().into()));
    done(&mut mcp, "/x");
    let log = process.log();
    assert!(
        !log.contains(|c: char| c.is_control() && c != '\n'),
        "{log:?}"
    );
    assert!(log.lines().all(|line| line.starts_with("20")), "{log}");
    assert!(!log.contains("<script"), "{log}");
}
