//! The imports of TypeScript, and the circles that they form.
//!
//! `import … from`, `import "…"`, `export … from` and `import("…")` count, also when they import only
//! types: a type is understood by reading the file that defines it. A file has no face and no children here,
//! so what [`circles`] says of those does not arise. Tests are left out.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;

use super::circles;
use super::files::{SourceFile, source_files};
use super::import::{Import, ModulePath};
use super::lexer::{Kind, Language, tokens};
use super::violation::Violation;

/// Every circle of files or folders in these source folders.
pub(super) fn circles(root: &Path, folders: &[&str]) -> Result<Vec<Violation>> {
    let mut violations = Vec::new();
    for folder in folders {
        let files: Vec<SourceFile> = source_files(root, folder, &["ts", "tsx"])?
            .into_iter()
            .filter(|file| !is_test(&file.path))
            .collect();
        if files.is_empty() {
            violations.push(Violation::new(
                folder,
                None,
                "the table names this folder of TypeScript, and no file is there".to_owned(),
                "Name the new place in tables/mod.rs".to_owned(),
            ));
        }
        violations.extend(circles::check(folder, &imports(folder, &files)));
    }
    Ok(violations)
}

fn is_test(path: &str) -> bool {
    path.contains(".test.") || path.split('/').any(|part| part == "tests")
}

/// The imports between the files of a folder.
fn imports(folder: &str, files: &[SourceFile]) -> Vec<Import> {
    let known: BTreeSet<ModulePath> = files.iter().map(|file| way(folder, &file.path)).collect();
    let mut imports = Vec::new();
    for file in files {
        let from = way(folder, &file.path);
        for (line, named) in named(&file.text) {
            if let Some(to) = resolve(&from, &named, &known).filter(|to| *to != from) {
                imports.push(Import {
                    from: from.clone(),
                    to,
                    file: file.path.clone(),
                    line,
                });
            }
        }
    }
    imports
}

fn way(folder: &str, path: &str) -> ModulePath {
    let inside = path.strip_prefix(folder).unwrap_or(path);
    inside
        .trim_start_matches('/')
        .split('/')
        .map(str::to_owned)
        .collect()
}

/// The texts after `from`, `import` and `import(`, with their lines.
fn named(text: &str) -> Vec<(usize, String)> {
    let mut tokens = tokens(text, Language::TYPESCRIPT);
    tokens.retain(|token| !matches!(token.kind, Kind::Comment(_)));
    let is_word =
        |kind: &Kind, words: &[&str]| matches!(kind, Kind::Word(word) if words.contains(&&**word));
    let mut found = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let before = |steps: usize| index.checked_sub(steps).map(|index| &tokens[index].kind);
        let is_import = match before(1) {
            Some(Kind::Mark('(')) => before(2).is_some_and(|kind| is_word(kind, &["import"])),
            Some(kind) => is_word(kind, &["from", "import"]),
            None => false,
        };
        if let Kind::Text(path) = &token.kind
            && is_import
        {
            found.push((token.line, path.clone()));
        }
    }
    found
}

/// The file that a relative path names; a package is none of ours.
fn resolve(from: &[String], named: &str, known: &BTreeSet<ModulePath>) -> Option<ModulePath> {
    if !named.starts_with('.') {
        return None;
    }
    let mut path = from.split_last()?.1.to_vec();
    for part in named.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(path.pop()?),
            name => path.push(name.to_owned()),
        }
    }
    let name = path.pop().unwrap_or_default();
    let stem = name.strip_suffix(".js").unwrap_or(&name);
    let names = [name.clone(), format!("{stem}.ts"), format!("{stem}.tsx")];
    let files = names.map(|name| [path.as_slice(), &[name]].concat());
    let index = [path.as_slice(), &[name, "index.ts".to_owned()]].concat();
    files
        .into_iter()
        .chain([index])
        .find(|file| known.contains(file))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{problems, repository};
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        problems(&circles(repository(files).path(), &["app/src"]).unwrap())
    }

    #[test]
    fn two_files_that_import_each_other_are_a_circle_also_by_types_alone() {
        let files = [
            (
                "app/src/a.ts",
                "// import \"./c.js\";\nimport { b } from \"./b.js\";\n",
            ),
            ("app/src/b.ts", "import type { A } from './a';\n"),
        ];
        let expected = "app/src/a.ts:2: circle in app/src: a.ts -> b.ts -> a.ts \
                        (app/src/a.ts:2, app/src/b.ts:1)";
        assert_eq!(found(&files), [expected]);
    }

    #[test]
    fn re_exports_and_dynamic_imports_of_folders_are_a_circle() {
        let files = [
            (
                "app/src/store/memory.ts",
                "export {\n  type Row,\n} from \"../session/outbox.js\";\n",
            ),
            (
                "app/src/session/session.ts",
                "const store = () => import(\"../store/memory.js\");\n",
            ),
            ("app/src/session/outbox.ts", "export type Row = {};\n"),
        ];
        let expected = "app/src/session/session.ts:1: circle in app/src: session -> store -> session \
                        (app/src/session/session.ts:1, app/src/store/memory.ts:3)";
        assert_eq!(found(&files), [expected]);
    }

    #[test]
    fn a_folder_without_files_is_reported() {
        let expected = "app/src:0: the table names this folder of TypeScript, and no file is there";
        assert_eq!(found(&[]), [expected]);
    }

    #[test]
    fn tests_and_packages_are_left_out() {
        let files = [
            (
                "app/src/a.ts",
                "import \"./b.test.js\";\nimport { x } from \"a\";\n",
            ),
            ("app/src/b.test.ts", "import \"./a.js\";\n"),
        ];
        assert_eq!(found(&files), [] as [&str; 0]);
    }
}
