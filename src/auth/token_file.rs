//! The token file: what survives a restart. One JSON object, replaced as a whole, never written in
//! place.
//!
//! ```json
//! { "version": 2,
//!   "accounts": [
//!     { "user_id": "…",
//!       "client_id": "…", "authority": "https://login.microsoftonline.com", "tenant": "contoso.com",
//!       "tid": "…", "oid": "…", "username": "…", "name": "…",
//!       "requested_scope": "…", "granted_scope": "…",
//!       "access_token": "…", "expires_at": 1785240000, "refresh_at": 1785238000,
//!       "refresh_token": "…", "signed_in_at": 1785236400 } ] }
//! ```
//!
//! Times are seconds since 1970. `tid` and `oid` are `null` for an account that was taken over from
//! the Python server and not refreshed since; `access_token`, `refresh_at` and `refresh_token` are
//! `null` if there is none. One process owns the file (see [`crate::owner`]), so nothing here takes
//! a lock. This is the only source file that touches it.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::account::{Account, Binding, Stored};
use super::id_token::Person;
use super::python_file;
use crate::clock::Clock;
use crate::error::{Failure, Kind};
use crate::os;
use crate::secret::{self, Secret, SecretJson};

/// The version of the layout above.
const VERSION: u64 = 2;
/// That of release 0.1.0: an object of accounts by `user_id`, without authority and tenant.
const OLD_VERSION: u64 = 1;
/// Nobody's tokens are that many.
const MOST_FILE_BYTES: u64 = 64 * 1024 * 1024;
/// By so much one change lengthens the file at most, as a rule.
const MOST_GROWTH: usize = 32 * 1024;

/// What the file holds.
enum Contents {
    /// There is no file.
    Nothing,
    /// In today's layout.
    Current(Vec<Stored>),
    /// In the layout of an older program.
    Older(Vec<Stored>, OldProgram),
    /// None of these.
    Foreign,
}

/// Whose layout a file has.
#[derive(Clone, Copy)]
enum OldProgram {
    Python,
    Version010,
}

impl OldProgram {
    fn name(self) -> &'static str {
        match self {
            Self::Python => "the Python server",
            Self::Version010 => "version 0.1.0",
        }
    }

    /// What the name of the kept file says.
    fn reason(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::Version010 => "version1",
        }
    }
}

/// The file at one path.
pub struct TokenFile {
    path: PathBuf,
    clock: Clock,
    /// How long its text was, so that the buffer for the next one need not grow.
    length: usize,
}

impl TokenFile {
    /// Opens the file at `path`, which need not exist, and gives its accounts. A file of an older
    /// program is converted and kept under another name; its accounts belong to `binding`, and
    /// those of the Python server asked for `requested_scope`. A file that cannot be understood is
    /// kept under another name.
    ///
    /// # Errors
    /// It is no regular file, is of a newer version, or cannot be read or written.
    pub fn open(
        path: &Path,
        clock: Clock,
        binding: &Binding,
        requested_scope: &str,
    ) -> Result<(Self, Vec<Stored>), Failure> {
        let mut file = Self {
            path: path.to_owned(),
            clock,
            length: 0,
        };
        file.protect()?;
        let text = file.text()?;
        let accounts = match file.understand(&text, binding, requested_scope)? {
            Contents::Nothing => Vec::new(),
            Contents::Current(accounts) => accounts,
            Contents::Older(accounts, program) => {
                let kept = file.aside(program.reason())?;
                write_synced(&kept, &text).map_err(|error| file.failure("copy", &error))?;
                file.write(
                    accounts
                        .iter()
                        .map(|stored| (stored.user_id.as_str(), &stored.account)),
                )?;
                let path = path.display();
                let kept = kept.display();
                let program = program.name();
                log::info!(
                    "{path} had the layout of {program} and was converted. The old file is kept as {kept}: \
                     to go back to {program}, stop this server and put that file in the place of {path}"
                );
                accounts
            }
            Contents::Foreign => {
                file.set_aside()?;
                Vec::new()
            }
        };
        Ok((file, accounts))
    }

    /// The accounts of the file at `path`, whoever owns it: it is replaced as a whole, so no lock
    /// is needed. Nothing is changed. `binding` is for accounts that do not say what they belong
    /// to.
    ///
    /// # Errors
    /// It is no regular file, is of a newer version, cannot be read, or cannot be understood.
    pub fn look(path: &Path, binding: &Binding) -> Result<Vec<Stored>, Failure> {
        let file = Self {
            path: path.to_owned(),
            clock: Clock::system(),
            length: 0,
        };
        let text = file.text()?;
        match file.understand(&text, binding, "")? {
            Contents::Nothing => Ok(Vec::new()),
            Contents::Current(accounts) | Contents::Older(accounts, _) => Ok(accounts),
            Contents::Foreign => Err(Failure::new(
                Kind::TokenCache,
                format!("{} cannot be understood.", path.display()),
            )
            .hint("Restore it from a copy. Otherwise the next start keeps it under another name, and everybody signs in again.")),
        }
    }

