//! What users report of bridges that turn OpenAPI descriptions into tools: a test for each kind of
//! fault.

use std::collections::BTreeSet;

use crate::operations::{Bench, description, fields_of, parts_of, with_body, with_parameter};
use crate::support::entra::Entra;
use crate::support::http::Reply;
use crate::support::schema::breaks_the_rules;
use crate::support::server::Setup;
use serde_json::{Value, json};

fn names_of(schema: &Value) -> Vec<&str> {
    let properties = schema["properties"].as_object().unwrap();
    properties.keys().map(String::as_str).collect()
}

/// Whether `name` is a keyword or a member somewhere in `schema`.
fn has_somewhere(schema: &Value, name: &str) -> bool {
    match schema {
        Value::Object(members) => members
            .iter()
            .any(|(known, value)| known == name || has_somewhere(value, name)),
        Value::Array(items) => items.iter().any(|item| has_somewhere(item, name)),
        _ => false,
    }
}

#[test]
fn a_cycle_of_references_ends_in_an_object_that_says_so() {
    let mut described = description(&with_body(
        "application/json",
        json!({"$ref": "#/components/schemas/Node"}),
    ));
    described["components"] = json!({"schemas": {
        "Node": {"type": "object", "required": ["kind"], "properties": {
            "kind": {"const": "node"},
            "name": {"type": "string"},
            "children": {"type": "array", "items": {"$ref": "#/components/schemas/Node"}},
            "owner": {"$ref": "#/components/schemas/Owner"},
        }},
        "Owner": {"allOf": [
            {"$ref": "#/components/schemas/Base"},
            {"properties": {"node": {"$ref": "#/components/schemas/Node"}}},
        ]},
        "Base": {"type": "object", "properties": {
            "id": {"type": "string"},
            "self": {"$ref": "#/components/schemas/Base"},
        }},
    }});
    let mut bench = Bench::of(&described, &[]);
    let data = bench.argument("call", "data");
    let children = &data["properties"]["children"]["items"];
    assert_eq!(children["type"], "object");
    assert_eq!(children["description"], "(Node: as described above)");
    let owner = &data["properties"]["owner"];
    assert_eq!(names_of(owner), ["id", "node", "self"]);
    // What is left out of the listing is sent, however deep.
    let body = bench.json(
        "call",
        json!({"data": {"name": "a", "children": [{"name": "b", "children": [{"name": "c"}]}]}}),
    );
    assert_eq!(
        body,
        json!({"kind": "node", "name": "a", "children": [
            {"kind": "node", "name": "b", "children": [{"kind": "node", "name": "c"}]},
        ]})
    );
}

#[test]
fn no_reference_and_no_definition_is_left_in_a_listed_schema() {
    let mut described = description(&with_body(
        "application/json",
        json!({"$ref": "#/components/schemas/a~1b%20c"}),
    ));
    described["components"] = json!({"schemas": {"a/b c": {
        "type": "object",
        "$defs": {"inner": {"type": "string"}},
        "properties": {
            "one": {"$ref": "#/components/schemas/a~1b%20c/$defs/inner"},
            "two": {"$ref": "#/components/schemas/gone"},
        },
    }}});
    let mut bench = Bench::of(&described, &[]);
    let data = bench.argument("call", "data");
    assert_eq!(data["properties"]["one"], json!({"type": "string"}));
    let two = data["properties"]["two"]["description"].as_str().unwrap();
    assert!(two.contains("leads nowhere"), "{two}");
    for keyword in ["$ref", "$defs", "definitions"] {
        assert!(!has_somewhere(&data, keyword), "{keyword}");
    }
}

