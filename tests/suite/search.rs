//! Operations found by words, described, and called with the generic tools.

use std::collections::BTreeSet;

use crate::operations::{Bench, description, parts_of};
use crate::support::entra::Entra;
use crate::support::schema::breaks_the_rules;
use crate::support::server::{Setup, TempDir};
use serde_json::{Value, json};

/// A small API of mail, files and people.
fn paths() -> Value {
    let get = |id: &str, tag: &str, summary: &str| json!({"get": {"operationId": id, "tags": [tag], "summary": summary}});
    json!({
        "/me/messages": {
            "get": {"operationId": "listMessages", "tags": ["mail"], "summary": "Messages of a mailbox",
                "parameters": [
                    {"name": "top", "in": "query", "schema": {"type": "integer"}},
                    {"name": "ids", "in": "query", "explode": false,
                        "schema": {"type": "array", "items": {"type": "string"}}},
                ]},
            "post": {"operationId": "createMessage", "tags": ["mail"], "summary": "A new draft",
                "requestBody": {"required": true, "content": {"application/json": {"schema": {
                    "type": "object", "required": ["subject"],
                    "properties": {"subject": {"type": "string"}, "body": {"type": "string"}}}}}}},
        },
        "/me/messages/{messageId}": {
            "get": {"operationId": "getMessage", "tags": ["mail"]},
            "delete": {"operationId": "deleteMessage", "tags": ["mail"]},
        },
        "/me/messages/{messageId}/forward": {"post": {"operationId": "forward", "tags": ["mail"]}},
        "/me/manager": get("getManager", "people", "The manager"),
        "/me/drive/items": get("listItems", "files", "Items of the drive"),
        "/upload": {"post": {"operationId": "upload", "tags": ["files"], "requestBody": {
            "required": true,
            "content": {"application/x-www-form-urlencoded": {"schema": {
                "type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}}}}}},
        "/attach": {"post": {"operationId": "attach", "tags": ["mail"], "requestBody": {
            "required": true,
            "content": {"multipart/form-data": {"schema": {
                "type": "object", "required": ["name", "file"], "properties": {
                    "name": {"type": "string"}, "file": {"type": "string", "format": "binary"}}}}}}}},
        "/photo": {"put": {"operationId": "setPhoto", "tags": ["people"], "requestBody": {
            "required": true,
            "content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}}},
    })
}

fn bench() -> Bench {
    Bench::of(&description(&paths()), &[("API_TOOLS", "search")])
}

/// The ids of what is found.
fn found(bench: &mut Bench, arguments: Value) -> Vec<String> {
    let found = bench.mcp.ok("find_operations", arguments);
    let operations = found["operations"].as_array().unwrap().iter();
    operations
        .map(|one| one["id"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn the_two_tools_are_listed_where_operations_are_found_by_search() {
    let mut bench = bench();
    for name in ["find_operations", "describe_operation"] {
        let tool = bench.tool(name);
        assert_eq!(breaks_the_rules(&tool), Vec::<String>::new());
        assert_eq!(tool["annotations"]["readOnlyHint"], true);
    }
    let mut named = Bench::new(&paths());
    let listed = named.listed();
    assert!(listed.iter().all(|tool| tool["name"] != "find_operations"));
    let params = json!({"name": "find_operations", "arguments": {"query": "mail"}});
    let refused = named.mcp.send("tools/call", params).json();
    assert_eq!(refused["error"]["code"], -32602, "{refused}");
}

#[test]
fn a_question_finds_its_operation_first() {
    let mut bench = bench();
    for (question, id) in [
        ("who is my boss?", "getManager"),
        ("mails in the inbox", "listMessages"),
        ("write a new message", "createMessage"),
        ("remove a mail", "deleteMessage"),
        ("Forward this mail to Bob", "forward"),
        ("my documents", "listItems"),
        ("listMessages", "listMessages"),
    ] {
        assert_eq!(
            found(&mut bench, json!({"query": question}))[0],
            id,
            "{question}"
        );
    }
}

#[test]
fn a_name_stands_for_another_person_but_not_where_that_person_gets_something() {
    let get = |id: &str| json!({"get": {"operationId": id}});
    let post = |id: &str| json!({"post": {"operationId": id}});
    let paths = json!({
        "/me/manager": get("me.getManager"),
        "/users/{userId}/manager": get("users.getManager"),
        "/me/sendMail": post("me.sendMail"),
        "/users/{userId}/sendMail": post("users.sendMail"),
    });
    let mut bench = Bench::of(&description(&paths), &[("API_TOOLS", "search")]);
    for (question, id) in [
        ("my manager", "me.getManager"),
        ("show me the manager of Ada", "users.getManager"),
        ("Ada's manager", "users.getManager"),
        ("ada’s manager", "users.getManager"),
        ("send mail to Ada", "me.sendMail"),
        ("send mail to a colleague", "me.sendMail"),
    ] {
        let found = found(&mut bench, json!({"query": question}));
        assert_eq!(found[0], id, "{question}");
    }
}

#[test]
fn a_tag_narrows_a_search_and_one_that_is_none_is_told_which_there_are() {
    let mut bench = bench();
    let tagged = found(&mut bench, json!({"query": "xyzzy", "tag": "Files"}));
    assert_eq!(tagged, ["listItems", "upload"]);
    let refused = bench.refused("find_operations", json!({"query": "mail", "tag": "none"}));
    assert_eq!(refused, "No operation has the tag \"none\".");
}

#[test]
fn words_that_no_operation_has_find_nothing_and_say_so() {
    let mut bench = bench();
    let found = bench.mcp.ok("find_operations", json!({"query": "xyzzy"}));
    assert_eq!(found["operations"], json!([]));
    assert_eq!(
        found["hint"],
        "No operation has these words: use others. The tags: files, mail, people."
    );
}

#[test]
fn ten_of_the_operations_that_fit_are_found_each_with_what_it_is() {
    let mut paths = json!({});
    for number in 0..15 {
        paths[format!("/parcels{number}")] = json!({"post": {
            "operationId": format!("book{number}"), "summary": "Books a parcel",
        }});
    }
    let mut bench = Bench::of(&description(&paths), &[("API_TOOLS", "search")]);
    let found = bench.mcp.ok("find_operations", json!({"query": "parcel"}));
    let found = found["operations"].as_array().unwrap();
    let ids: BTreeSet<&str> = found
        .iter()
        .map(|one| one["id"].as_str().unwrap())
        .collect();
    assert_eq!((found.len(), ids.len()), (10, 10), "{found:?}");
    for one in found {
        let number = one["id"].as_str().unwrap().strip_prefix("book").unwrap();
        let wanted = json!({
            "id": format!("book{number}"),
            "method": "POST",
            "path": format!("/parcels{number}"),
            "summary": "Books a parcel",
        });
        assert_eq!(*one, wanted);
    }
}

#[test]
fn an_operation_is_described_with_an_example_that_can_be_called() {
    let mut bench = bench();
    let described = bench
        .mcp
        .ok("describe_operation", json!({"operation": "createMessage"}));
    assert_eq!(described["path"], "/me/messages");
    assert_eq!(described["arguments"]["required"], json!(["data"]));
    assert_eq!(described["sent"], json!({"data": "as data"}));
    assert_eq!(
        described["call"],
        json!({"tool": "api_post_request", "arguments": {
            "endpoint": "/me/messages", "data": {"subject": "subject"}}})
    );
    let tool = described["call"]["tool"].as_str().unwrap();
    let sent = bench.sent(tool, described["call"]["arguments"].clone());
    assert_eq!(sent.body, br#"{"subject":"subject"}"#);
}

#[test]
fn a_description_says_how_each_argument_is_sent() {
    let mut bench = bench();
    let of = |bench: &mut Bench, operation: &str| {
        bench
            .mcp
            .ok("describe_operation", json!({"operation": operation}))
    };
    let list = of(&mut bench, "GET /me/messages");
    assert_eq!(
        list["sent"]["ids"],
        "in params: ids=A,B, one text of all items"
    );
    assert_eq!(list["sent"]["top"], "in params: top=VALUE");
    let get = of(&mut bench, "getMessage");
    assert_eq!(
        get["sent"]["messageId"],
        "in endpoint, percent-encoded, in place of {messageId}"
    );
    let upload = of(&mut bench, "upload");
    let arguments = upload["call"]["arguments"].clone();
    let sent = bench.sent("api_post_request", arguments);
    assert_eq!(sent.body, b"name=name");
    assert_eq!(
        sent.header("Content-Type"),
        Some("application/x-www-form-urlencoded")
    );
}

#[test]
fn an_example_of_a_multipart_form_can_be_called() {
    let mut bench = bench();
    let described = bench
        .mcp
        .ok("describe_operation", json!({"operation": "attach"}));
    let arguments = described["call"]["arguments"].clone();
    let sent = bench.sent("api_post_request", arguments);
    let parts = parts_of(&sent);
    assert_eq!(parts.len(), 2, "{described}");
    for (head, body) in parts {
        let wanted: &[u8] = if head.contains("filename=") {
            b"text"
        } else {
            b"name"
        };
        assert_eq!(body, wanted, "{head}");
    }
}

#[test]
fn a_body_of_bytes_is_described_as_far_as_the_generic_tool_sends_it() {
    let mut bench = bench();
    let describe = json!({"operation": "setPhoto"});
    let described = bench.mcp.ok("describe_operation", describe.clone());
    let said = described["sent"]["data"].as_str().unwrap();
    assert_eq!(
        said,
        "as data, if it is text, with Content-Type image/png in headers"
    );
    assert!(described.get("call").is_none(), "{described}");

    let files = TempDir::new();
    let settings = [
        ("API_TOOLS", "search"),
        ("FILES_DIR", files.0.to_str().unwrap()),
    ];
    let mut bench = Bench::of(&description(&paths()), &settings);
    let described = bench.mcp.ok("describe_operation", describe);
    let said = described["sent"]["data"].as_str().unwrap();
    assert_eq!(
        said,
        "as a file, named in body_file, with Content-Type image/png in headers"
    );
}

#[test]
fn without_a_description_the_same_tools_are_listed_whatever_api_tools_says() {
    let entra = Entra::start();
    let mut listed = Vec::new();
    for mode in ["auto", "named", "search", "generic"] {
        let server = Setup::new(&entra, None).with("API_TOOLS", mode).start();
        let mut mcp = server.modern();
        let result = mcp.result("tools/list", json!({}));
        let tools = result["tools"].to_string();
        assert!(!tools.contains("find_operations"), "{tools}");
        assert!(!tools.contains("describe_operation"), "{tools}");
        listed.push(tools);
    }
    listed.dedup();
    assert_eq!(listed.len(), 1);
}

#[test]
fn the_instructions_tell_of_the_operations_tools_where_they_are() {
    let of = |mode: &str| {
        let mut bench = Bench::of(&description(&paths()), &[("API_TOOLS", mode)]);
        let discovered = bench.mcp.result("server/discover", json!({}));
        discovered["instructions"].as_str().unwrap().to_owned()
    };
    let generic = of("generic");
    assert!(!generic.contains("operation"), "{generic}");
    let search = of("search");
    let more = search.strip_prefix(generic.as_str()).unwrap();
    assert!(more.contains("find_operations"), "{more}");
    assert!(more.contains("describe_operation"), "{more}");
    let named = of("named");
    let more = named.strip_prefix(generic.as_str()).unwrap();
    assert!(more.contains("one operation"), "{more}");
    assert!(!more.contains("find_operations"), "{more}");
}

#[test]
fn an_operation_that_is_none_is_refused_with_what_to_do() {
    let mut bench = bench();
    let refused = bench.refused("describe_operation", json!({"operation": "none"}));
    assert_eq!(refused, "There is no operation \"none\".");
}
