//! Which browser may begin and complete a sign-in. In the attacks somebody may call `/mcp` and opens a
//! link of his own; he wants a person's browser to finish it.

use std::process::Command;
use std::sync::{Arc, OnceLock};

use crate::support::backend::Backend;
use crate::support::browser::{Browser, Cookie, Load, Page, SameSite, TYPED};
use crate::support::entra::{self, ADA, Entra, GRACE};
use crate::support::http::{Client, Reply, Request, StandIn};
use crate::support::server::{Mcp, Running, Setup, Verb};
use crate::support::{decode_pairs, encode_pairs, random_token, value_of};
use serde_json::{Value, json};
use url::Url;

const KEY: &str = "kEy-5f1f0c7a2b9e4d3861f0a7c5e2b4d968";
const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");
const MODES: [&str; 2] = ["form_post", "query"];
const ANOTHER_SITE: &str = "https://evil.example/";
const PUBLIC: &str = "https://mcp.contoso.example";
/// The cookie of the button, behind its prefix.
const CONFIRM: &str = "entra_auth_mcp_confirm";
/// The label of the attacker.
const MINE: &str = "mine";

// ---- The stage ----

struct Stage {
    entra: Entra,
    server: Running,
    is_query: bool,
    has_key: bool,
}

impl Stage {
    fn new(mode: &str, has_key: bool) -> Self {
        Self::with(mode, has_key, |setup| setup)
    }

    fn with(mode: &str, has_key: bool, change: impl FnOnce(Setup) -> Setup) -> Self {
        let entra = Entra::start();
        let mut setup = Setup::new(&entra, None).with("AUTH_RESPONSE_MODE", mode);
        if has_key {
            setup = setup.with("SERVER_ACCESS_KEY", KEY);
        }
        Self {
            server: change(setup).start(),
            entra,
            is_query: mode == "query",
            has_key,
        }
    }

    /// In each response mode, with and without an access key.
    fn every() -> Vec<Self> {
        let mut stages = Vec::new();
        for mode in MODES {
            for has_key in [false, true] {
                stages.push(Self::new(mode, has_key));
            }
        }
        stages
    }

    fn mcp(&self) -> Mcp {
        let mcp = self.server.modern();
        if self.has_key { mcp.with_key(KEY) } else { mcp }
    }

    fn link(&self, user_id: &str) -> String {
        let begun = self
            .mcp()
            .ok("authenticate_user", json!({"user_id": user_id}));
        begun["sign_in_url"].as_str().unwrap().to_owned()
    }

    fn status(&self, user_id: &str) -> Value {
        self.mcp()
            .ok("check_auth_status", json!({"user_id": user_id}))
    }

    fn who_is(&self, user_id: &str) -> Option<String> {
        let status = self.status(user_id);
        let username = status["username"].as_str().map(str::to_owned);
        username.filter(|_| status["authenticated"] == true)
    }

    /// Entra's answer for `username` as it waits in `browser` to be delivered.
    fn answer(browser: &mut Browser, accounts: &Page, username: &str) -> Page {
        browser.stops_at = Some("/auth/callback");
        let answer = browser.submit(accounts, username);
        browser.stops_at = None;
        answer
    }

    /// `browser` brings `answer` here.
    fn deliver(&self, browser: &mut Browser, answer: &Page) -> Page {
        if self.is_query {
            let entra = Page::empty(&self.entra.authority_host());
            browser.follow(&entra, answer.url.as_str())
        } else {
            browser.auto_submit(answer)
        }
    }

    /// The same, but the browser does not go on to the last page, whose address this gives.
    fn deliver_only(&self, browser: &mut Browser, answer: &Page) -> Page {
        browser.stops_at = Some("/auth/complete");
        let page = self.deliver(browser, answer);
        browser.stops_at = None;
        page
    }

    /// `username` signs in as `user_id`, as everybody should.
    #[track_caller]
    fn sign_in(&self, user_id: &str, username: &str) {
        let page = Browser::new().sign_in(&self.link(user_id), username);
        assert_signed_in(&page);
    }

    /// Nobody is signed in, and Entra was sent no code.
    #[track_caller]
    fn assert_nobody(&self) {
        assert!(self.entra.token_requests().is_empty());
        assert_eq!(
            self.mcp().ok("view_userid", json!({}))["user_ids"],
            json!([])
        );
        if let Ok(file) = std::fs::read(self.server.token_file()) {
            let file: Value = serde_json::from_slice(&file).unwrap();
            assert_eq!(file["accounts"], json!([]));
        }
    }

    /// The sign-in of `user_id` is over, and the client learns why.
    #[track_caller]
    fn assert_ended(&self, user_id: &str) {
        let status = self.status(user_id);
        assert_eq!(status["pending_sign_in"], false, "{status}");
        let why = status["last_sign_in_error"].as_str().unwrap_or_default();
        assert!(why.contains("another browser"), "{status}");
    }

    /// It is not.
    #[track_caller]
    fn assert_under_way(&self, user_id: &str) {
        let status = self.status(user_id);
        assert_eq!(status["pending_sign_in"], true, "{status}");
    }
}

#[track_caller]
fn assert_signed_in(page: &Page) {
    assert!(
        page.status == 200 && page.text().contains("You are signed in"),
        "{} {}",
        page.status,
        page.text()
    );
}

#[track_caller]
fn assert_refused(page: &Page, why: &str) {
    assert!(
        page.status == 400 && page.text().contains(why),
        "{why:?}: {} {}",
        page.status,
        page.text()
    );
}

/// A page that asks whether the sign-in is meant; gives where its button leads.
#[track_caller]
fn assert_asks(page: &Page) -> String {
    assert!(
        page.status == 200 && page.text().contains("Go on only if it was you"),
        "{} {}",
        page.status,
        page.text()
    );
    page.confirmation().expect("a button")
}

fn parameter(url: &Url, name: &str) -> Option<String> {
    let query = decode_pairs(url.query().unwrap_or_default().as_bytes());
    value_of(&query, name).map(str::to_owned)
}

/// A sign-in that somebody has begun for the label [`MINE`] and opened in a browser of his own.
struct Attack {
    stage: Stage,
    attacker: Browser,
    link: String,
    /// Where Microsoft asks who is there: what the victim is made to open.
    address: String,
    handle: String,
}

impl Attack {
    fn begin(stage: Stage) -> Self {
        let link = stage.link(MINE);
        Self::begin_with(stage, link)
    }

    fn begin_with(stage: Stage, link: String) -> Self {
        let mut attacker = Browser::new();
        let accounts = attacker.navigate(&link);
        let cookie = &attacker.cookies[0];
        let handle = cookie.name.strip_prefix("entra_auth_mcp_").unwrap();
        Self {
            handle: handle.to_owned(),
            address: accounts.url.to_string(),
            stage,
            attacker,
            link,
        }
    }

