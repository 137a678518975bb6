//! A connection on which an answer has a bounded number of header fields, none of them folded. ureq
//! bounds the head, but neither the interim responses before it nor the trailers after a chunked
//! body (RFC 9110 §15.2, RFC 9112 §7.1.2), and would read them for as long as a call may take. It
//! refuses a head with a folded line, which a client must take (RFC 9112 §5.2).

use std::ops::Range;

use memchr::{memchr, memmem};
use ureq::http::Uri;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

/// The most bytes of header fields that an answer may have in front of its body, or after it.
pub(super) const MOST_FIELD_BYTES: usize = 64 * 1024 - 1;
const CRLF: &[u8] = b"\r\n";

/// The last in a chain of connectors, so that it sees what is inside TLS.
#[derive(Debug)]
pub(super) struct BoundTrailers {
    /// A connection to the proxy is not looked at, as it carries the TLS of another connection.
    pub(super) proxy: Option<Uri>,
}

impl<In: Transport> Connector<In> for BoundTrailers {
    type Out = Bounded<In>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        connection: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let is_to_proxy = self.proxy.as_ref() == Some(details.uri);
        Ok(connection.map(|inner| Bounded {
            inner,
            is_to_proxy,
            answer: Answer::default(),
        }))
    }
}

#[derive(Debug)]
pub(super) struct Bounded<In> {
    inner: In,
    is_to_proxy: bool,
    answer: Answer,
}

impl<In: Transport> Transport for Bounded<In> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        // If there is input, the answer has begun before all of the request was sent.
        if self.inner.buffers().input().is_empty() {
            self.answer = Answer::default();
        }
        self.inner.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let has_more = self.inner.await_input(timeout)?;
        if !self.is_to_proxy {
            if matches!(self.answer.expecting, Expecting::Head) {
                unfold_heads(self.inner.buffers());
            }
            self.answer.read(self.inner.buffers().input())?;
        }
        Ok(has_more)
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

/// Puts spaces in place of each line break that only folds a line, in the heads at the start of the
/// input.
fn unfold_heads(buffers: &mut dyn Buffers) {
    let folds = folds(buffers.input());
    if folds.is_empty() {
        return;
    }
    let mut input = buffers.input().to_vec();
    for fold in folds {
        for byte in input.iter_mut().skip(fold.start).take(fold.len()) {
            *byte = b' ';
        }
    }
    // What came out of the buffer fits into it again.
    buffers.input_consume(input.len());
    if let Some(room) = buffers.input_append_buf().get_mut(..input.len()) {
        room.copy_from_slice(&input);
        buffers.input_appended(input.len());
    }
}

/// Where lines of the heads at the start of `input` are folded: each line break with the first
/// white space after it.
fn folds(input: &[u8]) -> Vec<Range<usize>> {
    let mut folds = Vec::new();
    let mut status_line = None;
    let mut end = 0;
    for line in input.split_inclusive(|&byte| byte == b'\n') {
        end += line.len();
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if text.is_empty() {
            match status_line.take() {
                Some(status_line) if !is_informational(status_line) => break,
                // Another head follows an interim response.
                _ => continue,
            }
        }
        status_line.get_or_insert(text);
        if matches!(input.get(end), Some(b' ' | b'\t')) {
            let start = end - (line.len() - text.len());
            folds.push(start..end + 1);
        }
    }
    folds
}

/// What the next bytes of an answer are.
#[derive(Clone, Copy, Debug)]
enum Expecting {
    Head,
    /// The line with the size of a chunk, perhaps after the empty line that ends the last one.
    ChunkSize,
    /// This many more bytes of a chunk.
    ChunkData(usize),
    Trailers,
    /// Bytes that need no check: a body that is not chunked, or nothing.
    Rest,
}

/// One answer, as far as it has been read.
#[derive(Debug)]
struct Answer {
    expecting: Expecting,
    /// How many bytes its header fields have: first those of the heads, then those of the trailers.
    fields: usize,
}

impl Default for Answer {
    fn default() -> Self {
        Self {
            expecting: Expecting::Head,
            fields: 0,
        }
    }
}