#[test]
fn names_are_legal_short_and_unique_and_a_new_operation_renames_no_other() {
    let long = "a".repeat(60);
    let before = json!({
        "/1": {"get": {"operationId": "users.list"}},
        "/2": {"get": {"operationId": "users list"}},
        "/3": {"get": {"operationId": format!("{long}1")}},
        "/4": {"get": {"operationId": format!("{long}2")}},
        "/5/{id}": {"get": {}, "post": {}},
        "/6": {"get": {"operationId": "ping"}},
        "/7": {"get": {"operationId": "list-users"}},
        "/8": {"get": {"operationId": "find_operations"}},
    });
    let listed = |paths: &Value| -> BTreeSet<(String, String)> {
        let tools = Bench::new(paths).listed();
        let tools = tools.iter().skip(11);
        let text = |tool: &Value, name: &str| tool[name].as_str().unwrap().to_owned();
        tools
            .map(|tool| (text(tool, "name"), text(tool, "title")))
            .collect()
    };
    let first = listed(&before);
    assert_eq!(first.len(), 9);
    for (name, _) in &first {
        assert!(name.len() <= 48, "{name}");
    }
    assert!(first.contains(&("list-users".to_owned(), "list-users".to_owned())));
    assert_eq!(listed(&before), first);

    let mut after = before.clone();
    after["/0"] = json!({"get": {"operationId": "users_list"}});
    after["/00"] = json!({"get": {"operationId": "users/list"}});
    after["/5/id"] = json!({"get": {}});
    let then = listed(&after);
    assert_eq!(then.len(), 12);
    assert!(then.is_superset(&first), "{first:?} {then:?}");
}

#[test]
fn arguments_of_one_name_in_path_query_and_body_are_told_apart() {
    let mut bench = Bench::new(&json!({"/x/{id}": {"put": {
        "operationId": "call",
        "parameters": [
            {"name": "id", "in": "path", "required": true},
            {"name": "id", "in": "query"},
        ],
        "requestBody": {"content": {"application/json": {"schema": {
            "type": "object", "properties": {"id": {"type": "string"}},
        }}}},
    }}}));
    let arguments = json!({"id_path": "a", "id_query": "b", "data": {"id": "c"}});
    let sent = bench.sent("call", arguments);
    assert_eq!(sent.target, "/v1.0/x/a?id=b");
    assert_eq!(sent.body, b"{\"id\":\"c\"}");
}

// Twilio's queries have the names DateCreated, DateCreated< and DateCreated>.
#[test]
fn a_parameter_keeps_its_name_beside_others_that_are_changed_to_it() {
    let parameter = |name: &str| json!({"name": name, "in": "query"});
    let parameters = ["Date<", "Date", "Date>", "id"].map(parameter);
    let mut bench = Bench::new(&json!({"/x/{id}": {"get": {
        "operationId": "call", "parameters": parameters,
    }}}));
    let tool = bench.tool("call");
    let names = names_of(&tool["inputSchema"]);
    assert!(names.contains(&"Date"), "{names:?}");
    assert!(names.contains(&"id_path"), "{names:?}");
    let before = tool["inputSchema"]["properties"]
        .as_object()
        .unwrap()
        .iter();
    let mut before = before.filter(|(_, schema)| schema["description"] == "Date<");
    let (before, _) = before.next().unwrap();
    let arguments = json!({"id_path": "1", "Date": "2", (before): "3"});
    assert_eq!(bench.target("call", arguments), "/x/1?Date%3C=3&Date=2");
}

#[test]
fn lists_and_objects_are_written_as_style_and_explode_say() {
    let mut bench = Bench::new(
        &json!({"/x": {"get": {"operationId": "call", "parameters": [
            {"name": "ids", "in": "query", "explode": false, "schema": {"type": "array"}},
            {"name": "tag", "in": "query", "schema": {"type": "array"}},
            {"name": "where", "in": "query", "style": "deepObject", "schema": {"type": "object"}},
            {"name": "q", "in": "query", "content": {"application/json": {"schema": {}}}},
        ]}}}),
    );
    let arguments = json!({"ids": [1, 2], "tag": ["a", "b"], "where": {"x": "y"}, "q": {"z": 1}});
    assert_eq!(
        bench.target("call", arguments),
        "/x?ids=1,2&tag=a&tag=b&where%5Bx%5D=y&q=%7B%22z%22%3A1%7D"
    );
}