    /// Whether files can be made beside the one at `path`, shown by an empty one that is removed
    /// again.
    ///
    /// # Errors
    /// They cannot.
    pub fn probe(path: &Path) -> Result<(), Failure> {
        let file = Self {
            path: path.to_owned(),
            clock: Clock::system(),
            length: 0,
        };
        let probe = file.aside("probe")?;
        write_synced(&probe, b"")
            .and_then(|()| fs::remove_file(&probe))
            .map_err(|error| file.failure("make a file beside", &error))
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces the file by one with `accounts`. When it returns, they are on the disk.
    ///
    /// # Errors
    /// It cannot be written. The file is then as it was, unless all that failed was to sync its
    /// directory.
    pub fn write<'a>(
        &mut self,
        accounts: impl Iterator<Item = (&'a str, &'a Account)>,
    ) -> Result<(), Failure> {
        // Moved and never copied, so that all of it is wiped.
        let accounts: Vec<Value> = accounts
            .map(|(user_id, account)| to_json(user_id, account))
            .collect();
        let mut members = Map::new();
        members.insert("version".to_owned(), VERSION.into());
        members.insert("accounts".to_owned(), Value::Array(accounts));
        let json = SecretJson(Value::Object(members));
        let mut text = Zeroizing::new(String::with_capacity(self.length + MOST_GROWTH));
        // To memory it cannot fail.
        let _ = writeln!(text, "{:#}", *json);
        // Nobody else's: what is there, a crash has left.
        let temporary = self.beside(".tmp");
        let _ = fs::remove_file(&temporary);
        let replaced = write_synced(&temporary, text.as_bytes())
            .and_then(|()| fs::rename(&temporary, &self.path));
        if let Err(error) = replaced {
            // It holds tokens that nobody needs.
            let _ = fs::remove_file(&temporary);
            return Err(self.failure("write", &error));
        }
        self.length = text.len();
        os::sync_directory(self.directory()).map_err(|error| self.failure("write", &error))
    }

    fn directory(&self) -> &Path {
        let parent = self
            .path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        parent.unwrap_or(Path::new("."))
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    }

    /// A name beside the file that nothing has yet.
    fn aside(&self, reason: &str) -> Result<PathBuf, Failure> {
        let now = self.clock.now();
        let random = secret::random_base64url::<4>()?;
        Ok(self.beside(&format!(".{reason}-{now}-{random}")))
    }

    fn failure(&self, verb: &str, error: &io::Error) -> Failure {
        let message = format!(
            "Could not {verb} the token file {} ({error}).",
            self.path.display()
        );
        Failure::new(Kind::TokenCache, message).hint(
            "Check TOKEN_CACHE_FILE, its directory's permissions and the free space on the disk.",
        )
    }

    /// Whether there is a file. A link or a directory in its place is refused.
    fn exists(&self) -> Result<bool, Failure> {
        match fs::symlink_metadata(&self.path) {
            Ok(metadata) if metadata.is_file() => Ok(true),
            Ok(_) => {
                let message = format!(
                    "{} is not a regular file but a link, a directory or a device.",
                    self.path.display()
                );
                Err(Failure::new(Kind::TokenCache, message)
                    .hint("Set TOKEN_CACHE_FILE to the path of the file itself."))
            }
            // Without its directory it may be somewhere else.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.directory().is_dir() => {
                Ok(false)
            }
            Err(error) => Err(self.failure("read", &error)),
        }
    }

    /// Takes the file from everybody but its owner.
    fn protect(&self) -> Result<(), Failure> {
        if !self.exists()? {
            return Ok(());
        }
        let metadata =
            fs::symlink_metadata(&self.path).map_err(|error| self.failure("read", &error))?;
        if os::others_have_access(&metadata) {
            os::make_private(&self.path).map_err(|error| self.failure("protect", &error))?;
            log::warn!(
                "{} could be read by others; its permissions were set to 0600",
                self.path.display()
            );
        }
        Ok(())
    }

    /// The text of the file; empty if there is none.
    fn text(&self) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let mut text = Zeroizing::new(Vec::new());
        if !self.exists()? {
            return Ok(text);
        }
        let read = File::open(&self.path).and_then(|file| {
            // A buffer that grows leaves tokens behind that nobody wipes.
            let length = file.metadata()?.len().min(MOST_FILE_BYTES);
            text.reserve(usize::try_from(length).unwrap_or_default() + 1);
            file.take(MOST_FILE_BYTES).read_to_end(&mut text)
        });
        match read {
            Ok(_) => Ok(text),
            Err(error) => Err(self.failure("read", &error)),
        }
    }

    fn understand(
        &self,
        text: &[u8],
        binding: &Binding,
        requested_scope: &str,
    ) -> Result<Contents, Failure> {
        if text.is_empty() && !self.exists()? {
            return Ok(Contents::Nothing);
        }
        let json = SecretJson(serde_json::from_slice(text).unwrap_or_default());
        let version = json.get("version").and_then(Value::as_u64);
        let contents = match version {
            Some(version) if version > VERSION => {
                let path = self.path.display();
                let message = format!(
                    "{path} is of version {version}; this program knows version {VERSION}."
                );
                return Err(Failure::new(Kind::TokenCache, message)
                    .hint("Use the newer program, or set TOKEN_CACHE_FILE to another file."));
            }
            Some(VERSION) => current(&json).map(Contents::Current),
            Some(OLD_VERSION) => old(&json, binding)
                .map(|accounts| Contents::Older(accounts, OldProgram::Version010)),
            _ => python_file::accounts(&json, binding, requested_scope)
                .map(|accounts| Contents::Older(accounts, OldProgram::Python)),
        };
        Ok(contents.unwrap_or(Contents::Foreign))
    }

    /// A file that cannot be understood is kept under another name, and never overwritten.
    fn set_aside(&self) -> Result<(), Failure> {
        let aside = self.aside("corrupt")?;
        fs::rename(&self.path, &aside).map_err(|error| self.failure("set aside", &error))?;
        let path = self.path.display();
        let aside = aside.display();
        log::error!(
            "{path} could not be understood; it is kept as {aside}, and everybody has to sign in again"
        );
        Ok(())
    }
}

