//! Opening a sign-in link in a person's browser. Every user of a machine can read the command lines
//! of its processes, so a link with a ticket, which is a secret, never stands on one. A private
//! page leads on to it instead, which the system opens as it opens any HTML file: `xdg-open`,
//! `open` on macOS, the file's handler on Windows. On Windows the page is protected by the access
//! list of the user's own directory for temporary files.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{env, io};

use crate::os;
use crate::secret::{self, Secret};

/// Where a person signs in.
#[derive(Clone, Debug)]
pub enum Link {
    /// A page that begins a sign-in; no secret.
    Plain(String),
    /// One that is good once, for whoever has it.
    WithTicket(Secret),
}

impl Link {
    /// The link itself, for the person's own terminal.
    pub fn expose(&self) -> &str {
        match self {
            Self::Plain(link) => link,
            Self::WithTicket(link) => link.expose(),
        }
    }

    /// `before`, the link and `after` as one text.
    pub fn between(&self, before: &str, after: &str) -> Secret {
        match self {
            Self::Plain(link) => Secret::new(format!("{before}{link}{after}")),
            Self::WithTicket(link) => link.between(before, after),
        }
    }
}

/// A page that leads on to a link; gone when this is dropped.
pub struct Redirect {
    directory: PathBuf,
}

impl Drop for Redirect {
    fn drop(&mut self) {
        // It holds a ticket that is good for minutes; nobody is left to tell that it stays.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Opens `link`, if it can be. What must stay until the browser has read it is given back.
pub fn open(link: &Link) -> Option<Redirect> {
    match link {
        Link::Plain(link) => {
            os::open_in_browser(link);
            None
        }
        // Whether the program that `BROWSER` names opens a file is not known.
        Link::WithTicket(_) if os::named_browser().is_some() => None,
        Link::WithTicket(link) => {
            let redirect = Redirect {
                directory: env::temp_dir().join(format!(
                    "entra-auth-mcp-{}",
                    secret::random_base64url::<12>().ok()?
                )),
            };
            let page = write_page(&redirect.directory, link).ok()?;
            os::open_in_browser(page.to_str()?).then_some(redirect)
        }
    }
}

/// A page that leads on to `link`, in `directory`, which is made for it.
fn write_page(directory: &Path, link: &Secret) -> io::Result<PathBuf> {
    let needs_escaping = |byte: u8| matches!(byte, b'"' | b'\'' | b'<' | b'>' | b'&');
    if link.expose().bytes().any(needs_escaping) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let page = link.between(
        "<!doctype html><meta charset=\"utf-8\"><meta name=\"referrer\" content=\"no-referrer\">\
         <title>Sign in</title><meta http-equiv=\"refresh\" content=\"0;url=",
        "\">\n",
    );
    os::create_private_directory(directory)?;
    let path = directory.join("sign-in.html");
    let mut options = OpenOptions::new();
    let mut file = os::private(options.create_new(true).write(true)).open(&path)?;
    file.write_all(page.expose().as_bytes())?;
    Ok(path)
}
