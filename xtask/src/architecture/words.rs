//! Words that are gone: identifiers that were renamed, and English that readers stumble over.
//!
//! An identifier is looked for as a whole and with its case, in code, comments and documents. An English
//! word is looked for in comments and documents only, in upper and lower case.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;

use super::files::{SourceFile, source_files};
use super::lexer::{Kind, Language, tokens};
use super::tables::words::{EXEMPT, Gone};
use super::violation::Violation;

const CODE: &[&str] = &["rs", "ts", "tsx", "sql", "toml"];
const DOCUMENTS: &str = "md";

/// Every use of a renamed identifier.
pub(super) fn check_identifiers(root: &Path, gone: &[Gone]) -> Result<Vec<Violation>> {
    let files = written(root)?;
    let mut violations = nowhere(&files, gone);
    for file in &files {
        for (index, line) in file.text.lines().enumerate() {
            violations.extend(found(file, index + 1, line, line, gone));
        }
    }
    Ok(violations)
}

/// Every use of an unwanted word in a comment or a document.
pub(super) fn check_english(root: &Path, gone: &[Gone]) -> Result<Vec<Violation>> {
    let files = written(root)?;
    let mut violations = nowhere(&files, gone);
    for file in &files {
        for (first, prose) in prose(file) {
            for (index, line) in prose.lines().enumerate() {
                let lower = line.to_lowercase();
                violations.extend(found(file, first + index, &lower, line, gone));
            }
        }
    }
    Ok(violations)
}

/// The files that a person wrote and that name things as they are now.
fn written(root: &Path) -> Result<Vec<SourceFile>> {
    let mut files = source_files(root, "", &[CODE, &[DOCUMENTS]].concat())?;
    files.retain(|file| !EXEMPT.iter().any(|exempt| file.path.starts_with(exempt)));
    Ok(files)
}

/// The places of the table where no file is: a word would be allowed again unnoticed.
fn nowhere(files: &[SourceFile], gone: &[Gone]) -> Vec<Violation> {
    let places: BTreeSet<&str> = gone.iter().flat_map(|gone| gone.under).copied().collect();
    let is_empty = |place: &&str| !files.iter().any(|file| file.path.starts_with(place));
    let empty = places.into_iter().filter(is_empty);
    empty
        .map(|place| {
            Violation::new(
                place,
                None,
                "the table of words names this place, and no file is there".to_owned(),
                "Name the new place in tables/words.rs".to_owned(),
            )
        })
        .collect()
}

/// The comments of a source file, or a whole document, each with its first line's number.
fn prose(file: &SourceFile) -> Vec<(usize, String)> {
    let Some(language) = Language::of(file.extension()) else {
        return vec![(1, file.text.clone())];
    };
    let comments = tokens(&file.text, language)
        .into_iter()
        .filter_map(|token| match token.kind {
            Kind::Comment(text) => Some((token.line, text)),
            _ => None,
        });
    comments.collect()
}

fn found(
    file: &SourceFile,
    number: usize,
    line: &str,
    shown: &str,
    gone: &[Gone],
) -> Vec<Violation> {
    let gone = gone
        .iter()
        .filter(|gone| {
            gone.under.is_empty() || gone.under.iter().any(|under| file.path.starts_with(under))
        })
        .filter(|gone| contains_word(line, gone.word));
    gone.map(|gone| {
        Violation::new(
            &file.path,
            Some(number),
            format!("the word `{}` is gone (`{}`)", gone.word, shown.trim()),
            format!("Say {}", gone.instead),
        )
    })
    .collect()
}

/// Whether a line contains a word that no letter, digit or `_` continues; nor a `-`, if it has one itself.
fn contains_word(line: &str, word: &str) -> bool {
    let continues = |c: char| c.is_alphanumeric() || c == '_' || (c == '-' && word.contains('-'));
    line.match_indices(word).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        let after = line[start + word.len()..].chars().next();
        !before.is_some_and(continues) && !after.is_some_and(continues)
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{problems, repository};
    use super::*;

    const IDENTIFIERS: &[Gone] = &[
        Gone {
            word: "Crowd",
            instead: "Backpressure",
            under: &[],
        },
        Gone {
            word: "Copy",
            instead: "QueryRows",
            under: &["client/"],
        },
        Gone {
            word: "sync-cluster",
            instead: "test-postgres",
            under: &[],
        },
    ];
    const ENGLISH: &[Gone] = &[Gone {
        word: "anew",
        instead: "again",
        under: &[],
    }];

    fn identifiers(files: &[(&str, &str)]) -> Vec<String> {
        let files = [&[("client/index.ts", "")], files].concat();
        problems(&check_identifiers(repository(&files).path(), IDENTIFIERS).unwrap())
    }

    fn english(files: &[(&str, &str)]) -> Vec<String> {
        problems(&check_english(repository(files).path(), ENGLISH).unwrap())
    }

    #[test]
    fn a_renamed_identifier_is_reported_in_code_and_documents() {
        let files = [
            ("src/a.rs", "\nstruct Crowd;\nstruct Crowded; // crowd\n"),
            ("docs/a.md", "The `Crowd` waits.\n"),
        ];
        let expected = [
            "docs/a.md:1: the word `Crowd` is gone (`The `Crowd` waits.`)",
            "src/a.rs:2: the word `Crowd` is gone (`struct Crowd;`)",
        ];
        assert_eq!(identifiers(&files), expected);
    }

    #[test]
    fn a_word_with_a_place_is_free_elsewhere() {
        let files = [
            ("client/a.ts", "class Copy {}"),
            ("src/a.rs", "#[derive(Copy)]"),
        ];
        let expected = "client/a.ts:1: the word `Copy` is gone (`class Copy {}`)";
        assert_eq!(identifiers(&files), [expected]);
    }

    #[test]
    fn a_place_without_a_file_is_reported() {
        let expected = "client/:0: the table of words names this place, and no file is there";
        let root = repository(&[("src/a.rs", "")]);
        let violations = check_identifiers(root.path(), IDENTIFIERS).unwrap();
        assert_eq!(problems(&violations), [expected]);
    }

    #[test]
    fn a_word_with_a_hyphen_is_a_whole_word() {
        let files = [(
            "Cargo.toml",
            "a = \"sync-cluster-x\"\nb = \"sync-cluster\"\n",
        )];
        let expected = "Cargo.toml:2: the word `sync-cluster` is gone (`b = \"sync-cluster\"`)";
        assert_eq!(identifiers(&files), [expected]);
    }

    #[test]
    fn unwanted_english_is_reported_in_comments_and_documents_only() {
        let files = [
            ("src/a.rs", "/*\n Anew. */\nlet anew = \"anew\";\n"),
            ("docs/a.md", "It begins anew.\n"),
        ];
        let expected = [
            "docs/a.md:1: the word `anew` is gone (`It begins anew.`)",
            "src/a.rs:2: the word `anew` is gone (`Anew. */`)",
        ];
        assert_eq!(english(&files), expected);
    }

    #[test]
    fn generated_files_and_the_glossary_are_exempt() {
        let files = [
            ("docs/glossary.md", "not `Crowd`, not anew"),
            ("CHANGELOG.md", "`Crowd` begins anew"),
            ("client/dist/a.ts", "Crowd // anew"),
        ];
        assert_eq!(identifiers(&files), [] as [&str; 0]);
        assert_eq!(english(&files), [] as [&str; 0]);
    }
}
