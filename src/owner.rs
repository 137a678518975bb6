//! Who owns the token file. One process at a time: a server, or a `login` or `logout` while no
//! server runs.
//!
//! The owner holds a lock on `<token file>.lock` for as long as it lives; the operating system
//! frees it when the process ends, however it ends. Version 0.1.0 takes the same lock for each
//! change, so it cannot change the file of an owner. The lock file is never removed: a lock on a
//! removed file excludes nobody.
//!
//! `<token file>.owner` says who the owner is and at which origin it can be spoken to. The verbs
//! send the access key there, so this file is trusted only if it is a private file of this user and
//! its writer still lives: the owner holds a second lock, on the file itself. A file that a killed
//! process has left behind is not locked.
//!
//! Linux and macOS have advisory locks (`flock`). Locks of Windows are mandatory: what is locked
//! exclusively cannot be read by others. Hence the information has a file of its own, which is
//! locked in shared mode there.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::error::{Failure, Kind};
use crate::os;
use crate::secret;
use crate::sync::locked;

/// How long a new owner waits for the previous one to end, which may be stopping at the moment.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// How often the lock is tried meanwhile.
const STEP: Duration = Duration::from_millis(20);
/// No owner file is longer.
const MOST_OWNER_BYTES: u64 = 4096;

/// What an owner does, for the message that a second one gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// It serves. A `login` without a running server does, too.
    Server,
    /// It waits until somebody has used a device code.
    DeviceCode,
}

impl Purpose {
    fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::DeviceCode => "device_code",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Server, Self::DeviceCode]
            .into_iter()
            .find(|purpose| purpose.name() == name)
    }
}

/// What the owner file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerInfo {
    /// The owner's process.
    pub pid: u32,
    /// Where it can be spoken to. A server that is starting or stopping has none, nor has a
    /// device-code sign-in.
    pub origin: Option<String>,
    /// What it does.
    pub purpose: Purpose,
}

impl OwnerInfo {
    fn parse(text: &str) -> Option<Self> {
        let json: Value = serde_json::from_str(text).ok()?;
        let pid = json.get("pid")?.as_u64()?;
        let purpose = json.get("purpose")?.as_str()?;
        let origin = json.get("origin").and_then(Value::as_str);
        Some(Self {
            pid: u32::try_from(pid).ok()?,
            origin: origin.map(str::to_owned),
            purpose: Purpose::from_name(purpose)?,
        })
    }

    /// Why nobody else can own `token_file` now.
    pub fn refusal(&self, token_file: &Path) -> Failure {
        let path = token_file.display();
        let pid = self.pid;
        let owner = match (self.purpose, &self.origin) {
            (Purpose::Server, Some(origin)) => format!("a server at {origin} (process {pid})"),
            (Purpose::Server, None) => {
                format!("a server that is starting or stopping (process {pid})")
            }
            (Purpose::DeviceCode, _) => format!(
                "entra-auth-mcp login --device-code (process {pid}), which waits up to 15 minutes for its code"
            ),
        };
        let hint = match self.purpose {
            Purpose::Server => {
                "Stop that server first. To run both, give each server a TOKEN_CACHE_FILE of its own."
            }
            Purpose::DeviceCode => {
                "Finish that sign-in or stop it (Ctrl-C), then try again. Each server needs a TOKEN_CACHE_FILE of \
                 its own."
            }
        };
        Failure::new(
            Kind::TokenCache,
            format!("The token file {path} is in use by {owner}."),
        )
        .hint(hint)
    }
}

/// The right to read and change a token file. It ends when this is dropped.
pub struct Owner {
    token_file: PathBuf,
    purpose: Purpose,
    /// The owner file as written last, locked. `None` if it could not be written.
    info: Mutex<Option<File>>,
    lock: File,
}

