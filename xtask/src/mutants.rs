//! `cargo xtask fault --mutants`: programs that are broken on purpose, which a suite must catch. A suite that cannot
//! fail proves nothing.
//!
//! A mutant is a patch, applied to a copy of the crates. Those of the fault suite break what a server promises; those of
//! the privacy suite tell somebody what they may not know, those of row level security take policies for others, those of
//! membership read the log without end, and those of convergence decide by the order in which things come.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use test_postgres::{Cluster, FOR_TESTS};

use crate::options::Options;
use crate::steps;

/// A suite with its mutants.
#[derive(Debug, Clone, Copy)]
struct Suite {
    /// Where its patches are.
    patches: &'static str,
    /// The test target.
    target: &'static str,
    /// The test that must fail.
    test: &'static str,
    /// How often it may pass before the mutant is taken for one that escapes: what it does is rolled.
    games: usize,
    runs: Runs,
}

/// Where a suite runs what it tests.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Runs {
    /// As processes of the server. The suite itself, and its client, are built from the working tree.
    Servers,
    /// In its own process, so that the suite is built with the mutant.
    Engines,
}

const SUITES: [Suite; 6] = [
    Suite {
        patches: "tests/fault/mutants",
        target: "fault",
        test: "postgres",
        games: 1,
        runs: Runs::Servers,
    },
    Suite {
        patches: "tests/protocol/policies/mutants",
        target: "protocol",
        test: "policies::privacy::nobody_receives_what_they_may_not_read_and_everybody_what_they_may::postgres",
        games: 8,
        runs: Runs::Engines,
    },
    Suite {
        patches: "tests/rls/mutants",
        target: "rls",
        test: "random::what_is_visible_by_random_plans_is_what_postgresql_shows_the_role",
        games: 4,
        runs: Runs::Engines,
    },
    Suite {
        patches: "tests/protocol/membership/mutants",
        target: "protocol",
        test: "membership::constant::a_client_becomes_live_though_every_batch_moves_rows::postgres",
        games: 2,
        runs: Runs::Engines,
    },
    Suite {
        patches: "tests/rls/differential/mutants",
        target: "rls",
        test: "differential::policies::clients_hold_what_postgresql_shows_while_memberships_change_hands",
        games: 12,
        runs: Runs::Engines,
    },
    Suite {
        patches: "tests/changesets/convergence/mutants",
        target: "changesets",
        test: "convergence::all_databases_and_devices_end_the_same_where_edits_revive",
        games: 3,
        runs: Runs::Engines,
    },
];

/// The paths that a server is built from.
const SOURCES: [&str; 9] = [
    "Cargo.toml",
    "Cargo.lock",
    "clients/typescript/dist",
    "crates",
    "examples",
    "migrations",
    "migrations_sqlite",
    "tests",
    "xtask",
];
/// How long the fault suite runs on a mutant: every fault occurs in that time.
const SECONDS: u64 = 240;

/// Builds each mutant and runs its suite on it.
pub(crate) fn run(options: &Options<'_>, bin_dir: &Path) -> Result<()> {
    let cluster = Cluster::start(bin_dir, FOR_TESTS)?;
    let mut escaped = Vec::new();
    for suite in SUITES {
        if suite.runs == Runs::Servers {
            succeed(cargo().args(suite.cargo()).arg("--no-run"), "the suite")?;
        }
        for patch in suite.patches()? {
            let mutant = Mutant::new(suite, &patch)?;
            println!("mutant {}", mutant.name);
            mutant.build()?;
            let mut environment = vec![
                ("TEST_PG_BIN_DIR", bin_dir.display().to_string()),
                ("TEST_DATABASE_URL", cluster.url()),
                ("FAULT_SECONDS", SECONDS.to_string()),
            ];
            environment.extend(options.seed.map(|seed| ("FAULT_SEED", seed.to_string())));
            if mutant.is_caught(&environment)? {
                println!("mutant {}: caught{}", mutant.name, mutant.reason());
            } else {
                println!("mutant {}: NOT CAUGHT", mutant.name);
                escaped.push(mutant.name);
            }
        }
    }
    if !escaped.is_empty() {
        bail!("these mutants were not caught: {}", escaped.join(", "));
    }
    Ok(())
}

impl Suite {
    /// The arguments of cargo.
    fn cargo(self) -> [&'static str; 5] {
        [
            "test",
            "--package",
            "rhtmx-sync-tests",
            "--test",
            self.target,
        ]
    }

    fn patches(self) -> Result<Vec<PathBuf>> {
        let entries = fs::read_dir(steps::workspace().join(self.patches)).context(self.patches)?;
        let mut patches: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        patches.sort();
        Ok(patches)
    }
}

