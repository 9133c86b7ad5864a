//! No circles: modules that import each other, directly or through others.
//!
//! **What counts.** Modules form a tree; the children of a module are the files and folders in its folder. An
//! import joins two modules and belongs to the lowest folder that contains both. In that folder it is an
//! arrow between two children: from the one that contains the importer to the one that contains what is
//! imported. When `db/read.rs` imports `filter/eval.rs`, that is an arrow `db -> filter` at the root, and
//! none inside `db` or `filter`. In every folder, these arrows must form no circle. One rule thus finds circles of
//! files and circles of folders at every level: a circle of files that runs across several folders is
//! always a circle in the lowest folder that contains all of it.
//!
//! **What does not count.** An import between a module and one of its own descendants, in either direction.
//! A folder's `mod.rs` (or `lib.rs`, or the `a.rs` beside `a/`) is the face of the files in the folder: it
//! declares, uses and re-exports them, and they use what it defines for all of them. That is how Rust wants
//! a type in `mod.rs` with its `impl`s in children to be written, and it ties the folder to nothing outside.
//! Two children that import each other do count, and so does a folder that imports an outsider which
//! imports the folder, whichever of its files do so. For a crate with floors, [`rooms`](super::rooms) is
//! stricter: there a room does not use what `lib.rs` defines.
//!
//! Only names count. A method that is called on a value ties nothing; the type of the value is named where
//! the value comes from.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::import::Import;
use super::violation::Violation;

/// The arrows within one folder: from a child to the children that it uses, with one import as a witness.
type Arrows<'a> = BTreeMap<&'a str, BTreeMap<&'a str, &'a Import>>;

/// Every circle among the modules of one crate or source folder: for each arrow of a circle the shortest
/// circle that it is part of, each once and the shortest first, as opening those often opens the others.
pub(super) fn check(root: &str, imports: &[Import]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (folder, arrows) in folders(imports) {
        let mut circles = BTreeSet::new();
        for (from, targets) in &arrows {
            for to in targets.keys() {
                if let Some(way_back) = shortest_way(&arrows, to, from) {
                    circles.insert((way_back.len(), from_the_least(way_back)));
                }
            }
        }
        let folder = [&[root.to_owned()], folder].concat().join("/");
        let circles = circles.iter();
        violations.extend(circles.map(|(_, circle)| describe(&folder, circle, &arrows)));
    }
    violations
}

/// The arrows of each folder, by the folder's way from the root.
fn folders(imports: &[Import]) -> BTreeMap<&[String], Arrows<'_>> {
    let mut folders: BTreeMap<&[String], Arrows<'_>> = BTreeMap::new();
    for import in imports {
        let shared = import.from.iter().zip(&import.to);
        let depth = shared.take_while(|(from, to)| from == to).count();
        if let (Some(from), Some(to)) = (import.from.get(depth), import.to.get(depth)) {
            let arrows = folders.entry(&import.from[..depth]).or_default();
            arrows.entry(from).or_default().entry(to).or_insert(import);
        }
    }
    folders
}

/// The children on the shortest way along the arrows, both ends included.
fn shortest_way<'a>(arrows: &Arrows<'a>, start: &'a str, end: &str) -> Option<Vec<&'a str>> {
    let mut came_from = BTreeMap::from([(start, start)]);
    let mut queue = VecDeque::from([start]);
    while let Some(here) = queue.pop_front() {
        if here == end {
            let mut way = vec![here];
            let mut last = here;
            while last != start {
                last = came_from[last];
                way.push(last);
            }
            way.reverse();
            return Some(way);
        }
        for next in arrows.get(here).into_iter().flat_map(BTreeMap::keys) {
            if !came_from.contains_key(next) {
                came_from.insert(next, here);
                queue.push_back(next);
            }
        }
    }
    None
}

/// The same circle, begun at the least of its names, so that each circle is found once.
fn from_the_least(mut circle: Vec<&str>) -> Vec<&str> {
    let least = (0..circle.len()).min_by_key(|index| circle[*index]);
    circle.rotate_left(least.unwrap_or_default());
    circle
}

fn describe(folder: &str, circle: &[&str], arrows: &Arrows<'_>) -> Violation {
    let next = |index: usize| circle[(index + 1) % circle.len()];
    let imports: Vec<&Import> = (0..circle.len())
        .map(|index| arrows[circle[index]][next(index)])
        .collect();
    let witnesses: Vec<String> = imports
        .iter()
        .map(|import| format!("{}:{}", import.file, import.line))
        .collect();
    Violation::new(
        &imports[0].file,
        Some(imports[0].line),
        format!(
            "circle in {folder}: {} -> {} ({})",
            circle.join(" -> "),
            circle[0],
            witnesses.join(", ")
        ),
        "Move what both sides need into a module below them, or what joins them into one above"
            .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture::fixture::problems;

    fn import(from: &str, to: &str) -> Import {
        let way = |text: &str| text.split('/').map(str::to_owned).collect();
        Import {
            from: way(from),
            to: way(to),
            file: format!("src/{from}"),
            line: 1,
        }
    }

    #[test]
    fn a_circle_is_reported_once_and_what_leads_into_it_is_not_part_of_it() {
        let imports = [
            import("b", "c"),
            import("c", "a"),
            import("a", "b"),
            import("entrance", "a"),
            import("a", "exit"),
        ];
        let expected = "src/a:1: circle in src: a -> b -> c -> a (src/a:1, src/b:1, src/c:1)";
        assert_eq!(problems(&check("src", &imports)), [expected]);
    }

    #[test]
    fn folders_form_a_circle_although_their_files_form_none() {
        let imports = [import("a/one", "b/one"), import("b/two", "a/two")];
        let expected = "src/a/one:1: circle in src: a -> b -> a (src/a/one:1, src/b/two:1)";
        assert_eq!(problems(&check("src", &imports)), [expected]);
    }

    #[test]
    fn siblings_deep_inside_are_named_with_their_folder() {
        let imports = [import("a/b/one", "a/b/two"), import("a/b/two", "a/b/one")];
        let expected =
            "src/a/b/one:1: circle in src/a/b: one -> two -> one (src/a/b/one:1, src/a/b/two:1)";
        assert_eq!(problems(&check("src", &imports)), [expected]);
    }

    #[test]
    fn a_folder_and_what_it_contains_form_no_circle() {
        let imports = [import("a", "a/child"), import("a/child", "a")];
        assert_eq!(check("src", &imports), []);
    }
}
