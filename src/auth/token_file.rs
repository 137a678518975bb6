//! The token file: one JSON object, replaced as a whole, never written in place.
//!
//! ```json
//! { "version": 1,
//!   "accounts": {
//!     "<user_id>": {
//!       "client_id": "…", "tid": "…", "oid": "…", "username": "…", "name": "…",
//!       "requested_scope": "…", "extra_scope": "…", "granted_scope": "…",
//!       "access_token": "…", "expires_at": 1785240000, "refresh_at": 1785238000,
//!       "refresh_token": "…", "signed_in_at": 1785236400 } } }
//! ```
//!
//! Times are seconds since 1970. `refresh_at` and `refresh_token` may be `null`, `extra_scope` absent. Every change is made
//! under a lock file, to the newest contents of the token file, and is on the disk before anybody
//! hears of it; so processes can share the file and nothing that was acknowledged is lost.
//!
//! While the file cannot be read or written, what is in memory serves; every call tries once more. Then
//! nobody is signed in or out, and nothing is refreshed whose lock cannot be had. Only what Entra has
//! rotated already is kept in memory alone, under the lock of its account, until it can be written.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::clock::Clock;
use crate::error::{Failure, Kind};
use crate::os;
use crate::secret::{self, Secret, SecretJson};
use crate::sync::locked;

/// The version of the layout above.
const VERSION: u64 = 1;
/// Nobody's tokens are that many.
const MOST_FILE_BYTES: u64 = 64 * 1024 * 1024;
/// By so much one change lengthens the file at most, as a rule.
const MOST_GROWTH: usize = 32 * 1024;
/// How long another process may take over a change of the file.
const CHANGE_PATIENCE: Duration = Duration::from_secs(10);
/// How long another process may take over a refresh, network included.
const REFRESH_PATIENCE: Duration = Duration::from_secs(45);
const LOCK_STEP: Duration = Duration::from_millis(20);
/// A lock that was waited for in vain is left alone for so long.
const LOCK_PAUSE: Duration = Duration::from_secs(5);

/// A signed-in account.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// The application that the tokens belong to.
    pub client_id: String,
    /// Tenant and object id: who it is. Empty for an account taken over from a file without them.
    pub tid: String,
    /// See `tid`.
    pub oid: String,
    /// The sign-in name, for display.
    pub username: String,
    /// The person's name, for display.
    pub name: String,
    /// What was requested, and is again on refresh.
    pub requested_scope: String,
    /// What of it goes beyond the configured scopes, because the backend wanted it.
    pub extra_scope: String,
    /// What was granted, for display.
    pub granted_scope: String,
    /// For the backend.
    pub access_token: Secret,
    /// Of the access token; seconds since 1970, as are the times below.
    pub expires_at: u64,
    /// When Entra would like to see a refresh.
    pub refresh_at: Option<u64>,
    /// Absent once Entra has refused it.
    pub refresh_token: Option<Secret>,
    /// When the person signed in.
    pub signed_in_at: u64,
}

/// The accounts by `user_id`.
pub type Accounts = BTreeMap<String, Arc<Account>>;

/// Whoever holds it is the one who refreshes an account, in this process and all others.
pub type RefreshLock = Arc<File>;

/// What tells one state of the file from the next; `None` when there is no file.
type Stamp = Option<(Option<SystemTime>, u64, u64)>;

#[derive(Default)]
struct Memory {
    /// Those of the file, with what is unwritten in its place.
    accounts: Accounts,
    /// Of the file that `accounts` was read from.
    stamp: Stamp,
    unwritten: BTreeMap<String, Arc<Unwritten>>,
    /// Why the file could not be read or written, as long as it cannot.
    trouble: Option<Failure>,
}

/// An account that was refreshed, and the file does not know it yet.
struct Unwritten {
    account: Arc<Account>,
    /// What the file has for its refresh token. Others must not send it, so the account stays locked.
    spent: Secret,
    lock: RefreshLock,
}

