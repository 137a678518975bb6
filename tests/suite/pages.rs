//! The endpoints for browsers and scripts: what they answer, and how the pages are made.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::support::backend::Backend;
use crate::support::browser::{Browser, Page};
use crate::support::encode_pairs;
use crate::support::entra::{self, ADA, Entra, GRACE, TENANT_ID, TokenFailure, User};
use crate::support::http::Reply;
use crate::support::server::{Running, Setup};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use url::Url;

const MARKUP: &str = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'& {body} {version}";

fn start() -> (Entra, Running) {
    let entra = Entra::start();
    let server = Setup::new(&entra, None).start();
    (entra, server)
}

fn of_user(path: &str, user_id: &str) -> String {
    format!("{path}?{}", encode_pairs(&[("user_id", user_id)]))
}

fn sign_in(server: &Running, user_id: &str, username: &str) -> Page {
    let page = Browser::new().sign_in(
        &format!("{}{}", server.url(), of_user("/auth/login", user_id)),
        username,
    );
    assert_eq!(page.status, 200, "{}", page.text());
    page
}

fn get_from(server: &Running, target: &str, site: &str) -> Reply {
    server
        .client()
        .request("GET", target, &[("Sec-Fetch-Site", site)], b"")
}

fn status(server: &Running, user_id: &str) -> Value {
    server
        .client()
        .get(&of_user("/auth/status", user_id))
        .json()
}

/// As a browser shows it.
fn page_of(server: &Running, reply: Reply) -> Page {
    let url = Url::parse(&server.url()).unwrap();
    Page {
        url,
        status: reply.status,
        body: reply.text(),
        headers: reply.headers,
    }
}

fn another_site() -> Page {
    let url = Url::parse("https://evil.example/").unwrap();
    Page {
        url,
        status: 200,
        headers: Vec::new(),
        body: String::new(),
    }
}

/// Every kind of page there is; the names in them are `user_id` and Entra's.
fn every_page(
    entra: &Entra,
    server: &Running,
    user_id: &str,
    username: &str,
) -> BTreeMap<&'static str, Page> {
    let mut pages = BTreeMap::new();
    let login = format!("{}{}", server.url(), of_user("/auth/login", user_id));
    let get = |target: &str| page_of(server, server.client().get(target));
    pages.insert("nobody is signed in", get("/"));
    pages.insert(
        "confirm a sign-in",
        Browser::new().follow(&another_site(), &login),
    );
    pages.insert("an unknown ticket", get("/auth/login?ticket=x"));
    pages.insert("an unknown sign-in", get("/auth/complete?sign_in=x"));
    pages.insert(
        "no code in an address",
        get("/auth/callback?error=no_answer"),
    );
    pages.insert("declined", Browser::new().decline(&login));
    entra.fail_next_token(TokenFailure::Status(503, None));
    pages.insert("Entra is unwell", Browser::new().sign_in(&login, username));
    let mut browser = Browser::new();
    let accounts = browser.navigate(&login);
    let answer = browser.submit(&accounts, username);
    pages.insert("another browser", Browser::new().auto_submit(&answer));
    pages.insert(
        "a wrong path",
        Browser::new().navigate(&format!("{}/nowhere", server.url())),
    );
    pages.insert(
        "the endpoint in a browser",
        Browser::new().navigate(&format!("{}/mcp", server.url())),
    );
    pages.insert("signed in", sign_in(server, user_id, username));
    pages.insert("somebody is signed in", get("/"));
    pages.insert(
        "sign-out led from elsewhere",
        page_of(server, get_from(server, "/auth/logout", "cross-site")),
    );
    pages.insert(
        "signed out",
        Browser::new().navigate(&format!(
            "{}{}",
            server.url(),
            of_user("/auth/logout", user_id)
        )),
    );
    pages.insert("not signed out", get(&of_user("/auth/logout", user_id)));
    pages
}

// ---- How pages are made ----

#[test]
fn every_page_is_complete_html_for_people() {
    let (entra, server) = start();
    for (name, page) in every_page(&entra, &server, ADA, ADA) {
        let html = &page.body;
        assert_eq!(
            page.header("Content-Type"),
            Some("text/html; charset=utf-8"),
            "{name}"
        );
        assert!(
            html.starts_with("<!doctype html>\n<html lang=\"en\">"),
            "{name}: {html}"
        );
        for needed in [
            "<meta charset=\"utf-8\">",
            "name=\"viewport\" content=\"width=device-width",
            "color-scheme",
        ] {
            assert!(html.contains(needed), "{name} has no {needed}");
        }
        for once in ["<title>", "<main>", "</main>", "<h1", "</h1>", "</html>"] {
            assert_eq!(html.matches(once).count(), 1, "{name} has {once} once");
        }
        let title = html
            .split("<title>")
            .nth(1)
            .unwrap()
            .split('<')
            .next()
            .unwrap();
        assert!(!title.trim().is_empty(), "{name}");
        for (href, text) in page.links() {
            assert!(
                !href.is_empty() && !text.is_empty(),
                "{name}: {href:?} {text:?}"
            );
        }
        assert!(
            !html.contains("{body}") && !html.contains("{version}") && !html.contains("{style}"),
            "{name}"
        );
        assert_is_balanced(name, html);
    }
}

