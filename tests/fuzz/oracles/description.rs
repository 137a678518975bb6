//! A description of an API: every operation is offered or skipped, what is listed keeps the rules of every
//! model's API, and what is sent for a call has the segments of the operation's path.

use std::collections::BTreeSet;

use entra_auth_mcp::api::endpoint::Base;
use entra_auth_mcp::api::policy::{METHODS, Policy};
use entra_auth_mcp::mcp::jsonrpc::Object;
use entra_auth_mcp::openapi::offer::Wanted;
use entra_auth_mcp::openapi::{Bounds, Description, OWN_TOOLS, Operation, Surroundings};
use serde_json::Value;
use url::Url;

const BASE: &str = "https://api.contoso.example/v1.0/";
const MOST_BYTES: usize = 16 * 1024;

/// The description, then perhaps the arguments of a call of each of its operations.
pub fn holds(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (description, arguments) = text.split_once('\u{1}').unwrap_or((&text, "{}"));
    let base: Url = BASE.parse().unwrap();
    let policy = Policy {
        methods: METHODS.to_vec(),
        ..Policy::default()
    };
    let surroundings = Surroundings {
        policy: &policy,
        base: Some(&base),
        fixed_headers: None,
        wanted: &Wanted::default(),
    };
    let Ok(read) = Description::read(description.as_bytes().to_vec(), &surroundings) else {
        return;
    };
    assert!(!read.operations().is_empty());
    let mut names: BTreeSet<&str> = OWN_TOOLS.into_iter().collect();
    for operation in read.operations() {
        is_named(operation);
        assert!(
            names.insert(&operation.name),
            "{} is there twice",
            operation.name
        );
        let bounds = Bounds {
            most_bytes: MOST_BYTES,
            takes_files: true,
        };
        let Ok(listed) = read.arguments(operation, bounds) else {
            continue;
        };
        let length: usize = listed
            .properties
            .values()
            .map(|schema| schema.json().len())
            .sum();
        assert!(length <= MOST_BYTES, "{length}");
        for (name, schema) in &listed.properties {
            is_identifier(name);
            is_listed_well(&serde_json::from_str(&schema.json()).unwrap());
        }
        for name in &listed.required {
            assert!(listed.properties.contains_key(name), "{name}");
        }
        let given: Object<'_> = serde_json::from_str(arguments).unwrap_or_default();
        if let Ok(prepared) = operation.prepare(&listed.body, &given) {
            stays_in_its_segments(operation, &prepared.endpoint, &base);
        }
    }
}

fn is_named(operation: &Operation) {
    let name = &operation.name;
    let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    assert!(
        (1..=48).contains(&name.len()) && name.chars().all(is_legal),
        "{name}"
    );
    let length = operation.text().len();
    assert!((1..=1024).contains(&length), "{length}");
}

fn is_identifier(name: &str) {
    let is_legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let begins_well = !name.starts_with(|c: char| c.is_ascii_digit());
    let is_identifier = begins_well && name.chars().all(is_legal);
    assert!((1..=64).contains(&name.len()) && is_identifier, "{name}");
}

fn is_listed_well(schema: &Value) {
    let keywords = schema.as_object().expect("a schema is an object");
    assert!(!keywords.contains_key("$ref"), "{schema}");
    match (schema.get("type"), schema.get("anyOf")) {
        (Some(kind), None) => assert!(kind.is_string(), "{schema}"),
        (None, Some(branches)) => {
            let branches = branches.as_array().expect("anyOf is a list");
            assert!(branches.len() > 1, "{schema}");
            branches.iter().for_each(is_listed_well);
        }
        _ => panic!("neither a type nor anyOf: {schema}"),
    }
    for inner in schema["properties"].as_object().into_iter().flatten() {
        is_listed_well(inner.1);
    }
    for keyword in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get(keyword).filter(|inner| inner.is_object()) {
            is_listed_well(inner);
        }
    }
}

/// No value of a path makes a segment more or fewer.
fn stays_in_its_segments(operation: &Operation, endpoint: &str, base: &Url) {
    let Ok(target) = Base(base.clone()).target(endpoint, &[]) else {
        return;
    };
    let url: Url = target.as_str().parse().unwrap();
    let path = url
        .path()
        .strip_prefix(base.path())
        .expect("it is below the base");
    let template = operation.path.split('?').next().unwrap_or_default();
    let names_a_slash = template.split('{').skip(1).any(|name| {
        name.split('}')
            .next()
            .is_some_and(|name| name.contains(['/', '?']))
    });
    if names_a_slash {
        return;
    }
    let segments = template.trim_start_matches('/').split('/').count();
    assert_eq!(
        path.split('/').count(),
        segments,
        "{template} became {path}"
    );
}
