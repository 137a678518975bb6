//! Whose accounts may sign in where, several of them side by side, and the ways to this server that lead
//! through something else.

use std::collections::BTreeSet;
use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{self, Sender};
use std::thread;

use crate::support::backend::Backend;
use crate::support::browser::{Browser, Page, TYPED};
use crate::support::entra::{
    ADA, CONSUMERS_TENANT_ID, EVE, Entra, GRACE, OTHER_TENANT_ID, PAT, REDIRECT_URI, TENANT_ID,
};
use crate::support::http::{Client, Reply, connect};
use crate::support::server::{MEDIA_TYPES, Mcp, Running, Setup};
use crate::support::{encode_pairs, value_of};
use serde_json::{Value, json};
use url::Url;

/// A stand-in for Entra with personal accounts, and one for the API.
fn start() -> (Entra, Backend) {
    let entra = Entra::start();
    entra.set(|settings| settings.consumers_allowed = true);
    let backend = Backend::start_for(&entra);
    (entra, backend)
}

fn link(server: &Running, user_id: &str) -> String {
    let begun = server
        .modern()
        .ok("authenticate_user", json!({"user_id": user_id}));
    begun["sign_in_url"].as_str().unwrap().to_owned()
}

fn sign_in(server: &Running, user_id: &str, username: &str) -> Page {
    Browser::new().sign_in(&link(server, user_id), username)
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

fn user_ids(server: &Running) -> Value {
    server.modern().ok("view_userid", json!({}))["user_ids"].take()
}

fn location(reply: &Reply) -> Url {
    reply
        .header("Location")
        .unwrap_or_else(|| panic!("{} {}", reply.status, reply.text()))
        .parse()
        .unwrap()
}

// ---- Tenants ----

/// The setting, and whose tokens are good: of the tenant, of another organization's, of a personal account.
const TENANTS: [(&str, [bool; 3]); 6] = [
    ("common", [true, true, true]),
    ("organizations", [true, true, false]),
    ("consumers", [false, false, true]),
    (CONSUMERS_TENANT_ID, [false, false, true]),
    (TENANT_ID, [true, false, false]),
    // Which organization it is, Entra alone knows.
    ("contoso.example", [true, true, false]),
];

#[test]
fn the_tenant_decides_whose_tokens_are_good() {
    let (entra, _backend) = start();
    for (tenant, good) in TENANTS {
        let server = Setup::new(&entra, None)
            .with("AZURE_TENANT_ID", tenant)
            .start();
        let own = if good[0] { ADA } else { PAT };
        for (tid, is_good) in [TENANT_ID, OTHER_TENANT_ID, CONSUMERS_TENANT_ID]
            .into_iter()
            .zip(good)
        {
            let issuer = format!("{}/{tid}/v2.0", entra.authority_host());
            entra.id_token_tamper(move |claims| {
                claims["tid"] = json!(tid);
                claims["iss"] = json!(issuer);
            });
            let page = sign_in(&server, tid, own);
            let is_stored = user_ids(&server).as_array().unwrap().contains(&json!(tid));
            assert_eq!(is_stored, is_good, "{tenant} {tid}: {}", page.text());
            if !is_good {
                assert!(
                    page.status == 400 && page.text().contains("(tid)"),
                    "{tenant} {tid}: {}",
                    page.text()
                );
            }
        }
    }
}

#[test]
fn in_no_tenant_is_an_issuer_taken_that_is_not_the_persons_own() {
    let (entra, _backend) = start();
    let host = entra.authority_host();
    for (tenant, good) in TENANTS {
        let (own, tid) = if good[0] {
            (ADA, TENANT_ID)
        } else {
            (PAT, CONSUMERS_TENANT_ID)
        };
        let server = Setup::new(&entra, None)
            .with("AZURE_TENANT_ID", tenant)
            .start();
        let right = (tid, format!("{host}/{tid}/v2.0"));
        let wrong = [
            (tid, format!("{host}/{OTHER_TENANT_ID}/v2.0")),
            (tid, format!("{host}/{tenant}/v2.0")),
            (tid, format!("{host}/{tid}/v2.0/")),
            (tid, format!("{host}/{tid}/v1.0")),
            (tid, format!("{host}/{{tenantid}}/v2.0")),
            (tid, format!("https://sts.windows.net/{tid}/")),
            (tid, format!("https://evil.example/{tid}/v2.0")),
            (tenant, format!("{host}/{tenant}/v2.0")),
            ("{tenantid}", format!("{host}/{{tenantid}}/v2.0")),
            ("", format!("{host}//v2.0")),
            ("..", format!("{host}/../v2.0")),
        ];
        // A tenant that is a GUID is named by its issuer.
        for (wrong_tid, wrong_issuer) in wrong.into_iter().filter(|wrong| *wrong != right) {
            let issuer = wrong_issuer.clone();
            entra.id_token_tamper(move |claims| {
                claims["tid"] = json!(wrong_tid);
                claims["iss"] = json!(issuer);
            });
            let page = sign_in(&server, "work", own);
            assert!(
                page.status == 400 && page.text().contains("did not fit"),
                "{tenant} {wrong_issuer}: {}",
                page.text()
            );
        }
        assert_eq!(user_ids(&server), json!([]));
        entra.heal();
        assert_signed_in(&sign_in(&server, "work", own));
    }
}

#[test]
fn whom_entra_does_not_let_in_learns_it_there_and_nothing_is_stored() {
    let (entra, _backend) = start();
    for (tenant, refused) in [
        ("organizations", PAT),
        ("consumers", ADA),
        (TENANT_ID, EVE),
        (TENANT_ID, PAT),
        ("contoso.example", EVE),
    ] {
        let server = Setup::new(&entra, None)
            .with("AZURE_TENANT_ID", tenant)
            .start();
        let page = sign_in(&server, refused, refused);
        assert!(
            page.text().contains("AADSTS50020"),
            "{tenant}: {}",
            page.text()
        );
        assert_eq!(user_ids(&server), json!([]));
    }
}

#[test]
fn accounts_of_several_tenants_each_keep_and_use_their_own_tokens() {
    for (tenant, people) in [
        ("common", &[ADA, GRACE, EVE, PAT] as &[&str]),
        ("organizations", &[ADA, GRACE, EVE]),
    ] {
        let (entra, backend) = start();
        entra.expires_in(60); // so that every call wants a refresh
        let server = Setup::new(&entra, Some(&backend))
            .with("AZURE_TENANT_ID", tenant)
            .start();
        for person in people {
            assert_signed_in(&sign_in(&server, person, person));
        }
        assert_eq!(user_ids(&server).as_array().unwrap().len(), people.len());
        let mut mcp = server.modern();
        let mut tokens = BTreeSet::new();
        for round in 1..=2 {
            for person in people {
                let answer = mcp.ok(
                    "api_get_request",
                    json!({"endpoint": "/me", "user_id": person}),
                );
                assert_eq!(answer["data"]["userPrincipalName"], *person);
                tokens.insert(backend.last().header("Authorization").unwrap().to_owned());
            }
            assert_eq!(
                (entra.refreshes(), tokens.len()),
                (round * people.len(), round * people.len())
            );
        }
        assert_eq!(entra.reused_refresh_tokens(), 0);
        assert_eq!(
            mcp.fails("api_get_request", json!({"endpoint": "/me"}))["error"],
            "invalid_request",
            "whose?"
        );
        // One of them goes; the others stay.
        mcp.ok("logout_user", json!({"user_id": EVE}));
        assert_eq!(
            mcp.fails(
                "api_get_request",
                json!({"endpoint": "/me", "user_id": EVE})
            )["error"],
            "sign_in_required"
        );
        assert_eq!(
            mcp.ok(
                "api_get_request",
                json!({"endpoint": "/me", "user_id": ADA})
            )["data"]["userPrincipalName"],
            ADA
        );
    }
}

#[test]
fn the_cloud_decides_where_people_are_sent() {
    let (entra, _backend) = start();
    for (cloud, host) in [
        ("public", "https://login.microsoftonline.com"),
        ("usgov", "https://login.microsoftonline.us"),
        ("china", "https://login.partner.microsoftonline.cn"),
        ("france", "https://login.sovcloud-identity.fr"),
        ("germany", "https://login.sovcloud-identity.de"),
        ("singapore", "https://login.sovcloud-identity.sg"),
    ] {
        let mut setup = Setup::new(&entra, None).with("AZURE_CLOUD", cloud);
        setup.variables.remove("AZURE_AUTHORITY_HOST");
        let server = setup.start();
        assert_eq!(
            server.modern().ok("get_server_info", json!({}))["authority"],
            host
        );
        let sent_to = server.client().request("GET", "/auth/login", &TYPED, b"");
        let sent_to = location(&sent_to);
        assert_eq!(
            sent_to.as_str().split('?').next().unwrap(),
            format!("{host}/{TENANT_ID}/oauth2/v2.0/authorize")
        );
        let signed_out = server.client().get("/auth/logout-complete").text();
        assert!(
            signed_out.contains(&format!("{host}/{TENANT_ID}/oauth2/v2.0/logout")),
            "{signed_out}"
        );
    }
}

// ---- What Entra is told of the person ----

#[test]
fn the_request_carries_prompt_login_hint_and_domain_hint_as_they_fit() {
    let (entra, _backend) = start();
    for domain_hint in [None, Some("contoso.example"), Some("organizations")] {
        let setup = Setup::new(&entra, None);
        let setup = if let Some(hint) = domain_hint {
            setup.with("DOMAIN_HINT", hint)
        } else {
            setup
        };
        let server = setup.start();
        assert_signed_in(&sign_in(&server, "known", GRACE));
        for (user_id, asked, prompt, login_hint) in [
            (ADA, None, None, Some(ADA)),
            (ADA, Some("login"), Some("login"), Some(ADA)),
            (ADA, Some("consent"), Some("consent"), Some(ADA)),
            (ADA, Some("select_account"), Some("select_account"), None),
            ("new", None, Some("select_account"), None),
            ("new", Some("login"), Some("login"), None),
            ("new", Some("consent"), Some("consent"), None),
            ("new", Some("select_account"), Some("select_account"), None),
            // Whose label it is, is known from the last sign-in.
            ("known", Some("login"), Some("login"), Some(GRACE)),
            ("known", Some("consent"), Some("consent"), Some(GRACE)),
            (
                "known",
                Some("select_account"),
                Some("select_account"),
                None,
            ),
        ] {
            let mut arguments = json!({"user_id": user_id});
            if let Some(asked) = asked {
                arguments["prompt"] = json!(asked);
            }
            let begun = server.modern().ok("authenticate_user", arguments);
            Browser::new().navigate(begun["sign_in_url"].as_str().unwrap());
            let sent = entra.last_authorize();
            let [sent_prompt, sent_login, sent_domain] =
                ["prompt", "login_hint", "domain_hint"].map(|name| value_of(&sent, name));
            assert_eq!(
                (sent_prompt, sent_login, sent_domain),
                (prompt, login_hint, domain_hint),
                "{user_id} {asked:?}"
            );
        }
        // Whoever starts in the browser chooses an account.
        Browser::new().navigate(&format!("{}/auth/login?user_id=known", server.url()));
        let sent = entra.last_authorize();
        let sent = ["prompt", "login_hint"].map(|name| value_of(&sent, name));
        assert_eq!(sent, [Some("select_account"), None]);
    }
}

// ---- Through something else ----

/// Another port that leads to a server, byte for byte.
struct Forwarding {
    port: u16,
    target: Sender<String>,
}

impl Forwarding {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (target, known) = mpsc::channel::<String>();
        thread::spawn(move || {
            let target = known.recv().unwrap();
            listener
                .incoming()
                .map_while(Result::ok)
                .for_each(|client| relay(client, &target));
        });
        Self { port, target }
    }

    fn origin(&self) -> String {
        format!("http://localhost:{}", self.port)
    }
}