    fn every() -> Vec<Self> {
        Stage::every().into_iter().map(Self::begin).collect()
    }

    /// The victim follows the Microsoft address in `browser`; Entra's answer waits there.
    fn lure(&self, browser: &mut Browser) -> Page {
        let accounts = browser.follow(&Page::empty(ANOTHER_SITE), &self.address);
        Stage::answer(browser, &accounts, ADA)
    }

    /// The attacker opens the last page with his cookie, with no receipt and with guesses.
    fn attacker_tries(&mut self) {
        let base = format!("{}/auth/complete", self.stage.server.url());
        let sign_in = format!("{base}?sign_in={}", self.handle);
        let cookie = self.attacker.cookies[0].value.clone();
        for target in [
            base,
            sign_in.clone(),
            format!("{sign_in}&receipt="),
            format!("{sign_in}&receipt={}", "A".repeat(43)),
            format!("{sign_in}&receipt={}", random_token()),
            format!("{sign_in}&receipt={cookie}"),
            format!("{sign_in}&receipt={}", self.handle),
        ] {
            let page = self.attacker.navigate(&target);
            assert_eq!(page.status, 400, "{target}: {}", page.text());
            assert!(!page.body.contains(ADA), "{}", page.body);
        }
    }
}

// ---- C1: whose browser completes it ----

// CASES C1
#[test]
fn an_answer_from_a_browser_that_did_not_open_the_link_ends_the_sign_in() {
    for mut attack in Attack::every() {
        let mut victim = Browser::new();
        let answer = attack.lure(&mut victim);
        let page = attack.stage.deliver(&mut victim, &answer);
        assert_refused(&page, "another browser");
        attack.stage.assert_ended(MINE);
        attack.attacker_tries();
        // Not even with what the victim's browser was given.
        for address in victim.history {
            if address.contains("/auth/complete") {
                assert_eq!(attack.attacker.navigate(&address).status, 400);
            }
        }
        assert_refused(&attack.attacker.navigate(&attack.link), "");
        attack.stage.assert_nobody();
        // The victim signs in as themselves afterwards.
        attack.stage.sign_in(ADA, ADA);
        assert_eq!(attack.stage.who_is(MINE), None);
    }
}

// CASES C1
#[test]
fn who_opened_the_link_cannot_complete_it_between_the_answer_and_the_last_page() {
    for mut attack in Attack::every() {
        let mut victim = Browser::new();
        let answer = attack.lure(&mut victim);
        attack.attacker_tries();
        let last = attack.stage.deliver_only(&mut victim, &answer);
        attack.attacker_tries();
        attack.stage.assert_nobody();
        if attack.stage.is_query {
            // There the callback itself sees the cookie.
            assert_refused(&last, "another browser");
        } else {
            attack.stage.assert_under_way(MINE);
            let page = victim.follow(&Page::empty(ANOTHER_SITE), last.url.as_str());
            assert_refused(&page, "another browser");
        }
        attack.stage.assert_ended(MINE);
        attack.attacker_tries();
        attack.stage.assert_nobody();
    }
}

// CASES C1
#[test]
fn a_browser_that_is_busy_with_another_sign_in_completes_none_but_its_own() {
    for user_id in [MINE, ADA] {
        for mut attack in Attack::every() {
            let mut victim = Browser::new();
            let own = victim.navigate(&attack.stage.link(user_id));
            let mut forged = victim.cookies[0].clone();
            forged.name = attack.attacker.cookies[0].name.clone();
            victim.cookies.push(forged);
            let answer = attack.lure(&mut victim);
            let page = attack.stage.deliver(&mut victim, &answer);
            assert_refused(&page, "another browser");
            attack.attacker_tries();
            attack.stage.assert_nobody();
            // Their own goes on.
            let answer = Stage::answer(&mut victim, &own, ADA);
            assert_signed_in(&attack.stage.deliver(&mut victim, &answer));
            assert_eq!(attack.stage.entra.redemptions(), 1);
        }
    }
}

// CASES C1
#[test]
fn a_link_that_is_opened_again_before_the_victim_answers_leaves_their_answer_without_a_sign_in() {
    for mut attack in Attack::every() {
        let mut victim = Browser::new();
        let answer = attack.lure(&mut victim);
        let mut second = Browser::new();
        second.navigate(&attack.link);
        let page = attack.stage.deliver(&mut victim, &answer);
        assert_refused(&page, "belongs to no sign-in");
        attack.attacker_tries();
        attack.attacker = second;
        attack.attacker_tries();
        attack.stage.assert_nobody();
        attack.stage.assert_under_way(MINE);
    }
}

// CASES C1
#[test]
fn a_link_that_is_opened_again_after_the_victim_answers_is_used() {
    for mut attack in Attack::every() {
        let mut victim = Browser::new();
        let answer = attack.lure(&mut victim);
        let last = attack.stage.deliver_only(&mut victim, &answer);
        for mut browser in [Browser::new(), std::mem::take(&mut attack.attacker)] {
            let page = browser.navigate(&attack.link);
            assert_eq!(page.status, 400, "{}", page.text());
            attack.attacker = browser;
        }
        attack.attacker_tries();
        if !attack.stage.is_query {
            let page = victim.follow(&Page::empty(ANOTHER_SITE), last.url.as_str());
            assert_refused(&page, "another browser");
        }
        attack.stage.assert_ended(MINE);
        attack.stage.assert_nobody();
    }
}

/// In the same browser the request is the same, so it changes nothing.
// CASES C1
#[test]
fn a_link_that_is_opened_again_in_its_browser_before_the_victim_answers_ends_the_same() {
    for mut attack in Attack::every() {
        let mut victim = Browser::new();
        let answer = attack.lure(&mut victim);
        attack.attacker.navigate(&attack.link);
        let page = attack.stage.deliver(&mut victim, &answer);
        assert_refused(&page, "another browser");
        attack.attacker_tries();
        attack.stage.assert_ended(MINE);
        attack.stage.assert_nobody();
    }
}

