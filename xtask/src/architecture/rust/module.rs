//! What is known about one module.

use std::collections::{BTreeMap, BTreeSet};

use syn::{Attribute, Meta, Token, punctuated::Punctuated};

use super::super::import::ModulePath;

/// One module: what it defines, what it imports and what it names.
#[derive(Debug, Default)]
pub(super) struct Module {
    /// Its file, relative to the repository.
    pub(super) file: String,
    /// The module that its file is: itself, except for a module in braces.
    pub(super) file_module: ModulePath,
    /// The items that it defines, without modules.
    pub(super) defined: BTreeSet<String>,
    /// The names that its `use` lines bind, with the path behind each.
    pub(super) bound: BTreeMap<String, Vec<String>>,
    /// The paths before a `::*`.
    pub(super) globs: Vec<Vec<String>>,
    /// Every path that it names.
    pub(super) named: Vec<Named>,
}

/// A path somewhere in a module.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) path: Vec<String>,
    /// The line of its first name, counted from 1.
    pub(super) line: usize,
}

/// `#[test]`, `#[cfg(test)]`, `#[cfg(all(test, …))]` and attributes like `#[tokio::test]`.
pub(super) fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let path = attribute.path();
        if path.is_ident("cfg") {
            return attribute
                .parse_args()
                .is_ok_and(|condition| needs_test(&condition));
        }
        path.segments
            .last()
            .is_some_and(|segment| segment.ident == "test")
    })
}

fn needs_test(condition: &Meta) -> bool {
    match condition {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(list) if list.path.is_ident("all") => list
            .parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated)
            .is_ok_and(|conditions| conditions.iter().any(needs_test)),
        _ => false,
    }
}
