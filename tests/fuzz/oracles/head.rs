//! The request head: whether it is taken does not depend on how it arrives, and what is taken has one
//! meaning, be it read as strictly as we do or as carelessly as others may.

use entra_auth_mcp::http::MOST_HEAD_BYTES;
use entra_auth_mcp::http::head::{Framing, Head, Refusal, end_of_head, parse};

pub fn holds(input: &[u8]) {
    let whole = at_once(input);
    for step in [1, 2, 3, 7, 1000] {
        let accepted = in_pieces(input, step);
        match &whole {
            Ok(Some((end, _))) => assert_eq!(accepted, Ok(Some(*end)), "in pieces of {step}"),
            Ok(None) => assert_eq!(accepted, Ok(None), "in pieces of {step}"),
            // What is refused may be refused for another reason, since another part of it comes first.
            Err(_) => assert!(accepted.map_or(true, |end| {
                end.is_some_and(|end| parse(&input[..end]).is_err())
            })),
        }
    }
    if let Ok(Some((end, head))) = whole {
        assert!(end <= MOST_HEAD_BYTES);
        has_one_meaning(&input[..end], &head);
    }
}

fn at_once(input: &[u8]) -> Result<Option<(usize, Head<'_>)>, Refusal> {
    end_of_head(input, 0)?
        .map(|end| Ok((end, parse(&input[..end])?)))
        .transpose()
}

/// Where the head ends, when `step` more bytes arrive at a time.
fn in_pieces(input: &[u8], step: usize) -> Result<Option<usize>, Refusal> {
    let mut seen = 0;
    let ends = (step..input.len()).step_by(step).chain([input.len()]);
    for arrived in ends {
        if let Some(end) = end_of_head(&input[..arrived], seen)? {
            return Ok(Some(end));
        }
        seen = arrived;
    }
    Ok(None)
}

fn has_one_meaning(bytes: &[u8], head: &Head<'_>) {
    // Values of fields need not be text.
    let text = &String::from_utf8_lossy(bytes);
    assert!(
        text.chars()
            .all(|c| !c.is_control() || matches!(c, '\r' | '\n' | '\t') || !c.is_ascii()),
        "{text:?}"
    );
    assert!(
        head.path.starts_with('/') || head.path == "*",
        "{:?}",
        head.path
    );
    assert!(
        !head.path.contains(['?', '#', ' ']) && !head.query.contains(['#', ' ']),
        "{text:?}"
    );

    // As a careless reader takes it: any line end, any white space around a name.
    let mut lines = text.split(['\r', '\n']).filter(|line| !line.is_empty());
    let request_line: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(
        (request_line.len(), request_line[0]),
        (3, head.method.as_str()),
        "{text:?}"
    );
    assert_eq!(request_line[2] == "HTTP/1.1", head.is_http_11);
    let fields: Vec<(String, &str)> = lines
        .map(|line| line.split_once(':').expect("a field has a name"))
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim()))
        .collect();
    let values = |name: &str| {
        fields
            .iter()
            .filter(|(key, _)| key == name)
            .map(|(_, value)| *value)
            .collect::<Vec<_>>()
    };
    assert_eq!(values("host").len(), 1, "{text:?}");
    match (
        values("content-length").as_slice(),
        values("transfer-encoding").as_slice(),
    ) {
        ([], []) => assert_eq!(head.framing, Framing::Length(0)),
        // What no number can hold is too long in any case.
        ([length], []) => {
            assert!(length.bytes().all(|byte| byte.is_ascii_digit()), "{length}");
            assert_eq!(
                head.framing,
                Framing::Length(length.parse().unwrap_or(usize::MAX))
            );
        }
        ([], [coding]) => {
            assert!(coding.eq_ignore_ascii_case("chunked") && head.is_http_11);
            assert_eq!(head.framing, Framing::Chunked);
        }
        _ => panic!("the length of the body is ambiguous: {text:?}"),
    }
    if head.keep_alive {
        let options = values("connection").join(",").to_ascii_lowercase();
        assert!(
            head.is_http_11 && !options.split(',').any(|option| option.trim() == "close"),
            "{text:?}"
        );
    }
}
