//! What differs between operating systems: file protection, opening a browser, and being told to
//! stop. Where a system has no such thing as Unix's, files inherit the protection of the user's
//! profile directory.

use std::env;
use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

#[cfg(unix)]
use std::os::fd::AsFd as _;
#[cfg(unix)]
use std::os::unix::{
    ffi::OsStrExt as _,
    fs::{
        DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _,
        PermissionsExt as _,
    },
    process::CommandExt as _,
};

#[cfg(unix)]
use signal_hook::consts::SIGHUP;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::secret::ACCESS_KEY;

/// The given options, creating files that their owner alone may read and write.
pub fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    options.mode(0o600);
    options
}

/// Makes a directory that its owner alone may read and write.
///
/// # Errors
/// The operating system's; also where it exists.
#[cfg_attr(not(unix), allow(unused_mut))]
pub fn create_private_directory(path: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    builder.mode(0o700);
    builder.create(path)
}

/// Keeps the memory of this process, and of those that it starts, out of core dumps, where that
/// needs no `unsafe`: on Linux (core(5), "Controlling which mappings are written").
pub fn keep_memory_out_of_core_dumps() {
    // Elsewhere there is no such file.
    let filter = OpenOptions::new()
        .write(true)
        .open("/proc/self/coredump_filter");
    if let Ok(mut filter) = filter {
        let _ = filter.write_all(b"0");
    }
}

/// How many files, sockets among them, this process may have open at a time; `None` where the
/// system has no such limit, or does not tell without `unsafe`.
pub fn most_descriptors() -> Option<usize> {
    limit("Max open files")
}

/// How many bytes of address space this process may have; `None` as above.
pub fn most_address_space() -> Option<usize> {
    limit("Max address space")
}

fn limit(name: &str) -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The given options, refusing a link in the file's place, and not waiting for the other end of a
/// pipe.
pub fn without_following(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    options
}

/// Standard output as a file, past the buffer of `std`.
///
/// # Errors
/// The operating system's; also where it leads nowhere, as on Unix when the program was started
/// with it closed: then `std` opens /dev/null in its place.
pub fn standard_output() -> io::Result<File> {
    let out = io::stdout();
    #[cfg(unix)]
    {
        let file = File::from(out.as_fd().try_clone_to_owned()?);
        let null = std::fs::metadata("/dev/null")?;
        let metadata = file.metadata()?;
        if metadata.file_type().is_char_device() && metadata.rdev() == null.rdev() {
            return Err(io::Error::other("it is closed or leads to /dev/null"));
        }
        Ok(file)
    }
    #[cfg(not(unix))]
    Ok(File::from(
        std::os::windows::io::AsHandle::as_handle(&out).try_clone_to_owned()?,
    ))
}

/// Whether both are of the same file, as far as the system tells.
pub fn is_same_file(one: &Metadata, other: &Metadata) -> bool {
    #[cfg(unix)]
    return (one.dev(), one.ino()) == (other.dev(), other.ino());
    #[cfg(not(unix))]
    return one.file_type() == other.file_type() && one.created().ok() == other.created().ok();
}

/// Whether the file has hard links, which may stand anywhere.
#[cfg_attr(not(unix), allow(unused_variables))]
pub fn has_other_names(metadata: &Metadata) -> bool {
    #[cfg(unix)]
    return metadata.nlink() > 1;
    #[cfg(not(unix))]
    return false;
}

/// Locks `file` for as long as it is open, so that others can read it and see by [`is_held`] that
/// it is locked.
///
/// # Errors
/// The operating system's.
pub fn hold(file: &File) -> io::Result<()> {
    if cfg!(windows) {
        // What is locked exclusively cannot be read there.
        file.lock_shared()
    } else {
        file.lock()
    }
}

