//! Chunked bodies: any split gives the same, and what was encoded is decoded.

use entra_auth_mcp::http::body::ChunkedBody;

const MOST_BODY_BYTES: usize = 4 * 1024 * 1024;

pub fn holds(input: &[u8]) {
    let (size, bytes) = super::choice(input);
    let whole = decoded(bytes, bytes.len().max(1));
    for step in [1, 2, 3, 5, size + 1] {
        assert_eq!(decoded(bytes, step), whole, "in pieces of {step}");
    }
    if let Ok((body, used, _)) = whole {
        assert!(used <= bytes.len() && body.len() <= used.min(MOST_BODY_BYTES));
    }
    let encoded = encode(bytes, size + 1);
    assert_eq!(
        decoded(&encoded, 7),
        Ok((bytes.to_vec(), encoded.len(), true))
    );
    // What follows the body is not the body's.
    let followed = [&encoded, bytes].concat();
    assert_eq!(
        decoded(&followed, size + 1),
        Ok((bytes.to_vec(), encoded.len(), true))
    );
}

/// The body, how many bytes of `input` it takes, and whether it has ended; or the status of the refusal.
fn decoded(input: &[u8], step: usize) -> Result<(Vec<u8>, usize, bool), u16> {
    let mut body = ChunkedBody::new(MOST_BODY_BYTES);
    let (mut waiting, mut used) = (Vec::new(), 0);
    for piece in input.chunks(step) {
        waiting.extend_from_slice(piece);
        let taken = body.decode(&waiting).map_err(|refusal| refusal.status)?;
        waiting.drain(..taken);
        used += taken;
    }
    let is_complete = body.is_complete();
    Ok((body.decoded, used, is_complete))
}

/// `body` in chunks of `size` bytes (RFC 9112 §7.1).
fn encode(body: &[u8], size: usize) -> Vec<u8> {
    let chunk =
        |data: &[u8]| [format!("{:X};x\r\n", data.len()).as_bytes(), data, b"\r\n"].concat();
    let mut encoded: Vec<u8> = body.chunks(size).flat_map(chunk).collect();
    encoded.extend_from_slice(b"0\r\nTrailer: x\r\n\r\n");
    encoded
}
