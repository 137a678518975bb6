//! What somebody may have meant who wrote a name that there is not.

/// The candidate that is nearest to `word`, if one is near: at most two characters differ, and not
/// more than half of them.
pub fn nearest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let most = word.len().min(4) / 2;
    for distance in 1..=most {
        let mut candidates = candidates.iter();
        if let Some(near) = candidates.find(|candidate| is_within(word, candidate, distance)) {
            return Some(near);
        }
    }
    None
}

/// Whether `a` becomes `b` when at most `most` bytes are inserted, deleted or replaced
/// (Levenshtein distance, one row of the table at a time).
pub fn is_within(a: &str, b: &str, most: usize) -> bool {
    // The lengths tell of most pairs that they are too far apart, at no cost.
    if a.len().abs_diff(b.len()) > most {
        return false;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (index, in_a) in a.bytes().enumerate() {
        let mut next = vec![index + 1];
        let mut left = index + 1;
        for (above, in_b) in row.windows(2).zip(b.bytes()) {
            let [replaced, deleted] = above else {
                continue;
            };
            let replacement = replaced + usize::from(in_a != in_b);
            left = replacement.min(deleted + 1).min(left + 1);
            next.push(left);
        }
        // No later row holds a smaller number.
        if next.iter().all(|distance| *distance > most) {
            return false;
        }
        row = next;
    }
    row.last().is_some_and(|distance| *distance <= most)
}
