//! Which methods and endpoints may be called: what patterns fit, that no way of writing a path dodges a denial,
//! and that nothing odd is allowed.

use std::collections::BTreeSet;

use crate::support::backend::Backend;
use crate::support::entra::{ADA, Entra};
use crate::support::http::Reply;
use crate::support::random::Random;
use crate::support::server::{Mcp, Running, Setup};
use entra_auth_mcp::api::policy::{METHODS, Pattern, Policy};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

fn patterns(list: &str) -> Vec<Pattern> {
    list.split_whitespace()
        .map(|text| Pattern::parse(text).unwrap())
        .collect()
}

fn policy(allowed: &str, denied: &str) -> Policy {
    Policy {
        methods: METHODS.to_vec(),
        allowed: patterns(allowed),
        denied: patterns(denied),
        ..Policy::default()
    }
}

#[track_caller]
fn assert_allowed(policy: &Policy, paths: &[&str]) {
    for path in paths {
        assert!(
            policy.check_path(path).is_ok(),
            "{path:?} is refused by {policy:?}"
        );
    }
}

#[track_caller]
fn assert_refused(policy: &Policy, paths: &[&str], setting: &str) {
    for path in paths {
        let Err(failure) = policy.check_path(path) else {
            panic!("{path:?} is allowed by {policy:?}")
        };
        assert!(
            failure.message.contains(setting) && failure.kind.code() == "refused",
            "{failure:?}"
        );
    }
}

// ---- Patterns ----

#[test]
fn a_star_stands_for_a_part_of_one_segment_and_two_for_any_number_of_segments() {
    for (pattern, fitting, other) in [
        ("/", &["", "/"][..], &["a", "a/b"][..]),
        (
            "/me",
            &["me", "me/"],
            &["", "m", "mex", "xme", "me/x", "x/me"],
        ),
        ("me/", &["me", "me/"], &["", "me/x"]),
        (
            "/users/*",
            &["users/a", "users/a-b.c", "users/ada@x.example"],
            &["users", "users/", "users/a/b", "user/a"],
        ),
        (
            "/users/*/photo",
            &["users/a/photo"],
            &["users/photo", "users/a/b/photo", "users/a/photo/x"],
        ),
        (
            "/a*c",
            &["ac", "abc", "abcabc", "acc"],
            &["a", "ab", "xac", "a/c", "acx"],
        ),
        (
            "/a*b*c",
            &["abc", "aXbYc", "abbcc", "abcbc"],
            &["acb", "ab", "bc", "acbx"],
        ),
        ("/*", &["a"], &["a/b"]),
        ("/**", &["", "a", "a/b/c"], &[]),
        ("**", &["", "a", "a/b/c"], &[]),
        (
            "/tasks/**",
            &["tasks", "tasks/", "tasks/1", "tasks/1/parts/2"],
            &["task", "tasksx", "x/tasks", ""],
        ),
        (
            "/**/photo",
            &["photo", "a/photo", "a/b/photo", "photo/photo"],
            &["photos", "photo/a", "a/photox"],
        ),
        (
            "/a/**/b/**/c",
            &["a/b/c", "a/x/b/y/z/c", "a/b/b/c/c"],
            &["a/c", "a/b", "a/c/b", "b/c", "a/b/cx"],
        ),
        (
            "/Users('*')/x",
            &["Users('ada')/x"],
            &["users('ada')/x", "Users()/x", "Users('ada')"],
        ),
        ("/grüße", &["gr%C3%BC%C3%9Fe"], &["gru", "gr%C3%BC"]),
        (
            "/drive/root:/*:/content",
            &["drive/root:/a%20b.txt:/content", "drive/root%3A/a:/content"],
            &["drive/root:/a/b:/content", "drive/root:/a:/contents"],
        ),
        (
            "/users/ada@x.example",
            &["users/ada@x.example", "users/ada%40x.example"],
            &["users/ada"],
        ),
    ] {
        let allowing = policy(pattern, "");
        assert_allowed(&allowing, fitting);
        assert_refused(&allowing, other, "ALLOWED_ENDPOINTS");
        let denying = policy("", pattern);
        assert_refused(&denying, fitting, "DENIED_ENDPOINTS");
    }
    // A denial does not reach further than it says.
    assert_allowed(
        &policy("", "/users/*"),
        &["users", "users/a/b", "user/a", "usersx/a"],
    );
    assert_allowed(&policy("", "/admin"), &["", "admins", "admin/x", "x/admin"]);
    assert_allowed(
        &policy("", "/admin/**"),
        &["", "admins", "x/admin", "x/admin/y"],
    );
}

