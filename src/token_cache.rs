//! The token file: one JSON object, replaced as a whole, never written in place.
//!
//! ```json
//! { "version": 1,
//!   "accounts": {
//!     "<user_id>": {
//!       "client_id": "…", "tid": "…", "oid": "…", "username": "…", "name": "…",
//!       "requested_scope": "…", "granted_scope": "…",
//!       "access_token": "…", "expires_at": 1785240000, "refresh_at": 1785238000,
//!       "refresh_token": "…", "signed_in_at": 1785236400 } } }
//! ```
//!
//! Times are seconds since 1970. `refresh_at` and `refresh_token` may be absent. Every change is
//! made under a lock file, to the newest contents of the token file, and is on the disk before
//! anybody hears of it; so processes can share the file and nothing that was acknowledged is lost.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::clock::Clock;
use crate::error::{Failure, Kind};
use crate::os;
use crate::secret::{self, Secret};

/// The version of the layout above.
const VERSION: u64 = 1;
/// Nobody's tokens are that many.
const MOST_FILE_BYTES: u64 = 64 * 1024 * 1024;
/// How long another process may take over a change of the file.
const CHANGE_LOCK_PATIENCE: Duration = Duration::from_secs(10);
/// How long another process may take over a refresh, network included.
const REFRESH_LOCK_PATIENCE: Duration = Duration::from_secs(45);
const LOCK_STEP: Duration = Duration::from_millis(20);
/// How old the contents in memory may be before the file is asked whether it has changed.
const RECHECK: Duration = Duration::from_secs(2);

/// A signed-in account.
#[derive(Clone, Debug)]
pub struct Account {
    /// The application that the tokens belong to.
    pub client_id: String,
    /// Tenant and object id: who it is. Empty for an account taken over from a file without them.
    pub tid: String,
    /// See `tid`.
    pub oid: String,
    /// For display.
    pub username: String,
    /// For display.
    pub name: String,
    /// What was requested, and is again on refresh.
    pub requested_scope: String,
    /// What was granted, for display.
    pub granted_scope: String,
    /// For the backend.
    pub access_token: Secret,
    /// Seconds since 1970.
    pub expires_at: u64,
    /// When Entra would like to see a refresh; seconds since 1970.
    pub refresh_at: Option<u64>,
    /// Absent once Entra has refused it.
    pub refresh_token: Option<Secret>,
    /// Seconds since 1970.
    pub signed_in_at: u64,
}

/// The accounts by `user_id`.
pub type Accounts = BTreeMap<String, Arc<Account>>;

/// What tells one state of the file from the next.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp(Option<SystemTime>, u64, u64);

struct Memory {
    accounts: Accounts,
    /// Of the file that `accounts` was read from; `None` when there was none.
    stamp: Option<Stamp>,
    checked: Instant,
}

/// The token file and what is known of its contents.
pub struct TokenCache {
    path: PathBuf,
    clock: Clock,
    memory: Mutex<Memory>,
}

