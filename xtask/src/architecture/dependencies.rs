//! Which packages a crate's `Cargo.toml` may name: ours by the table of crates, others by the walls.
//!
//! `[dev-dependencies]` are free: a test may look at a crate from wherever it likes.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;

use super::manifest::{Dependency, Manifest, manifests};
use super::tables::crates::{Crate, Wall};
use super::violation::Violation;

/// Compares every manifest below the root with the tables.
pub(super) fn check(root: &Path, crates: &[Crate], walls: &[Wall]) -> Result<Vec<Violation>> {
    let manifests = manifests(root)?;
    let ours: BTreeMap<&str, &str> = manifests
        .iter()
        .map(|manifest| (&*manifest.package, &*manifest.directory))
        .collect();
    let mut violations = Vec::new();
    for manifest in &manifests {
        let listed = crates
            .iter()
            .find(|listed| listed.directory == manifest.directory);
        if listed.is_none() {
            violations.push(unlisted(manifest));
        }
        for dependency in &manifest.dependencies {
            match ours.get(&*dependency.package) {
                Some(used) => {
                    let forbidden = listed.filter(|listed| !listed.may_use.contains(used));
                    violations
                        .extend(forbidden.map(|listed| upward(manifest, listed, dependency, used)));
                }
                None => violations.extend(
                    walls
                        .iter()
                        .filter_map(|wall| walled(manifest, dependency, wall)),
                ),
            }
        }
    }
    let is_there = |listed: &&Crate| {
        ours.values()
            .any(|directory| *directory == listed.directory)
    };
    violations.extend(
        crates
            .iter()
            .filter(|listed| !is_there(listed))
            .map(missing),
    );
    Ok(violations)
}

fn unlisted(manifest: &Manifest) -> Violation {
    Violation::new(
        &manifest.path(),
        None,
        format!(
            "the crate {} is not in the table of crates",
            manifest.directory
        ),
        "Say in tables/crates.rs which of our crates it may use".to_owned(),
    )
}

fn missing(listed: &Crate) -> Violation {
    Violation::new(
        &format!("{}/Cargo.toml", listed.directory),
        None,
        format!(
            "the table of crates lists {}, and there is no such crate",
            listed.directory
        ),
        "Take its line out of tables/crates.rs, or create the crate".to_owned(),
    )
}

fn upward(manifest: &Manifest, listed: &Crate, dependency: &Dependency, used: &str) -> Violation {
    let allowed = match listed.may_use {
        [] => "none of our crates".to_owned(),
        some => some.join(", "),
    };
    Violation::new(
        &manifest.path(),
        Some(dependency.line),
        format!(
            "{} depends on {} ({used}), but may use {allowed}",
            manifest.directory, dependency.package
        ),
        "Move what it needs down into a crate that both may use; if the architecture changes, change \
         tables/crates.rs and ARCHITECTURE.md"
            .to_owned(),
    )
}

fn walled(manifest: &Manifest, dependency: &Dependency, wall: &Wall) -> Option<Violation> {
    let directory = &*manifest.directory;
    if wall.allows(directory) || !wall.packages.contains(&&*dependency.package) {
        return None;
    }
    Some(Violation::new(
        &manifest.path(),
        Some(dependency.line),
        format!(
            "{directory} depends on {}, but {}",
            dependency.package, wall.reason
        ),
        "Let a crate that may use it do the work, or make it a dev-dependency".to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{problems, repository};
    use super::super::tables::crates::Side;
    use super::*;

    const WORKSPACE: &str =
        "[workspace.dependencies]\nbottom = { package = \"x-bottom\", path = \"bottom\" }\n";
    const BOTTOM: &str = "[package]\nname = \"x-bottom\"\n\n[dependencies]\nserde = \"1\"\n";
    const CRATES: &[Crate] = &[
        Crate {
            directory: "bottom",
            may_use: &[],
        },
        Crate {
            directory: "top",
            may_use: &["bottom"],
        },
    ];
    const WALLS: &[Wall] = &[Wall {
        packages: &["diesel"],
        side: Side::OnlyIn(&["top"]),
        reason: "only top knows SQL",
    }];

    fn found(bottom: &str, top: &str, crates: &[Crate]) -> Vec<String> {
        let root = repository(&[
            ("Cargo.toml", WORKSPACE),
            ("bottom/Cargo.toml", bottom),
            ("top/Cargo.toml", top),
        ]);
        problems(&check(root.path(), crates, WALLS).unwrap())
    }

    const TOP: &str =
        "[package]\nname = \"x-top\"\n\n[dependencies]\nbottom.workspace = true\ndiesel = \"2\"\n";

    #[test]
    fn what_the_tables_allow_is_no_violation() {
        assert_eq!(found(BOTTOM, TOP, CRATES), [] as [&str; 0]);
    }

    #[test]
    fn a_dependency_on_a_crate_above_is_reported() {
        let bottom = format!("{BOTTOM}top = {{ package = \"x-top\", path = \"../top\" }}\n");
        let expected =
            "bottom/Cargo.toml:6: bottom depends on x-top (top), but may use none of our crates";
        assert_eq!(found(&bottom, TOP, CRATES), [expected]);
    }

    #[test]
    fn a_dev_dependency_is_free() {
        let bottom = format!(
            "{BOTTOM}\n[dev-dependencies]\nx-top = {{ path = \"../top\" }}\ndiesel = \"2\"\n"
        );
        assert_eq!(found(&bottom, TOP, CRATES), [] as [&str; 0]);
    }

    #[test]
    fn a_renamed_dependency_is_known_by_its_package() {
        let allowed_nothing = [
            Crate {
                directory: "bottom",
                may_use: &[],
            },
            Crate {
                directory: "top",
                may_use: &[],
            },
        ];
        let expected =
            "top/Cargo.toml:5: top depends on x-bottom (bottom), but may use none of our crates";
        assert_eq!(found(BOTTOM, TOP, &allowed_nothing), [expected]);
    }

    #[test]
    fn a_walled_package_is_reported_outside_its_wall_on_every_platform() {
        let bottom = format!("{BOTTOM}\n[target.'cfg(unix)'.dependencies]\ndiesel = \"2\"\n");
        let expected = "bottom/Cargo.toml:8: bottom depends on diesel, but only top knows SQL";
        assert_eq!(found(&bottom, TOP, CRATES), [expected]);
    }

    #[test]
    fn a_crate_that_is_not_in_the_table_is_reported() {
        let expected = "top/Cargo.toml:0: the crate top is not in the table of crates";
        assert_eq!(found(BOTTOM, TOP, &CRATES[..1]), [expected]);
    }

    #[test]
    fn a_crate_that_is_only_in_the_table_is_reported() {
        let gone = Crate {
            directory: "gone",
            may_use: &[],
        };
        let crates: Vec<Crate> = CRATES.iter().copied().chain([gone]).collect();
        let expected =
            "gone/Cargo.toml:0: the table of crates lists gone, and there is no such crate";
        assert_eq!(found(BOTTOM, TOP, &crates), [expected]);
    }
}
