//! Whether every common parser accepts a JSON text. A client that cannot parse a result believes
//! that the call has failed, although it was done.

use memchr::memchr;

use crate::json_string::plain_length;

/// Common parsers stop at 64 levels. The result around the data takes three, and one is to spare.
const MOST_LEVELS: usize = 60;
/// Some parsers refuse a number that no double can hold (more than 308 digits). Python refuses an
/// integer with more than 4,300 digits.
const MOST_DIGITS: usize = 300;

/// What was found in a text.
pub(crate) struct Found {
    /// Whether it is JSON (RFC 8259) that every parser accepts once [`Self::mended`].
    pub(crate) is_fit: bool,
    /// The positions of the escapes of lone surrogates.
    lone_surrogates: Vec<usize>,
}

impl Found {
    /// Looks through `text`.
    pub(crate) fn in_text(text: &str) -> Self {
        let mut scanner = Scanner {
            text: text.as_bytes(),
            at: 0,
            lone_surrogates: Vec::new(),
        };
        let is_fit = scanner.json().is_some();
        if !is_fit {
            scanner.find_surrogates();
        }
        Self {
            is_fit,
            lone_surrogates: scanner.lone_surrogates,
        }
    }

    /// The text in which this was found, with U+FFFD in the place of each lone surrogate (RFC 7493
    /// §2.1).
    pub(crate) fn mended(&self, text: String) -> String {
        if self.lone_surrogates.is_empty() {
            return text;
        }
        let mut bytes = text.into_bytes();
        for at in &self.lone_surrogates {
            if let Some(digits) = bytes.get_mut(at + 2..at + 6) {
                digits.copy_from_slice(b"fffd");
            }
        }
        // It is still UTF-8: ASCII digits have replaced ASCII digits.
        String::from_utf8(bytes).unwrap_or_default()
    }
}

/// The arrays and objects that are open at one position of a text.
#[derive(Default)]
struct Open {
    level: usize,
    /// One bit for each: 1 for an object, 0 for an array. The lowest bit is the innermost.
    objects: u64,
}

impl Open {
    fn push(&mut self, is_object: bool) -> Option<()> {
        self.level += 1;
        self.objects = self.objects << 1 | u64::from(is_object);
        (self.level <= MOST_LEVELS).then_some(())
    }

    fn pop(&mut self) {
        self.level -= 1;
        self.objects >>= 1;
    }

    fn is_in_object(&self) -> bool {
        self.objects & 1 == 1
    }
}

/// Reads a text from its beginning to its end. Its methods return `None` if the text is not JSON
/// that every parser accepts.
struct Scanner<'t> {
    text: &'t [u8],
    at: usize,
    lone_surrogates: Vec<usize>,
}

