//! The API's operations as tools: what is listed, and what a call of one sends.

use std::collections::BTreeSet;

use crate::support::backend::Backend;
use crate::support::entra::{ADA, Entra};
use crate::support::http::{Reply, Request};
use crate::support::schema::breaks_the_rules;
use crate::support::server::{Mcp, Running, Setup, TempDir};
use serde_json::{Map, Value, json};

/// A server with a description of its API, Ada signed in, and an MCP client of it.
pub struct Bench {
    pub mcp: Mcp,
    _server: Running,
    pub backend: Backend,
    _entra: Entra,
    _directory: TempDir,
}

impl Bench {
    pub fn new(paths: &Value) -> Self {
        Self::of(&description(paths), &[])
    }

    pub fn of(description: &Value, settings: &[(&str, &str)]) -> Self {
        let entra = Entra::start();
        let backend = Backend::start_for(&entra);
        backend.on(|_| Some(Reply::of_json(200, &json!({"done": true})).into()));
        let directory = TempDir::new();
        let file = directory.write("openapi.json", description.to_string());
        let mut setup = Setup::new(&entra, Some(&backend))
            .with("OPENAPI_FILE", file.to_str().unwrap())
            .with("API_TOOLS", "named");
        for (name, value) in settings {
            setup = setup.with(name, value);
        }
        let server = setup.start();
        let mut mcp = server.modern();
        mcp.sign_in(ADA);
        Self {
            mcp,
            _server: server,
            backend,
            _entra: entra,
            _directory: directory,
        }
    }

    /// The tools that are listed.
    pub fn listed(&mut self) -> Vec<Value> {
        let mut result = self.mcp.result("tools/list", json!({}));
        serde_json::from_value(result["tools"].take()).unwrap()
    }

    /// The tool `name`.
    pub fn tool(&mut self, name: &str) -> Value {
        let tools = self.listed();
        let tool = tools.into_iter().find(|tool| tool["name"] == name);
        tool.unwrap_or_else(|| panic!("{name} is not listed"))
    }

    /// The schema of an argument of the tool `name`.
    pub fn argument(&mut self, name: &str, argument: &str) -> Value {
        self.tool(name)["inputSchema"]["properties"][argument].clone()
    }

    /// What reaches the API of a call that succeeds.
    pub fn sent(&mut self, tool: &str, arguments: Value) -> Request {
        self.mcp.ok(tool, arguments);
        self.backend.last()
    }

    /// The path and the query of the same.
    pub fn target(&mut self, tool: &str, arguments: Value) -> String {
        let target = self.sent(tool, arguments).target;
        target.strip_prefix("/v1.0").unwrap().to_owned()
    }

    /// The body of the same, which is JSON.
    pub fn json(&mut self, tool: &str, arguments: Value) -> Value {
        let sent = self.sent(tool, arguments);
        assert_eq!(sent.header("Content-Type"), Some("application/json"));
        serde_json::from_slice(&sent.body).unwrap()
    }

    /// Why a call is refused, before anything is sent.
    pub fn refused(&mut self, tool: &str, arguments: Value) -> String {
        let before = self.backend.requests().len();
        let refused = self.mcp.fails(tool, arguments);
        assert_eq!(refused["error"], "invalid_request", "{refused}");
        assert_eq!(self.backend.requests().len(), before);
        refused["message"].as_str().unwrap().to_owned()
    }
}

pub fn description(paths: &Value) -> Value {
    json!({
        "openapi": "3.1.0",
        "info": {"title": "Sample", "version": "1"},
        "servers": [{"url": "/v1.0"}],
        "paths": paths,
    })
}

/// `get` at this path, with one parameter.
pub fn with_parameter(path: &str, parameter: Value) -> Value {
    json!({path: {"get": {"operationId": "call", "parameters": [parameter]}}})
}

/// `post` with a body of this media type and schema.
pub fn with_body(media_type: &str, schema: Value) -> Value {
    json!({"/things": {"post": {
        "operationId": "call",
        "requestBody": {"required": true, "content": {media_type: {"schema": schema}}},
    }}})
}

// ---- Where values go ----

#[test]
fn arguments_go_where_the_description_says() {
    let mut bench = Bench::new(&json!({"/users/{id}/tasks": {"get": {
        "operationId": "listTasks",
        "summary": "The tasks of a user",
        "parameters": [
            {"name": "id", "in": "path", "required": true, "schema": {"type": "string"}},
            {"name": "$top", "in": "query", "schema": {"type": "integer"}},
            {"name": "Prefer", "in": "header", "schema": {"type": "string"}},
        ],
    }}}));
    let tool = bench.tool("listTasks");
    assert_eq!(tool["title"], "The tasks of a user");
    assert_eq!(tool["annotations"]["readOnlyHint"], true);
    assert_eq!(tool["inputSchema"]["required"], json!(["id"]));
    assert!(tool.get("outputSchema").is_none());

    let sent = bench.sent(
        "listTasks",
        json!({"id": "a b", "top": 5, "Prefer": "x=y", "select": "/done"}),
    );
    assert_eq!(sent.method, "GET");
    assert_eq!(sent.target, "/v1.0/users/a%20b/tasks?%24top=5");
    assert_eq!(sent.header("Prefer"), Some("x=y"));
}

