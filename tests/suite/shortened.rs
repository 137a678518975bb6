//! Answers that are longer than the caller wants them, or than the settings allow: JSON stays JSON,
//! and says what it has lost.

use crate::support::http::Reply;
use crate::support::schema::departures;
use crate::support::server::World;
use serde_json::{Value, json};

const TOOLS: [&str; 5] = [
    "api_get_request",
    "api_post_request",
    "api_put_request",
    "api_patch_request",
    "api_delete_request",
];
const LEAST: usize = 1024;

fn answer(world: &World, status: u16, body: &Value) {
    let reply = Reply::of_json(status, body);
    world.backend.on(move |_| Some(reply.clone().into()));
}

/// The structured content of a call, whatever has come of it; it fits its schema.
fn called(world: &World, tool: &str, arguments: Value) -> Value {
    let mut mcp = world.server.modern();
    let content = mcp.call(tool, arguments)["structuredContent"].take();
    let tools = mcp.result("tools/list", json!({}));
    let mut tools = tools["tools"].as_array().unwrap().iter();
    let definition = tools.find(|known| known["name"] == tool).unwrap();
    assert_eq!(
        departures(&definition["outputSchema"], &content, ""),
        Vec::<String>::new()
    );
    content
}

fn got(world: &World, max_bytes: usize) -> Value {
    let arguments = json!({"endpoint": "/x", "max_bytes": max_bytes});
    called(world, "api_get_request", arguments)
}

/// Elements of some 50 bytes.
fn messages(count: usize) -> Vec<Value> {
    let message = |id| json!({"id": id, "subject": format!("{id:030}")});
    (0..count).map(message).collect()
}

fn length(json: &Value) -> usize {
    json.to_string().len()
}

#[test]
fn a_page_that_is_longer_than_wanted_keeps_the_elements_that_fit_and_says_how_to_get_the_others() {
    let world = World::signed_in();
    let page = json!({
        "@odata.context": "https://api.example/$metadata",
        "@odata.nextLink": "/v1.0/x?p=2",
        "value": messages(100),
    });
    answer(&world, 200, &page);
    for tool in TOOLS {
        let arguments = json!({"endpoint": "/x", "max_bytes": 2_000});
        let content = called(&world, tool, arguments);
        let kept = content["data"]["value"].as_array().unwrap();
        assert_eq!(kept[..], messages(100)[..kept.len()]);
        let one = length(&json!(messages(1)));
        let bytes = length(&content["data"]);
        assert!((2_000 - one..=2_000).contains(&bytes), "{bytes}");
        assert_eq!(content["data"]["@odata.nextLink"], "/v1.0/x?p=2");
        let rest = 100 - kept.len();
        assert_eq!(
            (&content["truncated"], &content["left_out"]),
            (&json!(true), &json!({ "/value": rest }))
        );
        assert_eq!(content["total_bytes"], length(&page));
        assert_eq!(content["next"], format!("{}/x?p=2", world.backend.url()));
        let hint = content["hint"].as_str().unwrap();
        let pointer = format!("/value/{}", kept.len());
        assert!(hint.contains("select") && hint.contains(&pointer), "{hint}");
        assert!(hint.contains("next"), "{hint}");
        // The hint holds what it promises.
        let arguments = json!({"endpoint": "/x", "max_bytes": 2_000, "select": pointer});
        let content = called(&world, tool, arguments);
        assert_eq!(content["data"], messages(100)[kept.len()]);
        assert_eq!(content.get("left_out"), None);
    }
}

#[test]
fn the_settings_bound_shortens_as_the_callers_does() {
    let world = World::signed_in().with(|setup| setup.with("MAX_RESPONSE_BYTES", "2000"));
    let page = json!({"value": messages(100)});
    answer(&world, 200, &page);
    let content = called(&world, "api_get_request", json!({"endpoint": "/x"}));
    let kept = content["data"]["value"].as_array().unwrap().len();
    assert_eq!(content["left_out"], json!({"/value": 100 - kept}));
    assert!(kept > 30 && length(&content["data"]) <= 2_000, "{kept}");
    assert!(!content["hint"].as_str().unwrap().contains("next"));
    assert_eq!(got(&world, 2_000), content);
    let less = got(&world, LEAST);
    assert!(length(&less["data"]) <= LEAST, "{less}");
}

#[test]
fn what_fits_is_not_touched() {
    let world = World::signed_in();
    let page = json!({"value": messages(25)});
    answer(&world, 200, &page);
    let most = length(&page);
    let whole = got(&world, most);
    assert_eq!(
        (&whole["data"], &whole["truncated"], whole.get("left_out")),
        (&page, &json!(false), None)
    );
    let shorter = got(&world, most - 1);
    assert_eq!(shorter["left_out"], json!({"/value": 1}));
}

