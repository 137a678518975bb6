//! The files below `FILES_DIR`, the only ones that calls may read or create. A name is checked part
//! by part before anything is opened, links are never followed, and the opened file is compared
//! with the intended one.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::error::{Failure, Kind};
use crate::os;
use crate::text::is_plain;

/// The longest name of a file, with its directories.
const MOST_NAME_BYTES: usize = 1024;
/// The longest name that file systems take in one directory.
const MOST_PART_BYTES: usize = 255;
/// How many bytes are read and written at a time.
const PIECE_BYTES: usize = 64 * 1024;

/// Called with how many bytes were moved, and of how many. An error ends the transfer.
pub(crate) type Watch<'a> = &'a dyn Fn(u64, Option<u64>) -> io::Result<()>;

/// A file that was moved.
pub(crate) struct Moved {
    /// Its length.
    pub(crate) bytes: u64,
    /// The SHA-256 of its bytes, in hexadecimal digits.
    pub(crate) sha256: String,
}

/// The files below one directory.
pub(crate) struct Files {
    root: PathBuf,
    most: u64,
}

impl Files {
    /// The files below `directory`, each of at most `most` bytes. `own` has the server's own files,
    /// each with the name of its setting.
    ///
    /// # Errors
    /// It is not a directory, or it holds one of the server's own files.
    pub(crate) fn open(
        directory: &Path,
        most: u64,
        own: &[(&str, &Path)],
    ) -> Result<Self, Failure> {
        let refuse = |reason: &str| {
            Failure::new(
                Kind::Configuration,
                format!("FILES_DIR is {}: {reason}.", directory.display()),
            )
            .hint("Set it to a directory that exists and is for the files of API calls alone.")
        };
        let root = fs::canonicalize(directory).map_err(|error| refuse(&error.to_string()))?;
        if !root.is_dir() || root.parent().is_none() {
            return Err(refuse("it is not a directory, or a whole file system"));
        }
        for (setting, file) in own {
            let beside = file
                .parent()
                .filter(|parent| !parent.as_os_str().is_empty())
                .unwrap_or(Path::new("."));
            if fs::canonicalize(beside).is_ok_and(|beside| beside.starts_with(&root)) {
                return Err(refuse(&format!(
                    "{setting} lies in it, and a call could send what it holds away"
                )));
            }
        }
        Ok(Self { root, most })
    }

    /// The file `name`, open to be sent.
    ///
    /// # Errors
    /// The name leads elsewhere; there is no such regular file; it is too large.
    pub(crate) fn source(&self, name: &str) -> Result<Source, Failure> {
        let path = self.path(name)?;
        let refuse = |reason: &str| refusal(name, reason);
        let meant = fs::symlink_metadata(&path).map_err(|error| refuse(&error.to_string()))?;
        if !meant.is_file() {
            return Err(refuse(
                "it is not a regular file but a link, a directory or a device",
            ));
        }
        let file = os::without_following(OpenOptions::new().read(true)).open(&path);
        let file = file.map_err(|error| refuse(&error.to_string()))?;
        let metadata = self
            .verified(&file, &path)
            .map_err(|error| refuse(&error.to_string()))?;
        // The other name may lie outside the directory.
        if os::has_other_names(&metadata) {
            return Err(refuse("it has further names (hard links)"));
        }
        let size = metadata.len();
        if size > self.most {
            return Err(refuse(&format!(
                "it has {size} bytes, and MAX_FILE_BYTES is {}",
                self.most
            )));
        }
        Ok(Source {
            name: name.to_owned(),
            file,
            size,
            before: Vec::new(),
            after: Vec::new(),
        })
    }

    /// The place for a new file `name`.
    ///
    /// # Errors
    /// The name leads elsewhere, or something stands there.
    pub(crate) fn destination(&self, name: &str) -> Result<Destination<'_>, Failure> {
        let path = self.path(name)?;
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(refusal(name, &error.to_string())),
            Ok(_) => {
                return Err(refusal(
                    name,
                    "it exists already, and nothing is overwritten",
                ));
            }
        }
        Ok(Destination {
            files: self,
            name: name.to_owned(),
            path,
        })
    }

    /// The path of `name`. Its directories exist and are not links.
    fn path(&self, name: &str) -> Result<PathBuf, Failure> {
        if name.len() > MOST_NAME_BYTES {
            return Err(refusal(name, "it is too long"));
        }
        if let Some(reason) = name.split('/').find_map(fault) {
            return Err(refusal(name, reason));
        }
        let mut path = self.root.clone();
        let mut parts = name.split('/').peekable();
        while let Some(part) = parts.next() {
            path.push(part);
            let is_directory =
                || fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir());
            if parts.peek().is_some() && !is_directory() {
                return Err(refusal(
                    name,
                    &format!("{part:?} is not a directory in FILES_DIR"),
                ));
            }
        }
        Ok(path)
    }

    /// The metadata of `file`, when it is still the file at `path`, and no part of `path` is a
    /// link.
    fn verified(&self, file: &File, path: &Path) -> io::Result<Metadata> {
        let (opened, there) = (file.metadata()?, fs::symlink_metadata(path)?);
        let is_meant = opened.is_file()
            && os::is_same_file(&opened, &there)
            && fs::canonicalize(path)? == path;
        if is_meant && path.starts_with(&self.root) {
            Ok(opened)
        } else {
            Err(io::Error::other("it was replaced"))
        }
    }
}

