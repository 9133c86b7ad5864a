//! Installing PostgreSQL where that takes no questions: Debian and Ubuntu, as root or with a
//! passwordless sudo.

use std::process::Command;

use anyhow::{Context, Result, bail};
use rhtmx_sync_cluster::is_root;

/// What to do when PostgreSQL is missing and we cannot install it.
pub(crate) const HELP: &str = "\
The tests need PostgreSQL's server programs, initdb and postgres. Do one of these:
  install it       Debian, Ubuntu: apt-get install postgresql
                   Fedora: dnf install postgresql-server
                   macOS: brew install postgresql
  PG_BIN_DIR=DIR   if they are already here, in DIR
  TEST_DATABASE_URL=postgresql://USER:PASSWORD@HOST/DATABASE
                   to use a running server as a superuser";

/// Debian's package starts a server of its own unless it is told not to. The file is ours, and goes
/// again.
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

/// What to put before a command so that root runs it; nothing where that or `apt-get` is out of
/// reach.
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