impl Owner {
    /// Takes the lock of `token_file`, and waits at most `patience` for another process to free it.
    ///
    /// # Errors
    /// Another process keeps it; the file system refuses; something that is no regular file is in
    /// the way; or the token file could never be replaced.
    pub fn acquire(
        token_file: &Path,
        purpose: Purpose,
        patience: Duration,
    ) -> Result<Self, Failure> {
        if os::is_mount_point(token_file) {
            return Err(mounted(token_file));
        }
        let lock_path = beside(token_file, ".lock");
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true);
        let lock = open_regular(os::private(&mut options), &lock_path)?;
        let deadline = Instant::now() + patience;
        while !try_lock(&lock, &lock_path)? {
            if Instant::now() >= deadline {
                return Err(match current_info(token_file)? {
                    Some(info) => info.refusal(token_file),
                    None => unknown_owner(token_file),
                });
            }
            thread::sleep(STEP);
        }
        let owner = Self {
            token_file: token_file.to_owned(),
            purpose,
            info: Mutex::new(None),
            lock,
        };
        owner.write(None);
        Ok(owner)
    }

    /// Says at which origin the owner can be spoken to.
    pub fn announce(&self, origin: &str) {
        self.write(Some(origin));
    }

    /// Says that the owner cannot be spoken to any more, because it is about to end.
    pub fn retire(&self) {
        self.write(None);
    }

    /// Writes the owner file. That a full disk does not take it is no reason not to serve.
    fn write(&self, origin: Option<&str>) {
        let mut info = locked(&self.info);
        // Windows does not always replace a file that is open.
        *info = None;
        match write_info(&self.token_file, self.purpose, origin) {
            Ok(file) => *info = Some(file),
            Err(failure) => log::warn!(
                "login and logout cannot find this process while it runs: {}",
                failure.text()
            ),
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // An owner file that stays is not locked any more, so nobody trusts it.
        let _ = fs::remove_file(beside(&self.token_file, ".owner"));
        // Closing the file alone would leave the lock to a child process that is just being
        // started.
        if let Some(info) = locked(&self.info).take() {
            let _ = info.unlock();
        }
        let _ = self.lock.unlock();
    }
}

/// Who owns `token_file` now; `None` when nobody does.
///
/// # Errors
/// Somebody owns it and does not say who it is; the lock file cannot be read, or is no regular
/// file.
pub fn current(token_file: &Path) -> Result<Option<OwnerInfo>, Failure> {
    let lock_path = beside(token_file, ".lock");
    match fs::symlink_metadata(&lock_path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        _ => {}
    }
    let lock = open_regular(OpenOptions::new().read(true), &lock_path)?;
    // Shared, so that two who look at the same time do not take each other for the owner.
    match lock.try_lock_shared() {
        Ok(()) => {
            let _ = lock.unlock();
            Ok(None)
        }
        Err(TryLockError::WouldBlock) => match current_info(token_file)? {
            Some(info) => Ok(Some(info)),
            None => Err(unknown_owner(token_file)),
        },
        Err(TryLockError::Error(error)) => Err(failure("lock", &lock_path, &error)),
    }
}

/// Blocks until nobody owns `token_file`.
///
/// # Errors
/// The lock file cannot be read, or is no regular file.
pub fn wait_for_end(token_file: &Path) -> Result<(), Failure> {
    let lock_path = beside(token_file, ".lock");
    let lock = open_regular(OpenOptions::new().read(true), &lock_path)?;
    // Shared, so that all who wait go on.
    lock.lock_shared()
        .map_err(|error| failure("lock", &lock_path, &error))?;
    let _ = lock.unlock();
    Ok(())
}

/// What the owner file says; `None` when there is none, or none that can be trusted.
fn current_info(token_file: &Path) -> Result<Option<OwnerInfo>, Failure> {
    let path = beside(token_file, ".owner");
    let mut options = OpenOptions::new();
    let opened = os::without_following(options.read(true).write(true)).open(&path);
    // Whatever else is in its place says nothing.
    let Ok(file) = opened else {
        return Ok(None);
    };
    let metadata = file
        .metadata()
        .map_err(|error| failure("read", &path, &error))?;
    if !metadata.is_file() || os::others_have_access(&metadata) || !os::is_own(&metadata) {
        return Ok(None);
    }
    if !os::is_held(&file).map_err(|error| failure("lock", &path, &error))? {
        return Ok(None);
    }
    let mut text = String::new();
    let read = file.take(MOST_OWNER_BYTES).read_to_string(&mut text);
    read.map_err(|error| failure("read", &path, &error))?;
    Ok(OwnerInfo::parse(&text))
}

