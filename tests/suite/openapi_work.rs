//! Descriptions that make a lot of work of little text: what takes too much is skipped, the rest is
//! offered, and the server starts.

use serde_json::{Map, Value, json};

use crate::operations::{description, printed};

const TOO_MUCH: &str = "its description takes too much work to read";

/// What becomes of the operations of a description.
struct Report {
    listed: Vec<String>,
    /// Each with the reason.
    skipped: Vec<(String, String)>,
}

impl Report {
    /// Of `paths` with `components`. `GET /fine` is there beside them, and is always listed.
    fn of(paths: &Value, components: &Value) -> Self {
        let mut described = description(paths);
        described["paths"]["/fine"] = json!({"get": {}});
        described["components"] = components.clone();
        let report: Value = serde_json::from_str(&printed(&["--json"], &described)).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let tools = report["tools"].as_array().unwrap().iter();
        let listed = tools.filter(|tool| tool["operation"].is_string());
        let listed: Vec<String> = listed.map(|tool| text(&tool["operation"])).collect();
        let skipped = report["skipped"].as_array().unwrap().iter();
        let skipped =
            skipped.map(|skipped| (text(&skipped["operation"]), text(&skipped["reason"])));
        assert!(listed.contains(&"GET /fine".to_owned()), "{report}");
        Self {
            listed,
            skipped: skipped.collect(),
        }
    }

    /// Why the only operation that is skipped is so.
    fn reason(&self) -> &str {
        let [(_, reason)] = self.skipped.as_slice() else {
            panic!("{:?}", self.skipped);
        };
        reason
    }
}

fn object(members: impl IntoIterator<Item = (String, Value)>) -> Value {
    Map::from_iter(members).into()
}

