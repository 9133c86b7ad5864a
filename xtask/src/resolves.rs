//! Whether the engine resolves beside what people have. Cargo links SQLite once, so every crate of a
//! project that needs it must agree on its version: an engine that insisted on one would end most first
//! tries.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::steps;

/// Where the package `rhtmx-sync` is.
const ENGINE: &str = "crates/engine";

/// With everything that is on by default.
const DEFAULT: &str = "";
const POSTGRES_ONLY: &str = r#", default-features = false, features = ["postgres"]"#;

/// What projects have: the lines of their manifests. Each project resolves without the engine.
const PROJECTS: &[&str] = &[
    r#"sqlx = "0.8""#,
    r#"sqlx = { version = "0.8", features = ["postgres", "runtime-tokio"] }"#,
    r#"sqlx = { version = "0.8", features = ["sqlite", "runtime-tokio"] }"#,
    r#"sqlx = "0.9""#,
    r#"sqlx = { version = "0.9", features = ["postgres", "runtime-tokio"] }"#,
    r#"sqlx = { version = "0.9", features = ["sqlite", "runtime-tokio"] }"#,
    r#"sea-orm = "1""#,
    r#"sea-orm = { version = "1", features = ["sqlx-postgres", "runtime-tokio-rustls"] }"#,
    r#"sea-orm = { version = "1", features = ["sqlx-sqlite", "runtime-tokio-rustls"] }"#,
    r#"sea-orm = { version = "2", features = ["sqlx-sqlite", "runtime-tokio-rustls"] }"#,
    r#"rusqlite = "0.32"
       sqlx = "0.8""#,
    r#"rusqlite = "0.37""#,
    r#"rusqlite = "0.38""#,
    r#"rusqlite = "0.39"
       sqlx = "0.9""#,
    r#"diesel = { version = "2.3", features = ["sqlite", "postgres", "r2d2"] }
       diesel_migrations = "2.3"
       diesel-async = { version = "0.9", features = ["postgres", "deadpool"] }
       deadpool-diesel = { version = "0.6", features = ["sqlite"] }
       tokio-rusqlite = "0.8""#,
];

/// The last four minor versions of rusqlite. It takes up a new SQLite sooner than Diesel does: beside
/// those that Diesel does not allow yet, the engine resolves without SQLite.
const RUSQLITE: &[&str] = &["0.40", "0.41", "0.42", "0.43"];

/// What the engine uses SQLite by.
const DIESEL: &str =
    r#"diesel = { version = "2.3", default-features = false, features = ["sqlite"] }"#;

#[test]
fn the_engine_resolves_beside_what_people_have() {
    let project = Project::new("beside");
    let mut failed: Vec<String> = PROJECTS
        .iter()
        .filter_map(|has| project.with_engine(has, DEFAULT).err())
        .collect();
    for version in RUSQLITE {
        let has = format!(r#"rusqlite = {{ version = "{version}", features = ["bundled"] }}"#);
        let possible = project.resolve(&format!("{has}\n{DIESEL}")).is_ok();
        let features = if possible { DEFAULT } else { POSTGRES_ONLY };
        failed.extend(project.with_engine(&has, features).err());
    }
    let count = failed.len();
    assert!(
        failed.is_empty(),
        "{count} do not resolve:\n\n{}",
        failed.join("\n")
    );
}

#[test]
fn without_its_feature_nothing_of_sqlite_is_linked() {
    let project = Project::new("without-sqlite");
    let lockfile = |has, features| match project.with_engine(has, features) {
        Ok(lockfile) => lockfile,
        Err(error) => panic!("this does not resolve:\n\n{error}"),
    };
    let links_sqlite = |lockfile: String| lockfile.contains(r#"name = "libsqlite3-sys""#);
    assert!(links_sqlite(lockfile("", DEFAULT)));
    assert!(!links_sqlite(lockfile("", POSTGRES_ONLY)));
    // The engine cannot use a SQLite as old as theirs; without its own it need not.
    let old = r#"sqlx = { version = "0.7", features = ["sqlite"] }
                 rusqlite = "0.30""#;
    lockfile(old, POSTGRES_ONLY);
}

/// A project that somebody could have, made again for each try.
struct Project {
    directory: PathBuf,
}

impl Project {
    fn new(name: &str) -> Self {
        let directory = steps::target().join("resolves").join(name);
        fs::create_dir_all(directory.join("src")).unwrap();
        fs::write(directory.join("src/lib.rs"), "").unwrap();
        Self { directory }
    }

    /// The lock file of a project that has these and takes the engine, or what does not resolve and why.
    fn with_engine(&self, has: &str, features: &str) -> Result<String, String> {
        let path = steps::workspace().join(ENGINE);
        let dependencies = format!("{has}\nrhtmx-sync = {{ path = {path:?}{features} }}");
        self.resolve(&dependencies)
            .map_err(|error| format!("{dependencies}\n{error}"))
    }

    /// The lock file that cargo makes for these dependencies, or what it says instead.
    fn resolve(&self, dependencies: &str) -> Result<String, String> {
        let lockfile = self.lock(dependencies);
        if lockfile.is_err()
            && let Err(error) = self.lock(r#"cfg-if = "1""#)
        {
            panic!("the registry of crates is out of reach, so nothing can be resolved:\n{error}");
        }
        lockfile
    }

    fn lock(&self, dependencies: &str) -> Result<String, String> {
        let lockfile = self.directory.join("Cargo.lock");
        fs::remove_file(&lockfile).ok();
        let manifest = format!(
            "[package]\nname = \"project\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n\
             [workspace]\n\n[dependencies]\n{dependencies}\n"
        );
        fs::write(self.directory.join("Cargo.toml"), manifest).unwrap();
        let output = Command::new(steps::executable("cargo"))
            .args(["generate-lockfile", "--quiet"])
            // Offline, cargo would choose among the crates that happen to be here.
            .env("CARGO_NET_OFFLINE", "false")
            .current_dir(&self.directory)
            .output()
            .unwrap();
        if output.status.success() {
            Ok(fs::read_to_string(lockfile).unwrap())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }
}
