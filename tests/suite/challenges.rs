//! What the backend's challenges and Entra's device codes mean, by tables.
mod claims {
    use entra_auth_mcp::auth::challenge::{Claims, parameter};

    #[test]
    fn our_own_declare_the_capability_alone() {
        assert_eq!(
            parameter(None),
            r#"{"access_token":{"xms_cc":{"values":["cp1"]}}}"#
        );
    }

    #[test]
    fn those_of_a_challenge_for_the_access_token_get_the_capability_once() {
        for (demanded, sent) in [
            (
                r#" {"access_token" : {"nbf":{"value":"1"},"x":null} } "#,
                r#"{"access_token":{"nbf":{"value":"1"},"x":null,"xms_cc":{"values":["cp1"]}}}"#,
            ),
            (
                r#"{"access_token":{"xms_cc":{"values":["other"],"essential":true}}}"#,
                r#"{"access_token":{"xms_cc":{"essential":true,"values":["other","cp1"]}}}"#,
            ),
            (
                r#"{"access_token":{"xms_cc":{"values":["cp1","b"]}}}"#,
                r#"{"access_token":{"xms_cc":{"values":["cp1","b"]}}}"#,
            ),
            (
                r#"{"access_token":{"xms_cc":{"essential":true}}}"#,
                r#"{"access_token":{"xms_cc":{"essential":true,"values":["cp1"]}}}"#,
            ),
            (
                "{\"access_token\":{\"ü\":\"\\u00fc\"}}",
                "{\"access_token\":{\"xms_cc\":{\"values\":[\"cp1\"]},\"ü\":\"ü\"}}",
            ),
        ] {
            let claims = Claims::of_challenge(demanded).unwrap();
            assert_eq!(claims.as_str(), sent);
            assert_eq!(
                Claims::of_challenge(claims.as_str()),
                Some(claims),
                "{demanded}"
            );
        }
    }

    // CASES C26
    #[test]
    fn only_what_concerns_the_access_token_is_kept() {
        for other in [
            r#""id_token":{"email":{"essential":true}}"#,
            r#""userinfo":{"picture":null}"#,
            r#""unknown":[[[{"a":1}]]]"#,
            r#""id_token":null,"userinfo":7,"Access_Token":{"nbf":null},"":"x""#,
        ] {
            let acrs = r#""access_token":{"acrs":{"value":"c1"}}"#;
            for demanded in [format!("{{{other},{acrs}}}"), format!("{{{acrs},{other}}}")] {
                let claims = Claims::of_challenge(&demanded).unwrap();
                assert_eq!(
                    claims.as_str(),
                    r#"{"access_token":{"acrs":{"value":"c1"},"xms_cc":{"values":["cp1"]}}}"#
                );
            }
            let for_others_alone = [
                format!("{{{other}}}"),
                format!("{{\"access_token\":{{}},{other}}}"),
            ];
            for demanded in for_others_alone {
                assert_eq!(Claims::of_challenge(&demanded), None, "{demanded}");
            }
        }
    }