#[test]
fn a_denial_wins_and_without_patterns_everything_is_allowed() {
    assert_allowed(
        &policy("", ""),
        &[
            "",
            "a",
            "a//b",
            "%2525252525252525252525252561",
            "a;b",
            "a.",
            "%EF%BD%81",
        ],
    );
    let both = policy("/users/** /me", "/users/*/secrets/** /me");
    assert_allowed(&both, &["users", "users/a", "users/a/photo"]);
    assert_refused(
        &both,
        &["users/a/secrets", "users/a/secrets/1", "me"],
        "DENIED_ENDPOINTS",
    );
    assert_refused(&both, &["tasks", ""], "ALLOWED_ENDPOINTS");
}

#[test]
fn many_wildcards_do_not_take_for_ever() {
    let greedy = format!("/{}b", "a*".repeat(60));
    let deep = format!("/{}c", "**/a/".repeat(60));
    let policy = policy(&format!("{greedy} {deep}"), "");
    assert_refused(
        &policy,
        &[&"a".repeat(8000), &"a/".repeat(4000)],
        "ALLOWED_ENDPOINTS",
    );
}

// ---- Dodging ----

/// As a lenient server could understand each of them, it is `/admin/keys`. They differ from it by their case
/// alone,
const OTHER_CASES: &[&str] = &[
    "ADMIN/keys",
    "Admin/KEYS",
    // and these by characters whose other case is ASCII: dotless and dotted i, the long s.
    "adm%C4%B1n/keys",
    "adm%C4%B0n/keys",
    "admin/key%C5%BF",
];

/// and these in ways that make more than one reading possible.
const AMBIGUOUS: &[&str] = &[
    // Empty segments.
    "admin/keys//",
    "admin//keys",
    "admin///keys",
    "/admin/keys",
    "//admin/keys",
    // Encoded without need, once or more.
    "%61dmin/keys",
    "%41dmin/keys",
    "%2561dmin/keys",
    "%252561dmin/keys",
    "%%361dmin/keys",
    "adm%69n/k%65ys",
    "admin/keys%2e",
    "admin/keys%2e%20.",
    // Encoded or other separators.
    "admin%2fkeys",
    "admin%2Fkeys",
    "admin%252fkeys",
    "admin%25252Fkeys",
    "admin%2f%2fkeys",
    "%2fadmin/keys",
    "admin/keys%2f",
    "admin/keys%252F",
    "admin\\keys",
    "admin%5ckeys",
    "admin%5Ckeys",
    "admin%255ckeys",
    "admin%5c%5ckeys%5c",
    // Path parameters.
    "admin;x/keys",
    "admin/keys;x",
    "admin/keys;x=1;y=2",
    "admin;/keys;",
    "admin;x=%2f/keys",
    "admin;%2fx/keys",
    "admin%3bx/keys",
    "admin%253Bx/keys",
    "admin/keys%3bx%2fy",
    "admin/;x/keys",
    ";x/admin/keys",
    "admin/keys/;x",
    // The end of a path.
    "admin/keys%3fx",
    "admin/keys%3Fx/y",
    "admin/keys%253fx/y/z",
    "admin/keys%23x",
    "admin/keys%2523x/y",
    // White space and dots that are dropped.
    "admin/keys%20",
    "admin%20/keys",
    "admin/%20keys",
    "admin/keys%2520",
    "admin/keys+",
    "admin/+keys",
    "admin/keys%2B",
    "admin/keys.",
    "admin./keys",
    "admin/keys..%20",
    "admin/keys%c2%a0",
    "admin/keys%E3%80%80",
    // Streams of NTFS.
    "admin/keys::$DATA",
    "admin/keys::%24DATA",
    "admin/keys%3A%3a$DATA",
    "admin::$INDEX_ALLOCATION/keys",
    "admin:$I30:$INDEX_ALLOCATION/keys",
    // Characters that others are made of: the Kelvin sign, full width, small, mathematical and circled letters,
    // a superscript, a ligature, a letter and its mark, a slash of another kind.
    "admin/%E2%84%AAeys",
    "%EF%BD%81dmin/keys",
    "admin%EF%BC%8Fkeys",
    "admin%E2%88%95keys",
    "admin%E2%88%96keys",
    "admin%C2%A5keys",
    "admin%E2%82%A9keys",
    "admin%EF%B9%A8keys",
    "%F0%9D%90%9Admin/keys",
    "%E2%93%90dmin/keys",
    "%C2%AAdmin/keys",
    "admin/%E1%B5%8Feys",
    "admin/keys%EF%BC%8E",
    "admin/keys%E2%80%A6",
    "admin/keys%EF%BC%9Bx",
    "admin/keys%CD%BEx",
    "adm%C4%B1%CC%87n/keys",
    // Characters that are not seen.
    "ad%E2%80%8Bmin/keys",
    "admin/keys%EF%BB%BF",
    "ad%C2%ADmin/keys",
    "ad%EF%B8%8Fmin/keys",
    "ad%E2%80%AEmin/keys",
    "admin/keys%00",
    "admin/keys%0a",
    "ad%C2%85min/keys",
    // What is no UTF-8 or no encoding.
    "%c1%a1dmin/keys",
    "admin%c0%afkeys",
    "admin/keys%",
    "%u0061dmin/keys",
    "admin%u002fkeys",
    // Several at once.
    "/%2561DMIN;a=b//%2e;x%5ckeys;y%2f%3fz",
];