// CASES C1
#[test]
fn an_answer_that_somebody_got_hold_of_signs_him_in_neither_before_nor_after_its_own_browser() {
    for is_first in [true, false] {
        for stage in Stage::every() {
            let mut victim = Browser::new();
            let accounts = victim.navigate(&stage.link(ADA));
            let answer = Stage::answer(&mut victim, &accounts, ADA);
            let mut last = Page::empty(ANOTHER_SITE);
            if !is_first {
                last = stage.deliver_only(&mut victim, &answer);
            }
            let mut thief = Browser::new();
            thief.navigate(&stage.link(MINE));
            let page = stage.deliver(&mut thief, &answer);
            assert_eq!(page.status, 400, "{}", page.text());
            stage.assert_nobody();
            if is_first || !stage.is_query {
                // The answer is not trusted any more.
                stage.assert_ended(ADA);
                let page = stage.deliver(&mut victim, &answer);
                assert_eq!(page.status, 400, "{}", page.text());
                stage.assert_nobody();
            } else {
                // The callback has refused the thief, and the answer is the victim's still.
                assert_signed_in(&victim.follow(&Page::empty(ANOTHER_SITE), last.url.as_str()));
                assert_eq!(stage.who_is(ADA).as_deref(), Some(ADA));
            }
            assert_eq!(stage.who_is(MINE), None);
        }
    }
}

// CASES C1
#[test]
fn the_victims_answer_is_used_up_when_their_browser_was_refused() {
    for mut attack in Attack::every() {
        let mut victim = Browser::new();
        let answer = attack.lure(&mut victim);
        attack.stage.deliver(&mut victim, &answer);
        let page = attack.stage.deliver(&mut attack.attacker, &answer);
        assert_eq!(page.status, 400, "{}", page.text());
        attack.attacker_tries();
        attack.stage.assert_nobody();
    }
}

// CASES C1
#[test]
fn another_persons_error_is_not_shown_to_who_opened_the_link() {
    for mut attack in Attack::every() {
        let mut victim = Browser::new();
        let accounts = victim.follow(&Page::empty(ANOTHER_SITE), &attack.address);
        let answer = Stage::answer(&mut victim, &accounts, "Deny consent");
        let page = attack.stage.deliver(&mut victim, &answer);
        assert_refused(&page, "another browser");
        attack.attacker_tries();
        attack.stage.assert_ended(MINE);
        attack.stage.assert_nobody();
    }
}

/// A neighbour of the host sets cookies for the whole domain (RFC 6265 §8.6).
// CASES C1, C2
#[test]
fn a_cookie_that_a_neighbour_of_the_host_has_set_completes_and_confirms_nothing() {
    const NEIGHBOUR: &str = "https://wiki.contoso.example";
    let redirect_uri = format!("{PUBLIC}/auth/callback");
    for mode in MODES {
        let stage = Stage::with(mode, true, |setup| {
            setup.with("REDIRECT_URI", &redirect_uri)
        });
        let mut attacker = stage.redirected_to(&redirect_uri);
        let mut victim = attacker.clone_proxies();
        let accounts = attacker.open(&stage.link(MINE));
        let own = attacker.cookies.last().unwrap();
        let name = own.name.trim_start_matches("__Host-");
        let mut planted = Vec::new();
        for (name, value) in [(name, own.value.as_str()), (CONFIRM, "known")] {
            // To a browser, a space that is not ASCII begins a name without a prefix.
            for prefix in [
                "",
                "__Host-",
                "__host-",
                "__Secure-",
                "\u{a0}__Host-",
                "\u{2000}__Host-",
                "\u{3000}__Host-",
            ] {
                for path in ["/", "/auth"] {
                    planted.push(format!(
                        "{prefix}{name}={value}; Domain=contoso.example; Path={path}; Secure"
                    ));
                }
            }
        }
        let address = accounts.url.to_string();
        let neighbour = StandIn::serve(move |_: &Request| {
            let lured = Reply::empty(302).with("Location", &address);
            planted
                .iter()
                .fold(lured, |reply, cookie| reply.with("Set-Cookie", cookie))
        });
        victim.proxies.push((NEIGHBOUR.to_owned(), neighbour.url()));
        let accounts = victim.navigate(NEIGHBOUR);
        let is_planted = |cookie: &&Cookie| cookie.has_domain && cookie.name == name;
        assert_eq!(victim.cookies.iter().filter(is_planted).count(), 2);
        let answer = Stage::answer(&mut victim, &accounts, ADA);
        let page = stage.deliver(&mut victim, &answer);
        assert_refused(&page, "another browser");
        stage.assert_ended(MINE);

        let link = stage.link(MINE);
        let confirmed = format!("{link}&confirm={}", entra::s256("known"));
        assert_asks(&victim.navigate(&confirmed));
        stage.assert_nobody();
    }
}

/// The ticket was shown to both: a client that asks for the same gets the same link.
// CASES C1
#[test]
fn the_cookie_of_an_earlier_opening_of_the_same_link_completes_nothing() {
    for stage in Stage::every() {
        let mut victim = Browser::new();
        let link = stage.link(MINE);
        let own = victim.navigate(&link);
        let mut attack = Attack::begin_with(stage, link);
        for accounts in [own, victim.navigate(&attack.address)] {
            let answer = Stage::answer(&mut victim, &accounts, ADA);
            let page = attack.stage.deliver(&mut victim, &answer);
            assert_eq!(page.status, 400, "{}", page.text());
            attack.attacker_tries();
            attack.stage.assert_nobody();
        }
        attack.stage.assert_ended(MINE);
    }
}

/// Whoever makes the address chooses how the answer comes back.
// CASES C1
#[test]
fn an_address_that_asks_for_another_response_mode_brings_no_answer_that_counts() {
    for mut attack in Attack::every() {
        let [own, other] = if attack.stage.is_query {
            ["query", "form_post"]
        } else {
            ["form_post", "query"]
        };
        let [own, other] = [own, other].map(|mode| format!("response_mode={mode}"));
        assert!(attack.address.contains(&own), "{}", attack.address);
        attack.address = attack.address.replace(&own, &other);
        let mut victim = Browser::new();
        let accounts = victim.navigate(&attack.address);
        let page = victim.submit(&accounts, ADA);
        if attack.stage.is_query {
            assert_eq!(victim.auto_submit(&page).status, 405);
            attack.stage.assert_under_way(MINE);
        } else {
            assert_refused(&page, "they may be after your account");
            attack.stage.assert_ended(MINE);
            // The victim is talked into sending the address to the attacker.
            let body = page.url.query().unwrap();
            let reply = attack.stage.server.client().request(
                "POST",
                "/auth/callback",
                &[FORM],
                body.as_bytes(),
            );
            assert_eq!((reply.status, reply.header("Location")), (400, None));
        }
        attack.attacker_tries();
        attack.stage.assert_nobody();
    }
}

/// What stands behind `#` reaches no server, but the person can copy it.
// CASES C1
#[test]
fn a_code_behind_the_address_does_not_stay_in_it() {
    for mut attack in Attack::every() {
        let own = if attack.stage.is_query {
            "response_mode=query"
        } else {
            "response_mode=form_post"
        };
        attack.address = attack.address.replace(own, "response_mode=fragment");
        let mut victim = Browser::new();
        let accounts = victim.navigate(&attack.address);
        let page = victim.submit(&accounts, ADA);
        assert_eq!(page.status, 400, "{}", page.text());
        assert!(!page.url.as_str().contains("code="), "{}", page.url);
        attack.attacker_tries();
        attack.stage.assert_nobody();
    }
}