    #[test]
    fn what_is_no_claims_request_is_none() {
        let nested = format!(
            "{}{}",
            r#"{"a":"#.repeat(200),
            "1".to_owned() + &"}".repeat(200)
        );
        for wrong in [
            "",
            "{",
            "null",
            "[]",
            "7",
            "{}",
            "{} {}",
            "\u{feff}{}",
            r#"{"access_token":{}}"#,
            r#"{"access_token":null}"#,
            r#"{"access_token":[]}"#,
            r#"{"access_token":{"xms_cc":"cp1"}}"#,
            r#"{"access_token":{"xms_cc":["cp1"]}}"#,
            r#"{"access_token":{"xms_cc":{"values":"cp1"}}}"#,
            r#"{"a":"\ud800"}"#,
            &nested,
        ] {
            assert_eq!(Claims::of_challenge(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn eight_kibibytes_are_read_and_no_more() {
        let of_length = |length: usize| {
            let padding = "x".repeat(length - 25);
            format!(r#"{{"access_token":{{"a":"{padding}"}}}}"#)
        };
        assert!(Claims::of_challenge(&of_length(8192)).is_some());
        assert_eq!(Claims::of_challenge(&of_length(8193)), None);
    }
}

mod challenge {
    use base64::Engine as _;
    use base64::prelude::{
        BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD,
    };
    use entra_auth_mcp::auth::challenge::{Challenge, Claims};
    use serde_json::Value;

    /// Its Base64 ends in padding and differs between the alphabets.
    const DEMANDED: &str = r#"{"access_token":{"nbf":{"essential":true,"value":"???>>>ü"}}}"#;

    fn encoded() -> String {
        BASE64_STANDARD.encode(DEMANDED)
    }

    fn of_fields(fields: &[&str]) -> Option<Challenge> {
        Challenge::of_backend(fields.iter().copied())
    }

    /// The challenge of fields in which `CLAIMS` stands for good claims in quotes.
    fn of(fields: &[&str]) -> Option<Challenge> {
        let claims = format!("\"{}\"", encoded());
        let fields: Vec<String> = fields
            .iter()
            .map(|field| field.replace("CLAIMS", &claims))
            .collect();
        of_fields(&fields.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn claims() -> Challenge {
        Challenge::Claims(Claims::of_challenge(DEMANDED).unwrap())
    }

    fn scopes(scopes: &[&str]) -> Challenge {
        Challenge::InsufficientScope(scopes.iter().map(|&scope| scope.to_owned()).collect())
    }

    #[test]
    fn claims_are_found_wherever_they_stand() {
        for fields in [
            // Entra's documents.
            &[
                r#"Bearer realm="", authorization_uri="https://x/?a=b,c", error="insufficient_claims", claims=CLAIMS"#,
            ] as &[&str],
            // Azure Resource Manager.
            &[
                r#"Bearer authorization_uri="https://x/", error="invalid_token", claims=CLAIMS, realm="IP""#,
            ],
            &[r#"Bearer claims=CLAIMS, error="insufficient_claims""#],
            &["bEARER Claims=CLAIMS , ERROR=insufficient_claims"],
            &["  ,\t, Bearer \t error \t=\t \"insufficient_claims\"\t,,, claims =  CLAIMS  , "],
            &[
                r#"Bearer realm="a, Basic b=\"c\", \\", error="insufficient\_claims", claims=CLAIMS"#,
            ],
            // No comma where one is due.
            &[r#"Bearer realm="" error="insufficient_claims" claims=CLAIMS"#],
            &["Bearer error_description=no quotes here, error=insufficient_claims, claims=CLAIMS"],
            // Other challenges before and after it.
            &[
                r#"Basic realm="x", Bearer error="insufficient_claims", claims=CLAIMS, DPoP algs="ES256""#,
            ],
            &[r#"Negotiate, Bearer error="insufficient_claims", claims=CLAIMS, Negotiate abc=="#],
            &[r#"Negotiate YWJj/+==, Bearer error="insufficient_claims", claims=CLAIMS"#],
            &[
                r#"DPoP error="use_dpop_nonce", PoP nonce="eyJ=", Bearer error=insufficient_claims, claims=CLAIMS"#,
            ],
            &[r#"Bearer abc==, Bearer error="insufficient_claims", claims=CLAIMS"#],
            &[
                r#"Bearer, Bearer error="invalid_request", Bearer error="insufficient_claims", claims=CLAIMS"#,
            ],
            &[
                "Basic realm=\"x\"",
                "Bearer error=\"insufficient_claims\", claims=CLAIMS",
                "Negotiate",
            ],
            &[
                "Bearer realm=\"open",
                "\u{e9}",
                "",
                "Bearer error=\"insufficient_claims\", claims=CLAIMS",
            ],
            // A list may be cut between any two elements (RFC 9110 §5.3).
            &["Bearer error=\"insufficient_claims\"", "claims=CLAIMS"],
            // What comes behind it cannot be read.
            &[r#"Bearer error="insufficient_claims", claims=CLAIMS, error_description="open"#],
        ] {
            assert_eq!(of(fields), Some(claims()), "{fields:?}");
        }
    }

    #[test]
    fn every_way_of_writing_base64_is_read() {
        let encodings = [
            BASE64_STANDARD.encode(DEMANDED),
            BASE64_STANDARD_NO_PAD.encode(DEMANDED),
            BASE64_URL_SAFE.encode(DEMANDED),
            BASE64_URL_SAFE_NO_PAD.encode(DEMANDED),
        ];
        assert!(
            ["+", "/", "="]
                .iter()
                .all(|special| encodings[0].contains(special)),
            "{}",
            encodings[0]
        );
        for encoded in &encodings {
            for quote in ["\"", ""] {
                let field = format!(
                    "Bearer error=insufficient_claims, claims={quote}{encoded}{quote}, realm=x"
                );
                assert_eq!(of_fields(&[&field]), Some(claims()), "{field}");
            }
        }
    }

    #[test]
    fn claims_that_nobody_demands_of_a_bearer_are_none() {
        for fields in [
            &[] as &[&str],
            &[""],
            &["Bearer"],
            &["Bearer claims=CLAIMS"],
            &["Bearer error=\"\", claims=CLAIMS"],
            &["Bearer error=\"invalid_request\", claims=CLAIMS"],
            &["Bearer error=\"Insufficient_Claims\", claims=CLAIMS"],
            &["Bearer error=\"insufficient_claims\""],
            &["DPoP error=\"insufficient_claims\", claims=CLAIMS"],
            &["Bearers error=\"insufficient_claims\", claims=CLAIMS"],
            &["Bearer, PoP error=\"insufficient_claims\", claims=CLAIMS"],
            &["Bearer error=\"insufficient_claims\", PoP claims=CLAIMS"],
            &["Bearer error=\"insufficient_claims\", Bearer claims=CLAIMS"],
            &["Negotiate Bearer, error=\"insufficient_claims\", claims=CLAIMS"],
            &["Negotiate Bearer==, error=\"insufficient_claims\", claims=CLAIMS"],
            &["error=\"insufficient_claims\", claims=CLAIMS"],
            &["Basic realm=\"Bearer error=insufficient_claims, claims=e30=\""],
            &["Basic realm=\"\\\", Bearer error=insufficient_claims, claims=e30=, \""],
            &["Bearer error=\"insufficient_claims, claims=CLAIMS"],
            &["Bearer abc=="],
            &["Bearer ="],
            &["Bearer error=\"insufficient_claims\", claims=, claims=CLAIMS"],
            &["= Bearer error=\"insufficient_claims\", claims=CLAIMS"],
            &["\"\" Bearer error=\"insufficient_claims\", claims=CLAIMS"],
            &["Bearer error=\"insufficient_claims\", error=\"insufficient_claims\", claims=CLAIMS"],
            &["Bearer error=\"insufficient_claims\", claims=CLAIMS, Claims=CLAIMS"],
            &[
                "Bearer error=\"insufficient_claims\", claims=CLAIMS",
                "claims=\"\"",
            ],
        ] {
            assert_eq!(of(fields), None, "{fields:?}");
        }
    }

    #[test]
    fn claims_that_do_not_decode_to_a_claims_request_are_none() {
        let encodings = [
            String::new(),
            "====".to_owned(),
            "not base64".to_owned(),
            "e30 e30".to_owned(),
            DEMANDED.replace('"', "\\\""),
            encoded()[1..].to_owned(),
            BASE64_STANDARD.encode("[]"),
            BASE64_STANDARD.encode(b"{\"a\":\"\xff\"}"),
            BASE64_STANDARD.encode(r#"{"access_token":null}"#),
            BASE64_STANDARD.encode(format!(r#"{{"a":"{}"}}"#, "x".repeat(8192))),
        ];
        for encoded in encodings {
            let field = format!("Bearer error=\"insufficient_claims\", claims=\"{encoded}\"");
            assert_eq!(of_fields(&[&field]), None, "{field}");
        }
    }

    #[test]
    fn scopes_are_listed_as_far_as_they_could_be_requested() {
        for (field, listed) in [
            (
                r#"Bearer error="insufficient_scope", scope="User.Read api://x/Files.Read""#,
                &["User.Read", "api://x/Files.Read"] as &[&str],
            ),
            (
                r#"Bearer realm="x",scope="  a   b ",error=insufficient_scope"#,
                &["a", "b"],
            ),
            (
                r#"DPoP error="invalid_token", Bearer error="insufficient_scope", scope=a"#,
                &["a"],
            ),
            (r#"Bearer error="insufficient_scope""#, &[]),
            (r#"Bearer error="insufficient_scope", scope="""#, &[]),
            (
                r#"Bearer error="insufficient_scope", scope="a", scope="b""#,
                &[],
            ),
            (r#"Bearer error="insufficient_scope", scope="a b\"c""#, &[]),
            (r#"Bearer error="insufficient_scope", scope="a b\\c""#, &[]),
            ("Bearer error=\"insufficient_scope\", scope=\"a\tb\"", &[]),
            (
                "Bearer error=\"insufficient_scope\", scope=\"a \u{fc}\"",
                &[],
            ),
            // Its claims do not go with this error.
            (
                "Bearer error=\"insufficient_scope\", scope=\"a\", claims=CLAIMS",
                &["a"],
            ),
        ] {
            assert_eq!(of(&[field]), Some(scopes(listed)), "{field}");
        }
        for field in [
            "Bearer scope=\"a\"",
            "Bearer error=\"invalid_token\", scope=\"a\"",
            "PoP error=\"insufficient_scope\"",
        ] {
            assert_eq!(of(&[field]), None, "{field}");
        }
    }

    #[test]
    fn too_many_or_too_long_scopes_are_none() {
        let listed = |scope: &str| match of(&[&format!(
            "Bearer error=insufficient_scope, scope=\"{scope}\""
        )]) {
            Some(Challenge::InsufficientScope(scopes)) => scopes.len(),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            [listed(&"a ".repeat(20)), listed(&"a ".repeat(21))],
            [20, 0]
        );
        assert_eq!(
            [listed(&"a".repeat(2048)), listed(&"a".repeat(2049))],
            [1, 0]
        );
    }

    #[test]
    fn claims_come_before_scopes() {
        let (wide, strict) = (
            "Bearer error=\"insufficient_scope\", scope=\"a\"",
            "Bearer error=\"insufficient_claims\", claims=CLAIMS",
        );
        assert_eq!(of(&[wide, strict]), Some(claims()));
        assert_eq!(of(&[strict, wide]), Some(claims()));
        assert_eq!(of(&[&format!("{wide}, {strict}")]), Some(claims()));
    }

    #[test]
    fn what_is_endless_is_read_once() {
        for piece in [
            "a=",
            "a=\"",
            "a=b\"",
            "a==",
            "a ",
            "\"",
            "\\",
            ",",
            "Bearer ",
            "Bearer a=b, ",
            "a=\"\\\"",
            "=",
            "\u{e9}",
        ] {
            assert_eq!(of_fields(&[&piece.repeat(300_000)]), None, "{piece}");
        }
    }

    #[test]
    fn no_mutation_of_a_good_field_yields_claims_without_our_capability() {
        let encoded = encoded();
        let good = [
            format!("Bearer realm=\"\", error=\"insufficient_claims\", claims=\"{encoded}\""),
            format!(
                "Basic realm=\"a\\\"b\", Bearer error = invalid_token, claims={encoded}, Negotiate abc=="
            ),
            format!(
                "DPoP algs=\"ES256\", Bearer claims=\"{encoded}\" , scope=\"a b\", error=\"insufficient_claims\""
            ),
        ];
        let alphabet: Vec<char> = "=,\"\\ \tBearer/+-_%{}\u{e9}\u{0}".chars().collect();
        // An xorshift generator: the same mutations in every run.
        let mut state: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut below = |bound: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state % bound as u64).unwrap()
        };
        let mut seen = [0; 2];
        for _ in 0..20_000 {
            let mut field: Vec<char> = good[below(good.len())].chars().collect();
            for _ in 0..=below(4) {
                let (at, from) = (below(field.len()), below(field.len()));
                match below(4) {
                    0 => field[at] = alphabet[below(alphabet.len())],
                    1 => field.insert(at, alphabet[below(alphabet.len())]),
                    2 => drop(field.drain(at..(at + below(8)).min(field.len()))),
                    _ => field.swap(at, from),
                }
            }
            let field: String = field.into_iter().collect();
            let challenge = of_fields(&[&field]);
            seen[usize::from(challenge.is_some())] += 1;
            if let Some(Challenge::Claims(claims)) = challenge {
                let claims: Value = serde_json::from_str(claims.as_str()).unwrap();
                let values = claims["access_token"]["xms_cc"]["values"]
                    .as_array()
                    .unwrap();
                assert!(values.contains(&"cp1".into()), "{field}");
            }
        }
        assert!(seen.iter().all(|count| *count > 500), "{seen:?}");
    }
}

mod device_code {
    use entra_auth_mcp::auth::authority::{Application, ResponseMode};
    use entra_auth_mcp::auth::authority::{Authority, Tenant};
    use entra_auth_mcp::auth::challenge::Claims;
    use entra_auth_mcp::auth::device_code::{
        DeviceAuthorization, less_often, next_interval, poll, request,
    };
    use entra_auth_mcp::auth::oauth_error::OauthError;
    use entra_auth_mcp::auth::scope::Scopes;
    use entra_auth_mcp::error::Kind;
    use serde_json::{Value, json};

    fn good() -> Value {
        json!({"user_code": "ABC-123 4", "device_code": "d&+", "verification_uri": "https://microsoft.com/devicelogin",
               "expires_in": 900, "interval": 7, "message": "ignored"})
    }

    fn parsed(body: &Value) -> Result<DeviceAuthorization, &'static str> {
        DeviceAuthorization::parse(body.to_string().as_bytes())
    }

    #[test]
    fn a_response_gives_what_people_need_and_hides_the_device_code() {
        let device = parsed(&good()).unwrap();
        assert_eq!(
            (
                device.user_code.as_str(),
                device.device_code.expose(),
                device.verification_uri.as_str()
            ),
            ("ABC-123 4", "d&+", "https://microsoft.com/devicelogin")
        );
        assert_eq!((device.expires_in, device.interval), (900, 7));
        assert!(!format!("{device:?}").contains("d&+"));
    }

    #[test]
    fn both_forms_are_those_of_rfc_8628() {
        let authority = Authority::new(
            "https://login.example".parse().unwrap(),
            Tenant::parse("common").unwrap(),
        );
        let scopes = Scopes::parse("User.Read").unwrap();
        let application = Application {
            authority: &authority,
            client_id: "c",
            redirect_uri: "http://localhost/x",
            scopes: &scopes,
            response_mode: ResponseMode::FormPost,
            domain_hint: None,
        };
        let device = parsed(&good()).unwrap();
        let claims = Claims::of_challenge(r#"{"access_token":{"acrs":{"value":"c1"}}}"#).unwrap();
        assert_eq!(
            request(&application, Some(&claims)),
            [
                ("client_id", "c"),
                ("scope", "openid profile offline_access User.Read"),
                ("claims", claims.as_str())
            ]
        );
        assert_eq!(
            poll(&application, &device, Some(&claims)),
            [
                ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
                ("client_id", "c"),
                ("device_code", "d&+"),
                ("claims", claims.as_str())
            ]
        );
    }

    #[test]
    fn times_may_be_strings_and_are_bounded() {
        for (expires_in, interval, expected) in [
            (json!("900"), json!(" 9 "), (900, 9)),
            (json!(3600), json!(60), (3600, 60)),
            (json!(u64::MAX), json!(u64::MAX), (3600, 60)),
            (json!(1), json!(0), (1, 1)),
            (json!(1), Value::Null, (1, 5)),
            (json!(1), json!("soon"), (1, 5)),
        ] {
            let mut body = good();
            body["expires_in"] = expires_in;
            body["interval"] = interval;
            let device = parsed(&body).unwrap();
            assert_eq!((device.expires_in, device.interval), expected, "{body}");
        }
        let mut body = good();
        body.as_object_mut().unwrap().remove("interval");
        assert_eq!(parsed(&body).unwrap().interval, 5);
    }

    #[test]
    fn people_are_sent_to_https_or_to_this_machine() {
        for right in [
            "http://localhost:1/device",
            "http://127.0.0.1/",
            "http://[::1]:80/x",
            "HTTPS://login.example/",
        ] {
            let mut body = good();
            body["verification_uri"] = json!(right);
            assert!(parsed(&body).is_ok(), "{right}");
        }
    }

    #[test]
    fn what_is_no_device_authorization_is_refused() {
        for (name, wrong) in [
            ("user_code", json!("")),
            ("user_code", json!(" - ")),
            ("user_code", json!("A".repeat(33))),
            ("user_code", json!("A\nB")),
            ("user_code", json!("<b>A</b>")),
            ("user_code", json!("Ä1")),
            ("user_code", json!("\u{202e}A")),
            ("user_code", json!(1234)),
            ("device_code", json!("")),
            ("device_code", json!(7)),
            ("verification_uri", json!("")),
            ("verification_uri", json!("microsoft.com/devicelogin")),
            (
                "verification_uri",
                json!("http://microsoft.com/devicelogin"),
            ),
            ("verification_uri", json!("http://localhost.example/")),
            ("verification_uri", json!("javascript:alert(1)")),
            ("verification_uri", json!("ftp://localhost/")),
            ("expires_in", json!(-1)),
            ("expires_in", json!(1.5)),
            ("expires_in", json!("soon")),
            ("expires_in", Value::Null),
        ] {
            let mut body = good();
            body[name] = wrong;
            assert!(parsed(&body).is_err(), "{body}");
        }
        for wrong in [b"".as_slice(), b"[]", b"<html>", b"\xff"] {
            assert!(DeviceAuthorization::parse(wrong).is_err());
        }
    }

    #[test]
    fn a_poll_goes_on_or_slows_down_or_ends() {
        for (error, next) in [
            ("authorization_pending", Some(5)),
            ("slow_down", Some(10)),
            ("authorization_declined", None),
            ("access_denied", None),
            ("expired_token", None),
            ("code_expired", None),
            ("bad_verification_code", None),
            ("invalid_grant", None),
            ("", None),
        ] {
            assert_eq!(next_interval(error, 5), next, "{error}");
        }
        assert_eq!(next_interval("slow_down", u64::MAX), Some(u64::MAX));
    }

    #[test]
    fn a_poll_that_fails_makes_the_next_ones_rarer_up_to_one_a_minute() {
        assert_eq!([1, 5, 31, 60, 90].map(less_often), [2, 10, 60, 60, 90]);
        assert_eq!(less_often(u64::MAX), u64::MAX);
    }

    #[test]
    fn the_longest_user_code_has_32_characters() {
        let mut response = good();
        response["user_code"] = json!("A".repeat(32));
        assert_eq!(parsed(&response).unwrap().user_code.len(), 32);
    }

    #[test]
    fn the_end_of_a_poll_says_what_to_do() {
        for (error, kind) in [
            ("authorization_declined", Kind::Refused),
            ("access_denied", Kind::Refused),
            ("expired_token", Kind::SignInRequired),
            ("code_expired", Kind::SignInRequired),
            ("bad_verification_code", Kind::SignInRequired),
            ("unauthorized_client", Kind::Configuration),
        ] {
            assert_eq!(OauthError::new(error, "").kind(), kind, "{error}");
        }
    }
}
