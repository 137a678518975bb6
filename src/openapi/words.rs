//! The words of identifiers and of sentences, brought to the forms in which they meet.

/// Words that say nothing about what an operation does.
const FILLERS: &[&str] = &[
    "a", "about", "am", "an", "and", "another", "any", "are", "as", "at", "be", "been", "before",
    "but", "by", "can", "could", "do", "does", "for", "from", "had", "has", "have", "here", "how",
    "if", "in", "into", "is", "it", "its", "need", "not", "of", "on", "or", "other", "our",
    "please", "so", "some", "that", "the", "their", "them", "then", "there", "these", "they",
    "this", "to", "up", "us", "want", "was", "we", "were", "what", "when", "which", "whom",
    "whose", "will", "with", "would", "you", "your",
];

/// Stems that are one word. The first of a row stands for the others.
const SAME: &[&[&str]] = &[
    &["mail", "email"],
    &["licens", "licenc"],
    &["favorit", "favourit"],
    &["color", "colour"],
    &["repository", "repo"],
    &["pullrequest", "pr"],
    &["photo", "photograph"],
    &["phon", "telephon"],
];

pub(super) fn is_filler(word: &str) -> bool {
    FILLERS.contains(&word)
}

/// The tokens of `text`: what stands between spaces and signs. A hyphen and an underline join.
pub(super) fn tokens(text: &str) -> impl Iterator<Item = &str> {
    let is_apart = |c: char| !c.is_alphanumeric() && !matches!(c, '-' | '_');
    text.split(is_apart).filter(|token| !token.is_empty())
}

/// The words of a token, in lower case: `driveItem`, `HTTPServer` and `Office365` have two each.
pub(super) fn words(token: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut previous = None;
    let mut rest = token.chars();
    while let Some(current) = rest.next() {
        let is_apart = !current.is_alphanumeric();
        if (is_apart || begins_word(previous, current, rest.as_str())) && !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        if !is_apart {
            word.extend(current.to_lowercase());
        }
        previous = Some(current);
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// Whether `current` is the first character of a word within an identifier.
fn begins_word(previous: Option<char>, current: char, rest: &str) -> bool {
    let Some(previous) = previous else {
        return true;
    };
    if previous.is_numeric() != current.is_numeric() {
        return true;
    }
    if previous.is_lowercase() {
        return current.is_uppercase();
    }
    // The last capital of `HTTPServer` belongs to what follows; that of `PRs` does not.
    let next = rest.chars().next();
    current.is_uppercase() && next.is_some_and(char::is_lowercase) && rest != "s"
}

/// `word` without the endings of grammar.
pub(super) fn stem(word: &str) -> String {
    let mut stem = without_plural(word);
    for ending in ["ing", "ed", "ment", "ity"] {
        let root = stem.strip_suffix(ending).filter(|root| root.len() > 2);
        if let Some(root) = root.filter(|root| !root.ends_with('e')) {
            stem = without_doubling(root).to_string();
            break;
        }
    }
    if stem.len() > 3 && stem.ends_with('e') {
        stem.pop();
    }
    let row = SAME.iter().find(|row| row.contains(&stem.as_str()));
    row.and_then(|row| row.first())
        .map_or(stem, |first| (*first).to_owned())
}

fn without_plural(word: &str) -> String {
    let ends_with = |endings: &[&str]| endings.iter().any(|ending| word.ends_with(ending));
    if word.len() < 3 || ends_with(&["ss", "us", "is"]) {
        return word.to_owned();
    }
    if let Some(root) = word.strip_suffix("ies").filter(|root| root.len() > 1) {
        return format!("{root}y");
    }
    let plural = if ends_with(&["sses", "uses", "ches", "shes", "xes"]) {
        "es"
    } else {
        "s"
    };
    word.strip_suffix(plural).unwrap_or(word).to_owned()
}

/// The `run` of `running`; but `call` of `calling`.
fn without_doubling(root: &str) -> &str {
    let mut from_end = root.chars().rev();
    let last = from_end.next();
    let is_doubled = last == from_end.next() && !matches!(last, Some('l' | 's' | 'z'));
    let shorter = root.char_indices().next_back();
    let shorter = shorter.and_then(|(end, _)| root.get(..end));
    shorter.filter(|_| is_doubled).unwrap_or(root)
}

/// The stems by which `text` is found: those of its words, and of two neighbors in one token
/// (`timezone` of `timeZones`).
pub(super) fn stems(text: &str) -> Vec<String> {
    let mut stems = Vec::new();
    for token in tokens(text) {
        let words = words(token);
        stems.extend(
            words
                .iter()
                .filter(|word| counts(word))
                .map(|word| stem(word)),
        );
        let pairs = words.iter().zip(words.iter().skip(1));
        stems.extend(pairs.map(|(first, second)| stem(&format!("{first}{second}"))));
    }
    stems
}

/// Whether `word` can tell operations apart.
pub(super) fn counts(word: &str) -> bool {
    word.chars().nth(1).is_some() && !is_filler(word)
}