impl Memory {
    fn take(&mut self, mut accounts: Accounts, stamp: Stamp) {
        let put = |user_id: &String, unwritten: &mut Arc<Unwritten>| {
            replace(&mut accounts, user_id, &unwritten.spent, &unwritten.account)
        };
        self.unwritten.retain(put);
        (self.accounts, self.stamp) = (accounts, stamp);
    }
}

/// The token file and what is known of its contents.
pub struct TokenCache {
    path: PathBuf,
    clock: Clock,
    memory: Mutex<Memory>,
}

impl TokenCache {
    /// Opens the file at `path`; it need not exist. `client_id` and `requested_scope` are for accounts
    /// from a file of the Python server, which did not keep them.
    ///
    /// # Errors
    /// A file that is no regular file, is of a newer version, or cannot be read; a directory that
    /// cannot be written.
    pub fn open(
        path: &Path,
        clock: Clock,
        client_id: &str,
        requested_scope: &str,
    ) -> Result<Self, Failure> {
        let cache = Self::unread(path, clock);
        let _lock = cache.lock("", CHANGE_PATIENCE)?;
        let (text, _) = cache.contents()?;
        if let Some(accounts) = python(&text, client_id, requested_scope) {
            let kept = cache.aside("python")?;
            write_synced(&kept, &text).map_err(|error| cache.failure("copy", &error))?;
            cache.write(&accounts)?;
            let (path, kept) = (path.display(), kept.display());
            log::info!(
                "{path} was converted from the Python server's; the old file is kept as {kept}"
            );
        }
        let (accounts, stamp) = cache.read(Self::set_aside)?;
        locked(&cache.memory).take(accounts, stamp);
        Ok(cache)
    }

    fn unread(path: &Path, clock: Clock) -> Self {
        Self {
            path: path.to_owned(),
            clock,
            memory: Mutex::default(),
        }
    }

    /// The accounts of the file at `path`, the Python server's too, which is left as it is: nothing is converted,
    /// protected or set aside. It is replaced as a whole, so no lock is needed. Whether its directory takes files,
    /// an empty one shows, which is removed again.
    ///
    /// # Errors
    /// As [`TokenCache::open`]; also where the file cannot be understood.
    pub fn look(path: &Path, clock: Clock) -> Result<Accounts, Failure> {
        let cache = Self::unread(path, clock);
        let mut accounts = Some(Accounts::new());
        if cache.metadata()?.is_some() {
            let text = cache.text()?;
            accounts = python(&text, "", "")
                .map_or_else(|| cache.understand(&text), |found| Ok(Some(found)))?;
        }
        if accounts.is_none() {
            cache.refuse()?;
        }
        let accounts = accounts.unwrap_or_default();
        let probe = cache.aside("probe")?;
        let tried = write_synced(&probe, b"").and_then(|()| fs::remove_file(&probe));
        tried
            .map(|()| accounts)
            .map_err(|error| cache.failure("make a file beside", &error))
    }

    /// The account of `user_id`.
    pub fn get(&self, user_id: &str) -> Option<Arc<Account>> {
        self.recheck();
        locked(&self.memory).accounts.get(user_id).cloned()
    }

    /// Every account.
    pub fn all(&self) -> Accounts {
        self.recheck();
        locked(&self.memory).accounts.clone()
    }

    /// Why the file cannot be read or written, where that is so: then what is in memory serves.
    pub fn trouble(&self) -> Option<Failure> {
        self.recheck();
        locked(&self.memory).trouble.clone()
    }

    /// Writes what is unwritten, if anything is, for which a lock is waited for.
    ///
    /// # Errors
    /// As [`TokenCache::change`].
    pub fn write_unwritten(&self) -> Result<(), Failure> {
        let is_due = !locked(&self.memory).unwritten.is_empty();
        if is_due { self.change(|_| ()) } else { Ok(()) }
    }

