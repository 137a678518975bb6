//! Sorted maps and sets of what an iterator gives. `collect` would sort beforehand, and the sort is
//! compiled anew for every type: 6 KB each.

use std::collections::{BTreeMap, BTreeSet};

/// A map of `members`; of two with the same key, the later one.
pub fn map<K: Ord, V>(members: impl IntoIterator<Item = (K, V)>) -> BTreeMap<K, V> {
    let mut map = BTreeMap::new();
    map.extend(members);
    map
}

/// A set of `members`.
pub fn set<T: Ord>(members: impl IntoIterator<Item = T>) -> BTreeSet<T> {
    let mut set = BTreeSet::new();
    set.extend(members);
    set
}
