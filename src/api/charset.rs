//! Character sets: turns a text into UTF-8.

/// U+FEFF in UTF-8, which some programs put before a text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// What windows-1252 has at 0x80 to 0x9f (WHATWG Encoding, index-windows-1252). It is also used for
/// ISO-8859-1, whose control characters at these places nobody means.
const WINDOWS_1252: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}',
    '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// A character set that can be read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Charset {
    /// UTF-8, or a character set that is not known. What is not UTF-8 then does not count as text.
    Utf8,
    Utf16 {
        is_big_endian: bool,
    },
    Windows1252,
    /// ISO-8859-15, which has the euro.
    Latin9,
}

impl Charset {
    /// That of `text`, whose `charset` may be `declared`. A byte order mark counts more (WHATWG
    /// Encoding, "decode"). JSON is UTF-8 (RFC 8259 §8.1): a charset with single bytes is believed
    /// only where it cannot be that.
    pub(crate) fn of(text: &[u8], declared: Option<&str>, is_json: bool) -> Self {
        if text.starts_with(BYTE_ORDER_MARK) {
            return Self::Utf8;
        }
        let utf16 = |is_big_endian| Self::Utf16 { is_big_endian };
        match text {
            [0xfe, 0xff, ..] => return utf16(true),
            [0xff, 0xfe, ..] => return utf16(false),
            _ => {}
        }
        let declared = declared.unwrap_or_default().to_ascii_lowercase();
        match declared.as_str() {
            "utf-16be" => utf16(true),
            "utf-16le" => utf16(false),
            // Without a mark, most begin with a character of ASCII.
            "utf-16" => utf16(text.first() == Some(&0)),
            _ if is_json && str::from_utf8(text).is_ok() => Self::Utf8,
            // Some servers name a charset also for what is not text.
            _ if text.iter().copied().any(is_binary) => Self::Utf8,
            "iso-8859-1" | "iso8859-1" | "iso_8859-1" | "latin1" | "windows-1252" | "cp1252"
            | "x-cp1252" => Self::Windows1252,
            "iso-8859-15" | "iso8859-15" | "iso_8859-15" | "latin9" | "latin-9" => Self::Latin9,
            _ => Self::Utf8,
        }
    }

    /// Turns `text` into UTF-8 without a byte order mark. Also returns the position there that
    /// corresponds to `cut` in `text`; if `text` ends before `cut`, a position beyond its end.
    pub(crate) fn decoded(self, mut text: Vec<u8>, cut: usize) -> (Vec<u8>, usize) {
        if self == Self::Utf8 {
            if !text.starts_with(BYTE_ORDER_MARK) {
                return (text, cut);
            }
            text.drain(..BYTE_ORDER_MARK.len());
            return (text, cut.saturating_sub(BYTE_ORDER_MARK.len()));
        }
        let start = text.get(..cut).unwrap_or(&text);
        let cut = if start.len() == text.len() {
            usize::MAX
        } else {
            self.text(start).len()
        };
        (self.text(&text).into_bytes(), cut)
    }

    fn text(self, bytes: &[u8]) -> String {
        let single = |byte: &u8| {
            let index = usize::from(byte.wrapping_sub(0x80));
            match self {
                Self::Latin9 => latin9(*byte),
                _ => *WINDOWS_1252.get(index).unwrap_or(&char::from(*byte)),
            }
        };
        let Self::Utf16 { is_big_endian } = self else {
            return bytes.iter().map(single).collect();
        };
        // Half a character at the end is not there.
        let (pairs, _) = bytes.as_chunks::<2>();
        let units = pairs.iter().map(|pair| {
            if is_big_endian {
                u16::from_be_bytes(*pair)
            } else {
                u16::from_le_bytes(*pair)
            }
        });
        let text: String = char::decode_utf16(units)
            .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
            .collect();
        match text.strip_prefix('\u{feff}') {
            Some(behind) => behind.to_owned(),
            None => text,
        }
    }
}

/// Whether no text has this byte (WHATWG MIME Sniffing §3, "binary data byte").
fn is_binary(byte: u8) -> bool {
    matches!(byte, 0x00..=0x08 | 0x0b | 0x0e..=0x1a | 0x1c..=0x1f)
}

/// ISO-8859-15 differs from ISO-8859-1 in eight places.
fn latin9(byte: u8) -> char {
    match byte {
        0xa4 => '€',
        0xa6 => 'Š',
        0xa8 => 'š',
        0xb4 => 'Ž',
        0xb8 => 'ž',
        0xbc => 'Œ',
        0xbd => 'œ',
        0xbe => 'Ÿ',
        _ => char::from(byte),
    }
}
