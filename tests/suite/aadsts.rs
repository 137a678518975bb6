//! Entra's error numbers: what is said of each, and where it is shown.

use std::collections::BTreeSet;
use std::process::Command;

use crate::support::backend::Backend;
use crate::support::browser::{Browser, Page};
use crate::support::entra::{self, ADA, Entra, TokenFailure};
use crate::support::server::{Process, Setup};
use entra_auth_mcp::auth::aadsts::{Advice, advice, advice_by_name, own_page};
use entra_auth_mcp::auth::authority::{Application, ResponseMode};
use entra_auth_mcp::auth::authority::{Authority, Tenant};
use entra_auth_mcp::auth::scope::Scopes;
use serde_json::json;

/// The table itself, to learn which numbers it has.
const ROWS: &str = include_str!("../../src/auth/aadsts.txt");

const CLIENT: &str = "11111111-aaaa-4bbb-8ccc-222222222222";
const TENANT: &str = "33333333-dddd-4eee-8fff-444444444444";
const PUBLIC_CLOUD: &str = "https://login.microsoftonline.com";
const REDIRECT_URI: &str = "http://localhost:8000/auth/callback";
const SCOPE: &str = "api://backend/access";

/// The parts of an application that is registered somewhere.
struct Registration {
    authority: Authority,
    client_id: String,
    redirect_uri: String,
    scopes: Scopes,
}

impl Registration {
    fn new(host: &str, tenant: &str, redirect_uri: &str, scope: &str) -> Self {
        Self {
            authority: Authority::new(host.parse().unwrap(), Tenant::parse(tenant).unwrap()),
            client_id: CLIENT.to_owned(),
            redirect_uri: redirect_uri.to_owned(),
            scopes: Scopes::parse(scope).unwrap(),
        }
    }

    fn advice(&self, number: u32) -> Option<Advice> {
        advice(number, &self.application())
    }

    /// As for what stands in a row, number or name.
    fn advice_of(&self, code: &str) -> Advice {
        let advice = match code.parse() {
            Ok(number) => self.advice(number),
            Err(_) => advice_by_name(code, &self.application()),
        };
        advice.unwrap_or_else(|| panic!("{code} has no row"))
    }

    fn remedy(&self, number: u32) -> String {
        self.advice(number).unwrap().remedy
    }

    fn application(&self) -> Application<'_> {
        Application {
            authority: &self.authority,
            client_id: &self.client_id,
            redirect_uri: &self.redirect_uri,
            scopes: &self.scopes,
            response_mode: ResponseMode::FormPost,
            domain_hint: None,
        }
    }
}

/// Every number and name of the table, in its order.
fn every_code() -> Vec<&'static str> {
    ROWS.lines()
        .filter_map(|line| line.split_once(" | "))
        .flat_map(|(codes, _)| codes.split(' '))
        .collect()
}

#[test]
fn every_row_says_what_is_wrong_and_what_to_do_with_the_values_of_the_configuration() {
    let registration = Registration::new(PUBLIC_CLOUD, TENANT, REDIRECT_URI, SCOPE);
    let mut pinned = BTreeSet::new();
    for line in PINNED.lines() {
        let [codes, title, remedy] = line.split(" | ").collect::<Vec<_>>().try_into().unwrap();
        for code in codes.split(' ') {
            let advice = registration.advice_of(code);
            assert_eq!(
                (advice.title, advice.remedy.as_str()),
                (title, remedy),
                "{code}"
            );
            pinned.insert(code);
        }
    }
    assert_eq!(every_code().into_iter().collect::<BTreeSet<_>>(), pinned);
}

/// It reaches models, which may have a shell: commands are for the start page and `doctor`.
#[test]
fn no_advice_on_a_failure_holds_a_command() {
    let registration = Registration::new(PUBLIC_CLOUD, TENANT, REDIRECT_URI, SCOPE);
    for code in every_code() {
        let remedy = registration.advice_of(code).remedy;
        assert!(!remedy.contains("az ") && !remedy.contains('`'), "{remedy}");
    }
}

#[test]
fn no_code_stands_in_two_rows() {
    let mut seen = BTreeSet::new();
    let twice: Vec<&str> = every_code()
        .into_iter()
        .filter(|code| !seen.insert(*code))
        .collect();
    assert!(twice.is_empty(), "{twice:?}");
}

