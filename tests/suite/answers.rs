//! Answers as real APIs give them: packed, broken off, in other character sets, with more than was
//! asked for.

use std::io::Write as _;

use crate::support::http::{Answer, Reply, Request};
use crate::support::server::World;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use serde_json::value::RawValue;
use serde_json::{Value, json};

const WRITES: [&str; 4] = [
    "api_post_request",
    "api_put_request",
    "api_patch_request",
    "api_delete_request",
];

/// What `tool` makes of `reply`; the call was sent once.
fn called(world: &World, tool: &str, reply: Reply) -> Value {
    called_by(world, tool, move || reply.clone().into())
}

/// The same of an answer that is `wire`, byte for byte.
fn called_raw(world: &World, tool: &str, wire: impl AsRef<[u8]>) -> Value {
    let wire = wire.as_ref().to_vec();
    called_by(world, tool, move || Answer::raw(wire.clone()))
}

fn called_by(
    world: &World,
    tool: &str,
    answer: impl Fn() -> Answer + Send + Sync + 'static,
) -> Value {
    world.backend.on(move |_| Some(answer()));
    let before = world.backend.requests().len();
    let mut result = world.server.modern().call(tool, json!({"endpoint": "/x"}));
    assert_eq!(world.backend.requests().len(), before + 1, "{result}");
    let content = result["structuredContent"].take();
    assert_eq!(result["isError"] == true, content["success"] == false);
    content
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

// ---- What the API has done is not reported as failed ----

// CASES B1
/// RFC 9110 §15.3.5, §15.3.6, §15.4.5.
#[test]
fn an_answer_without_content_is_a_success_whatever_its_headers_say_of_the_content() {
    let world = World::signed_in();
    for status in [204, 205, 304] {
        for coding in [
            "gzip", "GZIP", "x-gzip", "deflate", "br", "identity", "gzip, br", "",
        ] {
            for tool in WRITES {
                let reply =
                    Reply::new(status, "application/json", "").with("Content-Encoding", coding);
                let content = called(&world, tool, reply);
                assert_eq!(
                    (&content["success"], &content["status"], &content["data"]),
                    (&json!(true), &json!(status), &Value::Null),
                    "{tool} {coding}: {content}"
                );
                assert_eq!(content["truncated"], false, "{content}");
            }
        }
    }
    // As a HEAD would be answered: with a length, and without the content.
    let head = "HTTP/1.1 304 Not Modified\r\nContent-Encoding: gzip\r\nContent-Length: 99\r\n\r\n";
    let content = called_raw(&world, "api_get_request", head);
    assert_eq!(
        (&content["status"], &content["data"]),
        (&json!(304), &Value::Null)
    );
}

#[test]
fn nothing_is_unpacked_where_nothing_came() {
    let world = World::signed_in();
    for (status, coding) in [
        (200, "gzip"),
        (201, "x-gzip"),
        (202, "deflate"),
        (200, "gzip, gzip"),
    ] {
        let reply = Reply::new(status, "application/json", "").with("Content-Encoding", coding);
        for reply in [reply.clone().with("Transfer-Encoding", "chunked"), reply] {
            let content = called(&world, "api_post_request", reply);
            assert_eq!(
                (&content["status"], &content["data"], &content["truncated"]),
                (&json!(status), &Value::Null, &json!(false)),
                "{coding}: {content}"
            );
            assert!(content.get("hint").is_none(), "{content}");
        }
    }
}

// CASES B1
#[test]
fn the_names_of_codings_have_no_case_and_aliases_and_may_be_several() {
    let world = World::signed_in();
    let json = br#"{"text":"gr\u00fc\u00dfe"}"#;
    for (codings, body) in [
        (&["gzip"][..], gzip(json)),
        (&["GZIP"], gzip(json)),
        (&["x-gzip"], gzip(json)),
        (&["X-GZip"], gzip(json)),
        (&["deflate"], zlib(json)),
        (&["Deflate"], deflate(json)),
        (&["identity"], json.to_vec()),
        (&[""], json.to_vec()),
        (&["Identity", "gzip"], gzip(json)),
        (&["gzip", "identity"], gzip(json)),
        (&["gzip, identity, "], gzip(json)),
        // The last one was applied last (RFC 9110 §8.4).
        (&["deflate, gzip"], gzip(&zlib(json))),
        (&["gzip", "gzip"], gzip(&gzip(json))),
        (&["gzip"], [gzip(&json[..5]), gzip(&json[5..])].concat()),
    ] {
        let reply = Reply::new(201, "application/json", body);
        let reply = codings.iter().fold(reply, |reply, coding| {
            reply.with("Content-Encoding", coding)
        });
        let content = called(&world, "api_post_request", reply);
        assert_eq!(
            content["data"],
            json!({"text": "grüße"}),
            "{codings:?}: {content}"
        );
        assert!(content.get("hint").is_none(), "{content}");
    }
}

/// Servers that set the header by mistake; nothing is packed.
// CASES B1
#[test]
fn what_is_no_coding_packs_nothing() {
    let world = World::signed_in();
    for coding in ["none", "UTF-8", "utf8", "aws-chunked", "utf-8, gzip"] {
        let json = br#"{"a":[1]}"#;
        let body = if coding.ends_with("gzip") {
            gzip(json)
        } else {
            json.to_vec()
        };
        let reply = Reply::new(201, "application/json", body).with("Content-Encoding", coding);
        let content = called(&world, "api_post_request", reply);
        assert_eq!(content["data"], json!({"a": [1]}), "{content}");
        assert!(content.get("hint").is_none(), "{content}");
    }
}

// CASES B1
#[test]
fn a_coding_that_cannot_be_undone_is_named_and_the_body_is_as_it_came() {
    let world = World::signed_in();
    for coding in [
        "br",
        "zstd",
        "compress",
        "gzip, br",
        "br, gzip",
        "gzip,gzip,gzip",
        "é",
    ] {
        let reply = Reply::new(201, "application/json", "packed").with("Content-Encoding", coding);
        let content = called(&world, "api_post_request", reply);
        assert_eq!(content["success"], true, "{content}");
        assert_eq!(
            content["data"]["base64"],
            BASE64_STANDARD.encode("packed"),
            "{content}"
        );
        let name = coding.split(',').next().unwrap();
        assert!(
            content["hint"].as_str().unwrap().contains(name),
            "{content}"
        );
    }
    let picture = Reply::new(200, "image/png", "packed").with("Content-Encoding", "br");
    world.backend.on(move |_| Some(picture.clone().into()));
    let result = world
        .server
        .modern()
        .call("api_get_request", json!({"endpoint": "/x"}));
    assert_eq!(result["content"].as_array().unwrap().len(), 1, "{result}");
}

// CASES B1
#[test]
fn a_write_whose_answer_breaks_off_has_been_done_and_is_not_sent_again() {
    let world = World::signed_in();
    let ok =
        "HTTP/1.1 201 Created\r\nConnection: close\r\nContent-Type: text/plain\r\nETag: \"1\"\r\n";
    let half_of_gzip = gzip(b"0123456789")[..18].to_vec();
    for (what, answer, data) in [
        (
            "a length",
            format!("{ok}Content-Length: 10\r\n\r\n12345").into_bytes(),
            json!("12345"),
        ),
        (
            "nothing",
            format!("{ok}Content-Length: 10\r\n\r\n").into_bytes(),
            Value::Null,
        ),
        (
            "a chunk",
            format!("{ok}Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n").into_bytes(),
            json!("12345"),
        ),
        (
            "no chunk",
            format!("{ok}Transfer-Encoding: chunked\r\n\r\nzz\r\n12345\r\n0\r\n\r\n").into_bytes(),
            Value::Null,
        ),
        (
            "no gzip",
            format!("{ok}Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\n12345").into_bytes(),
            Value::Null,
        ),
        (
            "half of gzip",
            [
                format!("{ok}Content-Encoding: gzip\r\nContent-Length: 18\r\n\r\n").into_bytes(),
                half_of_gzip,
            ]
            .concat(),
            json!(null),
        ),
    ] {
        for tool in WRITES {
            let content = called_raw(&world, tool, &answer);
            assert_eq!(
                (
                    &content["success"],
                    &content["status"],
                    &content["truncated"]
                ),
                (&json!(true), &json!(201), &json!(true)),
                "{what}: {content}"
            );
            assert_eq!(content["headers"]["etag"], "\"1\"", "{what}: {content}");
            if what != "half of gzip" {
                assert_eq!(content["data"], data, "{what}: {content}");
            }
            let hint = content["hint"].as_str().unwrap();
            assert!(
                hint.contains("has done") && hint.contains("broke off"),
                "{hint}"
            );
        }
    }
    // A refusal whose text is lost is a refusal.
    let no = "HTTP/1.1 409 Conflict\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\nno";
    let content = called_raw(&world, "api_post_request", no);
    assert_eq!(
        (&content["error"], &content["status"], &content["data"]),
        (&json!("http_error"), &json!(409), &json!("no")),
        "{content}"
    );
    assert!(
        !content["hint"].as_str().unwrap().contains("has done"),
        "{content}"
    );
}

/// The message must not blame the network, a firewall or a proxy.
#[test]
fn an_answer_that_is_not_http_is_said_to_be_one_that_cannot_be_read() {
    let world = World::signed_in();
    for wire in [
        "hello\r\n",
        "HTTP/2 200 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 201 Created\r\nContent-Length: +7\r\n\r\n{\"a\":1}",
        "HTTP/1.1 201 Created\r\nContent-Length: 7\r\nContent-Length: 8\r\n\r\n{\"a\":1}",
        "HTTP/1.1 201 Created\r\nno field\r\n\r\n",
    ] {
        for tool in WRITES {
            let content = called_raw(&world, tool, wire);
            let message = content["message"].as_str().unwrap();
            assert!(
                message.contains("The API's answer to ") && message.contains(" cannot be read: "),
                "{message}"
            );
            assert!(message.contains("does not keep to HTTP"), "{message}");
            assert!(!message.contains("network"), "{message}");
            assert_eq!(
                content["hint"], "Whether the API has acted on the request is not known.",
                "{content}"
            );
        }
    }
}

/// RFC 9110 §15.2.2: nobody has asked for another protocol.
#[test]
fn an_answer_that_changes_the_protocol_is_no_success() {
    let world = World::signed_in();
    let wire = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n";
    for tool in WRITES {
        let content = called_raw(&world, tool, wire);
        assert_eq!(
            (&content["error"], &content["status"]),
            (&json!("http_error"), &json!(101)),
            "{content}"
        );
    }
}

/// RFC 9110 §15.4: what each status says of the request that it answers.
#[test]
fn a_redirect_says_whether_the_api_has_acted_and_names_what_can_be_called() {
    const ACTED: &str = "The API has acted on the call";
    const NOT_ACTED: &str = "The API has not acted on the call";
    const UNKNOWN: &str = "Whether the API has acted on a call that changes something is not known";
    let world = World::signed_in();
    let base = world.backend.url();
    for (status, said) in [
        (300, UNKNOWN),
        (301, UNKNOWN),
        (302, UNKNOWN),
        (303, ACTED),
        (307, NOT_ACTED),
        (308, NOT_ACTED),
    ] {
        for (location, target) in [
            ("y/?p=1", format!("{base}/y/?p=1")),
            ("?p=1", format!("{base}/x?p=1")),
            ("/v1.0/x/", format!("{base}/x/")),
            ("//other.example/x", "http://other.example/x".to_owned()),
            ("https://", "https://".to_owned()),
        ] {
            for tool in WRITES {
                let reply = Reply::empty(status).with("Location", location);
                let content = called(&world, tool, reply);
                assert_eq!(content["error"], "redirect", "{content}");
                assert_eq!(content["redirect_target"], target, "{content}");
                assert_eq!(content["headers"]["location"], location, "{content}");
                let hint = content["hint"].as_str().unwrap();
                assert!(hint.contains(said), "{status}: {hint}");
            }
        }
    }
    let reply = Reply::empty(304).with("Location", "/v1.0/me");
    let content = called(&world, "api_get_request", reply);
    assert_eq!(content["success"], true, "{content}");
    assert!(content.get("redirect_target").is_none(), "{content}");
    // It can be called as it stands there.
    let reply = Reply::empty(307).with("Location", "/v1.0/me");
    let content = called(&world, "api_get_request", reply);
    world.backend.on(|_| None);
    let arguments = json!({"endpoint": content["redirect_target"]});
    world.server.modern().ok("api_get_request", arguments);
}

/// As APIs do that are made for browsers: Azure's App Service, ASP.NET, and what stands in front.
#[test]
fn a_redirect_to_a_sign_in_page_says_that_the_token_is_not_taken() {
    let world = World::signed_in();
    for location in [
        "https://login.microsoftonline.com/t/oauth2/v2.0/authorize?response_type=code&client_id=1",
        "https://login.windows.net/t/oauth2/authorize?client_id=1&response_type=id_token",
        "https://idp.example/saml?SAMLRequest=x",
        "https://adfs.example/adfs/ls/?wtrealm=x&wa=wsignin1.0",
        "https://api.example/.auth/login/aad?post_login_redirect_uri=%2Fx",
        "/Account/Login?ReturnUrl=%2Fv1.0%2Fx",
    ] {
        for tool in ["api_get_request", "api_post_request"] {
            let reply = Reply::empty(302).with("Location", location);
            let content = called(&world, tool, reply);
            assert_eq!(content["error"], "redirect", "{content}");
            let hint = content["hint"].as_str().unwrap();
            assert!(
                hint.contains("sign-in page") && hint.contains("CUSTOM_API_SCOPE"),
                "{hint}"
            );
            // As after a sign-out, or where a connection to another service was made.
            assert!(
                hint.contains("has acted on a call that changes something is not known"),
                "{hint}"
            );
            assert!(!hint.contains("DOWNLOAD_HOSTS"), "{hint}");
        }
    }
}

/// ASP.NET sends such redirects after a form, and if it accepts the token but denies the call.
#[test]
fn a_redirect_that_only_says_where_to_return_to_is_none_to_a_sign_in_page() {
    let world = World::signed_in();
    for location in [
        "/v1.0/items/5?returnUrl=%2Fv1.0%2Fitems",
        "/v1.0/catalog/blog/5?ReturnUrl=%2F",
        "/Account/AccessDenied?ReturnUrl=%2Fv1.0%2Fx",
        "/v1.0/apps/1?client_id=1&response_types=code",
        "/v1.0/bloginfo?ReturnUrl=%2F",
        "/v1.0/designing?ReturnUrl=%2F",
    ] {
        for (status, said) in [(302, "is not known"), (303, "The API has acted")] {
            for tool in WRITES {
                let reply = Reply::empty(status).with("Location", location);
                let content = called(&world, tool, reply);
                let hint = content["hint"].as_str().unwrap();
                assert!(!hint.contains("sign-in page"), "{location}: {hint}");
                assert!(hint.contains(said), "{location}: {hint}");
            }
        }
    }
}

/// RFC 9112 §5.2: a line that begins with white space goes on with the value before it.
#[test]
fn a_folded_header_of_an_answer_is_one_value() {
    let world = World::signed_in();
    let head = "HTTP/1.1 103 Early Hints\r\nLink: </a>;\r\n rel=preload\r\n\r\nHTTP/1.1 201 Created\r\n\
                Connection: close\r\nX-Long: a\r\n b\n\tc\r\n \r\nTransfer-Encoding:\r\n\tchunked\r\nContent-Type: application/json\r\n\r\n";
    // What looks like a folded line in the content is none.
    let wire = format!("{head}d\r\n{{\"a\":\r\n \r\n 1}}\r\n0\r\n\r\n");
    for tool in WRITES {
        let content = called_raw(&world, tool, &wire);
        assert_eq!(
            (&content["success"], &content["status"], &content["data"]),
            (&json!(true), &json!(201), &json!({"a": 1})),
            "{content}"
        );
        let words = content["headers"]["x-long"].as_str().unwrap().split(' ');
        let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
        assert_eq!(words, ["a", "b", "c"], "{content}");
    }
}

/// A part of what is packed could not be unpacked.
#[test]
fn a_range_is_asked_for_unpacked() {
    let world = World::signed_in();
    let arguments = json!({"endpoint": "/me", "headers": {"Range": "bytes=0-9"}});
    world.server.modern().ok("api_get_request", arguments);
    assert_eq!(
        world.backend.last().header("accept-encoding"),
        Some("identity")
    );
    world
        .server
        .modern()
        .ok("api_get_request", json!({"endpoint": "/me"}));
    assert_eq!(world.backend.last().header("accept-encoding"), Some("gzip"));
}

// ---- JSON that some parsers do not take ----

/// The whole message as it was written.
fn written(world: &World, content_type: &'static str, status: u16, body: &str) -> (String, Value) {
    let reply = Reply::new(status, content_type, body);
    world.backend.on(move |_| Some(reply.clone().into()));
    let mut mcp = world.server.modern();
    let call = json!({"name": "api_post_request", "arguments": {"endpoint": "/x"}});
    let reply = mcp.send("tools/call", call);
    let content = reply.json()["result"]["structuredContent"].clone();
    (reply.text(), content)
}

// CASES B3
/// RFC 7493 §2.1: no text has half a character. Here `serde_json` stands for the parsers that
/// refuse it.
#[test]
fn half_a_surrogate_pair_is_replaced_and_nothing_else_is_changed() {
    let world = World::signed_in();
    for (body, data) in [
        (
            r#"{"subject":"Hello \ud83d"}"#,
            r#"{"subject":"Hello \ufffd"}"#,
        ),
        (
            r#"["\uD83D\uDE00","\uDE00\uD83D"]"#,
            r#"["\uD83D\uDE00","\ufffd\ufffd"]"#,
        ),
        (
            r#"["\uD83D\uD83D\uDE00 \ud83dx"]"#,
            r#"["\ufffd\uD83D\uDE00 \ufffdx"]"#,
        ),
        (
            r#"{"\udfff":1,"a":"\ud83d\n"}"#,
            r#"{"\ufffd":1,"a":"\ufffd\n"}"#,
        ),
        // No escapes of surrogates.
        (
            r#"["\\ud83d","\\\"\\ud83d", "\ue000\ud7ff"]"#,
            r#"["\\ud83d","\\\"\\ud83d", "\ue000\ud7ff"]"#,
        ),
        (r#"["12345678\\","\ud800"]"#, r#"["12345678\\","\ufffd"]"#),
    ] {
        for (content_type, status) in [
            ("application/json", 200),
            ("application/problem+json", 200),
            ("application/json", 400),
        ] {
            let (text, _) = written(&world, content_type, status, body);
            assert!(text.contains(&format!("\"data\":{data}")), "{body}: {text}");
        }
    }
    // Wherever it stands in words of eight bytes.
    for length in 0..20 {
        let body = format!("[\"{}\\ud83d\"]", "x".repeat(length));
        let (_, content) = written(&world, "application/json", 201, &body);
        assert_eq!(
            content["data"][0],
            format!("{}\u{fffd}", "x".repeat(length))
        );
    }
}

#[test]
fn half_a_surrogate_pair_is_replaced_in_what_is_selected() {
    let world = World::signed_in();
    let body = r#"{"\ud83d":{"a":"\udc00"},"@odata.nextLink":"/v1.0/x?p=2","b":"\ud83d"}"#;
    let reply = Reply::new(200, "application/json", body);
    world.backend.on(move |_| Some(reply.clone().into()));
    let arguments = json!({"endpoint": "/x", "select": ["/\u{fffd}/a", "/b"]});
    let content = world.server.modern().ok("api_get_request", arguments);
    assert_eq!(
        content["data"],
        json!({"/\u{fffd}/a": "\u{fffd}", "/b": "\u{fffd}"})
    );
    assert_eq!(content["next"], format!("{}/x?p=2", world.backend.url()));
}

// CASES B3
#[test]
fn what_common_parsers_do_not_take_is_handed_on_as_text() {
    let world = World::signed_in();
    let nested = |open: &str, close: &str, levels: usize| {
        format!("{}1{}", open.repeat(levels), close.repeat(levels))
    };
    for (body, is_json) in [
        (nested("[", "]", 60), true),
        (nested("[", "]", 61), false),
        (nested("{\"a\":", "}", 60), true),
        (nested("{\"a\":", "}", 61), false),
        (nested("[", "]", 250), false),
        (nested("[", "]", 100_000), false),
        // Brackets in strings are no levels, nor are neighbours.
        (format!("[\"{}\"]", "[".repeat(250)), true),
        (format!("[\"]]]]]\",{}]", nested("[", "]", 60)), false),
        (format!("[{}[]]", "[],{},".repeat(100)), true),
        // What no double holds; Python has another limit for integers.
        (format!("[{}]", "9".repeat(300)), true),
        (format!("[1{}]", "0".repeat(300)), false),
        (format!("[1{}]", "0".repeat(4_300)), false),
        ("[1e299,1E+299,1.5e299,1e-999,-0.5E-400]".to_owned(), true),
        ("[1e400]".to_owned(), false),
        ("[1.5E+400]".to_owned(), false),
        (format!("[-1e{}]", "9".repeat(30)), false),
        ("[\"1e400\",true,false]".to_owned(), true),
        (format!("[\"{}\"]", "9".repeat(10_000)), true),
    ] {
        for status in [201, 422] {
            let (text, content) = written(&world, "application/json", status, &body);
            let shown = &body[..body.len().min(30)];
            if is_json {
                assert!(text.contains(&format!("\"data\":{body}")), "{shown}");
            } else {
                assert_eq!(content["data"], body, "{shown}");
            }
        }
    }
    // What is selected from it may be less deep.
    let body = format!("{{\"deep\":{},\"flat\":[1]}}", nested("[", "]", 70));
    for (pointer, data) in [
        ("/flat", json!([1])),
        ("/deep", json!(nested("[", "]", 70))),
        (
            "/deep/0/0/0/0/0/0/0/0/0/0/0/0",
            serde_json::from_str(&nested("[", "]", 58)).unwrap(),
        ),
    ] {
        let reply = Reply::new(200, "application/json", body.as_bytes());
        world.backend.on(move |_| Some(reply.clone().into()));
        let arguments = json!({"endpoint": "/x", "select": pointer});
        let content = world.server.modern().ok("api_get_request", arguments);
        assert_eq!(content["data"], data, "{pointer}");
    }
}

/// RFC 8259, as `serde_json` reads it: also of texts that are JSON but for one character.
#[test]
fn what_is_called_json_is_handed_on_as_that_if_it_is() {
    const OTHERS: [&str; 23] = [
        "0", "1", "-", ".", "e", "+", "\"", "\\", "u", "\\u", ",", ":", "[", "]", "{", "}", " ",
        "\u{b}", "\u{1f}", "t", "ä", "\u{7f}", "\n",
    ];
    let world = World::signed_in();
    let mut mcp = world.server.modern();
    let mut is_handed_on_as_json = |body: &str| {
        let reply = Reply::new(201, "application/json", body);
        world.backend.on(move |_| Some(reply.clone().into()));
        let call = json!({"name": "api_post_request", "arguments": {"endpoint": "/x"}});
        let text = mcp.send("tools/call", call).text();
        let is_json = serde_json::from_str::<&RawValue>(body).is_ok();
        let data = if body.is_empty() {
            "null".to_owned()
        } else if is_json {
            body.to_owned()
        } else {
            json!(body).to_string()
        };
        assert!(
            text.contains(&format!("\"data\":{data}}}")),
            "{body:?} {text}"
        );
    };
    let mut turn = 0;
    for body in [
        "0",
        "-0",
        "10",
        "-1.5e3",
        "1E-7",
        "1e+2",
        "0.00e01",
        r#""a""#,
        r#""\"\\\/\b\f\n\r\t\u00e4\u00E4ä""#,
        r#""1234567\"12345678\\1\u00e4""#,
        "true",
        "false",
        "null",
        "[]",
        "{}",
        " [ ] \n",
        "[1,[2,3],{}]",
        r#"{"a":1}"#,
        r#"{ "a" : {"b":[] , "c":null } , "":-2.50}"#,
        r#"[{"a":[{}]},{"b":"]}"}]"#,
    ] {
        is_handed_on_as_json(body);
        for (at, c) in body.char_indices() {
            let (before, behind) = (&body[..at], &body[at + c.len_utf8()..]);
            is_handed_on_as_json(&format!("{before}{behind}"));
            let other = OTHERS[turn % OTHERS.len()];
            turn += 1;
            is_handed_on_as_json(&format!("{before}{other}{behind}"));
            is_handed_on_as_json(&format!("{before}{other}{c}{behind}"));
        }
    }
}

/// What a model reads is JSON within a JSON string.
#[test]
fn every_character_survives_in_the_text_of_a_result_and_in_its_data() {
    let world = World::signed_in();
    let ascii: String = (0..=0x7f_u8).map(char::from).collect();
    // Wherever it stands in words of eight bytes.
    for length in 0..10 {
        let text = format!("{}{ascii}ä€😀{ascii}", "x".repeat(length));
        for (content_type, body) in [
            ("text/plain", text.clone()),
            ("application/json", json!([text]).to_string()),
        ] {
            let reply = Reply::new(200, content_type, body);
            world.backend.on(move |_| Some(reply.clone().into()));
            let mut mcp = world.server.modern();
            let result = mcp.call("api_get_request", json!({"endpoint": "/x"}));
            let content = &result["structuredContent"];
            let data = content["data"].as_str().or(content["data"][0].as_str());
            assert_eq!(data, Some(text.as_str()));
            let shown = result["content"][0]["text"].as_str().unwrap();
            let shown: Value = serde_json::from_str(shown).unwrap();
            assert_eq!(&shown, content);
        }
    }
}

// ---- Tokens that an API sends back ----

const MARKER: &str = "[access token removed]";

fn token_of(request: &Request) -> String {
    let bearer = request.header("Authorization").unwrap();
    bearer.strip_prefix("Bearer ").unwrap().to_owned()
}

/// What `api_get_request` gives when the API answers so to whoever has a token; the whole message
/// has no token.
fn echoed(
    world: &World,
    arguments: Value,
    answer: impl Fn(&str) -> Reply + Send + Sync + 'static,
) -> Value {
    world
        .backend
        .on(move |request| Some(answer(&token_of(request)).into()));
    let before = world.backend.requests().len();
    let mut mcp = world.server.modern();
    let reply = mcp.send(
        "tools/call",
        json!({"name": "api_get_request", "arguments": arguments}),
    );
    for request in &world.backend.requests()[before..] {
        let token = token_of(request);
        // Neither all of it nor its end.
        let end = &token[token.len() - token.len().min(16)..];
        assert!(!reply.text().contains(end), "{}", reply.text());
    }
    reply.json()["result"]["structuredContent"].clone()
}

/// A parser of URLs drops a tab, and would put the token together.
#[test]
fn a_token_with_a_tab_in_it_is_not_put_together_in_the_target_of_a_redirect() {
    let world = World::signed_in();
    world.backend.on(|request| {
        let token = token_of(request);
        let (start, end) = token.split_at(token.len() / 2);
        let location = format!("/v1.0/x?t={start}\t{end}");
        Some(Reply::empty(302).with("Location", &location).into())
    });
    let mut mcp = world.server.modern();
    let content = mcp.fails("api_get_request", x());
    let target = format!("{}/x?t={MARKER}", world.backend.url());
    assert_eq!(content["redirect_target"], target, "{content}");
    let token = token_of(&world.backend.last());
    assert!(!content.to_string().contains(&token), "{content}");
}

fn x() -> Value {
    json!({"endpoint": "/x"})
}

// CASES B11
#[test]
fn a_token_that_the_api_sends_back_is_replaced_wherever_it_stands_and_the_result_says_so() {
    let world = World::signed_in();
    let echo = |token: &str| json!({"headers": {"authorization": format!("Bearer {token}")}});
    let clean = json!({"headers": {"authorization": format!("Bearer {MARKER}")}});
    for status in [200, 401, 403, 418, 500] {
        let content = echoed(&world, x(), move |token| {
            Reply::of_json(status, &echo(token))
        });
        assert_eq!(content["data"], clean, "{status}");
        assert!(
            content["hint"].as_str().unwrap().contains("removed"),
            "{content}"
        );
    }
    // Twice, at both ends, in a key.
    let content = echoed(&world, x(), |token| {
        Reply::new(200, "text/plain", format!("{token}{token}-{token}"))
    });
    assert_eq!(content["data"], format!("{MARKER}{MARKER}-{MARKER}"));
    let content = echoed(&world, x(), |token| Reply::of_json(200, &json!({token: 1})));
    assert_eq!(content["data"], json!({MARKER: 1}));
    // In what is no text, and in what was packed.
    let content = echoed(&world, x(), |token| {
        let bytes = [b"\xff\0", token.as_bytes(), b"\xfe"].concat();
        Reply::new(200, "application/octet-stream", bytes)
    });
    let bytes = [b"\xff\0", MARKER.as_bytes(), b"\xfe"].concat();
    assert_eq!(content["data"]["base64"], BASE64_STANDARD.encode(bytes));
    let content = echoed(&world, x(), move |token| {
        Reply::new(
            200,
            "application/json",
            gzip(echo(token).to_string().as_bytes()),
        )
        .with("Content-Encoding", "gzip")
        .with("Transfer-Encoding", "chunked")
    });
    assert_eq!(content["data"], clean);
    // Selected.
    let select = json!({"endpoint": "/x", "select": "/headers/authorization"});
    let content = echoed(&world, select, move |token| {
        Reply::of_json(200, &echo(token))
    });
    assert_eq!(content["data"], format!("Bearer {MARKER}"));
    // An answer without one is as it was.
    let content = echoed(&world, x(), |_| {
        Reply::of_json(200, &json!({"authorization": "Bearer AT-x"}))
    });
    assert_eq!(content["data"]["authorization"], "Bearer AT-x");
    assert!(content.get("hint").is_none(), "{content}");
}

// CASES B11
#[test]
fn a_token_in_a_header_of_the_answer_is_replaced_too() {
    let world = World::signed_in();
    let content = echoed(&world, x(), |token| {
        Reply::new(302, &format!("text/plain; t={token}"), "")
            .with(
                "Location",
                &format!("https://elsewhere.example/?access_token={token}"),
            )
            .with("X-Request-Id", token)
            .with("ETag", &format!("\"{token}\""))
    });
    assert_eq!(
        content["redirect_target"],
        format!("https://elsewhere.example/?access_token={MARKER}")
    );
    assert_eq!(content["content_type"], format!("text/plain; t={MARKER}"));
    assert_eq!(content["headers"]["x-request-id"], MARKER);
    assert!(
        content["hint"].as_str().unwrap().contains("removed"),
        "{content}"
    );
    let content = echoed(&world, x(), |token| {
        Reply::empty(302).with("Location", &format!("//{token}.example/"))
    });
    assert_eq!(content["redirect_target"], format!("//{MARKER}.example/"));
    echoed(&world, x(), |token| {
        Reply::of_json(
            200,
            &json!({"@odata.nextLink": format!("/v1.0/x?t={token}")}),
        )
    });
    echoed(&world, x(), |token| {
        Reply::of_json(200, &json!([])).with("Link", &format!("</v1.0/x?t={token}>; rel=next"))
    });
    let content = echoed(&world, x(), |token| {
        let field = format!("Bearer error=\"insufficient_scope\", scope=\"{token}\"");
        Reply::of_json(403, &json!({})).with("WWW-Authenticate", &field)
    });
    assert!(
        content["message"].as_str().unwrap().contains("scope"),
        "{content}"
    );
    echoed(&world, x(), |token| {
        Reply::of_json(200, &json!({})).with("Content-Encoding", token)
    });
}

// CASES B11
#[test]
fn a_token_is_replaced_before_the_answer_is_cut() {
    const MOST: usize = 600;
    let world =
        World::signed_in().with(|setup| setup.with("MAX_RESPONSE_BYTES", &MOST.to_string()));
    for media_type in ["text/plain", "application/json"] {
        for before in (0..MOST + 20).step_by(7) {
            for behind in [0, 3, 10_000] {
                let content = echoed(&world, x(), move |token| {
                    let body = format!("{}{token}{}", "x".repeat(before), "y".repeat(behind));
                    Reply::new(200, media_type, body)
                });
                let data = content["data"].as_str().unwrap();
                let clean = format!("{}{MARKER}{}", "x".repeat(before), "y".repeat(behind));
                assert!(clean.starts_with(data), "{before} {behind}: {data}");
                assert!(data.len() <= MOST, "{before} {behind}: {data}");
                let least = MOST.min(before + MARKER.len());
                assert!(data.len() >= least, "{before} {behind}: {data}");
            }
        }
    }
}

/// After a 401 there are two of them.
#[test]
fn each_token_of_a_call_is_replaced() {
    let world = World::signed_in();
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let for_api = std::sync::Arc::clone(&seen);
    let content = echoed(&world, x(), move |token| {
        let mut seen = for_api.lock().unwrap();
        seen.push(token.to_owned());
        Reply::of_json(if seen.len() == 1 { 401 } else { 200 }, &json!(*seen))
    });
    let seen = seen.lock().unwrap();
    assert!(seen.len() == 2 && seen[0] != seen[1], "{seen:?}");
    assert_eq!(content["data"], json!([MARKER, MARKER]));
}

/// Tokens of personal accounts are no JWT: they have characters that are escaped in many ways.
#[test]
fn an_opaque_token_is_replaced_however_its_characters_are_escaped() {
    let world = World::signed_in();
    let token = format!(
        "EwB{}+/{}/+a=/{}==",
        "ab1".repeat(20),
        "Cd2".repeat(110),
        "e".repeat(20)
    );
    let issued = token.clone();
    world
        .entra
        .token_tamper(move |body| body["access_token"] = json!(issued));
    for (plus, slash, equals) in [
        ("+", "/", "="),
        ("\\u002B", "\\/", "\\u003d"),
        ("\\u002b", "\\u002F", "="),
        ("%2B", "%2f", "%3D"),
        ("&#x2B;", "/", "&#61;"),
    ] {
        for media_type in ["text/plain", "text/html"] {
            let content = echoed(&world, x(), move |token| {
                let written = token
                    .replace('=', equals)
                    .replace('+', plus)
                    .replace('/', slash);
                let status = if token.starts_with("AT-") { 401 } else { 200 };
                Reply::new(status, media_type, format!("<{written}>"))
            });
            assert_eq!(content["data"], format!("<{MARKER}>"), "{plus}");
        }
    }
    assert_eq!(token_of(&world.backend.last()), token);
}

// ---- Media types and character sets ----

fn utf16(text: &str, is_big_endian: bool) -> Vec<u8> {
    let bytes = |unit: u16| {
        if is_big_endian {
            unit.to_be_bytes()
        } else {
            unit.to_le_bytes()
        }
    };
    text.encode_utf16().flat_map(bytes).collect()
}

// CASES B4
#[test]
fn json_is_read_as_json_by_each_of_its_names_and_in_each_character_set() {
    let world = World::signed_in();
    let text = r#"{"name":"José 🎉","@odata.nextLink":"/v1.0/x?p=2"}"#.to_owned();
    let latin = b"{\"name\":\"Jos\xe9 \x80\",\"@odata.nextLink\":\"/v1.0/x?p=2\"}";
    let with_mark = format!("\u{feff}{text}");
    for (content_type, body, name) in [
        (
            "application/json",
            with_mark.clone().into_bytes(),
            "José 🎉",
        ),
        ("text/json", text.clone().into_bytes(), "José 🎉"),
        (
            "Text/JSON; charset=utf-8",
            with_mark.clone().into_bytes(),
            "José 🎉",
        ),
        ("text/x-json", text.clone().into_bytes(), "José 🎉"),
        ("application/x-json", text.clone().into_bytes(), "José 🎉"),
        (
            "application/hal+json; charset=\"UTF-8\"",
            text.clone().into_bytes(),
            "José 🎉",
        ),
        (
            "application/json; charset=iso-8859-1",
            latin.to_vec(),
            "José €",
        ),
        (
            "application/json;charset=Windows-1252",
            latin.to_vec(),
            "José €",
        ),
        // It says so, and is UTF-8 all the same.
        (
            "application/json; charset=iso-8859-1",
            text.clone().into_bytes(),
            "José 🎉",
        ),
        (
            "application/json; charset=utf-16",
            utf16(&with_mark, true),
            "José 🎉",
        ),
        (
            "application/json; charset=utf-16",
            utf16(&with_mark, false),
            "José 🎉",
        ),
        (
            "application/json; charset=utf-16",
            utf16(&text, false),
            "José 🎉",
        ),
        (
            "application/json; charset=utf-16",
            utf16(&text, true),
            "José 🎉",
        ),
        (
            "application/json; charset=UTF-16LE",
            utf16(&text, false),
            "José 🎉",
        ),
        (
            "application/json; charset='utf-16be'",
            utf16(&text, true),
            "José 🎉",
        ),
        ("application/json", utf16(&with_mark, false), "José 🎉"),
    ] {
        let reply = Reply::new(200, content_type, body);
        let content = called(&world, "api_get_request", reply.clone());
        assert_eq!(content["data"]["name"], name, "{content_type}: {content}");
        assert_eq!(content["next"], format!("{}/x?p=2", world.backend.url()));
        assert_eq!(content["content_type"], content_type);
        world.backend.on(move |_| Some(reply.clone().into()));
        let arguments = json!({"endpoint": "/x", "select": "/name"});
        let content = world.server.modern().ok("api_get_request", arguments);
        assert_eq!(content["data"], name, "{content_type}");
    }
}

// CASES B4
#[test]
fn text_is_read_by_its_type_and_its_declared_character_set() {
    let world = World::signed_in();
    let batch = "--b\r\nContent-Type: application/http\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n--b--";
    for (content_type, body, text) in [
        ("application/x-yaml", b"a: 1\n".to_vec(), "a: 1\n"),
        ("application/vnd.oai.openapi+yaml", b"a: 1".to_vec(), "a: 1"),
        ("multipart/mixed; boundary=b", batch.into(), batch),
        (
            "message/rfc822",
            b"Subject: x\r\n\r\n".to_vec(),
            "Subject: x\r\n\r\n",
        ),
        ("application/jsonl", b"{}\n{}".to_vec(), "{}\n{}"),
        ("application/x-own; charset=utf-8", "grüße".into(), "grüße"),
        (
            "application/x-own; Charset=latin1",
            b"gr\xfc\xdfe".to_vec(),
            "grüße",
        ),
        (
            "text/plain; charset=iso-8859-1",
            b"gr\xfc\xdfe \x93x\x94".to_vec(),
            "grüße “x”",
        ),
        (
            "text/csv; header=present; charset=\"windows-1252\"",
            b"\x80 5".to_vec(),
            "€ 5",
        ),
        (
            "text/plain; charset=iso-8859-15",
            b"\xa4 \xbd".to_vec(),
            "€ œ",
        ),
        ("text/plain; charset=us-ascii", b"plain".to_vec(), "plain"),
        // As spreadsheets write it: the mark alone says what it is.
        ("text/csv", utf16("\u{feff}ä;b", false), "ä;b"),
        ("text/csv", utf16("\u{feff}ä;b", true), "ä;b"),
        (
            "text/csv; charset=utf-8",
            utf16("\u{feff}ä;b", false),
            "ä;b",
        ),
        // No media type.
        ("json", b"{}".to_vec(), "{}"),
        ("text/csv", b"\xef\xbb\xbfa,b".to_vec(), "a,b"),
        (
            "text/plain; charset=utf-16",
            utf16("\u{feff}grüße 🎉", false),
            "grüße 🎉",
        ),
        (
            "text/plain; charset=utf-16be",
            utf16("grüße", true),
            "grüße",
        ),
        // Half of a pair, and half of a unit.
        (
            "text/plain; charset=utf-16le",
            b"a\0\x3d\xd8b\0c".to_vec(),
            "a\u{fffd}b",
        ),
    ] {
        let content = called(
            &world,
            "api_get_request",
            Reply::new(200, content_type, body),
        );
        assert_eq!(content["data"], text, "{content_type}");
    }
    for (content_type, body) in [
        ("image/png; charset=utf-8", b"x".as_slice()),
        ("multipart/mixed; boundary=b", b"--b\r\n\r\n\xff\r\n--b--"),
        ("application/octet-stream", b"\xef\xbb\xbfa"),
        // Some servers name a charset also for what is not text.
        (
            "application/pdf; charset=iso-8859-1",
            b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n\x00\x01",
        ),
        ("application/zip;charset=ISO-8859-15", b"PK\x03\x04\x14\xff"),
    ] {
        let content = called(
            &world,
            "api_get_request",
            Reply::new(200, content_type, body),
        );
        assert_eq!(
            content["data"]["base64"],
            BASE64_STANDARD.encode(body),
            "{content_type}"
        );
    }
}

#[test]
fn a_text_in_another_character_set_is_cut_within_the_bound_and_has_no_token() {
    const MOST: usize = 600;
    let world =
        World::signed_in().with(|setup| setup.with("MAX_RESPONSE_BYTES", &MOST.to_string()));
    for before in (0..400).step_by(13) {
        let content = echoed(&world, x(), move |token| {
            let text = format!("{}{token}{}", "ä".repeat(before), "ö".repeat(1_000));
            Reply::new(200, "text/plain; charset=utf-16", utf16(&text, false))
        });
        let data = content["data"].as_str().unwrap();
        assert!(data.len() <= MOST && content["truncated"] == true, "{data}");
        assert!(!data.contains("AT-"), "{data}");
    }
    // It becomes longer in UTF-8.
    let reply = Reply::new(200, "text/plain; charset=latin1", vec![0xe4; 400]);
    let content = called(&world, "api_get_request", reply);
    assert_eq!(
        (
            &content["data"],
            &content["truncated"],
            &content["total_bytes"]
        ),
        (&json!("ä".repeat(300)), &json!(true), &json!(800))
    );
}