/// Every element that is opened is closed, in order.
#[track_caller]
fn assert_is_balanced(name: &str, html: &str) {
    let mut open = Vec::new();
    for tag in html
        .split('<')
        .skip(1)
        .map(|rest| rest.split('>').next().unwrap())
    {
        let element = tag
            .trim_start_matches('/')
            .split_whitespace()
            .next()
            .unwrap();
        match element {
            "!doctype" | "meta" | "br" => {}
            _ if tag.starts_with('/') => assert_eq!(open.pop(), Some(element), "{name}: {html}"),
            _ => open.push(element),
        }
    }
    assert!(open.is_empty(), "{name}: {open:?}");
}

#[test]
fn every_page_stands_under_a_strict_policy() {
    let (entra, server) = start();
    for (name, page) in every_page(&entra, &server, ADA, ADA) {
        let policy = page
            .header("Content-Security-Policy")
            .unwrap_or_else(|| panic!("{name} has no policy"));
        let directives: BTreeMap<&str, &str> = policy
            .split(';')
            .map(|directive| directive.trim().split_once(' ').unwrap())
            .collect();
        let [_, style] = page
            .body
            .split("<style>")
            .collect::<Vec<_>>()
            .try_into()
            .unwrap();
        let style = style.split("</style>").next().unwrap();
        let hash = format!(
            "'sha256-{}'",
            BASE64_STANDARD.encode(Sha256::digest(style.as_bytes()))
        );
        let due = [
            ("default-src", "'none'"),
            ("style-src", hash.as_str()),
            ("base-uri", "'none'"),
            ("form-action", "'none'"),
            ("frame-ancestors", "'none'"),
        ];
        assert_eq!(directives, BTreeMap::from(due), "{name}");
        // Nothing that the policy would have to stop.
        let html = page.body.to_lowercase();
        for never in [
            "<script",
            "<link",
            "<img",
            "<iframe",
            "<form",
            "<svg",
            "style=",
            "javascript:",
            "@import",
            "url(",
        ] {
            assert!(!html.contains(never), "{name} has {never}");
        }
    }
}

#[test]
fn no_answer_is_cached_sniffed_or_tells_where_the_person_came_from() {
    let (entra, server) = start();
    let mut answers: Vec<(String, Page)> = every_page(&entra, &server, ADA, ADA)
        .into_iter()
        .map(|(name, page)| (name.to_owned(), page))
        .collect();
    let mut get = |target: &str| {
        let page = page_of(&server, server.client().get(target));
        answers.push((target.to_owned(), page));
    };
    for target in [
        "/healthz",
        "/auth/status",
        &of_user("/auth/status", ADA),
        "/auth/login",
        "/nowhere",
        "/mcp",
    ] {
        get(target);
    }
    for (name, answer) in answers {
        for (header, value) in [
            ("Referrer-Policy", "no-referrer"),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
        ] {
            assert_eq!(answer.header(header), Some(value), "{header} of {name}");
        }
    }
}

/// WCAG 2.2 §1.4.3: at least 4.5 to 1 for text.
#[test]
fn text_stands_out_in_light_and_dark() {
    let (_entra, server) = start();
    let html = server.client().get("/").text();
    let palettes: Vec<BTreeMap<&str, [f64; 3]>> =
        html.split(":root {").skip(1).map(palette).collect();
    assert_eq!(palettes.len(), 2, "light and dark");
    assert!(html.contains("prefers-color-scheme: dark"));
    for colours in palettes {
        for (text, ground) in [
            ("ink", "card"),
            ("ink", "ground"),
            ("soft", "card"),
            ("soft", "ground"),
            ("link", "card"),
            ("card", "link"), // of a button
            ("good", "card"),
            ("bad", "card"),
        ] {
            let ratio = contrast(colours[text], colours[ground]);
            assert!(ratio >= 4.5, "{text} on {ground}: {ratio:.2}");
        }
    }
}

/// `--name: #rgb; …` up to the closing brace.
fn palette(css: &str) -> BTreeMap<&str, [f64; 3]> {
    let declarations = css.split('}').next().unwrap().split(';');
    let colour = |declaration: &'_ str| -> Option<[f64; 3]> {
        let digits = declaration.trim().strip_prefix('#')?;
        let of_each = digits.len() / 3;
        let channel = |at: usize| {
            let text =
                digits[at * of_each..(at + 1) * of_each].repeat(if of_each == 1 { 2 } else { 1 });
            f64::from(u8::from_str_radix(&text, 16).unwrap()) / 255.0
        };
        Some([0, 1, 2].map(channel))
    };
    declarations
        .filter_map(|declaration| declaration.split_once(':'))
        .filter_map(|(name, value)| Some((name.trim().trim_start_matches("--"), colour(value)?)))
        .collect()
}

