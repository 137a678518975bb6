//! Parts of an answer by JSON Pointer, and where the next page is.

use crate::support::http::Reply;
use crate::support::schema::departures;
use crate::support::server::World;
use entra_auth_mcp::api::endpoint::{Base, Target};
use serde_json::{Value, json};

const DOCUMENT: &str = r#"{"value":[{"id":1.50,"a":{"z":1,"b":[true,null]}},{"id":123456789012345678901234567890}],
    "a/b":"slash","m~n":"tilde","":"empty","k\u0065y":"escaped","twice":1,"twice":2,"~1":"both", "0":"zero"}"#;

/// A world whose backend answers `GET /doc` with JSON.
fn world_with(document: &str) -> World {
    let world = World::signed_in();
    answer(&world, Reply::new(200, "application/json", document));
    world
}

fn answer(world: &World, reply: Reply) {
    world.backend.on(move |_| Some(reply.clone().into()));
}

/// The result as text, as numbers must keep their digits; it fits its schema.
fn select(world: &World, pointers: Value) -> (String, Value) {
    let mut mcp = world.server.modern();
    let arguments = json!({"endpoint": "/doc", "select": pointers});
    let reply = mcp.send(
        "tools/call",
        json!({"name": "api_get_request", "arguments": arguments}),
    );
    let content = reply.json()["result"]["structuredContent"].clone();
    let tools = mcp.result("tools/list", json!({}));
    let tool = tools["tools"]
        .as_array()
        .unwrap()
        .iter()
        .find(|tool| tool["name"] == "api_get_request")
        .unwrap();
    assert_eq!(
        departures(&tool["outputSchema"], &content, ""),
        Vec::<String>::new()
    );
    (reply.text(), content)
}

/// What `data` is, to the letter.
fn data_of(text: &str) -> &str {
    let structured = text.split("\"structuredContent\":").nth(1).unwrap();
    let data = structured.split("\"data\":").nth(1).unwrap();
    data.split(",\"isError\"")
        .next()
        .unwrap()
        .strip_suffix('}')
        .unwrap()
}