#[test]
fn no_way_of_writing_a_path_dodges_a_denial() {
    for pattern in [
        "/admin/keys",
        "/Admin/Keys/",
        "/admin/**",
        "/*/keys",
        "/**/keys",
        "/adm*/k*s",
        "/*/*",
    ] {
        let denying = policy("", pattern);
        assert_refused(&denying, &["admin/keys", "admin/keys/"], "DENIED_ENDPOINTS");
        assert_refused(&denying, OTHER_CASES, "DENIED_ENDPOINTS");
        assert_refused(&denying, AMBIGUOUS, "more than one way");
    }
    // Allowed is what stands there alone, even where a pattern would be wide enough for the oddity.
    let allowing = policy("/admin/keys", "");
    assert_allowed(&allowing, &["admin/keys", "admin/keys/"]);
    assert_refused(&allowing, OTHER_CASES, "ALLOWED_ENDPOINTS");
    for allowed in ["/admin/keys", "/admin/**", "/**"] {
        assert_refused(&policy(allowed, ""), AMBIGUOUS, "more than one way");
    }
}

#[test]
fn a_path_that_could_be_read_as_another_is_refused_with_what_to_do() {
    let policy = policy("/users/**", "");
    for odd in [
        "users/a%2fb/photo",
        "users/a%5cb/photo",
        "users//photo",
        "users/;x/photo",
        "users/%20/photo",
        "users/a%3fx/photo",
        "users/a%23x/photo",
        "users/a/%70hoto",
        "users/100%",
    ] {
        let failure = policy.check_path(odd).unwrap_err();
        assert!(failure.message.contains(odd), "{failure:?}");
        assert!(failure.message.contains("more than one way"), "{failure:?}");
        assert!(failure.hint.contains("plain form"), "{failure:?}");
    }
}

#[test]
fn what_can_be_read_in_one_way_is_allowed_though_it_needs_encoding() {
    let plain = [
        "root:/a%20b.txt:/content",
        "root:/Q3%20%E2%80%93%20Report.docx:/content",
        "users/ada%40x.example/photo",
        "users/a+b/photo",
        "users/%C3%A9/photo",
        "Users(%27ada%27)/x",
        "Users('O''Neil')/$value",
        "users/a%22b%7Bc%7D",
        ".well-known/x..y/...z",
        "%E6%97%A5%E6%9C%AC/%F0%9F%8E%89",
        "stra%C3%9Fe/%D1%88/%D7%90/%D8%A7",
    ];
    assert_allowed(&policy("/**", "/other/**"), &plain);
}

/// An ASCII character in full width, encoded.
fn in_full_width(c: char) -> String {
    let wide = char::from_u32(u32::from(c) + 0xfee0).unwrap();
    utf8_percent_encode(&wide.to_string(), NON_ALPHANUMERIC).to_string()
}

