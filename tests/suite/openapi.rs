//! Descriptions of APIs, read: which operations there are, and why others are skipped.

use entra_auth_mcp::api::policy::{METHODS, Policy};
use entra_auth_mcp::openapi::offer::{Entry, Wanted};
use entra_auth_mcp::openapi::{Bounds, Description, Operation, Surroundings};
use serde_json::{Value, json};
use url::Url;

const BASE: &str = "https://api.contoso.example/v1/";

/// What decides what is offered.
struct Setting {
    policy: Policy,
    wanted: Wanted,
}

impl Setting {
    fn new() -> Self {
        Self {
            policy: Policy {
                methods: METHODS.to_vec(),
                ..Policy::default()
            },
            wanted: Wanted::default(),
        }
    }

    fn read(&self, description: &Value) -> Result<Description, String> {
        self.read_text(&description.to_string())
    }

    fn read_text(&self, text: &str) -> Result<Description, String> {
        let base = Url::parse(BASE).unwrap();
        let surroundings = Surroundings {
            policy: &self.policy,
            base: Some(&base),
            fixed_headers: None,
            wanted: &self.wanted,
        };
        Description::read(text.as_bytes().to_vec(), &surroundings)
    }
}

/// A description with these paths.
fn description(paths: &Value) -> Value {
    json!({
        "openapi": "3.0.3",
        "info": {"title": "Sample", "version": "1"},
        "servers": [{"url": BASE}],
        "paths": paths,
    })
}

fn read(paths: &Value) -> Description {
    Setting::new().read(&description(paths)).unwrap()
}

/// Why the only operation of `paths` is skipped; `GET /other` is there beside it.
fn reason(paths: &Value) -> String {
    let mut paths = paths.clone();
    paths["/other"] = json!({"get": {}});
    let read = read(&paths);
    let [skipped] = read.skipped() else {
        panic!("{:?}", read.skipped());
    };
    skipped.reason.clone()
}

fn names(read: &Description) -> Vec<&str> {
    let names = read.operations().iter();
    names.map(|operation| operation.name.as_str()).collect()
}

fn arguments(operation: &Operation) -> Vec<&str> {
    let parameters = operation.parameters.iter();
    parameters
        .map(|parameter| parameter.argument.as_str())
        .collect()
}

#[test]
fn an_operation_is_read_with_its_words() {
    let read = read(&json!({"/users/{id}": {"get": {
        "operationId": "getUser",
        "tags": ["users"],
        "summary": "A  user",
        "description": "One of\nthem.",
        "parameters": [{"name": "$select", "in": "query"}],
    }}}));
    let [operation] = read.operations() else {
        panic!("{:?}", read.operations());
    };
    assert_eq!(operation.name, "getUser");
    assert_eq!(operation.line(), "GET /users/{id}");
    assert_eq!(operation.summary, "A user");
    assert_eq!(operation.description, "One of them.");
    assert_eq!(operation.tags, ["users"]);
    assert_eq!(arguments(operation), ["select", "id"]);
    assert!(read.operation("getUser").is_some());
    assert!(read.operation("GET /users/{id}").is_some());
}

#[test]
fn an_operation_that_stands_twice_in_its_path_is_one_tool() {
    let text = r#"{"openapi": "3.0.3", "info": {"title": "t", "version": "1"},
                   "paths": {"/a": {"get": {"summary": "First"}, "get": {"summary": "Second"}}}}"#;
    let read = Setting::new().read_text(text).unwrap();
    assert_eq!(read.operations().len(), 1);
    let [skipped] = read.skipped() else {
        panic!("{:?}", read.skipped());
    };
    assert_eq!(
        skipped.reason,
        "its path has this method twice, and the first one counts"
    );
}