fn relay(client: TcpStream, target: &str) {
    let server = connect(target).unwrap();
    for (mut from, mut to) in [
        (client.try_clone().unwrap(), server.try_clone().unwrap()),
        (server, client),
    ] {
        thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
    }
}

#[test]
fn behind_another_port_everything_goes_by_the_redirect_uri() {
    let (entra, backend) = start();
    let outside = Forwarding::new();
    let origin = outside.origin();
    let redirect_uri = format!("{origin}/auth/callback");
    let server = Setup::new(&entra, Some(&backend))
        .with("REDIRECT_URI", &redirect_uri)
        .start();
    outside.target.send(server.address()).unwrap();
    for mut mcp in [
        Mcp::modern(Client::new(&origin), json!({})),
        server.modern(),
    ] {
        let begun = mcp.ok("authenticate_user", json!({"user_id": ADA}));
        let link = begun["sign_in_url"].as_str().unwrap();
        assert!(
            link.starts_with(&format!("{origin}/auth/login?ticket=")),
            "{link}"
        );
        let mut browser = Browser::new();
        assert_signed_in(&browser.sign_in(link, ADA));
        assert_eq!(
            value_of(&entra.last_authorize(), "redirect_uri"),
            Some(redirect_uri.as_str())
        );
        let ours = browser
            .history
            .iter()
            .filter(|url| !url.starts_with(&entra.authority_host()));
        assert!(
            ours.clone().count() == 3 && ours.clone().all(|url| url.starts_with(&origin)),
            "{:?}",
            browser.history
        );
        let home = browser.navigate(&format!("{origin}/"));
        assert!(
            home.body.contains(&format!("{origin}/mcp")) && !home.body.contains(&server.url()),
            "{}",
            home.body
        );
        assert_eq!(
            mcp.ok("api_get_request", json!({"endpoint": "/me"}))["data"]["userPrincipalName"],
            ADA
        );
        let signed_out = browser.follow(
            &home,
            &format!("/auth/logout?{}", encode_pairs(&[("user_id", ADA)])),
        );
        assert_eq!(
            (signed_out.status, user_ids(&server)),
            (200, json!([])),
            "{}",
            signed_out.text()
        );
    }
    // A browser that comes by the server's own port, under either name, ends at the same place.
    for begun_at in [server.url(), format!("http://{}", server.address())] {
        let page = Browser::new().sign_in(&format!("{begun_at}/auth/login?user_id={ADA}"), ADA);
        assert_signed_in(&page);
        assert_eq!(page.url.origin().ascii_serialization(), origin);
    }
    // A page of ours may ask, one of a neighbour may not.
    let neighbour = format!("http://localhost:{}", outside.port ^ 1);
    for (header, value, status) in [
        ("Origin", origin.as_str(), 200),
        ("Origin", &server.url(), 200),
        ("Origin", &neighbour, 403),
        ("Origin", "http://localhost", 403),
        ("Host", &origin[7..], 200),
        ("Host", &server.address(), 200),
        ("Host", &neighbour[7..], 403),
        ("Host", "localhost", 403),
    ] {
        assert_eq!(
            Client::new(&origin)
                .request("GET", "/healthz", &[(header, value)], b"")
                .status,
            status,
            "{header} {value}"
        );
    }
}