fn contrast(a: [f64; 3], b: [f64; 3]) -> f64 {
    let linear = |channel: f64| {
        if channel <= 0.04045 {
            channel / 12.92
        } else {
            ((channel + 0.055) / 1.055).powf(2.4)
        }
    };
    let luminance =
        |[r, g, b]: [f64; 3]| 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
    let (a, b) = (luminance(a) + 0.05, luminance(b) + 0.05);
    a.max(b) / a.min(b)
}

#[test]
fn everything_from_outside_is_escaped() {
    let (entra, server) = start();
    let username = "\"><b>'&@contoso.example";
    entra.set(|settings| {
        settings.users = vec![User::new(entra::ADA_OID, TENANT_ID, username, MARKUP)];
    });
    let pages = every_page(&entra, &server, MARKUP, username);
    for (name, page) in &pages {
        let html = page.body.to_lowercase();
        for never in ["<script", "<img", "<b>", "\"><b"] {
            assert!(!html.contains(never), "{name} has {never}: {}", page.body);
        }
        assert_is_balanced(name, &page.body);
    }
    // It is there, as text.
    for (name, shown) in [
        ("confirm a sign-in", MARKUP),
        ("signed in", MARKUP),
        ("signed in", username),
        ("somebody is signed in", username),
        ("not signed out", MARKUP),
    ] {
        assert!(
            pages[name].text().contains(shown),
            "{name}: {}",
            pages[name].text()
        );
    }
    assert_eq!(
        pages["somebody is signed in"]
            .text()
            .matches(MARKUP)
            .count(),
        2,
        "user_id and display name"
    );
    // And the links carry it whole.
    let hrefs: Vec<String> = pages["somebody is signed in"]
        .links()
        .into_iter()
        .map(|(href, _)| href)
        .collect();
    for path in ["/auth/login", "/auth/logout"] {
        assert!(hrefs.contains(&of_user(path, MARKUP)), "{hrefs:?}");
    }
}

// ---- The start page ----

#[test]
fn the_start_page_explains_what_only_microsofts_page_shows() {
    let (_entra, server) = start();
    let text = Browser::new()
        .navigate(&format!("{}/", server.url()))
        .text();
    let after = text
        .split_once("If Microsoft's page shows an error")
        .unwrap()
        .1;
    for part in [
        "AADSTS50011",
        "http://localhost/auth/callback",
        "AADSTS700016",
        entra::CLIENT_ID,
        "AADSTS90002",
    ] {
        assert!(after.contains(part), "{part}: {text}");
    }
}

#[test]
fn the_start_page_says_who_is_signed_in_and_lets_them_sign_in_and_out() {
    let (_entra, server) = start();
    let mut browser = Browser::new();
    let home_url = format!("{}/", server.url());
    let home = browser.navigate(&home_url);
    assert!(home.text().contains("Nobody"), "{}", home.text());
    let link = |page: &Page, text: &str| {
        let links = page.links();
        links
            .iter()
            .find(|(_, label)| label == text)
            .unwrap_or_else(|| panic!("{text}: {links:?}"))
            .0
            .clone()
    };

    // Sign in.
    let accounts = browser.follow(&home, &link(&home, "Sign in"));
    let answer = browser.submit(&accounts, ADA);
    let done = browser.auto_submit(&answer);
    assert_eq!(done.status, 200, "{}", done.text());
    let home = browser.follow(&done, &link(&done, "To the start page"));
    for shown in [ADA, "Ada Lovelace", "default"] {
        assert!(home.text().contains(shown), "{shown}: {}", home.text());
    }
    // Nobody is signed in as oneself, or as "default".
    let said = format!("{ADA} is signed in.");
    assert!(done.text().contains(&said), "{}", done.text());

    // Sign in again, as somebody else.
    let accounts = browser.follow(&home, &link(&home, "Sign in again"));
    let answer = browser.submit(&accounts, GRACE);
    assert_eq!(browser.auto_submit(&answer).status, 200);
    let home = browser.navigate(&home_url);
    assert!(
        home.text().contains(GRACE) && !home.text().contains(ADA),
        "{}",
        home.text()
    );

    // Sign out.
    let gone = browser.follow(&home, &link(&home, "Sign out"));
    assert_eq!(
        (gone.status, gone.url.path()),
        (200, "/auth/logout-complete")
    );
    assert!(browser.navigate(&home_url).text().contains("Nobody"));
}

