//! What differs between operating systems: file protection, and being told to stop.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::path::Path;

#[cfg(unix)]
mod unix {
    use std::fs::Permissions;
    use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};

    use super::{File, Metadata, OpenOptions, Path, io};

    /// The given options, creating files that their owner alone may read and write.
    pub fn private(options: &mut OpenOptions) -> &mut OpenOptions {
        options.mode(0o600)
    }

    /// Whether anybody but the owner may read or write the file.
    pub fn others_have_access(metadata: &Metadata) -> bool {
        metadata.mode() & 0o077 != 0
    }

    /// Takes the file from everybody but its owner.
    pub fn make_private(path: &Path) -> io::Result<()> {
        std::fs::set_permissions(path, Permissions::from_mode(0o600))
    }

    /// A number that changes when the file is replaced by another.
    pub fn file_number(metadata: &Metadata) -> u64 {
        metadata.ino()
    }

    /// Makes a rename in `directory` survive a power failure.
    pub fn sync_directory(directory: &Path) -> io::Result<()> {
        File::open(directory)?.sync_all()
    }

    /// Blocks until the process is told to stop: Ctrl-C or SIGTERM, also as process 1 of a
    /// container, where neither has an effect unless it is asked for.
    pub fn wait_for_stop() -> io::Result<()> {
        use signal_hook::consts::{SIGINT, SIGTERM};
        signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?.forever().next();
        Ok(())
    }
}

#[cfg(not(unix))]
mod other {
    use super::{Metadata, OpenOptions, Path, io};

    // Files inherit the protection of the user's profile directory.
    pub fn private(options: &mut OpenOptions) -> &mut OpenOptions {
        options
    }

    pub fn others_have_access(_metadata: &Metadata) -> bool {
        false
    }

    pub fn make_private(_path: &Path) -> io::Result<()> {
        Ok(())
    }

    pub fn file_number(_metadata: &Metadata) -> u64 {
        0
    }

    pub fn sync_directory(_directory: &Path) -> io::Result<()> {
        Ok(())
    }

    pub fn wait_for_stop() -> io::Result<()> {
        use signal_hook::consts::{SIGINT, SIGTERM};
        let told = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        signal_hook::flag::register(SIGINT, std::sync::Arc::clone(&told))?;
        signal_hook::flag::register(SIGTERM, std::sync::Arc::clone(&told))?;
        while !told.load(std::sync::atomic::Ordering::Acquire) {
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        Ok(())
    }
}

#[cfg(not(unix))]
pub use other::{file_number, make_private, others_have_access, private, sync_directory, wait_for_stop};
#[cfg(unix)]
pub use unix::{file_number, make_private, others_have_access, private, sync_directory, wait_for_stop};
