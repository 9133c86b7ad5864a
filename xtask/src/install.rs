//! Installs PostgreSQL and other tools where that needs no interaction: on Debian and Ubuntu, as root or with
//! passwordless sudo.

use std::env;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use test_postgres::is_root;

/// What to do when PostgreSQL is missing and cannot be installed here.
pub(crate) const HELP: &str = "\
The tests need PostgreSQL's server programs, initdb and postgres. Do one of these:
  install it       Debian, Ubuntu: apt-get install postgresql
                   Fedora: dnf install postgresql-server
                   macOS: brew install postgresql
  PG_BIN_DIR=DIR   if they are already installed in DIR
  TEST_DATABASE_URL=postgresql://USER:PASSWORD@HOST/DATABASE
                   to use a running server as a superuser";

/// Where Debian's package installs Chromium.
const CHROMIUM: &str = "/usr/bin/chromium";

/// Keeps Debian's package from starting a server of its own. The file is removed after the installation.
const NO_MAIN_CLUSTER: &str = "/etc/postgresql-common/createcluster.d/rhtmx-sync-xtask.conf";

/// Installs the distribution's PostgreSQL.
pub(crate) fn postgres() -> Result<()> {
    let Some(as_root) = as_root() else {
        bail!("PostgreSQL was not found.\n{HELP}")
    };
    println!("PostgreSQL was not found: installing it with apt-get");
    apt_get(as_root, &["update"])?;
    apt_get(as_root, &["install", "postgresql-common"])?;
    let directory = NO_MAIN_CLUSTER
        .rsplit_once('/')
        .map_or("", |(directory, _)| directory);
    shell(
        as_root,
        &format!("mkdir -p {directory} && echo 'create_main_cluster = false' > {NO_MAIN_CLUSTER}"),
    )?;
    let installed = apt_get(as_root, &["install", "postgresql"]);
    shell(as_root, &format!("rm -f {NO_MAIN_CLUSTER}"))?;
    installed
}

/// Whether a program is installed.
pub(crate) fn has(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success())
}

/// Installs the shell of SQLite if necessary; the browser client's tests use it as another program that
/// writes. Returns false if it cannot be installed.
pub(crate) fn sqlite3() -> Result<bool> {
    install("sqlite3", || has("sqlite3"))
}

/// Does the same for Chromium. Ubuntu's package of that name only refers to another way to install it.
pub(crate) fn chromium() -> Result<bool> {
    let chosen = env::var_os("CHROMIUM").is_some_and(|path| Path::new(&path).exists());
    install("chromium", || chosen || Path::new(CHROMIUM).exists())
}

/// Installs a package if it is missing and needs no interaction. Returns whether it is installed.
fn install(package: &str, is_installed: impl Fn() -> bool) -> Result<bool> {
    if is_installed() {
        return Ok(true);
    }
    let Some(as_root) = as_root() else {
        return Ok(false);
    };
    println!("{package} was not found: installing it with apt-get");
    apt_get(as_root, &["update"])?;
    Ok(apt_get(as_root, &["install", package]).is_ok() && is_installed())
}

/// The prefix with which root runs a command; none if that is impossible or there is no `apt-get`.
fn as_root() -> Option<&'static [&'static str]> {
    let works = |program: &str, args: &[&str]| {
        Command::new(program)
            .args(args)
            .output()
            .is_ok_and(|output| output.status.success())
    };
    if !works("apt-get", &["--version"]) {
        None
    } else if is_root() {
        Some(&["env"])
    } else if works("sudo", &["-n", "true"]) {
        Some(&["sudo", "-n", "env"])
    } else {
        None
    }
}

fn apt_get(as_root: &[&str], args: &[&str]) -> Result<()> {
    let options = [
        "DEBIAN_FRONTEND=noninteractive",
        "apt-get",
        "--yes",
        "--no-install-recommends",
        "-qq",
    ];
    run(&[as_root, &options, args].concat())
}

fn shell(as_root: &[&str], script: &str) -> Result<()> {
    run(&[as_root, &["sh", "-c", script]].concat())
}

fn run(words: &[&str]) -> Result<()> {
    let line = words.join(" ");
    let status = Command::new(words[0])
        .args(&words[1..])
        .status()
        .with_context(|| format!("could not run {line}"))?;
    if !status.success() {
        bail!("failed ({status}): {line}\n{HELP}");
    }
    Ok(())
}