impl Random {
    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    /// `path` in another writing, of the kinds that servers undo.
    fn disguised(&mut self, path: &str) -> String {
        let mut disguised = String::new();
        for c in path.chars() {
            match c {
                '/' => {
                    disguised += [
                        "/", "//", "/;/", ";x=1/", "%2f", "%5C", "%252F", "%20/", "./",
                    ][self.below(9)];
                }
                c => {
                    let c = if self.one_in(3) {
                        c.to_ascii_uppercase()
                    } else {
                        c
                    };
                    match self.below(7) {
                        0 => disguised.extend(["%", &format!("{:02x}", u32::from(c))]),
                        1 => disguised.extend(["%25", &format!("{:02X}", u32::from(c))]),
                        2 => disguised += &in_full_width(c),
                        _ => disguised.push(c),
                    }
                }
            }
        }
        let ends = [
            "",
            "/",
            ";",
            "%3b",
            "%3Fx=/y",
            "%23",
            ".",
            "%20",
            "%EF%BC%8F",
            "::$DATA",
        ];
        disguised + ends[self.below(ends.len())]
    }
}

#[test]
fn no_random_writing_of_a_path_dodges_a_denial() {
    let (mut random, denying) = (Random::new(0x5eed), policy("", "/admin/keys/**"));
    for _ in 0..2000 {
        let path = random.disguised("admin/keys/1");
        assert!(denying.check_path(&path).is_err(), "{path:?} is allowed");
    }
}

#[test]
fn the_matcher_agrees_with_one_that_tries_everything() {
    fn tries(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => (0..=text.len()).any(|taken| tries(rest, &text[taken..])),
            ([p, rest @ ..], [t, others @ ..]) => p == t && tries(rest, others),
            _ => false,
        }
    }
    let mut random = Random::new(7);
    let mut seen = BTreeSet::new();
    for _ in 0..20_000 {
        let mut letters = |choices: &str, most: usize| -> String {
            (0..random.below(most))
                .map(|_| char::from(choices.as_bytes()[random.below(choices.len())]))
                .collect()
        };
        let (pattern, text) = (letters("ab*", 7), letters("ab", 9));
        if pattern.is_empty() || pattern.contains("**") {
            continue;
        }
        let fits = policy("", &pattern).check_path(&text).is_err();
        assert_eq!(
            fits,
            tries(pattern.as_bytes(), text.as_bytes()),
            "{pattern} {text}"
        );
        // The same of segments: each letter is one.
        let of_segments = |text: &str| {
            text.split("")
                .collect::<Vec<_>>()
                .join("/")
                .replace('*', "**")
        };
        let segments = of_segments(&text);
        let fits_segments = policy("", of_segments(&pattern).trim_matches('/'))
            .check_path(segments.trim_matches('/'))
            .is_err();
        if !text.is_empty() {
            assert_eq!(fits_segments, fits, "{pattern} {text}");
        }
        seen.insert(fits);
    }
    assert_eq!(seen.len(), 2);
}

// ---- Templates of an API's description ----

/// Why no path that is made of `template` may be called with GET.
fn reason(policy: &Policy, template: &str) -> Option<String> {
    policy.check_template("GET", template).err()
}

#[test]
fn an_operation_is_offered_if_some_path_that_is_made_of_its_template_is_allowed() {
    for (pattern, fitting, other) in [
        ("/", &["/"][..], &["/a", "/{a}/b"][..]),
        (
            "/me",
            &["/me", "/me/", "/{who}", "/m{e}", "/{m}e", "/m{x}{y}e"],
            &["/", "/mex", "/me/x", "/x{who}", "/me{x}y", "/{a}/{b}"],
        ),
        (
            "/users/*/photo",
            &["/users/{id}/photo", "/{a}/{b}/{c}", "/users/a{id}/photo"],
            &["/users/photo", "/users/{id}/name", "/users/{id}/photo/{x}"],
        ),
        (
            "/tasks/**",
            &["/tasks", "/tasks/{id}/parts/{part}", "/{kind}/1"],
            &["/users/{id}", "/tasks{id}x"],
        ),
        (
            "/**/photo",
            &["/photo", "/users/{id}/photo", "/a/{b}"],
            &["/photo/a"],
        ),
        (
            "/Users('*')/x",
            &["/Users('{id}')/x", "/Users({key})/x"],
            &["/Users({key})/y", "/users('{id}')/x", "/Users[{id}]/x"],
        ),
    ] {
        let allowing = policy(pattern, "");
        for template in fitting {
            assert_eq!(reason(&allowing, template), None, "{template} by {pattern}");
        }
        for template in other {
            let reason = reason(&allowing, template);
            let wanted = "ALLOWED_ENDPOINTS does not have it";
            assert_eq!(reason.as_deref(), Some(wanted), "{template} by {pattern}");
        }
    }
    let both = policy("/users/** /me", "/users/*/keys");
    assert_eq!(reason(&both, "/users/{id}/photo?size=small"), None);
    assert_eq!(reason(&policy("", ""), "/a//{b};c"), None);
}