#[test]
fn nullable_members_are_of_one_type_and_take_null() {
    let schema = json!({"type": "object", "properties": {
        "a": {"type": "string", "nullable": true},
        "b": {"type": ["integer", "null"]},
        "c": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "d": {"oneOf": [{"$ref": "#/components/schemas/D"}, {"type": "null"}]},
    }});
    let mut described = description(&with_body("application/json", schema));
    described["components"] = json!({"schemas": {"D": {"type": "object", "properties": {}}}});
    let mut bench = Bench::of(&described, &[]);
    let data = bench.argument("call", "data");
    for (name, kind) in [
        ("a", "string"),
        ("b", "integer"),
        ("c", "string"),
        ("d", "object"),
    ] {
        assert_eq!(data["properties"][name]["type"], kind, "{data}");
    }
    assert_eq!(data["properties"]["a"]["description"], "May be null.");
    let body = bench.json("call", json!({"data": {"a": null, "b": null}}));
    assert_eq!(body, json!({"a": null, "b": null}));
}

// FastAPI writes every optional member as anyOf with null.
#[test]
fn what_is_not_described_for_its_size_keeps_its_type() {
    let nullable = json!({"anyOf": [{"type": "string"}, {"type": "null"}]});
    let either = json!({"oneOf": [{"type": "string"}, {"type": "integer"}]});
    let text = "A text that takes room. ".repeat(12);
    let mut properties = json!({
        "nullable": nullable,
        "either": either,
        "texts": {"type": "array", "items": nullable},
        "one": {"oneOf": [{"$ref": "#/components/schemas/One"}, {"type": "string"}]},
        "objects": {"oneOf": [{"$ref": "#/components/schemas/One"}, {"type": "null"}]},
        "list": {"type": ["array", "null"], "items": {"$ref": "#/components/schemas/One"}},
    });
    for index in 0..80 {
        properties[format!("member_{index}")] = json!({"description": text, "allOf": [
            {"$ref": "#/components/schemas/One"},
        ]});
    }
    let schema = json!({"type": "object", "properties": properties});
    let mut described = description(&with_body("application/json", schema));
    described["components"] = json!({"schemas": {"One": {"type": "object", "properties": {
        "a": {"type": "string"}, "b": {"type": "string"},
    }}}});
    let mut bench = Bench::of(&described, &[]);
    let data = bench.argument("call", "data");
    let kinds = |name: &str| -> Vec<Value> {
        let schema = &data["properties"][name];
        let branches = schema["anyOf"].as_array().cloned();
        let branches = branches.unwrap_or_else(|| vec![schema.clone()]);
        branches
            .iter()
            .map(|branch| branch["type"].clone())
            .collect()
    };
    // Shows that this was too much to be described.
    assert!(data["properties"]["member_1"].get("properties").is_none());
    assert_eq!(kinds("nullable"), ["string"]);
    assert_eq!(kinds("either"), ["string", "integer"]);
    assert_eq!(data["properties"]["texts"]["items"]["type"], "string");
    assert_eq!(kinds("one"), ["object", "string"]);
    assert_eq!(kinds("objects"), ["object"]);
    assert_eq!(kinds("list"), ["array"]);
    assert_eq!(data["properties"]["list"]["items"]["type"], "object");
}

// Casdoor's user has 181 members.
#[test]
fn the_members_of_a_large_object_are_named() {
    let text = "What this member is. ".repeat(10);
    let member = |index: usize| {
        let schema = json!({"type": "string", "description": text});
        (format!("a_rather_long_name_{index}"), schema)
    };
    let properties: serde_json::Map<String, Value> = (0..180).map(member).collect();
    let schema = json!({"type": "object", "properties": properties});
    let mut bench = Bench::new(&with_body("application/json", schema));
    let data = bench.argument("call", "data");
    assert_eq!(names_of(&data).len(), 180, "{data}");
}

