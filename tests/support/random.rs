//! Made-up input that is the same in every run.
#![allow(dead_code)] // not every test uses all of it

/// xorshift64.
pub struct Random(u64);

impl Random {
    /// Another sequence for each `seed`, which is not 0.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap() % limit
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// So many at most, each one of `from`.
    pub fn some<T: Copy>(&mut self, from: &[T], most: usize) -> Vec<T> {
        (0..self.below(most + 1)).map(|_| self.pick(from)).collect()
    }
}