#[test]
fn values_of_a_path_are_written_in_each_style() {
    for (style, explode, value, wanted) in [
        (
            "simple",
            false,
            json!("a;b?c#d&e=f+g"),
            "/x/a%3Bb%3Fc%23d%26e%3Df%2Bg",
        ),
        ("simple", false, json!(["a", "b,c"]), "/x/a,b%2Cc"),
        ("simple", false, json!({"k": "v", "l": 1}), "/x/k,v,l,1"),
        ("simple", true, json!({"k": "v", "l": 1}), "/x/k=v,l=1"),
        ("label", false, json!("a"), "/x/.a"),
        ("label", false, json!(["a", "b"]), "/x/.a,b"),
        ("label", true, json!(["a", "b"]), "/x/.a.b"),
        ("label", true, json!({"k": "v", "l": 1}), "/x/.k=v.l=1"),
        ("matrix", false, json!("a"), "/x/;p=a"),
        ("matrix", false, json!(["a", "b"]), "/x/;p=a,b"),
        ("matrix", true, json!(["a", "b"]), "/x/;p=a;p=b"),
        ("matrix", false, json!({"k": "v"}), "/x/;p=k,v"),
        ("matrix", true, json!({"k": "v", "l": 1}), "/x/;k=v;l=1"),
    ] {
        let kind = if value.is_array() {
            "array"
        } else if value.is_object() {
            "object"
        } else {
            "string"
        };
        let parameter = json!({
            "name": "p", "in": "path", "required": true,
            "style": style, "explode": explode, "schema": {"type": kind},
        });
        let mut bench = Bench::new(&with_parameter("/x/{p}", parameter));
        let target = bench.target("call", json!({"p": value}));
        assert_eq!(target, wanted, "{style} {explode}");
    }
}

#[test]
fn values_of_a_query_are_written_in_each_style() {
    for (style, explode, value, wanted) in [
        ("form", true, json!("a b&c"), "?p=a%20b%26c"),
        ("form", true, json!(["a", "b"]), "?p=a&p=b"),
        ("form", false, json!(["a", "b,c"]), "?p=a,b%2Cc"),
        ("form", true, json!({"k": "v", "l": 1}), "?k=v&l=1"),
        ("form", false, json!({"k": "v", "l": 1}), "?p=k,v,l,1"),
        ("spaceDelimited", false, json!(["a", "b"]), "?p=a%20b"),
        ("spaceDelimited", true, json!(["a", "b"]), "?p=a&p=b"),
        ("pipeDelimited", false, json!(["a", "b"]), "?p=a%7Cb"),
        (
            "deepObject",
            true,
            json!({"k": "v", "l": 1}),
            "?p%5Bk%5D=v&p%5Bl%5D=1",
        ),
        ("form", true, json!([]), ""),
        ("form", false, json!([]), ""),
    ] {
        let kind = if value.is_array() {
            "array"
        } else if value.is_object() {
            "object"
        } else {
            "string"
        };
        let parameter = json!({
            "name": "p", "in": "query", "style": style, "explode": explode,
            "schema": {"type": kind},
        });
        let mut bench = Bench::new(&with_parameter("/x", parameter));
        let target = bench.target("call", json!({"p": value}));
        assert_eq!(target, format!("/x{wanted}"), "{style} {explode}");
    }
}

#[test]
fn a_value_that_the_style_cannot_hold_is_refused() {
    let parameters = json!([
        {"name": "deep", "in": "query", "style": "deepObject", "schema": {"type": "object"}},
        {"name": "pipes", "in": "query", "style": "pipeDelimited", "schema": {"type": "array"}},
        {"name": "list", "in": "query", "schema": {"type": "array"}},
    ]);
    let paths = json!({"/x": {"get": {"operationId": "call", "parameters": parameters}}});
    let mut bench = Bench::new(&paths);
    for (arguments, wanted) in [
        (
            json!({"deep": {"a": {"b": 1}}}),
            "deep holds lists or objects",
        ),
        (json!({"deep": "a"}), "deep must be an object"),
        (json!({"pipes": ["a|b"]}), "pipes holds '|'"),
        (json!({"list": [[1]]}), "list holds lists or objects"),
    ] {
        let message = bench.refused("call", arguments);
        assert!(message.contains(wanted), "{message}");
    }
}