#[test]
fn an_operation_is_not_offered_if_each_path_that_is_made_of_its_template_is_denied() {
    for (pattern, denied, other) in [
        (
            "/admin",
            &["/admin", "/Admin/", "/ADMIN?x={y}"][..],
            &["/{a}", "/admin/{x}"][..],
        ),
        (
            "/users/*",
            &["/users/{id}", "/USERS/a{id}b"],
            &["/users", "/{kind}/{id}"],
        ),
        (
            "/users/x*",
            &["/users/x{id}", "/users/X{id}y"],
            &["/users/{id}", "/users/{x}"],
        ),
        (
            "/*/keys/**",
            &["/{id}/keys", "/a/keys/{key}"],
            &["/{id}/{kind}"],
        ),
        // The name of a parameter is no part of the path.
        ("/*id*", &["/idle", "/x{x}id"], &["/{id}", "/{x-id-x}/y"]),
    ] {
        let denying = policy("", pattern);
        for template in denied {
            let reason = reason(&denying, template);
            let wanted = "DENIED_ENDPOINTS has it";
            assert_eq!(reason.as_deref(), Some(wanted), "{template} by {pattern}");
        }
        for template in other {
            assert_eq!(reason(&denying, template), None, "{template} by {pattern}");
        }
    }
    let both = policy("/**", "/users/**");
    assert_eq!(
        reason(&both, "/users/{id}").unwrap(),
        "DENIED_ENDPOINTS has it"
    );
}

#[test]
fn an_operation_of_another_method_is_not_offered() {
    let mut reading = policy("", "");
    reading.methods = vec!["GET"];
    assert_eq!(reading.check_template("GET", "/me"), Ok(()));
    let refused = reading.check_template("POST", "/me").unwrap_err();
    assert_eq!(refused, "ALLOWED_METHODS does not have POST");
}

#[test]
fn an_operation_whose_path_could_be_read_in_more_than_one_way_is_not_offered() {
    for policy in [policy("/**", ""), policy("", "/x"), policy("/**", "/x")] {
        for (template, what) in [
            ("/a//{b}", "an empty segment"),
            ("/{a};b", "a semicolon"),
            ("/+{a}", "begins or ends with a space or a plus"),
            ("/ a", "begins or ends with a space or a plus"),
            ("/{a}.", "ends with a dot"),
            ("/%61/{b}", "needs no encoding"),
        ] {
            let reason = reason(&policy, template).unwrap_or_default();
            assert!(
                reason.contains(what) && reason.contains("cannot be applied"),
                "{template}: {reason}"
            );
        }
        for template in ["/", "/{a}", "/{a}/{b}/", "/{a}.{b}", "/a.{b}", "/{a} {b}/c"] {
            assert_eq!(reason(&policy, template), None, "{template}");
        }
    }
}

#[test]
fn the_matcher_of_templates_agrees_with_one_that_tries_everything() {
    /// `*` stands for any text in `pattern`, and `?` in `template`.
    fn meet(pattern: &[u8], template: &[u8]) -> bool {
        match (pattern, template) {
            ([], []) => true,
            ([b'*', rest @ ..], _) if meet(rest, template) => true,
            ([b'*', ..], [_, others @ ..]) => meet(pattern, others),
            (_, [b'?', others @ ..]) if meet(pattern, others) => true,
            ([_, rest @ ..], [b'?', ..]) => meet(rest, template),
            ([p, rest @ ..], [t, others @ ..]) => p == t && meet(rest, others),
            _ => false,
        }
    }
    let mut random = Random::new(11);
    let mut seen = BTreeSet::new();
    for _ in 0..20_000 {
        let mut letters = |choices: &str, most: usize| -> String {
            (0..=random.below(most))
                .map(|_| char::from(choices.as_bytes()[random.below(choices.len())]))
                .collect()
        };
        let (pattern, template) = (letters("ab*", 6), letters("ab?", 6));
        if pattern.contains("**") {
            continue;
        }
        let offered = reason(&policy(&pattern, ""), &template.replace('?', "{name}")).is_none();
        let wanted = meet(pattern.as_bytes(), template.as_bytes());
        assert_eq!(offered, wanted, "{template} by {pattern}");
        seen.insert(offered);
    }
    assert_eq!(seen.len(), 2);
}

