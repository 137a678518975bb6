//! What to do about Entra's own error numbers. Help text only: nothing is decided by a number.

use super::authorize::Application;

/// Numbers that mean the same to the reader, and what to do. `{…}` is filled in from the configuration.
const REMEDIES: &[(&[u32], &str)] = &[
    (
        &[50011],
        "Register the redirect URI {redirect_uri} under the platform \"Mobile and desktop applications\" of the app {client_id}.",
    ),
    (
        &[700_016, 7_000_112],
        "Check AZURE_CLIENT_ID ({client_id}) and AZURE_TENANT_ID ({tenant}): that tenant has no such enabled application.",
    ),
    (
        &[90002, 90038],
        "Check AZURE_TENANT_ID ({tenant}) and, for a national cloud, AZURE_AUTHORITY_HOST ({authority}).",
    ),
    (
        &[50194, 9_002_332],
        "The app is registered for other accounts than the tenant '{tenant}' stands for: set AZURE_TENANT_ID to your tenant's GUID.",
    ),
    (
        &[50020, 50034, 90072],
        "The account does not exist in the tenant '{tenant}': sign in with another one, or ask its administrator for an invitation.",
    ),
    (&[50105], "Ask an administrator to assign you to the enterprise application {client_id}."),
    (&[50057], "The account is disabled; ask an administrator."),
    (
        &[65001, 65005, 650_056, 650_057, 90094, 90095],
        "Consent is missing. An administrator can grant it at {authority}/{tenant}/adminconsent?client_id={client_id}",
    ),
    (&[65004], "The consent was declined. Sign in again and accept, if you want this server to act for you."),
    (&[500_011], "Check CUSTOM_API_SCOPE: the tenant '{tenant}' does not know the resource of '{scopes}'."),
    (
        &[50076, 50079, 50158, 50097],
        "Sign in again in the browser: your organization wants a further check (such as MFA).",
    ),
    (
        &[53000, 53001, 53003, 530_032, 530_036],
        "A Conditional Access policy of your organization refuses this sign-in; ask an administrator which condition was not met.",
    ),
    (&[50173, 70008, 700_082, 700_084, 70043], "The sign-in has expired or was revoked. Sign in again."),
    (&[54005, 501_481], "The sign-in was completed twice. Start again from a new link."),
    (
        &[28000, 28002, 28003, 70011, 700_022],
        "Check CUSTOM_API_SCOPE: Entra does not accept '{scopes}' (one resource, '.default' alone).",
    ),
    (&[90009], "The app asks for a token for itself: set CUSTOM_API_SCOPE to {client_id}/.default"),
    (
        &[700_025, 7_000_218],
        "The redirect URI is registered under \"Web\", which wants a secret. Register {redirect_uri} under \"Mobile and desktop applications\" and remove it there.",
    ),
    (
        &[9_002_326, 9_002_327],
        "The redirect URI is registered under \"Single-page application\". Register {redirect_uri} under \"Mobile and desktop applications\" and remove it there.",
    ),
    (&[500_021], "A proxy of your organization restricts which tenants can be used, and '{tenant}' is not among them."),
];

/// What to do about AADSTS `number`, in words that fit `application`.
#[must_use]
pub fn hint(number: u32, application: &Application<'_>) -> Option<String> {
    let (_, template) = REMEDIES.iter().find(|(numbers, _)| numbers.contains(&number))?;
    Some(
        template
            .replace("{client_id}", application.client_id)
            .replace("{tenant}", application.authority.tenant().segment())
            .replace("{redirect_uri}", application.redirect_uri)
            .replace("{scopes}", application.scopes.requested())
            .replace("{authority}", &application.authority.origin()),
    )
}
