//! The template of a path: literal text and the parameters between.

use std::borrow::Cow;

use super::parameter::{Parameter, Place};
use crate::sorted;

/// More parameters in one path are a mistake.
const MOST_PARAMETERS: usize = 100;

/// A piece of a template.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'t> {
    Literal(&'t str),
    /// The name of a parameter.
    Parameter(&'t str),
}

impl<'t> Piece<'t> {
    pub(crate) fn parameter(&self) -> Option<&'t str> {
        match self {
            Self::Parameter(name) => Some(name),
            Self::Literal(_) => None,
        }
    }
}

/// The pieces of `path`.
///
/// # Errors
/// It is no path that can be filled in.
pub(crate) fn pieces(path: &str) -> Result<Vec<Piece<'_>>, String> {
    let malformed = || format!("its path {path:?} has braces that do not pair");
    if !path.starts_with('/') {
        return Err(format!("its path {path:?} does not begin with a slash"));
    }
    if path.contains('#') {
        return Err(format!("its path {path:?} has a fragment"));
    }
    let mut pieces = Vec::new();
    let mut rest = path;
    while let Some((literal, behind)) = rest.split_once('{') {
        let (name, after) = behind.split_once('}').ok_or_else(malformed)?;
        if literal.contains('}') || name.contains('{') || name.is_empty() {
            return Err(malformed());
        }
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        pieces.push(Piece::Parameter(name));
        rest = after;
    }
    if pieces.len() > 2 * MOST_PARAMETERS {
        return Err(format!(
            "its path has more than {MOST_PARAMETERS} parameters"
        ));
    }
    if rest.contains('}') {
        return Err(malformed());
    }
    if !rest.is_empty() {
        pieces.push(Piece::Literal(rest));
    }
    Ok(pieces)
}

/// `path` without the fields of its query that are parameters of the query, too, such as
/// `ids={ids}`: they are sent as those parameters.
pub(crate) fn without_fields<'t>(path: &'t str, parameters: &[Parameter]) -> Cow<'t, str> {
    let Some((path_alone, query)) = path.split_once('?') else {
        return path.into();
    };
    let of_query = parameters
        .iter()
        .filter(|known| known.place == Place::Query);
    let names = sorted::set(of_query.map(|known| known.name.as_str()));
    let is_sent = |field: &&str| {
        let name = field.split('=').next().unwrap_or_default();
        field.ends_with('}') && names.contains(name)
    };
    let kept: Vec<&str> = query.split('&').filter(|field| !is_sent(field)).collect();
    if kept.is_empty() {
        return path_alone.into();
    }
    format!("{path_alone}?{}", kept.join("&")).into()
}

/// `path` with `value` in place of every parameter.
pub(crate) fn filled(path: &str, value: &str) -> Result<String, String> {
    let pieces = pieces(path)?;
    let texts = pieces.iter().map(|piece| match piece {
        Piece::Literal(text) => *text,
        Piece::Parameter(_) => value,
    });
    Ok(texts.collect())
}
