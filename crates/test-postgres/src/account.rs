//! The account that runs PostgreSQL, which refuses to run as root.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

/// The accounts to use instead of root, in order of preference.
const CANDIDATES: [&str; 2] = ["postgres", "nobody"];

/// The account that runs PostgreSQL: this process's own, or another one if that is root.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Account {
    Own,
    Other { uid: u32, gid: u32 },
}

impl Account {
    pub(crate) fn choose() -> Result<Self> {
        if !is_root() {
            return Ok(Self::Own);
        }
        let passwd = fs::read_to_string("/etc/passwd").context("could not read /etc/passwd")?;
        CANDIDATES
            .iter()
            .find_map(|name| find(&passwd, name))
            .context(
                "PostgreSQL refuses to run as root, and there is no account postgres or nobody",
            )
    }

    /// Makes a command that runs as this account. It loses root's groups as well.
    pub(crate) fn command(self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if let Self::Other { uid, gid } = self {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Makes this account the owner of a file or directory.
    pub(crate) fn own(self, path: &Path) -> Result<()> {
        if let Self::Other { uid, gid } = self {
            chown(path, Some(uid), Some(gid))
                .with_context(|| format!("could not change the owner of {}", path.display()))?;
        }
        Ok(())
    }
}

/// Whether this process runs as root.
pub fn is_root() -> bool {
    Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|output| output.stdout == b"0\n")
}

fn find(passwd: &str, name: &str) -> Option<Account> {
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [found, _, uid, gid, ..] = fields.as_slice() else {
            return None;
        };
        let account = Account::Other {
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
        };
        (*found == name).then_some(account)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        let passwd =
            "root:x:0:0::/root:/bin/sh\n# a comment\npostgres2:x:9:9::/:\npostgres:x:101:104::/:\n";
        assert_eq!(
            find(passwd, "postgres"),
            Some(Account::Other { uid: 101, gid: 104 })
        );
        assert_eq!(find(passwd, "nobody"), None);
    }
}
