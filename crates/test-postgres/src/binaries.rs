//! Finds PostgreSQL's server programs.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// Where packages install each version: the parent directory, the prefix of the version's directory, and the
/// subdirectory of the programs.
const INSTALLED: &[(&str, &str, &str)] = &[
    ("/usr/lib/postgresql", "", "bin"),          // Debian, Ubuntu
    ("/usr", "pgsql-", "bin"),                   // Fedora, from postgresql.org
    ("/opt/homebrew/opt", "postgresql@", "bin"), // macOS on ARM
    ("/usr/local/opt", "postgresql@", "bin"),    // macOS on Intel
    ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
];

/// Returns the directory with `initdb` and `postgres`: `PG_BIN_DIR`, else the first on the `PATH`, else the
/// newest installed version.
///
/// # Errors
/// When `PG_BIN_DIR` is a directory without them.
pub fn find() -> Result<Option<PathBuf>> {
    if let Some(chosen) = env::var_os("PG_BIN_DIR").filter(|value| !value.is_empty()) {
        let chosen = PathBuf::from(chosen);
        return match bin_dir(&chosen) {
            Some(found) => Ok(Some(found)),
            None => bail!(
                "PG_BIN_DIR is {}, which has no initdb and postgres",
                chosen.display()
            ),
        };
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path = env::split_paths(&path).find_map(|directory| bin_dir(&directory));
    Ok(on_path.or_else(|| {
        INSTALLED
            .iter()
            .find_map(|(parent, prefix, suffix)| newest(Path::new(parent), prefix, suffix))
    }))
}

/// Returns the directory if it has the programs. Links are followed, because the programs look for each other
/// in the directory that they are really in.
pub fn bin_dir(directory: &Path) -> Option<PathBuf> {
    let initdb = directory.join("initdb").canonicalize().ok()?;
    let real = initdb.parent()?.to_owned();
    real.join("postgres").is_file().then_some(real)
}

fn newest(parent: &Path, prefix: &str, suffix: &str) -> Option<PathBuf> {
    fs::read_dir(parent)
        .ok()?
        .flatten()
        .filter_map(|entry| {
            let version = version(entry.file_name().to_str()?.strip_prefix(prefix)?)?;
            Some((version, bin_dir(&entry.path().join(suffix))?))
        })
        .max()
        .map(|(_, directory)| directory)
}

/// Parses a version, so that `9.6` is older than `15`; as text it would be newer.
fn version(name: &str) -> Option<Vec<u32>> {
    name.split('.').map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::random_hex;

    #[test]
    fn versions_are_ordered_as_numbers() {
        assert!(version("18") > version("9.6"));
        assert!(version("15.2") > version("15"));
        assert_eq!(version("latest"), None);
    }

    #[test]
    fn the_newest_complete_version_is_chosen() {
        let parent = env::temp_dir().join(format!("rhtmx-sync-binaries-{}", random_hex().unwrap()));
        for (version, programs) in [
            ("9.6", &["initdb", "postgres"][..]),
            ("15", &["initdb", "postgres"]),
            ("18", &["psql"]),
        ] {
            let bin = parent.join(version).join("bin");
            fs::create_dir_all(&bin).unwrap();
            for program in programs {
                fs::write(bin.join(program), "").unwrap();
            }
        }
        let chosen = newest(&parent, "", "bin").map(|found| found.ends_with("15/bin"));
        fs::remove_dir_all(&parent).unwrap();
        assert_eq!(chosen, Some(true));
    }

    #[test]
    fn a_missing_parent_has_no_version() {
        assert_eq!(newest(Path::new("/nonexistent"), "", "bin"), None);
    }
}