/// A browser and a client behind a reverse proxy that ends TLS, as the server sees them.
#[test]
fn behind_https_links_cookies_and_checks_are_those_of_the_public_host() {
    const ORIGIN: &str = "https://mcp.example";
    const HOST: (&str, &str) = ("Host", "mcp.example");
    let (entra, _backend) = start();
    let redirect_uri = format!("{ORIGIN}/auth/callback");
    entra.set(|settings| settings.redirect_uris.push(redirect_uri.clone()));
    let server = Setup::new(&entra, None)
        .with("REDIRECT_URI", &redirect_uri)
        .start();
    let link: Url = link(&server, ADA).parse().unwrap();
    assert_eq!(
        (link.origin().ascii_serialization(), link.path()),
        (ORIGIN.to_owned(), "/auth/login")
    );
    let mut http = server.client();
    let asked = http.request(
        "GET",
        &format!("/auth/login?{}", link.query().unwrap()),
        &[HOST],
        b"",
    );
    let confirmation = asked.header("Set-Cookie").unwrap();
    assert!(confirmation.ends_with("; Secure"), "{confirmation}");
    let confirmation = confirmation.split(';').next().unwrap().to_owned();
    let asked = Page {
        url: link.clone(),
        status: asked.status,
        body: asked.text(),
        headers: asked.headers,
    };
    let sent_on = http.request(
        "GET",
        &asked.confirmation().unwrap(),
        &[HOST, ("Cookie", &confirmation)],
        b"",
    );
    let cookie = sent_on.header("Set-Cookie").unwrap();
    assert!(cookie.ends_with("; Secure"), "{cookie}");
    let (mut browser, cookie) = (Browser::new(), cookie.split(';').next().unwrap());
    let accounts = browser.navigate(location(&sent_on).as_str());
    let answer = browser.submit(&accounts, ADA).form();
    assert_eq!(answer.action, redirect_uri);
    let fields = [
        HOST,
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("Origin", "https://login.example"),
    ];
    let back = http.request(
        "POST",
        "/auth/callback",
        &fields,
        encode_pairs(&answer.fields).as_bytes(),
    );
    let completion = back.header("Location").unwrap().to_owned();
    assert!(
        (back.status, &completion[..1]) == (303, "/"),
        "{completion}"
    );
    let page = http.request("GET", &completion, &[HOST, ("Cookie", cookie)], b"");
    assert!(
        page.status == 200 && page.text().contains("You are signed in"),
        "{}",
        page.text()
    );
    assert!(
        http.request("GET", "/", &[HOST], b"")
            .text()
            .contains(&format!("{ORIGIN}/mcp"))
    );
    for (header, value, status) in [
        ("Host", "mcp.example:443", 200),
        ("Host", "MCP.EXAMPLE", 200),
        ("Host", "mcp.example:8443", 403),
        ("Host", "mcp.example.evil.example", 403),
        ("Origin", ORIGIN, 200),
        ("Origin", "http://mcp.example", 403),
        ("Origin", "https://mcp.example:8443", 403),
        ("Origin", "https://evil.example", 403),
    ] {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}).to_string();
        let mut headers = [MEDIA_TYPES.as_slice(), &[(header, value)]].concat();
        if header == "Origin" {
            headers.push(HOST);
        }
        assert_eq!(
            http.request("POST", "/mcp", &headers, body.as_bytes())
                .status,
            status,
            "{header} {value}"
        );
    }
}

/// Nobody binds it here: whoever forwards it sends a `Host` without a port.
#[test]
fn on_port_80_too_a_browser_is_sent_on_to_the_name_that_its_cookie_is_for() {
    let (entra, _backend) = start();
    let setup = Setup::new(&entra, None)
        .with("ALLOWED_HOSTS", "127.0.0.1,[::1]")
        .with("REDIRECT_URI", REDIRECT_URI);
    let server = setup.start();
    for host in ["127.0.0.1", "127.0.0.1:80", "[::1]", "[::1]:80"] {
        let reply =
            server
                .client()
                .request("GET", "/auth/login?user_id=a%26b", &[("Host", host)], b"");
        assert_eq!(
            location(&reply).as_str(),
            "http://localhost/auth/login?user_id=a%26b",
            "{host}"
        );
    }
    for host in ["localhost", "localhost:80", "LOCALHOST"] {
        let headers = [TYPED.as_slice(), &[("Host", host)]].concat();
        let reply = server.client().request("GET", "/auth/login", &headers, b"");
        assert_eq!(
            location(&reply).origin().ascii_serialization(),
            entra.authority_host(),
            "{host}"
        );
    }
}