#[test]
fn only_what_is_included_is_offered_and_an_entry_that_fits_nothing_earns_a_warning() {
    let mut setting = Setting::new();
    let entries = ["tag:users", "GET /tasks/*", "none"];
    setting.wanted.include = entries
        .iter()
        .map(|text| Entry::parse(text).unwrap())
        .collect();
    let read = setting
        .read(&description(&json!({
            "/users": {"get": {"operationId": "listUsers", "tags": ["users"]}},
            "/tasks": {"get": {"operationId": "listTasks"}},
            "/tasks/{id}": {"get": {"operationId": "getTask"}, "put": {"operationId": "putTask"}},
        })))
        .unwrap();
    assert_eq!(names(&read), ["getTask", "listUsers"]);
    assert_eq!(read.skipped()[0].reason, "OPENAPI_INCLUDE does not have it");
    assert_eq!(read.doubts().len(), 1, "{:?}", read.doubts());
    assert!(read.doubts()[0].contains("\"none\""));
}

#[test]
fn what_is_deprecated_is_offered_where_it_is_included() {
    let deprecated = |id: &str| json!({"get": {"operationId": id, "deprecated": true}});
    let paths = json!({"/a": deprecated("listA"), "/b": deprecated("listB")});
    let mut setting = Setting::new();
    setting.wanted.include = vec![Entry::parse("listA").unwrap()];
    let read = setting.read(&description(&paths)).unwrap();
    assert_eq!(names(&read), ["listA"]);
    assert!(read.skipped()[0].reason.contains("deprecated"));
}

#[test]
fn an_entry_that_excludes_nothing_earns_a_warning() {
    let paths = json!({"/a": {"get": {"operationId": "listA"}}, "/b": {"get": {}}});
    let entries = ["listA", "tag:none"];
    let mut setting = Setting::new();
    setting.wanted.exclude = entries.map(|text| Entry::parse(text).unwrap()).into();
    let read = setting.read(&description(&paths)).unwrap();
    assert_eq!(read.skipped()[0].reason, "OPENAPI_EXCLUDE has it");
    let [doubt] = read.doubts() else {
        panic!("{:?}", read.doubts());
    };
    assert!(
        doubt.contains("OPENAPI_EXCLUDE has \"tag:none\""),
        "{doubt}"
    );
}

#[test]
fn what_cannot_be_sent_is_skipped_with_the_reason() {
    let xml = json!({"content": {"application/xml": {"schema": {"type": "object"}}}});
    for (paths, wanted) in [
        (json!({"/a": {"head": {}}}), "HEAD is not among the methods"),
        (
            json!({"/a": {"query": {}}}),
            "QUERY is not among the methods",
        ),
        (
            json!({"/a": {"additionalOperations": {"COPY": {}}}}),
            "COPY is not among the methods",
        ),
        (
            json!({"/a": {"post": {"requestBody": xml}}}),
            "its body is application/xml, which is not supported",
        ),
        (
            json!({"/a": {"post": {"requestBody": {"content": {
                "application/json; charset=utf-16": {"schema": {"type": "object"}}}}}}}),
            "charset=utf-16",
        ),
        (
            json!({"/a": {"get": {"requestBody": {"required": true, "content": {
                "application/json": {"schema": {"type": "object"}}}}}}}),
            "it requires a body, which is not sent with GET",
        ),
        (
            json!({"/a": {"get": {"parameters": [{"name": "q", "in": "querystring"}]}}}),
            "querystring",
        ),
        (
            json!({"/a": {"get": {"parameters": [{"$ref": "other.json#/q"}]}}}),
            "another file",
        ),
        (
            json!({"/a": {"get": {"servers": [{"url": "https://elsewhere.example/"}]}}}),
            "elsewhere.example",
        ),
        (json!({"/a": {"get": {"deprecated": true}}}), "deprecated"),
        (
            json!({"/{a}": {"get": {"parameters": [
                {"name": "a", "in": "path", "schema": {"const": "b/c"}}]}}}),
            "its parameter \"a\" must not contain a slash",
        ),
        (
            json!({"/a": {"get": {"parameters": [
                {"name": "Key", "in": "header", "required": true}]}}}),
            "it needs the header \"Key\": add it to ALLOWED_REQUEST_HEADERS or BACKEND_HEADERS_FILE",
        ),
    ] {
        let reason = reason(&paths);
        assert!(reason.contains(wanted), "{reason}");
    }
}

