//! What a question asks for: the action, and the things that it names.

use std::collections::{BTreeMap, BTreeSet};

use super::words::{counts, stem, tokens, words};
use crate::sorted;

/// A row: words that people say, a colon, and the words under which an API may have it. Those
/// behind the colon are found under one another, too. A plus joins two words that stand side by
/// side.
const SYNONYMS: &str = include_str!("synonyms.txt");

/// How much a synonym counts beside the word itself.
const SYNONYM: f64 = 0.8;
/// The same of one word of an identifier that has several.
const PART: f64 = 0.4;
/// How much two neighboring words count that an API writes as one word, in addition to each.
const PAIR: f64 = 0.5;
/// How much a word behind "by" or "named" counts: what a thing is found by is not the thing.
const KEY: f64 = 0.4;
/// How much a word counts that asks for one thing of many.
const ONE_OF_MANY: f64 = 0.4;
/// How much it counts that another person is named.
const NAMED: f64 = 0.6;

/// Words for the person who asks, each with how likely it means that person.
const PERSONAL: &[(&str, f64)] = &[
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
/// What APIs call any person.
const USER: &str = "user";
/// Words for another person than the one who asks.
const OTHERS: &[&str] = &[
    "user",
    "colleague",
    "employee",
    "coworker",
    "somebody",
    "someone",
    "he",
    "him",
    "his",
    "she",
    "her",
];
/// Words behind which the one stands who gets something.
const RECEIVING: &[&str] = &["to", "with"];
/// Words behind which it says what a thing is found by.
const KEYS: &[&str] = &["by", "named", "called"];

/// Words that say little, each with how much it counts.
const ASIDES: &[(&str, f64)] = &[
    ("who", 0.4),
    ("name", 0.4),
    ("people", 0.6),
    ("company", 0.4),
    ("today", 0.6),
    ("tomorrow", 0.6),
    ("week", 0.6),
];

/// A question that begins with one of these words asks for information.
const ASKING: &[&str] = &[
    "what", "who", "whom", "whose", "which", "when", "where", "how", "is", "are", "am", "does",
    "do", "did", "has", "have", "was", "were", "can",
];
const READING: &[&str] = &[
    "list", "show", "get", "read", "find", "search", "look", "see", "view", "display", "fetch",
    "give", "all", "retrieve", "lookup", "query", "browse", "download",
];
const CREATING: &[&str] = &[
    "create", "add", "new", "make", "start", "insert", "register", "send", "write", "post", "open",
    "book", "compose", "upload", "generate",
];
const CHANGING: &[&str] = &[
    "change",
    "update",
    "edit",
    "modify",
    "rename",
    "correct",
    "extend",
    "set",
    "reset",
    "replace",
    "adjust",
    "enable",
    "disable",
    "deactivate",
];
const DELETING: &[&str] = &[
    "delete",
    "remove",
    "cancel",
    "drop",
    "erase",
    "destroy",
    "rid",
    "stop",
    "purge",
    "throw",
    "unregister",
    "discard",
    "revoke",
];
/// Words that follow the verb of a command: "forward the mail", "remind them".
const OBJECTS: &[&str] = &[
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
const ONE: &[&str] = &[
    "one",
    "single",
    "specific",
    "detail",
    "details",
    "particular",
    "id",
    "metadata",
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
        let written = text.replace('’', "'");
        let owners = owners(&written);
        let text = written.replace("'s", "").replace('\'', "");
        let tokens: Vec<&str> = tokens(&text).collect();
        let mut said: Vec<String> = tokens.iter().map(|token| words(token).concat()).collect();
        // "Which groups is Ada in" asks where she belongs.
        if let Some(last) = said.last_mut().filter(|last| *last == "in") {
            "belong".clone_into(last);
        }
        let wish = wish(&said);
        let mut concepts = Vec::new();
        let mut seen = BTreeSet::new();
        let mut is_key = false;
        for (place, (token, word)) in tokens.iter().zip(&said).enumerate() {
            is_key |= KEYS.contains(&word.as_str());
            let next = said.get(place + 1);
            let pair = next.map(|next| stem(&format!("{word}{next}")));
            let together = pair.and_then(|pair| concept_of_pair(word, pair, synonyms, &is_known));
            let spoken = Spoken {
                token,
                word,
                owns: owners.contains(token),
                before: said.get(..place).unwrap_or_default(),
            };
            let alone = spoken.concept(wish, synonyms, &is_known);
            for mut concept in together.into_iter().chain(alone) {
                if is_key {
                    concept.weight *= KEY;
                }
                let own = concept.stems.first();
                if own.is_some_and(|(stem, _)| seen.insert(stem.clone())) {
                    concepts.push(concept);
                }
            }
        }
        let is_one =
            |word: &String| ONE.contains(&word.as_str()) || word.chars().all(char::is_numeric);
        Self {
            wish,
            is_of_one: said.iter().any(is_one),
            concepts,
        }
    }
}

impl Concept {
    fn aside(stem: &str, weight: f64) -> Self {
        Self {
            stems: vec![(stem.to_owned(), 1.0)],
            weight,
            role: Role::Aside,
        }
    }
}

/// A word of a question.
struct Spoken<'a> {
    /// As it is written.
    token: &'a str,
    word: &'a str,
    /// Written with an apostrophe and s.
    owns: bool,
    before: &'a [String],
}

