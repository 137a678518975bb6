//! What a question asks for: the action, and the things that it names.

use std::collections::{BTreeMap, BTreeSet};

use super::words::{counts, stem, tokens, words};

/// A row: words that people say, a colon, and the words under which an API may have it. Those behind
/// the colon are found under one another, too. A plus joins two words that stand side by side.
const SYNONYMS: &str = include_str!("synonyms.txt");

/// How much a synonym counts beside the word itself.
const SYNONYM: f64 = 0.8;
/// The same of one word of an identifier that has several.
const PART: f64 = 0.4;
/// How much two neighboring words count that an API writes as one word, in addition to each.
const PAIR: f64 = 0.5;
const WHO: f64 = 0.4;

/// Words for the person who asks, each with how likely it means that person.
const PERSONAL: [(&str, f64); 7] = [
    ("my", 0.6),
    ("mine", 0.6),
    ("myself", 0.6),
    ("i", 0.4),
    ("im", 0.4),
    ("ive", 0.4),
    ("me", 0.3),
];
/// What APIs call the person who asks.
pub(super) const CALLER: &str = "me";

/// A question that begins with one of these words asks for information.
const ASKING: [&str; 19] = [
    "what", "who", "whom", "whose", "which", "when", "where", "how", "is", "are", "am", "does",
    "do", "did", "has", "have", "was", "were", "can",
];
const READING: [&str; 13] = [
    "list", "show", "get", "read", "find", "search", "look", "see", "view", "display", "fetch",
    "give", "all",
];
const CREATING: [&str; 12] = [
    "create", "add", "new", "make", "start", "insert", "register", "send", "write", "post", "open",
    "book",
];
const CHANGING: [&str; 7] = [
    "change", "update", "edit", "modify", "rename", "correct", "extend",
];
const DELETING: [&str; 8] = [
    "delete", "remove", "cancel", "drop", "erase", "destroy", "rid", "stop",
];
/// Words that follow the verb of a command: "forward the mail", "remind them".
const OBJECTS: [&str; 14] = [
    "a",
    "an",
    "the",
    "this",
    "my",
    "our",
    "me",
    "them",
    "him",
    "her",
    "it",
    "somebody",
    "someone",
    "everybody",
];
/// Words that ask for one thing of many.
const ONE: [&str; 6] = [
    "one",
    "single",
    "specific",
    "detail",
    "details",
    "particular",
];

/// The action that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Read,
    Create,
    Change,
    Delete,
    /// Another action than reading; the words say which.
    Act,
    Unsaid,
}

/// One thing that a question names.
pub(super) struct Concept {
    /// Its stem, then others for it, each with how much it counts beside the first.
    pub(super) stems: Vec<(String, f64)>,
    pub(super) weight: f64,
    pub(super) role: Role,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// A verb that names the action, and counts only as the name of an action.
    Verb,
    Plain,
    /// The person who asks, and similar words, which say little.
    Aside,
}

/// A question, understood.
pub(super) struct Question {
    pub(super) wish: Wish,
    /// Whether one thing of many is asked for.
    pub(super) is_of_one: bool,
    pub(super) concepts: Vec<Concept>,
}

/// Synonyms: the stems of one vocabulary that can replace a stem.
#[derive(Debug)]
pub(super) struct Synonyms(BTreeMap<String, Vec<String>>);

impl Synonyms {
    /// Those that `is_known` leaves of the table.
    pub(super) fn new(is_known: impl Fn(&str) -> bool) -> Self {
        let mut synonyms: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for row in SYNONYMS.lines() {
            let Some((said, meant)) = row.split_once(": ") else {
                continue;
            };
            let meant: Vec<String> = meant.split(' ').map(stem).collect();
            let said = said.split(' ').map(pair_or_stem);
            for word in said.chain(meant.clone()) {
                let known = synonyms.entry(word).or_default();
                for stem in meant.iter().filter(|stem| is_known(stem)) {
                    if !known.contains(stem) {
                        known.push(stem.clone());
                    }
                }
            }
        }
        synonyms.retain(|_, meant| !meant.is_empty());
        Self(synonyms)
    }

    fn of(&self, stem: &str) -> &[String] {
        self.0.get(stem).map(Vec::as_slice).unwrap_or_default()
    }
}

/// The stem of a word of the table, which may be two with a plus between.
fn pair_or_stem(word: &str) -> String {
    match word.split_once('+') {
        Some((first, second)) => stem(&format!("{first}{second}")),
        None => stem(word),
    }
}

