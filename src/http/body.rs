//! The chunked transfer coding of request bodies (RFC 9112 §7.1), read strictly.

use super::head::{Refusal, TOO_LARGE, number, refusal};

/// The most bytes of one chunk-size line, and of all trailers. Extensions and trailers have no use
/// here.
const MOST_LINE_BYTES: usize = 256;

const MALFORMED: Refusal = refusal(400, "The chunked request body is malformed.");

/// What the next bytes are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Expecting {
    #[default]
    SizeLine,
    /// This many more bytes of data, then the end of their line.
    Data(usize),
    /// Trailers, of at most this many bytes.
    Trailers(usize),
    Nothing,
}

/// Decodes one chunked body as its bytes arrive.
#[derive(Debug)]
pub struct ChunkedBody {
    expecting: Expecting,
    most: usize,
    /// The decoded bytes so far.
    pub decoded: Vec<u8>,
}

impl ChunkedBody {
    /// A body that has not begun, of at most `most` bytes.
    pub fn new(most: usize) -> Self {
        Self {
            expecting: Expecting::default(),
            most,
            decoded: Vec::new(),
        }
    }

    /// Whether the body has ended.
    pub fn is_complete(&self) -> bool {
        self.expecting == Expecting::Nothing
    }

    /// Decodes as much of `input` as is whole, and returns how many bytes of it are used up.
    ///
    /// # Errors
    /// 400 for a malformed body, 413 for one that is too long.
    pub fn decode(&mut self, input: &[u8]) -> Result<usize, Refusal> {
        let mut used = 0;
        loop {
            let step = self.step(input.get(used..).unwrap_or_default())?;
            if step == 0 {
                return Ok(used);
            }
            used += step;
        }
    }

    /// Decodes one element at the start of `input`, and returns its length. This is 0 if there is
    /// none, or none that is whole.
    fn step(&mut self, input: &[u8]) -> Result<usize, Refusal> {
        let most = match self.expecting {
            Expecting::SizeLine => MOST_LINE_BYTES,
            Expecting::Data(0) => 0,
            Expecting::Data(left) => {
                let data = input.get(..left).unwrap_or(input);
                self.decoded.extend_from_slice(data);
                self.expecting = Expecting::Data(left - data.len());
                return Ok(data.len());
            }
            Expecting::Trailers(left) => left,
            Expecting::Nothing => return Ok(0),
        };
        let Some(line) = line(input, most)? else {
            return Ok(0);
        };
        self.expecting = match self.expecting {
            Expecting::SizeLine => match chunk_size(line)? {
                0 => Expecting::Trailers(MOST_LINE_BYTES),
                size if size > self.most - self.decoded.len() => return Err(TOO_LARGE),
                size => Expecting::Data(size),
            },
            Expecting::Trailers(_) if line.is_empty() => Expecting::Nothing,
            Expecting::Trailers(left) if is_field(line) => Expecting::Trailers(left - line.len()),
            Expecting::Trailers(_) => return Err(MALFORMED),
            _ => Expecting::SizeLine,
        };
        Ok(line.len() + 2)
    }
}

/// The line at the start of `input`, without its CRLF; `None` if it has not ended yet.
fn line(input: &[u8], most: usize) -> Result<Option<&[u8]>, Refusal> {
    let length = input
        .iter()
        .position(|byte| matches!(byte, b'\r' | b'\n'))
        .unwrap_or(input.len());
    match input.split_at(length) {
        _ if length > most => Err(MALFORMED),
        (line, [b'\r', b'\n', ..]) => Ok(Some(line)),
        (_, [] | [b'\r']) => Ok(None),
        _ => Err(MALFORMED),
    }
}

/// `1*HEXDIG`, perhaps followed by an extension, which is ignored (§7.1.1).
fn chunk_size(line: &[u8]) -> Result<usize, Refusal> {
    if line
        .iter()
        .any(|byte| byte.is_ascii_control() && *byte != b'\t')
    {
        return Err(MALFORMED);
    }
    let digits = line.split(|&byte| byte == b';').next().unwrap_or_default();
    std::str::from_utf8(digits)
        .ok()
        .and_then(|digits| number(digits, 16))
        .ok_or(MALFORMED)
}

/// Whether a trailer line is a header field. A folded line is not one, as no name begins with white
/// space (§5.2).
fn is_field(line: &[u8]) -> bool {
    let field = [line, b"\r\n\r\n"].concat();
    httparse::parse_headers(&field, &mut [httparse::EMPTY_HEADER]).is_ok()
}
