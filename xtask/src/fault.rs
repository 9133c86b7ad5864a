//! `cargo xtask fault`: the fault suite on its own, for longer or from a seed.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::options::Options;
use crate::steps::{self, Step};

/// Tools without which the suite skips some faults, and says so.
const TOOLS: [(&str, &str); 2] = [
    ("/usr/sbin/pgbouncer", "pgbouncer"),
    (
        "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
        "libfaketime",
    ),
];

const STEPS: &[Step] = &[
    Step {
        about: "the server",
        program: "cargo",
        args: &["build", "--workspace", "--bins"],
    },
    Step {
        about: "faults",
        program: "cargo",
        args: &[
            "test",
            "--package",
            "rhtmx-sync-tests",
            "--test",
            "fault",
            "--",
            "--nocapture",
            "--test-threads=1",
        ],
    },
];

/// Runs the suite with the programs in `bin_dir`.
pub(crate) fn run(options: &Options<'_>, bin_dir: &Path) -> Result<()> {
    install_tools();
    let mut environment = vec![
        (
            "FAULT_SECONDS",
            (options.minutes.unwrap_or(1) * 60).to_string(),
        ),
        ("TEST_PG_BIN_DIR", bin_dir.display().to_string()),
    ];
    environment.extend(options.seed.map(|seed| ("FAULT_SEED", seed.to_string())));
    steps::run(STEPS, &[], &environment)
}

/// Installs the tools with apt-get, as root; otherwise the suite says what it skips.
fn install_tools() {
    let missing = TOOLS.iter().filter(|(file, _)| !Path::new(file).exists());
    let missing: Vec<&str> = missing.map(|(_, package)| *package).collect();
    if missing.is_empty() || !test_postgres::is_root() {
        return;
    }
    let installed = Command::new("apt-get")
        .args(["install", "--yes", "--no-install-recommends", "-qq"])
        .args(&missing)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .status();
    if !installed.is_ok_and(|status| status.success()) {
        println!("not installed: {}", missing.join(", "));
    }
}