#[test]
fn the_start_page_gives_the_clients_configuration() {
    let (_entra, server) = start();
    let page = page_of(&server, server.client().get("/"));
    let mcp_url = format!("{}/mcp", server.url());
    let blocks: Vec<String> = page
        .body
        .split("<pre>")
        .skip(1)
        .map(|rest| unescaped(rest.split("</pre>").next().unwrap()))
        .collect();
    let with = |part: &str| {
        blocks
            .iter()
            .find(|block| block.contains(part))
            .unwrap_or_else(|| panic!("{part}: {blocks:?}"))
    };
    let vscode: Value = serde_json::from_str(with("\"servers\"")).unwrap();
    let (_, server_entry) = vscode["servers"]
        .as_object()
        .unwrap()
        .iter()
        .next()
        .unwrap();
    assert_eq!(server_entry, &json!({"type": "http", "url": mcp_url}));
    let cursor: Value = serde_json::from_str(with("\"mcpServers\"")).unwrap();
    let (_, server_entry) = cursor["mcpServers"]
        .as_object()
        .unwrap()
        .iter()
        .next()
        .unwrap();
    assert_eq!(server_entry, &json!({"url": mcp_url}));
    let claude = with("claude mcp add");
    assert!(
        claude.contains("--transport http") && claude.trim().ends_with(&mcp_url),
        "{claude}"
    );
    for client in ["VS Code", "Claude", "Cursor"] {
        assert!(page.text().contains(client), "{client}");
    }
}

/// The texts of the boxes that a click selects.
fn boxes(page: &Page) -> Vec<String> {
    let after = page.body.split("<pre>").skip(1);
    after
        .map(|rest| unescaped(rest.split("</pre>").next().unwrap()))
        .collect()
}

#[test]
fn the_start_page_says_which_api_tenant_and_scopes_and_what_to_ask() {
    let entra = Entra::start();
    let backend = Backend::start_for(&entra);
    let server = Setup::new(&entra, Some(&backend)).start();
    let page = Browser::new().navigate(&server.url());
    let text = page.text();
    for shown in [
        &format!("API {}", backend.url()),
        &format!("Tenant {TENANT_ID}"),
        "Scopes openid profile offline_access api://backend/access",
        "Who is signed in at company-api?",
    ] {
        assert!(text.contains(shown), "{shown}: {text}");
    }
    // One click selects all of a box, without a script.
    assert!(page.body.contains("user-select: all"));
    assert!(boxes(&page).contains(&format!("{}/mcp", server.url())));
    // The help with errors is folded.
    let (_, help) = page
        .body
        .split_once("Microsoft's page shows an error")
        .unwrap();
    assert!(help.contains("<details>"), "{help}");
    assert!(!page.body.contains("<details open"));
}

#[test]
fn the_start_page_has_a_row_for_each_client_with_the_header_of_a_key_but_not_the_key() {
    const KEY: &str = "0123456789abcdef0123456789abcdef";
    let entra = Entra::start();
    let without = Setup::new(&entra, None).start();
    let with = Setup::new(&entra, None)
        .with("SERVER_ACCESS_KEY", KEY)
        .start();
    let mut browser = Browser::new();
    let form = browser.navigate(&with.url());
    let pages = [
        Browser::new().navigate(&without.url()),
        browser.submit_with(&form, "Go on", &[("key", KEY)]),
    ];
    for (has_key, page) in [false, true].into_iter().zip(&pages) {
        assert_eq!(page.status, 200, "{}", page.text());
        for client in [
            "VS Code",
            "Claude Code",
            "Cursor",
            "Claude Desktop",
            "Codex",
            "Copilot CLI",
            "Gemini CLI",
            "Qwen Code",
            "opencode",
            "MCP Inspector",
        ] {
            let summary = format!("<summary>{client}</summary>");
            assert!(page.body.contains(&summary), "{client}");
        }
        let boxes = boxes(page);
        let has = |part: &str| boxes.iter().any(|text| text.contains(part));
        assert_eq!(
            has("--header 'Authorization: Bearer ${COMPANY_API_KEY}'"),
            has_key
        );
        assert_eq!(has("--bearer-token-env-var COMPANY_API_KEY"), has_key);
        assert_eq!(has("${input:company-api-key}"), has_key);
        assert!(!page.body.contains(KEY));
        for text in &boxes {
            if text.starts_with('{') {
                serde_json::from_str::<Value>(text).unwrap();
            } else {
                // Every user of a machine can read the command lines of its processes.
                assert!(!text.contains("Bearer …"), "{text}");
            }
        }
    }
}

