//! How well operations are found by questions that people ask.

use std::path::Path;
use std::time::{Duration, Instant};
use std::{env, fs};

use entra_auth_mcp::openapi::search::Index;
use entra_auth_mcp::openapi::{Description, Operation};

/// Questions over one file.
struct Questions {
    description: &'static str,
    file: &'static str,
    /// For how many at least the right operation is among the found, and is the first.
    least_found: usize,
    least_first: usize,
}

/// How many operations a search gives at most.
const MOST_FOUND: usize = 10;

const ALL: [Questions; 7] = [
    Questions {
        description: "graph-v1.0-oas30.json",
        file: "questions.txt",
        least_found: 55,
        least_first: 40,
    },
    Questions {
        description: "graph-v1.0-oas30.json",
        file: "questions-more.txt",
        least_found: 106,
        least_first: 80,
    },
    Questions {
        description: "graph-v1.0-oas30.json",
        file: "questions-held-out.txt",
        least_found: 26,
        least_first: 18,
    },
    Questions {
        description: "graph-v1.0-oas30.json",
        file: "questions-fresh.txt",
        least_found: 43,
        least_first: 32,
    },
    Questions {
        description: "graph-v1.0-oas30.json",
        file: "questions-fresh-held-out.txt",
        least_found: 42,
        least_first: 33,
    },
    Questions {
        description: "azdo-git-7.2-swagger20.json",
        file: "questions-azure-devops.txt",
        least_found: 22,
        least_first: 16,
    },
    Questions {
        description: "northwind-odata-oas30.json",
        file: "questions-northwind.txt",
        least_found: 15,
        least_first: 11,
    },
];

/// Which operations answer a question.
enum Answer<'a> {
    Id(&'a str),
    Endpoint { method: &'a str, path: &'a str },
}

impl Answer<'_> {
    fn is(&self, operation: &Operation) -> bool {
        match *self {
            Self::Id(pattern) => fits(pattern, operation.id.as_deref().unwrap_or_default()),
            Self::Endpoint { method, path } => {
                operation.method == method && fits(path, &operation.path)
            }
        }
    }
}

/// Asks what is to be asked of the description `name`; gives what does not hold.
pub fn ask(name: &str, description: &Description) -> Vec<String> {
    let begun = Instant::now();
    let index = Index::new(description.operations());
    println!("  index in {:?}", begun.elapsed());
    let questions = ALL.iter().filter(|known| known.description == name);
    let missed = questions.filter(|questions| !are_answered(questions, description, &index));
    let fault = |questions: &Questions| format!("{}: too few are answered", questions.file);
    missed.map(fault).collect()
}

/// Whether enough of `questions` are answered.
fn are_answered(questions: &Questions, description: &Description, index: &Index) -> bool {
    let file = Path::new("tests/descriptions").join(questions.file);
    let text = fs::read_to_string(file).unwrap();
    let (mut asked, mut found, mut first) = (0, 0, 0);
    let mut slowest = Duration::ZERO;
    for (question, answers) in text.lines().filter_map(|line| line.split_once(" -> ")) {
        let answers = parse(answers);
        let begun = Instant::now();
        let numbers = index.find(question, |_| true);
        slowest = slowest.max(begun.elapsed());
        let operations = numbers
            .iter()
            .map(|number| &description.operations()[*number]);
        let is_right = |operation: &Operation| answers.iter().any(|answer| answer.is(operation));
        let place = operations.clone().position(|known| is_right(known));
        asked += 1;
        found += usize::from(place.is_some_and(|place| place < MOST_FOUND));
        first += usize::from(place == Some(0));
        if place != Some(0) && env::var_os("SHOW_MISSES").is_some() {
            println!("  {question}: {place:?}");
            for operation in operations.take(3) {
                println!("    {}", operation.line());
            }
        }
    }
    println!(
        "  {}: {asked} questions; among the first ten {found}, first {first}; slowest {slowest:?}",
        questions.file
    );
    found >= questions.least_found && first >= questions.least_first
}

fn parse(answers: &str) -> Vec<Answer<'_>> {
    let mut parsed = Vec::new();
    let mut words = answers.split_whitespace();
    while let Some(word) = words.next() {
        parsed.push(if word.chars().all(|c| c.is_ascii_uppercase()) {
            let path = words.next().expect("a path behind a method");
            Answer::Endpoint { method: word, path }
        } else {
            Answer::Id(word)
        });
    }
    parsed
}

/// Whether `text` is `pattern`, in which `*` stands for any characters.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(text) = text.strip_prefix(start) else {
        return false;
    };
    let mut ends = text.char_indices().map(|(end, _)| end).chain([text.len()]);
    ends.any(|end| fits(rest, &text[end..]))
}