#[test]
fn the_largest_array_is_shortened_wherever_it_is() {
    let world = World::signed_in();
    let big = || json!("x".repeat(2_000));
    for (body, data, left_out) in [
        // The whole answer is one.
        (
            json!(["a", "b", big(), "c"]),
            json!(["a", "b"]),
            json!({"": 2}),
        ),
        (
            json!({"a": {"b/c": {"~": [1, 2, big()]}}, "d": [1, 2, 3]}),
            json!({"a": {"b/c": {"~": [1, 2]}}, "d": [1, 2, 3]}),
            json!({"/a/b~1c/~0": 1}),
        ),
        // An array in an array is part of an element.
        (
            json!({"rows": [[1, 2], [3, big()], [5, 6]]}),
            json!({"rows": [[1, 2]]}),
            json!({"/rows": 2}),
        ),
        // No element fits.
        (
            json!({"value": [big()], "count": 1}),
            json!({"value": [], "count": 1}),
            json!({"/value": 1}),
        ),
        (json!([big(), 1]), json!([]), json!({"": 2})),
        // The largest is not enough: the next larger ones give way, and it keeps what it can.
        (
            json!({"a": [1, 2], "b": [3, big()], "c": [4, big(), big()]}),
            json!({"a": [1, 2], "b": [], "c": [4]}),
            json!({"/b": 2, "/c": 2}),
        ),
        // Brackets in texts are none.
        (
            json!({"text": "[[[{{{\"", "value": ["]]]\\", big()]}),
            json!({"text": "[[[{{{\"", "value": ["]]]\\"]}),
            json!({"/value": 1}),
        ),
    ] {
        answer(&world, 200, &body);
        let content = got(&world, LEAST);
        assert_eq!(
            (&content["data"], &content["left_out"]),
            (&data, &left_out),
            "{body}"
        );
    }
}

#[test]
fn what_has_no_array_to_shorten_is_cut_and_is_a_text() {
    let world = World::signed_in();
    let big = || json!("x".repeat(2_000));
    for body in [
        json!({"a": big()}),
        json!({"a": big(), "value": [1, 2, 3]}),
        json!({"a": big(), "value": []}),
        big(),
    ] {
        answer(&world, 200, &body);
        let content = got(&world, LEAST);
        let text = body.to_string();
        assert_eq!(
            (&content["data"], &content["total_bytes"]),
            (&json!(text[..LEAST]), &json!(text.len()))
        );
        assert_eq!(
            (content.get("left_out"), &content["truncated"]),
            (None, &json!(true))
        );
    }
}

/// Numbers, escapes and white space stay as they are.
#[test]
fn what_is_kept_is_kept_byte_for_byte() {
    let world = World::signed_in();
    let start =
        "{ \"n\" : 1.50e+01,\r\n\t\"v\\u0061lue\": [\n 123456789012345678901234567890 ,\"\\u00e4\"";
    let end = " ], \"last\" : {} }";
    let body = format!("{start} , \"{}\" {end}\n", "x".repeat(1_000));
    let reply = Reply::new(200, "application/json", body);
    world.backend.on(move |_| Some(reply.clone().into()));
    let arguments = json!({"endpoint": "/x", "max_bytes": LEAST});
    let call = json!({"name": "api_get_request", "arguments": arguments});
    let reply = world.server.modern().send("tools/call", call);
    let data = format!("\"data\":{start}], \"last\" : {{}} }}");
    assert!(reply.text().contains(&data), "{}", reply.text());
    let content = &reply.json()["result"]["structuredContent"];
    assert_eq!(content["left_out"], json!({"/value": 1}));
}

#[test]
fn what_is_selected_is_shortened_and_its_rest_is_named_by_pointers_into_the_answer() {
    let world = World::signed_in();
    let page = json!({"value": messages(100), "a/b": {"rows": messages(90)}});
    answer(&world, 200, &page);
    let select = |pointers: Value| {
        let arguments = json!({"endpoint": "/x", "max_bytes": LEAST, "select": pointers});
        called(&world, "api_get_request", arguments)
    };
    let one = select(json!("/value"));
    let kept = one["data"].as_array().unwrap().len();
    assert_eq!(one["left_out"], json!({"/value": 100 - kept}));
    let hint = one["hint"].as_str().unwrap();
    assert!(hint.contains(&format!("/value/{kept} ")), "{hint}");
    let deeper = select(json!("/a~1b"));
    let kept = deeper["data"]["rows"].as_array().unwrap().len();
    assert_eq!(deeper["left_out"], json!({"/a~1b/rows": 90 - kept}));
    let several = select(json!(["/a~1b", "/value/0", "/value"]));
    let kept = several["data"]["/value"].as_array().unwrap().len();
    assert_eq!(several["data"]["/a~1b"], json!({"rows": []}));
    assert_eq!(
        several["left_out"],
        json!({"/a~1b/rows": 90, "/value": 100 - kept})
    );
}