#[test]
fn the_start_page_says_until_when_each_account_is_signed_in() {
    let entra = Entra::start();
    let server = Setup::new(&entra, None).by_the_second().start();
    sign_in(&server, "work", ADA);
    let mut status = status(&server, "work");
    let expires_at = status["expires_at"].take();
    let (date, time) = expires_at.as_str().unwrap().split_once('T').unwrap();
    let page = Browser::new().navigate(&server.url());
    let text = page.text();
    for shown in [
        &format!("expires at {date} {} UTC", &time[..5]),
        "renewed by itself",
        "Clients call this account work.",
    ] {
        assert!(text.contains(shown), "{shown}: {text}");
    }
}

#[test]
fn another_account_is_signed_in_beside_the_first() {
    let (_entra, server) = start();
    sign_in(&server, "default", ADA);
    let mut browser = Browser::new();
    let home = browser.navigate(&server.url());
    let done = sign_in_another(&mut browser, &home, GRACE);
    assert_eq!(done.status, 200, "{}", done.text());
    let home = browser.navigate(&server.url());
    assert!(home.text().contains("Clients call this account account-2."));
    assert_eq!(status(&server, "default")["username"], ADA);
    assert_eq!(status(&server, "account-2")["username"], GRACE);
}

#[test]
fn another_account_gets_a_name_that_no_account_and_no_sign_in_has() {
    let (entra, server) = start();
    sign_in(&server, "account-2", ADA);
    // How that sign-in ended is forgotten by then.
    server.clock.advance(1201);
    entra.advance(1201);
    let home = Browser::new().navigate(&server.url());
    let another = link_named(&home, "Sign in another account");
    // This one is under way as account-3.
    Browser::new().follow(&home, &another);
    let done = sign_in_another(&mut Browser::new(), &home, GRACE);
    assert_eq!(done.status, 200, "{}", done.text());
    assert_eq!(status(&server, "account-2")["username"], ADA);
    assert_eq!(status(&server, "account-4")["username"], GRACE);
}

/// Another site leads there as to any sign-in: the person is asked first.
#[test]
fn a_sign_in_of_another_account_is_confirmed_where_another_site_leads_to_it() {
    let (_entra, server) = start();
    sign_in(&server, "default", ADA);
    let mut browser = Browser::new();
    let link = format!("{}{}", server.url(), of_user("/auth/login", "account-2"));
    let confirm = browser.follow(&another_site(), &link);
    assert_eq!(confirm.status, 200);
    let accounts = browser.follow(&confirm, &link_named(&confirm, "Sign in"));
    let answer = browser.submit(&accounts, GRACE);
    assert_eq!(browser.auto_submit(&answer).status, 200);
    assert_eq!(status(&server, "account-2")["username"], GRACE);
}

/// From `home` to the page that ends it.
fn sign_in_another(browser: &mut Browser, home: &Page, username: &str) -> Page {
    let links = home.links();
    let another = links
        .iter()
        .find(|(_, text)| text == "Sign in another account");
    let (href, _) = another.unwrap_or_else(|| panic!("{links:?}"));
    let accounts = browser.follow(home, href);
    let answer = browser.submit(&accounts, username);
    browser.auto_submit(&answer)
}

#[test]
fn the_same_person_does_not_get_a_second_account() {
    let (_entra, server) = start();
    sign_in(&server, "work", ADA);
    let mut browser = Browser::new();
    let home = browser.navigate(&server.url());
    let refused = sign_in_another(&mut browser, &home, ADA);
    assert_eq!(refused.status, 400);
    let said = format!("{ADA} has an account here already: work. No second one was made.");
    assert!(refused.text().contains(&said), "{}", refused.text());
    let all = server.client().get("/auth/status").json();
    assert_eq!(all["accounts"].as_array().unwrap().len(), 1, "{all}");
    // Another try is another account again.
    let again = link_named(&refused, "Try again");
    let accounts = browser.follow(&refused, &again);
    let answer = browser.submit(&accounts, GRACE);
    assert_eq!(browser.auto_submit(&answer).status, 200);
    assert_eq!(status(&server, "account-2")["username"], GRACE);
}

/// Who gives a person two names has a reason.
#[test]
fn a_client_may_give_a_person_a_second_name() {
    let (_entra, server) = start();
    sign_in(&server, "work", ADA);
    let begun = server
        .modern()
        .ok("authenticate_user", json!({"user_id": ADA}));
    let link = begun["sign_in_url"].as_str().unwrap();
    assert_eq!(Browser::new().sign_in(link, ADA).status, 200);
    for user_id in ["work", ADA] {
        assert_eq!(status(&server, user_id)["username"], ADA);
    }
}