#[test]
fn reserved_characters_are_kept_in_a_query_only_and_never_those_that_separate_its_fields() {
    let parameter = |place: &str| {
        json!({
            "name": "p", "in": place, "required": true,
            "allowReserved": true, "schema": {"type": "string"},
        })
    };
    let mut bench = Bench::new(&with_parameter("/x", parameter("query")));
    let target = bench.target("call", json!({"p": "a/b:c?d@e,f;g&h#i+j=k%l"}));
    assert_eq!(target, "/x?p=a/b:c?d@e,f;g%26h%23i%2Bj%3Dk%25l");
    let mut bench = Bench::new(&with_parameter("/x/{p}", parameter("path")));
    assert_eq!(bench.target("call", json!({"p": "a:b"})), "/x/a%3Ab");
}

#[test]
fn what_could_be_another_segment_of_the_path_is_refused() {
    let parameter = json!({"name": "p", "in": "path", "required": true});
    let mut bench = Bench::new(&with_parameter("/x/{p}/y", parameter));
    for value in [
        "",
        "a/b",
        "a\\b",
        ".",
        "..",
        "a%2Fb",
        "a%2fb",
        "a%5Cb",
        "%2e%2e",
        "%252e%252e",
        "a%252Fb",
        " ..",
        "..%00",
    ] {
        bench.refused("call", json!({"p": value}));
    }
    assert_eq!(bench.target("call", json!({"p": "a.b..c"})), "/x/a.b..c/y");
    assert_eq!(bench.target("call", json!({"p": "50%"})), "/x/50%25/y");
}

#[test]
fn paths_in_the_style_of_odata_are_filled_in() {
    let mut bench = Bench::new(&json!({
        "/users('{id}')/items(a={a},b='{b}')": {"get": {"operationId": "one"}},
        "/drive/root:/{path}:/content": {"get": {"operationId": "two"}},
        "/{from}-{to}.json": {"get": {"operationId": "three"}},
    }));
    let target = bench.target("one", json!({"id": "x'y", "a": 1, "b": "z"}));
    assert_eq!(target, "/users('x%27y')/items(a=1,b='z')");
    let target = bench.target("two", json!({"path": "report.docx"}));
    assert_eq!(target, "/drive/root:/report.docx:/content");
    assert_eq!(
        bench.target("three", json!({"from": "a", "to": "b"})),
        "/a-b.json"
    );
}

// Azure DevOps describes the recycle bin so.
#[test]
fn a_parameter_of_the_query_that_stands_in_the_path_too_is_sent_once() {
    let parameter = json!({"name": "ids", "in": "query", "schema": {"type": "string"}});
    let path = "/bin?ids={ids}&kind=all&as={as}";
    let mut bench = Bench::new(&with_parameter(path, parameter));
    let tool = bench.tool("call");
    assert_eq!(tool["inputSchema"]["required"], json!(["as"]));
    assert_eq!(
        bench.target("call", json!({"ids": "1,2", "as": "text"})),
        "/bin?kind=all&as=text&ids=1%2C2"
    );
    assert_eq!(
        bench.target("call", json!({"as": "text"})),
        "/bin?kind=all&as=text"
    );
}

// ---- Bodies ----

#[test]
fn json_is_sent_as_it_is_given() {
    let schema = json!({"type": "object", "properties": {"name": {"type": "string"}}});
    let mut bench = Bench::new(&with_body("application/json", schema));
    let tool = bench.tool("call");
    assert_eq!(tool["inputSchema"]["required"], json!(["data"]));
    let body = bench.json("call", json!({"data": {"name": "x", "more": [1]}}));
    assert_eq!(body, json!({"name": "x", "more": [1]}));
    // Some clients write JSON into a string.
    let body = bench.json("call", json!({"data": "{\"name\": \"x\"}"}));
    assert_eq!(body, json!({"name": "x"}));
}

/// Everything of the fields of a form that arrived.
pub fn fields_of(sent: &Request) -> Vec<(String, String)> {
    url::form_urlencoded::parse(&sent.body)
        .into_owned()
        .collect()
}

/// A description of which the parameters cannot be written with all values of their schemas.
fn half_writable() -> Value {
    let list = json!({"type": "array", "items": {"type": "string"}});
    let object = json!({"type": "object", "properties": {"a": {"type": "string"}, "b": list}});
    let deep = |name: &str, schema: &Value, is_required: bool| json!({"name": name, "in": "query", "style": "deepObject", "required": is_required, "schema": schema});
    let either = json!({"anyOf": [object, {"type": "integer"}, list]});
    let nested = json!({"type": "array", "items": {"anyOf": [object, {"type": "string"}]}});
    let form = json!({"content": {"application/x-www-form-urlencoded": {
        "schema": {"type": "object", "properties": {"expand": list, "name": {"type": "string"}}},
        "encoding": {"expand": {"style": "deepObject"}},
    }}});
    json!({
        "/some": {"get": {"operationId": "some", "parameters": [
            deep("expand", &list, false), deep("range", &either, true),
            {"name": "nested", "in": "query", "schema": nested},
        ]}},
        "/none": {"get": {"operationId": "none", "parameters": [deep("expand", &list, true)]}},
        "/form": {"post": {"operationId": "form", "requestBody": form}},
        "/any/{id}": {"get": {"operationId": "any"}},
    })
}

