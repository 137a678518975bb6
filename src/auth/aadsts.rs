//! What Entra's errors mean and what to do about them. Help text only: nothing is decided by it.

use url::form_urlencoded;

use super::authority::Application;

/// A line for each meaning: Entra's numbers for it and the OAuth errors that are told by name, a
/// title, and the remedy. `{…}` is filled in from the configuration. Every other line is a heading.
const ROWS: &str = include_str!("aadsts.txt");

/// Errors that Entra shows on its own page alone, since it does not trust the redirect URI: they
/// never reach this server.
const OWN_PAGE: [u32; 3] = [50011, 700_016, 90002];

/// Help with an error of Entra.
#[derive(Clone, Debug)]
pub struct Advice {
    /// What it is, in a few words.
    pub title: &'static str,
    /// What to do, in words that fit the configuration.
    pub remedy: String,
}

/// Help with AADSTS `number`, for `application`. It goes to models, too, which may have a shell:
/// commands are not part of it.
pub fn advice(number: u32, application: &Application<'_>) -> Option<Advice> {
    Some(row(&number.to_string())?.advice(application))
}

/// Help with an OAuth `error` that has no number, or none that is known: a first guess.
pub fn advice_by_name(error: &str, application: &Application<'_>) -> Option<Advice> {
    Some(row(error)?.advice(application))
}

/// Whether there is help with AADSTS `number`.
pub fn is_known(number: u32) -> bool {
    row(&number.to_string()).is_some()
}

/// Help with what Entra shows on its own page alone, for a person: with the command, if any.
pub fn own_page(application: &Application<'_>) -> Vec<(u32, Advice)> {
    let of_number = |number: u32| {
        let row = row(&number.to_string())?;
        let mut advice = row.advice(application);
        if let Some(command) = row.command {
            advice.remedy += " ";
            advice.remedy += &filled(command, application);
        }
        Some((number, advice))
    };
    OWN_PAGE.into_iter().filter_map(of_number).collect()
}

struct Row {
    title: &'static str,
    template: &'static str,
    /// What a person can run in place of that.
    command: Option<&'static str>,
}

/// The row of `code`, a number or a name.
fn row(code: &str) -> Option<Row> {
    for line in ROWS.lines() {
        let mut columns = line.split(" | ");
        let mut codes = columns.next()?.split(' ');
        if let (Some(title), Some(template)) = (columns.next(), columns.next())
            && codes.any(|known| known == code)
        {
            let command = columns.next();
            return Some(Row {
                title,
                template,
                command,
            });
        }
    }
    None
}

impl Row {
    fn advice(&self, application: &Application<'_>) -> Advice {
        Advice {
            title: self.title,
            remedy: filled(self.template, application),
        }
    }
}

/// `template` with the values of `application`; in one pass, as a value is no template.
fn filled(template: &str, application: &Application<'_>) -> String {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').unwrap_or((after, ""));
        text += before;
        text += &value(name, application);
        rest = after;
    }
    text + rest
}

/// What stands for `{name}` in a remedy.
fn value(name: &str, application: &Application<'_>) -> String {
    let Application {
        authority,
        client_id,
        redirect_uri,
        scopes,
        ..
    } = application;
    match name {
        "client_id" => (*client_id).to_owned(),
        "tenant" => authority.tenant().segment().to_owned(),
        "authority" => authority.origin(),
        "redirect_uri" => (*redirect_uri).to_owned(),
        "registered_redirect_uri" => registered(redirect_uri),
        "scopes" => scopes.requested().to_owned(),
        "resource" => resource(scopes.requested()).to_owned(),
        "admin_consent" => admin_consent(application),
        // The tests find a name that is not known.
        _ => format!("{{{name}}}"),
    }
}

/// The resource of the last of `scopes`: the configured ones come last, and one without a resource
/// is Graph's.
fn resource(scopes: &str) -> &str {
    let last = scopes.rsplit(' ').next().unwrap_or(scopes);
    match last.rsplit_once('/') {
        Some((resource, _)) => resource,
        None => "Microsoft Graph",
    }
}

/// Where an administrator consents for everybody. Afterwards Entra leads back to the redirect URI.
fn admin_consent(application: &Application<'_>) -> String {
    // Only an organization has administrators who consent.
    let tenant = match application.authority.tenant().segment() {
        "common" | "consumers" => "organizations",
        tenant => tenant,
    };
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("client_id", application.client_id)
        .append_pair("redirect_uri", application.redirect_uri)
        .finish();
    let origin = application.authority.origin();
    format!("{origin}/{tenant}/adminconsent?{query}")
}

/// The redirect URI as it is best registered: Entra ignores the port of `http://localhost`.
pub fn registered(redirect_uri: &str) -> String {
    match redirect_uri.strip_prefix("http://localhost:") {
        Some(rest) => {
            let path = rest.trim_start_matches(|c: char| c.is_ascii_digit());
            format!("http://localhost{path}")
        }
        None => redirect_uri.to_owned(),
    }
}
