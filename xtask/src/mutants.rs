//! `cargo xtask fault --mutants`: servers that are broken on purpose, which the fault suite must catch. A suite
//! that cannot fail proves nothing.
//!
//! A mutant is a patch in `tests/fault/mutants`, applied to a copy of the crates.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::options::Options;
use crate::steps;

const PATCHES: &str = "tests/fault/mutants";
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
/// How long the suite runs on a mutant: every fault occurs in that time.
const SECONDS: u64 = 240;

/// Builds each mutant and runs the suite on it.
pub(crate) fn run(options: &Options<'_>, bin_dir: &Path) -> Result<()> {
    let target = steps::target();
    let mut escaped = Vec::new();
    // The suite and its client are built from the working tree, not from the mutant.
    let suite = ["test", "--package", "rhtmx-sync-tests", "--test", "fault"];
    succeed(cargo().args(suite).arg("--no-run"), "the suite")?;
    for patch in patches()? {
        let name = patch
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        println!("mutant {name}");
        let copy = target.join("mutants").join(&name);
        copy_sources(&copy)?;
        apply(&patch, &copy, false)?;
        let build = ["build", "--package", "rhtmx-sync-server"];
        let built = target.join("mutants/target");
        succeed(
            cargo()
                .args(build)
                .current_dir(&copy)
                .env("CARGO_TARGET_DIR", &built),
            "the mutant",
        )?;
        let log = fs::File::create(target.join("mutants").join(format!("{name}.log")))?;
        let mut command = cargo();
        command
            .args(suite)
            .args(["--", "postgres", "--exact", "--nocapture"])
            .env("RHTMX_SYNC_BIN", built.join("debug/rhtmx-sync"))
            .env("TEST_PG_BIN_DIR", bin_dir)
            .env("FAULT_SECONDS", SECONDS.to_string())
            .stdout(log.try_clone()?)
            .stderr(log);
        if let Some(seed) = options.seed {
            command.env("FAULT_SEED", seed.to_string());
        }
        if command.status()?.success() {
            println!("mutant {name}: NOT CAUGHT");
            escaped.push(name);
        } else {
            println!("mutant {name}: caught{}", reason(&target, &name));
        }
    }
    if !escaped.is_empty() {
        bail!("these mutants were not caught: {}", escaped.join(", "));
    }
    Ok(())
}

/// The first line of the suite's panic.
fn reason(target: &Path, name: &str) -> String {
    let log = target.join("mutants").join(format!("{name}.log"));
    let text = fs::read_to_string(log).unwrap_or_default();
    let mut lines = text
        .lines()
        .skip_while(|line| !line.contains("panicked at"));
    let line: String = lines.nth(1).unwrap_or_default().chars().take(160).collect();
    format!(": {line}")
}

fn patches() -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(steps::workspace().join(PATCHES)).context(PATCHES)?;
    let mut patches: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    patches.sort();
    Ok(patches)
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
        let patches = patches().unwrap();
        assert!(patches.len() >= 3);
        for patch in patches {
            apply(&patch, steps::workspace(), true).unwrap();
        }
    }
}