#[test]
fn what_a_style_cannot_write_is_not_listed() {
    let mut bench = Bench::new(&half_writable());
    assert_eq!(bench.argument("some", "expand"), Value::Null);
    let range = bench.argument("some", "range");
    assert_eq!(range["type"], "object");
    assert_eq!(range["properties"], json!({"a": {"type": "string"}}));
    let nested = bench.argument("some", "nested");
    assert_eq!(nested["items"], json!({"type": "string"}));
    let data = bench.argument("form", "data");
    assert_eq!(
        data["properties"],
        json!({"name": {"type": "string"}}),
        "{data}"
    );
    assert_eq!(bench.argument("any", "id"), json!({"type": "string"}));
    assert!(bench.listed().iter().all(|tool| tool["name"] != "none"));
    let text = printed(&[], &description(&half_writable()));
    let wanted = r#"GET /none: no value of its parameter "expand" can be written in its style"#;
    assert!(text.contains(wanted), "{text}");
}

#[test]
fn objects_in_a_list_of_a_form_are_json_each() {
    let schema = json!({"type": "object", "properties": {
        "lines": {"type": "array", "items": {"type": "object"}},
    }});
    let data = json!({"data": {"lines": [{"a": 1}, {"b": 2}]}});
    let mut bench = Bench::new(&with_body(
        "application/x-www-form-urlencoded",
        schema.clone(),
    ));
    let fields = fields_of(&bench.sent("call", data.clone()));
    let wanted = [r#"{"a":1}"#, r#"{"b":2}"#];
    let wanted = wanted.map(|value| ("lines".to_owned(), value.to_owned()));
    assert_eq!(fields, wanted);
    let mut bench = Bench::new(&with_body("multipart/form-data", schema));
    for (head, _) in parts_of(&bench.sent("call", data)) {
        assert!(head.contains("Content-Type: application/json"), "{head}");
    }
}

#[test]
fn a_form_is_sent_field_by_field() {
    let schema = json!({
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": {"type": "string"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "more": {"type": "object", "properties": {"a": {"type": "integer"}}},
        },
    });
    let mut bench = Bench::new(&with_body("application/x-www-form-urlencoded", schema));
    let sent = bench.sent(
        "call",
        json!({"data": {"name": "a&b=c d", "tags": ["x", "y"], "more": {"a": 1}}}),
    );
    let media_type = sent.header("Content-Type");
    assert_eq!(media_type, Some("application/x-www-form-urlencoded"));
    let wanted = [
        ("more", "{\"a\":1}"),
        ("name", "a&b=c d"),
        ("tags", "x"),
        ("tags", "y"),
    ];
    let wanted = wanted.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(fields_of(&sent), wanted);
    let message = bench.refused("call", json!({"data": {"tags": []}}));
    assert!(message.contains("data.name is missing"), "{message}");
}

// Quarkus describes a body that it reads as a stream so; Swashbuckle a form with a file.
#[test]
fn bytes_are_asked_for_only_where_they_can_be_sent() {
    let bytes = json!({"type": "string", "format": "binary"});
    let mut bench = Bench::new(&with_body("application/json", bytes.clone()));
    assert!(bench.argument("call", "data")["anyOf"].is_array());
    assert_eq!(
        bench.json("call", json!({"data": {"a": 1}})),
        json!({"a": 1})
    );

    let form = json!({"type": "object", "properties": {"file": bytes}});
    let mut bench = Bench::new(&with_body("application/x-www-form-urlencoded", form));
    let data = bench.argument("call", "data");
    assert_eq!(data["properties"]["file"], json!({"type": "string"}));
    let sent = bench.sent("call", json!({"data": {"file": "a b"}}));
    assert_eq!(sent.body, b"file=a%20b");
}

#[test]
fn bytes_are_given_in_base64() {
    let schema = json!({"type": "string", "format": "binary"});
    let mut bench = Bench::new(&with_body("application/octet-stream", schema));
    let sent = bench.sent("call", json!({"data": "AAH/"}));
    assert_eq!(
        sent.header("Content-Type"),
        Some("application/octet-stream")
    );
    assert_eq!(sent.body, [0, 1, 255]);
    bench.refused("call", json!({"data": "!"}));
    // OpenAPI 3.1 says it with a media type.
    let schema = json!({"type": "string", "contentMediaType": "image/png"});
    let mut bench = Bench::new(&with_body("image/png", schema));
    assert_eq!(
        bench.sent("call", json!({"data": "AAH/"})).body,
        [0, 1, 255]
    );
}

#[test]
fn a_file_of_the_directory_is_sent_as_bytes() {
    let files = TempDir::new();
    files.write("photo.png", [1, 2, 3]);
    let directory = files.0.to_str().unwrap();
    let body = json!({"required": true, "content": {"image/png": {}}});
    let paths = json!({"/photo": {"put": {"operationId": "call", "requestBody": body}}});
    let mut bench = Bench::of(&description(&paths), &[("FILES_DIR", directory)]);
    let tool = bench.tool("call");
    assert!(tool["inputSchema"].get("required").is_none());
    let sent = bench.sent("call", json!({"body_file": "photo.png"}));
    assert_eq!(sent.header("Content-Type"), Some("image/png"));
    assert_eq!(sent.body, [1, 2, 3]);
    bench.refused("call", json!({"body_file": "photo.png", "data": "AA=="}));
}

