//! Descriptions of APIs, read: which operations there are, and why others are skipped.

use entra_auth_mcp::api::policy::{METHODS, Policy};
use entra_auth_mcp::openapi::offer::{Entry, Wanted};
use entra_auth_mcp::openapi::{Description, Operation, Surroundings};
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
            "/tasks/{id}": {"get": {"operationId": "getTask"}, "put": {"operationId": "putTask"}},
        })))
        .unwrap();
    assert_eq!(names(&read), ["getTask", "listUsers"]);
    assert_eq!(read.skipped()[0].reason, "OPENAPI_INCLUDE does not have it");
    assert_eq!(read.doubts().len(), 1, "{:?}", read.doubts());
    assert!(read.doubts()[0].contains("\"none\""));
}

#[test]
fn what_cannot_be_sent_is_skipped_with_the_reason() {
    let xml = json!({"content": {"application/xml": {"schema": {"type": "object"}}}});
    for (paths, wanted) in [
        (json!({"/a": {"head": {}}}), "HEAD is none of the methods"),
        (json!({"/a": {"query": {}}}), "QUERY is none of the methods"),
        (
            json!({"/a": {"additionalOperations": {"COPY": {}}}}),
            "COPY is none of the methods",
        ),
        (
            json!({"/a": {"post": {"requestBody": xml}}}),
            "application/xml",
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
    ] {
        let reason = reason(&paths);
        assert!(reason.contains(wanted), "{reason}");
    }
}
