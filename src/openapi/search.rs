//! Finds operations by the words of a question.
//!
//! A question and an operation are compared by the stems of their words:
//!
//! - A rare stem counts more than a common one (inverse document frequency).
//! - A stem of the path or the id counts more than one of the summary.
//! - What the path names besides what was asked for counts against the operation.
//! - A method that does what is wished counts for it, and so does a path that ends with what the
//!   question names first.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;

use super::operation::Operation;
use super::question::{CALLER, Concept, Question, Role, Synonyms, Wish, action_weight};
use super::words::{counts, stem, stems, tokens, words};
use crate::sorted;

/// How many operations are found at most.
const MOST_FOUND: usize = 10;
/// How many are looked at for variety.
const MOST_COMPARED: usize = 100;
/// How long a beginning must be to stand for an unknown word.
const LEAST_BEGINNING: usize = 4;

/// How much a stem of the path or the id counts.
const NAME: f64 = 1.0;
/// How much a stem of the summary or a tag counts.
const TEXT: f64 = 0.6;
/// How much a stem of a parameter's name counts.
const PARAMETER: f64 = 0.3;
/// How many words of a summary count in full. Where there are more, each counts less.
const SHORT_TEXT: f64 = 8.0;

/// How much a stem counts that only begins with what was asked for.
const BEGINNING: f64 = 0.8;
/// How much a word of the path counts against an operation when nobody asked for it.
const BESIDES: f64 = 0.6;

// Factors of the score of an operation.
/// It does what is wished.
const DOES_AS_WISHED: f64 = 1.6;
/// It may do what is wished.
const MAY_DO_AS_WISHED: f64 = 1.2;
/// It does something else.
const DOES_OTHERWISE: f64 = 0.4;
/// It is an action, and the question is a command.
const IS_COMMANDED: f64 = 1.3;
/// It reads, and the question does not say what is wished.
const READS: f64 = 1.1;
/// Its path ends with what the question names first.
const HAS_HEAD: f64 = 1.3;
/// It reads one thing of many, as the question asks.
const IS_OF_ONE: f64 = 1.1;
/// It reads one thing of many, and the question does not ask for one.
const IS_OF_ONE_UNASKED: f64 = 0.85;
/// It does like one that ranks before it. The factor counts for each of those.
const IS_LIKE_ONE_BEFORE: f64 = 0.85;

/// The stems of all operations, and where each stands.
#[derive(Debug)]
pub struct Index {
    stems: BTreeMap<String, Vec<Posting>>,
    operations: Vec<Known>,
    synonyms: Synonyms,
}

/// A stem of an operation.
#[derive(Debug)]
struct Posting {
    operation: usize,
    mention: Mention,
}

/// Where an operation has a stem.
#[derive(Clone, Copy, Debug, Default)]
struct Mention {
    /// How much it counts there.
    weight: f64,
    /// In its path.
    in_path: bool,
    /// In the last fixed segment of its path.
    in_last: bool,
    /// As the last word of what its path names.
    is_head: bool,
}

/// What is known of an operation besides its stems.
#[derive(Debug)]
struct Known {
    kind: Kind,
    /// Whether its path ends with what it does: nothing can be read there.
    acts: bool,
    /// The rarity of the stems of its path, summed up.
    path_rarity: f64,
    /// Operations of the same number do alike.
    family: usize,
    path_length: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Read,
    /// It reads one thing of many.
    ReadOne,
    Create,
    /// It creates or changes.
    Put,
    Change,
    Delete,
}

impl Kind {
    fn of(operation: &Operation) -> Self {
        let is_of_one = operation.path.ends_with(['}', ')']) && !operation.path.ends_with("()");
        match operation.method {
            "GET" if is_of_one => Self::ReadOne,
            "GET" => Self::Read,
            "POST" => Self::Create,
            "PUT" => Self::Put,
            "DELETE" => Self::Delete,
            _ => Self::Change,
        }
    }

    fn reads(self) -> bool {
        matches!(self, Self::Read | Self::ReadOne)
    }
}

impl Index {
    /// The index of these operations.
    pub fn new(operations: &[Arc<Operation>]) -> Self {
        let reads = operations.iter().filter(|known| known.method == "GET");
        let read = sorted::set(reads.map(|known| known.path.as_str()));
        let mut stems: BTreeMap<String, Vec<Posting>> = BTreeMap::new();
        let mut families = BTreeMap::new();
        let mut known = Vec::new();
        for (number, operation) in operations.iter().enumerate() {
            let acts = operation.method != "GET" && !read.contains(operation.path.as_str());
            let segments = fixed_segments(&operation.path);
            let last = segments.last().copied().unwrap_or_default();
            let count = families.len();
            let family = families.entry((operation.method, last)).or_insert(count);
            known.push(Known {
                kind: Kind::of(operation),
                acts,
                path_rarity: 0.0,
                family: *family,
                path_length: operation.path.len(),
            });
            for (stem, mention) in mentions(operation, &segments, acts) {
                let posting = Posting {
                    operation: number,
                    mention,
                };
                stems.entry(stem).or_default().push(posting);
            }
        }
        let synonyms = Synonyms::new(|stem| stems.contains_key(stem));
        let mut index = Self {
            stems,
            operations: known,
            synonyms,
        };
        index.weigh_paths();
        index
    }