fn refusal(name: &str, reason: &str) -> Failure {
    Failure::new(Kind::InvalidRequest, format!("The file {name:?} is refused: {reason}."))
        .hint("Give a path relative to FILES_DIR, such as report.pdf or a/report.pdf; directories are not made, and files not overwritten.")
}

/// Why `part` of a name is refused. On each system, the rules of all systems apply, so that a name
/// means the same everywhere.
fn fault(part: &str) -> Option<&'static str> {
    let stem = part
        .split('.')
        .next()
        .unwrap_or_default()
        .trim_end()
        .to_ascii_uppercase();
    let is_device = match stem
        .strip_prefix("COM")
        .or_else(|| stem.strip_prefix("LPT"))
    {
        Some(number) => matches!(
            number,
            "0" | "1" | "2" | "3" | "4" | "5" | "6" | "7" | "8" | "9" | "¹" | "²" | "³"
        ),
        None => matches!(
            stem.as_str(),
            "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$"
        ),
    };
    // `ENV~1` is another name of `.env` on Windows.
    let is_short_name = part
        .split('~')
        .skip(1)
        .any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    match part {
        "" => Some("it is empty, absolute, or has an empty part"),
        // `..`, and the hidden files that programs read by themselves.
        _ if part.starts_with('.') => Some("a part of it begins with a dot"),
        _ if part.ends_with(['.', ' ']) || part.starts_with(' ') => {
            Some("a part of it ends in a dot or a space")
        }
        _ if part.len() > MOST_PART_BYTES => Some("a part of it is too long"),
        _ if part
            .chars()
            .any(|c| c.is_control() || r#"\:*?"<>|"#.contains(c)) =>
        {
            Some("it holds a control character, a backslash or one of : * ? \" < > |")
        }
        _ if part.contains(is_misleading) => Some(
            "it holds a character that is invisible, or that changes the order or the lines of the text",
        ),
        _ if is_device || is_short_name => {
            Some("a part of it is the name of a device or a short name on Windows")
        }
        _ => None,
    }
}

/// Whether a name with `c` in it could look like another name. Persian and emoji need the joiners
/// and the variation selector.
fn is_misleading(c: char) -> bool {
    !is_plain(c) && !matches!(c, '\u{200c}' | '\u{200d}' | '\u{fe0f}')
}

/// A file to be sent, more than once if needed.
pub(crate) struct Source {
    /// Relative to `FILES_DIR`.
    pub(crate) name: String,
    file: File,
    /// Its length when it was opened.
    pub(crate) size: u64,
    /// What is sent before it and after it, as parts of a form.
    before: Vec<u8>,
    after: Vec<u8>,
}

impl Source {
    /// The same file between these bytes.
    pub(crate) fn within(self, before: Vec<u8>, after: Vec<u8>) -> Self {
        Self {
            before,
            after,
            ..self
        }
    }

    /// What is sent around the file, as text; `None` where it is sent alone.
    pub(crate) fn around(&self) -> Option<String> {
        if self.before.is_empty() {
            return None;
        }
        let before = String::from_utf8_lossy(&self.before);
        Some(before.into_owned() + &String::from_utf8_lossy(&self.after))
    }

    /// The length of everything that is sent.
    pub(crate) fn length(&self) -> u64 {
        self.size + (self.before.len() + self.after.len()) as u64
    }

    /// Reads it from its beginning.
    ///
    /// # Errors
    /// The operating system's.
    pub(crate) fn reader<'a>(&'a self, watch: Watch<'a>) -> io::Result<Sending<'a>> {
        (&self.file).seek(SeekFrom::Start(0))?;
        Ok(Sending {
            source: self,
            watch,
            before: &self.before,
            sent: 0,
            after: &self.after,
            hash: Sha256::new(),
            fault: None,
        })
    }
}

/// Reads a [`Source`], and fails if it has become shorter.
pub(crate) struct Sending<'a> {
    source: &'a Source,
    watch: Watch<'a>,
    /// What is still to be sent before the file.
    before: &'a [u8],
    /// How many bytes of the file were sent.
    sent: u64,
    /// What is still to be sent after the file.
    after: &'a [u8],
    hash: Sha256,
    fault: Option<Failure>,
}

impl Sending<'_> {
    /// What was sent.
    ///
    /// # Errors
    /// The file could not be read, or the transfer was cancelled.
    pub(crate) fn ended(self) -> Result<Moved, Failure> {
        match self.fault {
            Some(fault) => Err(fault),
            None => Ok(Moved {
                bytes: self.sent,
                sha256: hex(self.hash),
            }),
        }
    }

    fn fail(&mut self, error: &io::Error) -> io::Error {
        self.fault = Some(ended(error));
        io::ErrorKind::Other.into()
    }
}

