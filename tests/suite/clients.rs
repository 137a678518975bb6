//! What clients, frameworks and the APIs of models do to a server, and must not be failed for.

use crate::support::backend::Backend;
use crate::support::entra::{ADA, Entra};
use crate::support::http::Request;
use crate::support::server::{Mcp, Running, Setup, TempDir};
use serde_json::{Value, json};

const WITH_DATA: [&str; 3] = ["api_post_request", "api_put_request", "api_patch_request"];
const API: [&str; 5] = [
    "api_get_request",
    "api_post_request",
    "api_put_request",
    "api_patch_request",
    "api_delete_request",
];

/// A server with Ada signed in, and an MCP client of it.
struct Bench {
    mcp: Mcp,
    _server: Running,
    backend: Backend,
    _entra: Entra,
}

impl Bench {
    fn new() -> Self {
        let entra = Entra::start();
        let backend = Backend::start_for(&entra);
        let server = Setup::new(&entra, Some(&backend)).start();
        let mut mcp = server.modern();
        mcp.sign_in(ADA);
        Self {
            mcp,
            _server: server,
            backend,
            _entra: entra,
        }
    }

    /// Calls `tool`, which succeeds; gives what has reached the backend.
    fn sent(&mut self, tool: &str, arguments: Value) -> Request {
        self.mcp.ok(tool, arguments);
        self.backend.last()
    }
}

// ---- What is listed ----

/// The definitions that a server with these settings lists.
fn listed(settings: &[(&str, &str)]) -> Vec<Value> {
    let entra = Entra::start();
    let mut setup = Setup::new(&entra, None);
    for (name, value) in settings {
        setup = setup.with(name, value);
    }
    let mut result = setup.start().modern().result("tools/list", json!({}));
    serde_json::from_value(result["tools"].take()).unwrap()
}

/// Where an input schema breaks the published rules of a model's API.
///
/// Gemini takes a subset of JSON Schema: one type, not a list of them; no `propertyNames`; every array says of what.
/// OpenAI and Anthropic want an object at the top, without combinators there. Nobody resolves `$ref` alike.
fn departures(schema: &Value, at: &str) -> Vec<String> {
    const TAKEN: [&str; 10] = [
        "additionalProperties",
        "anyOf",
        "description",
        "enum",
        "items",
        "maximum",
        "minimum",
        "properties",
        "required",
        "type",
    ];
    let Some(keywords) = schema.as_object() else {
        return vec![format!("{at} is no schema: {schema}")];
    };
    let mut found = Vec::new();
    for keyword in keywords
        .keys()
        .filter(|name| !TAKEN.contains(&name.as_str()))
    {
        found.push(format!("{at} has {keyword}"));
    }
    let kinds = ["array", "boolean", "integer", "number", "object", "string"];
    match (schema.get("type"), schema.get("anyOf")) {
        (Some(Value::String(kind)), None) if kinds.contains(&kind.as_str()) => {}
        (None, Some(Value::Array(branches))) if branches.len() > 1 => {
            // Gemini wants nothing of an `anyOf` but its description.
            let mut besides = keywords
                .keys()
                .filter(|name| !["anyOf", "description"].contains(&name.as_str()));
            found.extend(
                besides
                    .next()
                    .map(|name| format!("{at} has {name} beside anyOf")),
            );
        }
        _ => found.push(format!("{at} has neither one type nor anyOf: {schema}")),
    }
    if schema["type"] == "array" && !schema["items"].is_object() {
        found.push(format!("{at} does not say of what"));
    }
    if let Some(choices) = schema.get("enum") {
        let choices = choices.as_array().unwrap();
        if schema["type"] != "string"
            || choices.is_empty()
            || choices
                .iter()
                .any(|choice| choice.as_str().is_none_or(str::is_empty))
        {
            found.push(format!("{at} has an odd enum"));
        }
    }
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        found.extend(departures(schema, &format!("{at}/{name}")));
    }
    for (index, schema) in schema["anyOf"].as_array().into_iter().flatten().enumerate() {
        found.extend(departures(schema, &format!("{at}/{index}")));
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(schema) = schema.get(inner).filter(|schema| !schema.is_boolean()) {
            found.extend(departures(schema, &format!("{at}/{inner}")));
        }
    }
    found
}

#[test]
fn every_listed_schema_keeps_the_rules_of_every_models_api() {
    let files = TempDir::new();
    let settings: [&[(&str, &str)]; 5] = [
        &[],
        &[("ALLOWED_METHODS", "GET")],
        &[("FILES_DIR", files.0.to_str().unwrap())],
        &[("ALLOW_DEVICE_CODE", "true")],
        &[
            ("FILES_DIR", files.0.to_str().unwrap()),
            ("ALLOW_DEVICE_CODE", "true"),
        ],
    ];
    let mut seen = Vec::new();
    for settings in settings {
        let tools = listed(settings);
        for tool in &tools {
            let name = tool["name"].as_str().unwrap();
            // OpenAI's bounds, the narrowest.
            assert!(
                name.len() <= 64 && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'),
                "{name}"
            );
            assert!(
                tool["description"].as_str().unwrap().len() <= 1024,
                "{name}"
            );
            let schema = &tool["inputSchema"];
            assert_eq!(departures(schema, name), Vec::<String>::new());
            assert_eq!(
                (&schema["type"], schema.get("anyOf")),
                (&json!("object"), None),
                "{name}"
            );
            let properties = schema["properties"].as_object().unwrap();
            // Anthropic's pattern of the name of an argument.
            let fits = |name: &String| {
                (1..=64).contains(&name.len())
                    && name
                        .chars()
                        .all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
            };
            assert!(properties.keys().all(fits), "{name}");
            seen.extend(properties.keys().cloned());
        }
    }
    for argument in ["data", "save_to", "body_file", "method"] {
        assert!(seen.iter().any(|known| known == argument), "{argument}");
    }
}

#[test]
fn data_is_listed_as_any_json_in_so_many_words() {
    for tool in listed(&[]) {
        let Some(data) = tool.pointer("/inputSchema/properties/data") else {
            continue;
        };
        let branches = data["anyOf"].as_array().unwrap();
        let kinds: Vec<&str> = branches
            .iter()
            .map(|branch| branch["type"].as_str().unwrap())
            .collect();
        assert_eq!(kinds, ["object", "array", "string", "number", "boolean"]);
        // What makes a schema strict closes every object that does not say that it is open.
        assert_eq!(branches[0]["additionalProperties"], true);
        assert!(branches[1]["items"]["anyOf"].is_array());
    }
}

#[test]
fn what_is_not_listed_is_checked_all_the_same() {
    let mut bench = Bench::new();
    for (argument, value) in [
        ("params", json!({"k".repeat(257): 1})),
        ("params", json!({"k": vec![1; 201]})),
        ("headers", json!({"k".repeat(257): ""})),
        ("select", json!(vec!["/a"; 51])),
        ("select", json!("/".repeat(1025))),
        ("user_id", json!("u".repeat(257))),
    ] {
        let refused = bench.mcp.fails(
            "api_get_request",
            json!({"endpoint": "/echo", argument: value}),
        );
        assert_eq!(refused["error"], "invalid_request");
        assert!(
            refused["message"]
                .as_str()
                .unwrap()
                .contains("must be at most"),
            "{refused}"
        );
    }
    let refused = bench.mcp.fails(
        "api_get_request",
        json!({"endpoint": "/echo", "select": []}),
    );
    assert!(
        refused["message"].as_str().unwrap().contains("at least 1"),
        "{refused}"
    );
    assert!(bench.backend.requests().is_empty());
}