/// A copy of the sources with a patch.
struct Mutant {
    suite: Suite,
    name: String,
    /// Where the copy is.
    sources: PathBuf,
    /// Where mutants are built: one after another, so that each rebuilds only what its patch has changed.
    built: PathBuf,
}

impl Mutant {
    fn new(suite: Suite, patch: &Path) -> Result<Self> {
        let name = patch.file_stem().unwrap_or_default().to_string_lossy();
        let mutants = steps::target().join("mutants");
        let mutant = Self {
            suite,
            sources: mutants.join(&*name),
            name: name.into_owned(),
            built: mutants.join("target"),
        };
        copy_sources(&mutant.sources)?;
        apply(patch, &mutant.sources, false)?;
        Ok(mutant)
    }

    fn build(&self) -> Result<()> {
        let mut build = self.cargo();
        match self.suite.runs {
            Runs::Servers => build.args(["build", "--package", "rhtmx-sync-server"]),
            Runs::Engines => build.args(self.suite.cargo()).arg("--no-run"),
        };
        succeed(&mut build, "the mutant")
    }

    /// Cargo on its sources.
    fn cargo(&self) -> Command {
        let mut command = cargo();
        command
            .current_dir(&self.sources)
            .env("CARGO_TARGET_DIR", &self.built);
        command
    }

    /// Runs its suite, whose output goes to its log, until it fails.
    fn is_caught(&self, environment: &[(&str, String)]) -> Result<bool> {
        for _ in 0..self.suite.games {
            let mut test = match self.suite.runs {
                Runs::Servers => cargo(),
                Runs::Engines => self.cargo(),
            };
            let log = fs::File::create(self.log())?;
            test.args(self.suite.cargo())
                .args(["--", self.suite.test, "--exact", "--nocapture"])
                .envs(environment.iter().map(|(name, value)| (name, value)))
                .env("RHTMX_SYNC_BIN", self.built.join("debug/rhtmx-sync"))
                .stdout(log.try_clone()?)
                .stderr(log);
            if !test.status()?.success() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn log(&self) -> PathBuf {
        self.sources.with_extension("log")
    }

    /// The first line of the suite's panic.
    fn reason(&self) -> String {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        let mut lines = text
            .lines()
            .skip_while(|line| !line.contains("panicked at"));
        let line: String = lines.nth(1).unwrap_or_default().chars().take(160).collect();
        format!(": {line}")
    }
}

fn cargo() -> Command {
    let mut command = Command::new(env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    command.current_dir(steps::workspace());
    command
}

/// Copies the sources with their times, so that Cargo rebuilds only what a patch has changed.
fn copy_sources(to: &Path) -> Result<()> {
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    fs::create_dir_all(to)?;
    succeed(
        Command::new("cp")
            .args(["-R", "-p", "--parents"])
            .args(SOURCES)
            .arg(to)
            .current_dir(steps::workspace()),
        "copying the sources",
    )
}

fn apply(patch: &Path, to: &Path, dry_run: bool) -> Result<()> {
    let mut command = Command::new("patch");
    command
        .args(["-p1", "--batch", "--forward", "--input"])
        .arg(patch)
        .current_dir(to);
    if dry_run {
        command.arg("--dry-run");
    }
    succeed(
        command.stdout(Stdio::null()),
        &format!("applying {}", patch.display()),
    )
}

fn succeed(command: &mut Command, about: &str) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("could not run {command:?}"))?;
    if !status.success() {
        bail!("failed ({status}): {about}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A change of the lines that a mutant breaks must change the mutant as well.
    #[test]
    fn every_mutant_applies_to_the_sources() {
        for suite in SUITES {
            let patches = suite.patches().unwrap();
            assert!(patches.len() >= 3, "{suite:?}");
            for patch in patches {
                apply(&patch, steps::workspace(), true).unwrap();
            }
        }
    }

    /// Otherwise no test would run, and every mutant would pass for one that was not caught.
    #[test]
    fn the_tests_that_mutants_must_fail_exist() {
        for (file, suite, part) in [
            ("tests/protocol/policies/privacy.rs", SUITES[1], 2),
            ("tests/rls/random.rs", SUITES[2], 1),
            ("tests/protocol/membership/constant.rs", SUITES[3], 2),
            ("tests/rls/differential/policies.rs", SUITES[4], 2),
            ("tests/changesets/convergence/mod.rs", SUITES[5], 1),
        ] {
            let text = fs::read_to_string(steps::workspace().join(file)).unwrap();
            let name = suite.test.split("::").nth(part).unwrap();
            assert!(text.contains(&format!("async fn {name}(")), "{name}");
        }
    }
}