// ---- Over HTTP ----

struct Bench {
    mcp: Mcp,
    _server: Running,
    backend: Backend,
    entra: Entra,
}

impl Bench {
    fn with(settings: &[(&str, &str)]) -> Self {
        let entra = Entra::start();
        let backend = Backend::start_for(&entra);
        backend.on(|_| Some(Reply::empty(204).into()));
        let setup = Setup::new(&entra, Some(&backend));
        let server = settings
            .iter()
            .fold(setup, |setup, (name, value)| setup.with(name, value))
            .start();
        let mut mcp = server.modern();
        mcp.sign_in(ADA);
        Self {
            mcp,
            _server: server,
            backend,
            entra,
        }
    }

    fn tools(&mut self) -> Vec<String> {
        let listed = self.mcp.result("tools/list", json!({}));
        listed["tools"]
            .as_array()
            .unwrap()
            .iter()
            .map(|tool| tool["name"].as_str().unwrap().to_owned())
            .collect()
    }

    /// The call is refused in a way that names `setting`, and nothing of it leaves.
    #[track_caller]
    fn assert_refused(&mut self, tool: &str, endpoint: &str, setting: &str) {
        let before = (
            self.backend.requests().len(),
            self.entra.token_requests().len(),
        );
        let failure = self.mcp.fails(tool, json!({"endpoint": endpoint}));
        assert_eq!(failure["error"], "refused", "{failure}");
        assert!(
            failure["message"].as_str().unwrap().contains(setting),
            "{endpoint}: {failure}"
        );
        assert!(!failure["hint"].as_str().unwrap().is_empty(), "{failure}");
        assert_eq!(
            (
                self.backend.requests().len(),
                self.entra.token_requests().len()
            ),
            before,
            "{endpoint}"
        );
    }

    fn reaches(&mut self, tool: &str, endpoint: &str) -> String {
        self.mcp.ok(tool, json!({"endpoint": endpoint}));
        self.backend.last().target
    }
}

const API_TOOLS: [&str; 5] = [
    "api_get_request",
    "api_post_request",
    "api_put_request",
    "api_patch_request",
    "api_delete_request",
];

#[test]
fn tools_of_other_methods_are_not_listed_and_refused_when_called() {
    for (setting, left) in [
        ("GET", &API_TOOLS[..1]),
        ("get, Post", &API_TOOLS[..2]),
        ("DELETE", &API_TOOLS[4..]),
    ] {
        let mut bench = Bench::with(&[("ALLOWED_METHODS", setting)]);
        let tools = bench.tools();
        let others = [
            "authenticate_user",
            "check_auth_status",
            "logout_user",
            "view_userid",
            "ping",
            "get_server_info",
        ];
        for tool in others.iter().chain(left) {
            assert!(
                tools.iter().any(|known| known == tool),
                "{tool} in {tools:?}"
            );
        }
        assert_eq!(tools.len(), others.len() + left.len(), "{tools:?}");
        for tool in API_TOOLS {
            if left.contains(&tool) {
                assert_eq!(bench.reaches(tool, "/me"), "/v1.0/me");
            } else {
                bench.assert_refused(tool, "/me", "ALLOWED_METHODS");
            }
        }
    }
    assert_eq!(Bench::with(&[]).tools().len(), 11);
}

#[test]
fn where_everything_is_denied_no_tool_that_calls_the_api_is_listed() {
    let mut bench = Bench::with(&[("ALLOWED_ENDPOINTS", "/me"), ("DENIED_ENDPOINTS", "/x /**")]);
    assert!(bench.tools().iter().all(|tool| !tool.starts_with("api_")));
    bench.assert_refused("api_get_request", "/me", "DENIED_ENDPOINTS");
}

#[test]
fn where_some_endpoints_are_denied_every_tool_is_listed() {
    for denied in ["/x", "/x/**", "/*"] {
        let mut bench = Bench::with(&[("DENIED_ENDPOINTS", denied)]);
        assert_eq!(bench.tools().len(), 11, "{denied}");
    }
}

