//! The pure parts, by tables: what a specification says goes in, and what must come out.
const CLIENT_ID: &str = "11111111-aaaa-4bbb-8ccc-222222222222";

mod clock {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use entra_auth_mcp::clock::{Clock, http_date, iso8601_seconds};

    /// CASES D7: a machine without a battery may start anywhere.
    #[test]
    fn a_clock_before_1970_stands_at_1970() {
        for before in [Duration::from_nanos(1), Duration::from_secs(1 << 32)] {
            let clock = Clock::from_fn(move || UNIX_EPOCH - before);
            assert_eq!(clock.now(), 0);
            assert_eq!(clock.iso8601_millis(), "1970-01-01T00:00:00.000Z");
        }
    }

    /// CASES D7
    #[test]
    fn an_answer_at_a_time_that_http_cannot_write_has_no_date() {
        let written = |time: SystemTime| http_date(time).map(|date| date.to_string());
        let year_10_000 = UNIX_EPOCH + Duration::from_secs(253_402_300_800);
        let nanosecond = Duration::from_nanos(1);
        for (time, date) in [
            (UNIX_EPOCH - Duration::from_secs(1 << 32), None),
            (UNIX_EPOCH - nanosecond, None),
            (UNIX_EPOCH, Some("Thu, 01 Jan 1970 00:00:00 GMT")),
            (
                year_10_000 - nanosecond,
                Some("Fri, 31 Dec 9999 23:59:59 GMT"),
            ),
            (year_10_000, None),
        ] {
            assert_eq!(written(time).as_deref(), date, "{time:?}");
        }
    }

    #[test]
    fn dates_are_right_around_leap_days_and_centuries() {
        for (epoch, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (1_785_240_000, "2026-07-28T12:00:00Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(iso8601_seconds(epoch), text);
        }
    }
}

mod cookie_jar {
    use entra_auth_mcp::cookie_jar::CookieJar;
    use ureq::http::HeaderMap;
    use url::Url;

    use crate::support::http_date;

    const NOW: u64 = 1_800_000_000;

    /// The jar after an answer from `url` with this `Set-Cookie`.
    fn jar_with(url: &str, cookie: &str) -> (CookieJar, Url) {
        let url: Url = url.parse().unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("set-cookie", cookie.parse().unwrap());
        let jar = CookieJar::default();
        let has_set = jar.keep(&headers, &["session".to_owned()], &url, NOW);
        assert_eq!(has_set, !jar.is_empty(NOW), "{cookie}");
        (jar, url)
    }

    // RFC 6265 §5.1.3
    #[test]
    fn a_domain_fits_the_host_and_the_hosts_below_it() {
        for (host, domain, fits) in [
            ("api.contoso.example", "api.contoso.example", true),
            ("api.contoso.example", "contoso.example", true),
            ("api.contoso.example", ".Contoso.Example", true),
            ("api.contoso.example", "ntoso.example", false),
            ("api.contoso.example", "v1.api.contoso.example", false),
            ("api.contoso.example", "fabrikam.example", false),
            ("api.contoso.example", "..contoso.example", false),
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "0.2.1", false),
            ("[2001:db8::1]", "[2001:db8::1]", true),
            ("[2001:db8::1]", "db8::1]", false),
        ] {
            let cookie = format!("session=a; Path=/; Domain={domain}; Secure");
            let (jar, url) = jar_with(&format!("https://{host}/v1/"), &cookie);
            assert_eq!(jar.header(&url, NOW).is_some(), fits, "{host} {domain}");
        }
    }

    // RFC 6265 §5.1.1
    #[test]
    fn a_date_is_read_in_every_way_that_servers_write_it() {
        for time in [
            951_868_799,
            1_709_251_199,
            1_800_000_001,
            4_102_444_800,
            4_107_542_399,
        ] {
            let date = http_date(time);
            let time = u64::try_from(time).unwrap();
            let (weekday, day, month) = (&date[..3], &date[5..7], &date[8..11]);
            let (year, clock) = (&date[12..16], &date[17..25]);
            let mut forms = vec![
                date.clone(),
                format!("{weekday}, {day}-{month}-{year} {clock} GMT"),
                format!("{weekday} {month} {day} {clock} {year}"),
                format!("{day} {month}uary {year} {clock}"),
            ];
            if year < "2070" {
                forms.push(format!(
                    "{weekday}day, {day}-{month}-{} {clock} GMT",
                    &year[2..]
                ));
            }
            for form in forms {
                let (jar, _) =
                    jar_with("https://a.example/", &format!("session=a; Expires={form}"));
                assert_eq!(jar.is_empty(NOW), time <= NOW, "{form}");
                if time > NOW {
                    assert!(!jar.is_empty(time - 1) && jar.is_empty(time), "{form}");
                }
            }
        }
        for form in [
            "Wed, 32 Jun 2021 10:18:14 GMT",
            "Wed, 0 Jun 2021 10:18:14 GMT",
            "Wed, 09 Jux 2021 10:18:14 GMT",
            "Wed, 09 Jun 2021 24:18:14 GMT",
            "Wed, 09 Jun 2021 10:60:14 GMT",
            "Wed, 09 Jun 2021 10:18:60 GMT",
            "Wed, 09 Jun 2021 10:18 GMT",
            "Wed, 09 Jun 10:18:14 GMT",
            "Wed, 09 2021 10:18:14 GMT",
            "Wed, 09 Jun 2021",
            "Wed, 09 Jun 20210 10:18:14 GMT",
            "99999999999999999999",
        ] {
            let (jar, _) = jar_with("https://a.example/", &format!("session=a; Expires={form}"));
            assert!(!jar.is_empty(u64::MAX), "{form}");
        }
    }