/// A part of a multipart form: its head and its body.
pub fn parts_of(sent: &Request) -> Vec<(String, Vec<u8>)> {
    let media_type = sent.header("Content-Type").unwrap();
    let boundary = media_type
        .strip_prefix("multipart/form-data; boundary=")
        .unwrap();
    let delimiter = format!("\r\n--{boundary}").into_bytes();
    let mut body = b"\r\n".to_vec();
    body.extend_from_slice(&sent.body);
    let mut parts = Vec::new();
    let mut rest: &[u8] = &body;
    let find = |text: &[u8], wanted: &[u8]| {
        text.windows(wanted.len())
            .position(|window| window == wanted)
    };
    assert_eq!(find(rest, &delimiter), Some(0));
    loop {
        rest = &rest[delimiter.len()..];
        if rest == b"--\r\n" {
            return parts;
        }
        let rest_of_part = rest.strip_prefix(b"\r\n").unwrap();
        let end = find(rest_of_part, &delimiter).unwrap();
        let part = &rest_of_part[..end];
        let head = find(part, b"\r\n\r\n").unwrap();
        let text = String::from_utf8(part[..head].to_vec()).unwrap();
        parts.push((text, part[head + 4..].to_vec()));
        rest = &rest_of_part[end..];
    }
}

fn upload() -> Value {
    with_body(
        "multipart/form-data",
        json!({
            "type": "object",
            "required": ["file"],
            "properties": {
                "title": {"type": "string"},
                "about": {"type": "object", "properties": {}},
                "file": {"type": "string", "format": "binary"},
            },
        }),
    )
}

#[test]
fn a_multipart_form_has_texts_and_files() {
    let mut bench = Bench::new(&upload());
    let sent = bench.sent(
        "call",
        json!({"data": {
            "title": "Two\r\nlines",
            "about": {"a": 1},
            "file": {"filename": "a\"b.txt", "content_type": "text/plain", "base64": "aGk="},
        }}),
    );
    let parts = parts_of(&sent);
    let head = |name: &str| format!("Content-Disposition: form-data; name=\"{name}\"");
    let [about, file, title] = parts.as_slice() else {
        panic!("{parts:?}");
    };
    assert_eq!(
        about.0,
        head("about") + "\r\nContent-Type: application/json"
    );
    assert_eq!(about.1, b"{\"a\":1}");
    let filename = "; filename=\"a%22b.txt\"\r\nContent-Type: text/plain";
    assert_eq!(file.0, head("file") + filename);
    assert_eq!(file.1, b"hi");
    assert_eq!(title.0, head("title"));
    assert_eq!(title.1, b"Two\r\nlines");
    for file in [
        json!("aGk="),
        json!({}),
        json!({"base64": "!"}),
        json!({"base64": "aGk=", "content_type": "text/plain\r\nX: y"}),
    ] {
        bench.refused("call", json!({"data": {"file": file}}));
    }
}

#[test]
fn a_file_of_the_directory_is_sent_within_a_form() {
    let files = TempDir::new();
    files.write("report.pdf", vec![7; 100_000]);
    let directory = files.0.to_str().unwrap();
    let mut bench = Bench::of(&description(&upload()), &[("FILES_DIR", directory)]);
    let file = json!({"path": "report.pdf"});
    let result = bench
        .mcp
        .ok("call", json!({"data": {"file": file, "title": "T"}}));
    assert_eq!(result["file"]["bytes"], 100_000);
    let parts = parts_of(&bench.backend.last());
    let (head, body) = &parts[0];
    assert!(head.contains("filename=\"report.pdf\""), "{head}");
    assert_eq!(body.len(), 100_000);
    assert_eq!(parts[1].1, b"T");
    let file = json!({"path": "../token_cache.json"});
    bench.refused("call", json!({"data": {"file": file}}));
}

// ---- Constants ----

