//! The architecture as tests: who may use whom, no circles, and no words that are gone.
//!
//! Each rule has a file. What they allow stands in [`tables`], which is the architecture; a rule knows
//! no path and no name of its own.
//!
//! - [`dependencies`]: which crates a crate's `Cargo.toml` may name, ours and others.
//! - [`rooms`]: a crate's top-level modules stand on floors, and a room uses only the floors below it.
//! - [`circles`]: no modules of Rust and no files of TypeScript that import each other in a circle.
//! - [`words`]: identifiers that have been renamed, and English words that readers stumble over.
//!
//! Each rule returns every [`violation::Violation`] it finds, so that one run shows the whole list.

mod circles;
mod dependencies;
mod files;
mod fixture;
mod import;
mod lexer;
mod manifest;
mod rooms;
mod rust;
mod tables;
mod typescript;
mod violation;
mod words;

use std::path::PathBuf;

use anyhow::Result;

use crate::steps;
use violation::Violation;

fn repository() -> PathBuf {
    steps::workspace().to_path_buf()
}

/// Fails with the whole list, one violation a line.
#[track_caller]
fn assert_none(violations: Result<Vec<Violation>>) {
    let lines: Vec<String> = violations
        .unwrap()
        .iter()
        .map(Violation::to_string)
        .collect();
    assert!(
        lines.is_empty(),
        "{} violations of the architecture (xtask/src/architecture):\n\n{}\n",
        lines.len(),
        lines.join("\n")
    );
}

#[test]
fn crates_depend_only_on_what_the_table_allows() {
    assert_none(dependencies::check(
        &repository(),
        tables::crates::CRATES,
        tables::crates::WALLS,
    ));
}

#[test]
fn rooms_use_only_the_floors_below() {
    assert_none(rooms::check(&repository(), tables::rooms::HOUSES));
}

#[test]
fn rust_modules_form_no_circle() {
    assert_none(rust::circles_of_all_crates(&repository()));
}

#[test]
fn typescript_files_form_no_circle() {
    assert_none(typescript::circles(&repository(), tables::TYPESCRIPT));
}

#[test]
fn renamed_identifiers_are_gone() {
    assert_none(words::check_identifiers(
        &repository(),
        tables::words::IDENTIFIERS,
    ));
}

#[test]
fn comments_and_documents_use_plain_english() {
    assert_none(words::check_english(&repository(), tables::words::ENGLISH));
}