    /// Reads the file now, whatever is in memory.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn reload(&self) -> Result<(), Failure> {
        let read = |_lock| {
            self.read(Self::set_aside)
                .map(|(accounts, stamp)| locked(&self.memory).take(accounts, stamp))
        };
        self.noted(self.lock("", CHANGE_PATIENCE).and_then(read))
    }

    /// Applies `change` to the newest contents of the file, writes them, and gives what `change`
    /// gave. When it returns, the change is on the disk.
    ///
    /// # Errors
    /// The file cannot be locked, read or written. It is then as it was, unless all that failed was to
    /// sync its directory.
    pub fn change<T>(&self, change: impl FnOnce(&mut Accounts) -> T) -> Result<T, Failure> {
        let lock = self.lock("", CHANGE_PATIENCE);
        self.noted(lock.and_then(|_lock| self.rewrite(change)))
    }

    /// Puts `new` in the place of the account of `user_id` whose refresh token was `spent` for it; in memory
    /// alone, with `lock`, where it cannot be written. `false` when that account was signed out, or in anew,
    /// meanwhile: that counts.
    pub fn rotate(
        &self,
        lock: RefreshLock,
        user_id: &str,
        spent: &Secret,
        new: &Arc<Account>,
    ) -> bool {
        self.change(|accounts| replace(accounts, user_id, spent, new))
            .unwrap_or_else(|_| {
                let mut memory = locked(&self.memory);
                let is_current = replace(&mut memory.accounts, user_id, spent, new);
                if is_current {
                    let spent = memory
                        .unwritten
                        .get(user_id)
                        .map_or(spent, |before| &before.spent)
                        .clone();
                    let unwritten = Unwritten {
                        account: Arc::clone(new),
                        spent,
                        lock,
                    };
                    memory
                        .unwritten
                        .insert(user_id.to_owned(), Arc::new(unwritten));
                }
                is_current
            })
    }

    /// The lock of the account of `user_id`. Who `is_patient` waits while another process refreshes it.
    ///
    /// # Errors
    /// It cannot be had: another process keeps it, or the file system refuses.
    pub fn lock_refresh(&self, user_id: &str, is_patient: bool) -> Result<RefreshLock, Failure> {
        if let Some(unwritten) = locked(&self.memory).unwritten.get(user_id) {
            return Ok(Arc::clone(&unwritten.lock));
        }
        let digest = Sha256::digest(user_id.as_bytes());
        let number = digest
            .first_chunk()
            .map_or(0, |first| u64::from_be_bytes(*first));
        let suffix = format!(".refresh-{number:016x}");
        let patience = if is_patient {
            REFRESH_PATIENCE
        } else {
            Duration::ZERO
        };
        // That it is another's turn is no trouble.
        let lock = self.noted(self.try_lock(&suffix))?;
        lock.map_or_else(|| self.lock(&suffix, patience), Ok)
            .map(Arc::new)
    }

    /// Takes note of trouble, to be told of, and logs the first of it.
    fn noted<T>(&self, result: Result<T, Failure>) -> Result<T, Failure> {
        result.inspect_err(|failure| {
            let mut memory = locked(&self.memory);
            if memory.trouble.replace(failure.clone()).is_none() {
                log::error!("what is in memory serves from now on: {}", failure.text());
            }
        })
    }

    /// Reads the file again when another process has replaced it or there was trouble, and then tries to
    /// write it, too. No lock is waited for.
    fn recheck(&self) {
        let stamp = self.stamp();
        let memory = locked(&self.memory);
        let is_sound = memory.trouble.is_none() && memory.unwritten.is_empty();
        if is_sound && stamp.as_ref().is_ok_and(|stamp| *stamp == memory.stamp) {
            return;
        }
        drop(memory);
        let read = stamp.and_then(|_| {
            // Locked before it is read, so that nothing older replaces it.
            let mut memory = locked(&self.memory);
            self.read(Self::refuse)
                .map(|(accounts, stamp)| memory.take(accounts, stamp))
        });
        if self.noted(read).is_ok() && !is_sound {
            let mended = self
                .try_lock("")
                .and_then(|lock| lock.map(|_| self.rewrite(|_| ())).transpose());
            let _ = self.noted(mended);
        }
    }

    fn directory(&self) -> &Path {
        self.path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or(Path::new("."))
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    }

    /// A name beside the file that nothing has yet.
    fn aside(&self, reason: &str) -> Result<PathBuf, Failure> {
        let (now, random) = (self.clock.now(), secret::random_base64url::<4>()?);
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

    /// The lock is on a file of its own: the token file is replaced, and a lock would go with it.
    fn lock(&self, suffix: &str, patience: Duration) -> Result<File, Failure> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(lock) = self.try_lock(suffix)? {
                return Ok(lock);
            }
            if Instant::now() >= deadline {
                break;
            }
            thread::sleep(LOCK_STEP);
        }
        let (path, seconds) = (self.beside(suffix), patience.as_secs());
        let message = format!(
            "Another process has kept {}.lock locked for {seconds} seconds.",
            path.display()
        );
        let failure = Failure::new(Kind::TokenCache, message).retry_after(patience.min(LOCK_PAUSE));
        Err(failure.hint("Find and end the process that holds it, then try again."))
    }

    /// `None` when somebody else has it.
    fn try_lock(&self, suffix: &str) -> Result<Option<File>, Failure> {
        // `.lock` itself is the owner's.
        let suffix = if suffix.is_empty() { ".change" } else { suffix };
        let path = self.beside(&format!("{suffix}.lock"));
        let mut options = OpenOptions::new();
        let opened = os::private(options.create(true).truncate(false).write(true)).open(&path);
        let file = opened.map_err(|error| self.failure("lock", &error))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(self.failure("lock", &error)),
        }
    }

    /// Of the file, none when there is none. A link or a directory in its place is refused.
    fn metadata(&self) -> Result<Option<Metadata>, Failure> {
        match fs::symlink_metadata(&self.path) {
            Ok(metadata) if metadata.is_file() => Ok(Some(metadata)),
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
                Ok(None)
            }
            Err(error) => Err(self.failure("read", &error)),
        }
    }

    /// The state of the file. One that others may read is taken from them.
    fn stamp(&self) -> Result<Stamp, Failure> {
        let Some(metadata) = self.metadata()? else {
            return Ok(None);
        };
        if os::others_have_access(&metadata) {
            os::make_private(&self.path).map_err(|error| self.failure("protect", &error))?;
            log::warn!(
                "{} could be read by others; its permissions were set to 0600",
                self.path.display()
            );
        }
        Ok(Some((
            metadata.modified().ok(),
            metadata.len(),
            os::file_number(&metadata),
        )))
    }

    /// The text of the file, none when there is no file.
    fn contents(&self) -> Result<(Zeroizing<Vec<u8>>, Stamp), Failure> {
        let stamp = self.stamp()?;
        let text = if stamp.is_some() {
            self.text()?
        } else {
            Zeroizing::default()
        };
        Ok((text, stamp))
    }

    fn text(&self) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let mut text = Zeroizing::new(Vec::new());
        let read = File::open(&self.path).and_then(|file| {
            // A buffer that grows leaves tokens behind that nobody wipes.
            text.reserve(
                usize::try_from(file.metadata()?.len().min(MOST_FILE_BYTES)).unwrap_or_default(),
            );
            file.take(MOST_FILE_BYTES).read_to_end(&mut text)
        });
        read.map(|_| text)
            .map_err(|error| self.failure("read", &error))
    }

    /// The accounts of the file, none when there is no file. `if_foreign` is for one that cannot be understood.
    fn read(
        &self,
        if_foreign: fn(&Self) -> Result<(), Failure>,
    ) -> Result<(Accounts, Stamp), Failure> {
        let (text, stamp) = self.contents()?;
        if stamp.is_none() {
            return Ok((Accounts::new(), None));
        }
        match self.understand(&text)? {
            Some(accounts) => Ok((accounts, stamp)),
            None => if_foreign(self).map(|()| (Accounts::new(), None)),
        }
    }

    /// The accounts in `text`; `None` when it does not have the documented layout.
    fn understand(&self, text: &[u8]) -> Result<Option<Accounts>, Failure> {
        let json = SecretJson(serde_json::from_slice(text).unwrap_or_default());
        let version = json
            .get("version")
            .and_then(Value::as_u64)
            .unwrap_or_default();
        if version > VERSION {
            let path = self.path.display();
            let message =
                format!("{path} is of version {version}; this program knows version {VERSION}.");
            return Err(Failure::new(Kind::TokenCache, message)
                .hint("Use the newer program, or set TOKEN_CACHE_FILE to another file."));
        }
        Ok(documented(&json).filter(|_| version == VERSION))
    }

    fn refuse(&self) -> Result<(), Failure> {
        Err(Failure::new(Kind::TokenCache, format!("{} cannot be understood.", self.path.display()))
            .hint("Restore it from a copy; else the next start or change sets it aside, and everybody signs in again."))
    }

    /// Only under the lock: a file that cannot be understood is kept under another name, and never overwritten.
    fn set_aside(&self) -> Result<(), Failure> {
        let aside = self.aside("corrupt")?;
        fs::rename(&self.path, &aside).map_err(|error| self.failure("set aside", &error))?;
        let (path, aside) = (self.path.display(), aside.display());
        log::error!(
            "{path} could not be understood; it is kept as {aside}, and everybody has to sign in again"
        );
        Ok(())
    }

    /// Only under the lock: writes what `change` makes of the accounts, and what is unwritten. Unless more has come
    /// meanwhile, there is no more trouble then.
    fn rewrite<T>(&self, change: impl FnOnce(&mut Accounts) -> T) -> Result<T, Failure> {
        let (mut accounts, _) = self.read(Self::set_aside)?;
        let late = locked(&self.memory).unwritten.clone();
        for (user_id, unwritten) in &late {
            replace(&mut accounts, user_id, &unwritten.spent, &unwritten.account);
        }
        let given = change(&mut accounts);
        let stamp = self.write(&accounts)?;
        let mut memory = locked(&self.memory);
        memory.unwritten.retain(|user_id, other| {
            late.get(user_id)
                .is_none_or(|late| !Arc::ptr_eq(late, other))
        });
        for (user_id, newer) in &mut memory.unwritten {
            // The file has what was late, and no longer what that had been due for.
            if let Some(written) = late
                .get(user_id)
                .and_then(|late| late.account.refresh_token.clone())
            {
                let Unwritten { account, lock, .. } = newer.as_ref();
                *newer = Arc::new(Unwritten {
                    account: Arc::clone(account),
                    spent: written,
                    lock: Arc::clone(lock),
                });
            }
        }
        memory.take(accounts, stamp);
        // What has come too late for this change is still due.
        if memory.unwritten.is_empty() && memory.trouble.take().is_some() {
            log::info!("{} can be written again", self.path.display());
        }
        Ok(given)
    }

    fn write(&self, accounts: &Accounts) -> Result<Stamp, Failure> {
        // Moved and never copied, so that all of it is wiped.
        let accounts = accounts
            .iter()
            .map(|(user_id, account)| (user_id.clone(), to_json(account)))
            .collect();
        let json = SecretJson(Value::from_iter([
            ("version", VERSION.into()),
            ("accounts", Value::Object(accounts)),
        ]));
        let known = locked(&self.memory).stamp.map_or(0, |(_, length, _)| {
            usize::try_from(length).unwrap_or_default()
        });
        let mut text = Zeroizing::new(String::with_capacity(known + MOST_GROWTH));
        // To memory it cannot fail.
        let _ = writeln!(text, "{:#}", *json);
        // Under the lock it is nobody else's: what is there, a crash has left.
        let temporary = self.beside(".tmp");
        let _ = fs::remove_file(&temporary);
        let replaced = write_synced(&temporary, text.as_bytes())
            .and_then(|()| fs::rename(&temporary, &self.path));
        if let Err(error) = replaced {
            // It holds tokens that nobody needs.
            let _ = fs::remove_file(&temporary);
            return Err(self.failure("write", &error));
        }
        os::sync_directory(self.directory()).map_err(|error| self.failure("write", &error))?;
        self.stamp()
    }
}

