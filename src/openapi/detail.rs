//! In how much detail the arguments of an operation are listed.

/// How much of a schema is listed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Detail {
    /// How deep objects and arrays are described.
    pub(super) depth: usize,
    /// The longest description, in bytes.
    pub(super) words: usize,
    /// The longest list of values.
    pub(super) choices: usize,
}

/// The levels of detail, from everything to almost nothing. The first one that fits is used.
pub(super) const DETAILS: [Detail; 10] = [
    detail(7, 300, 100),
    detail(6, 200, 50),
    detail(5, 120, 30),
    detail(4, 120, 30),
    detail(3, 100, 20),
    detail(2, 80, 10),
    detail(1, 80, 10),
    detail(1, 40, 5),
    detail(1, 0, 5),
    detail(0, 40, 5),
];

const fn detail(depth: usize, words: usize, choices: usize) -> Detail {
    Detail {
        depth,
        words,
        choices,
    }
}