#[test]
fn whose_account_has_ended_can_sign_in_under_another_name() {
    let entra = Entra::start();
    let backend = Backend::start_for(&entra);
    let server = Setup::new(&entra, Some(&backend)).start();
    entra.set(|settings| settings.expires_in = 0);
    sign_in(&server, "work", ADA);
    entra.fail_next_token(TokenFailure::Oauth {
        error: "invalid_grant",
        aadsts: 700_082,
        suberror: Some("bad_token"),
        claims: None,
    });
    let call = json!({"user_id": "work", "endpoint": "/me"});
    server.modern().fails("api_get_request", call);
    assert_eq!(status(&server, "work")["authenticated"], false);
    sign_in(&server, ADA, ADA);
    assert_eq!(status(&server, ADA)["username"], ADA);
}

/// As older versions could store them.
#[test]
fn the_start_page_says_that_two_accounts_are_the_same_person() {
    let entra = Entra::start();
    let setup = Setup::new(&entra, None);
    let server = setup.start();
    sign_in(&server, "default", ADA);
    sign_in(&server, GRACE, GRACE);
    drop(server);
    let mut stored = setup.stored();
    let accounts = stored["accounts"].as_array_mut().unwrap();
    let mut second = accounts
        .iter()
        .find(|account| account["user_id"] == "default")
        .cloned()
        .unwrap();
    second["user_id"] = json!("work");
    accounts.push(second);
    fs::write(setup.token_file(), stored.to_string()).unwrap();
    let server = setup.start();
    let text = Browser::new().navigate(&server.url()).text();
    assert_eq!(
        text.matches("It is the same person as").count(),
        1,
        "{text}"
    );
    assert!(text.contains("It is the same person as default."), "{text}");
    // Each of them can sign in again.
    for user_id in ["default", "work"] {
        sign_in(&server, user_id, ADA);
    }
}

fn link_named(page: &Page, name: &str) -> String {
    let links = page.links();
    let link = links.iter().find(|(_, text)| text == name);
    link.unwrap_or_else(|| panic!("{name}: {links:?}"))
        .0
        .clone()
}

#[test]
fn a_sign_in_that_failed_can_be_tried_again_for_the_same_account() {
    let (entra, server) = start();
    let login = format!("{}{}", server.url(), of_user("/auth/login", "work"));
    for failure in [
        TokenFailure::Status(503, None),
        TokenFailure::Status(500, None),
    ] {
        let mut browser = Browser::new();
        entra.fail_next_token(failure);
        let failed = browser.sign_in(&login, ADA);
        assert_eq!(failed.status, 400);
        let again = link_named(&failed, "Try again");
        assert_eq!(again, of_user("/auth/login", "work"));
        let accounts = browser.follow(&failed, &again);
        let answer = browser.submit(&accounts, ADA);
        assert_eq!(browser.auto_submit(&answer).status, 200);
    }
    let declined = Browser::new().decline(&login);
    assert_eq!(
        link_named(&declined, "Try again"),
        of_user("/auth/login", "work")
    );
}

#[test]
fn a_sign_in_that_would_fail_again_is_not_offered_again() {
    let (entra, server) = start();
    entra.fail_next_token(TokenFailure::Oauth {
        error: "invalid_client",
        aadsts: 7_000_218,
        suberror: None,
        claims: None,
    });
    let login = format!("{}{}", server.url(), of_user("/auth/login", "work"));
    let failed = Browser::new().sign_in(&login, ADA);
    assert_eq!(failed.status, 400);
    let links = failed.links();
    assert!(
        links.iter().all(|(_, text)| text != "Try again"),
        "{links:?}"
    );
}

#[test]
fn what_is_no_answer_of_entra_is_said_to_be_none() {
    let entra = Entra::start();
    for mode in ["form_post", "query"] {
        let setup = Setup::new(&entra, None).with("AUTH_RESPONSE_MODE", mode);
        let server = setup.start();
        let page = Browser::new().navigate(&format!("{}/auth/callback?x=1", server.url()));
        assert_eq!(page.status, 400);
        let text = page.text();
        assert!(text.contains("This is not how a sign-in ends"), "{text}");
    }
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let server = Setup::new(&entra, None).start();
    let reply = server
        .client()
        .request("POST", "/auth/callback", &form, b"x=1");
    assert_eq!(reply.status, 400);
    let text = reply.text();
    assert!(text.contains("This is no answer of Entra"), "{text}");
}

/// A click there would sign in under a label that somebody else has chosen.
#[test]
fn nobody_else_is_offered_to_try_again() {
    let (entra, server) = start();
    let pages = every_page(&entra, &server, ADA, ADA);
    for name in [
        "another browser",
        "an unknown ticket",
        "an unknown sign-in",
        "not signed out",
    ] {
        let links = pages[name].links();
        assert!(links.iter().all(|(_, text)| text != "Try again"), "{name}");
    }
    assert!(!link_named(&pages["Entra is unwell"], "Try again").is_empty());
}