/// Puts `new` in place of the account that the refresh token `spent` was read from; not when that was
/// meanwhile signed out, or its refresh token replaced.
fn replace(accounts: &mut Accounts, user_id: &str, spent: &Secret, new: &Arc<Account>) -> bool {
    let is_same = |current: &Secret| current.matches(spent.expose());
    let current = accounts
        .get_mut(user_id)
        .filter(|current| current.refresh_token.as_ref().is_some_and(is_same));
    current.map(|current| *current = Arc::clone(new)).is_some()
}

fn write_synced(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = os::private(options.create_new(true).write(true)).open(path)?;
    file.write_all(text)?;
    file.sync_all()
}

fn to_json(account: &Account) -> Value {
    json!({
        "client_id": account.client_id,
        "tid": account.tid,
        "oid": account.oid,
        "username": account.username,
        "name": account.name,
        "requested_scope": account.requested_scope,
        "extra_scope": account.extra_scope,
        "granted_scope": account.granted_scope,
        "access_token": account.access_token.expose(),
        "expires_at": account.expires_at,
        "refresh_at": account.refresh_at,
        "refresh_token": account.refresh_token.as_ref().map(Secret::expose),
        "signed_in_at": account.signed_in_at,
    })
}

/// `None` when it does not have the documented layout.
fn documented(json: &Value) -> Option<Accounts> {
    collected(json.get("accounts")?, |entry| {
        entry.get("access_token")?.as_str()?;
        Some(Account {
            expires_at: entry.get("expires_at")?.as_u64()?,
            ..from_json(entry)
        })
    })
}

