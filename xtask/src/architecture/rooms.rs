//! The rooms of a crate stand on floors, and each uses only the floors below its own.
//!
//! A room is a top-level module: a file or a folder under `src/`, and `lib` (or `main`) for the root itself.
//! Rooms on one floor do not use each other. Something that is re-exported counts as used where it is
//! *defined*, so that a detour over `lib.rs` opens no door.

use std::path::Path;

use anyhow::Result;

use super::import::Import;
use super::rust::{SourceTree, source_trees};
use super::tables::rooms::House;
use super::violation::Violation;

/// Compares the rooms of the crates in the table with their floors.
pub(super) fn check(root: &Path, houses: &[House]) -> Result<Vec<Violation>> {
    let mut violations = Vec::new();
    for house in houses {
        let trees = source_trees(root, house.directory)?;
        if trees.is_empty() {
            violations.push(no_crate(house));
        }
        for tree in trees {
            violations.extend(unlisted(house, &tree));
            violations.extend(missing(house, &tree));
            violations.extend(upward(house, &tree));
        }
    }
    Ok(violations)
}

fn no_crate(house: &House) -> Violation {
    Violation::new(
        &format!("{}/src", house.directory),
        None,
        format!(
            "the table of rooms has floors for {}, and there is no such crate",
            house.directory
        ),
        "Name the crate's directory in tables/rooms.rs".to_owned(),
    )
}

fn floor_of(house: &House, room: &str) -> Option<usize> {
    house.floors.iter().position(|floor| floor.contains(&room))
}

/// Rooms that are there, and not in the table.
fn unlisted(house: &House, tree: &SourceTree) -> Vec<Violation> {
    let rooms = tree
        .rooms
        .iter()
        .filter(|(room, _)| floor_of(house, room).is_none());
    rooms
        .map(|(room, file)| {
            Violation::new(
                file,
                None,
                format!("the room `{room}` of {} has no floor", house.directory),
                "Put it on a floor in tables/rooms.rs, above every room that it uses".to_owned(),
            )
        })
        .collect()
}

/// Rooms that are in the table, and not there.
fn missing(house: &House, tree: &SourceTree) -> Vec<Violation> {
    let listed = house.floors.iter().copied().flatten();
    listed
        .filter(|room| !tree.rooms.contains_key(**room))
        .map(|room| {
            Violation::new(
                &format!("{}/src", house.directory),
                None,
                format!("the table of rooms lists `{room}`, and there is no such room"),
                "Take it out of tables/rooms.rs, or create the room".to_owned(),
            )
        })
        .collect()
}

/// Imports that do not point down: for each pair of rooms the first, with the number of the others.
fn upward(house: &House, tree: &SourceTree) -> Vec<Violation> {
    let mut pairs: Vec<(&str, &str, usize, &Import)> = Vec::new();
    for import in &tree.imports {
        let (from, to) = (tree.room_of(&import.from), tree.room_of(&import.to));
        let (Some(own), Some(other)) = (floor_of(house, from), floor_of(house, to)) else {
            continue;
        };
        if from == to || other < own {
            continue;
        }
        match pairs.iter_mut().find(|pair| (pair.0, pair.1) == (from, to)) {
            Some(pair) => pair.2 += 1,
            None => pairs.push((from, to, 0, import)),
        }
    }
    pairs
        .into_iter()
        .map(|(from, to, others, import)| {
            let number = |room| floor_of(house, room).map_or(0, |floor| floor + 1);
            let more = match others {
                0 => String::new(),
                1 => ", and once more".to_owned(),
                some => format!(", and {some} times more"),
            };
            Violation::new(
                &import.file,
                Some(import.line),
                format!(
                    "the room `{from}` (floor {}) uses `{to}` (floor {}){more}",
                    number(from),
                    number(to)
                ),
                "A room uses only lower floors: move what it needs down, or what needs it up; if the \
                 architecture changes, change tables/rooms.rs and ARCHITECTURE.md"
                    .to_owned(),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{problems, repository};
    use super::*;

    const HOUSE: House = House {
        directory: "engine",
        floors: &[&["ground", "cellar"], &["hall"], &["lib"]],
    };
    const LIB: (&str, &str) = (
        "engine/src/lib.rs",
        "mod cellar;\nmod ground;\nmod hall;\npub use hall::Door;\n",
    );

    fn found(ground: &str, cellar: &str, hall: &str) -> Vec<String> {
        let root = repository(&[
            LIB,
            ("engine/src/ground.rs", ground),
            ("engine/src/cellar/mod.rs", cellar),
            ("engine/src/hall.rs", hall),
        ]);
        problems(&check(root.path(), &[HOUSE]).unwrap())
    }

    #[test]
    fn a_room_may_use_the_floors_below() {
        let hall = "use crate::cellar::Wine;\nuse crate::ground::Floor;\npub struct Door;\n";
        assert_eq!(
            found("pub struct Floor;", "pub struct Wine;", hall),
            [] as [&str; 0]
        );
    }

    #[test]
    fn an_import_from_above_is_reported_once_for_each_pair_of_rooms() {
        let ground = "use crate::hall::Door;\nfn open() { crate::hall::ring(); }\n";
        let hall = "pub struct Door;\npub fn ring() {}\n";
        let expected = "engine/src/ground.rs:1: the room `ground` (floor 1) uses `hall` (floor 2), \
                        and once more";
        assert_eq!(found(ground, "", hall), [expected]);
    }

    #[test]
    fn a_detour_over_the_root_is_reported() {
        let expected = "engine/src/ground.rs:1: the room `ground` (floor 1) uses `hall` (floor 2)";
        assert_eq!(
            found("use crate::Door;\n", "", "pub struct Door;\n"),
            [expected]
        );
    }

    #[test]
    fn rooms_on_one_floor_do_not_use_each_other() {
        let expected =
            "engine/src/cellar/mod.rs:1: the room `cellar` (floor 1) uses `ground` (floor 1)";
        let cellar = "use super::ground::Floor;\n";
        assert_eq!(
            found("pub struct Floor;", cellar, "pub struct Door;"),
            [expected]
        );
    }

    #[test]
    fn a_room_without_a_floor_is_reported() {
        let root = repository(&[
            LIB,
            ("engine/src/ground.rs", ""),
            ("engine/src/cellar/mod.rs", ""),
            ("engine/src/hall.rs", "pub struct Door;"),
        ]);
        let house = House {
            floors: &[&["ground"], &["hall"], &["lib"]],
            ..HOUSE
        };
        let expected = "engine/src/cellar/mod.rs:0: the room `cellar` of engine has no floor";
        assert_eq!(problems(&check(root.path(), &[house]).unwrap()), [expected]);
    }

    #[test]
    fn a_crate_that_is_only_in_the_table_is_reported() {
        let expected =
            "engine/src:0: the table of rooms has floors for engine, and there is no such crate";
        let violations = check(repository(&[]).path(), &[HOUSE]).unwrap();
        assert_eq!(problems(&violations), [expected]);
    }

    #[test]
    fn a_room_that_is_only_in_the_table_is_reported() {
        let root = repository(&[
            ("engine/src/lib.rs", "mod ground;"),
            ("engine/src/ground.rs", ""),
        ]);
        let house = House {
            floors: &[&["ground", "attic"], &["lib"]],
            ..HOUSE
        };
        let expected = "engine/src:0: the table of rooms lists `attic`, and there is no such room";
        assert_eq!(problems(&check(root.path(), &[house]).unwrap()), [expected]);
    }
}
