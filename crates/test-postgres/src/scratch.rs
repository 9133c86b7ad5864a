//! A temporary directory that is removed even if this process is killed.

use std::env;
use std::fs::{self, DirBuilder};
use std::io::Read;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

/// Ctrl-C ends this process without running destructors, so a shell cleans up. It waits until its input ends,
/// which happens when this process closes the pipe or dies, then stops the server that runs in the directory,
/// if any, and removes the directory. The traps keep the shell alive when Ctrl-C reaches the whole process
/// group. It retries because a dying initdb may still be writing. A negative process id in the file belongs to
/// a server that initdb runs by itself.
const GUARD: &str = r#"
trap : INT TERM HUP
read -r _
tries=0
signal=INT
while [ -e "$1" ] && [ "$tries" -lt 600 ]; do
    [ "$tries" -lt 300 ] || signal=KILL
    pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null | tr -d -)
    if [ -z "$pid" ] || ! kill "-$signal" "$pid" 2>/dev/null; then
        rm -rf "$1" 2>/dev/null && break
    fi
    tries=$((tries + 1))
    sleep 0.1
done
"#;

/// A temporary directory. Dropping it stops the PostgreSQL in its `data` and removes the directory.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
    guard: Child,
}

impl Scratch {
    pub(crate) fn create() -> Result<Self> {
        let path = env::temp_dir().join(format!("rhtmx-sync-{}", random_hex()?));
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("could not create {}", path.display()))?;
        let guard = Command::new("sh")
            .args(["-c", GUARD, "guard"])
            .arg(&path)
            .stdin(Stdio::piped())
            .spawn();
        match guard {
            Ok(guard) => Ok(Self { path, guard }),
            Err(error) => {
                fs::remove_dir(&path)?;
                Err(error).context("could not run sh")
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the guard begin.
    pub(crate) fn release(&mut self) {
        drop(self.guard.stdin.take());
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.release();
        if let Err(error) = self.guard.wait() {
            eprintln!("could not remove {}: {error}", self.path.display());
        }
    }
}

/// Eight random bytes as text, for names and passwords.
pub(crate) fn random_hex() -> Result<String> {
    let mut bytes = [0; 8];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_directory_is_removed() {
        let scratch = Scratch::create().unwrap();
        let path = scratch.path().to_owned();
        fs::write(path.join("file"), "content").unwrap();
        drop(scratch);
        assert!(!path.exists());
    }
}