impl Spoken<'_> {
    /// What it names.
    fn concept(
        &self,
        wish: Wish,
        synonyms: &Synonyms,
        is_known: impl Fn(&str) -> bool,
    ) -> Option<Concept> {
        let own = stem(self.word);
        let is_name = self.may_be_name() && !is_known(&own) && synonyms.of(&own).is_empty();
        let is_another = is_name || OTHERS.contains(&self.word);
        // Mail is not sent from the mailbox of whoever gets it.
        if is_another && wish == Wish::Create && self.receives() {
            return None;
        }
        if is_name {
            return Some(Concept::aside(USER, NAMED));
        }
        if let Some(weight) = weight_in(PERSONAL, self.word) {
            return (!self.is_told()).then(|| Concept::aside(CALLER, weight));
        }
        counts(self.word).then(|| concept_of(self.word, &words(self.token), synonyms))
    }

    /// Whether it is written like a name: "of Ada", "ada's".
    fn may_be_name(&self) -> bool {
        let is_capitalized = self.token.starts_with(char::is_uppercase);
        (self.owns || (is_capitalized && !self.before.is_empty()))
            && counts(self.word)
            && !is_verb(self.word)
            && weight_in(PERSONAL, self.word).is_none()
    }

    /// Whether who is named gets something: "to Ada", "with my colleague".
    fn receives(&self) -> bool {
        let is_determiner = |word: &str| matches!(word, "a" | "an" | "the" | "my" | "our");
        let last = self.before.iter().rfind(|word| !is_determiner(word));
        last.is_some_and(|word| RECEIVING.contains(&word.as_str()))
    }

    /// "Show me" is not about the person who asks.
    fn is_told(&self) -> bool {
        self.word == "me" && self.before.last().is_some_and(|verb| is_verb(verb))
    }
}

/// The words of `text` that have an apostrophe and s.
fn owners(text: &str) -> BTreeSet<&str> {
    let mut pieces: Vec<&str> = text.split("'s").collect();
    pieces.pop();
    let words = pieces.into_iter().map(|piece| tokens(piece).last());
    sorted::set(words.flatten())
}

/// How much `word` counts by this table, if it is there.
fn weight_in(table: &[(&str, f64)], word: &str) -> Option<f64> {
    let row = table.iter().find(|(known, _)| *known == word);
    row.map(|(_, weight)| *weight)
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
    let (weight, role) = match weight_in(ASIDES, word) {
        Some(weight) => (weight, Role::Aside),
        None if ONE.contains(&word) => (ONE_OF_MANY, Role::Aside),
        None if is_verb(word) => (1.0, Role::Verb),
        None => (1.0, Role::Plain),
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
        (Wish::Create, CREATING),
        (Wish::Change, CHANGING),
        (Wish::Delete, DELETING),
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
    if first == "give" {
        let is_given_to_us = matches!(second, "me" | "us");
        return if is_given_to_us {
            Wish::Read
        } else {
            Wish::Act
        };
    }
    if READING.contains(&first) {
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
