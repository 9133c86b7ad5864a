//! Small repositories in a temporary directory, for the tests of the rules.

use std::fs;

use tempfile::TempDir;

use super::violation::Violation;

/// Writes files, given as path and text, into a new directory that goes when it is dropped.
pub(super) fn repository(files: &[(&str, &str)]) -> TempDir {
    let root = TempDir::new().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

/// Each violation as `file:line: problem`, without the remedy; the line is 0 where there is none.
pub(super) fn problems(violations: &[Violation]) -> Vec<String> {
    violations
        .iter()
        .map(|violation| {
            assert!(
                !violation.remedy.is_empty(),
                "{violation} does not say what to do"
            );
            let line = violation.line.unwrap_or_default();
            format!("{}:{line}: {}", violation.file, violation.problem)
        })
        .collect()
}