#[test]
fn a_refused_call_asks_nobody_to_sign_in() {
    let entra = Entra::start();
    let backend = Backend::start_for(&entra);
    let setup = Setup::new(&entra, Some(&backend))
        .with("ALLOWED_METHODS", "GET")
        .with("ALLOWED_ENDPOINTS", "/me");
    let server = setup.start();
    for (tool, endpoint) in [("api_get_request", "/tasks"), ("api_post_request", "/me")] {
        assert_eq!(
            server.modern().fails(tool, json!({"endpoint": endpoint}))["error"],
            "refused"
        );
        let result = server
            .modern_url()
            .call(tool, json!({"endpoint": endpoint}));
        assert_eq!(
            (&result["resultType"], &result["isError"]),
            (&json!("complete"), &Value::Bool(true)),
            "{result}"
        );
    }
    assert!(backend.requests().is_empty() && entra.token_requests().is_empty());
}

#[test]
fn denied_endpoints_are_not_called_however_they_are_written() {
    let mut bench = Bench::with(&[("DENIED_ENDPOINTS", "/admin/keys, /$batch")]);
    // These do not even get as far as the patterns.
    let foul = ["admin/./keys", "x/../admin/keys", "admin/%2e/keys"];
    // A slash in front is the base's own.
    let ambiguous = AMBIGUOUS.iter().filter(|path| !path.starts_with('/'));
    for dodge in OTHER_CASES.iter().chain(ambiguous).chain(&foul) {
        let before = bench.backend.requests().len();
        let failure = bench
            .mcp
            .fails("api_get_request", json!({"endpoint": dodge}));
        let error = failure["error"].as_str().unwrap();
        assert!(
            ["refused", "invalid_request"].contains(&error),
            "{dodge}: {failure}"
        );
        assert_eq!(bench.backend.requests().len(), before, "{dodge}");
    }
    let base = bench.backend.url();
    for endpoint in [
        "/admin/keys",
        "/Admin/Keys",
        "/admin/keys?x=1",
        "admin/keys/?",
        "/ADMIN%2Fkeys",
        "/admin;x/keys;y?z",
        "/$batch",
        "/%24BATCH",
    ] {
        bench.assert_refused("api_get_request", endpoint, "DENIED_ENDPOINTS");
        bench.assert_refused(
            "api_delete_request",
            &format!("{base}/{}", endpoint.trim_start_matches('/')),
            "DENIED_ENDPOINTS",
        );
    }
    for endpoint in [
        "/admin",
        "/admin/key",
        "/admin/keys/1",
        "/x?path=/admin/keys",
        "/x/admin/keys",
    ] {
        assert_eq!(
            bench.reaches("api_get_request", endpoint),
            format!("/v1.0{endpoint}")
        );
    }
}

#[test]
fn only_allowed_endpoints_are_called_as_they_are_written() {
    let mut bench = Bench::with(&[
        ("ALLOWED_ENDPOINTS", "/me /users/*/photo,/Straße"),
        ("DENIED_ENDPOINTS", "/users/root/**"),
    ]);
    let base = bench.backend.url();
    for (endpoint, target) in [
        ("/me", "/v1.0/me"),
        ("me?x=/admin", "/v1.0/me?x=/admin"),
        ("/me/", "/v1.0/me/"),
        (
            "/users/ada@contoso.example/photo",
            "/v1.0/users/ada@contoso.example/photo",
        ),
        ("/Straße", "/v1.0/Stra%C3%9Fe"),
        (&format!("{base}/me"), "/v1.0/me"),
    ] {
        assert_eq!(bench.reaches("api_get_request", endpoint), target);
    }
    for endpoint in [
        "",
        "/",
        "/Me",
        "/%6de",
        "/me;x",
        "/me//",
        "/me/x",
        "/users/a%2Fb/photo",
        "/users//photo",
        "/x/../me",
        &base,
    ] {
        let before = bench.backend.requests().len();
        bench
            .mcp
            .fails("api_get_request", json!({"endpoint": endpoint}));
        assert_eq!(bench.backend.requests().len(), before, "{endpoint}");
    }
    bench.assert_refused("api_get_request", "/tasks", "ALLOWED_ENDPOINTS");
    bench.assert_refused("api_get_request", "/users/ROOT/photo", "DENIED_ENDPOINTS");
}

