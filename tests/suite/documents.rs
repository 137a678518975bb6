//! What README.md and SECURITY.md name is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use entra_auth_mcp::config::SETTINGS;
use entra_auth_mcp::manual::{TOPICS, Topic};

/// A test that a document names, and the file in which it must be.
#[derive(Debug)]
struct Named {
    /// Without its ending; `None` if the document does not say.
    file: Option<String>,
    test: String,
}

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(path).unwrap_or_default()
}

/// The text of `file`, which is a module of the suite or a crate of its own; empty if there is none.
fn tests_in(file: &str) -> String {
    read(&format!("tests/suite/{file}.rs")) + &read(&format!("tests/{file}.rs"))
}

/// Nothing else in the documents is written so.
fn is_name_of_a_test(code: &str) -> bool {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    code.matches('_').count() >= 3 && code.chars().all(is_word)
}

/// The tests that `text` names: ``file: `test`, `test`; file: `test` ``.
fn named(text: &str) -> Vec<Named> {
    let mut found = Vec::new();
    let mut file = None;
    // Text and code take turns.
    for (at, piece) in text.split('`').enumerate() {
        let is_code = at % 2 == 1;
        if is_code && is_name_of_a_test(piece) {
            found.push(Named {
                file: file.clone(),
                test: piece.to_owned(),
            });
        } else if piece.trim() != "," {
            let last = piece.split_whitespace().next_back().unwrap_or_default();
            let name = last.trim_start_matches('(').strip_suffix(':');
            file = name.map(str::to_owned);
        }
    }
    found
}

#[test]
fn every_test_that_a_document_names_is_in_the_file_that_it_names() {
    let security = named(&read("SECURITY.md"));
    assert!(security.len() > 100, "{}", security.len());
    for Named { file, test } in security.into_iter().chain(named(&read("README.md"))) {
        let file = file.unwrap_or_else(|| panic!("{test}: of no file"));
        assert!(
            tests_in(&file).contains(&format!("fn {test}()")),
            "{file} has no test {test}"
        );
    }
}

#[test]
fn every_file_of_the_source_that_the_readme_names_is_there() {
    let readme = read("README.md");
    let mut count = 0;
    let is_in_a_path = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    for path in readme.split(|c| !is_in_a_path(c)) {
        let is_of_the_source = path.starts_with("src/") || path.starts_with("tests/");
        if !is_of_the_source {
            continue;
        }
        let path = path.trim_end_matches('.');
        let whole = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        assert!(whole.exists(), "{path}");
        count += 1;
    }
    assert!(count > 20, "{count}");
}

#[test]
fn the_map_and_the_readme_name_every_file_of_the_auth_path() {
    let map = read("src/lib.rs");
    let readme = read("README.md");
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/auth");
    for entry in fs::read_dir(directory).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if Path::new(&name)
            .extension()
            .is_none_or(|extension| extension != "rs")
        {
            continue;
        }
        assert!(
            map.contains(&format!("`auth/{name}`")),
            "src/lib.rs: {name}"
        );
        assert!(readme.contains(&format!("`{name}`")), "README.md: {name}");
    }
}

#[test]
fn the_map_says_how_long_the_files_of_the_main_line_are() {
    let map = read("src/lib.rs");
    let mut count = 0;
    for (before, after) in map.lines().filter_map(|line| line.split_once("` (")) {
        let (_, path) = before.split_once('`').unwrap();
        let said: usize = after.split(' ').next().unwrap().parse().unwrap();
        let lines = read(&format!("src/{path}")).lines().count();
        assert!(said.abs_diff(lines) <= 10 + lines / 20, "{path}: {lines}");
        count += 1;
    }
    assert_eq!(count, 11);
}

/// Text that is not prose: a file whose lines are as long as they must be.
fn is_exempt(line: &str) -> bool {
    line.contains("<!DOCTYPE")
}

#[test]
fn the_manual_fits_a_terminal_of_100_columns() {
    for topic in TOPICS {
        for line in topic.text().lines() {
            assert!(
                line.chars().count() <= 100 || is_exempt(line),
                "{}: {line}",
                topic.name
            );
        }
    }
}

#[test]
fn the_manual_has_every_file_of_its_folder_and_every_setting() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/manual");
    let mut texts = BTreeSet::new();
    for folder in [folder.clone(), folder.join("recipes")] {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                texts.insert(fs::read_to_string(path).unwrap());
            }
        }
    }
    let mut printed: BTreeSet<String> = TOPICS.iter().map(Topic::text).collect();
    let settings = TOPICS
        .iter()
        .find(|topic| topic.name == "settings")
        .unwrap();
    assert!(printed.remove(&settings.text()));
    assert_eq!(printed, texts);
    for setting in SETTINGS {
        let heading = format!("\n{}", setting.name);
        assert!(settings.text().contains(&heading), "{}", setting.name);
    }
}

#[test]
fn every_topic_that_the_manual_names_is_there() {
    let mut count = 0;
    for topic in TOPICS {
        // What stands in text behind a "topic" is the name of one.
        for named in topic.text().split("topic `").skip(1) {
            let (named, _) = named.split_once('`').unwrap();
            assert!(
                TOPICS.iter().any(|topic| topic.name == named),
                "{}: {named}",
                topic.name
            );
            count += 1;
        }
    }
    assert!(count > 5, "{count}");
}