impl Scanner<'_> {
    /// One value, and nothing after it.
    fn json(&mut self) -> Option<()> {
        let mut open = Open::default();
        loop {
            let has_begun = self.value(&mut open)?;
            if has_begun {
                continue;
            }
            // A value has ended: close what ends with it, up to the next comma.
            loop {
                if open.level == 0 {
                    self.skip_white_space();
                    return (self.at == self.text.len()).then_some(());
                }
                match self.token()? {
                    b',' => break,
                    b'}' if open.is_in_object() => open.pop(),
                    b']' if !open.is_in_object() => open.pop(),
                    _ => return None,
                }
            }
            if open.is_in_object() {
                self.key()?;
            }
        }
    }

    /// Reads a value. Of an array or an object that is not empty, it reads only the beginning, up
    /// to the first value inside, and returns `true`.
    fn value(&mut self, open: &mut Open) -> Option<bool> {
        match self.token()? {
            b'"' => self.string()?,
            b'{' => {
                open.push(true)?;
                if !self.is_next(b'}') {
                    self.key()?;
                    return Some(true);
                }
                open.pop();
            }
            b'[' => {
                open.push(false)?;
                if !self.is_next(b']') {
                    return Some(true);
                }
                open.pop();
            }
            b't' => self.literal(b"rue")?,
            b'f' => self.literal(b"alse")?,
            b'n' => self.literal(b"ull")?,
            b'-' => {
                let first = self.byte()?;
                self.number(first)?;
            }
            first => self.number(first)?,
        }
        Some(false)
    }

    fn key(&mut self) -> Option<()> {
        if self.token()? != b'"' {
            return None;
        }
        self.string()?;
        (self.token()? == b':').then_some(())
    }

    fn literal(&mut self, rest: &[u8]) -> Option<()> {
        self.rest().starts_with(rest).then_some(())?;
        self.at += rest.len();
        Some(())
    }

    /// The rest of a number after its first digit (RFC 8259 §6).
    fn number(&mut self, first: u8) -> Option<()> {
        let mut digits = match first {
            b'0' => 1,
            b'1'..=b'9' => 1 + self.digits(),
            _ => return None,
        };
        if self.peek() == Some(b'.') {
            self.at += 1;
            let fraction = self.digits();
            if fraction == 0 {
                return None;
            }
            digits = digits.max(fraction);
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            digits = digits.saturating_add(self.exponent()?);
        }
        (digits <= MOST_DIGITS).then_some(())
    }

    /// Reads an exponent, and returns how many digits it adds to the number.
    fn exponent(&mut self) -> Option<usize> {
        let sign = self.peek();
        if let Some(b'+' | b'-') = sign {
            self.at += 1;
        }
        let start = self.at;
        if self.digits() == 0 {
            return None;
        }
        if sign == Some(b'-') {
            return Some(0);
        }
        let power = str::from_utf8(self.text.get(start..self.at)?).ok()?;
        Some(power.parse().unwrap_or(usize::MAX))
    }

    /// Skips digits, and returns how many there were.
    fn digits(&mut self) -> usize {
        let rest = self.rest();
        let end = rest.iter().position(|byte| !byte.is_ascii_digit());
        let count = end.unwrap_or(rest.len());
        self.at += count;
        count
    }

    /// The rest of a string after its first quotation mark (RFC 8259 §7).
    fn string(&mut self) -> Option<()> {
        loop {
            self.at += plain_length(self.rest());
            match self.byte()? {
                b'"' => return Some(()),
                b'\\' => self.escape()?,
                _ => return None,
            }
        }
    }

    /// The rest of an escape after its backslash.
    fn escape(&mut self) -> Option<()> {
        let start = self.at - 1;
        match self.byte()? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => return Some(()),
            b'u' => {}
            _ => return None,
        }
        let unit = unit(self.text, start)?;
        self.at = start + 6;
        match unit {
            0xd800..0xdc00 if matches!(self::unit(self.text, self.at), Some(0xdc00..0xe000)) => {
                self.at += 6;
            }
            0xd800..0xe000 => self.lone_surrogates.push(start),
            _ => {}
        }
        Some(())
    }

    /// Looks for lone surrogates in all strings of a text that was not accepted. The caller may
    /// select a part of it that is.
    fn find_surrogates(&mut self) {
        self.at = 0;
        self.lone_surrogates.clear();
        while let Some(start) = memchr(b'"', self.rest()) {
            self.at += start + 1;
            // After a mistake in one string, the search goes on with the next.
            let _ = self.string();
        }
    }

    /// Skips white space, and takes one byte.
    fn token(&mut self) -> Option<u8> {
        self.skip_white_space();
        self.byte()
    }

    /// Skips white space, and then `byte` if it is next. Returns whether it was.
    fn is_next(&mut self, byte: u8) -> bool {
        self.skip_white_space();
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn skip_white_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn rest(&self) -> &[u8] {
        self.text.get(self.at..).unwrap_or_default()
    }
}

/// The UTF-16 code unit whose escape begins at `at` (RFC 8259 §7).
fn unit(text: &[u8], at: usize) -> Option<u16> {
    let digits = text.get(at..at + 6)?.strip_prefix(b"\\u")?;
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u16::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
}
