//! What of a schema is told in words, since its listed form has no keyword for it.

use super::detail::Detail;
use super::document::Node;
use super::listed::can_be_listed;
use super::shape::{Meaning, Shape};
use super::text::{sentences, tidy};

/// Formats that tell a model how to write a value.
const TELLING_FORMATS: [&str; 8] = [
    "byte", "date", "duration", "email", "time", "uri", "uuid", "hostname",
];
/// How many members are named that cannot be listed.
const MOST_UNLISTED: usize = 10;
/// How long the list of their names may be at least.
const UNLISTED_BYTES: usize = 100;
/// The longest list of values.
const MOST_CHOICES_BYTES: usize = 600;
/// The longest default.
const MOST_DEFAULT_BYTES: usize = 40;

/// The description of a listed schema.
pub(super) fn description(shape: &Shape<'_>, detail: Detail) -> String {
    let own = shape.description.as_deref().unwrap_or_default();
    let mut told = vec![tidy(own, detail.words)];
    let format = shape.format.as_deref().unwrap_or_default();
    if TELLING_FORMATS.contains(&format) {
        told.push(format!("Format: {format}."));
    }
    let is_listed = shape.kinds() == ["string"] && choices(shape, detail).is_some();
    if let Some(choices) = &shape.choices
        && !is_listed
    {
        told.push(one_of(choices, detail));
    }
    told.push(meanings(&shape.meanings, detail));
    if let Some(default) = shape.default.filter(|default| is_short_scalar(*default)) {
        told.push(format!("Default: {}.", default.json()));
    }
    if shape.is_nullable {
        told.push("May be null.".to_owned());
    }
    told.push(unlisted(shape, detail));
    if let Some(gap) = &shape.gap {
        told.push(format!("Not fully described: {gap}."));
    }
    sentences(&told)
}

/// The texts of `enum` that are listed, without `null` and the empty one; `None` if there are none,
/// if a value is no text, or if there are too many.
pub(super) fn choices(shape: &Shape<'_>, detail: Detail) -> Option<Vec<String>> {
    let choices = shape.choices.as_ref()?;
    let mut texts: Vec<String> = Vec::new();
    for choice in choices.iter().filter(|choice| choice.json() != "null") {
        let text = choice.text()?.into_owned();
        // Gemini's API refuses an empty one.
        if !text.is_empty() && !texts.contains(&text) {
            texts.push(text);
        }
        if texts.len() > detail.choices {
            return None;
        }
    }
    (!texts.is_empty()).then_some(texts)
}

/// The values of `enum`, or the first of them.
fn one_of(choices: &[Node<'_>], detail: Detail) -> String {
    let shown = choices.iter().take(detail.choices);
    let shown: Vec<&str> = shown.map(|choice| choice.json()).collect();
    let more = if shown.len() < choices.len() {
        ", …"
    } else {
        ""
    };
    let sentence = format!("One of {}{more}.", shown.join(", "));
    tidy(&sentence, MOST_CHOICES_BYTES)
}

/// What the description says of the values of `enum`, or of the first of them. Empty where it says
/// nothing.
fn meanings(meanings: &[Meaning<'_>], detail: Detail) -> String {
    let shown = meanings.iter().take(detail.choices);
    let shown = shown.map(|Meaning { value, text }| format!("{value}: {text}"));
    let shown: Vec<String> = shown.collect();
    if shown.is_empty() {
        return String::new();
    }
    let most = MOST_CHOICES_BYTES.min(2 * detail.words);
    tidy(&format!("{}.", shown.join("; ")), most)
}

/// The members whose names cannot be listed. Empty where there are none.
fn unlisted(shape: &Shape<'_>, detail: Detail) -> String {
    let names = shape.properties.iter().map(|(name, _)| name.as_ref());
    let names = names.filter(|name| !can_be_listed(name));
    let names: Vec<&str> = names.take(MOST_UNLISTED).collect();
    if names.is_empty() {
        return String::new();
    }
    let sentence = format!("Also has the members {}.", names.join(", "));
    tidy(&sentence, detail.words.max(UNLISTED_BYTES))
}

fn is_short_scalar(value: Node<'_>) -> bool {
    let json = value.json();
    json.len() <= MOST_DEFAULT_BYTES && json != "null" && !json.starts_with(['{', '['])
}
