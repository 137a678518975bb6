//! The chunked transfer coding of request bodies (RFC 9112 §7.1), read strictly.

use super::MOST_BODY_BYTES;
use super::head::{Refusal, TOO_LARGE, refusal};

/// The most bytes of one chunk-size line and of all trailers: neither has a use here.
const MOST_LINE_BYTES: usize = 256;

const MALFORMED: Refusal = refusal(400, "The chunked request body is malformed.");

/// What the next bytes are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Expecting {
    #[default]
    SizeLine,
    Data(usize),
    EndOfData,
    /// Trailers, of at most so many bytes.
    Trailers(usize),
    Nothing,
}

/// Decodes one chunked body as its bytes arrive.
#[derive(Debug, Default)]
pub struct ChunkedBody {
    expecting: Expecting,
    /// The decoded bytes so far.
    pub decoded: Vec<u8>,
}

impl ChunkedBody {
    /// Whether the body has ended.
    pub fn is_complete(&self) -> bool {
        self.expecting == Expecting::Nothing
    }

    /// Decodes as much of `input` as there is and gives how many bytes of it are used up.
    ///
    /// # Errors
    /// 400 for a malformed body, 413 for one that is longer than we take.
    pub fn decode(&mut self, input: &[u8]) -> Result<usize, Refusal> {
        let mut used = 0;
        while let step @ 1.. = self.step(input.get(used..).unwrap_or_default())? {
            used += step;
        }
        Ok(used)
    }

    /// Takes one element off `input`; 0 when it is not whole yet, or when there is none.
    fn step(&mut self, input: &[u8]) -> Result<usize, Refusal> {
        let most = match self.expecting {
            Expecting::SizeLine => MOST_LINE_BYTES,
            Expecting::Data(left) => return Ok(self.take_data(input, left)),
            Expecting::EndOfData => 0,
            Expecting::Trailers(left) => left,
            Expecting::Nothing => return Ok(0),
        };
        let Some(line) = line(input, most)? else { return Ok(0) };
        self.expecting = match self.expecting {
            Expecting::SizeLine => match chunk_size(line)? {
                0 => Expecting::Trailers(MOST_LINE_BYTES),
                size if size > MOST_BODY_BYTES - self.decoded.len() => return Err(TOO_LARGE),
                size => Expecting::Data(size),
            },
            Expecting::Trailers(left) if !line.is_empty() => Expecting::Trailers(left - line.len()),
            Expecting::Trailers(_) => Expecting::Nothing,
            _ => Expecting::SizeLine,
        };
        Ok(line.len() + 2)
    }

    fn take_data(&mut self, input: &[u8], left: usize) -> usize {
        let data = input.get(..left).unwrap_or(input);
        self.decoded.extend_from_slice(data);
        self.expecting = if data.len() == left { Expecting::EndOfData } else { Expecting::Data(left - data.len()) };
        data.len()
    }
}

/// The line at the start of `input`, without its CRLF; `None` when it has not ended yet.
fn line(input: &[u8], most: usize) -> Result<Option<&[u8]>, Refusal> {
    let length = input.iter().position(|byte| matches!(byte, b'\r' | b'\n')).unwrap_or(input.len());
    match input.split_at(length) {
        _ if length > most => Err(MALFORMED),
        (line, [b'\r', b'\n', ..]) => Ok(Some(line)),
        (_, [] | [b'\r']) => Ok(None),
        _ => Err(MALFORMED),
    }
}

/// `1*HEXDIG`, perhaps followed by an extension, which is ignored (§7.1.1).
fn chunk_size(line: &[u8]) -> Result<usize, Refusal> {
    let digits = line.split(|&byte| byte == b';').next().unwrap_or_default();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(MALFORMED);
    }
    let digits = std::str::from_utf8(digits).map_err(|_| MALFORMED)?;
    // More digits than a number can hold are too many bytes, too.
    Ok(usize::from_str_radix(digits, 16).unwrap_or(usize::MAX))
}
