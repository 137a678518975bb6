//! Of a listed schema, the values that can be written outside of JSON: single ones, lists of them,
//! and objects of them. What is nested deeper has no defined form there (OpenAPI 3.1 §4.8.12.3).

use serde_json::Value;

use super::parameter::Style;

/// The part of a listed schema whose values `style` can write; `None` where there is none.
pub(super) fn writable(mut schema: Value, style: Style) -> Option<Value> {
    let is_kept = match style {
        Style::Json => true,
        // It is defined for objects alone.
        Style::DeepObject => keep(&mut schema, &|branch| {
            kind(branch) == "object" && keep_members(branch)
        }),
        _ => keep(&mut schema, &|branch| match kind(branch) {
            "array" => branch.get_mut("items").is_none_or(keep_single),
            "object" => keep_members(branch),
            _ => true,
        }),
    };
    is_kept.then_some(schema)
}

/// Keeps the branches of `schema` that fit. Says whether it still has values.
fn keep(schema: &mut Value, fits: &dyn Fn(&mut Value) -> bool) -> bool {
    let branches = schema.get_mut("anyOf").and_then(Value::as_array_mut);
    let Some(branches) = branches else {
        return fits(schema);
    };
    branches.retain_mut(|branch| keep(branch, fits));
    if let [only] = branches.as_mut_slice() {
        let only = only.take();
        become_branch(schema, only);
        return true;
    }
    !branches.is_empty()
}

/// Puts the last branch in the place of the `anyOf` that had it.
fn become_branch(schema: &mut Value, branch: Value) {
    let (Some(members), Value::Object(branch)) = (schema.as_object_mut(), branch) else {
        return;
    };
    members.remove("anyOf");
    for (name, value) in branch {
        members.entry(name).or_insert(value);
    }
}

fn keep_single(schema: &mut Value) -> bool {
    keep(schema, &|branch| {
        !matches!(kind(branch), "array" | "object")
    })
}

/// Keeps the members of an object that have single values. Says whether none that is required is
/// gone.
fn keep_members(object: &mut Value) -> bool {
    let Some(object) = object.as_object_mut() else {
        return false;
    };
    if let Some(additional) = object.get_mut("additionalProperties")
        && additional.is_object()
        && !keep_single(additional)
    {
        *additional = true.into();
    }
    let Some(properties) = object.get_mut("properties").and_then(Value::as_object_mut) else {
        return true;
    };
    properties.retain(|_, member| keep_single(member));
    let names: Vec<String> = properties.keys().cloned().collect();
    if names.is_empty() {
        object.remove("properties");
    }
    let required = object.get("required").and_then(Value::as_array);
    let mut required = required.into_iter().flatten().filter_map(Value::as_str);
    required.all(|name| names.iter().any(|known| known == name))
}

fn kind(schema: &Value) -> &str {
    let kind = schema.get("type").and_then(Value::as_str);
    kind.unwrap_or_default()
}