/// Whether somebody holds `file` by [`hold`]. Those who ask at the same time do not take each other
/// for its holder; but on Windows they may.
///
/// # Errors
/// The operating system's.
pub fn is_held(file: &File) -> io::Result<bool> {
    let tried = if cfg!(windows) {
        file.try_lock()
    } else {
        file.try_lock_shared()
    };
    match tried {
        Ok(()) => file.unlock().map(|()| false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Whether anybody but the owner may read or write the file.
#[cfg_attr(not(unix), allow(unused_variables))]
pub fn others_have_access(metadata: &Metadata) -> bool {
    #[cfg(unix)]
    return metadata.mode() & 0o077 != 0;
    #[cfg(not(unix))]
    return false;
}

/// Whether the file belongs to the user that this process runs as.
#[cfg_attr(not(unix), allow(unused_variables))]
pub fn is_own(metadata: &Metadata) -> bool {
    #[cfg(unix)]
    return effective_uid().is_ok_and(|this_user| metadata.uid() == this_user);
    #[cfg(not(unix))]
    return true;
}

/// Whether something is mounted at `path` itself: such a file cannot be replaced by a rename
/// (EBUSY). Container runtimes do that when a single file is mounted.
#[cfg_attr(not(unix), allow(unused_variables))]
pub fn is_mount_point(path: &Path) -> bool {
    #[cfg(unix)]
    return path.canonicalize().is_ok_and(|path| {
        if cfg!(target_os = "linux") {
            is_listed_mount(&path)
        } else {
            is_on_a_device_of_its_own(&path)
        }
    });
    #[cfg(not(unix))]
    return false;
}

#[cfg(unix)]
fn is_on_a_device_of_its_own(path: &Path) -> bool {
    let device = |path: &Path| Some(path.metadata().ok()?.dev());
    path.parent()
        .is_some_and(|directory| device(path) != device(directory))
}

/// Linux lists all mounts (proc_pid_mountinfo(5)). The device would not do: what is mounted may be
/// of the same one, and a file of an overlay may be of another one than its directory.
#[cfg(unix)]
fn is_listed_mount(path: &Path) -> bool {
    let Ok(mounts) = std::fs::read("/proc/self/mountinfo") else {
        return false;
    };
    let mut escaped = Vec::new();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            // What ends a field, and what begins an escape.
            b' ' | b'\t' | b'\n' | b'\\' => escaped.extend(format!("\\{byte:03o}").bytes()),
            _ => escaped.push(*byte),
        }
    }
    // The fifth field is the mount point.
    mounts
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.split(|byte| *byte == b' ').nth(4))
        .any(|mount_point| mount_point == escaped)
}

/// Whether nobody but this user and root can have written `file` or, where it is a link, have put
/// it at `path`. Where a system has no such thing as Unix's owners and modes, this is not looked
/// at.
///
/// # Errors
/// The operating system's.
#[cfg_attr(not(unix), allow(unused_variables, clippy::unnecessary_wraps))]
pub fn is_written_by_this_user_alone(path: &Path, file: &Metadata) -> io::Result<bool> {
    #[cfg(unix)]
    {
        let this_user = effective_uid()?;
        let is_trusted = |owner| owner == 0 || owner == this_user;
        // What is written into a device, such as /dev/null, does not stay there.
        let is_device = file.file_type().is_char_device();
        Ok(is_trusted(file.uid())
            && is_trusted(std::fs::symlink_metadata(path)?.uid())
            && (is_device || file.mode() & 0o022 == 0))
    }
    #[cfg(not(unix))]
    Ok(true)
}

/// A pipe belongs to the user who makes it, on Linux, macOS and the BSDs alike.
#[cfg(unix)]
fn effective_uid() -> io::Result<u32> {
    let (reader, _writer) = io::pipe()?;
    let pipe = File::from(std::os::fd::OwnedFd::from(reader));
    Ok(pipe.metadata()?.uid())
}

/// Takes the file from everybody but its owner.
///
/// # Errors
/// The operating system's.
#[cfg_attr(not(unix), allow(unused_variables, clippy::unnecessary_wraps))]
pub fn make_private(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(())
}

/// A number that changes when the file is replaced by another.
pub fn file_number(metadata: &Metadata) -> u64 {
    #[cfg(unix)]
    return metadata.ino();
    #[cfg(not(unix))]
    return metadata.len();
}

