//! What to do about Entra's own error numbers. Help text only: nothing is decided by a number.

use super::authorize::Application;

/// Lines of numbers that mean the same to the reader, and what to do. `{…}` is filled in from the
/// configuration.
const REMEDIES: &str = include_str!("aadsts.txt");

/// What to do about AADSTS `number`, in words that fit `application`.
pub fn hint(number: u32, application: &Application<'_>) -> Option<String> {
    let number = number.to_string();
    let mut rows = REMEDIES.lines().filter_map(|line| line.split_once(": "));
    let (_, template) = rows.find(|(numbers, _)| numbers.split(' ').any(|known| known == number))?;
    Some(
        template
            .replace("{client_id}", application.client_id)
            .replace("{tenant}", application.authority.tenant().segment())
            .replace("{redirect_uri}", application.redirect_uri)
            .replace("{scopes}", application.scopes.requested())
            .replace("{authority}", &application.authority.origin()),
    )
}