#[test]
fn headers_that_every_request_has_are_no_arguments() {
    let header = |name: &str| json!({"name": name, "in": "header", "required": true});
    let parameters = ["Accept-Encoding", "User-Agent", "Accept", "Prefer"].map(header);
    let read = read(&json!({"/a": {"get": {"parameters": parameters}}}));
    assert_eq!(arguments(&read.operations()[0]), ["Prefer"]);
}

// Azure's descriptions keep paths with a query there.
#[test]
fn operations_of_x_ms_paths_are_read_like_others() {
    let mut description = description(&json!({"/a": {"get": {"operationId": "a"}}}));
    description["x-ms-paths"] = json!({
        "/a?comp=list": {"get": {"operationId": "listA"}},
        "/b?comp=list": {"head": {}},
    });
    let read = Setting::new().read(&description).unwrap();
    assert_eq!(names(&read), ["a", "listA"]);
    assert_eq!(read.skipped()[0].operation, "HEAD /b?comp=list");
}

#[test]
fn a_body_with_get_that_is_not_required_is_not_sent() {
    let form = json!({"schema": {"type": "object", "properties": {}}});
    let body = json!({"content": {"application/x-www-form-urlencoded": form}});
    let read = read(&json!({"/a": {"get": {"operationId": "a", "requestBody": body}}}));
    assert_eq!(names(&read), ["a"]);
    let room = Bounds {
        most_bytes: 1024,
        takes_files: false,
    };
    let arguments = read.arguments(&read.operations()[0], room).unwrap();
    assert!(arguments.properties.is_empty());
}

#[test]
fn what_is_no_description_is_refused_with_what_to_do() {
    let read = |text: &str| Setting::new().read_text(text).unwrap_err();
    for (text, wanted) in [
        ("openapi: 3.0.0\npaths: {}\n", "it is YAML"),
        ("# A comment\nswagger: \"2.0\"\n", "it is YAML"),
        ("<xml/>", "it is not JSON"),
        ("", "it is not JSON"),
        ("[]", "it is not JSON"),
        ("{", "it is not valid JSON"),
        ("{\"a\": 1}", "neither openapi nor swagger"),
        ("{\"openapi\": \"4.0.0\"}", "export it as 3.0, 3.1 or 3.2"),
        ("{\"openapi\": \"3.30.0\"}", "export it as 3.0, 3.1 or 3.2"),
        ("{\"swagger\": \"1.2\"}", "export it as 2.0"),
        ("{\"openapi\": \"3.0.0\"}", "it has no operation"),
        (
            "{\"openapi\": \"3.0.0\", \"paths\": {\"/a\": {\"head\": {}}}}",
            "none of its 1 operations can be offered, such as HEAD /a",
        ),
    ] {
        let mistake = read(text);
        assert!(mistake.contains(wanted), "{text}: {mistake}");
    }
}

#[test]
fn a_byte_order_mark_and_every_version_are_taken() {
    let text = |version: &str| {
        let mut description = description(&json!({"/a": {"get": {}}}));
        description["openapi"] = version.into();
        description.to_string()
    };
    for version in ["3.0", "3.0.4", "3.1.1", "3.2.0"] {
        let read = Setting::new().read_text(&format!("\u{feff}\n{}", text(version)));
        assert_eq!(read.unwrap().operations().len(), 1, "{version}");
    }
}