#[test]
fn what_has_one_value_only_is_sent_unasked() {
    let mut bench = Bench::new(&json!({"/things": {"post": {
        "operationId": "call",
        "parameters": [
            {"name": "v", "in": "query", "required": true, "schema": {"enum": ["1.0"]}},
            {"name": "w", "in": "query", "schema": {"enum": ["1.0"]}},
        ],
        "requestBody": {"required": true, "content": {"application/json": {"schema": {
            "type": "object",
            "required": ["kind", "name", "inner", "settings"],
            "properties": {
                "kind": {"const": "thing"},
                "name": {"type": "string"},
                "inner": {
                    "type": "object",
                    "required": ["of"],
                    "properties": {"of": {"const": 1}, "note": {"type": "string"}},
                },
                "settings": {
                    "type": "object",
                    "required": ["on"],
                    "properties": {"on": {"const": true}},
                },
                "list": {"type": "array", "items": {
                    "type": "object",
                    "required": ["type", "id"],
                    "properties": {"type": {"enum": ["item"]}, "id": {"type": "integer"}},
                }},
            },
        }}}},
    }}}));
    let tool = bench.tool("call");
    let arguments = &tool["inputSchema"]["properties"];
    assert!(arguments.get("v").is_none());
    assert!(arguments.get("w").is_some());
    let data = &arguments["data"];
    assert_eq!(data["required"], json!(["name"]));
    let names: Vec<&String> = data["properties"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["inner", "list", "name"]);

    let sent = bench.sent("call", json!({"data": {"name": "x", "list": [{"id": 2}]}}));
    assert_eq!(sent.target, "/v1.0/things?v=1.0");
    let body: Value = serde_json::from_slice(&sent.body).unwrap();
    let wanted = json!({
        "kind": "thing",
        "name": "x",
        "inner": {"of": 1},
        "settings": {"on": true},
        "list": [{"id": 2, "type": "item"}],
    });
    assert_eq!(body, wanted);
}

#[test]
fn a_body_of_constants_alone_is_no_argument() {
    let schema = json!({
        "type": "object", "required": ["a"], "properties": {"a": {"const": null}},
    });
    let mut bench = Bench::new(&with_body("application/json", schema));
    assert!(bench.argument("call", "data").is_null());
    assert_eq!(bench.json("call", json!({})), json!({"a": null}));
}

// ---- Names ----

#[test]
fn an_operation_without_summary_and_id_is_titled_with_its_method_and_path() {
    let mut bench = Bench::new(&json!({"/users/{id}": {"get": {}}}));
    let tools = bench.listed();
    assert!(
        tools.iter().any(|tool| tool["title"] == "GET /users/{id}"),
        "{tools:?}"
    );
}

#[test]
fn an_argument_of_the_operation_keeps_its_name_and_ours_gives_way() {
    let mut bench = Bench::new(&json!({"/x/{id}": {"post": {
        "operationId": "call",
        "parameters": [
            {"name": "id", "in": "path", "required": true},
            {"name": "id", "in": "query"},
            {"name": "user_id", "in": "query"},
            {"name": "data", "in": "query"},
        ],
        "requestBody": {"content": {"application/json": {"schema": {"type": "object"}}}},
    }}}));
    let tool = bench.tool("call");
    let names: BTreeSet<&str> = tool["inputSchema"]["properties"]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    for name in [
        "id_path", "id_query", "user_id", "_user_id", "data", "_data",
    ] {
        assert!(names.contains(name), "{name}: {names:?}");
    }
    let sent = bench.sent(
        "call",
        json!({
            "id_path": "a", "id_query": "b", "user_id": "c", "_user_id": ADA, "data": "d",
            "_data": {"e": 1},
        }),
    );
    assert_eq!(sent.target, "/v1.0/x/a?id=b&user_id=c&data=d");
    assert_eq!(sent.body, b"{\"e\":1}");
}

#[test]
fn every_listed_operation_keeps_the_rules_of_every_models_api() {
    let mut bench = Bench::new(&json!({
        "/a/{b-c}": {"parameters": [{"name": "b-c", "in": "path", "required": true}], "get": {}},
        "/f": {"get": {"operationId": "1.odd name", "parameters": [
            {"name": "filter[a]", "in": "query"},
            {"name": "filter.a", "in": "query"},
            {"name": "1", "in": "query"},
            {"name": "при", "in": "query"},
        ]}},
        "/p": {"post": {"operationId": "ping", "requestBody": {"content": {"application/json": {
            "schema": {"type": "object", "properties": {
                "@odata.type": {"type": "string"},
                "when": {"type": "string", "format": "date-time"},
                "which": {"type": ["string", "null"], "enum": ["", "a", null]},
                "number": {"type": ["integer", "string"]},
                "either": {"oneOf": [{"type": "string"}, {"type": "object"}]},
                "tuple": {"type": "array", "prefixItems": [{"type": "string"}]},
                "any": true,
            }},
        }}}}},
    }));
    let tools = bench.listed();
    assert_eq!(tools.len(), 14);
    for tool in &tools {
        assert_eq!(breaks_the_rules(tool), [""; 0], "{tool:#}");
    }
}

#[test]
fn an_operation_has_the_annotations_of_the_generic_tool_of_its_method() {
    let methods = ["get", "post", "put", "patch", "delete"];
    let mut item = json!({});
    for method in methods {
        item[method] = json!({"operationId": format!("{method}It")});
    }
    let mut bench = Bench::new(&json!({"/things": item}));
    for method in methods {
        let generic = bench.tool(&format!("api_{method}_request"));
        let named = bench.tool(&format!("{method}It"));
        assert!(generic["annotations"].is_object(), "{generic}");
        assert_eq!(named["annotations"], generic["annotations"], "{method}");
    }
}

