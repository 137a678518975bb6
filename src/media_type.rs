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

/// Whether the media type is fit to be read.
pub(crate) fn is_text(essence: &str) -> bool {
    let subtype = essence.strip_prefix("application/").unwrap_or_default();
    essence.starts_with("text/")
        || essence.ends_with("+xml")
        || matches!(
            subtype,
            "xml" | "javascript" | "yaml" | "x-www-form-urlencoded" | "x-ndjson"
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