/// Puts a new owner file in place, and gives it, locked.
fn write_info(token_file: &Path, purpose: Purpose, origin: Option<&str>) -> Result<File, Failure> {
    let path = beside(token_file, ".owner");
    let suffix = secret::random_base64url::<4>()?;
    let aside = beside(token_file, &format!(".owner-{suffix}"));
    // Over an old file, a rename may wait for the disk (ext4). What stands there is the owner's, or
    // of nobody who lives.
    let _ = fs::remove_file(&path);
    let info = json!({ "pid": process::id(), "origin": origin, "purpose": purpose.name() });
    write_locked(&aside, &path, &info.to_string()).map_err(|error| {
        let _ = fs::remove_file(&aside);
        failure("write", &path, &error)
    })
}

/// Writes a new file `aside`, locks it and moves it to `path`, so that nobody ever sees it
/// unlocked.
fn write_locked(aside: &Path, path: &Path, text: &str) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create_new(true).read(true).write(true);
    let mut file = os::private(&mut options).open(aside)?;
    file.write_all(text.as_bytes())?;
    os::hold(&file)?;
    fs::rename(aside, path)?;
    Ok(file)
}

/// Opens `path` without following a link and without waiting for the other end of a pipe.
fn open_regular(options: &mut OpenOptions, path: &Path) -> Result<File, Failure> {
    let opened = os::without_following(options).open(path);
    // A link or a directory cannot be opened so, and the error of the system does not say why.
    let is_other = match fs::symlink_metadata(path) {
        Ok(metadata) => !metadata.is_file(),
        Err(_) => false,
    };
    if is_other {
        let message = format!(
            "{} is not a regular file but a link, a directory, a pipe or a device.",
            path.display()
        );
        return Err(Failure::new(Kind::TokenCache, message)
            .hint("Remove it, or set TOKEN_CACHE_FILE to another path."));
    }
    opened.map_err(|error| failure("lock", path, &error))
}

fn try_lock(file: &File, path: &Path) -> Result<bool, Failure> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(failure("lock", path, &error)),
    }
}

fn beside(token_file: &Path, suffix: &str) -> PathBuf {
    let mut name = token_file.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn failure(verb: &str, path: &Path, error: &io::Error) -> Failure {
    let message = format!("Could not {verb} {} ({error}).", path.display());
    Failure::new(Kind::TokenCache, message)
        .hint("Check TOKEN_CACHE_FILE, its directory's permissions and the free space on the disk.")
}

fn mounted(token_file: &Path) -> Failure {
    let message = format!(
        "The token file {} is mounted as a single file. It cannot be replaced, so no sign-in could be kept.",
        token_file.display()
    );
    Failure::new(Kind::TokenCache, message).hint("Mount its directory instead of the file.")
}

fn unknown_owner(token_file: &Path) -> Failure {
    let lock = beside(token_file, ".lock");
    let lock = lock.display();
    let metadata = fs::symlink_metadata(beside(token_file, ".owner"));
    if metadata.is_ok_and(|metadata| !os::is_own(&metadata)) {
        let message = format!("A process of another user has locked {lock}.");
        return Failure::new(Kind::TokenCache, message).hint("Run this as that user.");
    }
    let message = format!(
        "Another process has locked {lock} and does not say which one it is: it is just starting, or it is version 0.1.0."
    );
    Failure::new(Kind::TokenCache, message).hint(
        "Try again. If it persists, find and stop that process, or give each server a TOKEN_CACHE_FILE of its own.",
    )
}