/// An exclusive lock, held until it is dropped or the process ends.
pub struct Lock(#[allow(dead_code)] File);

impl TokenCache {
    /// Opens the file at `path`; it need not exist. `requested_scope` and `client_id` are for
    /// accounts from a file of the Python server, which did not keep them.
    ///
    /// # Errors
    /// A file that is no regular file, is of a newer version, or cannot be read; a directory that
    /// cannot be written.
    pub fn open(path: &Path, clock: Clock, client_id: &str, requested_scope: &str) -> Result<Self, Failure> {
        let memory = Memory { accounts: Accounts::new(), stamp: None, checked: Instant::now() };
        let cache = Self { path: path.to_owned(), clock, memory: Mutex::new(memory) };
        let lock = cache.lock("", CHANGE_LOCK_PATIENCE)?;
        if let Some(accounts) = cache.python_accounts(client_id, requested_scope)? {
            let kept = cache.beside(".python");
            fs::copy(&cache.path, &kept)
                .and_then(|_| os::make_private(&kept))
                .map_err(|error| cache.failure("copy", &error))?;
            cache.write(&accounts)?;
            log::info!(
                "{} was converted from the Python server's; the old file is kept as {}",
                path.display(),
                kept.display()
            );
        }
        cache.remember(cache.read()?);
        drop(lock);
        Ok(cache)
    }

    /// The account of `user_id`.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn get(&self, user_id: &str) -> Result<Option<Arc<Account>>, Failure> {
        self.recheck(|accounts| accounts.contains_key(user_id))?;
        Ok(self.memory().accounts.get(user_id).cloned())
    }

    /// Every account.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn all(&self) -> Result<Accounts, Failure> {
        self.recheck(|accounts| !accounts.is_empty())?;
        Ok(self.memory().accounts.clone())
    }

    /// Reads the file now, whatever is in memory.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn reload(&self) -> Result<(), Failure> {
        let _lock = self.lock("", CHANGE_LOCK_PATIENCE)?;
        self.remember(self.read()?);
        Ok(())
    }

    /// Applies `change` to the newest contents of the file, writes them, and gives what `change`
    /// gave. When it returns, the change is on the disk.
    ///
    /// # Errors
    /// The file cannot be locked, read or written; it is then as it was.
    pub fn change<T>(&self, change: impl FnOnce(&mut Accounts) -> T) -> Result<T, Failure> {
        let _lock = self.lock("", CHANGE_LOCK_PATIENCE)?;
        let (mut accounts, _) = self.read()?;
        let given = change(&mut accounts);
        let stamp = self.write(&accounts)?;
        self.remember((accounts, Some(stamp)));
        Ok(given)
    }

    /// The lock that whoever refreshes the account of `user_id` holds, in any process.
    ///
    /// # Errors
    /// It cannot be had: another process has kept it too long, or the file system refuses.
    pub fn lock_refresh(&self, user_id: &str) -> Result<Lock, Failure> {
        let digest = Sha256::digest(user_id.as_bytes());
        let name: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        self.lock(&format!(".refresh-{name}"), REFRESH_LOCK_PATIENCE)
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, (accounts, stamp): (Accounts, Option<Stamp>)) {
        *self.memory() = Memory { accounts, stamp, checked: Instant::now() };
    }

    /// Reads the file again when another process has replaced it. What is in memory and `suffices`
    /// is believed for a moment, so that not every call asks the file system.
    fn recheck(&self, suffices: impl FnOnce(&Accounts) -> bool) -> Result<(), Failure> {
        let known = {
            let mut memory = self.memory();
            if memory.checked.elapsed() < RECHECK && suffices(&memory.accounts) {
                return Ok(());
            }
            memory.checked = Instant::now();
            memory.stamp.clone()
        };
        if self.metadata()?.as_ref().map(stamp) == known { Ok(()) } else { self.reload() }
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    }

    fn failure(&self, verb: &str, error: &io::Error) -> Failure {
        Failure::new(Kind::TokenCache, format!("Could not {verb} the token file {} ({error}).", self.path.display()))
            .hint("Check TOKEN_CACHE_FILE, its directory's permissions and the free space on the disk.")
    }

    /// The lock is on a file of its own: the token file is replaced, and a lock would go with it.
    fn lock(&self, suffix: &str, patience: Duration) -> Result<Lock, Failure> {
        let path = self.beside(&format!("{suffix}.lock"));
        let failure = |error: &io::Error| {
            Failure::new(Kind::TokenCache, format!("Could not lock {} ({error}).", path.display()))
                .hint("Check TOKEN_CACHE_FILE and its directory's permissions.")
        };
        let mut options = OpenOptions::new();
        let file = os::private(options.create(true).truncate(false).write(true))
            .open(&path)
            .map_err(|error| failure(&error))?;
        let deadline = Instant::now() + patience;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Lock(file)),
                Err(TryLockError::Error(error)) => return Err(failure(&error)),
                Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                    return Err(Failure::new(
                        Kind::TokenCache,
                        format!(
                            "Another process has kept {} locked for {} seconds.",
                            path.display(),
                            patience.as_secs()
                        ),
                    )
                    .hint("Find and end the process that holds it, then try again."));
                }
                Err(TryLockError::WouldBlock) => thread::sleep(LOCK_STEP),
            }
        }
    }

    /// What the file is, if it is there; a link or a directory in its place is refused, and a file
    /// that others may read is taken from them.
    fn metadata(&self) -> Result<Option<Metadata>, Failure> {
        let metadata = match fs::symlink_metadata(&self.path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.failure("read", &error)),
        };
        if !metadata.is_file() {
            return Err(Failure::new(
                Kind::TokenCache,
                format!("{} is not a regular file but a link, a directory or a device.", self.path.display()),
            )
            .hint("Set TOKEN_CACHE_FILE to the path of the file itself."));
        }
        if os::others_have_access(&metadata) {
            os::make_private(&self.path).map_err(|error| self.failure("protect", &error))?;
            log::warn!("{} could be read by others; its permissions were set to 0600", self.path.display());
        }
        Ok(Some(metadata))
    }

    /// Only under the lock: a file that cannot be understood is moved away.
    fn read(&self) -> Result<(Accounts, Option<Stamp>), Failure> {
        let Some(text) = self.read_text()? else {
            return Ok((Accounts::new(), None));
        };
        let stamp = self.metadata()?.as_ref().map(stamp);
        let contents = serde_json::from_slice::<Value>(&text).ok();
        match contents.as_ref().and_then(|contents| contents.get("version")).and_then(Value::as_u64) {
            Some(VERSION) => {}
            Some(version) if version > VERSION => {
                return Err(Failure::new(
                    Kind::TokenCache,
                    format!("{} is of version {version}; this program knows version {VERSION}.", self.path.display()),
                )
                .hint("Use the newer program, or set TOKEN_CACHE_FILE to another file."));
            }
            _ => return self.set_aside().map(|()| (Accounts::new(), None)),
        }
        match contents.as_ref().and_then(accounts_from_json) {
            Some(accounts) => Ok((accounts, stamp)),
            None => self.set_aside().map(|()| (Accounts::new(), None)),
        }
    }

    fn read_text(&self) -> Result<Option<Vec<u8>>, Failure> {
        if self.metadata()?.is_none() {
            return Ok(None);
        }
        let mut text = Vec::new();
        let read = File::open(&self.path).and_then(|file| file.take(MOST_FILE_BYTES).read_to_end(&mut text));
        match read {
            Ok(_) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failure("read", &error)),
        }
    }

    /// A file that cannot be understood is kept under another name, and never overwritten.
    fn set_aside(&self) -> Result<(), Failure> {
        let aside = self.beside(&format!(".corrupt-{}-{}", self.clock.now(), secret::random_base64url::<4>()?));
        fs::rename(&self.path, &aside).map_err(|error| self.failure("set aside", &error))?;
        log::error!(
            "{} could not be understood; it is kept as {}, and everybody has to sign in again",
            self.path.display(),
            aside.display()
        );
        Ok(())
    }

    fn write(&self, accounts: &Accounts) -> Result<Stamp, Failure> {
        let accounts: Map<String, Value> =
            accounts.iter().map(|(user_id, account)| (user_id.clone(), account_to_json(account))).collect();
        let text = format!("{:#}\n", json!({"version": VERSION, "accounts": accounts}));
        let temporary = self.beside(&format!(".tmp-{}", secret::random_base64url::<8>()?));
        let written = write_synced(&temporary, text.as_bytes()).and_then(|()| {
            fs::rename(&temporary, &self.path)?;
            os::sync_directory(
                self.path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")),
            )?;
            fs::symlink_metadata(&self.path)
        });
        match written {
            Ok(metadata) => Ok(stamp(&metadata)),
            Err(error) => {
                // It is gone if the rename went through; else it holds tokens that nobody needs.
                let _ = fs::remove_file(&temporary);
                Err(self.failure("write", &error))
            }
        }
    }

    /// The accounts of a file that the Python server wrote; `None` for any other file.
    fn python_accounts(&self, client_id: &str, requested_scope: &str) -> Result<Option<Accounts>, Failure> {
        let Some(text) = self.read_text()? else { return Ok(None) };
        let Ok(Value::Object(entries)) = serde_json::from_slice(&text) else { return Ok(None) };
        let is_python = !entries.is_empty()
            && entries.values().all(|entry| {
                entry.get("access_token").is_some_and(Value::is_string) && entry.get("timestamp").is_some()
            });
        if !is_python {
            return Ok(None);
        }
        let account = |entry: &Value| {
            let claim = |name: &str| {
                entry
                    .pointer(&format!("/id_token_claims/{name}"))
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned()
            };
            let (text, number) = (text_of(entry), number_of(entry));
            let issued = number("timestamp").unwrap_or_default();
            Arc::new(Account {
                client_id: client_id.to_owned(),
                tid: claim("tid"),
                oid: claim("oid"),
                username: claim("preferred_username"),
                name: claim("name"),
                requested_scope: requested_scope.to_owned(),
                granted_scope: text("scope"),
                access_token: Secret::new(text("access_token")),
                expires_at: issued.saturating_add(number("expires_in").unwrap_or_default()),
                refresh_at: None,
                refresh_token: Some(text("refresh_token")).filter(|token| !token.is_empty()).map(Secret::new),
                signed_in_at: issued,
            })
        };
        Ok(Some(entries.iter().map(|(user_id, entry)| (user_id.clone(), account(entry))).collect()))
    }
}

