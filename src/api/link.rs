//! `Link` header fields (RFC 8288 §3).

/// The target of the first link whose relation is `next`, as it is written.
pub(crate) fn next<'a>(fields: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut links = fields.flat_map(|field| split(field, ','));
    links.find_map(|link| {
        let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        leads_to_next(parameters).then_some(target)
    })
}

/// Whether a link with these `parameters` leads from the answer to the next one.
fn leads_to_next(parameters: &str) -> bool {
    let mut relations = None;
    for parameter in split(parameters, ';') {
        let Some((name, value)) = parameter.split_once('=') else {
            continue;
        };
        match name.trim().to_ascii_lowercase().as_str() {
            // The link does not lead from the answer, but from another resource (§3.2).
            "anchor" => return false,
            // The first one counts (§3.3).
            "rel" => {
                relations.get_or_insert(value.trim());
            }
            _ => {}
        }
    }
    let relations = relations.unwrap_or_default().trim_matches('"');
    relations
        .split_ascii_whitespace()
        .any(|relation| relation.eq_ignore_ascii_case("next"))
}

/// The parts of `text` between `separator`s that are neither in a quoted string nor in a target.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    let mut is_target = false;
    let mut is_escaped = false;
    text.split(move |c| {
        let is_literal = std::mem::take(&mut is_escaped);
        match c {
            '\\' if is_quoted && !is_literal => is_escaped = true,
            '"' if !is_target && !is_literal => is_quoted = !is_quoted,
            '<' if !is_quoted => is_target = true,
            '>' if !is_quoted => is_target = false,
            _ => {}
        }
        c == separator && !is_quoted && !is_target
    })
}