impl Answer {
    /// Reads `input`, which is all that ureq has not used yet. Before ureq waits for more, it has
    /// used all whole lines, whole heads and data, and so has this.
    fn read(&mut self, mut input: &[u8]) -> Result<(), ureq::Error> {
        loop {
            let used = match self.expecting {
                Expecting::Head => self.head(input),
                Expecting::ChunkSize => self.chunk_size(input),
                Expecting::ChunkData(left) => self.chunk_data(left, input),
                Expecting::Trailers => self.trailer(input),
                Expecting::Rest => return Ok(()),
            };
            // All bytes of an unfinished line or head count.
            let fields = self.fields + used.map_or(input.len(), |_| 0);
            if fields > MOST_FIELD_BYTES {
                return Err(ureq::Error::LargeResponseHeader(fields, MOST_FIELD_BYTES));
            }
            let Some(used) = used else { return Ok(()) };
            input = input.get(used..).unwrap_or_default();
        }
    }

    /// Reads a whole head. Returns the length of what was read, here and below, or `None` if more
    /// must arrive first.
    fn head(&mut self, input: &[u8]) -> Option<usize> {
        let length = head_length(input)?;
        self.fields += length;
        let head = input.get(..length)?;
        let mut lines = head
            .split(|&byte| byte == b'\n')
            .map(<[u8]>::trim_ascii_end)
            .skip_while(|line| line.is_empty());
        let status_line = lines.next()?;
        // There is no chunked coding in HTTP/1.0.
        let may_be_chunked = !status_line.starts_with(b"HTTP/1.0");
        self.expecting = if is_informational(status_line) {
            Expecting::Head
        } else if may_be_chunked && lines.any(says_chunked) {
            self.fields = 0;
            Expecting::ChunkSize
        } else {
            Expecting::Rest
        };
        Some(length)
    }

    fn chunk_size(&mut self, input: &[u8]) -> Option<usize> {
        let line = chunk_line(input)?;
        let text = line.trim_ascii();
        if !text.is_empty() {
            self.expecting = match size(text) {
                Some(0) => Expecting::Trailers,
                Some(size) => Expecting::ChunkData(size),
                // ureq refuses it.
                None => Expecting::Rest,
            };
        }
        Some(line.len())
    }

    fn chunk_data(&mut self, left: usize, input: &[u8]) -> Option<usize> {
        let used = left.min(input.len());
        self.expecting = match left - used {
            0 => Expecting::ChunkSize,
            left => Expecting::ChunkData(left),
        };
        (used > 0).then_some(used)
    }

    fn trailer(&mut self, input: &[u8]) -> Option<usize> {
        let line = chunk_line(input)?;
        self.fields += line.len();
        if line == CRLF {
            self.expecting = Expecting::Rest;
        }
        Some(line.len())
    }
}

/// The line at the start of `input`, with its end; `None` when it has not ended yet.
fn line(input: &[u8]) -> Option<&[u8]> {
    input.get(..=memchr(b'\n', input)?)
}

/// The same between chunks and after them, where ureq accepts only CRLF as the end of a line.
fn chunk_line(input: &[u8]) -> Option<&[u8]> {
    let end = memmem::find(input, CRLF)? + CRLF.len();
    input.get(..end)
}

/// The length of the head at the start of `input`, with the empty lines before it; `None` when it
/// has not ended yet.
fn head_length(input: &[u8]) -> Option<usize> {
    let mut length = 0;
    let mut has_begun = false;
    loop {
        let line = line(input.get(length..)?)?;
        length += line.len();
        if !line.trim_ascii_end().is_empty() {
            has_begun = true;
        } else if has_begun {
            return Some(length);
        }
    }
}

/// Whether a status line is that of an interim response. After 101 comes another protocol.
fn is_informational(status_line: &[u8]) -> bool {
    let status = status_line.split(|&byte| byte == b' ').nth(1);
    status.is_some_and(|status| status.starts_with(b"1") && status != b"101")
}

/// Whether a header field is `Transfer-Encoding` with `chunked` in it.
fn says_chunked(field: &[u8]) -> bool {
    const NAME: &[u8] = b"transfer-encoding:";
    let Some((name, value)) = field.split_at_checked(NAME.len()) else {
        return false;
    };
    name.eq_ignore_ascii_case(NAME)
        && value
            .split(|&byte| byte == b',')
            .any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"chunked"))
}

/// The size of a chunk, without its extensions.
fn size(line: &[u8]) -> Option<usize> {
    let digits = line.split(|&byte| byte == b';').next()?.trim_ascii();
    usize::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}