#[test]
fn what_the_api_alone_writes_is_neither_listed_nor_required() {
    let schema = json!({
        "type": "object",
        "required": ["id", "name"],
        "properties": {"id": {"type": "string", "readOnly": true}, "name": {"type": "string"}},
    });
    for media_type in [
        "application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
    ] {
        let mut bench = Bench::new(&with_body(media_type, schema.clone()));
        let data = bench.argument("call", "data");
        let listed = json!({"name": {"type": "string"}});
        assert_eq!(data["properties"], listed, "{media_type}");
        assert_eq!(data["required"], json!(["name"]), "{media_type}");
    }
}

#[test]
fn what_is_not_offered_can_still_be_called_with_the_generic_tools() {
    let paths = json!({
        "/a": {"get": {"operationId": "listA"}},
        "/b": {"get": {"operationId": "listB"}},
        "/c/d": {"get": {"operationId": "listD"}},
    });
    let settings = [("OPENAPI_EXCLUDE", "listB\n\r\n GET /c/*\n")];
    let mut bench = Bench::of(&description(&paths), &settings);
    let listed = bench.listed();
    let is_listed = |name: &str| listed.iter().any(|tool| tool["name"] == name);
    assert_eq!(
        ["listA", "listB", "listD"].map(is_listed),
        [true, false, false]
    );
    for endpoint in ["/b", "/c/d"] {
        let target = bench.target("api_get_request", json!({"endpoint": endpoint}));
        assert_eq!(target, endpoint);
    }
}

// ---- What odd clients send ----

// CASES A3, A4, A14
#[test]
fn what_clients_add_and_leave_empty_is_taken_as_by_the_generic_tools() {
    let mut bench = Bench::new(
        &json!({"/things": {"get": {"operationId": "call", "parameters": [
            {"name": "action", "in": "query", "schema": {"type": "string"}},
            {"name": "top", "in": "query", "schema": {"type": "integer"}},
        ]}}}),
    );
    let tool = bench.tool("call");
    let names = tool["inputSchema"]["properties"]
        .as_object()
        .unwrap()
        .keys();
    let mut nulls: Map<String, Value> = names.map(|name| (name.clone(), Value::Null)).collect();
    assert!(nulls.len() > 2, "{tool}");
    nulls.insert("toolCallId".to_owned(), json!("call_1"));
    for (arguments, wanted) in [
        (json!({"action": "x"}), "/things?action=x"),
        (
            json!({"action": "x", "toolCallId": "call_1"}),
            "/things?action=x",
        ),
        (Value::Object(nulls), "/things"),
        (json!({"top": ""}), "/things"),
        // This one can be meant.
        (json!({"action": "", "top": 2}), "/things?action=&top=2"),
    ] {
        assert_eq!(
            bench.target("call", arguments.clone()),
            wanted,
            "{arguments}"
        );
    }
    let refused = bench.refused("call", json!({"Action": "x"}));
    assert!(refused.contains("action, "), "{refused}");
}

// ---- The verb `tools` ----