#[test]
fn a_person_can_leave_the_confirmation() {
    let (_entra, server) = start();
    let login = format!("{}{}", server.url(), of_user("/auth/login", ADA));
    let mut browser = Browser::new();
    let confirm = browser.follow(&another_site(), &login);
    let home = browser.follow(&confirm, &link_named(&confirm, "It was not me"));
    assert_eq!((home.status, home.url.path()), (200, "/"));
    assert_eq!(status(&server, ADA)["authenticated"], false);
}

#[test]
fn a_wrong_path_and_the_endpoint_are_pages_for_people_and_json_for_programs() {
    let (_entra, server) = start();
    let page = |path: &str, name: &str, value: &str| {
        let reply = server.client().request("GET", path, &[(name, value)], b"");
        (
            reply.status,
            reply.header("Content-Type").map(str::to_owned),
        )
    };
    for (path, status) in [
        ("/nowhere", 404),
        ("/mcp", 405),
        ("/auth/", 404),
        ("/mcp/", 405),
    ] {
        for (name, value) in [
            ("Accept", "text/html,application/xhtml+xml,*/*;q=0.8"),
            ("Sec-Fetch-Dest", "document"),
        ] {
            let html = Some("text/html; charset=utf-8".to_owned());
            assert_eq!(page(path, name, value), (status, html), "{path} {name}");
        }
        for (name, value) in [
            ("Accept", "*/*"),
            ("Accept", "text/event-stream"),
            ("Accept", "application/json, text/event-stream"),
            ("Sec-Fetch-Dest", "empty"),
        ] {
            let json = Some("application/json".to_owned());
            assert_eq!(page(path, name, value), (status, json), "{path} {name}");
        }
    }
    let opened = Browser::new().navigate(&format!("{}/mcp", server.url()));
    assert_eq!(opened.header("Allow"), Some("POST, OPTIONS"));
    assert!(
        opened.text().contains("for MCP clients"),
        "{}",
        opened.text()
    );
    link_named(&opened, "To the start page");
}

fn unescaped(html: &str) -> String {
    html.replace("&quot;", "\"")
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&#39;", "'")
        .replace("&amp;", "&")
}

#[test]
fn a_sign_in_that_starts_under_another_loopback_name_takes_one_more_click() {
    let (_entra, server) = start();
    let mut browser = Browser::new();
    let home = browser.navigate(&format!("http://{}/", server.address()));
    let confirm = browser.follow(&home, "/auth/login");
    let (href, _) = confirm
        .links()
        .into_iter()
        .find(|(_, text)| text == "Sign in")
        .unwrap();
    let accounts = browser.follow(&confirm, &href);
    let answer = browser.submit(&accounts, ADA);
    assert_eq!(browser.auto_submit(&answer).status, 200);
    assert_eq!(status(&server, "default")["username"], ADA);
}

// ---- Signing out ----

#[test]
fn only_the_person_signs_out_and_no_other_site() {
    let (_entra, server) = start();
    for (site, status_code) in [
        ("cross-site", 403),
        ("same-site", 403),
        ("never-heard-of", 403),
        ("same-origin", 303),
        ("none", 303),
    ] {
        sign_in(&server, ADA, ADA);
        let reply = get_from(&server, &of_user("/auth/logout", ADA), site);
        assert_eq!(reply.status, status_code, "{site}");
        let is_out = status_code == 303;
        assert_eq!(
            reply.header("Location"),
            is_out.then_some("/auth/logout-complete"),
            "{site}"
        );
        assert_eq!(status(&server, ADA)["has_token"], !is_out, "{site}");
    }
    // A client that is no browser says nothing of sites.
    sign_in(&server, ADA, ADA);
    assert_eq!(
        server.client().get(&of_user("/auth/logout", ADA)).status,
        303
    );
    assert_eq!(status(&server, ADA)["has_token"], false);
}

#[test]
fn a_page_of_another_site_cannot_sign_out_through_a_browser() {
    let (_entra, server) = start();
    sign_in(&server, ADA, ADA);
    let url = format!("{}{}", server.url(), of_user("/auth/logout", ADA));
    assert_eq!(Browser::new().follow(&another_site(), &url).status, 403);
    let neighbour = Page {
        url: Url::parse("http://localhost:1/").unwrap(),
        ..another_site()
    };
    assert_eq!(Browser::new().follow(&neighbour, &url).status, 403);
    assert_eq!(status(&server, ADA)["authenticated"], true);
    assert_eq!(Browser::new().navigate(&url).status, 200);
    assert_eq!(status(&server, ADA)["authenticated"], false);
}

