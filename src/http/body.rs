//! The chunked transfer coding of request bodies (RFC 9112 §7.1), read strictly.

use super::MOST_BODY_BYTES;
use super::head::{Refusal, TOO_LARGE};

/// The most bytes of one chunk-size line and of all trailers: neither has a use here.
const MOST_LINE_BYTES: usize = 256;

const MALFORMED: Refusal = Refusal { status: 400, reason: "The chunked request body is malformed." };

/// What the next bytes are.
#[derive(Clone, Copy, Debug)]
enum Expecting {
    SizeLine,
    Data(usize),
    EndOfData,
    Trailers(usize),
    Nothing,
}

/// Decodes one chunked body as its bytes arrive.
#[derive(Debug)]
pub struct ChunkedBody {
    expecting: Expecting,
    /// The decoded bytes so far.
    pub decoded: Vec<u8>,
}

impl ChunkedBody {
    /// At the start of a body.
    #[must_use]
    pub fn new() -> Self {
        Self { expecting: Expecting::SizeLine, decoded: Vec::new() }
    }

    /// Whether the body has ended.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        matches!(self.expecting, Expecting::Nothing)
    }

    /// Decodes as much of `input` as there is and gives how many bytes of it are used up.
    ///
    /// # Errors
    /// 400 for a malformed body, 413 for one that is longer than we take.
    pub fn decode(&mut self, input: &[u8]) -> Result<usize, Refusal> {
        let mut used = 0;
        while !self.is_complete() {
            let rest = input.get(used..).unwrap_or_default();
            let step = self.step(rest)?;
            if step == 0 {
                break;
            }
            used += step;
        }
        Ok(used)
    }

    /// Takes one element off `input`; 0 when it is not whole yet.
    fn step(&mut self, input: &[u8]) -> Result<usize, Refusal> {
        match self.expecting {
            Expecting::SizeLine => {
                let Some(line) = line(input, MOST_LINE_BYTES)? else { return Ok(0) };
                self.expecting = match chunk_size(line)? {
                    0 => Expecting::Trailers(0),
                    size if self.decoded.len() + size > MOST_BODY_BYTES => return Err(TOO_LARGE),
                    size => Expecting::Data(size),
                };
                Ok(line.len() + 2)
            }
            Expecting::Data(left) => {
                let data = input.get(..left).unwrap_or(input);
                self.decoded.extend_from_slice(data);
                self.expecting =
                    if data.len() == left { Expecting::EndOfData } else { Expecting::Data(left - data.len()) };
                Ok(data.len())
            }
            Expecting::EndOfData => match input {
                [b'\r', b'\n', ..] => {
                    self.expecting = Expecting::SizeLine;
                    Ok(2)
                }
                [] | [b'\r'] => Ok(0),
                _ => Err(MALFORMED),
            },
            Expecting::Trailers(seen) => {
                let Some(line) = line(input, MOST_LINE_BYTES.saturating_sub(seen))? else { return Ok(0) };
                self.expecting =
                    if line.is_empty() { Expecting::Nothing } else { Expecting::Trailers(seen + line.len()) };
                Ok(line.len() + 2)
            }
            Expecting::Nothing => Ok(0),
        }
    }
}

/// The line at the start of `input`, without its CRLF; `None` when it has not ended yet.
fn line(input: &[u8], most: usize) -> Result<Option<&[u8]>, Refusal> {
    let Some(at) = input.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        return if input.len() > most { Err(MALFORMED) } else { Ok(None) };
    };
    match input.get(at..at + 2) {
        _ if at > most => Err(MALFORMED),
        Some(b"\r\n") => Ok(input.get(..at)),
        None if input.ends_with(b"\r") => Ok(None),
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
    match usize::from_str_radix(digits, 16) {
        Ok(size) if size <= MOST_BODY_BYTES => Ok(size),
        _ => Err(TOO_LARGE),
    }
}