impl Read for Sending<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.before.is_empty() {
            return self.before.read(buffer);
        }
        if self.sent == self.source.size {
            return self.after.read(buffer);
        }
        let left = usize::try_from(self.source.size - self.sent).unwrap_or(usize::MAX);
        let most = buffer.len().min(left);
        let read = (&self.source.file).read(buffer.get_mut(..most).unwrap_or_default());
        let count = read.map_err(|error| self.fail(&error))?;
        if count == 0 && most > 0 {
            return Err(self.fail(&io::Error::other(
                "the file became shorter while it was sent",
            )));
        }
        self.hash.update(buffer.get(..count).unwrap_or_default());
        self.sent += count as u64;
        (self.watch)(self.sent, Some(self.source.size)).map_err(|error| self.fail(&error))?;
        Ok(count)
    }
}

/// The failure of a transfer that was broken off on our side.
fn ended(error: &io::Error) -> Failure {
    Failure::new(
        Kind::RetryLater,
        format!("The transfer was broken off: {error}."),
    )
    .hint("No file was made. Of a file that was being sent, the API may have got a part.")
}

/// A place for a file that does not exist yet.
pub(crate) struct Destination<'a> {
    files: &'a Files,
    /// Relative to `FILES_DIR`.
    pub(crate) name: String,
    path: PathBuf,
}

impl Destination<'_> {
    /// Writes the file from `reader`. `declared` is its length, if known. An incomplete file is
    /// removed.
    ///
    /// # Errors
    /// [`NotSaved`]: which side failed.
    pub(crate) fn save(
        &self,
        mut reader: impl Read,
        declared: Option<u64>,
        watch: Watch<'_>,
    ) -> Result<Moved, NotSaved> {
        let most = self.files.most;
        let too_large = || {
            let message = format!(
                "The answer is longer than MAX_FILE_BYTES, which is {most}; no file was made."
            );
            let hint = "Ask for less, or ask whoever runs this server for a larger MAX_FILE_BYTES.";
            NotSaved::Here(Failure::new(Kind::Configuration, message).hint(hint))
        };
        if declared.is_some_and(|declared| declared > most) {
            return Err(too_large());
        }
        let mut part = Part::create(self).map_err(|error| self.failure(&error))?;
        let mut piece = vec![0; PIECE_BYTES];
        let mut bytes = 0_u64;
        let mut hash = Sha256::new();
        loop {
            let count = match reader.read(&mut piece) {
                Ok(0) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read.map_err(NotSaved::There)?,
            };
            bytes += count as u64;
            if bytes > most {
                return Err(too_large());
            }
            let read = piece.get(..count).unwrap_or_default();
            hash.update(read);
            part.file
                .write_all(read)
                .map_err(|error| self.failure(&error))?;
            watch(bytes, declared).map_err(|error| NotSaved::Here(ended(&error)))?;
        }
        part.file.sync_all().map_err(|error| self.failure(&error))?;
        part.is_whole = true;
        Ok(Moved {
            bytes,
            sha256: hex(hash),
        })
    }

    fn failure(&self, error: &io::Error) -> NotSaved {
        if error.kind() == io::ErrorKind::AlreadyExists {
            return NotSaved::Here(refusal(&self.name, "it exists already, since a moment ago"));
        }
        let message = format!(
            "The file {:?} could not be written ({error}); there is none.",
            self.name
        );
        let hint = "Give another name, or check FILES_DIR, its permissions and the free space on the disk.";
        NotSaved::Here(Failure::new(Kind::Configuration, message).hint(hint))
    }
}

/// Why there is no file.
pub(crate) enum NotSaved {
    /// The file could not be made.
    Here(Failure),
    /// Its content did not arrive.
    There(io::Error),
}

/// A file that is being written. If it is incomplete when this is dropped, it is removed.
struct Part<'a> {
    file: File,
    path: &'a Path,
    is_whole: bool,
}

impl<'a> Part<'a> {
    fn create(destination: &'a Destination<'_>) -> io::Result<Self> {
        let path = &destination.path;
        let mut options = OpenOptions::new();
        let file =
            os::without_following(os::private(options.write(true).create_new(true))).open(path)?;
        let part = Self {
            file,
            path,
            is_whole: false,
        };
        destination.files.verified(&part.file, path)?;
        Ok(part)
    }
}

impl Drop for Part<'_> {
    fn drop(&mut self) {
        let is_ours = || match (self.file.metadata(), fs::symlink_metadata(self.path)) {
            (Ok(ours), Ok(there)) => os::is_same_file(&ours, &there),
            _ => false,
        };
        if !self.is_whole && is_ours() {
            let _ = fs::remove_file(self.path);
        }
    }
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().fold(String::new(), |digits, byte| {
        digits + &format!("{byte:02x}")
    })
}
