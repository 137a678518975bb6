//! Of a listed schema, the values that can be written outside of JSON: single ones, lists of them,
//! and objects of them. What is nested deeper has no defined form there (OpenAPI 3.1 §4.8.12.3).

use super::listed::{Members, Others, Schema, Values};
use super::parameter::Style;

/// The part of a listed schema whose values `style` can write; `None` where there is none.
pub(super) fn writable(mut schema: Schema, style: Style) -> Option<Schema> {
    let has_values = match style {
        Style::Json => true,
        // It is defined for objects alone.
        Style::DeepObject => keep(&mut schema, &|values| match values {
            Values::Object(members) => keep_members(members),
            _ => false,
        }),
        _ => keep(&mut schema, &|values| match values {
            Values::Array(items) => keep_single(items),
            Values::Object(members) => keep_members(members),
            _ => true,
        }),
    };
    has_values.then_some(schema)
}

/// Keeps the branches of `schema` that fit. Says whether it still has values.
fn keep(schema: &mut Schema, fits: &dyn Fn(&mut Values) -> bool) -> bool {
    let Values::AnyOf(branches) = &mut schema.values else {
        return fits(&mut schema.values);
    };
    branches.retain_mut(|branch| keep(branch, fits));
    if branches.len() == 1
        && let Some(only) = branches.pop()
    {
        if schema.description.is_empty() {
            schema.description = only.description;
        }
        schema.values = only.values;
        return true;
    }
    !branches.is_empty()
}

fn keep_single(schema: &mut Schema) -> bool {
    keep(schema, &|values| {
        !matches!(values, Values::Array(_) | Values::Object(_))
    })
}

/// Keeps the members of an object that have single values. Says whether none that is required is
/// gone.
fn keep_members(members: &mut Members) -> bool {
    if let Others::Of(schema) = &mut members.others
        && !keep_single(schema)
    {
        members.others = Others::Any;
    }
    members.keep(keep_single);
    members.required.iter().all(|name| members.has(name))
}
