//! What Entra's own error numbers mean and what to do about them. Help text only: nothing is decided
//! by a number.

use super::authorize::Application;

/// A line for each meaning: its numbers, a title, and the remedy. `{…}` is filled in from the
/// configuration.
const ROWS: &str = include_str!("aadsts.txt");

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
    let (title, remedy) = ROWS.lines().find_map(|row| {
        let (numbers, rest) = row.split_once(" | ")?;
        numbers.split(' ').any(|known| known == number).then(|| rest.split_once(" | ")).flatten()
    })?;
    let remedy = remedy
        .replace("{client_id}", application.client_id)
        .replace("{tenant}", application.authority.tenant().segment())
        .replace("{redirect_uri}", application.redirect_uri)
        .replace("{scopes}", application.scopes.requested())
        .replace("{authority}", &application.authority.origin());
    Some(Advice { title, remedy })
}