#[test]
fn a_title_is_no_sentence_and_a_remedy_is_one() {
    let registration = Registration::new(PUBLIC_CLOUD, TENANT, REDIRECT_URI, SCOPE);
    for code in every_code() {
        let Advice { title, remedy } = registration.advice_of(code);
        assert!(
            !title.is_empty() && title.len() <= 80 && !title.ends_with(['.', ' ']),
            "{code}: {title}"
        );
        // A full stop would be taken for a part of what is to be copied.
        assert!(
            remedy.ends_with('.')
                || remedy.ends_with("%2Fauth%2Fcallback")
                || remedy.ends_with(".default"),
            "{code}: {remedy}"
        );
        assert!(!remedy.contains(['{', '}']), "{code}: {remedy}");
    }
}

#[test]
fn a_code_that_is_not_known_has_no_advice() {
    let registration = Registration::new(PUBLIC_CLOUD, TENANT, REDIRECT_URI, SCOPE);
    for number in [0, 5, 5001, 500_110, 99999] {
        assert!(registration.advice(number).is_none(), "{number}");
    }
    // A code is compared as a whole, and a heading is no row.
    for name in [
        "",
        "invalid",
        "never_heard_of",
        "Consent",
        "Device codes",
        "{tenant}",
    ] {
        assert!(
            advice_by_name(name, &registration.application()).is_none(),
            "{name}"
        );
    }
}

#[test]
fn the_redirect_uri_is_named_as_it_must_be_registered() {
    for (configured, registered) in [
        (
            "http://localhost:8000/auth/callback",
            "http://localhost/auth/callback",
        ),
        (
            "http://localhost/auth/callback",
            "http://localhost/auth/callback",
        ),
        ("http://localhost:8000", "http://localhost"),
        (
            "http://127.0.0.1:8000/auth/callback",
            "http://127.0.0.1:8000/auth/callback",
        ),
        (
            "https://localhost:8443/auth/callback",
            "https://localhost:8443/auth/callback",
        ),
        (
            "https://mcp.example.com:8443/cb",
            "https://mcp.example.com:8443/cb",
        ),
    ] {
        let registration = Registration::new(PUBLIC_CLOUD, TENANT, configured, SCOPE);
        let remedy = registration.remedy(50011);
        assert!(
            remedy.starts_with(&format!("Register {registered} under the platform")),
            "{remedy}"
        );
        let on_page = &own_page(&registration.application())[0].1.remedy;
        assert!(
            on_page.starts_with(&remedy)
                && on_page.contains(&format!("--public-client-redirect-uris {registered}`")),
            "{on_page}"
        );
        assert!(
            remedy.contains(&format!("REDIRECT_URI ({configured})")),
            "{remedy}"
        );
        for number in [7_000_218, 9_002_327, 700_084] {
            let remedy = registration.remedy(number);
            assert!(
                remedy.contains(&format!("register {registered} under \"Mobile and desktop")),
                "{remedy}"
            );
            assert!(
                remedy.contains(&format!("what matches {configured} from the platform")),
                "{remedy}"
            );
        }
    }
}

// CASES C17
#[test]
fn the_link_for_an_administrator_is_of_the_right_cloud_and_tenant() {
    for (host, tenant, start) in [
        (PUBLIC_CLOUD, TENANT, format!("{PUBLIC_CLOUD}/{TENANT}")),
        (
            PUBLIC_CLOUD,
            "contoso.example",
            format!("{PUBLIC_CLOUD}/contoso.example"),
        ),
        (
            PUBLIC_CLOUD,
            "common",
            format!("{PUBLIC_CLOUD}/organizations"),
        ),
        (
            PUBLIC_CLOUD,
            "consumers",
            format!("{PUBLIC_CLOUD}/organizations"),
        ),
        (
            "https://login.microsoftonline.us",
            "organizations",
            "https://login.microsoftonline.us/organizations".to_owned(),
        ),
    ] {
        let registration = Registration::new(host, tenant, REDIRECT_URI, SCOPE);
        // Entra leads the administrator back there.
        let back = "redirect_uri=http%3A%2F%2Flocalhost%3A8000%2Fauth%2Fcallback";
        for code in ["65001", "90094", "650057", "700016", "consent_required"] {
            let remedy = registration.advice_of(code).remedy;
            assert!(
                remedy.ends_with(&format!(" {start}/adminconsent?client_id={CLIENT}&{back}")),
                "{remedy}"
            );
        }
    }
    let odd = "https://mcp.example.com/a&b=c?tenant=x#y";
    let remedy = Registration::new(PUBLIC_CLOUD, TENANT, odd, SCOPE).remedy(90094);
    let link = url::Url::parse(remedy.rsplit(' ').next().unwrap()).unwrap();
    let parameters: Vec<_> = link.query_pairs().into_owned().collect();
    assert_eq!(
        parameters,
        [
            ("client_id".to_owned(), CLIENT.to_owned()),
            ("redirect_uri".to_owned(), odd.to_owned())
        ]
    );
}