    /// Sums up how rare the stems of each path are.
    fn weigh_paths(&mut self) {
        for (stem, postings) in &self.stems {
            // Whoever is not named is the one who asks.
            if stem == CALLER {
                continue;
            }
            let rarity = self.rarity(postings);
            for posting in postings.iter().filter(|posting| posting.mention.in_path) {
                if let Some(operation) = self.operations.get_mut(posting.operation) {
                    operation.path_rarity += rarity;
                }
            }
        }
    }

    /// The operations that fit `question` best, of those that `may_be_found`: their numbers in the
    /// list that was indexed, the best first.
    pub fn find(&self, question: &str, may_be_found: impl Fn(usize) -> bool) -> Vec<usize> {
        let is_known = |stem: &str| self.stems.contains_key(stem);
        let question = Question::new(question, &self.synonyms, is_known);
        let found = self.matches(&question);
        let mut ranked = Vec::new();
        for (number, (known, matched)) in self.operations.iter().zip(&found).enumerate() {
            if matched.score > 0.0 && may_be_found(number) {
                let total = matched.total(known) * factor(&question, known, matched);
                ranked.push(Ranked {
                    total,
                    path_length: known.path_length,
                    number,
                });
            }
        }
        ranked.sort_by(Ranked::compare);
        self.spread(&mut ranked);
        let best = ranked.into_iter().take(MOST_FOUND);
        best.map(|ranked| ranked.number).collect()
    }

    /// How each operation matches `question`.
    fn matches(&self, question: &Question) -> Vec<Match> {
        let mut all = vec![Match::default(); self.operations.len()];
        let mut met = BTreeSet::new();
        // A command begins with its verb; its object follows.
        let leading = if question.wish == Wish::Act { 2 } else { 1 };
        let mut plain = 0;
        for concept in &question.concepts {
            let is_plain = concept.role == Role::Plain;
            let leads = is_plain && plain < leading;
            let is_first = is_plain && plain == 0;
            plain += usize::from(is_plain);
            for found in self.look_up(concept) {
                let is_new = met.insert(found.stem);
                let rarity = self.rarity(found.postings);
                for Posting { operation, mention } in found.postings {
                    let Some(one) = all.get_mut(*operation) else {
                        continue;
                    };
                    if concept.role == Role::Verb && !mention.in_last {
                        continue;
                    }
                    one.best = one.best.max(found.weight * mention.weight);
                    one.has_head |= leads && mention.is_head;
                    one.has_first |= is_first && mention.in_last;
                    if is_new && mention.in_path {
                        one.covered += rarity;
                    }
                }
            }
            for one in &mut all {
                one.score += mem::take(&mut one.best);
            }
        }
        all
    }

    /// The stems of `concept` that operations have, each with how much it counts. However rare a
    /// synonym is, it counts like the most common of these stems.
    fn look_up<'i>(&'i self, concept: &'i Concept) -> Vec<Found<'i>> {
        let mut found = Vec::new();
        for (stem, weight) in &concept.stems {
            if let Some(postings) = self.stems.get(stem) {
                found.push(Found {
                    stem,
                    postings,
                    weight: *weight,
                });
            }
        }
        let own = concept.stems.first().map(|(stem, _)| stem.as_str());
        if found.is_empty() {
            found.extend(own.into_iter().flat_map(|own| self.beginning_with(own)));
        }
        let rarities = found.iter().map(|found| self.rarity(found.postings));
        let least = rarities.fold(f64::MAX, f64::min);
        for found in &mut found {
            let is_own = Some(found.stem) == own;
            let rarity = if is_own {
                self.rarity(found.postings)
            } else {
                least
            };
            found.weight *= concept.weight * rarity;
            if concept.role == Role::Verb {
                found.weight *= action_weight(found.stem);
            }
        }
        found
    }

    fn beginning_with<'i>(&'i self, beginning: &'i str) -> impl Iterator<Item = Found<'i>> {
        let range = self.stems.range(beginning.to_owned()..);
        let is_long = beginning.len() >= LEAST_BEGINNING;
        range
            .take_while(move |(stem, _)| is_long && stem.starts_with(beginning))
            .map(|(stem, postings)| Found {
                stem,
                postings,
                weight: BEGINNING,
            })
    }

    /// How rare a stem with these postings is (its inverse document frequency).
    fn rarity(&self, postings: &[Posting]) -> f64 {
        (1.0 + float(self.operations.len()) / float(postings.len())).ln()
    }

    /// Brings variety into the ranking. Operations that do alike, such as for me and for another
    /// user, make room for others.
    fn spread(&self, ranked: &mut Vec<Ranked>) {
        ranked.truncate(MOST_COMPARED);
        let mut before: BTreeMap<usize, i32> = BTreeMap::new();
        for ranked in &mut *ranked {
            if let Some(known) = self.operations.get(ranked.number) {
                let alike = before.entry(known.family).or_default();
                ranked.total *= IS_LIKE_ONE_BEFORE.powi(*alike);
                *alike += 1;
            }
        }
        ranked.sort_by(Ranked::compare);
    }
}

