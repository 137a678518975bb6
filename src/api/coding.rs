//! Content codings (RFC 9110 §8.4.1): what a body was packed in, and how it is unpacked.

use std::io::{self, BufRead as _, BufReader, Read};

use flate2::bufread::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use ureq::http::HeaderMap;
use ureq::http::header::CONTENT_ENCODING;

/// What servers write into the header although nothing is packed: no coding at all (RFC 9110
/// §12.5.3), a character set, what S3 keeps of an upload.
const NO_CODINGS: [&str; 6] = ["", "identity", "none", "utf-8", "utf8", "aws-chunked"];
/// The most codings that are applied to one body, more than any API uses. Each can make a body a
/// thousand times longer. With three, a small answer could keep a processor busy for minutes
/// without a read from the network, which is where the time limit is checked.
const MOST_LAYERS: usize = 2;

#[derive(Clone, Copy)]
pub(crate) enum Coding {
    Gzip,
    Deflate,
}

/// The codings of a body.
pub(crate) enum Codings {
    /// Codings that can be undone, in the order in which they were applied. Often there is none.
    Known(Vec<Coding>),
    /// Codings that are not undone, as one is unknown or there are more than [`MOST_LAYERS`]: the
    /// names of all.
    Unknown(String),
}

impl Codings {
    /// Those that `headers` name. The names have no case (§8.4.1).
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let fields = headers.get_all(CONTENT_ENCODING).iter();
        let text: Vec<_> = fields
            .map(|value| String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase())
            .collect();
        let text = text.join(",");
        let names = text.split(',').map(str::trim);
        let names: Vec<_> = names.filter(|name| !NO_CODINGS.contains(name)).collect();
        let known = names.iter().map(|name| match *name {
            // §8.4.1.3: the two are one.
            "gzip" | "x-gzip" => Some(Coding::Gzip),
            "deflate" => Some(Coding::Deflate),
            _ => None,
        });
        match known.collect() {
            Some(layers) if names.len() <= MOST_LAYERS => Self::Known(layers),
            _ => Self::Unknown(names.join(", ")),
        }
    }

    /// Whether a body is read as it is, without unpacking.
    pub(crate) fn is_plain(&self) -> bool {
        match self {
            Self::Known(layers) => layers.is_empty(),
            Self::Unknown(_) => true,
        }
    }

    /// The names of the codings, if they are not undone.
    pub(crate) fn unknown(&self) -> Option<&str> {
        match self {
            Self::Known(_) => None,
            Self::Unknown(name) => Some(name),
        }
    }

    /// Unpacks what `reader` gives. An empty body is not packed, whatever the header says.
    ///
    /// # Errors
    /// Those of `reader`.
    pub(crate) fn unpacked<'r>(
        &self,
        reader: Box<dyn Read + 'r>,
    ) -> io::Result<Box<dyn Read + 'r>> {
        let Self::Known(layers) = self else {
            return Ok(reader);
        };
        let mut reader = reader;
        for layer in layers.iter().rev() {
            let mut packed = BufReader::new(reader);
            let start = packed.fill_buf()?;
            reader = match layer {
                _ if start.is_empty() => return Ok(Box::new(io::empty())),
                Coding::Gzip => Box::new(MultiGzDecoder::new(packed)),
                Coding::Deflate if is_zlib(start) => Box::new(ZlibDecoder::new(packed)),
                Coding::Deflate => Box::new(DeflateDecoder::new(packed)),
            };
        }
        Ok(reader)
    }
}

/// Whether a body begins with the header of zlib (RFC 1950 §2.2). Some servers send deflate without
/// it (RFC 9110 §8.4.1.2).
fn is_zlib(start: &[u8]) -> bool {
    match *start {
        [method, flags, ..] => {
            method & 0x0f == 8 && u16::from_be_bytes([method, flags]).is_multiple_of(31)
        }
        [method] => method & 0x0f == 8,
        [] => false,
    }
}