fn stamp(metadata: &Metadata) -> Stamp {
    Stamp(metadata.modified().ok(), metadata.len(), os::file_number(metadata))
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = os::private(options.create_new(true).write(true)).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn account_to_json(account: &Account) -> Value {
    let mut json = json!({
        "client_id": account.client_id,
        "tid": account.tid,
        "oid": account.oid,
        "username": account.username,
        "name": account.name,
        "requested_scope": account.requested_scope,
        "granted_scope": account.granted_scope,
        "access_token": account.access_token.expose(),
        "expires_at": account.expires_at,
        "signed_in_at": account.signed_in_at,
    });
    if let Some(members) = json.as_object_mut() {
        members.extend(account.refresh_at.map(|time| ("refresh_at".to_owned(), time.into())));
        members.extend(account.refresh_token.as_ref().map(|token| ("refresh_token".to_owned(), token.expose().into())));
    }
    json
}

/// `None` when it does not have the documented layout.
fn accounts_from_json(contents: &Value) -> Option<Accounts> {
    let entries = contents.get("accounts")?.as_object()?;
    entries.iter().map(|(user_id, entry)| Some((user_id.clone(), Arc::new(account_from_json(entry)?)))).collect()
}

fn account_from_json(entry: &Value) -> Option<Account> {
    let text = text_of(entry);
    let secret = |name| entry.get(name).and_then(Value::as_str).map(|token| Secret::new(token.to_owned()));
    Some(Account {
        client_id: text("client_id"),
        tid: text("tid"),
        oid: text("oid"),
        username: text("username"),
        name: text("name"),
        requested_scope: text("requested_scope"),
        granted_scope: text("granted_scope"),
        access_token: secret("access_token")?,
        expires_at: entry.get("expires_at")?.as_u64()?,
        refresh_at: entry.get("refresh_at").and_then(Value::as_u64),
        refresh_token: secret("refresh_token"),
        signed_in_at: entry.get("signed_in_at").and_then(Value::as_u64).unwrap_or_default(),
    })
}

fn text_of(entry: &Value) -> impl Fn(&str) -> String {
    move |name| entry.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Whole seconds; Python writes times as floats.
fn number_of(entry: &Value) -> impl Fn(&str) -> Option<u64> {
    move |name| {
        let value = entry.get(name)?;
        // A negative or absurd number becomes 0 or the largest one, which is what it means here.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        value.as_u64().or_else(|| value.as_f64().map(|seconds| seconds as u64))
    }
}
