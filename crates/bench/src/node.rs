//! The baseline: the Node server in `baseline/`, as people write it by hand.

use std::env;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::process::Process;

/// The baseline's row trigger, which puts the row into the notification.
pub(crate) const TRIGGER: &str = "
    CREATE FUNCTION notify_items() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_notify('items', row_to_json(NEW)::text);
        RETURN NULL;
    END $$;
    CREATE TRIGGER notify_items AFTER INSERT OR UPDATE ON items FOR EACH ROW EXECUTE FUNCTION notify_items();";

/// A running server. Dropping it kills the server.
#[derive(Debug)]
pub(crate) struct NodeServer {
    child: Child,
    address: String,
}

impl NodeServer {
    /// Installs its dependencies, once.
    pub(crate) fn install() -> Result<()> {
        let directory = directory();
        if directory.join("node_modules").is_dir() {
            return Ok(());
        }
        let installed = Command::new("npm")
            .args(["ci", "--no-audit", "--no-fund", "--loglevel=error"])
            .current_dir(&directory)
            .status()
            .context("could not run npm; the baseline needs Node")?;
        ensure!(installed.success(), "npm could not install the baseline");
        Ok(())
    }

    pub(crate) fn start(database_url: &str) -> Result<Self> {
        let mut child = Command::new("node")
            .arg("server.mjs")
            .current_dir(directory())
            .env("DATABASE_URL", database_url)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("could not run node")?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("a pipe")?).read_line(&mut line)?;
        let server = Self {
            child,
            address: line.trim().to_owned(),
        };
        ensure!(!server.address.is_empty(), "the Node server exited");
        Ok(server)
    }

    pub(crate) fn address(&self) -> String {
        self.address.clone()
    }

    pub(crate) fn process(&self) -> Process {
        Process::new(self.child.id())
    }
}

impl Drop for NodeServer {
    fn drop(&mut self) {
        // Both fail only if it has already exited.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn directory() -> PathBuf {
    let built_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("baseline");
    env::var_os("RHTMX_SYNC_BASELINE").map_or(built_in, PathBuf::from)
}
