//! What Entra's own error numbers mean and what to do about them. Help text only: nothing is decided
//! by a number.

use super::authority::Application;

/// A line for each meaning: its numbers, a title, and the remedy. `{…}` is filled in from the
/// configuration. Every other line is a heading.
const ROWS: &str = include_str!("aadsts.txt");

/// Errors that Entra shows on its own page alone, since it does not trust the redirect URI: they never
/// reach this server.
const OWN_PAGE: [u32; 3] = [50011, 700_016, 90002];

/// Help with an error of Entra.
#[derive(Clone, Debug)]
pub struct Advice {
    /// What it is, in a few words.
    pub title: &'static str,
    /// What to do, in words that fit the configuration.
    pub remedy: String,
}

/// Help with AADSTS `number`, for `application`.
pub fn advice(number: u32, application: &Application<'_>) -> Option<Advice> {
    let number = number.to_string();
    let (title, template) = ROWS.lines().find_map(|row| {
        let (numbers, rest) = row.split_once(" | ")?;
        numbers
            .split(' ')
            .any(|known| known == number)
            .then(|| rest.split_once(" | "))
            .flatten()
    })?;
    // In one pass, as a value is no template.
    let mut pieces = template.split('{');
    let start = pieces.next().unwrap_or_default().to_owned();
    let remedy =
        pieces
            .filter_map(|piece| piece.split_once('}'))
            .fold(start, |remedy, (name, rest)| {
                let value = value(name, application).unwrap_or_else(|| format!("{{{name}}}"));
                remedy + &value + rest
            });
    Some(Advice { title, remedy })
}

/// Help with what Entra shows on its own page alone, to stand next to a sign-in link.
pub fn own_page(application: &Application<'_>) -> Vec<(u32, Advice)> {
    OWN_PAGE
        .into_iter()
        .filter_map(|number| Some((number, advice(number, application)?)))
        .collect()
}

/// What stands for `{name}` in a remedy.
fn value(name: &str, application: &Application<'_>) -> Option<String> {
    let Application {
        authority,
        client_id,
        redirect_uri,
        scopes,
    } = application;
    let tenant = authority.tenant().segment();
    Some(match name {
        "client_id" => (*client_id).to_owned(),
        "tenant" => tenant.to_owned(),
        "authority" => authority.origin(),
        "redirect_uri" => (*redirect_uri).to_owned(),
        "registered_redirect_uri" => registered(redirect_uri),
        "scopes" => scopes.requested().to_owned(),
        "resource" => {
            // The configured scopes come last; one without a resource is Graph's.
            let last = scopes.requested().rsplit(' ').next().unwrap_or_default();
            last.rsplit_once('/')
                .map_or("Microsoft Graph", |(resource, _)| resource)
                .to_owned()
        }
        "admin_consent" => {
            // Only an organization has administrators who consent.
            let tenant = if matches!(tenant, "common" | "consumers") {
                "organizations"
            } else {
                tenant
            };
            format!(
                "{}/{tenant}/adminconsent?client_id={client_id}",
                authority.origin()
            )
        }
        _ => return None,
    })
}

/// The redirect URI as it is best registered: Entra ignores the port of `http://localhost`.
pub fn registered(redirect_uri: &str) -> String {
    let after_host = redirect_uri.strip_prefix("http://localhost:");
    let path = after_host.map(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()));
    path.map_or_else(
        || redirect_uri.to_owned(),
        |path| format!("http://localhost{path}"),
    )
}