/// Bodies that grow member by member. Quotes are twice as long in JSON.
#[test]
fn a_tool_has_at_most_16_kb_and_its_description_at_most_1_kb() {
    let text = "\"\" ".repeat(45);
    let member = |index: usize| {
        let schema = json!({"type": "string", "description": text});
        (format!("a_rather_long_name_{index}"), schema)
    };
    let mut paths = json!({});
    for count in 50..=70 {
        let properties: serde_json::Map<String, Value> = (0..count).map(member).collect();
        let schema = json!({"type": "object", "properties": properties});
        let content = json!({"application/json": {"schema": schema}});
        paths[format!("/{count}")] = json!({"post": {
            "operationId": format!("call_{count}"),
            "description": "€".repeat(1700 + count),
            "requestBody": {"content": content},
        }});
    }
    let tools = Bench::new(&paths).listed();
    let is_named = |tool: &&Value| tool["name"].as_str().unwrap().starts_with("call_");
    let tools: Vec<&Value> = tools.iter().filter(is_named).collect();
    assert_eq!(tools.len(), 21);
    let lengths = tools.iter().map(|tool| tool.to_string().len());
    let longest = lengths.max().unwrap();
    assert!((16_000..=16 * 1024).contains(&longest), "{longest}");
    for tool in tools {
        let described = tool["description"].as_str().unwrap();
        assert!((1000..=1024).contains(&described.len()), "{described}");
        assert!(described.ends_with("€…"), "{described}");
    }
}

#[test]
fn branches_of_one_value_each_are_choices_with_their_meanings() {
    let texts: Vec<Value> = (0..40)
        .map(|index| json!({"const": format!("value_{index}")}))
        .collect();
    let schema = json!({"type": "object", "properties": {
        "texts": {"type": "string", "oneOf": texts},
        "numbers": {"description": "How long", "oneOf": [
            {"type": "integer", "const": 60, "title": "One hour"},
            {"type": "integer", "const": 1440, "title": "One day"},
            {"type": "null"},
        ]},
        "described": {"oneOf": [
            {"type": "string", "enum": ["a"], "description": "The first"},
            {"type": "string", "enum": ["b"], "description": "The second"},
            {"type": "string", "enum": ["c"], "title": "C"},
        ]},
        "empty": {"type": "string", "enum": [], "oneOf": [{"const": "a"}, {"const": "b"}]},
    }});
    let mut bench = Bench::new(&with_body("application/json", schema));
    let data = bench.argument("call", "data");
    let properties = &data["properties"];
    assert_eq!(properties["texts"]["enum"].as_array().unwrap().len(), 40);
    assert_eq!(properties["numbers"]["type"], "integer");
    assert_eq!(
        properties["numbers"]["description"],
        "How long. One of 60, 1440. 60: One hour; 1440: One day. May be null."
    );
    assert_eq!(
        properties["described"],
        json!({
            "type": "string",
            "enum": ["a", "b", "c"],
            "description": "a: The first; b: The second.",
        })
    );
    assert_eq!(
        properties["empty"],
        json!({"type": "string", "enum": ["a", "b"]})
    );
}

#[test]
fn more_branches_than_are_listed_are_told_of() {
    let branch = |index: usize| {
        let properties = json!({format!("member_{index}"): {"type": "string"}});
        json!({"type": "object", "properties": properties})
    };
    let branches: Vec<Value> = (0..20).map(branch).collect();
    let mut bench = Bench::new(&with_body("application/json", json!({"oneOf": branches})));
    let data = bench.argument("call", "data");
    assert_eq!(data["anyOf"].as_array().unwrap().len(), 16);
    assert_eq!(
        data["description"],
        "Takes 4 more forms, which are not described."
    );
}

// ASP.NET Core 10 describes every number so.
#[test]
fn a_number_that_may_be_written_as_text_is_a_number() {
    let number = |format: &str| json!({"type": ["null", "integer", "string"], "format": format});
    let schema = json!({"type": "object", "properties": {
        "count": number("int32"),
        "price": {"type": ["number", "string"], "format": "double"},
        "text": {"type": "string", "format": "int64"},
        "both": {"type": ["integer", "string"]},
    }});
    let mut bench = Bench::new(&with_body("application/json", schema));
    let data = bench.argument("call", "data");
    assert_eq!(data["properties"]["count"]["type"], "integer");
    assert_eq!(data["properties"]["price"]["type"], "number");
    assert_eq!(data["properties"]["text"]["type"], "string");
    assert!(data["properties"]["both"]["anyOf"].is_array());
}