/// A stem that operations have.
struct Found<'i> {
    stem: &'i str,
    postings: &'i [Posting],
    weight: f64,
}

/// How an operation matches a question.
#[derive(Clone, Debug, Default)]
struct Match {
    score: f64,
    /// The most that a stem counts of the concept that is looked at.
    best: f64,
    /// The rarity of the stems that its path and the question have, summed up.
    covered: f64,
    /// Its path ends with what the question begins with.
    has_head: bool,
    /// The end of its path has the first word.
    has_first: bool,
}

impl Match {
    fn total(&self, known: &Known) -> f64 {
        let besides = (known.path_rarity - self.covered).max(0.0);
        self.score * self.score / (self.score + BESIDES * besides)
    }
}

struct Ranked {
    total: f64,
    path_length: usize,
    number: usize,
}

impl Ranked {
    /// The better first; of equal ones, the one with the shorter path.
    fn compare(&self, other: &Self) -> Ordering {
        let by_total = other.total.total_cmp(&self.total);
        by_total.then(self.path_length.cmp(&other.path_length))
    }
}

/// By what the score of an operation is multiplied, because of what it does.
fn factor(question: &Question, known: &Known, matched: &Match) -> f64 {
    let mut factor = match (question.wish, known.kind) {
        (Wish::Read, Kind::Read | Kind::ReadOne)
        | (Wish::Create, Kind::Create)
        | (Wish::Change, Kind::Change | Kind::Put)
        | (Wish::Delete, Kind::Delete) => DOES_AS_WISHED,
        (Wish::Create, Kind::Put) => MAY_DO_AS_WISHED,
        (Wish::Unsaid, Kind::Read | Kind::ReadOne) => READS,
        (Wish::Act, _) if known.acts => IS_COMMANDED,
        // "Comment on it" is creating a comment.
        (Wish::Act, Kind::Create) if matched.has_first => IS_COMMANDED,
        (Wish::Act, Kind::Create) => 1.0,
        (_, kind) if kind.reads() || known.acts => 1.0,
        _ => DOES_OTHERWISE,
    };
    if matched.has_head {
        factor *= HAS_HEAD;
    }
    if known.kind == Kind::ReadOne {
        factor *= if question.is_of_one {
            IS_OF_ONE
        } else {
            IS_OF_ONE_UNASKED
        };
    }
    factor
}

fn float(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// The segments of a path without its parameters, and without those that are nothing else.
fn fixed_segments(path: &str) -> Vec<&str> {
    let segments = path.split('/');
    let fixed = segments.map(|segment| segment.split(['{', '(']).next().unwrap_or_default());
    fixed.filter(|segment| !segment.is_empty()).collect()
}

/// The stems of `operation`, whose path has these fixed segments.
fn mentions(operation: &Operation, segments: &[&str], acts: bool) -> BTreeMap<String, Mention> {
    let mut mentions = Mentions::default();
    for (from_end, segment) in segments.iter().rev().enumerate() {
        let is_last = from_end == 0;
        for stem in stems(segment) {
            mentions.mention(stem, NAME).in_last |= is_last;
        }
        let words: Vec<String> = tokens(segment).flat_map(words).collect();
        for word in words.iter().filter(|word| counts(word)) {
            mentions.mention(stem(word), NAME).in_path = true;
        }
        // An action comes behind what it is done with.
        if is_last || (acts && from_end == 1) {
            for head in heads(&words) {
                mentions.mention(head, NAME).is_head = true;
            }
        }
    }
    for stem in stems(operation.id.as_deref().unwrap_or_default()) {
        mentions.mention(stem, NAME);
    }
    for stem in operation.tags.iter().flat_map(|tag| stems(tag)) {
        mentions.mention(stem, TEXT);
    }
    let text = stems(operation.short_text());
    let weight = TEXT * (SHORT_TEXT / float(text.len())).sqrt().min(1.0);
    for stem in text {
        mentions.mention(stem, weight);
    }
    for parameter in &operation.parameters {
        for stem in stems(&parameter.name) {
            mentions.mention(stem, PARAMETER);
        }
    }
    mentions.0
}

/// The stems of the last of `words`, alone and with the one before.
fn heads(words: &[String]) -> Vec<String> {
    match words {
        [.., before, last] if counts(last) => vec![stem(last), stem(&format!("{before}{last}"))],
        [last] if counts(last) => vec![stem(last)],
        _ => Vec::new(),
    }
}

#[derive(Default)]
struct Mentions(BTreeMap<String, Mention>);

impl Mentions {
    /// Notes that `stem` counts at least `weight`.
    fn mention(&mut self, stem: String, weight: f64) -> &mut Mention {
        let mention = self.0.entry(stem).or_default();
        mention.weight = mention.weight.max(weight);
        mention
    }
}
