//! JSON that some parsers do not take, although its syntax is right. A client that cannot read a
//! result takes a call for failed that was done.

/// Common parsers stop at 64 levels; three are those of the result around it, and one is to spare.
const MOST_LEVELS: usize = 60;
/// Some parsers refuse what no double holds (more than 308 digits), Python an integer of more than
/// 4,300 digits.
const MOST_DIGITS: usize = 300;
const ONES: u64 = u64::from_ne_bytes([1; 8]);
const HIGH_BITS: u64 = u64::from_ne_bytes([0x80; 8]);

/// What was found in a JSON text.
pub(crate) struct Found {
    /// Whether every parser takes it, once the surrogates are mended.
    pub(crate) is_fit: bool,
    /// Where escapes of lone surrogates stand.
    lone_surrogates: Vec<usize>,
}

impl Found {
    /// Looks through `json`, whose syntax is right, or which is not handed on as JSON.
    pub(crate) fn in_text(json: &str) -> Self {
        let json = json.as_bytes();
        let (mut level, mut deepest, mut most_digits, mut at) = (0_usize, 0, 0, 0);
        let mut lone_surrogates = Vec::new();
        while let Some(byte) = json.get(at) {
            at += 1;
            match byte {
                b'"' => at = end_of_string(json, at, &mut lone_surrogates),
                b'[' | b'{' => {
                    level += 1;
                    deepest = deepest.max(level);
                }
                b']' | b'}' => level = level.saturating_sub(1),
                b'0'..=b'9' => {
                    let rest = json.get(at..).unwrap_or_default();
                    let digits = digits(rest).len();
                    let behind = rest.get(digits..).unwrap_or_default();
                    most_digits = most_digits.max(1 + digits + exponent(behind));
                    at += digits;
                }
                _ => {}
            }
        }
        Self {
            is_fit: deepest <= MOST_LEVELS && most_digits <= MOST_DIGITS,
            lone_surrogates,
        }
    }

    /// The text in which this was found, with U+FFFD in the place of each lone surrogate (RFC 7493
    /// §2.1).
    pub(crate) fn mended(&self, json: String) -> String {
        if self.lone_surrogates.is_empty() {
            return json;
        }
        let mut bytes = json.into_bytes();
        for at in &self.lone_surrogates {
            if let Some(digits) = bytes.get_mut(at + 2..at + 6) {
                digits.copy_from_slice(b"fffd");
            }
        }
        // ASCII has replaced ASCII.
        String::from_utf8(bytes).unwrap_or_default()
    }
}

/// The digits with which `text` begins.
fn digits(text: &[u8]) -> &[u8] {
    let end = text.iter().position(|byte| !byte.is_ascii_digit());
    text.get(..end.unwrap_or(text.len())).unwrap_or_default()
}

/// The exponent with which `text` begins, behind the digits of a number; 0 for none and for a
/// negative one.
fn exponent(text: &[u8]) -> usize {
    let (b"e" | b"E", power) = text.split_at_checked(1).unwrap_or_default() else {
        return 0;
    };
    let power = digits(power.strip_prefix(b"+").unwrap_or(power));
    let number = str::from_utf8(power).map(str::parse::<usize>);
    match (power, number) {
        ([], _) => 0,
        (_, Ok(Ok(number))) => number.min(usize::MAX / 2),
        _ => usize::MAX / 2,
    }
}

/// Where the string ends whose first character stands at `at`, behind its quotation mark.
fn end_of_string(json: &[u8], mut at: usize, lone_surrogates: &mut Vec<usize>) -> usize {
    loop {
        at += plain_length(json.get(at..).unwrap_or_default());
        if json.get(at) != Some(&b'\\') {
            return at + 1;
        }
        let length = match unit(json, at) {
            Some(0xd800..0xdc00) if matches!(unit(json, at + 6), Some(0xdc00..0xe000)) => 12,
            Some(0xd800..0xe000) => {
                lone_surrogates.push(at);
                6
            }
            _ => 2,
        };
        at += length;
    }
}

/// The UTF-16 code unit that is escaped at `at` (RFC 8259 §7).
fn unit(json: &[u8], at: usize) -> Option<u16> {
    let digits = json.get(at..at + 6)?.strip_prefix(b"\\u")?;
    u16::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
}

/// How many bytes stand before the first quotation mark or backslash. Eight are looked at in one
/// step: most of a long answer is strings.
fn plain_length(text: &[u8]) -> usize {
    let (words, rest) = text.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let hits = zeros(word ^ (ONES * u64::from(b'"'))) | zeros(word ^ (ONES * u64::from(b'\\')));
        if hits != 0 {
            return index * 8 + hits.trailing_zeros() as usize / 8;
        }
    }
    let is_special = |byte: &u8| matches!(byte, b'"' | b'\\');
    words.len() * 8 + rest.iter().position(is_special).unwrap_or(rest.len())
}

/// The high bit of each byte that is zero; of those above the lowest one that is set, some may be
/// wrong.
fn zeros(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGH_BITS
}