// ---- Fields that override the method ----

const FORM: &str = "application/x-www-form-urlencoded";
const OVERRIDES: &[&str] = &[
    "_method=DELETE",
    "_METHOD=delete",
    "a=1&_method=DELETE&b=2",
    "a=1;_method=DELETE",
    "a=1&;&_method",
    "%5fmethod=DELETE",
    "_%6dethod=DELETE",
    "+_method=DELETE",
    "_method%00=DELETE",
    "_method[]=DELETE",
    ".method=DELETE",
    "$method=DELETE",
    "__method=DELETE",
    "_http_method=DELETE",
    "httpMethod=DELETE",
    "$httpMethod=DELETE",
    "http-method=DELETE",
    "_method_override=DELETE",
    "methodOverride=DELETE",
    "X-HTTP-Method-Override=DELETE",
    "x-http-method=DELETE",
    "x_method_override=DELETE",
];
const OTHERS: &[&str] = &[
    "method=sum",
    "a=_method",
    "a=%26_method=DELETE",
    "payment_method=card",
    "_methods=1",
    "filter[_method]=x",
    "q=the%20http-method",
];

// CASES C12
#[test]
fn fields_that_override_the_method_are_refused_where_methods_are_restricted() {
    let mut bench = Bench::with(&[
        ("ALLOWED_METHODS", "GET POST"),
        ("ALLOWED_REQUEST_HEADERS", "X-*"),
    ]);
    for query in OVERRIDES {
        bench.assert_refused(
            "api_get_request",
            &format!("/me?{query}"),
            "ALLOWED_METHODS",
        );
        let form = json!({"endpoint": "/me", "data": query, "headers": {"Content-Type": FORM}});
        assert_overrides(&mut bench, "api_post_request", form);
    }
    for name in ["_method", "$method", "httpMethod", "X-HTTP-Method-Override"] {
        let params = json!({"endpoint": "/me", "params": {"a": [1, 2], name: ["DELETE"]}});
        assert_overrides(&mut bench, "api_get_request", params);
    }
    for name in [
        "X-HTTP-Method-Override",
        "x-http-method",
        "X-Method-Override",
    ] {
        let call = json!({"endpoint": "/me", "headers": {name: "DELETE"}});
        assert_overrides(&mut bench, "api_post_request", call);
    }
    for parameters in [
        "name=\"_method\"",
        "name=_method",
        "NAME = \"_METHOD\"; filename=\"x\"",
    ] {
        for fold in ["", "\r\n "] {
            let data = format!(
                "--b\r\nContent-Disposition: form-data;{fold} {parameters}\r\n\r\nDELETE\r\n--b--\r\n"
            );
            let headers = json!({"Content-Type": "Multipart/Form-Data; boundary=b"});
            let call = json!({"endpoint": "/me", "data": data, "headers": headers});
            assert_overrides(&mut bench, "api_post_request", call);
        }
    }
    for query in OTHERS {
        bench.reaches("api_get_request", &format!("/me?{query}"));
        let form = json!({"endpoint": "/me", "data": query, "headers": {"Content-Type": FORM}});
        bench.mcp.ok("api_post_request", form);
    }
    // What is no form has no fields.
    for (content_type, data) in [
        ("text/plain", json!("_method=DELETE")),
        ("application/json", json!("_method=DELETE")),
    ] {
        let headers = json!({"Content-Type": content_type});
        bench.mcp.ok(
            "api_post_request",
            json!({"endpoint": "/me", "data": data, "headers": headers}),
        );
    }
}

#[track_caller]
fn assert_overrides(bench: &mut Bench, tool: &str, arguments: Value) {
    let before = bench.backend.requests().len();
    let failure = bench.mcp.fails(tool, arguments.clone());
    assert_eq!(failure["error"], "refused", "{arguments}: {failure}");
    let message = failure["message"].as_str().unwrap();
    assert!(message.contains("another method"), "{failure}");
    assert!(message.contains("ALLOWED_METHODS"), "{failure}");
    assert_eq!(bench.backend.requests().len(), before, "{arguments}");
}

#[test]
fn where_every_method_is_allowed_fields_may_have_any_name() {
    let mut bench = Bench::with(&[("ALLOWED_METHODS", "GET get POST PUT PATCH DELETE")]);
    for query in OVERRIDES {
        bench.reaches("api_get_request", &format!("/me?{query}"));
    }
}