    #[test]
    fn the_longest_age_is_no_overflow() {
        for age in ["18446744073709551615", "99999999999999999999999"] {
            let (jar, url) = jar_with("https://a.example/", &format!("session=a; Max-Age={age}"));
            assert!(jar.header(&url, NOW).is_some(), "{age}");
        }
    }

    #[test]
    fn what_is_formatted_shows_no_value() {
        let (jar, _) = jar_with("https://a.example/", "session=very-secret");
        assert!(!format!("{jar:?}").contains("very-secret"));
    }
}

mod text {
    use entra_auth_mcp::text::{is_plain_label, json_escaped};

    /// CASES C19, C27
    #[test]
    fn a_label_is_plain_when_nothing_in_it_is_hidden() {
        for plain in [
            "",
            "ada@contoso.com",
            "Zoë O'Neil-Müller (two)",
            "日本語",
            "سلام",
            "🙂",
        ] {
            assert!(is_plain_label(plain), "{plain:?}");
            assert_eq!(json_escaped(plain), plain);
        }
        for hidden in [
            "\0",
            "\t",
            "\n",
            "\r",
            "\u{7f}",
            "\u{85}",
            "\u{9b}",
            "\u{ad}",
            "\u{61c}",
            "\u{200b}",
            "\u{200d}",
            "\u{200e}",
            "\u{200f}",
            "\u{2028}",
            "\u{2029}",
            "\u{202a}",
            "\u{202e}",
            "\u{2060}",
            "\u{2066}",
            "\u{2069}",
            "\u{3164}",
            "\u{fe0f}",
            "\u{feff}",
            "\u{e0041}",
        ] {
            let text = format!("a{hidden}b");
            assert!(!is_plain_label(&text), "{text:?}");
            let escaped = json_escaped(&text);
            assert!(is_plain_label(&escaped), "{escaped:?}");
            let read: String = serde_json::from_str(&format!("\"{escaped}\"")).unwrap();
            assert_eq!(read, text);
        }
    }
}

mod entra {
    use std::collections::BTreeMap;
    use std::io::{Error as IoError, ErrorKind};

    use entra_auth_mcp::auth::oauth_error::OauthError;
    use entra_auth_mcp::config::Config;
    use entra_auth_mcp::error::{Failure, Kind};
    use entra_auth_mcp::outgoing::{explain, mend};
    use serde_json::json;

    fn refusal(config: &Config, error: &OauthError, purpose: &str) -> Failure {
        error.failure(&config.application(), purpose)
    }

    // CASES C25
    #[test]
    fn what_to_do_about_a_transport_error_fits_it() {
        use rustls::CertificateError::{
            BadEncoding, Expired, NotValidForName, NotValidYet, Revoked, UnknownIssuer,
        };
        let io = |kind| ureq::Error::Io(IoError::from(kind));
        // As ureq hands on what fails during the handshake.
        let io_of = |error: rustls::Error| ureq::Error::Io(IoError::other(error));
        let in_handshake = |reason: rustls::CertificateError| io_of(reason.into());
        let general = |text: &str| ureq::Error::Rustls(rustls::Error::General(text.to_owned()));
        for (error, part) in [
            (ureq::Error::Timeout(ureq::Timeout::Global), "took too long"),
            (
                general("No CA certificates were loaded from the system"),
                "install ca-certificates",
            ),
            (
                ureq::Error::Tls("No CA certificates were loaded from the system"),
                "install ca-certificates",
            ),
            (
                rustls::Error::from(rustls::CertificateError::UnknownIssuer).into(),
                "add the proxy's root certificate",
            ),
            (
                in_handshake(UnknownIssuer),
                "add the proxy's root certificate",
            ),
            (
                in_handshake(BadEncoding),
                "add the proxy's root certificate",
            ),
            (in_handshake(Expired), "has expired"),
            (in_handshake(NotValidYet), "not valid yet"),
            (in_handshake(NotValidForName), "for another host"),
            (in_handshake(Revoked), "was revoked"),
            (
                io_of(rustls::InvalidMessage::InvalidContentType.into()),
                "does not speak TLS",
            ),
            // Only rustls says that there are no roots.
            (
                ureq::Error::Io(IoError::other("No CA certificates")),
                "firewall",
            ),
            (general("handshake failure"), "firewall"),
            (io(ErrorKind::ConnectionRefused), "Nothing listens there"),
            (io(ErrorKind::ConnectionReset), "firewall"),
            (ureq::Error::ConnectionFailed, "firewall"),
        ] {
            assert!(mend(&error).contains(part), "{error}: {}", mend(&error));
            assert_eq!(explain(&error), format!("{error}. {}", mend(&error)));
        }
    }