#[test]
fn the_resource_is_that_of_the_configured_scopes() {
    for (scopes, resource) in [
        ("api://backend/access", "'api://backend'"),
        (
            "https://vault.example//.default",
            "'https://vault.example/'",
        ),
        ("User.Read Mail.Read", "'Microsoft Graph'"),
        ("", "'Microsoft Graph'"),
    ] {
        let remedy = Registration::new(PUBLIC_CLOUD, TENANT, REDIRECT_URI, scopes).remedy(500_011);
        assert!(
            remedy.starts_with(&format!("Compare {resource} in CUSTOM_API_SCOPE")),
            "{remedy}"
        );
    }
}

#[test]
fn a_value_is_not_taken_for_a_template() {
    let registration = Registration::new(
        PUBLIC_CLOUD,
        TENANT,
        "https://mcp.example.com/{client_id}",
        "api://{tenant}/x{scopes}",
    );
    let remedy = registration.remedy(50011);
    assert!(
        remedy.contains("REDIRECT_URI (https://mcp.example.com/{client_id})"),
        "{remedy}"
    );
    let remedy = registration.remedy(28002);
    assert!(remedy.contains(" api://{tenant}/x{scopes}'"), "{remedy}");
}

#[test]
fn what_entra_shows_on_its_own_page_alone_is_told_beforehand() {
    let registration = Registration::new(PUBLIC_CLOUD, TENANT, REDIRECT_URI, SCOPE);
    let told = own_page(&registration.application());
    assert_eq!(
        told.iter().map(|(number, _)| *number).collect::<Vec<_>>(),
        [50011, 700_016, 90002]
    );
    for (number, told) in told {
        let known = registration.advice(number).unwrap();
        assert_eq!(told.title, known.title);
        assert!(told.remedy.starts_with(&known.remedy), "{}", told.remedy);
    }
}

// ---- Where it is shown ----

/// What each place must show of a failure: title, number, remedy and what Microsoft's support asks for.
struct Shown<'a> {
    number: u32,
    title: &'a str,
    remedy: &'a str,
    support: String,
}

impl Shown<'_> {
    #[track_caller]
    fn assert_in(&self, place: &str, text: &str) {
        let Self {
            number,
            title,
            remedy,
            support,
        } = self;
        for part in [*title, &format!("AADSTS{number}: "), *remedy, support] {
            assert!(
                text.contains(part),
                "{number}: {place} lacks {part:?}: {text}"
            );
        }
    }
}

/// The sentence for Microsoft's support, as a page has it, with all that Entra gave.
fn support_sentence(text: &str) -> String {
    let start = text
        .find("For Microsoft's support: ")
        .unwrap_or_else(|| panic!("{text}"));
    let end = start + text[start..].find("Z.").unwrap() + 2;
    let sentence = &text[start..end];
    for name in ["correlation id ", "trace id ", "timestamp "] {
        assert!(sentence.contains(name), "{sentence}");
    }
    sentence.to_owned()
}

fn sign_in(process: &Process, user_id: &str) -> Page {
    let begun = process
        .modern()
        .ok("authenticate_user", json!({"user_id": user_id}));
    Browser::new().sign_in(begun["sign_in_url"].as_str().unwrap(), ADA)
}