impl Question {
    /// Of `text`. `is_known` says whether an operation has a stem.
    pub(super) fn new(text: &str, synonyms: &Synonyms, is_known: impl Fn(&str) -> bool) -> Self {
        let text = text.replace('’', "'").replace("'s", "").replace('\'', "");
        let tokens: Vec<Vec<String>> = tokens(&text).map(words).collect();
        let said: Vec<String> = tokens.iter().map(|words| words.concat()).collect();
        let mut concepts = Vec::new();
        let mut seen = BTreeSet::new();
        for (place, words) in tokens.iter().enumerate() {
            let word = words.concat();
            if let Some(next) = said.get(place + 1) {
                let pair = stem(&format!("{word}{next}"));
                concepts.extend(concept_of_pair(&word, pair, synonyms, &is_known));
            }
            let personal = PERSONAL.iter().find(|(known, _)| *known == word);
            if let Some((_, weight)) = personal {
                if seen.insert(CALLER.to_owned()) {
                    concepts.push(Concept {
                        stems: vec![(CALLER.to_owned(), 1.0)],
                        weight: *weight,
                        role: Role::Aside,
                    });
                }
            } else if counts(&word) && seen.insert(stem(&word)) {
                concepts.push(concept_of(&word, words, synonyms));
            }
        }
        let is_one =
            |word: &String| ONE.contains(&word.as_str()) || word.chars().all(char::is_numeric);
        Self {
            wish: wish(&said),
            is_of_one: said.iter().any(is_one),
            concepts,
        }
    }
}

/// What `word` and its neighbor name together, if it is anything.
fn concept_of_pair(
    word: &str,
    pair: String,
    synonyms: &Synonyms,
    is_known: impl Fn(&str) -> bool,
) -> Option<Concept> {
    let meant = synonyms.of(&pair);
    if !meant.is_empty() {
        let meant = meant.iter().map(|stem| (stem.clone(), SYNONYM));
        return Some(Concept {
            stems: std::iter::once((pair.clone(), 1.0)).chain(meant).collect(),
            weight: 1.0,
            role: Role::Plain,
        });
    }
    (counts(word) && !is_verb(word) && is_known(&pair)).then(|| Concept {
        stems: vec![(pair, 1.0)],
        weight: PAIR,
        role: Role::Plain,
    })
}

/// What `word` names, a token of these words.
fn concept_of(word: &str, words: &[String], synonyms: &Synonyms) -> Concept {
    let own = stem(word);
    let mut stems = vec![(own.clone(), 1.0)];
    // "Change" in a command is no change that is listed.
    if !CHANGING.contains(&word) {
        let others = synonyms.of(&own).iter().filter(|other| **other != own);
        stems.extend(others.map(|other| (other.clone(), SYNONYM)));
    }
    // A person who reviews is a reviewer.
    stems.push((format!("{own}er"), SYNONYM));
    if words.len() > 1 {
        stems.extend(words.iter().map(|part| (stem(part), PART)));
    }
    let (weight, role) = match word {
        "who" => (WHO, Role::Aside),
        _ if is_verb(word) => (1.0, Role::Verb),
        _ => (1.0, Role::Plain),
    };
    Concept {
        stems,
        weight,
        role,
    }
}

fn is_verb(word: &str) -> bool {
    READING.contains(&word) || verb(word).is_some()
}

/// How much `stem`, a verb, counts as the name of an action. A verb that many operations share
/// distinguishes none of them.
pub(super) fn action_weight(stem: &str) -> f64 {
    match stem {
        "list" | "show" | "get" | "read" | "see" | "view" | "all" => 0.0,
        "creat" | "add" | "updat" | "chang" | "delet" | "remov" => 0.2,
        _ => 0.6,
    }
}

/// The action that `word` asks for in a command.
fn verb(word: &str) -> Option<Wish> {
    let verbs: [(Wish, &[&str]); 3] = [
        (Wish::Create, &CREATING),
        (Wish::Change, &CHANGING),
        (Wish::Delete, &DELETING),
    ];
    let known = verbs.iter().find(|(_, verbs)| verbs.contains(&word));
    known.map(|(wish, _)| *wish)
}

/// The action that these words ask for.
fn wish(said: &[String]) -> Wish {
    let word = |place: usize| said.get(place).map_or("", String::as_str);
    let (first, second, third) = (word(0), word(1), word(2));
    if ASKING.contains(&first) {
        return Wish::Read;
    }
    for (place, word) in said.iter().enumerate() {
        let is_adjective =
            matches!(word.as_str(), "new" | "open") && (place > 0 || is_plural(said.get(1)));
        if let Some(wish) = verb(word).filter(|_| !is_adjective) {
            return wish;
        }
    }
    let is_given_to_us = first == "give" && matches!(second, "me" | "us");
    if is_given_to_us || (first != "give" && READING.contains(&first)) {
        return Wish::Read;
    }
    let is_object = |word: &str| OBJECTS.contains(&word);
    let is_command = is_object(second)
        || (matches!(second, "on" | "to") && is_object(third) && !first.ends_with('s'));
    if is_command { Wish::Act } else { Wish::Unsaid }
}

fn is_plural(word: Option<&String>) -> bool {
    word.is_none_or(|word| word.ends_with('s'))
}