#[test]
fn the_body_of_an_error_is_shortened_and_nothing_can_be_selected_from_it() {
    let world = World::signed_in();
    answer(&world, 422, &json!({"errors": messages(100)}));
    let content = got(&world, LEAST);
    let kept = content["data"]["errors"].as_array().unwrap().len();
    assert_eq!(content["left_out"], json!({"/errors": 100 - kept}));
    assert!(!content["hint"].as_str().unwrap().contains("select"));
}

#[test]
fn a_shortened_answer_is_one_that_every_parser_takes() {
    let world = World::signed_in();
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    let big = "x".repeat(2_000);
    for (body, data) in [
        // What is nested too deep is left out, or the whole is a text.
        (
            format!("[1,{deep},\"{big}\"]"),
            json!(format!("[1,{deep}]")),
        ),
        (format!("[1,\"{big}\",{deep}]"), json!([1])),
        // Half a pair of surrogates.
        (format!(r#"["\ud83d","{big}"]"#), json!(["\u{fffd}"])),
    ] {
        let reply = Reply::new(200, "application/json", body);
        world.backend.on(move |_| Some(reply.clone().into()));
        assert_eq!(got(&world, LEAST)["data"], data);
    }
}

#[test]
fn text_and_bytes_are_cut_to_what_is_wanted() {
    let world = World::signed_in();
    for (content_type, pointer) in [
        ("text/plain", "/data"),
        ("application/octet-stream", "/data/size"),
    ] {
        let reply = Reply::new(200, content_type, "x".repeat(5_000));
        world.backend.on(move |_| Some(reply.clone().into()));
        let content = got(&world, LEAST);
        let size = content.pointer(pointer).unwrap();
        let size = size
            .as_str()
            .map_or_else(|| size.clone(), |text| json!(text.len()));
        assert_eq!(
            (&size, &content["total_bytes"], content.get("left_out")),
            (&json!(LEAST), &json!(5_000), None)
        );
    }
}

#[test]
fn a_budget_is_a_number_within_the_settings() {
    let world = World::signed_in();
    answer(&world, 200, &json!({"value": messages(100)}));
    for (max_bytes, reason) in [
        (json!(LEAST - 1), "max_bytes must be at least 1024"),
        (json!(0), "max_bytes must be at least 1024"),
        (json!(-1), "max_bytes must be at least 1024"),
        (json!((1 << 20) + 1), "max_bytes must be at most 1048576"),
        (json!(1e300), "max_bytes must be at most 1048576"),
        (json!(2000.5), "max_bytes must be of type integer"),
        (json!("many"), "max_bytes must be of type integer"),
    ] {
        let before = world.backend.requests().len();
        let arguments = json!({"endpoint": "/x", "max_bytes": max_bytes});
        let refused = called(&world, "api_get_request", arguments);
        assert_eq!(refused["error"], "invalid_request", "{refused}");
        assert!(
            refused["message"].as_str().unwrap().contains(reason),
            "{refused}"
        );
        assert_eq!(world.backend.requests().len(), before);
    }
    let shortened = got(&world, 2_000);
    for same in ["2000.0", "2e3"] {
        let arguments = format!(r#"{{"endpoint":"/x","max_bytes":{same}}}"#);
        let arguments: Value = serde_json::from_str(&arguments).unwrap();
        assert_eq!(called(&world, "api_get_request", arguments), shortened);
    }
    for none in [
        json!({"endpoint": "/x", "max_bytes": null}),
        json!({"endpoint": "/x"}),
    ] {
        assert_eq!(called(&world, "api_get_request", none)["truncated"], false);
    }
    // Where the settings allow less, there is no such argument.
    let world = world.with(|setup| setup.with("MAX_RESPONSE_BYTES", "1000"));
    let refused = got(&world, LEAST);
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("no argument \"max_bytes\""), "{message}");
}

#[test]
fn what_many_arrays_have_lost_takes_no_more_room_than_the_answer() {
    let world = World::signed_in();
    let arrays: serde_json::Map<_, _> = (0..2_000)
        .map(|number| (format!("a{number}"), json!([number, number])))
        .collect();
    answer(&world, 200, &json!({ "n".repeat(20_000): arrays }));
    let content = got(&world, 45_000);
    assert_eq!(content["truncated"], true);
    let bytes = length(&content);
    assert!(bytes < 100_000, "{bytes}");
}