#[test]
fn the_same_help_is_on_the_page_in_the_result_of_a_tool_and_in_the_log() {
    let entra = Entra::start();
    let backend = Backend::start_for(&entra);
    let setup = Setup::new(&entra, Some(&backend));
    let process = Process::start(Command::new(env!("CARGO_BIN_EXE_entra-auth-mcp")), &setup);
    let redirect_uri = format!("{}/auth/callback", process.url());
    let mut registration = Registration::new(
        &entra.authority_host(),
        entra::TENANT_ID,
        &redirect_uri,
        SCOPE,
    );
    registration.client_id = entra::CLIENT_ID.to_owned();
    for (error, number) in [
        ("invalid_grant", 50105),
        ("interaction_required", 53003),
        ("consent_required", 65001),
        ("invalid_client", 7_000_218),
        ("invalid_resource", 500_011),
    ] {
        let Advice { title, remedy } = registration.advice(number).unwrap();
        let user_id = format!("user of {number}");
        let failure = || TokenFailure::Oauth {
            error,
            aadsts: number,
            suberror: None,
            claims: None,
        };

        entra.fail_next_token(failure());
        let page = sign_in(&process, &user_id);
        let text = page.text();
        let shown = Shown {
            number,
            title,
            remedy: &remedy,
            support: support_sentence(&text),
        };
        assert_eq!(page.status, 400, "{text}");
        shown.assert_in("the page", &text);
        let status = process
            .modern()
            .ok("check_auth_status", json!({"user_id": user_id}));
        shown.assert_in(
            "check_auth_status",
            status["last_sign_in_error"].as_str().unwrap(),
        );
        shown.assert_in("the log", &process.log());

        // Due at once, so that the call refreshes.
        entra.set(|settings| settings.expires_in = 0);
        assert_eq!(sign_in(&process, &user_id).status, 200);
        entra.fail_next_token(failure());
        let arguments = json!({"user_id": user_id, "endpoint": "/me"});
        let result = process.modern().call("api_get_request", arguments);
        let text = result["content"][0]["text"].as_str().unwrap();
        let shown = Shown {
            support: support_sentence(text),
            ..shown
        };
        shown.assert_in("the text of a call", text);
        shown.assert_in("the log", &process.log());
        let members = &result["structuredContent"];
        assert_eq!(
            (&members["title"], &members["aadsts"]),
            (&json!(title), &json!(number)),
            "{members}"
        );
        assert!(
            members["hint"].as_str().unwrap().starts_with(&remedy),
            "{members}"
        );
        for (name, words) in [
            ("correlation_id", "correlation id"),
            ("trace_id", "trace id"),
            ("timestamp", "timestamp"),
        ] {
            let value = members[name]
                .as_str()
                .unwrap_or_else(|| panic!("{name}: {members}"));
            assert!(
                shown.support.contains(&format!("{words} {value}")),
                "{name}: {members}"
            );
        }
        process
            .modern()
            .ok("logout_user", json!({"user_id": user_id}));
    }
}

// ---- The table for one configuration ----