fn to_schema(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// An operation that takes JSON with this schema.
fn with_body(schema: &Value) -> Value {
    json!({"post": {"requestBody": {"content": {"application/json": {"schema": schema}}}}})
}

/// So many operations that share a schema.
fn sharing(count: usize, schema: &Value) -> Value {
    object((0..count).map(|number| (format!("/x{number}"), with_body(schema))))
}

#[test]
fn an_operation_that_takes_too_much_work_is_skipped_with_the_reason() {
    // Of each object all 3,000 members are read, though none of them is listed.
    let read_only = object((0..3000).map(|n| (format!("r{n}"), json!({"readOnly": true}))));
    let mut tree = json!({"Base": {"properties": read_only}, "L8": {"type": "string"}});
    for level in 0..8 {
        let below = to_schema(&format!("L{}", level + 1));
        let members = ["a", "b", "c", "d", "e", "f"].map(|name| (name.to_owned(), below.clone()));
        let own = json!({"type": "object", "properties": object(members)});
        tree[format!("L{level}")] = json!({"allOf": [to_schema("Base"), own]});
    }
    // Each pointer leads through all of a large schema.
    let large = object((0..2000).map(|n| (format!("p{n}"), json!({"type": "string"}))));
    let pointers = object((0..1000).map(|n| {
        let pointer = format!("#/components/schemas/Large/properties/p{n}");
        (format!("not listed {n}"), json!({"$ref": pointer}))
    }));
    let pointers = json!({
        "Large": {"properties": large},
        "L0": {"type": "object", "properties": pointers},
    });

    for schemas in [tree, pointers] {
        let paths = json!({"/much": with_body(&to_schema("L0"))});
        let report = Report::of(&paths, &json!({"schemas": schemas}));
        assert_eq!(report.reason(), TOO_MUCH);
    }
}

/// All of them share something large, by a reference each.
#[test]
fn all_operations_together_take_a_bounded_amount_of_work() {
    let large = "word ".repeat(400_000);

    let parameter = json!({"name": "p", "in": "query", "description": large});
    let item = json!({"parameters": [parameter], "get": {}, "put": {}, "delete": {}});
    let shared = (0..200).map(|n| {
        let reference = json!({"$ref": "#/components/pathItems/Shared"});
        (format!("/x{n}"), reference)
    });
    let shared = object(shared);
    check_shared(&shared, &json!({"pathItems": {"Shared": item}}));

    let schema = json!({"type": "object", "description": large});
    let shared = sharing(200, &to_schema("Shared"));
    check_shared(&shared, &json!({"schemas": {"Shared": schema}}));
}

/// Checks that some of the operations are listed, and that the others are skipped as too much work.
fn check_shared(paths: &Value, components: &Value) {
    let Report { listed, skipped } = Report::of(paths, components);
    assert!(listed.len() > 1, "{listed:?}");
    assert!(!skipped.is_empty());
    for (operation, reason) in skipped {
        assert_eq!(reason, TOO_MUCH, "{operation}");
    }
}

#[test]
fn what_is_long_without_reason_skips_its_operation() {
    let long = "n".repeat(5000);
    let many = format!("/{}", "{p}".repeat(1000));
    let parameter = json!({"parameters": [{"name": long, "in": "query"}]});
    for (path, operation, reason) in [
        (
            format!("/{long}"),
            json!({}),
            "its path has more than 4096 bytes",
        ),
        (many, json!({}), "its path has more than 100 parameters"),
        (
            "/x".to_owned(),
            parameter,
            "the name of one of its parameters has more than 1000 bytes",
        ),
    ] {
        let report = Report::of(&json!({path: {"get": operation}}), &json!({}));
        assert_eq!(report.reason(), reason);
    }
    // A reason does not repeat it either.
    let names_nothing = json!({"parameters": [{"name": "x", "in": long}]});
    let report = Report::of(&json!({"/x": {"get": names_nothing}}), &json!({}));
    assert!(report.reason().len() < 1000, "{}", report.reason().len());
}

#[test]
fn a_long_list_of_values_is_told_in_part() {
    let values: Vec<String> = (0..20_000).map(|n| format!("v{n}")).collect();
    let parameter =
        json!({"name": "e", "in": "query", "schema": {"type": "string", "enum": values}});
    let paths = json!({"/x": {"get": {"parameters": [parameter]}}});
    let report = Report::of(&paths, &json!({}));
    assert_eq!(report.listed, ["GET /fine", "GET /x"]);
}

/// Each default has the next variable twelve times.
#[test]
fn the_variables_of_a_server_do_not_multiply_its_url() {
    let variables = (0..12).map(|n| {
        let next = format!("{{v{}}}", n + 1).repeat(12);
        (format!("v{n}"), json!({"default": next}))
    });
    let server = json!({"url": "{v0}", "variables": object(variables)});
    let paths = json!({"/x": {"get": {"servers": [server]}}});
    let report = Report::of(&paths, &json!({}));
    assert_eq!(report.listed, ["GET /fine", "GET /x"]);
}

/// Every schema leads to every other; only what leads to the other file is skipped.
#[test]
fn only_what_leads_to_another_file_is_skipped_however_much_refers_to_what() {
    let mut schemas = json!({"Leaves": {"items": {"$ref": "other.json#/x"}}});
    for number in 0..100 {
        let members = (0..6).map(|n| {
            let other = (number * 7 + n) % 100;
            (format!("m{n}"), to_schema(&format!("E{other}")))
        });
        schemas[format!("E{number}")] = json!({"type": "object", "properties": object(members)});
    }
    schemas["Far"] = json!({"properties": {"a": to_schema("E1"), "b": to_schema("Leaves")}});
    let mut paths = sharing(20, &to_schema("E0"));
    paths["/leaves"] = with_body(&json!({"type": "array", "items": to_schema("Far")}));
    let report = Report::of(&paths, &json!({"schemas": schemas}));
    assert_eq!(
        report.reason(),
        "its $ref \"other.json#/x\" leads to another file, which is not read: bundle the files into one"
    );
    assert_eq!(report.listed.len(), 21);
}