    // CASES C22
    #[test]
    fn the_hint_is_chosen_by_the_number_then_by_error_codes_then_by_the_error() {
        let scope_is_wrong = "The scope is not valid";
        let by_name = "A scope is not accepted";
        for (description, codes, title, aadsts) in [
            // The text's number is what the person sees.
            (
                "AADSTS50105: No.",
                json!([70011]),
                "The account is not assigned to the application",
                Some(50105),
            ),
            ("No.", json!([70011]), scope_is_wrong, Some(70011)),
            ("", json!([70011, 50105]), scope_is_wrong, Some(70011)),
            ("No.", json!([1, 70011]), scope_is_wrong, Some(70011)),
            ("No.", json!([1, 2]), by_name, Some(1)),
            ("AADSTS1: No.", json!([1]), by_name, Some(1)),
            ("No.", json!([]), by_name, None),
            ("No.", json!(null), by_name, None),
            ("No.", json!("70011"), by_name, None),
            ("No.", json!(["x", -1, 1e300, {}]), by_name, None),
        ] {
            let body = json!({"error": "invalid_scope", "error_description": description, "error_codes": codes});
            let error = OauthError::parse(body.to_string().as_bytes()).unwrap();
            let failure = refusal(&config(), &error, "the test");
            let entra = failure.entra.unwrap();
            assert_eq!((entra.title, entra.aadsts), (Some(title), aadsts), "{body}");
            // A hint decides nothing.
            assert_eq!(failure.kind, Kind::Configuration, "{body}");
        }
        for (error, part) in [
            ("invalid_scope", "Compare CUSTOM_API_SCOPE"),
            ("invalid_client", "This server has no secret"),
            ("unauthorized_client", "Compare AZURE_CLIENT_ID"),
            ("invalid_request", "Check AZURE_CLIENT_ID"),
            ("invalid_resource", "in CUSTOM_API_SCOPE"),
            ("invalid_tenant", "Check AZURE_TENANT_ID"),
            ("access_denied", "ask an administrator"),
            ("consent_required", "/adminconsent?client_id="),
        ] {
            let error = OauthError::new(error, "");
            let failure = refusal(&config(), &error, "the test");
            assert!(failure.hint.contains(part), "{}", failure.hint);
        }
    }

    fn config() -> Config {
        let settings = [
            ("AZURE_CLIENT_ID", super::CLIENT_ID),
            ("AZURE_TENANT_ID", super::CLIENT_ID),
        ];
        let settings: BTreeMap<_, _> = settings
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        Config::from_variables(&settings).unwrap()
    }

    #[test]
    fn a_refusal_that_nobody_has_advice_for_says_what_to_do_by_its_kind() {
        let config = config();
        for (error, suberror, hint) in [
            ("invalid_grant", "", "Sign in again."),
            (
                "invalid_grant",
                "message_only",
                "Sign in again if that was not meant, or ask an administrator.",
            ),
            (
                "authorization_declined",
                "",
                "Sign in again if that was not meant, or ask an administrator.",
            ),
            ("temporarily_unavailable", "", "Try again later."),
            (
                "never_heard_of",
                "",
                "Check the settings and the app registration.",
            ),
        ] {
            for (description, said) in [("", error), ("It is so.", "It is so.")] {
                let body = json!({"error": error, "suberror": suberror, "error_description": description,
                    "correlation_id": "c"});
                let failure = refusal(
                    &config,
                    &OauthError::parse(body.to_string().as_bytes()).unwrap(),
                    "the test",
                );
                assert_eq!(
                    (failure.hint.as_str(), failure.message),
                    (hint, format!("Entra refused the test: {said}"))
                );
                let entra = failure.entra.unwrap();
                assert_eq!(
                    (entra.correlation_id.as_deref(), entra.title),
                    (Some("c"), None)
                );
            }
        }
        let known = OauthError::parse(
            br#"{"error":"access_denied","error_description":"AADSTS65004: No."}"#,
        )
        .unwrap();
        assert_eq!(
            refusal(&config, &known, "the test").entra.unwrap().title,
            Some("Consent was declined")
        );
    }
}

mod env_file {
    use entra_auth_mcp::config::env_file::{BadLine, Variable, parse};

    #[test]
    fn every_way_of_writing_a_value_is_read() {
        let text = "\u{feff}# comment\r\nA=plain\r\nexport B = \"with \\\"quotes\\\" # and hash\" # comment\r\n\
                    C='literal \\n $x'\r\n\r\n  D=value # comment\nE=a#b\nF=\nG=\"C:\\dir\\\\x\"\nexported=1\nA=again";
        let read = parse(text).unwrap();
        let expected = [
            ("A", "plain", 2),
            ("B", "with \"quotes\" # and hash", 3),
            ("C", "literal \\n $x", 4),
            ("D", "value", 6),
            ("E", "a#b", 7),
            ("F", "", 8),
            ("G", "C:\\dir\\x", 9),
            ("exported", "1", 10),
            ("A", "again", 11),
        ];
        assert_eq!(
            read,
            expected.map(|(name, value, line)| Variable {
                name: name.to_owned(),
                value: value.to_owned(),
                line,
            })
        );
    }

    #[test]
    fn every_bad_line_is_named_by_its_number() {
        let bad = parse("A=1\nnonsense\nB='open\nC=\"open\n1D=x\nE=\"a\" b").unwrap_err();
        assert_eq!(
            bad.iter().map(|line| line.number).collect::<Vec<_>>(),
            [2, 3, 4, 5, 6]
        );
        assert_eq!(
            bad.first(),
            Some(&BadLine {
                number: 2,
                reason: "there is no '=' in it"
            })
        );
    }
}

mod body {
    use entra_auth_mcp::http::body::ChunkedBody;

    #[test]
    fn a_body_is_the_same_however_it_arrives() {
        let bytes = b"4\r\nabcd\r\n0A;x=y\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\nGET ";
        for piece in 1..=bytes.len() {
            let mut body = ChunkedBody::new(4 << 20);
            let (mut waiting, mut used) = (Vec::new(), 0);
            for part in bytes.chunks(piece) {
                waiting.extend_from_slice(part);
                let step = body.decode(&waiting).unwrap();
                waiting.drain(..step);
                used += step;
            }
            assert!(body.is_complete());
            assert_eq!(
                (body.decoded.as_slice(), used),
                (b"abcd0123456789".as_slice(), bytes.len() - 4),
                "{piece}"
            );
        }
    }