/// What `entra-auth-mcp tools` prints.
pub fn printed(arguments: &[&str], described: &Value) -> String {
    let directory = TempDir::new();
    let file = directory.write("openapi.json", described.to_string());
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_entra-auth-mcp"))
        .arg("tools")
        .args(arguments)
        .env_clear()
        .current_dir(&directory.0)
        .env("AZURE_CLIENT_ID", crate::support::entra::CLIENT_ID)
        .env("AZURE_TENANT_ID", crate::support::entra::TENANT_ID)
        .env("BACKEND_API_BASE_URL", "https://api.contoso.example/v1.0")
        .env("OPENAPI_FILE", file)
        .env("API_TOOLS", "named")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_verb_shows_tools_their_cost_and_what_is_skipped() {
    let described = description(&json!({"/x": {
        "get": {"operationId": "listThings", "summary": "All things"},
        "head": {},
    }}));
    let text = printed(&[], &described);
    let line = text
        .lines()
        .find(|line| line.starts_with("listThings"))
        .unwrap();
    assert!(line.ends_with("  GET /x"), "{text}");
    assert!(text.contains("12 tools take "), "{text}");
    assert!(
        text.contains("Skipped operations: 1\n  HEAD /x: HEAD is not among"),
        "{text}"
    );
    assert!(!text.contains("Warning"), "{text}");

    let report: Value = serde_json::from_str(&printed(&["--json"], &described)).unwrap();
    let tools = report["tools"].as_array().unwrap();
    assert_eq!(tools.len(), 12);
    assert_eq!(tools[11]["operation"], "GET /x");
    let bytes = tools.iter().map(|tool| tool["bytes"].as_u64().unwrap());
    assert_eq!(report["bytes"], bytes.sum::<u64>());
    assert_eq!(report["skipped"][0]["operation"], "HEAD /x");
}

#[test]
fn the_verb_warns_of_many_tools() {
    for (count, wanted) in [
        (29, None),
        (30, Some("about 40 in all")),
        (118, Some("128 in all")),
    ] {
        let mut paths = json!({});
        for number in 0..count {
            paths[format!("/{number}")] = json!({"get": {}});
        }
        let text = printed(&[], &description(&paths));
        let warning = text.lines().find(|line| line.starts_with("Warning: "));
        match wanted {
            Some(wanted) => assert!(warning.unwrap().contains(wanted), "{text}"),
            None => assert_eq!(warning, None),
        }
    }
}

/// The calls of an operation are those of the generic tools in everything but how they are written.
#[test]
fn policy_headers_and_audit_log_are_those_of_every_call() {
    let directory = TempDir::new();
    let log = directory.file("audit.log");
    let parameters = json!([
        {"name": "id", "in": "path", "required": true},
        {"name": "If-Match", "in": "header"},
        {"name": "X-Odd", "in": "header"},
    ]);
    let paths =
        json!({"/users/{id}": {"delete": {"operationId": "call", "parameters": parameters}}});
    let settings = [
        ("DENIED_ENDPOINTS", "/users/admin"),
        ("AUDIT_LOG", log.to_str().unwrap()),
    ];
    let mut bench = Bench::of(&description(&paths), &settings);
    let arguments = bench.tool("call")["inputSchema"]["properties"].clone();
    assert!(arguments.get("If_Match").is_some());
    assert!(arguments.get("X_Odd").is_none());
    let sent = bench.sent("call", json!({"id": "ada", "If_Match": "\"1\""}));
    assert_eq!(sent.header("If-Match"), Some("\"1\""));
    let refused = bench.mcp.fails("call", json!({"id": "ADMIN"}));
    assert_eq!(refused["error"], "refused");
    let log = std::fs::read_to_string(&log).unwrap();
    let calls: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|line: &Value| line["event"] == "api_call")
        .collect();
    assert_eq!(calls.len(), 2, "{log}");
    assert_eq!(calls[0]["method"], "DELETE");
    assert_eq!(calls[0]["path"], "/v1.0/users/ada");
}

// ---- The description of the demo's API ----

#[test]
fn the_demos_api_does_what_its_description_says() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/demo/sample.openapi.json"
    );
    let text = std::fs::read_to_string(path).unwrap();
    let entra = Entra::start();
    let backend = Backend::start_for(&entra);
    let server = Setup::new(&entra, Some(&backend))
        .with("OPENAPI_FILE", path)
        .start();
    let mut mcp = server.modern();
    mcp.sign_in(ADA);

    let described: Value = serde_json::from_str(&text).unwrap();
    let items = described["paths"].as_object().unwrap().values();
    let operations = items.flat_map(|item| item.as_object().unwrap().values());
    let ids: BTreeSet<&str> = operations
        .filter_map(|known| known["operationId"].as_str())
        .collect();
    let listed = mcp.result("tools/list", json!({}));
    let listed = listed["tools"].as_array().unwrap().iter().skip(11);
    let names: BTreeSet<&str> = listed.map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(names, ids);

    let task = mcp.ok("createTask", json!({"data": {"title": "Tea"}}));
    assert_eq!(task["data"]["kind"], "task");
    let id = task["data"]["id"].clone();
    let changed = mcp.ok("changeTask", json!({"id": id, "data": {"done": true}}));
    assert_eq!(changed["data"]["title"], "Tea");
    assert_eq!(mcp.ok("getTask", json!({"id": id}))["data"]["done"], true);
    let stale = json!({"id": id, "If_Match": "W/\"1\""});
    assert_eq!(mcp.fails("deleteTask", stale)["status"], 412);
    mcp.ok("deleteTask", json!({"id": id}));
    assert_eq!(mcp.ok("listTasks", json!({}))["data"]["value"], json!([]));
    let messages = mcp.ok("listMessages", json!({"top": 2}));
    assert_eq!(messages["data"]["value"].as_array().unwrap().len(), 2);
    assert_eq!(mcp.ok("getMe", json!({}))["data"]["userPrincipalName"], ADA);
    mcp.ok("getReport", json!({}));
}

#[test]
fn a_required_header_is_the_administrators_or_skips_its_operation() {
    let with_header = |name: &str, id: &str| {
        json!({"get": {"operationId": id, "parameters": [
            {"name": name, "in": "header", "required": true},
        ]}})
    };
    let paths = json!({"/a": with_header("X-Fixed", "a"), "/b": with_header("X-Other", "b")});
    let directory = TempDir::new();
    let file = directory.write("headers", "X-Fixed: 1\n");
    let settings = [("BACKEND_HEADERS_FILE", file.to_str().unwrap())];
    let mut bench = Bench::of(&description(&paths), &settings);
    assert!(bench.argument("a", "X_Fixed").is_null());
    assert_eq!(bench.sent("a", json!({})).header("X-Fixed"), Some("1"));
    assert!(bench.listed().iter().all(|tool| tool["name"] != "b"));
}
