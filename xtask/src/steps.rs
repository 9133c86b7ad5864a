//! Runs commands one after another, and stops at the first that fails.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The arguments of the test step, before the caller's own.
pub(crate) const CARGO_TEST: &[&str] = &["test", "--workspace"];

/// One command.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Step {
    /// What it does or checks, in a few words.
    pub(crate) about: &'static str,
    pub(crate) program: &'static str,
    pub(crate) args: &'static [&'static str],
}

/// Runs the steps in the workspace's directory. `extra` are arguments of the test step, `environment` is set
/// for all steps.
pub(crate) fn run(steps: &[Step], extra: &[&str], environment: &[(&str, String)]) -> Result<()> {
    for (index, step) in steps.iter().enumerate() {
        let args = arguments(step, extra);
        println!(
            "[{}/{}] {}: {} {}",
            index + 1,
            steps.len(),
            step.about,
            step.program,
            args.join(" ")
        );
        let status = Command::new(executable(step.program))
            .args(&args)
            .current_dir(workspace())
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .status()
            .with_context(|| format!("could not run {}", step.program))?;
        if !status.success() {
            bail!("failed ({status}): {} {}", step.program, args.join(" "));
        }
    }
    println!("all steps passed");
    Ok(())
}

/// The arguments of a step. A `--package` of the caller replaces `--workspace`, which would override it.
fn arguments<'a>(step: &Step, extra: &[&'a str]) -> Vec<&'a str> {
    let mut args = step.args.to_vec();
    if step.args == CARGO_TEST {
        let cargo_args = extra
            .split(|argument| *argument == "--")
            .next()
            .unwrap_or_default();
        let one_package = |argument: &&str| {
            argument.starts_with("-p")
                || *argument == "--package"
                || argument.starts_with("--package=")
        };
        if cargo_args.iter().any(one_package) {
            args.retain(|argument| *argument != "--workspace");
        }
        args.extend(extra);
    }
    args
}

/// The path of a program; for cargo, the one that started this process, so that the toolchain stays the same.
pub(crate) fn executable(program: &str) -> String {
    match program {
        "cargo" => env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()),
        other => other.to_owned(),
    }
}

/// The path of the server that the steps build.
pub(crate) fn server_binary() -> String {
    target().join("debug/rhtmx-sync").display().to_string()
}

/// Cargo's target directory, whatever its settings: this program is in its `debug`.
pub(crate) fn target() -> PathBuf {
    let own = env::current_exe().ok();
    let target = own.and_then(|own| Some(own.parent()?.parent()?.to_owned()));
    target.unwrap_or_else(|| workspace().join("target"))
}

pub(crate) fn workspace() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEST: Step = Step {
        about: "tests",
        program: "cargo",
        args: CARGO_TEST,
    };

    #[test]
    fn extra_arguments_are_passed_to_the_tests_only() {
        let build = Step {
            about: "build",
            program: "cargo",
            args: &["build"],
        };
        assert_eq!(arguments(&build, &["--", "--nocapture"]), ["build"]);
        assert_eq!(
            arguments(&TEST, &["--", "--nocapture"]),
            ["test", "--workspace", "--", "--nocapture"]
        );
    }

    #[test]
    fn a_chosen_package_replaces_the_workspace() {
        assert_eq!(
            arguments(&TEST, &["-p", "core", "merge"]),
            ["test", "-p", "core", "merge"]
        );
        assert_eq!(
            arguments(&TEST, &["--package=core"]),
            ["test", "--package=core"]
        );
        assert_eq!(
            arguments(&TEST, &["--", "-p"]),
            ["test", "--workspace", "--", "-p"]
        );
    }
}
