//! Bytes in pieces that are written one after another, so that a long one need not be copied to
//! stand beside others.

use std::sync::Arc;

/// Some bytes.
#[derive(Debug)]
enum Piece {
    Own(Vec<u8>),
    Shared(Arc<str>),
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(text) => text.as_bytes(),
        }
    }
}

/// Bytes in pieces.
#[derive(Debug, Default)]
pub struct Pieces(Vec<Piece>);

impl Pieces {
    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.iter().map(<[u8]>::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The pieces in their order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(Piece::bytes)
    }

    /// Adds a copy of `bytes`, to the last piece where it has room for them.
    pub fn copy(&mut self, bytes: &[u8]) {
        match self.0.last_mut() {
            Some(Piece::Own(last)) if last.capacity() - last.len() >= bytes.len() => {
                last.extend_from_slice(bytes);
            }
            _ => self.0.push(Piece::Own(bytes.to_vec())),
        }
    }

    /// Adds `bytes` as a piece of their own.
    pub fn push(&mut self, bytes: impl Into<Vec<u8>>) {
        self.0.push(Piece::Own(bytes.into()));
    }

    /// Adds `text`, which stays where it is.
    pub fn share(&mut self, text: &Arc<str>) {
        self.0.push(Piece::Shared(Arc::clone(text)));
    }

    /// Adds what is in `others`.
    pub fn append(&mut self, mut others: Self) {
        self.0.append(&mut others.0);
    }
}

impl<B: Into<Vec<u8>>> From<B> for Pieces {
    fn from(bytes: B) -> Self {
        let mut pieces = Self::default();
        pieces.push(bytes);
        pieces
    }
}