    #[test]
    fn what_is_malformed_or_too_long_is_refused() {
        for (bytes, status) in [
            ("\r\n", 400),
            ("x\r\n", 400),
            ("-1\r\n", 400),
            ("0x1\r\n", 400),
            ("1 \r\na\r\n", 400),
            ("1\na", 400),
            ("1\r\nab", 400),
            ("1\r\na\n", 400),
            ("500000\r\n", 413),
            ("ffffffffffffffffff\r\n", 413),
        ] {
            assert_eq!(
                ChunkedBody::new(4 << 20)
                    .decode(bytes.as_bytes())
                    .unwrap_err()
                    .status,
                status,
                "{bytes:?}"
            );
        }
        assert_eq!(
            ChunkedBody::new(4 << 20)
                .decode(&[b'1'; 300])
                .unwrap_err()
                .status,
            400
        );
    }
}

mod head {
    use entra_auth_mcp::http::head::{self, Framing, Head, Refusal, end_of_head};

    /// What a connection does with `bytes` that came at once.
    fn parse(bytes: &[u8]) -> Result<Option<Head<'_>>, Refusal> {
        end_of_head(bytes, 0)?
            .map(|end| head::parse(&bytes[..end]))
            .transpose()
    }

    fn status(head: &str) -> u16 {
        parse(head.as_bytes())
            .err()
            .map_or(200, |refusal| refusal.status)
    }

    #[test]
    fn parts_are_found() {
        let bytes = b"POST /mcp?a=b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nX: \r\n\r\nabc";
        let head = parse(bytes).unwrap().unwrap();
        assert_eq!(
            (head.method.as_str(), head.path, head.query),
            ("POST", "/mcp", "a=b")
        );
        assert_eq!((head.framing, head.keep_alive), (Framing::Length(3), true));
        assert_eq!(end_of_head(bytes, 0), Ok(Some(bytes.len() - 3)));
    }

    #[test]
    fn every_prefix_of_a_head_is_incomplete_and_not_an_error() {
        let bytes = "GET /\u{e9} HTTP/1.1\r\nHost: x\r\nX: \u{20ac}\r\n\r\n".as_bytes();
        for end in 0..bytes.len() {
            assert!(parse(&bytes[..end]).unwrap().is_none(), "{end}");
        }
        assert!(parse(bytes).unwrap().is_some());
    }

    #[test]
    fn the_absolute_form_must_agree_with_host() {
        assert_eq!(
            status("GET http://x:1/a HTTP/1.1\r\nHost: x:1\r\n\r\n"),
            200
        );
        assert_eq!(status("GET http://y/a HTTP/1.1\r\nHost: x\r\n\r\n"), 400);
        assert_eq!(status("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n"), 200);
        assert_eq!(status("GET a HTTP/1.1\r\nHost: x\r\n\r\n"), 400);
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for (fields, expected) in [
            ("Content-Length: -1", 400),
            ("Content-Length: +5", 400),
            ("Content-Length: 5, 5", 400),
            ("Content-Length: 5x", 400),
            ("Content-Length: ", 400),
            ("Content-Length: 5\r\nContent-Length: 5", 400),
            ("Content-Length: 5\r\nContent-Length: 6", 400),
            ("Content-Length: 5\r\nTransfer-Encoding: chunked", 400),
            ("Transfer-Encoding: gzip, chunked", 501),
            ("Transfer-Encoding: xchunked", 501),
            (
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
                400,
            ),
            (" Transfer-Encoding: chunked", 400),
            ("Transfer-Encoding : chunked", 400),
            ("X: a\r\n folded", 400),
            ("X: a\nY: b", 400),
            ("X: a\rY: b", 400),
            ("X: \u{0}", 400),
            ("X: \u{7f}", 400),
            ("Host: y", 400),
            ("Expect: 200-ok", 417),
        ] {
            assert_eq!(
                status(&format!("POST / HTTP/1.1\r\nHost: x\r\n{fields}\r\n\r\n")),
                expected,
                "{fields:?}"
            );
        }
        assert_eq!(
            status("POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"),
            400
        );
        assert_eq!(status("GET / HTTP/1.1\r\n\r\n"), 400);
        assert_eq!(status("GET / HTTP/1.1\r\nHost:\r\n\r\n"), 400);
        assert_eq!(status("GET / HTTP/1.1\r\nHost: a b\r\n\r\n"), 400);
        assert_eq!(status("GET / HTTP/2.0\r\nHost: x\r\n\r\n"), 505);
        assert_eq!(status("\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"), 400);
        assert_eq!(
            parse(b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n")
                .err()
                .unwrap()
                .status,
            400
        );
        assert_eq!(parse(b"\x16\x03\x01").err().unwrap().status, 400);
    }
}

mod jsonrpc {
    use entra_auth_mcp::mcp::jsonrpc::{Message, message, parse};

    fn code(body: &str) -> i32 {
        match parse(body.as_bytes()) {
            Err(error) => error.code,
            Ok(value) => message(value).err().map_or(0, |bad| bad.error.code),
        }
    }

