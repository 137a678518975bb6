//! The start page: what this server is for, who is signed in, how a client is connected, and what
//! to do about errors that only Microsoft's page shows.

use super::{Html, Pages, escaped, filled, query, query_of};
use crate::auth::DEFAULT_USER_ID;
use crate::auth::aadsts::Advice;
use crate::auth::account::Account;
use crate::auth::standing::Standing;
use crate::clients::{Connection, connections};
use crate::clock::iso8601_seconds;
use crate::http::message::Reply;

/// The parameter of `/auth/login` that asks for a sign-in under a label that is free. This page may
/// be old when its button is pressed, so it does not name one.
pub(crate) const ANOTHER: &str = "another";

/// What the start page shows.
pub(crate) struct Home<'a> {
    /// The API that is called.
    pub backend: Option<&'a str>,
    pub tenant: &'a str,
    pub scopes: &'a str,
    pub accounts: Vec<Row<'a>>,
    /// Who is about to sign in, if that was said.
    pub user_id: Option<&'a str>,
    pub mcp_url: &'a str,
    pub has_key: bool,
    /// Errors that end on Microsoft's page.
    pub errors: Vec<(u32, Advice)>,
}

/// One account.
pub(crate) struct Row<'a> {
    pub user_id: &'a str,
    pub account: &'a Account,
    pub standing: Standing,
}

/// Where the button leads, and what it says.
struct Button {
    query: Html,
    text: String,
}

impl Home<'_> {
    fn button(&self) -> Button {
        match self.user_id {
            Some(DEFAULT_USER_ID) => Button {
                query: query_of(self.user_id),
                text: "Sign in".to_owned(),
            },
            Some(user_id) => Button {
                query: query_of(Some(user_id)),
                text: format!("Sign in as {user_id}"),
            },
            None if self.accounts.is_empty() => Button {
                query: query_of(None),
                text: "Sign in".to_owned(),
            },
            None => Button {
                query: Html(format!("?{ANOTHER}=true")),
                text: "Sign in another account".to_owned(),
            },
        }
    }

    /// The label of another account of the same person, which comes before `row`.
    fn same_person(&self, row: &Row<'_>) -> Option<&str> {
        let person = row.account.person.as_ref()?;
        let mut before = self
            .accounts
            .iter()
            .take_while(|other| other.user_id != row.user_id);
        let same = before.find(|other| other.account.person.as_ref() == Some(person))?;
        Some(same.user_id)
    }
}

impl Pages {
    /// The start page.
    pub(crate) fn home(&self, home: &Home<'_>) -> Reply {
        let mut accounts = String::new();
        for row in &home.accounts {
            accounts += &self.row(row, home.same_person(row)).0;
        }
        if accounts.is_empty() {
            accounts += "<li>Nobody yet.</li>";
        }
        let mut clients = String::new();
        for connection in connections(home.mcp_url, home.has_key) {
            clients += &self.client(&connection).0;
        }
        let mut errors = String::new();
        for (number, advice) in &home.errors {
            errors += &self.error(*number, advice).0;
        }
        let (and_key, key) = if home.has_key {
            (" and the access key", include_str!("home_key.html"))
        } else {
            ("", "")
        };
        let button = home.button();
        let values = [
            (
                "backend",
                escaped(home.backend.unwrap_or("none is configured")),
            ),
            ("tenant", escaped(home.tenant)),
            ("scopes", escaped(home.scopes)),
            ("accounts", Html(accounts)),
            ("query", button.query),
            ("sign_in", escaped(&button.text)),
            ("and_key", escaped(and_key)),
            ("url", escaped(home.mcp_url)),
            ("key", Html(key.to_owned())),
            ("clients", Html(clients)),
            ("errors", Html(errors)),
        ];
        let template = include_str!("home.html");
        self.page(200, "entra-auth-mcp", template, &values)
    }

    fn row(&self, row: &Row<'_>, same_person: Option<&str>) -> Html {
        let Account { name, username, .. } = row.account;
        let (who, address) = match (name.as_str(), username.as_str()) {
            ("", "") => (row.user_id, ""),
            ("", username) => (username, ""),
            (name, username) => (name, username),
        };
        let values = [
            ("who", escaped(who)),
            ("address", escaped(address)),
            ("state", state(row)),
            ("label", escaped(&label(row, same_person))),
            ("query", query(row.user_id)),
        ];
        filled(include_str!("account.html"), &values, &self.prefix)
    }

    fn client(&self, connection: &Connection) -> Html {
        let values = [
            ("client", escaped(connection.client)),
            ("place", escaped(connection.place)),
            ("text", escaped(&connection.text)),
            ("note", escaped(connection.note.unwrap_or_default())),
        ];
        filled(include_str!("client.html"), &values, &self.prefix)
    }

    fn error(&self, number: u32, advice: &Advice) -> Html {
        let values = [
            ("number", escaped(&number.to_string())),
            ("title", escaped(advice.title)),
            ("remedy", escaped(&advice.remedy)),
        ];
        filled(include_str!("error.html"), &values, &self.prefix)
    }
}

/// How the account stands, and until when.
fn state(row: &Row<'_>) -> Html {
    let template = match row.standing {
        Standing::NotSignedIn | Standing::Ended => "The sign-in has ended: sign in again.",
        Standing::MoreWanted => "Signed in, but some calls need a further sign-in.",
        Standing::SignedIn if row.account.refresh_token.is_some() => {
            "Signed in. The token expires at <time>{{until}}</time>, and is renewed by itself."
        }
        Standing::SignedIn => "Signed in until <time>{{until}}</time>. Then sign in again.",
    };
    let until = readable(row.account.expires_at);
    filled(template, &[("until", escaped(&until))], "")
}

/// What the account is called here, where that is not its address.
fn label(row: &Row<'_>, same_person: Option<&str>) -> String {
    let user_id = row.user_id;
    let mut sentences = Vec::new();
    if user_id != row.account.username {
        sentences.push(format!("Clients call this account {user_id}."));
    }
    if let Some(other) = same_person {
        sentences.push(format!("It is the same person as {other}."));
    }
    sentences.join(" ")
}

/// A time for people, who may be anywhere.
fn readable(time: u64) -> String {
    let text = iso8601_seconds(time);
    match text.split_once('T') {
        Some((date, time)) => {
            let minutes = time.get(..5).unwrap_or(time);
            format!("{date} {minutes} UTC")
        }
        None => text,
    }
}