/// Makes a rename in `directory` survive a power failure.
///
/// # Errors
/// The operating system's.
#[cfg_attr(not(unix), allow(unused_variables, clippy::unnecessary_wraps))]
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    #[cfg(unix)]
    std::fs::File::open(directory)?.sync_all()?;
    Ok(())
}

/// The browser that `$BROWSER` names: a command that may have arguments, one of them with `%s` for
/// the address.
pub fn named_browser() -> Option<String> {
    let command = env::var("BROWSER").ok()?;
    if command.trim().is_empty() {
        return None;
    }
    Some(command)
}

/// Opens `address`, a URL or the path of a page, in the browser that is named, else in the system's
/// own. Gives whether there is one. Every user of the machine can read `address` then.
pub fn open_in_browser(address: &str) -> bool {
    for opener in browsers() {
        let mut command = browser_command(&opener, address);
        // What it writes is not for this terminal.
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if command.spawn().is_ok() {
            return true;
        }
    }
    false
}

/// The commands that may open a browser, the best first.
fn browsers() -> Vec<String> {
    if let Some(command) = named_browser() {
        return vec![command];
    }
    if cfg!(windows) {
        return vec!["rundll32 url.dll,FileProtocolHandler".to_owned()];
    }
    if cfg!(target_os = "macos") {
        return vec!["open".to_owned()];
    }
    let openers = [
        ("WSL_DISTRO_NAME", "wslview"),
        ("DISPLAY", "xdg-open"),
        ("WAYLAND_DISPLAY", "xdg-open"),
    ];
    let mut found = Vec::new();
    for (variable, opener) in openers {
        if env::var_os(variable).is_some_and(|value| !value.is_empty()) {
            found.push(opener.to_owned());
        }
    }
    found
}

/// `opener`, given `address` as one argument or a part of one. There is no shell that could read
/// it.
fn browser_command(opener: &str, address: &str) -> Command {
    let mut words = opener.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words.map(|word| word.replace("%s", address)));
    if !opener.contains("%s") {
        command.arg(address);
    }
    command.env_remove(ACCESS_KEY);
    // Ctrl-C is for us; the browser goes on.
    #[cfg(unix)]
    command.process_group(0);
    command
}

/// What a signal tells the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// To stop.
    Stop,
    /// To open its audit log anew.
    Reopen,
}

/// Ctrl-C and SIGTERM, asked for from now on: also as process 1 of a container, where neither has
/// an effect unless it is asked for.
pub struct Signals(
    #[cfg(unix)] signal_hook::iterator::Signals,
    #[cfg(not(unix))] std::sync::Arc<std::sync::atomic::AtomicBool>,
);

impl Signals {
    /// Asks for them, and for SIGHUP where there is something to `reopen`, even if it is ignored,
    /// as under `nohup`. Otherwise SIGHUP keeps the action that we inherit: a terminal that goes
    /// away ends us, but not under `nohup`. Only Unix has SIGHUP.
    ///
    /// # Errors
    /// The operating system's.
    #[cfg_attr(not(unix), allow(unused_variables))]
    pub fn register(reopen: bool) -> io::Result<Self> {
        #[cfg(unix)]
        return signal_hook::iterator::Signals::new(
            [SIGINT, SIGTERM]
                .into_iter()
                .chain(reopen.then_some(SIGHUP)),
        )
        .map(Self);
        #[cfg(not(unix))]
        {
            let told = std::sync::Arc::default();
            for signal in [SIGINT, SIGTERM] {
                signal_hook::flag::register(signal, std::sync::Arc::clone(&told))?;
            }
            Ok(Self(told))
        }
    }

    /// Blocks until one of them comes.
    pub fn wait(&mut self) -> Told {
        #[cfg(unix)]
        return if self.0.forever().next() == Some(SIGHUP) {
            Told::Reopen
        } else {
            Told::Stop
        };
        #[cfg(not(unix))]
        {
            while !self.0.load(std::sync::atomic::Ordering::Acquire) {
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
            Told::Stop
        }
    }
}
