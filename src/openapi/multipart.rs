//! `multipart/form-data` (RFC 7578).

use crate::error::Failure;
use crate::secret;

/// A form under construction.
pub(super) struct Multipart {
    boundary: String,
    before: Vec<u8>,
    /// The name of a file that is sent from `FILES_DIR`, and what comes behind it.
    file: Option<(String, Vec<u8>)>,
}

/// A form that was written.
pub(super) enum Finished {
    Bytes(Vec<u8>),
    /// With a file of `FILES_DIR` in its middle.
    AroundFile {
        before: Vec<u8>,
        file: String,
        after: Vec<u8>,
    },
}

impl Multipart {
    /// A form without parts.
    ///
    /// # Errors
    /// No randomness.
    pub(super) fn new() -> Result<Self, Failure> {
        Ok(Self {
            // Nobody can write it into a part on purpose.
            boundary: secret::random_base64url::<24>()?,
            before: Vec::new(),
            file: None,
        })
    }

    pub(super) fn media_type(&self) -> String {
        format!("multipart/form-data; boundary={}", self.boundary)
    }

    /// Adds a part.
    pub(super) fn add(
        &mut self,
        name: &str,
        filename: Option<&str>,
        media_type: Option<&str>,
        bytes: &[u8],
    ) {
        self.begin(name, filename, media_type);
        let text = self.text();
        text.extend_from_slice(bytes);
        text.extend_from_slice(b"\r\n");
    }

    /// Adds a file of `FILES_DIR`.
    ///
    /// # Errors
    /// There is one already; as the rest of a sentence.
    pub(super) fn add_file(
        &mut self,
        name: &str,
        filename: &str,
        media_type: &str,
        path: &str,
    ) -> Result<(), String> {
        if self.file.is_some() {
            return Err("has a second path: send one file by path, others as base64".to_owned());
        }
        self.begin(name, Some(filename), Some(media_type));
        self.file = Some((path.to_owned(), b"\r\n".to_vec()));
        Ok(())
    }

    pub(super) fn finished(mut self) -> Finished {
        let end = format!("--{}--\r\n", self.boundary);
        self.text().extend_from_slice(end.as_bytes());
        let before = self.before;
        match self.file {
            None => Finished::Bytes(before),
            Some((file, after)) => Finished::AroundFile {
                before,
                file,
                after,
            },
        }
    }

    fn begin(&mut self, name: &str, filename: Option<&str>, media_type: Option<&str>) {
        let filename = filename.map(|filename| format!("; filename=\"{}\"", escaped(filename)));
        let media_type = media_type.map(|given| format!("\r\nContent-Type: {given}"));
        let head = format!(
            "--{}\r\nContent-Disposition: form-data; name=\"{}\"{}{}\r\n\r\n",
            self.boundary,
            escaped(name),
            filename.unwrap_or_default(),
            media_type.unwrap_or_default(),
        );
        self.text().extend_from_slice(head.as_bytes());
    }

    /// What is written to.
    fn text(&mut self) -> &mut Vec<u8> {
        match &mut self.file {
            Some((_, after)) => after,
            None => &mut self.before,
        }
    }
}

/// `name` between quotes, as browsers write it (WHATWG HTML, "multipart form data").
fn escaped(name: &str) -> String {
    name.replace('"', "%22")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}