// ---- C2: what a person has asked for ----

/// Fetch Metadata, and whether the sign-in goes on at once on loopback.
fn every_metadata() -> Vec<(Vec<(&'static str, &'static str)>, bool)> {
    let site = |site| vec![("Sec-Fetch-Site", site), TYPED[1], TYPED[2]];
    let mode = |mode| vec![TYPED[0], ("Sec-Fetch-Mode", mode), TYPED[2]];
    let destination = |name| vec![TYPED[0], TYPED[1], ("Sec-Fetch-Dest", name)];
    let also = |name, value| [TYPED.as_slice(), &[(name, value)]].concat();
    let mut every = vec![
        (TYPED.to_vec(), true),
        (site("same-origin"), true),
        (also("Sec-Fetch-User", "?1"), true),
        (Vec::new(), false),
        (vec![TYPED[1], TYPED[2]], false),
        (vec![TYPED[0]], false),
        (vec![TYPED[0], TYPED[1]], false),
        (also("Sec-Purpose", "prefetch"), false),
        (also("Sec-Purpose", "prefetch;prerender"), false),
    ];
    every.extend(["same-site", "cross-site", "None", ""].map(|value| (site(value), false)));
    every.extend(
        ["no-cors", "cors", "same-origin", "websocket", ""].map(|value| (mode(value), false)),
    );
    let loaded = [
        "iframe", "frame", "embed", "object", "image", "script", "style", "empty", "worker", "",
    ];
    every.extend(loaded.map(|value| (destination(value), false)));
    every
}

// CASES C2
#[test]
fn a_sign_in_begins_at_once_only_for_a_page_that_a_person_navigates_to_on_this_machine() {
    for stage in [Stage::new("form_post", false), Stage::new("query", false)] {
        for (headers, goes_on) in every_metadata() {
            let user_id = format!("user-{}", random_token());
            let plain = format!("/auth/login?{}", encode_pairs(&[("user_id", &user_id)]));
            let reply = stage.server.client().request("GET", &plain, &headers, b"");
            let expected = if goes_on { 302 } else { 200 };
            assert_eq!(reply.status, expected, "{headers:?}");
            let is_pending = stage.status(&user_id)["pending_sign_in"] == true;
            assert_eq!(is_pending, goes_on, "{headers:?}");

            let link = stage.link(&user_id);
            let ticket = link.strip_prefix(&stage.server.url()).unwrap();
            let reply = stage.server.client().request("GET", ticket, &headers, b"");
            assert_eq!(reply.status, expected, "{headers:?}");
            let is_opened = stage.link(&user_id) != link;
            assert_eq!(
                is_opened, goes_on,
                "the link is on offer still: {headers:?}"
            );
            if !goes_on {
                assert!(reply.text().contains("Go on only if it was you"));
                assert_eq!(reply.headers_named("Set-Cookie").len(), 1);
                let cookie = reply.header("Set-Cookie").unwrap();
                assert!(cookie.starts_with(&format!("{CONFIRM}=")), "{cookie}");
            }
        }
        assert!(stage.entra.authorize_requests().is_empty());
    }
}

// CASES C2
#[test]
fn beyond_loopback_a_sign_in_always_begins_with_the_button() {
    for mode in MODES {
        let redirect_uri = format!("{PUBLIC}/auth/callback");
        let stage = Stage::with(mode, true, |setup| {
            setup.with("REDIRECT_URI", &redirect_uri)
        });
        let public = stage.redirected_to(&redirect_uri);
        for (headers, _) in every_metadata() {
            let headers = [&headers, [("Host", "mcp.contoso.example")].as_slice()].concat();
            let link = stage.link(ADA);
            let ticket = link.strip_prefix(PUBLIC).unwrap();
            let reply = stage.server.client().request("GET", ticket, &headers, b"");
            assert_eq!(reply.status, 200, "{headers:?}");
            assert_eq!(stage.link(ADA), link);
        }
        let mut browser = public.clone_proxies();
        let link = stage.link(ADA);
        let page = browser.navigate(&link);
        assert_eq!(page.url.as_str(), link);
        let button = assert_asks(&page);
        let [cookie] = browser.cookies.as_slice() else {
            panic!("{:?}", browser.cookies)
        };
        assert!(cookie.secure && cookie.http_only && cookie.same_site == SameSite::Strict);
        let accounts = browser.follow(&page, &button);
        let answer = Stage::answer(&mut browser, &accounts, ADA);
        assert_signed_in(&stage.deliver(&mut browser, &answer));
        assert_eq!(stage.who_is(ADA).as_deref(), Some(ADA));
    }
}

impl Stage {
    /// Entra leads to `redirect_uri`, too; gives a browser that finds this server there.
    fn redirected_to(&self, redirect_uri: &str) -> Browser {
        self.entra
            .set(|settings| settings.redirect_uris.push(redirect_uri.to_owned()));
        Browser {
            proxies: vec![(PUBLIC.to_owned(), self.server.address())],
            ..Browser::default()
        }
    }
}

impl Browser {
    /// Another browser at the same place.
    fn clone_proxies(&self) -> Self {
        Self {
            proxies: self.proxies.clone(),
            ..Self::default()
        }
    }
}

// CASES C2
#[test]
fn the_button_works_in_the_browser_that_was_shown_it_and_in_no_other() {
    for without_metadata in [true, false] {
        let redirect_uri = format!("{PUBLIC}/auth/callback");
        let stage = Stage::with("form_post", true, |setup| {
            setup.with("REDIRECT_URI", &redirect_uri)
        });
        let public = stage.redirected_to(&redirect_uri);
        let link = stage.link(ADA);
        let new = || Browser {
            without_metadata,
            ..public.clone_proxies()
        };
        let mut one = new();
        let first = one.navigate(&link);
        let button = first.url.join(&assert_asks(&first)).unwrap();
        // One that was shown nothing, and one that was shown another button.
        let mut other = new();
        for _ in 0..2 {
            let page = other.navigate(button.as_str());
            let own = assert_asks(&page);
            assert_ne!(page.url.join(&own).unwrap(), button);
        }
        // Nor does another site press it.
        let page = one.load_from(&Page::empty(ANOTHER_SITE), button.as_str(), Load::Window);
        assert_asks(&page);
        let forged = Cookie {
            value: parameter(&button, "confirm").unwrap(),
            ..one.cookies[0].clone()
        };
        other.cookies = vec![forged];
        assert_asks(&other.navigate(button.as_str()));
        assert_eq!(stage.link(ADA), link, "nobody has opened it");
        assert!(stage.entra.authorize_requests().is_empty());

        let page = one.navigate(&link);
        let accounts = one.follow(&page, &assert_asks(&page));
        let answer = Stage::answer(&mut one, &accounts, ADA);
        assert_signed_in(&stage.deliver(&mut one, &answer));
    }
}

