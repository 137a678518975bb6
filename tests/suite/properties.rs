//! The pure parts, by what must hold for whatever goes in: made-up input, the same in every run.

use std::collections::BTreeSet;
use std::time::{Duration, UNIX_EPOCH};

use crate::support::random::Random;
use entra_auth_mcp::auth::challenge::Claims;
use entra_auth_mcp::auth::scope::Scopes;
use entra_auth_mcp::clock::iso8601_seconds;
use entra_auth_mcp::http::head::{Framing, end_of_head, parse};
use entra_auth_mcp::outgoing::retry_after;
use serde_json::{Value, json};

const ROUNDS: usize = 2000;

const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

#[test]
fn a_time_is_that_of_the_http_date_of_the_same_second_and_later_ones_sort_behind() {
    let mut random = Random::new(SEED);
    for _ in 0..ROUNDS {
        // Up to the year 9999.
        let [first, second] = [(); 2].map(|()| random.next() % 253_402_300_800);
        let [one, other] = [first, second].map(iso8601_seconds);
        assert_eq!(first.cmp(&second), one.cmp(&other), "{one} {other}");
        let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(first));
        let (year, day, time) = (&date[12..16], &date[5..7], &date[17..25]);
        assert_eq!(
            (&one[..4], &one[8..10], &one[11..19]),
            (year, day, time),
            "{one} {date}"
        );
    }
}

#[test]
fn a_wait_is_what_the_field_says_and_never_more_than_can_be_added_to() {
    let mut random = Random::new(SEED);
    for _ in 0..ROUNDS {
        let [now, seconds] = [(); 2].map(|()| random.next() % 100_000_000_000);
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let padded = |text: &str| format!("{}{text}\t", " ".repeat(text.len() % 2));
        let longest = Duration::from_secs(1 << 31);
        let wanted = Duration::from_secs(seconds).min(longest);
        assert_eq!(
            retry_after::parse(&padded(&seconds.to_string()), at(now)),
            Some(wanted)
        );
        let digits = random.some(&["0", "1", "9", "99999999999"], 9).concat();
        let is_in_bounds = retry_after::parse(&digits, at(now)).is_some_and(|wait| wait <= longest);
        assert_eq!(is_in_bounds, !digits.is_empty(), "{digits:?}");
        let date = padded(&httpdate::fmt_http_date(at(seconds)));
        let until = |now| retry_after::parse(&date, now);
        assert_eq!(
            until(at(now)),
            seconds.checked_sub(now).map(Duration::from_secs),
            "{seconds} {now}"
        );
        // A part of a second is waited for, too.
        let one_more = seconds
            .checked_sub(now)
            .map(|left| Duration::from_secs(left + 1));
        assert_eq!(until(at(now) - Duration::from_millis(1)), one_more);
        let neither = [
            random.pick(&["-", "+", "0x", "1 ", ".", "Mon, ", "é"]),
            &seconds.to_string(),
        ]
        .concat();
        assert_eq!(retry_after::parse(&neither, at(now)), None, "{neither:?}");
    }
}

#[test]
fn a_head_is_read_as_it_was_written() {
    let mut random = Random::new(SEED);
    for _ in 0..ROUNDS {
        let method = random.pick(&["GET", "POST", "DELETE", "PATCH", "OPTIONS", "X-Y"]);
        let path = format!(
            "/{}",
            random
                .some(&["a", "/", "%2f", ".", "é", ";x=y", "~"], 6)
                .concat()
        );
        let query = random
            .some(&["a=b", "&", "=", "%20", "?", "ü", "/"], 4)
            .concat();
        let question_mark = if query.is_empty() { "" } else { "?" };
        let (framing, field) = random.pick(&[
            (Framing::Length(0), ""),
            (Framing::Length(0), "Content-Length: 0\r\n"),
            (Framing::Length(17), "content-length:  17 \r\n"),
            (Framing::Chunked, "Transfer-Encoding: Chunked\r\n"),
        ]);
        let before = random
            .some(&["X: y\r\n", "Cookie: a=b; c=\r\n", "Accept:\t*/*\r\n"], 5)
            .concat();
        let after = random
            .some(
                &[
                    "Connection: keep-alive\r\n",
                    "Origin: null\r\n",
                    "Empty:\r\n",
                ],
                5,
            )
            .concat();
        let text = format!(
            "{method} {path}{question_mark}{query} HTTP/1.1\r\n{before}Host: x:1\r\n{field}{after}\r\nrest"
        );
        let end = end_of_head(text.as_bytes(), 0).unwrap().unwrap();
        assert_eq!(&text[end..], "rest");
        let head = parse(&text.as_bytes()[..end])
            .unwrap_or_else(|refusal| panic!("{text:?}: {}", refusal.reason));
        assert_eq!(
            (head.method.as_str(), head.path, head.query),
            (method, path.as_str(), query.as_str())
        );
        assert_eq!((head.framing, head.keep_alive), (framing, true), "{text:?}");
    }
}

#[test]
fn scopes_are_a_set_that_is_read_back_as_it_was() {
    const SCOPES: [&str; 10] = [
        "openid",
        "email",
        "User.Read",
        "Mail.Read",
        "api://a/read",
        "api://a/write",
        "api://a/.default",
        "api://b/read",
        ".default",
        "https://graph.microsoft.com/User.Read",
    ];
    let set = |scopes: &Scopes| {
        scopes
            .requested()
            .split(' ')
            .map(str::to_owned)
            .collect::<BTreeSet<_>>()
    };
    let mut random = Random::new(SEED);
    let mut good = 0;
    for _ in 0..ROUNDS {
        let custom = random.some(&SCOPES, 3).join(" ");
        let Ok(scopes) = Scopes::parse(&custom) else {
            continue;
        };
        good += 1;
        let own = set(&scopes);
        assert_eq!(
            own.len(),
            scopes.requested().split(' ').count(),
            "{custom}: one stands twice"
        );
        assert!(
            custom.split_whitespace().all(|scope| own.contains(scope)),
            "{custom}"
        );
        assert_eq!(
            Scopes::parse(scopes.requested()).as_ref(),
            Ok(&scopes),
            "{custom}"
        );
    }
    assert!(good > ROUNDS / 4, "only {good} of {ROUNDS} were scopes");
}

#[test]
fn claims_keep_what_is_demanded_of_the_access_token_and_name_our_capability() {
    let mut random = Random::new(SEED);
    for _ in 0..ROUNDS {
        let mut claims = json!({});
        for name in random.some(&["access_token", "id_token", "userinfo"], 3) {
            claims[name] = json!({random.pick(&["acrs", "nbf", "xms_cc"]): {}});
        }
        if random.below(2) == 0 {
            claims["access_token"]["xms_cc"]["values"] = json!(random.some(&["cp1", "llt"], 2));
        }
        let demanded = claims.get("access_token").cloned();
        let Some(merged) = Claims::of_challenge(&claims.to_string()) else {
            assert_eq!(demanded, None, "{claims}");
            continue;
        };
        assert_eq!(
            Claims::of_challenge(merged.as_str()).as_ref(),
            Some(&merged)
        );
        let read: Value = serde_json::from_str(merged.as_str()).unwrap();
        let values = read["access_token"]["xms_cc"]["values"].as_array().unwrap();
        assert!(values.contains(&json!("cp1")), "{claims} became {read}");
        for wanted in demanded.unwrap().as_object().unwrap().keys() {
            let kept = read["access_token"].get(wanted);
            assert!(kept.is_some(), "{claims} became {read}");
        }
        assert_eq!(read.as_object().unwrap().len(), 1, "{claims} became {read}");
    }
}