#[test]
fn the_sign_out_page_says_what_lives_on_and_links_to_microsofts() {
    let (entra, server) = start();
    sign_in(&server, ADA, ADA);
    let mut browser = Browser::new();
    let page = browser.navigate(&format!("{}/auth/logout", server.url()));
    assert!(
        page.text().contains("live on until they expire"),
        "{}",
        page.text()
    );
    let logout = format!("{}/{TENANT_ID}/oauth2/v2.0/logout", entra.authority_host());
    assert!(
        page.links().iter().any(|(href, _)| *href == logout),
        "{:?}",
        page.links()
    );
    assert_eq!(browser.follow(&page, &logout).status, 200);
    assert_eq!(entra.logouts().len(), 1);
    // Nothing is left to sign out, and with several accounts one must be named.
    assert_eq!(server.client().get("/auth/logout").status, 400);
    for user_id in [ADA, GRACE] {
        sign_in(&server, user_id, user_id);
    }
    let several = page_of(&server, server.client().get("/auth/logout"));
    assert!(
        several.status == 400 && several.text().contains(ADA) && several.text().contains(GRACE),
        "{}",
        several.text()
    );
    assert_eq!(status(&server, ADA)["authenticated"], true);
}

// ---- For scripts ----

#[test]
fn the_status_answers_as_the_python_server_does_and_more() {
    let (_entra, server) = start();
    let before = server.client().get(&of_user("/auth/status", ADA));
    assert_eq!(
        (before.status, before.header("Content-Type")),
        (200, Some("application/json"))
    );
    let expected = json!({"user_id": ADA, "authenticated": false, "has_token": false, "pending_sign_in": false});
    assert_eq!(before.json(), expected);

    sign_in(&server, ADA, ADA);
    let mut after = status(&server, ADA);
    let seconds = after["expires_in_seconds"].take().as_u64().unwrap();
    assert!((3890..=3900).contains(&seconds), "{after}");
    for time in ["expires_at", "signed_in_at"] {
        assert!(after[time].take().as_str().unwrap().ends_with('Z'));
    }
    assert!(
        after["scopes"]
            .take()
            .as_array()
            .unwrap()
            .contains(&json!("openid"))
    );
    let expected = json!({
        "user_id": ADA, "authenticated": true, "has_token": true, "username": ADA, "display_name": "Ada Lovelace",
        "tenant_id": TENANT_ID, "can_refresh": true, "pending_sign_in": false,
        "expires_in_seconds": null, "expires_at": null, "signed_in_at": null, "scopes": null,
    });
    assert_eq!(after, expected);

    sign_in(&server, GRACE, GRACE);
    let all = server.client().get("/auth/status").json();
    let user_ids: BTreeSet<&str> = all["accounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|account| account["user_id"].as_str().unwrap())
        .collect();
    assert_eq!(
        (&all["authenticated"], user_ids),
        (&json!(true), BTreeSet::from([ADA, GRACE]))
    );
}

#[test]
fn a_user_id_with_markup_is_json_like_any_other() {
    let (_entra, server) = start();
    sign_in(&server, MARKUP, ADA);
    let status = status(&server, MARKUP);
    assert_eq!(
        (&status["user_id"], &status["authenticated"]),
        (&json!(MARKUP), &json!(true))
    );
}

#[test]
fn the_health_check_is_short_and_needs_nobody() {
    let (entra, server) = start();
    entra.down();
    let reply = server.client().get("/healthz");
    assert_eq!((reply.status, reply.json()), (200, json!({"status": "ok"})));
}

#[test]
fn each_endpoint_knows_its_methods() {
    let (_entra, server) = start();
    for (path, methods) in [
        ("/", "GET, HEAD, OPTIONS"),
        ("/healthz", "GET, HEAD, OPTIONS"),
        ("/auth/status", "GET, HEAD, OPTIONS"),
        ("/auth/logout-complete", "GET, HEAD, OPTIONS"),
        ("/auth/login", "GET, OPTIONS"),
        ("/auth/complete", "GET, OPTIONS"),
        ("/auth/logout", "GET, OPTIONS"),
        ("/auth/callback", "POST, GET, OPTIONS"),
    ] {
        let listed = |allow: &str| {
            allow
                .split(", ")
                .map(str::to_owned)
                .collect::<BTreeSet<_>>()
        };
        for method in ["PUT", "DELETE", "OPTIONS"] {
            let reply = server.client().request(method, path, &[], b"");
            assert_eq!(
                reply.status,
                if method == "OPTIONS" { 204 } else { 405 },
                "{method} {path}"
            );
            assert_eq!(
                listed(reply.header("Allow").unwrap()),
                listed(methods),
                "{method} {path}"
            );
        }
        let head = server.client().request("HEAD", path, &[], b"");
        assert_eq!(
            (head.status == 405, head.body.len()),
            (!methods.contains("HEAD"), 0),
            "{path}"
        );
    }
    // What changes something is not done by asking for the head of it.
    sign_in(&server, ADA, ADA);
    server
        .client()
        .request("HEAD", &of_user("/auth/logout", ADA), &[], b"");
    assert_eq!(status(&server, ADA)["authenticated"], true);
}