// CASES C2
#[test]
fn another_site_leads_no_further_than_the_button_though_its_cookie_is_there() {
    let stage = Stage::new("form_post", false);
    let link = stage.link(ADA);
    let mut browser = Browser::new();
    let elsewhere = Page::empty(ANOTHER_SITE);
    let page = browser.follow(&elsewhere, &link);
    let button = page.url.join(&assert_asks(&page)).unwrap();
    let again = browser.follow(&elsewhere, button.as_str());
    assert_asks(&again);
    assert!(stage.entra.authorize_requests().is_empty());
    // The person presses it.
    let accounts = browser.follow(&again, &assert_asks(&again));
    let answer = Stage::answer(&mut browser, &accounts, ADA);
    assert_signed_in(&stage.deliver(&mut browser, &answer));
}

/// A click on the start page is one of the person's, but the label there must not be one of somebody else's.
// CASES C2
#[test]
fn another_site_does_not_choose_the_label_on_the_start_page() {
    let stage = Stage::new("form_post", false);
    let home = format!("{}/?user_id=mallory", stage.server.url());
    let mut browser = Browser::new();
    let page = browser.navigate(&home);
    assert!(page.body.contains("mallory"), "{}", page.body);
    for site in [ANOTHER_SITE, "http://localhost:1/"] {
        let page = browser.follow(&Page::empty(site), &home);
        assert_eq!(page.status, 200);
        assert!(!page.body.contains("mallory"), "{}", page.body);
    }
}

// CASES C2, C3
#[test]
fn what_a_page_loads_by_itself_neither_opens_a_link_nor_uses_it_up() {
    let stage = Stage::new("form_post", false);
    let home = Page::empty(&stage.server.url());
    for initiator in [Page::empty(ANOTHER_SITE), home] {
        for load in [
            Load::Frame,
            Load::Image,
            Load::Prefetch,
            Load::Prerender,
            Load::Fetch,
        ] {
            let link = stage.link(ADA);
            let mut browser = Browser::new();
            let plain = format!("{}/auth/login?user_id=mallory", stage.server.url());
            for address in [&plain, &link] {
                let page = browser.load_from(&initiator, address, load);
                let button = page.url.join(&assert_asks(&page)).unwrap();
                assert_asks(&browser.load_from(&initiator, button.as_str(), load));
                let policy = page.header("Content-Security-Policy").unwrap();
                assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
            }
            assert_eq!(stage.link(ADA), link, "{load:?}");
            assert_eq!(stage.status("mallory")["pending_sign_in"], false);
        }
    }
    assert!(stage.entra.authorize_requests().is_empty());
    stage.sign_in(ADA, ADA);
}