const PINNED: &str = r#"50011 500113 | The redirect URI is not registered | Register http://localhost/auth/callback under the platform "Mobile and desktop applications" (App registrations > the app > Authentication). It must match REDIRECT_URI (http://localhost:8000/auth/callback): Entra compares the path, upper and lower case included, but ignores the port of http://localhost.
700016 700011 | The application is not known in this tenant | Compare AZURE_CLIENT_ID (11111111-aaaa-4bbb-8ccc-222222222222) and AZURE_TENANT_ID (33333333-dddd-4eee-8fff-444444444444) with the overview of the app registration, and check that it is registered in the cloud of https://login.microsoftonline.com (AZURE_CLOUD). If the app belongs to another organization, ask an administrator of yours to add it at https://login.microsoftonline.com/33333333-dddd-4eee-8fff-444444444444/adminconsent?client_id=11111111-aaaa-4bbb-8ccc-222222222222&redirect_uri=http%3A%2F%2Flocalhost%3A8000%2Fauth%2Fcallback
70001 7000112 | The application is disabled | Ask an administrator to enable it for sign-in (Enterprise applications > 11111111-aaaa-4bbb-8ccc-222222222222 > Properties), and check AZURE_CLIENT_ID.
50194 | The application is for one tenant only | The app 11111111-aaaa-4bbb-8ccc-222222222222 is registered for one tenant: set AZURE_TENANT_ID (33333333-dddd-4eee-8fff-444444444444) to the directory (tenant) id that the overview of the app registration shows, or have the app registered for accounts of any organization.
9002332 | The application accepts no personal accounts | The app 11111111-aaaa-4bbb-8ccc-222222222222 accepts work and school accounts only: set AZURE_TENANT_ID (33333333-dddd-4eee-8fff-444444444444) to your tenant's GUID, or to organizations.
90124 90130 9001023 | Not available under common or consumers | Set AZURE_TENANT_ID (33333333-dddd-4eee-8fff-444444444444) to your tenant's GUID, or to organizations.
7000218 | Entra expects a secret of the application | This server has no secret: remove what matches http://localhost:8000/auth/callback from the platform "Web" and register http://localhost/auth/callback under "Mobile and desktop applications" (App registrations > the app > Authentication). If you used a device code, set "Allow public client flows" there to Yes.
9002327 | The redirect URI is registered under "Single-page application" | Remove what matches http://localhost:8000/auth/callback from the platform "Single-page application" and register http://localhost/auth/callback under "Mobile and desktop applications" (App registrations > the app > Authentication).
700025 901002 9002326 9010010 | Something was added to the request | This server sends Entra no secret, no Origin header and no 'resource' parameter: find the proxy between this server and https://login.microsoftonline.com that adds one.
90004 90014 90023 90100 900144 9002313 | Entra finds the request malformed | Check AZURE_CLIENT_ID (11111111-aaaa-4bbb-8ccc-222222222222), AZURE_TENANT_ID (33333333-dddd-4eee-8fff-444444444444) and CUSTOM_API_SCOPE for typing errors, and whether a proxy changes what is sent to https://login.microsoftonline.com.
65002 | The application belongs to Microsoft | Only Microsoft can use its application 11111111-aaaa-4bbb-8ccc-222222222222 for this API: register an app of your own and set AZURE_CLIENT_ID to its id.
50001 500011 | The API is not known in this tenant | Compare 'api://backend' in CUSTOM_API_SCOPE with the API's Application ID URI (App registrations > the API > Expose an API), and AZURE_TENANT_ID (33333333-dddd-4eee-8fff-444444444444) with the API's tenant. If the API belongs to another organization, an administrator must first add it to the tenant.
65005 650056 650057 | The app registration lacks a permission | Add a permission of 'api://backend' to the app 11111111-aaaa-4bbb-8ccc-222222222222 (App registrations > the app > API permissions), then let an administrator consent at https://login.microsoftonline.com/33333333-dddd-4eee-8fff-444444444444/adminconsent?client_id=11111111-aaaa-4bbb-8ccc-222222222222&redirect_uri=http%3A%2F%2Flocalhost%3A8000%2Fauth%2Fcallback
650052 | The organization has not enabled the API | Ask an administrator to subscribe to or enable the service 'api://backend' in your organization.
650053 | The API has no such scope | Compare CUSTOM_API_SCOPE with the scopes that 'api://backend' exposes (App registrations > the API > Expose an API); a scope written without its API is one of Microsoft Graph.
28002 70011 | The scope is not valid | Entra does not accept 'openid profile offline_access api://backend/access': write each scope of CUSTOM_API_SCOPE as the API's Application ID URI, a slash and the scope's name, or that URI with /.default alone.
28000 700022 | The scopes belong to more than one API | An access token is for one API: leave the scopes of one API in CUSTOM_API_SCOPE. Entra finds several in 'openid profile offline_access api://backend/access'.
28003 700023 | No scope of an API was asked for | Set CUSTOM_API_SCOPE to a scope of your API (App registrations > the API > Expose an API): Entra finds none in 'openid profile offline_access api://backend/access'.
90009 | The application asks for a token for itself | Such an app must use its GUID: set CUSTOM_API_SCOPE to 11111111-aaaa-4bbb-8ccc-222222222222/.default
65001 90008 9002341 consent_required | Consent is missing | Sign in again and accept what Entra asks. If Entra does not let you, an administrator can consent for everybody at https://login.microsoftonline.com/33333333-dddd-4eee-8fff-444444444444/adminconsent?client_id=11111111-aaaa-4bbb-8ccc-222222222222&redirect_uri=http%3A%2F%2Flocalhost%3A8000%2Fauth%2Fcallback
90094 90095 | An administrator must consent | Send an administrator this link, and sign in again when they have consented: https://login.microsoftonline.com/33333333-dddd-4eee-8fff-444444444444/adminconsent?client_id=11111111-aaaa-4bbb-8ccc-222222222222&redirect_uri=http%3A%2F%2Flocalhost%3A8000%2Fauth%2Fcallback
65004 | Consent was declined | Sign in again and accept, if this server is to act for you.
50014 50020 51004 16000 16003 90072 | The account is not in this tenant | Sign in with an account that AZURE_TENANT_ID (33333333-dddd-4eee-8fff-444444444444) accepts, or ask the tenant's administrator to invite yours as a guest.
50034 | The account does not exist | Check the user name. If it is right, AZURE_TENANT_ID (33333333-dddd-4eee-8fff-444444444444) does not accept the account: use another one, or ask the tenant's administrator to invite it as a guest.
500208 | The account is of the wrong type | Sign in with an account that AZURE_TENANT_ID (33333333-dddd-4eee-8fff-444444444444) accepts: organizations and a single tenant accept work and school accounts, consumers accepts personal ones, common accepts both.
500212 | Your organization does not allow this tenant | Ask the administrator of the account's own organization to allow the tenant in the outbound cross-tenant access settings.
500213 | The tenant does not allow your organization | Ask the administrator of the tenant to allow the account's organization in the inbound cross-tenant access settings.
50105 | The account is not assigned to the application | Ask an administrator to assign you to it (Enterprise applications > 11111111-aaaa-4bbb-8ccc-222222222222 > Users and groups).
50057 | The account is disabled | Ask an administrator to enable the account, or sign in with another one.
50053 | The account is locked, or the network is blocked | Too many sign-ins failed, or attacks came from your network address. Wait before you try again, or ask an administrator, who finds the reason in the sign-in logs.
50055 50144 | The password has expired | Change the password as your organization prescribes, or ask an administrator to reset it; then sign in again.
50056 50064 50126 | The user name or the password is wrong | Sign in again and check both.
80012 | The account may not sign in at this hour | Sign in within the hours that your organization allows, or ask an administrator to change them.
50017 | The certificate of the sign-in was not accepted | Ask an administrator: Entra could not check the certificate that you signed in with.
50074 50076 50078 500121 | Multifactor authentication is needed | Sign in again in the browser and complete the second step that Entra asks for (MFA).
50072 50079 | Multifactor authentication must be set up | Sign in again in the browser and register what Entra asks for; an account of a federated organization gets its second step there.
53004 53010 | Multifactor authentication cannot be set up from here | Set it up on a device and a network that your organization trusts, or ask an administrator how; then sign in again.
50158 | A check by another provider is needed | Sign in again in the browser and complete the other provider's check, which your organization requires.
50097 700003 | The device is not known to your organization | Use the browser of a device that is registered with your organization and enabled there. A device code will not do.
53000 | The device is not compliant | Use the browser of a device that your organization manages and finds compliant (enrolled in Intune, for instance), or ask an administrator. A device code will not do.
53001 530003 | The device is not managed by your organization | Use the browser of a device that is joined to your organization, or ask an administrator. A device code will not do.
530004 | Compliant devices of guests are not trusted | Ask an administrator to trust the compliant devices of the account's organization (cross-tenant access settings > Trust settings).
53002 | A policy allows approved applications only | Ask an administrator to exclude the app 11111111-aaaa-4bbb-8ccc-222222222222 from the Conditional Access policy that requires an approved one.
50131 53003 530032 | A policy refuses the sign-in | If you used a device code, use the browser instead. Otherwise ask an administrator which Conditional Access policy it was: the sign-in logs show it for the app 11111111-aaaa-4bbb-8ccc-222222222222.
53011 530034 | The account is blocked because of a risk | Ask an administrator of the account's own organization to look into the risk and unblock the account.
530035 | The security defaults refuse the sign-in | If you used a device code, use the browser instead. Otherwise ask an administrator: your organization enforces security defaults.
530036 | A policy ended a sign-in that began with a device code | Sign in again, with the browser instead of a device code.
50132 50133 50173 | The sign-in was revoked | Sign in again: the password was changed, or you or an administrator ended your sign-ins.
50085 50089 70000 70008 | The sign-in has expired | Sign in again.
700082 | The sign-in was not used for too long | Sign in again: Entra ends a sign-in that is not used for some time.
700084 | A sign-in of a single-page application has ended | Sign in again. So that sign-ins last longer, remove what matches http://localhost:8000/auth/callback from the platform "Single-page application" and register http://localhost/auth/callback under "Mobile and desktop applications" (App registrations > the app > Authentication).
70043 | Your organization requires a new sign-in | Sign in again: a Conditional Access policy says how often that must be.
50058 700020 | Entra must ask you | Sign in again in the browser.
54005 | The sign-in was completed twice | Start again from a new sign-in link, and do not reload a page or go back: each answer of Entra can be used once.
501481 | The answer belongs to another sign-in | Start again from a new sign-in link, with no other one open.
700005 | The sign-in began at another tenant | Start again from a new sign-in link, and do not change AZURE_TENANT_ID (33333333-dddd-4eee-8fff-444444444444) before it is complete.
900561 | The browser went back during the sign-in | Start again from a new sign-in link, and do not reload a page or go back.
50140 | The question "Stay signed in?" was not answered | Sign in again and answer it either way.
50199 | The sign-in was not confirmed | Sign in again and confirm that you mean to sign in to this app.
50196 | The same request came too often | Wait some minutes, correct what made the earlier sign-ins fail, then sign in once.
70016 | The sign-in is not completed | Open the page that was shown with the device code, enter the code and sign in there.
70018 | The device code was mistyped | Start again and enter the new code exactly as it is shown.
70019 70020 | The device code has expired | Start again and complete the sign-in before the new code expires.
90120 | The device code was used already | Start again with a new code.
50134 | The device code is from another region | Use the browser instead of a device code.
90002 | The tenant is not known in this cloud | Check AZURE_TENANT_ID (33333333-dddd-4eee-8fff-444444444444). If it is right, the tenant is in another cloud than https://login.microsoftonline.com: set AZURE_CLOUD to that cloud (public, usgov, china, france, germany or singapore).
90038 | The tenant belongs to another national cloud | Set AZURE_CLOUD to the cloud of the tenant '33333333-dddd-4eee-8fff-444444444444' (public, usgov, china, france, germany or singapore), which is not https://login.microsoftonline.com, and AZURE_CLIENT_ID to an app that is registered there.
50059 50128 90019 | Entra cannot tell the tenant | Set AZURE_TENANT_ID (33333333-dddd-4eee-8fff-444444444444) to your tenant's GUID.
50002 500021 500022 | The network restricts which tenants can be used | Ask the network administrator to allow the tenant that you sign in to (AZURE_TENANT_ID is 33333333-dddd-4eee-8fff-444444444444): a proxy restricts tenants by the header Restrict-Access-To-Tenants.
50033 50087 50088 90006 90012 90024 90090 | Entra cannot answer at the moment | Try again in some minutes.
50000 90036 | Entra itself has failed | Open a support case with Microsoft and name the correlation id, the trace id and the timestamp.
invalid_client | Entra does not accept how the application identifies itself | This server has no secret: register http://localhost/auth/callback under "Mobile and desktop applications" (App registrations > the app > Authentication), not under "Web", and check AZURE_CLIENT_ID (11111111-aaaa-4bbb-8ccc-222222222222). If you used a device code, set "Allow public client flows" there to Yes.
unauthorized_client | The application may not sign users in like this | Compare AZURE_CLIENT_ID (11111111-aaaa-4bbb-8ccc-222222222222) and AZURE_TENANT_ID (33333333-dddd-4eee-8fff-444444444444) with the overview of the app registration. If you used a device code, set "Allow public client flows" to Yes (App registrations > the app > Authentication).
invalid_scope | A scope is not accepted | Compare CUSTOM_API_SCOPE with the scopes that 'api://backend' exposes (App registrations > the API > Expose an API): Entra was asked for 'openid profile offline_access api://backend/access'.
invalid_resource invalid_target | The API is not accepted | Compare 'api://backend' in CUSTOM_API_SCOPE with the API's Application ID URI (App registrations > the API > Expose an API).
invalid_tenant | The tenant is not accepted | Check AZURE_TENANT_ID (33333333-dddd-4eee-8fff-444444444444), and AZURE_CLOUD: https://login.microsoftonline.com does not know the tenant.
invalid_request | The request is not accepted | Check AZURE_CLIENT_ID (11111111-aaaa-4bbb-8ccc-222222222222), AZURE_TENANT_ID (33333333-dddd-4eee-8fff-444444444444), REDIRECT_URI (http://localhost:8000/auth/callback) and CUSTOM_API_SCOPE against the app registration, and whether a proxy changes what is sent to https://login.microsoftonline.com.
access_denied | The sign-in was declined or refused | Sign in again and accept what Entra asks. If you did accept, ask an administrator whether a policy or a missing assignment refuses you."#;
