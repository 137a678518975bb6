//! Media types (RFC 9110 §8.3.1): what a body is, and what a client takes.

/// The weights of what is not taken (RFC 9110 §12.4.2).
const ZERO_WEIGHTS: [&str; 4] = ["q=0", "q=0.0", "q=0.00", "q=0.000"];

/// `type/subtype` of a `Content-Type` or an `Accept` range: lower case, without parameters.
pub(crate) fn essence(value: &str) -> String {
    bare(value).to_ascii_lowercase()
}

/// Whether that of `value` is `essence`.
pub(crate) fn is(value: &str, essence: &str) -> bool {
    bare(value).eq_ignore_ascii_case(essence)
}

fn bare(value: &str) -> &str {
    value.split(';').next().unwrap_or_default().trim()
}

/// Whether the media type is JSON or made of it (RFC 6839 §3.1).
pub(crate) fn is_json(essence: &str) -> bool {
    essence == "application/json" || essence.ends_with("+json")
}

/// Whether it is JSON by one of its names, some of which are older than its own.
pub(crate) fn is_called_json(essence: &str) -> bool {
    is_json(essence) || matches!(essence, "text/json" | "text/x-json" | "application/x-json")
}

/// The parameter `name` of a media type (RFC 9110 §5.6.6).
pub(crate) fn parameter<'v>(value: &'v str, name: &str) -> Option<&'v str> {
    let mut parameters = value
        .split(';')
        .skip(1)
        .filter_map(|text| text.split_once('='));
    let (_, value) = parameters.find(|(given, _)| given.trim().eq_ignore_ascii_case(name))?;
    Some(value.trim().trim_matches(['"', '\''])).filter(|value| !value.is_empty())
}

/// Whether the media type is fit to be read.
pub(crate) fn is_text(essence: &str) -> bool {
    let subtype = essence.strip_prefix("application/").unwrap_or_default();
    essence.starts_with("text/")
        // A batch of answers (OData): text, if all of its parts are.
        || essence.starts_with("multipart/")
        || essence.starts_with("message/")
        || essence.ends_with("+xml")
        || essence.ends_with("+yaml")
        || essence.ends_with("+json-seq")
        || matches!(
            subtype,
            "ecmascript"
                | "graphql"
                | "http"
                | "javascript"
                | "json-seq"
                | "jsonl"
                | "jsonlines"
                | "ndjson"
                | "sql"
                | "toml"
                | "x-javascript"
                | "x-jsonlines"
                | "x-ndjson"
                | "x-www-form-urlencoded"
                | "x-yaml"
                | "xml"
                | "xml-dtd"
                | "yaml"
        )
}

/// Whether a client with these `Accept` fields takes `wanted`. The most specific range counts, and
/// a weight of zero refuses (RFC 9110 §12.4.2, §12.5.1).
pub(crate) fn is_accepted<'a>(
    accept: &(impl Iterator<Item = &'a str> + Clone),
    wanted: &str,
) -> bool {
    let kind = wanted.split('/').next().unwrap_or_default();
    let find = |fits: &dyn Fn(&str) -> bool| {
        accept
            .clone()
            .flat_map(|field| field.split(','))
            .find(|given| fits(given))
    };
    let is_of_kind = |range: &str| {
        bare(range)
            .strip_suffix("/*")
            .is_some_and(|given| given.eq_ignore_ascii_case(kind))
    };
    let range = find(&|range| is(range, wanted))
        .or_else(|| find(&is_of_kind))
        .or_else(|| find(&|range| is(range, "*/*")));
    range.is_some_and(|range| {
        let mut parameters = range.split(';').map(str::trim);
        !parameters.any(|parameter| {
            ZERO_WEIGHTS
                .iter()
                .any(|zero| parameter.eq_ignore_ascii_case(zero))
        })
    })
}
