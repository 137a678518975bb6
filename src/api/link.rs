//! `Link` header fields (RFC 8288 §3).

/// The target of the first link whose relation is `next`, as it is written.
pub(crate) fn next<'a>(fields: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    fields.flat_map(|field| split(field, ',')).find_map(|link| {
        let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let parameters = split(parameters, ';').filter_map(|parameter| parameter.split_once('='));
        let mut parameters =
            parameters.map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim()));
        // The first `rel` counts; a link with an anchor is one of another resource (§3.2, §3.3).
        let is_of_another = parameters.clone().any(|(name, _)| name == "anchor");
        let (_, relations) = parameters.find(|(name, _)| name == "rel")?;
        let mut relations = relations.trim_matches('"').split_ascii_whitespace();
        (!is_of_another && relations.any(|relation| relation.eq_ignore_ascii_case("next")))
            .then_some(target)
    })
}

/// The parts of `text` between `separator`s that stand neither in a quoted string nor in a target.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> + Clone {
    let (mut is_quoted, mut is_target, mut is_escaped) = (false, false, false);
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