fn write_synced(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = os::private(options.create_new(true).write(true)).open(path)?;
    file.write_all(text)?;
    file.sync_all()
}

fn to_json(user_id: &str, account: &Account) -> Value {
    json!({
        "user_id": user_id,
        "client_id": account.binding.client_id,
        "authority": account.binding.authority,
        "tenant": account.binding.tenant,
        "tid": account.person.as_ref().map(|person| person.tid.as_str()),
        "oid": account.person.as_ref().map(|person| person.oid.as_str()),
        "username": account.username,
        "name": account.name,
        "requested_scope": account.requested_scope,
        "granted_scope": account.granted_scope,
        "access_token": account.access_token.as_ref().map(Secret::expose),
        "expires_at": account.expires_at,
        "refresh_at": account.refresh_at,
        "refresh_token": account.refresh_token.as_ref().map(Secret::expose),
        "signed_in_at": account.signed_in_at,
    })
}

/// The accounts of a file of today's layout; `None` if it is not of that layout.
fn current(json: &Value) -> Option<Vec<Stored>> {
    let accounts = json.get("accounts")?.as_array()?;
    accounts
        .iter()
        .map(|entry| {
            let text = |name: &str| entry.get(name).and_then(Value::as_str).map(str::to_owned);
            let binding = Binding {
                client_id: text("client_id")?,
                authority: text("authority")?,
                tenant: text("tenant")?,
            };
            Some(Stored {
                user_id: text("user_id")?,
                account: from_json(entry, binding)?,
            })
        })
        .collect()
}

/// The accounts of a file of version 1; `None` if it is not of that layout. Accounts of another
/// application keep theirs.
fn old(json: &Value, binding: &Binding) -> Option<Vec<Stored>> {
    let accounts = json.get("accounts")?.as_object()?;
    accounts
        .iter()
        .map(|(user_id, entry)| {
            let binding = Binding {
                client_id: entry.get("client_id")?.as_str()?.to_owned(),
                ..binding.clone()
            };
            Some(Stored {
                user_id: user_id.clone(),
                account: from_json(entry, binding)?,
            })
        })
        .collect()
}

/// What both layouts have in common.
fn from_json(entry: &Value, binding: Binding) -> Option<Account> {
    let text = |name: &str| {
        let text = entry.get(name).and_then(Value::as_str);
        text.filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let time = |name: &str| entry.get(name).and_then(Value::as_u64);
    let person = match (text("tid"), text("oid")) {
        (Some(tid), Some(oid)) => Some(Person { tid, oid }),
        _ => None,
    };
    Some(Account {
        binding,
        person,
        username: text("username").unwrap_or_default(),
        name: text("name").unwrap_or_default(),
        requested_scope: text("requested_scope")?,
        granted_scope: text("granted_scope").unwrap_or_default(),
        access_token: text("access_token").map(Secret::new),
        expires_at: time("expires_at")?,
        refresh_at: time("refresh_at"),
        refresh_token: text("refresh_token").map(Secret::new),
        signed_in_at: time("signed_in_at").unwrap_or_default(),
        cookies: Arc::default(),
    })
}