#[test]
fn a_pointer_selects_the_part_byte_for_byte() {
    let world = world_with(DOCUMENT);
    for (pointer, part) in [
        ("", DOCUMENT),
        ("/value/0", r#"{"id":1.50,"a":{"z":1,"b":[true,null]}}"#),
        ("/value/0/id", "1.50"),
        ("/value/1/id", "123456789012345678901234567890"),
        ("/value/0/a/b", "[true,null]"),
        ("/value/0/a/b/1", "null"),
        ("/a~1b", r#""slash""#),
        ("/m~0n", r#""tilde""#),
        ("/", r#""empty""#),
        ("/key", r#""escaped""#),
        ("/twice", "2"),
        ("/~01", r#""both""#),
        ("/0", r#""zero""#),
    ] {
        let (text, content) = select(&world, json!(pointer));
        assert_eq!(data_of(&text), part, "{pointer:?}");
        assert!(
            content["success"] == true && content.get("not_found").is_none(),
            "{pointer:?}"
        );
    }
}

#[test]
fn a_pointer_that_finds_nothing_is_named_and_fails_nothing() {
    let world = world_with(DOCUMENT);
    for pointer in [
        "/nothing",
        "/value/2",
        "/value/00",
        "/value/01",
        "/value/-",
        "/value/-1",
        "/value/+1",
        "/value/1e0",
        "/value/",
        "/value/x",
        "/a/b",
        "/value/0/id/x",
        "/key/0",
        "/value/99999999999999999999999",
        "/Value",
        "/ value",
    ] {
        let (_, content) = select(&world, json!(pointer));
        assert_eq!(
            (&content["success"], &content["data"]),
            (&json!(true), &Value::Null),
            "{pointer:?}"
        );
        assert_eq!(content["not_found"], json!([pointer]));
        assert!(
            content["hint"].as_str().unwrap().contains("not_found"),
            "{content}"
        );
    }
}

#[test]
fn several_pointers_give_an_object_with_what_they_found() {
    let world = world_with(DOCUMENT);
    let (text, content) = select(&world, json!(["/value/0/id", "/nope", "/a~1b", "/value/9"]));
    assert_eq!(data_of(&text), r#"{"/value/0/id":1.50,"/a~1b":"slash"}"#);
    assert_eq!(content["not_found"], json!(["/nope", "/value/9"]));
    let (text, _) = select(&world, json!(["/nope"]));
    assert_eq!(data_of(&text), "{}");
}

#[test]
fn what_is_no_pointer_is_refused_before_anything_is_called() {
    let world = world_with(DOCUMENT);
    for pointers in [
        json!("value"),
        json!("#/value"),
        json!("$.value"),
        json!("/a~"),
        json!("/a~2"),
        json!("/~é"),
        json!(["/a", "b"]),
        json!([]),
        json!(5),
        json!([1]),
        json!("/".repeat(1025)),
        json!(vec!["/a"; 51]),
    ] {
        let failure = world.server.modern().fails(
            "api_get_request",
            json!({"endpoint": "/doc", "select": pointers}),
        );
        assert_eq!(failure["error"], "invalid_request", "{pointers}");
        assert!(
            failure["message"].as_str().unwrap().contains("select"),
            "{failure}"
        );
    }
    assert_eq!(world.backend.requests().len(), 0);
}

#[test]
fn every_api_tool_selects() {
    let world = world_with(DOCUMENT);
    for verb in ["get", "post", "put", "patch", "delete"] {
        let arguments = json!({"endpoint": "/doc", "select": "/a~1b"});
        let content = world
            .server
            .modern()
            .ok(&format!("api_{verb}_request"), arguments);
        assert_eq!(content["data"], "slash", "{verb}");
    }
}

#[test]
fn only_a_successful_answer_of_json_is_selected_from() {
    let world = world_with("");
    for (reply, data) in [
        (Reply::new(200, "text/plain", "words"), json!("words")),
        (
            Reply::new(200, "application/json", "{broken"),
            json!("{broken"),
        ),
        (Reply::empty(204), Value::Null),
    ] {
        answer(&world, reply);
        let (_, content) = select(&world, json!(["/a", "/b"]));
        assert_eq!(
            (&content["data"], &content["not_found"]),
            (&data, &json!(["/a", "/b"]))
        );
    }
    answer(
        &world,
        Reply::new(404, "application/problem+json", r#"{"a":"why"}"#),
    );
    let (_, content) = select(&world, json!("/b"));
    assert_eq!(
        (&content["status"], &content["data"]),
        (&json!(404), &json!({"a": "why"}))
    );
    assert!(content.get("not_found").is_none(), "{content}");
}

#[test]
fn a_part_may_be_selected_from_more_than_is_handed_on() {
    let entra = crate::support::entra::Entra::start();
    let backend = crate::support::backend::Backend::start_for(&entra);
    let server = crate::support::server::Setup::new(&entra, Some(&backend))
        .with("MAX_RESPONSE_BYTES", "1000")
        .start();
    let mut mcp = server.modern();
    mcp.sign_in(crate::support::entra::ADA);
    let mut get = |length: usize, pointer: &str| {
        let filling = "x".repeat(length - r#"{"filling":"","part":7}"#.len());
        let body = format!(r#"{{"filling":"{filling}","part":7}}"#);
        backend.on(move |_| Some(Reply::new(200, "application/json", body.clone()).into()));
        mcp.ok(
            "api_get_request",
            json!({"endpoint": "/doc", "select": pointer}),
        )
    };
    let whole = get(16_000, "/part");
    assert_eq!(
        (&whole["data"], &whole["truncated"]),
        (&json!(7), &json!(false))
    );
    let cut = get(16_000, "/filling");
    assert_eq!(
        (
            cut["truncated"].clone(),
            cut["data"].as_str().unwrap().len()
        ),
        (json!(true), 1000)
    );
    assert_eq!(
        cut["total_bytes"],
        16_000 - r#"{"filling":,"part":7}"#.len()
    );
    // What is longer is not read as a whole.
    let longer = get(16_001, "/part");
    assert_eq!(
        (&longer["not_found"], &longer["total_bytes"]),
        (&json!(["/part"]), &json!(16_001))
    );
    assert_eq!(longer["data"].as_str().unwrap().len(), 1000);
}

#[test]
fn parts_that_are_chosen_many_times_are_counted_and_not_copied() {
    let world = World::signed_in();
    let big = format!(r#"{{"a":"{}"}}"#, "x".repeat(8 << 20));
    answer(&world, Reply::new(200, "application/json", big.clone()));
    // Each of them finds nearly all of it.
    let (text, content) = select(&world, json!(["", "/a", "/a", ""]));
    let expected = format!(r#"{{"":{big},"/a":"{}"}}"#, "x".repeat(8 << 20));
    assert_eq!(content["total_bytes"], expected.len(), "each of them once");
    assert_eq!(content["data"], expected[..1 << 20]);
    assert!(text.len() < 3 << 20, "{}", text.len());
}

/// Each token of a pointer looks through all that the ones before it have left.
#[test]
fn an_answer_is_not_looked_through_for_ever() {
    let world = World::signed_in();
    let depth = 100;
    let body = format!(
        "{}{}{}",
        "[".repeat(depth),
        "0,".repeat(10_000) + "0",
        "]".repeat(depth)
    );
    answer(&world, Reply::new(200, "application/json", body));
    let pointers: Vec<String> = (0..10).map(|n| "/0".repeat(depth - n)).collect();
    let (_, content) = select(&world, json!(pointers));
    assert_eq!(
        content["not_found"].as_array().unwrap().len(),
        8,
        "{content}"
    );
}

#[test]
fn the_next_page_is_pointed_out_and_can_be_called() {
    let world = World::signed_in();
    let mut mcp = world.server.modern();
    let mut endpoint = "/me/messages?$top=10".to_owned();
    let mut subjects = Vec::new();
    loop {
        let page = mcp.ok(
            "api_get_request",
            json!({"endpoint": endpoint, "select": ["/value"]}),
        );
        let messages = page["data"]["/value"].as_array().unwrap();
        subjects.extend(
            messages
                .iter()
                .map(|message| message["subject"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page["next"].as_str() else {
            break;
        };
        endpoint = next.to_owned();
    }
    assert_eq!(
        (subjects.len(), subjects[24].as_str()),
        (25, "Message 25 of 25")
    );
    let whole = mcp.ok("api_get_request", json!({"endpoint": "/me/messages"}));
    assert_eq!(whole["next"], whole["data"]["@odata.nextLink"]);
}

#[test]
fn links_are_read_as_rfc_8288_says() {
    let world = World::signed_in();
    let base = world.backend.url();
    for (links, next) in [
        (
            vec!["<{base}/x?page=2>; rel=\"next\""],
            Some("{base}/x?page=2"),
        ),
        (vec!["<{base}/x?page=2>;rel=next"], Some("{base}/x?page=2")),
        (vec!["<?page=2>; rel=next"], Some("{base}/doc?page=2")),
        (vec!["</v1.0/y>; REL=\"prev NEXT\""], Some("{base}/y")),
        (
            vec![
                "<{base}/a>; rel=\"prev\", <{base}/b,c;d>; title=\"x, <y>; rel=next\"; rel=\"next\"",
            ],
            Some("{base}/b,c;d"),
        ),
        (
            vec!["<{base}/a>; rel=prev", "<{base}/b>; rel=next"],
            Some("{base}/b"),
        ),
        (
            vec!["<{base}/b>; title=\"a \\\" b\"; rel=next"],
            Some("{base}/b"),
        ),
        (vec!["<{base}/b>; rel=prev; rel=next"], None),
        (vec!["<{base}/b>; rel=next; anchor=\"/elsewhere\""], None),
        (vec!["<{base}/b>; rel=\"nextdoor\""], None),
        (vec!["<{base}/b>"], None),
        (vec!["{base}/b; rel=next"], None),
        (vec!["<>; rel=next"], None),
        (vec![",;<\"\\"], None),
    ] {
        let filled = |text: &str| text.replace("{base}", &base);
        let reply = links
            .iter()
            .fold(Reply::of_json(200, &json!([1])), |reply, link| {
                reply.with("Link", &filled(link))
            });
        answer(&world, reply);
        let (_, content) = select(&world, json!("/0"));
        assert_eq!(
            content.get("next").and_then(Value::as_str),
            next.map(filled).as_deref(),
            "{links:?}"
        );
        assert!(content.get("next_outside_base").is_none(), "{links:?}");
    }
}

#[test]
fn a_next_page_outside_the_base_is_said_to_be_so() {
    let world = World::signed_in();
    let origin = world.backend.origin();
    for (link, url) in [
        (
            "https://evil.example/v1.0/x",
            "https://evil.example/v1.0/x".to_owned(),
        ),
        ("/v2/x", format!("{origin}/v2/x")),
        ("../x", format!("{origin}/x")),
        ("//evil.example/x", "http://evil.example/x".to_owned()),
    ] {
        answer(
            &world,
            Reply::of_json(200, &json!({"@odata.nextLink": link, "value": []})),
        );
        let content = world
            .server
            .modern()
            .ok("api_get_request", json!({"endpoint": "/doc"}));
        assert_eq!(
            (content.get("next"), &content["next_outside_base"]),
            (None, &json!(url)),
            "{link}"
        );
    }
    // The body comes first; what is no string is no link, and an error has no next page.
    let elsewhere = "<https://evil.example/>; rel=next";
    answer(
        &world,
        Reply::of_json(200, &json!({"@odata.nextLink": "y"})).with("Link", elsewhere),
    );
    let content = world
        .server
        .modern()
        .ok("api_get_request", json!({"endpoint": "/doc"}));
    assert_eq!(content["next"], format!("{origin}/v1.0/y"));
    answer(
        &world,
        Reply::of_json(
            200,
            &json!({"@odata.nextLink": 5, "a": {"@odata.nextLink": "deeper"}}),
        ),
    );
    let content = world
        .server
        .modern()
        .ok("api_get_request", json!({"endpoint": "/doc"}));
    assert_eq!(
        (content.get("next"), content.get("next_outside_base")),
        (None, None)
    );
    answer(
        &world,
        Reply::of_json(500, &json!({"@odata.nextLink": "y"})).with("Link", "<y>; rel=next"),
    );
    let content = world
        .server
        .modern()
        .fails("api_get_request", json!({"endpoint": "/doc"}));
    assert_eq!(
        (content.get("next"), content.get("next_outside_base")),
        (None, None)
    );
}

// CASES B6
#[test]
fn a_next_page_by_another_scheme_or_in_another_case_is_called_at_the_base() {
    let world = World::signed_in();
    let origin = world.backend.origin();
    let https = origin.replace("http://", "https://");
    for (link, next) in [
        (format!("{https}/v1.0/x?p=2"), "/v1.0/x?p=2"),
        (format!("{origin}/V1.0/X?p=2"), "/v1.0/X?p=2"),
        (format!("{https}/V1.0?p=2"), "/v1.0/?p=2"),
        ("/V1.0/x".to_owned(), "/v1.0/x"),
    ] {
        for reply in [
            Reply::of_json(200, &json!({"@odata.nextLink": link, "value": []})),
            Reply::of_json(200, &json!([])).with("Link", &format!("<{link}>; rel=next")),
        ] {
            answer(&world, reply);
            let mut mcp = world.server.modern();
            let content = mcp.ok("api_get_request", json!({"endpoint": "/doc"}));
            assert_eq!(content["next"], format!("{origin}{next}"), "{link}");
            assert!(content.get("next_outside_base").is_none(), "{link}");
            mcp.ok("api_get_request", json!({"endpoint": content["next"]}));
            assert_eq!(world.backend.requests().last().unwrap().target, next);
        }
    }
}

// CASES B6
#[test]
fn only_the_scheme_its_port_and_the_case_of_the_base_may_differ() {
    for (base, link, page) in [
        (
            "https://a.example/v1/",
            "http://a.example/v1/x",
            Some("https://a.example/v1/x"),
        ),
        (
            "https://a.example/v1/",
            "http://a.example:80/v1/x",
            Some("https://a.example/v1/x"),
        ),
        (
            "https://a.example/v1/",
            "http://a.example:443/v1/x",
            Some("https://a.example/v1/x"),
        ),
        (
            "https://a.example/v1/",
            "https://A.example/V1/X",
            Some("https://a.example/v1/X"),
        ),
        (
            "https://a.example/v1/",
            "http://a.example/V1?p=2",
            Some("https://a.example/v1/?p=2"),
        ),
        (
            "https://a.example:8443/v1/",
            "http://a.example:8443/v1/x",
            Some("https://a.example:8443/v1/x"),
        ),
        (
            "http://a.example/v1/",
            "https://a.example/v1/x",
            Some("http://a.example/v1/x"),
        ),
        (
            "http://a.example/",
            "https://a.example/x",
            Some("http://a.example/x"),
        ),
        (
            "https://a.example/v1/",
            "http://a.example/v1/a%2Fb?q=%2e",
            Some("https://a.example/v1/a%2Fb?q=%2e"),
        ),
        (
            "https://a.example/A%2fb/",
            "http://a.example/a%2FB/x",
            Some("https://a.example/A%2fb/x"),
        ),
        ("https://a.example/v1/", "http://a.example:8080/v1/x", None),
        ("https://a.example:8443/v1/", "http://a.example/v1/x", None),
        ("https://a.example:8443/v1/", "https://a.example/v1/x", None),
        ("https://a.example/v1/", "http://b.example/v1/x", None),
        (
            "https://a.example/v1/",
            "http://a.example.evil.example/v1/x",
            None,
        ),
        ("https://a.example/v1/", "http://ada@a.example/v1/x", None),
        ("https://a.example/v1/", "http://:p@a.example/v1/x", None),
        ("https://a.example/v1/", "http://a.example/v2/x", None),
        ("https://a.example/v1/", "http://a.example/v1x", None),
        ("https://a.example/v1/", "http://a.example/V1/../v2/x", None),
        (
            "https://a.example/v1/",
            "http://a.example/v1/%252e%252e/x",
            None,
        ),
        ("https://a.example/v1/", "http://a.example/v1/..;/x", None),
        ("https://a.example/v1/", "http://a.example/v1/x#y", None),
        ("https://a.example/v1/", "ftp://a.example/v1/x", None),
        ("https://a.example/v1/", "ws://a.example/v1/x", None),
    ] {
        let base = Base(base.parse().unwrap());
        let target = base.page(link).ok();
        assert_eq!(target.as_ref().map(Target::as_str), page, "{link}");
    }
}

// CASES B7
/// A page that is too long for the caller still has a next one, and its rest can be had.
#[test]
fn of_a_page_that_is_cut_the_next_one_is_named_and_that_select_finds_the_rest() {
    const MOST: usize = 1_000;
    let world =
        World::signed_in().with(|setup| setup.with("MAX_RESPONSE_BYTES", &MOST.to_string()));
    let url = world.backend.url();
    let items = |bytes: usize| format!("[\"{}\"]", "x".repeat(bytes));
    let link = "\"@odata.nextLink\":\"/v1.0/doc?p=2\"";
    let first = |bytes| format!("{{{link},\"value\":{}}}", items(bytes));
    let last = |bytes| format!("{{\"value\":{},{link}}}", items(bytes));
    let deeper = |bytes| {
        format!(
            "{{\"a\":{{{link}}},\"b\":\"{{\",\"value\":{}}}",
            items(bytes)
        )
    };
    for (body, has_next, can_select) in [
        (first(2_000), true, true),
        (last(2_000), true, true),
        (last(15_000), true, true),
        (deeper(2_000), false, true),
        (format!("[{},{{{link}}}]", items(2_000)), false, true),
        // Beyond the reach of select only what has come is looked at.
        (first(50_000), true, false),
        (last(50_000), false, false),
    ] {
        for chunked in [false, true] {
            let reply = Reply::new(200, "application/json", body.as_bytes());
            let reply = if chunked {
                reply.with("Transfer-Encoding", "chunked")
            } else {
                reply
            };
            answer(&world, reply);
            let mut mcp = world.server.modern();
            let page = mcp.ok("api_get_request", json!({"endpoint": "/doc"}));
            let shown = &body[..body.len().min(60)];
            assert_eq!(page["truncated"], true, "{shown}");
            assert_eq!(page["total_bytes"], body.len(), "{shown}");
            let next = has_next.then(|| json!(format!("{url}/doc?p=2")));
            assert_eq!(page.get("next"), next.as_ref(), "{shown}");
            let hint = page["hint"].as_str().unwrap_or_default();
            assert_eq!(hint.contains("select"), can_select, "{shown}: {hint}");
            let arguments = json!({"endpoint": "/doc", "select": "/nothing"});
            let selected = mcp.ok("api_get_request", arguments);
            assert_eq!(selected["data"].is_null(), can_select, "{shown}");
            assert_eq!(selected.get("next"), next.as_ref(), "{shown}");
        }
    }
    // What is no JSON, no object, or no success has none.
    for reply in [
        Reply::new(200, "text/plain", first(2_000)),
        Reply::new(500, "application/json", first(2_000)),
    ] {
        answer(&world, reply);
        let content = world
            .server
            .modern()
            .call("api_get_request", json!({"endpoint": "/doc"}));
        let content = &content["structuredContent"];
        assert_eq!(
            (content.get("next"), &content["truncated"]),
            (None, &json!(true))
        );
        let hint = content["hint"].as_str().unwrap_or_default();
        assert!(!hint.contains("select"), "{hint}");
    }
}
