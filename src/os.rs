//! What differs between operating systems: file protection, and being told to stop. Where a system has
//! no such thing as Unix's, files inherit the protection of the user's profile directory.

use std::fs::{Metadata, OpenOptions};
use std::io;
use std::path::Path;

#[cfg(unix)]
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};

use signal_hook::consts::{SIGINT, SIGTERM};

/// The given options, creating files that their owner alone may read and write.
pub fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    options.mode(0o600);
    options
}

/// Whether anybody but the owner may read or write the file.
#[cfg_attr(not(unix), allow(unused_variables))]
pub fn others_have_access(metadata: &Metadata) -> bool {
    #[cfg(unix)]
    return metadata.mode() & 0o077 != 0;
    #[cfg(not(unix))]
    return false;
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

/// Ctrl-C and SIGTERM, asked for from now on: also as process 1 of a container, where neither has an
/// effect unless it is asked for.
pub struct StopSignals(
    #[cfg(unix)] signal_hook::iterator::Signals,
    #[cfg(not(unix))] std::sync::Arc<std::sync::atomic::AtomicBool>,
);

impl StopSignals {
    /// Asks for them.
    ///
    /// # Errors
    /// The operating system's.
    pub fn register() -> io::Result<Self> {
        #[cfg(unix)]
        return signal_hook::iterator::Signals::new([SIGINT, SIGTERM]).map(Self);
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
    pub fn wait(&mut self) {
        #[cfg(unix)]
        self.0.forever().next();
        #[cfg(not(unix))]
        while !self.0.load(std::sync::atomic::Ordering::Acquire) {
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }
}
