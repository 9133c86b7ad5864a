//! Checks that every test named in `docs/guarantees.md` and `docs/security.md` exists.

use std::fs;
use std::path::Path;

use crate::steps;

/// Names of settings.
const NO_TESTS: [&str; 1] = ["session_replication_role"];

/// The names in backticks that look like a test's: lower case, with at least two underscores.
fn names(text: &str) -> Vec<&str> {
    let quoted = text.split('`').skip(1).step_by(2);
    let is_name = |name: &&str| {
        name.chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
            && name.matches('_').count() >= 2
    };
    quoted
        .filter(is_name)
        .filter(|name| !NO_TESTS.contains(name))
        .collect()
}

/// The text of all Rust files below a directory.
fn sources(directory: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.ends_with("target") {
            text += &sources(&path);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text += &fs::read_to_string(path).unwrap();
        }
    }
    text
}

#[test]
fn every_test_that_a_document_names_exists() {
    let sources =
        sources(&steps::workspace().join("tests")) + &sources(&steps::workspace().join("crates"));
    for document in ["docs/guarantees.md", "docs/security.md"] {
        let text = fs::read_to_string(steps::workspace().join(document)).unwrap();
        let names = names(&text);
        assert!(names.len() > 50, "{document}: {names:?}");
        let missing: Vec<_> = names
            .iter()
            .filter(|name| !sources.contains(&format!("fn {name}(")))
            .collect();
        assert!(
            missing.is_empty(),
            "{document}: no test has these names: {missing:?}"
        );
    }
}