    #[test]
    fn messages_are_told_apart() {
        let request =
            parse(br#" {"jsonrpc":"2.0","id":"a\"b","method":"m","params":{"x":1.50}} "#).unwrap();
        let Ok(Message::Request { id, method, params }) = message(request) else {
            panic!()
        };
        assert_eq!(
            (id.get(), method.as_ref(), params.get("x").unwrap().get()),
            (r#""a\"b""#, "m", "1.50")
        );
        assert!(matches!(
            message(parse(br#"{"jsonrpc":"2.0","method":"m"}"#).unwrap()),
            Ok(Message::Notification)
        ));
        assert!(matches!(
            message(parse(br#"{"jsonrpc":"2.0","id":1,"result":{}}"#).unwrap()),
            Ok(Message::Response)
        ));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for (body, expected) in [
            ("", -32700),
            ("{", -32700),
            ("{} {}", -32700),
            ("\u{feff}{}", -32700),
            (r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"m"}"#, -32700),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":[{"b":1,"\u0062":2}]}}"#,
                -32700,
            ),
            ("[]", -32600),
            ("7", -32600),
            (r#"{"id":1,"method":"m"}"#, -32600),
            (r#"{"jsonrpc":"1.0","id":1,"method":"m"}"#, -32600),
            (r#"{"jsonrpc":"2.0","id":null,"method":"m"}"#, -32600),
            (r#"{"jsonrpc":"2.0","id":1.5,"method":"m"}"#, -32600),
            (r#"{"jsonrpc":"2.0","id":{},"method":"m"}"#, -32600),
            (r#"{"jsonrpc":"2.0","id":1,"method":7}"#, -32600),
            (r#"{"jsonrpc":"2.0","id":1}"#, -32600),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"m","params":[]}"#,
                -32602,
            ),
            (r#"{"jsonrpc":"2.0","id":-1,"method":"m"}"#, 0),
        ] {
            assert_eq!(code(body), expected, "{body}");
        }
        assert_eq!(parse(b"{\"a\":\"\xff\"}").unwrap_err().code, -32700);
        assert_eq!(
            parse("[".repeat(100_000).as_bytes()).unwrap_err().code,
            -32700
        );
    }
}

mod authority {
    use entra_auth_mcp::auth::authority::{Authority, Tenant};

    #[test]
    fn tenants_are_told_apart() {
        let guid = "AAAAAAAA-bbbb-cccc-dddd-eeeeeeeeeeee";
        let one = Tenant::parse(guid).unwrap();
        assert_eq!(
            (one.segment(), one.guid()),
            (
                guid.to_ascii_lowercase().as_str(),
                Some(guid.to_ascii_lowercase().as_str())
            )
        );
        for (text, segment) in [
            ("Contoso.OnMicrosoft.com", "contoso.onmicrosoft.com"),
            ("common", "common"),
        ] {
            let tenant = Tenant::parse(text).unwrap();
            assert_eq!((tenant.segment(), tenant.guid()), (segment, None));
        }
        for wrong in [
            "",
            "contoso",
            "a/b",
            "..",
            "your-tenant-id",
            "a..b",
            "-a.com",
            "a.com/x",
            "a.com?x",
        ] {
            assert_eq!(Tenant::parse(wrong), None, "{wrong}");
        }
    }

    /// What a tenant stands for, of: itself, another one, that of the personal accounts.
    #[test]
    fn a_tenant_stands_for_those_that_entra_would_take_for_it() {
        const ONE: &str = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee";
        const OTHER: &str = "aaaaaaaa-bbbb-cccc-dddd-ffffffffffff";
        const CONSUMERS: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";
        for (text, included) in [
            (ONE, &[ONE][..]),
            ("common", &[ONE, OTHER, CONSUMERS]),
            ("organizations", &[ONE, OTHER]),
            ("contoso.com", &[ONE, OTHER]),
            ("consumers", &[CONSUMERS]),
            (CONSUMERS, &[CONSUMERS]),
        ] {
            let tenant = Tenant::parse(text).unwrap();
            let authority =
                Authority::new("https://login.microsoftonline.us/".parse().unwrap(), tenant);
            for tid in [
                ONE,
                OTHER,
                CONSUMERS,
                "",
                "common",
                "contoso.com",
                &ONE[1..],
            ] {
                let expected = included.contains(&tid);
                assert_eq!(authority.tenant().includes(tid), expected, "{text}: {tid}");
                let issuer = format!("https://login.microsoftonline.us/{tid}/v2.0");
                assert_eq!(authority.may_be_issuer(&issuer), expected, "{text}: {tid}");
                let elsewhere = format!("https://login.microsoftonline.com/{tid}/v2.0");
                assert!(!authority.may_be_issuer(&elsewhere), "{text}: {elsewhere}");
            }
        }
    }

    /// CASES C6: an alias of a cloud and External ID issue under another name than they are asked by.
    #[test]
    fn each_sign_in_host_has_its_issuers() {
        const TID: &str = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee";
        const OTHER: &str = "aaaaaaaa-bbbb-cccc-dddd-ffffffffffff";
        let own_guid = format!("https://{TID}.ciamlogin.com");
        let other_guid = format!("https://{OTHER}.ciamlogin.com");
        for (host, issuers) in [
            (
                "https://login.microsoftonline.com",
                &["https://login.microsoftonline.com"][..],
            ),
            (
                "https://login.windows.net",
                &[
                    "https://login.windows.net",
                    "https://login.microsoftonline.com",
                ],
            ),
            (
                "https://login.microsoft.com",
                &[
                    "https://login.microsoft.com",
                    "https://login.microsoftonline.com",
                ],
            ),
            (
                "https://login.usgovcloudapi.net",
                &[
                    "https://login.usgovcloudapi.net",
                    "https://login.microsoftonline.us",
                ],
            ),
            (
                "https://login.chinacloudapi.cn",
                &[
                    "https://login.chinacloudapi.cn",
                    "https://login.partner.microsoftonline.cn",
                ],
            ),
            (
                "https://contoso.ciamlogin.com",
                &["https://contoso.ciamlogin.com", &own_guid],
            ),
            (&own_guid, &[&own_guid]),
            // Names that only look like those, and hosts that nobody knows.
            ("https://ciamlogin.com", &["https://ciamlogin.com"]),
            ("https://xciamlogin.com", &["https://xciamlogin.com"]),
            (
                "https://login.windows.net:444",
                &["https://login.windows.net:444"],
            ),
            ("http://127.0.0.1:8080", &["http://127.0.0.1:8080"]),
            (
                "https://login.private.example",
                &["https://login.private.example"],
            ),
        ] {
            for tenant in [TID, "contoso.onmicrosoft.com"] {
                let authority =
                    Authority::new(host.parse().unwrap(), Tenant::parse(tenant).unwrap());
                for origin in [
                    "https://login.microsoftonline.com",
                    "https://login.windows.net",
                    "https://login.microsoft.com",
                    "https://login.microsoftonline.us",
                    "https://login.usgovcloudapi.net",
                    "https://login.partner.microsoftonline.cn",
                    "https://login.chinacloudapi.cn",
                    "https://contoso.ciamlogin.com",
                    "https://fabrikam.ciamlogin.com",
                    &own_guid,
                    &other_guid,
                    "https://ciamlogin.com",
                    "https://xciamlogin.com",
                    "https://login.windows.net:444",
                    "http://127.0.0.1:8080",
                    "http://127.0.0.1:8081",
                    "https://login.private.example",
                ] {
                    let issuer = format!("{origin}/{TID}/v2.0");
                    let expected = issuers.contains(&origin);
                    let what = format!("{host} {tenant}: {issuer}");
                    assert_eq!(authority.issues(&issuer, TID), expected, "{what}");
                    assert_eq!(authority.may_be_issuer(&issuer), expected, "{what}");
                    assert!(!authority.issues(&issuer, OTHER), "{what}");
                    for wrong in [
                        format!("{origin}/{TID}/v2.0/"),
                        format!("{origin}/{TID}"),
                        format!("{origin}/{OTHER}/{TID}/v2.0"),
                        format!("{origin}.evil.example/{TID}/v2.0"),
                    ] {
                        assert!(!authority.issues(&wrong, TID), "{host}: {wrong}");
                        assert!(!authority.may_be_issuer(&wrong), "{host}: {wrong}");
                    }
                }
            }
        }
    }

    #[test]
    fn endpoints_are_those_of_v2() {
        let authority = Authority::new(
            "https://login.microsoftonline.us/".parse().unwrap(),
            Tenant::parse("common").unwrap(),
        );
        assert_eq!(
            authority.endpoint("token").as_str(),
            "https://login.microsoftonline.us/common/oauth2/v2.0/token"
        );
    }
}

mod callback {
    use entra_auth_mcp::auth::response::{Arrival, AuthorizationResponse, parse};

    fn response(parameters: &[u8]) -> AuthorizationResponse {
        match parse(parameters) {
            Ok(Arrival::Response(response)) => *response,
            Ok(Arrival::AdminConsent) => panic!("a response was expected"),
            Err(reason) => panic!("{reason}"),
        }
    }

    #[test]
    fn a_code_and_an_error_are_told_apart_and_unknown_fields_ignored() {
        let answer = response(b"code=c%2B1&state=s&session_state=x&client_info=y");
        assert_eq!(answer.state.expose(), "s");
        assert_eq!(answer.outcome.unwrap().expose(), "c+1");
        let answer = response(b"error=access_denied&error_description=AADSTS65004%3A+no&state=s");
        assert_eq!(answer.outcome.unwrap_err().details.aadsts, Some(65004));
    }

    #[test]
    fn what_is_no_response_is_refused() {
        for wrong in [
            "",
            "code=c",
            "state=&code=c",
            "state=s",
            "state=s&code=",
            "state=s&code=a&error=b",
            "state=s&state=t&code=c",
        ] {
            assert!(parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}

mod id_token {
    use base64::Engine as _;
    use serde_json::{Value, json};

    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    use entra_auth_mcp::auth::authority::{Authority, Tenant};
    use entra_auth_mcp::auth::id_token::{Identity, check};
    use entra_auth_mcp::secret::Secret;

    const TID: &str = "aaaaaaaa-0000-0000-0000-000000000001";

    fn good() -> Value {
        json!({"aud": "client", "nonce": "n", "ver": "2.0", "tid": TID, "oid": "o", "exp": 2000, "nbf": 1000,
               "iss": format!("https://login.example/{TID}/v2.0"), "preferred_username": "Ann@x.com", "email": "a@y.com"})
    }

    fn checked(claims: &Value) -> Result<Identity, &'static str> {
        checked_for(TID, claims)
    }

    fn checked_for(tenant: &str, claims: &Value) -> Result<Identity, &'static str> {
        checked_at("https://login.example", tenant, claims)
    }

    fn checked_at(host: &str, tenant: &str, claims: &Value) -> Result<Identity, &'static str> {
        let payload = BASE64_URL_SAFE_NO_PAD.encode(claims.to_string());
        let authority = Authority::new(host.parse().unwrap(), Tenant::parse(tenant).unwrap());
        check(
            &Secret::new(format!("e30.{payload}.sig")),
            "client",
            &authority,
            Some(&Secret::new("n".into())),
        )
    }

    #[test]
    fn a_fitting_token_gives_the_identity() {
        let identity = checked(&good()).unwrap();
        assert!(identity.has_address("ann@X.com") && identity.has_address("A@y.com"));
        assert!(!identity.has_address("bob@x.com"));
    }

    #[test]
    fn each_claim_that_does_not_fit_is_refused() {
        for (claim, wrong) in [
            ("aud", json!("other")),
            ("aud", json!(["client"])),
            ("nonce", json!("m")),
            ("nonce", Value::Null),
            ("ver", json!("1.0")),
            ("tid", json!("aaaaaaaa-0000-0000-0000-000000000002")),
            ("tid", json!("")),
            ("oid", json!(7)),
            ("iss", json!("https://evil.example/v2.0")),
        ] {
            let mut claims = good();
            claims[claim] = wrong;
            assert!(checked(&claims).is_err(), "{claim}");
        }
    }

    #[test]
    fn a_token_is_of_a_tenant_that_the_configured_one_stands_for() {
        const CONSUMERS: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";
        for (tenant, tid, fits) in [
            ("organizations", TID, true),
            ("organizations", CONSUMERS, false),
            ("x.com", CONSUMERS, false),
            ("consumers", CONSUMERS, true),
            ("consumers", TID, false),
            ("common", CONSUMERS, true),
            ("common", "x.com", false),
        ] {
            let mut claims = good();
            claims["tid"] = json!(tid);
            claims["iss"] = json!(format!("https://login.example/{tid}/v2.0"));
            assert_eq!(
                checked_for(tenant, &claims).is_ok(),
                fits,
                "{tenant}: {tid}"
            );
        }
    }

    /// CASES C6
    #[test]
    fn a_token_may_bear_the_other_name_of_its_issuer() {
        for (host, issuer, fits) in [
            (
                "https://contoso.ciamlogin.com",
                format!("https://{TID}.ciamlogin.com"),
                true,
            ),
            (
                "https://login.windows.net",
                "https://login.microsoftonline.com".to_owned(),
                true,
            ),
            (
                "https://login.microsoftonline.us",
                "https://login.microsoftonline.com".to_owned(),
                false,
            ),
        ] {
            let mut claims = good();
            claims["iss"] = json!(format!("{issuer}/{TID}/v2.0"));
            for tenant in [TID, "contoso.onmicrosoft.com"] {
                let checked = checked_at(host, tenant, &claims);
                assert_eq!(checked.is_ok(), fits, "{host}: {issuer}");
            }
        }
    }

    /// A machine whose clock is off can sign in; `doctor` says that it is.
    #[test]
    fn its_times_decide_nothing() {
        for (claim, time) in [
            ("exp", json!(1)),
            ("nbf", json!(u64::MAX)),
            ("exp", json!("?")),
        ] {
            let mut claims = good();
            claims[claim] = time;
            assert!(checked(&claims).is_ok(), "{claim}");
        }
    }
}

mod pkce {
    use entra_auth_mcp::auth::request::code_challenge;
    use entra_auth_mcp::secret::Secret;

    #[test]
    fn the_challenge_is_that_of_rfc_7636_appendix_b() {
        let verifier = Secret::new("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".to_owned());
        assert_eq!(
            code_challenge(&verifier),
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
        );
    }
}

mod scope {
    use entra_auth_mcp::auth::scope::Scopes;

    #[test]
    fn openid_scopes_are_added_once_and_the_order_is_kept() {
        for (custom, requested) in [
            ("", "openid profile offline_access"),
            ("User.Read", "openid profile offline_access User.Read"),
            (
                "  openid email User.Read  Mail.Read User.Read ",
                "openid profile offline_access email User.Read Mail.Read",
            ),
            (
                "api://1234/.default",
                "openid profile offline_access api://1234/.default",
            ),
            (
                "https://x//.default",
                "openid profile offline_access https://x//.default",
            ),
            (
                "User.Read https://graph.microsoft.com/Mail.Read",
                "openid profile offline_access User.Read https://graph.microsoft.com/Mail.Read",
            ),
        ] {
            assert_eq!(Scopes::parse(custom).unwrap().requested(), requested);
        }
    }

    #[test]
    fn what_entra_would_refuse_is_refused() {
        for custom in [
            "api://a/.default api://a/read",
            ".default User.Read",
            "https://graph.microsoft.com/.default User.Read",
            "api://a/read api://b/read",
            "api://a/read api://a/write api://b/read",
            "User.Read api://b/read",
            "a\"b",
            "é",
        ] {
            assert!(Scopes::parse(custom).is_err(), "{custom}");
        }
    }

    const ONE: &str = "11111111-aaaa-4bbb-8ccc-222222222222";
    const OTHER: &str = "11111111-aaaa-4bbb-8ccc-333333333333";

    /// CASES C18
    #[test]
    fn graph_is_one_resource_by_all_its_names() {
        let names = [
            "00000003-0000-0000-c000-000000000000/Mail.Read",
            "00000003-0000-0000-C000-000000000000/Mail.Read",
            "https://graph.microsoft.com/Mail.Read",
            "https://Graph.Microsoft.com//Mail.Read",
            "https://graph.microsoft.us/Mail.Read",
            "https://dod-graph.microsoft.us/Mail.Read",
            "https://microsoftgraph.chinacloudapi.cn/Mail.Read",
        ];
        for graph in names {
            for scope in ["User.Read", names[0], names[2]] {
                let custom = format!("{scope} {graph}");
                assert!(Scopes::parse(&custom).is_ok(), "{custom}");
            }
            for elsewhere in [
                "api://a/read".to_owned(),
                format!("{ONE}/read"),
                "https://graph.microsoft.com.contoso.com/read".to_owned(),
            ] {
                for custom in [
                    format!("{graph} {elsewhere}"),
                    format!("{elsewhere} {graph}"),
                ] {
                    let problem = Scopes::parse(&custom).unwrap_err();
                    assert!(problem.contains("two resources"), "{custom}: {problem}");
                }
            }
        }
    }

    /// CASES C18
    #[test]
    fn where_it_is_not_certain_that_resources_are_two_entra_decides() {
        for (one, other, is_certain) in [
            ("api://x/read", "api://x/orders/read", false),
            ("api://x/orders/read", "api://x/bills/read", false),
            ("api://X/read", "api://x/write", false),
            ("https://x.com/read", "https://x.com//write", false),
            ("https://x.com/read", "http://x.com/write", true),
            ("https://x.com/read", "https://y.x.com/read", true),
            ("api://x/read", "api://xy/read", true),
            // An application has its client id and whatever URIs it was given.
            (&format!("{ONE}/read"), &format!("api://{ONE}/write"), false),
            (&format!("{ONE}/read"), "https://x.com/write", false),
            (&format!("{ONE}/read"), &format!("{ONE}/orders/read"), false),
            (&format!("{ONE}/read"), &format!("{OTHER}/read"), true),
        ] {
            for custom in [format!("{one} {other}"), format!("{other} {one}")] {
                assert_eq!(Scopes::parse(&custom).is_err(), is_certain, "{custom}");
            }
        }
    }

    /// CASES C18
    #[test]
    fn a_resource_without_a_scope_is_refused_with_what_to_write() {
        for (resource, mend) in [
            (ONE, format!("{ONE}/.default")),
            (&format!("api://{ONE}"), format!("api://{ONE}/.default")),
            (&format!("api://{ONE}/"), format!("api://{ONE}/.default")),
            (
                "https://api.contoso.com",
                "https://api.contoso.com/.default".to_owned(),
            ),
            (
                "https://api.contoso.com/",
                "https://api.contoso.com/.default".to_owned(),
            ),
            (
                "https://api.contoso.com/orders/",
                "https://api.contoso.com/orders/.default".to_owned(),
            ),
            ("urn:contoso:api", "urn:contoso:api/.default".to_owned()),
            (
                "https://graph.microsoft.com",
                "https://graph.microsoft.com/.default".to_owned(),
            ),
        ] {
            for custom in [resource.to_owned(), format!("openid {resource}")] {
                let problem = Scopes::parse(&custom).unwrap_err();
                assert!(problem.contains(&format!("'{resource}' ")), "{problem}");
                assert!(problem.contains(&mend), "{problem}");
            }
            assert!(Scopes::parse(&mend).is_ok(), "{mend}");
        }
    }
}

mod token {
    use entra_auth_mcp::auth::oauth_error::OauthError;
    use entra_auth_mcp::auth::token_endpoint::{TokenResponse, encoded};
    use entra_auth_mcp::error::Kind;

    /// A buffer that grows leaves behind what it held, which nobody wipes.
    #[test]
    fn a_form_is_written_into_as_much_memory_as_it_can_need_at_most() {
        let encoded = encoded(vec![("code", "{é}"), ("claims", "\"%&=\"")]);
        assert_eq!(*encoded, "code=%7B%C3%A9%7D&claims=%22%25%26%3D%22");
        // No '&' follows the last.
        assert_eq!(encoded.capacity(), encoded.len() + 1);
    }

    #[test]
    fn numbers_may_be_strings() {
        let body = br#"{"token_type":"bearer","access_token":"a","expires_in":"3599","refresh_in":1800,"scope":"s"}"#;
        let response = TokenResponse::parse(body).unwrap();
        assert_eq!(
            (response.expires_in, response.refresh_in),
            (3599, Some(1800))
        );
        assert!(response.refresh_token.is_none());
    }

    #[test]
    fn a_token_lives_no_longer_than_a_year() {
        for (said, believed) in [
            (90 * 86_400, 90 * 86_400),
            (366 * 86_400, 366 * 86_400),
            (u64::MAX, 366 * 86_400),
        ] {
            let body =
                format!(r#"{{"token_type":"Bearer","access_token":"a","expires_in":{said}}}"#);
            assert_eq!(
                TokenResponse::parse(body.as_bytes()).unwrap().expires_in,
                believed,
                "{said}"
            );
        }
    }

    #[test]
    fn what_is_no_token_response_is_refused() {
        for body in [
            "",
            "[]",
            r#"{"token_type":"Bearer","expires_in":1}"#,
            r#"{"token_type":"Bearer","access_token":"","expires_in":1}"#,
            r#"{"token_type":"Bearer","access_token":7,"expires_in":1}"#,
            r#"{"token_type":"Bearer","access_token":"a\r\nX: y","expires_in":1}"#,
            r#"{"token_type":"Bearer","access_token":"a","expires_in":-1}"#,
            r#"{"token_type":"mac","access_token":"a","expires_in":1}"#,
        ] {
            assert!(TokenResponse::parse(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn an_oauth_error_keeps_what_people_need() {
        let body = br#"{"error":"invalid_grant","error_description":"AADSTS50173: Revoked. Trace ID: t Correlation ID: c Timestamp: 2026",
            "error_codes":[50173],"correlation_id":"c","suberror":"bad_token"}"#;
        let error = OauthError::parse(body).unwrap();
        assert_eq!(error.description, "AADSTS50173: Revoked.");
        assert_eq!(
            (error.details.aadsts, error.kind()),
            (Some(50173), Kind::SignInRequired)
        );
        assert!(OauthError::parse(b"<html>").is_none());
        assert!(OauthError::parse(b"{}").is_none());
    }
}

mod workers {
    use std::sync::Arc;
    use std::thread;
    use std::time::Duration;

    use entra_auth_mcp::http::workers::Workers;

    const PATIENCE: Duration = Duration::from_secs(60);

    #[test]
    fn work_goes_to_a_thread_that_waits_and_comes_back_where_none_does() {
        let workers = Arc::new(Workers::default());
        assert_eq!(workers.give(1), Err(1), "nobody waits yet");
        let waiting = Arc::clone(&workers);
        let worker = thread::spawn(move || [(); 2].map(|()| waiting.wait(PATIENCE)));
        for work in [2, 3] {
            // Until it waits.
            while workers.give(work).is_err() {
                thread::yield_now();
            }
        }
        assert_eq!(worker.join().unwrap(), [Some(2), Some(3)]);
        assert_eq!(workers.wait(Duration::ZERO), None);
        assert_eq!(workers.give(4), Err(4), "it has waited long enough");
        workers.close();
        assert_eq!(workers.wait(PATIENCE), None);
        assert_eq!(workers.give(5), Err(5));
    }
}
