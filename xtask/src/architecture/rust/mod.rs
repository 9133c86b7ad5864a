//! The imports of a crate of Rust: which of its modules names which.
//!
//! The modules are found as the compiler finds them, from `lib.rs` or `main.rs` along the `mod` lines. What
//! only tests see (`#[cfg(test)]`, `#[test]`, files and folders named `tests`) is left out.

mod module;
mod modules;
mod names;
mod resolve;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;

use super::circles;
use super::import::Import;
use super::manifest::manifests;
use super::violation::Violation;
use modules::Modules;

/// The files in which a crate's modules begin.
const ROOTS: [&str; 2] = ["lib", "main"];

/// One library or program of a crate.
#[derive(Debug)]
pub(super) struct SourceTree {
    /// `lib` or `main`: the room of the root itself.
    root: &'static str,
    /// Every top-level module and the root, with its file.
    pub(super) rooms: BTreeMap<String, String>,
    /// Every import between two files.
    pub(super) imports: Vec<Import>,
}

impl SourceTree {
    /// The room that contains a module.
    pub(super) fn room_of<'a>(&'a self, module: &'a [String]) -> &'a str {
        module.first().map_or(self.root, String::as_str)
    }
}

/// The library and the program of a crate; none when the directory is not there.
pub(super) fn source_trees(root: &Path, directory: &str) -> Result<Vec<SourceTree>> {
    let mut trees = Vec::new();
    for name in ROOTS {
        let file = root
            .join(directory)
            .join("src")
            .join(name)
            .with_extension("rs");
        if file.is_file() {
            let modules = Modules::load(root, &file)?;
            let files = modules.files().filter(|(module, _)| module.len() <= 1);
            let room = |module: &[String]| module.first().map_or(name, |room| room).to_owned();
            trees.push(SourceTree {
                root: name,
                rooms: files
                    .map(|(module, file)| (room(module), file.to_owned()))
                    .collect(),
                imports: resolve::imports(&modules),
            });
        }
    }
    Ok(trees)
}

/// Every circle of modules in every crate below the root.
pub(super) fn circles_of_all_crates(root: &Path) -> Result<Vec<Violation>> {
    let mut violations = Vec::new();
    for manifest in manifests(root)? {
        for tree in source_trees(root, &manifest.directory)? {
            let source = format!("{}/src", manifest.directory);
            violations.extend(circles::check(&source, &tree.imports));
        }
    }
    Ok(violations)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{problems, repository};
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let crate_files = [
            ("Cargo.toml", "[workspace]\n"),
            ("engine/Cargo.toml", "[package]\nname = \"engine\"\n"),
        ];
        let root = repository(&[&crate_files, files].concat());
        problems(&circles_of_all_crates(root.path()).unwrap())
    }

    const LIB: (&str, &str) = ("engine/src/lib.rs", "mod hub;\nmod log;\n");
    const A_CIRCLE: &str = "engine/src/hub.rs:2: circle in engine/src: hub -> log -> hub \
                            (engine/src/hub.rs:2, engine/src/log.rs:1)";
    const NO_CIRCLE: [&str; 0] = [];

    #[test]
    fn two_files_that_import_each_other_are_a_circle() {
        let hub = ("engine/src/hub.rs", "\nuse crate::log::Log;\n");
        let log = ("engine/src/log.rs", "use super::hub;\npub struct Log;\n");
        assert_eq!(found(&[LIB, hub, log]), [A_CIRCLE]);
    }

    #[test]
    fn a_path_in_an_expression_or_in_a_macro_is_an_import() {
        let hub = ("engine/src/hub.rs", "\nfn a() { crate::log::write(); }\n");
        let log = (
            "engine/src/log.rs",
            "fn b() { println!(\"{}\", crate::hub::SIZE); }\n",
        );
        assert_eq!(found(&[LIB, hub, log]), [A_CIRCLE]);
    }

    #[test]
    fn a_re_export_is_followed_to_the_file_that_defines_the_item() {
        let root = (
            "engine/src/lib.rs",
            "mod hub;\nmod log;\npub use hub::Hub;\n",
        );
        let hub = (
            "engine/src/hub.rs",
            "\nuse crate::log::Log;\npub struct Hub;\n",
        );
        let log = ("engine/src/log.rs", "use crate::Hub;\npub struct Log;\n");
        assert_eq!(found(&[root, hub, log]), [A_CIRCLE]);
    }

    #[test]
    fn children_of_one_folder_that_need_each_other_are_a_circle() {
        let root = ("engine/src/lib.rs", "mod hub;\n");
        let hub = (
            "engine/src/hub/mod.rs",
            "mod batch;\nmod index;\npub use self::index::*;\n",
        );
        let batch = (
            "engine/src/hub/batch.rs",
            "use super::Index;\npub struct Batch;\n",
        );
        let index = (
            "engine/src/hub/index.rs",
            "use super::batch::{self, Batch};\npub struct Index;\n",
        );
        let expected = "engine/src/hub/batch.rs:1: circle in engine/src/hub: batch -> index -> batch \
                        (engine/src/hub/batch.rs:1, engine/src/hub/index.rs:1)";
        assert_eq!(found(&[root, hub, batch, index]), [expected]);
    }

    #[test]
    fn a_face_and_its_children_are_no_circle() {
        let root = ("engine/src/lib.rs", "mod hub;\npub use hub::Hub;\n");
        let face = "mod batch;\npub(crate) use batch::Batch;\npub struct Hub(Batch);\n";
        let batch = "use super::Hub;\npub struct Batch;\n";
        let with_mod = [
            root,
            ("engine/src/hub/mod.rs", face),
            ("engine/src/hub/batch.rs", batch),
        ];
        let beside = [
            root,
            ("engine/src/hub.rs", face),
            ("engine/src/hub/batch.rs", batch),
        ];
        assert_eq!(found(&with_mod), NO_CIRCLE);
        assert_eq!(found(&beside), NO_CIRCLE);
    }

    #[test]
    fn what_only_tests_import_is_no_circle() {
        let hub = ("engine/src/hub.rs", "use crate::log::Log;\n");
        let tests = "pub struct Log;\n#[cfg(test)]\nmod tests { use crate::hub; }\n\
                     #[test]\nfn it_works() { crate::hub::run(); }\n";
        assert_eq!(found(&[LIB, hub, ("engine/src/log.rs", tests)]), NO_CIRCLE);
        let in_a_file = [
            LIB,
            hub,
            (
                "engine/src/log.rs",
                "pub struct Log;\n#[cfg(all(test, unix))]\nmod checks;\n",
            ),
            ("engine/src/log/checks.rs", "use crate::hub;\n"),
        ];
        assert_eq!(found(&in_a_file), NO_CIRCLE);
    }

    #[test]
    fn other_crates_and_local_names_are_no_imports() {
        let hub = ("engine/src/hub.rs", "use crate::log::Log;\n");
        let log = "use hub::Anything;\npub struct Log;\nfn a() { ::hub::b(); }\n";
        assert_eq!(found(&[LIB, hub, ("engine/src/log.rs", log)]), NO_CIRCLE);
    }
}