#[test]
fn an_answer_that_is_none_of_the_described_ones_is_handed_on() {
    let mut bench = Bench::new(&json!({"/x": {"get": {
        "operationId": "call",
        "responses": {"200": {"content": {"application/json": {"schema": {
            "type": "object", "required": ["id"], "additionalProperties": false,
            "properties": {"id": {"type": "integer"}},
        }}}}},
    }}}));
    assert!(bench.tool("call").get("outputSchema").is_none());
    let answer = json!(["something", null]);
    let reply = Reply::of_json(200, &answer);
    bench.backend.on(move |_| Some(reply.clone().into()));
    assert_eq!(bench.mcp.ok("call", json!({}))["data"], answer);
}

#[test]
fn no_combinator_stands_at_the_root_and_parts_of_an_object_are_merged() {
    let schema = json!({
        "allOf": [
            {"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}},
            {"properties": {"b": {"type": "string"}}},
        ],
        "oneOf": [
            {"required": ["c"], "properties": {"c": {"type": "string"}}},
            {"required": ["d"], "properties": {"d": {"type": "string"}}},
        ],
        "discriminator": {"propertyName": "a"},
        "example": {"a": "x"},
    });
    let mut bench = Bench::new(&with_body("application/json", schema));
    let tool = bench.tool("call");
    assert_eq!(breaks_the_rules(&tool), [""; 0]);
    let data = &tool["inputSchema"]["properties"]["data"];
    let branches = data["anyOf"].as_array().unwrap();
    let names: Vec<Vec<&str>> = branches.iter().map(names_of).collect();
    assert_eq!(names, [["a", "b", "c"], ["a", "b", "d"]]);
    assert_eq!(branches[0]["required"], json!(["a", "c"]));
}

// CVE-2026-32871
#[test]
fn a_value_within_a_path_is_encoded_and_cannot_leave_its_segment() {
    let parameter = json!({"name": "id", "in": "path", "required": true});
    let mut bench = Bench::new(&with_parameter("/users/{id}/mail", parameter));
    assert_eq!(
        bench.target("call", json!({"id": "a?b=c#d e"})),
        "/users/a%3Fb%3Dc%23d%20e/mail"
    );
    for id in [
        "../admin",
        "..%2Fadmin",
        "..%252Fadmin",
        "a\\b",
        "..",
        "%2e%2e",
    ] {
        bench.refused("call", json!({"id": id}));
    }
}

#[test]
fn a_base_path_that_is_missing_earns_a_warning_and_another_server_is_never_called() {
    use entra_auth_mcp::config::Config;
    let mut described = description(&json!({
        "/here": {"get": {"operationId": "here"}},
        "/there": {"get": {
            "operationId": "there", "servers": [{"url": "https://elsewhere.example/v1.0"}],
        }},
        "/path": {"servers": [{"url": "https://elsewhere.example"}], "get": {
            "operationId": "path",
        }},
    }));
    described["servers"] = json!([{
        "url": "https://api.contoso.example/{version}",
        "variables": {"version": {"default": "v1.0"}},
    }]);
    let mut bench = Bench::of(&described, &[]);
    let tools = bench.listed();
    let names: Vec<&str> = tools[11..]
        .iter()
        .map(|tool| tool["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["here"]);
    assert_eq!(bench.target("here", json!({})), "/here");

    let entra = Entra::start();
    let setup = Setup::new(&entra, None);
    let file = setup.directory.write("openapi.json", described.to_string());
    let doubts = |base: &str| {
        let setup = setup.clone().with("BACKEND_API_BASE_URL", base);
        let setup = setup.with("OPENAPI_FILE", file.to_str().unwrap());
        Config::from_variables(&setup.variables).unwrap().doubts()
    };
    assert_eq!(doubts("https://gateway.example/crm/v1.0"), [""; 0]);
    let [doubt] = doubts("https://gateway.example/crm").try_into().unwrap();
    assert!(doubt.contains("/v1.0"), "{doubt}");
}

#[test]
fn parameters_of_a_path_are_those_of_its_operations_unless_they_have_their_own() {
    let mut bench = Bench::new(&json!({"/x/{id}": {
        "parameters": [
            {"name": "id", "in": "path", "required": true, "schema": {"type": "string"}},
            {"name": "page", "in": "query", "schema": {"type": "integer"}},
        ],
        "get": {"operationId": "call", "parameters": [
            {"name": "page", "in": "query", "required": true, "description": "Which."},
        ]},
    }}));
    let tool = bench.tool("call");
    assert_eq!(tool["inputSchema"]["required"], json!(["id", "page"]));
    let page = &tool["inputSchema"]["properties"]["page"];
    assert_eq!(page["description"], "Which.");
    assert_eq!(
        bench.target("call", json!({"id": 7, "page": 2})),
        "/x/7?page=2"
    );
}

#[test]
fn credentials_are_never_arguments() {
    let headers = [
        "Authorization",
        "authorization",
        "Cookie",
        "Host",
        "Accept",
        "X-Api-Key",
    ];
    let mut parameters: Vec<Value> = headers
        .iter()
        .map(|name| json!({"name": name, "in": "header", "required": true}))
        .collect();
    parameters.push(json!({"name": "key", "in": "query", "required": true}));
    parameters.push(json!({"name": "session", "in": "cookie", "required": true}));
    parameters.push(json!({"name": "q", "in": "query"}));
    let paths = json!({"/x": {"get": {"operationId": "call", "parameters": parameters}}});
    let mut described = description(&paths);
    described["components"] = json!({"securitySchemes": {
        "one": {"type": "apiKey", "in": "header", "name": "x-api-key"},
        "two": {"type": "apiKey", "in": "query", "name": "key"},
    }});
    let allowed = [("ALLOWED_REQUEST_HEADERS", "X-Api-Key")];
    let mut bench = Bench::of(&described, &allowed);
    let tool = bench.tool("call");
    assert_eq!(
        names_of(&tool["inputSchema"]),
        ["max_bytes", "q", "select", "user_id"]
    );
    let message = bench.refused("call", json!({"Authorization": "Bearer x"}));
    assert!(message.contains("There is no argument"), "{message}");
}

#[test]
fn bodies_that_are_no_objects_forms_and_files_are_sent() {
    let list = json!({"type": "array", "items": {"type": "integer"}});
    let mut bench = Bench::new(&with_body("application/merge-patch+json", list));
    let sent = bench.sent("call", json!({"data": [1, 2]}));
    assert_eq!(
        sent.header("Content-Type"),
        Some("application/merge-patch+json")
    );
    assert_eq!(sent.body, b"[1,2]");

    let form = json!({"type": "object", "properties": {"a": {"type": "string"}}});
    let mut bench = Bench::new(&with_body("application/x-www-form-urlencoded", form));
    let sent = bench.sent("call", json!({"data": {"a": "1&b=2"}}));
    assert_eq!(fields_of(&sent), [("a".to_owned(), "1&b=2".to_owned())]);

    let files = json!({"type": "object", "properties": {
        "files": {"type": "array", "items": {"type": "string", "format": "binary"}},
    }});
    let mut bench = Bench::new(&with_body("multipart/form-data", files));
    let files = json!([{"base64": "YQ=="}, {"base64": "Yg"}]);
    let sent = bench.sent("call", json!({"data": {"files": files}}));
    let bodies: Vec<Vec<u8>> = parts_of(&sent).into_iter().map(|(_, body)| body).collect();
    assert_eq!(bodies, [b"a", b"b"]);
}

#[test]
fn swagger_2_is_read_with_its_own_words() {
    let described = json!({
        "swagger": "2.0",
        "info": {"title": "Old", "version": "1"},
        "basePath": "/v1.0",
        "consumes": ["application/json"],
        "securityDefinitions": {"key": {"type": "apiKey", "in": "query", "name": "code"}},
        "parameters": {"id": {"name": "id", "in": "path", "required": true, "type": "string"}},
        "definitions": {"Thing": {"type": "object", "properties": {"name": {"type": "string"}}}},
        "paths": {
            "/things/{id}": {
                "parameters": [{"$ref": "#/parameters/id"}],
                "post": {"operationId": "change", "parameters": [
                    {"name": "code", "in": "query", "type": "string"},
                    {"name": "tags", "in": "query", "type": "array", "items": {"type": "string"},
                     "collectionFormat": "pipes"},
                    {"name": "many", "in": "query", "type": "array", "items": {"type": "string"},
                     "collectionFormat": "multi"},
                    {"name": "csv", "in": "query", "type": "array", "items": {"type": "string"}},
                    {"name": "body", "in": "body", "required": true,
                     "schema": {"$ref": "#/definitions/Thing"}},
                ]},
            },
            "/form": {"post": {
                "operationId": "form",
                "consumes": ["application/x-www-form-urlencoded"],
                "parameters": [
                    {"name": "a", "in": "formData", "required": true, "type": "string"},
                    {"name": "b", "in": "formData", "type": "array", "items": {"type": "string"}},
                ],
            }},
            "/upload": {"post": {"operationId": "upload", "parameters": [
                {"name": "file", "in": "formData", "required": true, "type": "file"},
            ]}},
        },
    });
    let mut bench = Bench::of(&described, &[]);
    let data = bench.argument("change", "data");
    assert_eq!(names_of(&data), ["name"]);
    let sent = bench.sent(
        "change",
        json!({
            "id": "1", "tags": ["a", "b"], "many": ["c", "d"], "csv": ["e", "f"],
            "data": {"name": "x"},
        }),
    );
    assert_eq!(
        sent.target,
        "/v1.0/things/1?tags=a%7Cb&many=c&many=d&csv=e,f"
    );
    assert_eq!(sent.body, b"{\"name\":\"x\"}");
    let sent = bench.sent("form", json!({"data": {"a": "1", "b": ["2", "3"]}}));
    assert_eq!(sent.body, b"a=1&b=2,3");
    let sent = bench.sent("upload", json!({"data": {"file": {"base64": "aGk="}}}));
    assert_eq!(parts_of(&sent)[0].1, b"hi");
}

#[test]
fn many_operations_do_not_become_many_tools_by_themselves() {
    let mut paths = json!({});
    for number in 0..26 {
        paths[format!("/{number:02}")] = json!({"get": {"operationId": format!("op{number:02}")}});
    }
    let auto = [("API_TOOLS", "auto")];
    let count = |paths: &Value, settings: &[(&str, &str)]| {
        let tools = Bench::of(&description(paths), settings).listed();
        let is_named = |tool: &&Value| tool["name"].as_str().unwrap().starts_with("op");
        tools.iter().filter(is_named).count()
    };
    assert_eq!(count(&paths, &auto), 0);
    assert_eq!(count(&paths, &[]), 26);
    assert_eq!(count(&paths, &[("API_TOOLS", "search")]), 0);
    assert_eq!(count(&paths, &[("API_TOOLS", "generic")]), 0);
    let fewer = [("API_TOOLS", "auto"), ("OPENAPI_EXCLUDE", "op00")];
    assert_eq!(count(&paths, &fewer), 25);
    // Few, but long.
    let text = "word ".repeat(200);
    for number in 0..26 {
        let parameters: Vec<Value> = (0..8)
            .map(|index| json!({"name": format!("p{index}"), "in": "query", "description": text}))
            .collect();
        paths[format!("/{number:02}")]["get"]["parameters"] = parameters.into();
    }
    assert_eq!(count(&paths, &fewer), 0);
}
