//! Strings in JSON (RFC 8259 §7). Long answers are mostly strings, so eight bytes are looked at in
//! one step.

/// What is less is a control character.
const SPACE: u8 = 0x20;
const ONES: u64 = u64::from_ne_bytes([1; 8]);
const HIGH_BITS: u64 = u64::from_ne_bytes([0x80; 8]);

/// How many bytes of `text` stand before the first that a string must escape.
pub(crate) fn plain_length(text: &[u8]) -> usize {
    let (words, rest) = text.as_chunks();
    for (index, word) in words.iter().enumerate() {
        let plain = plain_bytes(*word);
        if plain < 8 {
            return index * 8 + plain;
        }
    }
    let plain = rest.iter().position(|byte| is_special(*byte));
    words.len() * 8 + plain.unwrap_or(rest.len())
}

/// Adds `text`, as it stands in a string, to `json`.
pub(crate) fn escape(json: &mut Vec<u8>, text: &str) {
    let mut rest = text.as_bytes();
    while let Some((word, behind)) = rest.split_first_chunk() {
        let plain = plain_bytes(*word);
        let end = json.len() + plain;
        // To copy all eight costs less than to copy as many as there are.
        json.extend_from_slice(word);
        json.truncate(end);
        rest = match word.get(plain) {
            Some(special) => {
                escape_byte(json, *special);
                rest.get(plain + 1..).unwrap_or_default()
            }
            None => behind,
        };
    }
    for byte in rest {
        escape_byte(json, *byte);
    }
}

fn escape_byte(json: &mut Vec<u8>, byte: u8) {
    let letter = match byte {
        b'"' | b'\\' => byte,
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        0..SPACE => return json.extend(format!("\\u{byte:04x}").bytes()),
        _ => return json.push(byte),
    };
    json.extend_from_slice(&[b'\\', letter]);
}

fn is_special(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\') || byte < SPACE
}

/// The same of eight bytes.
fn plain_bytes(word: [u8; 8]) -> usize {
    let word = u64::from_le_bytes(word);
    let special = less(word ^ (ONES * u64::from(b'"')), 1)
        | less(word ^ (ONES * u64::from(b'\\')), 1)
        | less(word, SPACE);
    special.trailing_zeros() as usize / 8
}

/// The high bit of each byte that is less than `bound`; of those above the lowest one that is set,
/// some may be wrong.
fn less(word: u64, bound: u8) -> u64 {
    word.wrapping_sub(ONES * u64::from(bound)) & !word & HIGH_BITS
}