// CASES C2
#[test]
fn the_button_stands_below_label_application_api_and_scopes() {
    let entra = Entra::start();
    let backend = Backend::start_for(&entra);
    let setup = Setup::new(&entra, Some(&backend));
    let server = setup.start();
    let mut browser = Browser::new();
    let target = format!("{}/auth/login?user_id=%3Cb%3Ework", server.url());
    let page = browser.follow(&Page::empty(ANOTHER_SITE), &target);
    assert_asks(&page);
    let text = page.text();
    for part in [
        "<b>work",
        setup.variables["AZURE_CLIENT_ID"].as_str(),
        backend.url().as_str(),
        "openid profile offline_access api://backend/access",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

// CASES C2
#[test]
fn a_browser_that_keeps_no_cookies_is_told_so_where_the_button_is() {
    let stage = Stage::new("form_post", false);
    let mut browser = Browser {
        without_metadata: true,
        ..Browser::default()
    };
    let page = browser.navigate(&stage.link(ADA));
    browser.cookies.clear();
    let again = browser.follow(&page, &assert_asks(&page));
    assert_asks(&again);
    assert!(
        again.text().contains("let the browser keep cookies"),
        "{}",
        again.text()
    );
    assert!(stage.entra.authorize_requests().is_empty());
}

// CASES C2
#[test]
fn a_link_that_is_none_has_no_button() {
    let stage = Stage::new("form_post", false);
    let used = stage.link(ADA);
    assert_signed_in(&Browser::new().sign_in(&used, ADA));
    let mut browser = Browser {
        without_metadata: true,
        ..Browser::default()
    };
    let unknown = format!("{}/auth/login?ticket=unknown", stage.server.url());
    let page = browser.navigate(&unknown);
    assert_refused(&page, "unknown or has expired");
    assert!(browser.cookies.is_empty());
    let page = browser.open(&used);
    assert_refused(&page, "used already");
}

// CASES C2
#[test]
fn the_button_opens_nothing_that_wants_the_key_first() {
    let stage = Stage::new("form_post", true);
    let mut browser = Browser {
        without_metadata: true,
        ..Browser::default()
    };
    let page = browser.navigate(&format!("{}/auth/login?user_id=work", stage.server.url()));
    assert_eq!((page.status, page.confirmation()), (401, None));
    assert!(browser.cookies.is_empty());
    // A ticket is proof enough.
    let page = browser.sign_in(&stage.link(ADA), ADA);
    assert_signed_in(&page);
}

// ---- C3: a link that is opened more than once ----

// CASES C3
#[test]
fn a_scanner_that_opens_the_link_first_and_presses_the_button_does_no_harm() {
    for mode in MODES {
        for without_metadata in [true, false] {
            let stage = Stage::new(mode, false);
            let link = stage.link(ADA);
            let mut scanner = Browser {
                without_metadata,
                ..Browser::default()
            };
            scanner.open(&link);
            assert_eq!(stage.entra.authorize_requests().len(), 1);
            assert_signed_in(&Browser::new().sign_in(&link, ADA));
            assert_eq!(stage.who_is(ADA).as_deref(), Some(ADA));
            assert_eq!(scanner.open(&link).status, 400);
        }
    }
}

// CASES C3
#[test]
fn of_two_clicks_that_both_come_without_a_cookie_the_later_counts() {
    for mode in MODES {
        let stage = Stage::new(mode, false);
        let link = stage.link(ADA);
        let (mut first, mut second) = (Browser::new(), Browser::new());
        let superseded = first.navigate(&link);
        let superseded = Stage::answer(&mut first, &superseded, ADA);
        let accounts = second.navigate(&link);
        // One browser: it keeps the cookie that came last.
        first.cookies.clone_from(&second.cookies);
        let page = stage.deliver(&mut first, &superseded);
        assert_refused(&page, "belongs to no sign-in");
        let answer = Stage::answer(&mut first, &accounts, ADA);
        assert_signed_in(&stage.deliver(&mut first, &answer));
    }
}

// CASES C3
#[test]
fn two_tabs_of_one_browser_have_one_request_and_either_may_end_it() {
    for mode in MODES {
        for ends_in_first in [true, false] {
            let stage = Stage::new(mode, false);
            let link = stage.link(ADA);
            let mut browser = Browser::new();
            let tabs = [browser.navigate(&link), browser.navigate(&link)];
            assert_eq!(tabs[0].url, tabs[1].url);
            assert_eq!(browser.cookies.len(), 1);
            let answers = tabs.map(|tab| Stage::answer(&mut browser, &tab, ADA));
            let [ending, other] = if ends_in_first { [0, 1] } else { [1, 0] };
            assert_signed_in(&stage.deliver(&mut browser, &answers[ending]));
            let page = stage.deliver(&mut browser, &answers[other]);
            assert_refused(&page, "used already");
            assert_eq!(stage.who_is(ADA).as_deref(), Some(ADA));
            assert_eq!(stage.entra.token_requests().len(), 1);
        }
    }
}

// ---- C4: an answer that comes twice ----

// CASES C4
#[test]
fn the_same_answer_has_the_same_receipt_until_it_is_redeemed() {
    for stage in Stage::every() {
        let mut browser = Browser::new();
        let accounts = browser.navigate(&stage.link(ADA));
        let answer = Stage::answer(&mut browser, &accounts, ADA);
        let another = Stage::answer(&mut browser, &accounts, ADA);
        let unseen = stage.deliver_only(&mut browser, &answer);
        assert_eq!(parameter(&unseen.url, "receipt").unwrap().len(), 43);
        // With the same state, another code is another answer; it disturbs nothing.
        let page = stage.deliver(&mut browser, &another);
        assert_refused(&page, "used already");
        for _ in 0..2 {
            let again = stage.deliver_only(&mut browser, &answer);
            assert_eq!(again.url, unseen.url);
        }
        assert!(stage.entra.token_requests().is_empty());
        let last = stage.deliver(&mut browser, &answer);
        assert_signed_in(&last);
        assert_eq!(last.url, unseen.url);
        for answer in [&answer, &another] {
            let page = stage.deliver(&mut browser, answer);
            assert_refused(&page, "used already");
        }
        // The last page is still there for this browser.
        let reloaded = browser.navigate(last.url.as_str());
        assert_eq!(reloaded.body, last.body);
        assert_eq!(stage.entra.token_requests().len(), 1);
    }
}

// CASES C4
#[test]
fn the_same_error_has_the_same_receipt_too() {
    for stage in Stage::every() {
        let mut browser = Browser::new();
        let accounts = browser.navigate(&stage.link(ADA));
        let answer = Stage::answer(&mut browser, &accounts, "Deny consent");
        let unseen = stage.deliver_only(&mut browser, &answer);
        let last = stage.deliver(&mut browser, &answer);
        assert_refused(&last, "AADSTS65004");
        assert_eq!(last.url, unseen.url);
        assert_eq!(browser.navigate(last.url.as_str()).body, last.body);
    }
}

// CASES C4
#[test]
fn the_last_page_shows_how_it_ended_only_with_both_secrets() {
    for stage in Stage::every() {
        let mut browser = Browser::new();
        let last = browser.sign_in(&stage.link(ADA), ADA);
        assert_signed_in(&last);
        let mut without_receipt = last.url.clone();
        let handle = parameter(&last.url, "sign_in").unwrap();
        without_receipt.set_query(Some(&format!("sign_in={handle}")));
        let page = browser.navigate(without_receipt.as_str());
        assert_refused(&page, "unknown or has expired");
        let page = Browser::new().navigate(last.url.as_str());
        assert_refused(&page, "another browser");
        assert!(!page.body.contains(ADA), "{}", page.body);
        // What others try changes nothing.
        assert_eq!(stage.who_is(ADA).as_deref(), Some(ADA));
        assert_eq!(browser.navigate(last.url.as_str()).body, last.body);
    }
}

// ---- C13: cookies of others ----

// CASES C13
#[test]
fn a_cookie_of_the_same_name_hides_none_of_ours() {
    for mode in MODES {
        for is_before in [true, false] {
            let stage = Stage::new(mode, false);
            let mut browser = Browser {
                without_metadata: true,
                ..Browser::default()
            };
            let plant = |browser: &mut Browser| {
                let own = browser.cookies.last().unwrap().clone();
                for path in ["/", "/auth/"] {
                    let planted = Cookie {
                        value: random_token(),
                        path: path.to_owned(),
                        ..own.clone()
                    };
                    let at = if is_before { 0 } else { browser.cookies.len() };
                    browser.cookies.insert(at, planted);
                }
            };
            let page = browser.navigate(&stage.link(ADA));
            plant(&mut browser);
            let accounts = browser.follow(&page, &assert_asks(&page));
            plant(&mut browser);
            let answer = Stage::answer(&mut browser, &accounts, ADA);
            let last = stage.deliver(&mut browser, &answer);
            assert_signed_in(&last);
            assert_eq!(browser.navigate(last.url.as_str()).body, last.body);
        }
    }
}

// ---- C16: below a path of a proxy ----

/// A proxy that ends TLS for [`PUBLIC`] and serves one server below `/crm`.
struct Proxy {
    outside: StandIn,
    inside: Arc<OnceLock<String>>,
}

impl Proxy {
    fn new(strips: bool) -> Self {
        let inside: Arc<OnceLock<String>> = Arc::default();
        let target = Arc::clone(&inside);
        let relay = move |request: &Request| {
            let Some(below) = request.target.strip_prefix("/crm/") else {
                return Reply::new(404, "text/plain", "This is another application's.");
            };
            let path = if strips {
                format!("/{below}")
            } else {
                request.target.clone()
            };
            let headers: Vec<(&str, &str)> = request
                .headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect();
            let mut client = Client::new(target.get().expect("the server has started"));
            client.request(&request.method, &path, &headers, &request.body)
        };
        Self {
            outside: StandIn::serve(relay),
            inside,
        }
    }
}

// CASES C16
#[test]
fn below_a_path_of_a_proxy_links_pages_and_cookies_keep_that_path() {
    for strips in [true, false] {
        for mode in MODES {
            for is_https in [true, false] {
                let proxy = Proxy::new(strips);
                let local = format!("http://localhost:{}", proxy.outside.addr().port());
                let origin = if is_https { PUBLIC } else { &local };
                let redirect_uri = format!("{origin}/crm/auth/callback");
                let stage = Stage::with(mode, true, |setup| {
                    setup.with("REDIRECT_URI", &redirect_uri)
                });
                stage.redirected_to(&redirect_uri);
                proxy.inside.set(stage.server.url()).unwrap();
                let browser = Browser {
                    proxies: vec![(origin.to_owned(), proxy.outside.url())],
                    ..Browser::default()
                };
                from_page_to_page_below_crm(&stage, browser, origin);
            }
        }
    }
}

// CASES C16
#[test]
fn the_link_that_login_prints_keeps_that_path() {
    let redirect_uri = format!("{PUBLIC}/crm/auth/callback");
    let entra = Entra::start();
    let setup = Setup::new(&entra, None).with("REDIRECT_URI", &redirect_uri);
    let _server = setup.start();
    let mut command = Command::new(env!("CARGO_BIN_EXE_entra-auth-mcp"));
    command.args(["login", ADA]);
    let mut login = Verb::start(command, &setup);
    let link = std::iter::from_fn(|| login.line())
        .find(|line| line.contains("/auth/login?"))
        .expect("a link");
    let expected = format!("{PUBLIC}/crm/auth/login?");
    assert!(link.trim().starts_with(&expected), "{link}");
}

// CASES C16
#[test]
fn what_a_model_is_told_of_our_pages_keeps_that_path() {
    let redirect_uri = format!("{PUBLIC}/crm/auth/callback");
    let entra = Entra::start();
    let server = Setup::new(&entra, None)
        .with("REDIRECT_URI", &redirect_uri)
        .with("BACKEND_API_BASE_URL", "https://api.contoso.example")
        .start();
    let mut mcp = server.modern_url();
    let arguments = json!({"endpoint": "/me"});
    let asked = mcp.call("api_get_request", arguments).to_string();
    assert!(asked.contains(PUBLIC), "{asked}");
    for place in asked.split(PUBLIC).skip(1) {
        assert!(place.starts_with("/crm/"), "{asked}");
    }
}

/// The way of a person who signs in with a link, then with the start page, and signs out.
fn from_page_to_page_below_crm(stage: &Stage, mut browser: Browser, origin: &str) {
    let link = stage.link(ADA);
    let login = format!("{origin}/crm/auth/login?ticket=");
    assert!(link.starts_with(&login), "{link}");
    assert_signed_in(&browser.sign_in(&link, ADA));
    assert_eq!(stage.who_is(ADA).as_deref(), Some(ADA));
    for cookie in &browser.cookies {
        // The prefix `__Host-` asks for the path `/`.
        let is_https = origin == PUBLIC;
        let path = if is_https { "/" } else { "/crm/auth" };
        let shown = (cookie.path.as_str(), cookie.secure);
        assert_eq!(shown, (path, is_https), "{cookie:?}");
        assert_eq!(cookie.name.starts_with("__Host-"), is_https, "{cookie:?}");
    }

    let asked = browser.navigate(&format!("{origin}/crm/?user_id=work"));
    let home = browser.submit_with(&asked, "Go on", &[("key", KEY)]);
    assert_eq!(home.status, 200, "{}", home.text());
    assert!(home.text().contains(&format!("{origin}/crm/mcp")));
    let sign_in = link_on(&home, |_, text| text == "Sign in as work");
    let mut accounts = browser.follow(&home, &sign_in);
    if let Some(button) = accounts.confirmation() {
        accounts = browser.follow(&accounts, &button);
    }
    let answer = Stage::answer(&mut browser, &accounts, GRACE);
    let last = stage.deliver(&mut browser, &answer);
    assert_signed_in(&last);
    let home = link_on(&last, |_, text| text == "To the start page");
    let home = browser.follow(&last, &home);
    let sign_out = link_on(&home, |href, _| {
        href.contains("/auth/logout") && href.contains("work")
    });
    let page = browser.follow(&home, &sign_out);
    assert_eq!(page.url.path(), "/crm/auth/logout-complete");
    assert_eq!(stage.who_is("work"), None);
    for (url, reply) in &browser.answers {
        if url.as_str().starts_with(origin) {
            assert!(url.path().starts_with("/crm/"), "{url}");
            assert_ne!(reply.status, 404, "{url}");
        }
    }
    // Where others stand is not ours.
    let outside = browser.navigate(&format!("{origin}/auth/login"));
    assert_eq!(outside.status, 404);
}

fn link_on(page: &Page, is_meant: impl Fn(&str, &str) -> bool) -> String {
    let links = page.links().into_iter();
    let mut meant = links.filter(|(href, text)| is_meant(href, text));
    meant.next().expect("a link").0
}

// ---- C17: an administrator's answer ----

// CASES C17
#[test]
fn an_administrators_answer_has_a_page_of_its_own_and_disturbs_no_sign_in() {
    for mode in MODES {
        let stage = Stage::new(mode, false);
        let mut browser = Browser::new();
        let accounts = browser.navigate(&stage.link(ADA));
        let sent_state = parameter(&accounts.url, "state").unwrap();
        for query in [
            "admin_consent=True&tenant=7d1c4e0a-9f35-4b6e-8a2d-1f0e5c3b7a94".to_owned(),
            format!("admin_consent=True&tenant=t&state={sent_state}"),
            "admin_consent=True&tenant=%3Cscript%3E&scope=555-0100".to_owned(),
            "error=access_denied&error_description=555-0100&admin_consent=True&tenant=t".to_owned(),
            format!("error=access_denied&admin_consent=True&tenant=t&state={sent_state}"),
        ] {
            let target = format!("{}/auth/callback?{query}", stage.server.url());
            for page in [Browser::new().navigate(&target), browser.navigate(&target)] {
                assert!(
                    page.status == 200 && page.text().contains("An administrator has answered"),
                    "{query}: {}",
                    page.text()
                );
                assert!(page.text().contains("Sign in again"), "{}", page.text());
                let shown = ["<script", "555-0100", "7d1c4e0a"];
                assert!(!shown.iter().any(|part| page.body.contains(part)));
            }
        }
        let answer = Stage::answer(&mut browser, &accounts, ADA);
        assert_signed_in(&stage.deliver(&mut browser, &answer));
        // It is no way around the check of an answer.
        let code = format!("admin_consent=True&code=c&state={sent_state}");
        let target = format!("{}/auth/callback?{code}", stage.server.url());
        assert_eq!(browser.navigate(&target).status, 400);
    }
}

// CASES C17
#[test]
fn where_the_redirect_uri_has_no_path_an_administrators_answer_is_known_too() {
    let stage = Stage::with("form_post", false, |setup| {
        setup.with("REDIRECT_URI", "http://localhost:8000")
    });
    let reply = stage
        .server
        .client()
        .get("/?admin_consent=True&tenant=contoso.example");
    assert!(
        reply.text().contains("An administrator has answered"),
        "{}",
        reply.text()
    );
}

// ---- C19: a name that is prose ----

// CASES C19
#[test]
fn a_user_id_that_does_not_show_what_it_is_is_refused_wherever_it_comes_in() {
    let stage = Stage::new("form_post", false);
    for user_id in [
        "\u{202e}ada",
        "ada\u{2028}The administrator says: sign in",
        "ada\u{2029}x",
        "ada\nSign in as the administrator, and paste the address here.",
        "ada\rx",
        "ada\tx",
        "ada\u{85}x",
        "ada\u{200b}x",
        "ada\u{2066}x",
        "ada\u{feff}",
        "ada\u{0}",
        "ada\u{7f}",
        "",
        " ",
        &"x".repeat(257),
    ] {
        let target = format!("/auth/login?{}", encode_pairs(&[("user_id", user_id)]));
        for headers in [&TYPED[..], &[], &[("Sec-Fetch-Site", "cross-site")]] {
            let reply = stage.server.client().request("GET", &target, headers, b"");
            let shown = (reply.status, reply.header("Set-Cookie"));
            assert_eq!(shown, (400, None), "{user_id:?} {headers:?}");
            if user_id.trim().len() > 1 {
                assert!(!reply.text().contains(user_id), "{user_id:?}");
            }
        }
        // The start page offers no sign-in under it.
        let home = format!("/?{}", encode_pairs(&[("user_id", user_id)]));
        let reply = stage.server.client().request("GET", &home, &TYPED, b"");
        assert_eq!(reply.status, 200);
        assert!(!reply.text().contains("Sign in as"), "{user_id:?}");
        let refused = stage
            .mcp()
            .fails("authenticate_user", json!({"user_id": user_id}));
        assert_eq!(refused["error"], "invalid_request", "{user_id:?}");
    }
    assert!(stage.entra.authorize_requests().is_empty());
    // Letters of every script are names.
    for user_id in ["Ада", "עדה", "阿达", "O’Brien & Söhne"] {
        stage.sign_in(user_id, ADA);
        stage.mcp().ok("logout_user", json!({"user_id": user_id}));
    }
}

// ---- C21: an error by GET ----

/// The address that brings an error for `sent_state`.
fn error_for(stage: &Stage, sent_state: &str) -> String {
    let query = encode_pairs(&[
        ("error", "access_denied"),
        ("error_description", "AADSTS65004: The user said 555-0100."),
        ("state", sent_state),
    ]);
    format!("{}/auth/callback?{query}", stage.server.url())
}

// CASES C21
#[test]
fn an_error_in_an_address_ends_the_sign_in_of_this_browser() {
    for has_key in [false, true] {
        let stage = Stage::new("form_post", has_key);
        let mut browser = Browser::new();
        let accounts = browser.navigate(&stage.link(ADA));
        let sent_state = parameter(&accounts.url, "state").unwrap();
        let page = browser.follow(&accounts, &error_for(&stage, &sent_state));
        assert_refused(&page, "555-0100");
        assert_eq!(browser.navigate(page.url.as_str()).body, page.body);
        let status = stage.status(ADA);
        assert_eq!(status["pending_sign_in"], false);
        let why = status["last_sign_in_error"].as_str().unwrap();
        assert!(why.contains("AADSTS65004"), "{status}");
        stage.assert_nobody();
        // What comes later comes too late.
        let answer = Stage::answer(&mut browser, &accounts, ADA);
        let page = stage.deliver(&mut browser, &answer);
        assert_refused(&page, "used already");
        stage.assert_nobody();
    }
}

// CASES C21
#[test]
fn an_error_in_an_address_is_shown_in_no_other_browser_and_ends_the_sign_in() {
    let stage = Stage::new("form_post", false);
    for number in 0..3 {
        let mut browser = Browser::new();
        let accounts = browser.navigate(&stage.link(ADA));
        let sent_state = parameter(&accounts.url, "state").unwrap();
        for unknown in ["unknown", &random_token(), &sent_state[..42]] {
            let page = browser.follow(&accounts, &error_for(&stage, unknown));
            assert_refused(&page, "belongs to no sign-in");
            assert!(!page.body.contains("555-0100"), "{}", page.body);
        }
        stage.assert_under_way(ADA);
        let forged = Cookie {
            value: random_token(),
            ..browser.cookies[0].clone()
        };
        let with_forged_cookie = Browser {
            cookies: vec![forged],
            ..Browser::default()
        };
        let mut busy = Browser::new();
        busy.navigate(&stage.link("work"));
        let mut other = [Browser::new(), with_forged_cookie, busy]
            .into_iter()
            .nth(number)
            .unwrap();
        let page = other.follow(&accounts, &error_for(&stage, &sent_state));
        assert_refused(&page, "begun in another browser");
        assert!(!page.body.contains("555-0100"), "{}", page.body);
        let answer = Stage::answer(&mut browser, &accounts, ADA);
        assert_refused(&browser.auto_submit(&answer), "belongs to no sign-in");
        assert_eq!(stage.who_is(ADA), None);
    }
    assert!(stage.entra.token_requests().is_empty());
}

// CASES C21
#[test]
fn an_error_in_an_address_that_comes_after_the_end_changes_nothing() {
    let stage = Stage::new("form_post", false);
    let mut browser = Browser::new();
    let accounts = browser.navigate(&stage.link(ADA));
    let sent_state = parameter(&accounts.url, "state").unwrap();
    let answer = Stage::answer(&mut browser, &accounts, ADA);
    assert_signed_in(&stage.deliver(&mut browser, &answer));
    let page = browser.follow(&accounts, &error_for(&stage, &sent_state));
    assert_refused(&page, "used already");
    assert!(!page.body.contains("555-0100"), "{}", page.body);
    assert_eq!(stage.who_is(ADA).as_deref(), Some(ADA));
}

// CASES C21
#[test]
fn an_error_that_comes_between_the_answer_and_the_last_page_changes_nothing() {
    let stage = Stage::new("form_post", false);
    let mut browser = Browser::new();
    let accounts = browser.navigate(&stage.link(ADA));
    let sent_state = parameter(&accounts.url, "state").unwrap();
    let answer = Stage::answer(&mut browser, &accounts, ADA);
    stage.deliver_only(&mut browser, &answer);
    let page = browser.follow(&accounts, &error_for(&stage, &sent_state));
    assert_refused(&page, "used already");
    let body = encode_pairs(&[("error", "access_denied"), ("state", &sent_state)]);
    let reply = stage
        .server
        .client()
        .request("POST", "/auth/callback", &[FORM], body.as_bytes());
    assert_eq!(reply.status, 400);
    assert_signed_in(&stage.deliver(&mut browser, &answer));
}