#[test]
fn what_the_policy_forbids_is_not_offered() {
    use entra_auth_mcp::api::policy::Pattern;
    let paths = json!({
        "/users/{id}": {"get": {}, "delete": {}},
        "/users/{id}/photo": {"get": {}},
        "/admin/users": {"get": {}},
        "/Orders('{id}')": {"get": {}},
    });
    let lines = |allowed: &[&str], denied: &[&str]| {
        let mut setting = Setting::new();
        setting.policy.methods = vec!["GET"];
        let parse = |texts: &[&str]| {
            texts
                .iter()
                .map(|text| Pattern::parse(text).unwrap())
                .collect()
        };
        setting.policy.allowed = parse(allowed);
        setting.policy.denied = parse(denied);
        match setting.read(&description(&paths)) {
            Ok(read) => read
                .operations()
                .iter()
                .map(|operation| operation.line())
                .collect(),
            Err(_) => Vec::new(),
        }
    };
    let all = [
        "GET /Orders('{id}')",
        "GET /admin/users",
        "GET /users/{id}",
        "GET /users/{id}/photo",
    ];
    assert_eq!(lines(&[], &[]), all);
    assert_eq!(lines(&["/users/*"], &[]), ["GET /users/{id}"]);
    // Some user may be called so.
    assert_eq!(lines(&["/users/ada"], &[]), ["GET /users/{id}"]);
    assert_eq!(lines(&["/users/**"], &["/**/photo"]), ["GET /users/{id}"]);
    assert_eq!(lines(&[], &["/users/ada", "/admin/**"])[1..], all[2..]);
    assert_eq!(
        lines(&["/Orders('7')", "/Order*"], &["/orders(*)"]),
        [""; 0]
    );
    assert_eq!(lines(&["/Orders(*)"], &[]), ["GET /Orders('{id}')"]);
    let odd = description(&json!({"/a;b/{id}": {"get": {}}, "/a/{id}": {"get": {}}}));
    let mut setting = Setting::new();
    setting.policy.denied = vec![Pattern::parse("/c").unwrap()];
    let read = setting.read(&odd).unwrap();
    assert_eq!(read.operations().len(), 1);
    assert!(read.skipped()[0].reason.contains("a semicolon"));
}

#[test]
fn a_reference_into_another_file_skips_its_operation_only() {
    let mut description = description(&json!({
        "/a": {"post": {"requestBody": {"content": {"application/json": {
            "schema": {"$ref": "#/components/schemas/A"},
        }}}}},
        "/b": {"post": {"requestBody": {"content": {"application/json": {
            "schema": {"$ref": "#/components/schemas/B"},
        }}}, "responses": {"200": {"$ref": "other.json#/r"}}}},
    }));
    description["components"] = json!({"schemas": {
        "A": {"properties": {"b": {"$ref": "#/components/schemas/B"}, "c": {"items": {
            "$ref": "https://elsewhere.example/c.json",
        }}}},
        "B": {"properties": {"a": {"example": {"$ref": "example.json"}}}},
    }});
    let read = Setting::new().read(&description).unwrap();
    let lines: Vec<String> = read.operations().iter().map(|known| known.line()).collect();
    assert_eq!(lines, ["POST /b"]);
    let [skipped] = read.skipped() else {
        panic!("{:?}", read.skipped());
    };
    assert_eq!(skipped.operation, "POST /a");
    assert!(skipped.reason.contains("https://elsewhere.example/c.json"));
}

// DigitalOcean's description has a file for every operation.
#[test]
fn an_operation_that_is_a_reference_is_what_it_leads_to() {
    let mut description = description(&json!({
        "/a/{id}": {"parameters": {"$ref": "#/x-parameters"}, "get": {"$ref": "#/x-operation"}},
        "/b": {"get": {"$ref": "operations/b.json"}},
        "/c": {"get": {"$ref": "#/x-nowhere"}},
    }));
    description["x-operation"] = json!({"operationId": "getA"});
    description["x-parameters"] = json!([{"name": "q", "in": "query"}]);
    let read = Setting::new().read(&description).unwrap();
    assert_eq!(names(&read), ["getA"]);
    assert_eq!(arguments(&read.operations()[0]), ["q", "id"]);
    let reasons: Vec<&str> = read
        .skipped()
        .iter()
        .map(|skipped| skipped.reason.as_str())
        .collect();
    assert!(
        reasons[0].contains("bundle the files into one"),
        "{reasons:?}"
    );
    assert!(reasons[1].contains("leads nowhere"), "{reasons:?}");
}

#[test]
fn no_operation_has_the_name_of_a_tool_of_ours() {
    use crate::support::entra::Entra;
    use crate::support::server::Setup;
    use entra_auth_mcp::openapi::OWN_TOOLS;
    let server = Setup::new(&Entra::start(), None).start();
    let listed = server.modern().result("tools/list", json!({}));
    for tool in listed["tools"].as_array().unwrap() {
        let name = tool["name"].as_str().unwrap();
        assert!(OWN_TOOLS.contains(&name), "{name}");
    }
}
