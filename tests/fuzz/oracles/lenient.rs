//! The most lenient reader of a request target that there could be.

/// Whether a server that decodes as often as it can, takes a backslash for a slash, an overlong
/// byte sequence for what it stands for and a look-alike for what it looks like, merges slashes and
/// drops path parameters, stays below `/base/`.
pub fn stays_below(target: &str, base: &str) -> bool {
    let mut path = target.split('?').next().unwrap().as_bytes().to_vec();
    loop {
        let decoded = decoded_once(&path);
        if decoded == path {
            break;
        }
        path = decoded;
    }
    if let Ok(text) = String::from_utf8(path.clone()) {
        let text = text.replace(
            ['／', '⁄', '∕', '⧸', '╱', '＼', '﹨', '∖', '⧵', '¥', '₩'],
            "/",
        );
        path = text
            .replace(['．', '﹒', '․'], ".")
            .replace(['‥', '︰'], "..")
            .into_bytes();
    }
    let mut segments = path.split(|byte| matches!(byte, b'/' | b'\\'));
    if segments.next() != Some(b"") || segments.next() != Some(base.as_bytes()) {
        return false;
    }
    let mut depth = 0;
    segments.all(|segment| {
        match segment.split(|byte| *byte == b';').next().unwrap() {
            b".." => depth -= 1,
            b"" | b"." => {}
            _ => depth += 1,
        }
        depth >= 0
    })
}

fn decoded_once(bytes: &[u8]) -> Vec<u8> {
    let hex = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let mut decoded = Vec::new();
    let mut rest = bytes;
    while let [first, more @ ..] = rest {
        let (byte, left) = match rest {
            [b'%', high, low, left @ ..] => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, left),
                _ => (*first, more),
            },
            // Two bytes for one that needs no more than itself.
            [0xc0 | 0xc1, second @ 0x80..=0xbf, left @ ..] => {
                ((first & 1) << 6 | second & 0x3f, left)
            }
            _ => (*first, more),
        };
        decoded.push(byte);
        rest = left;
    }
    decoded
}