/// The accounts of a file that the Python server wrote, which has them at its top and times as floats;
/// `None` for any other file.
fn python(text: &[u8], client_id: &str, requested_scope: &str) -> Option<Accounts> {
    collected(&SecretJson(serde_json::from_slice(text).ok()?), |entry| {
        // A negative or absurd time becomes 0 or the largest one, which is what it means here.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let seconds = |name: &str| Some(entry.get(name)?.as_f64()? as u64);
        let timestamp = seconds("timestamp")?;
        entry.get("access_token")?;
        Some(Account {
            client_id: client_id.to_owned(),
            tid: text_at(entry, "/id_token_claims/tid"),
            oid: text_at(entry, "/id_token_claims/oid"),
            username: text_at(entry, "/id_token_claims/preferred_username"),
            name: text_at(entry, "/id_token_claims/name"),
            requested_scope: requested_scope.to_owned(),
            granted_scope: text_at(entry, "/scope"),
            expires_at: timestamp.saturating_add(seconds("expires_in").unwrap_or_default()),
            signed_in_at: timestamp,
            ..from_json(entry)
        })
    })
}

/// The object `entries` as accounts; `None` when `account` finds that one of them is none.
fn collected(entries: &Value, account: impl Fn(&Value) -> Option<Account>) -> Option<Accounts> {
    entries
        .as_object()?
        .iter()
        .map(|(user_id, entry)| Some((user_id.clone(), Arc::new(account(entry)?))))
        .collect()
}

/// What stands in `entry` under the names of our layout.
fn from_json(entry: &Value) -> Account {
    let time = |name: &str| entry.get(name).and_then(Value::as_u64);
    Account {
        client_id: text_at(entry, "/client_id"),
        tid: text_at(entry, "/tid"),
        oid: text_at(entry, "/oid"),
        username: text_at(entry, "/username"),
        name: text_at(entry, "/name"),
        requested_scope: text_at(entry, "/requested_scope"),
        extra_scope: text_at(entry, "/extra_scope"),
        granted_scope: text_at(entry, "/granted_scope"),
        access_token: Secret::new(text_at(entry, "/access_token")),
        expires_at: time("expires_at").unwrap_or_default(),
        refresh_at: time("refresh_at"),
        refresh_token: Some(text_at(entry, "/refresh_token"))
            .filter(|token| !token.is_empty())
            .map(Secret::new),
        signed_in_at: time("signed_in_at").unwrap_or_default(),
    }
}

fn text_at(json: &Value, pointer: &str) -> String {
    json.pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}
