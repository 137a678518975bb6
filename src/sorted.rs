//! Makes sorted maps, sets and short lists without a sort. Each type that is sorted gets a sort of
//! its own in the binary, also where a map or a set is made with `collect`.

use std::collections::{BTreeMap, BTreeSet};

/// A map of `members`; of two with the same key, the later one.
pub fn map<K: Ord, V>(members: impl IntoIterator<Item = (K, V)>) -> BTreeMap<K, V> {
    let mut map = BTreeMap::new();
    map.extend(members);
    map
}

/// Puts `item` into the sorted `list`, behind all items whose `key` is not greater. For short
/// lists.
pub fn insert<T, K: Ord>(list: &mut Vec<T>, item: T, key: impl Fn(&T) -> K) {
    let own = key(&item);
    let place = list.partition_point(|other| key(other) <= own);
    list.insert(place, item);
}

/// A set of `members`.
pub fn set<T: Ord>(members: impl IntoIterator<Item = T>) -> BTreeSet<T> {
    let mut set = BTreeSet::new();
    set.extend(members);
    set
}
