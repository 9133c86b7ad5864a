//! The engine under test: the server binary, in a process of its own.

use std::env;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;
use testkit::{ServerProcess, binary};

use crate::process::Process;

/// A running server. Dropping it kills the server.
#[derive(Debug)]
pub(crate) struct Engine {
    server: ServerProcess,
    /// Where its configuration is.
    _directory: Option<TempDir>,
}

/// Builds the server if this process runs under Cargo, as contributors do. Otherwise an old binary might be
/// measured instead of the new one.
pub(crate) fn build() -> Result<()> {
    let Some(cargo) = env::var_os("CARGO") else {
        return Ok(());
    };
    if env::var_os("RHTMX_SYNC_BIN").is_some() {
        return Ok(());
    }
    let own = env::current_exe()?;
    let release = own
        .parent()
        .and_then(Path::file_name)
        .is_some_and(|profile| profile == "release");
    if !release {
        eprintln!("this is a debug build: its figures mean nothing; run it with --release");
    }
    let built = Command::new(cargo)
        .args(["build", "--quiet", "--package", "rhtmx-sync-server"])
        .args(release.then_some("--release"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .context("could not run cargo")?;
    ensure!(built.success(), "the server could not be built");
    Ok(())
}

impl Engine {
    /// Starts the server with its default settings.
    pub(crate) async fn start(url: &str, entities: &[&str]) -> Self {
        Self::start_with(url, entities, &[]).await
    }

    /// Starts the server with these settings.
    pub(crate) async fn start_with(
        url: &str,
        entities: &[&str],
        settings: &[(&str, &str)],
    ) -> Self {
        let bind = ["--bind", "127.0.0.1:0"].into_iter();
        let entities = entities.iter().flat_map(|entity| ["--entity", *entity]);
        let environment = [("DATABASE_URL", url), ("RUST_LOG", "warn")];
        Self {
            server: ServerProcess::spawn(
                bind.chain(entities),
                environment.iter().chain(settings).copied(),
            )
            .await,
            _directory: None,
        }
    }

    /// Starts the server with these settings and a configuration file.
    pub(crate) async fn start_configured(
        url: &str,
        file: &str,
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        let directory = TempDir::new()?;
        let path = directory.path().join("rhtmx-sync.toml");
        std::fs::write(&path, file)?;
        let path = path.display().to_string();
        let settings = [&[("RHTMX_SYNC_CONFIG", path.as_str())], settings].concat();
        let started = Self::start_with(url, &[], &settings).await;
        Ok(Self {
            _directory: Some(directory),
            ..started
        })
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> String {
        self.server.address()
    }

    pub(crate) fn process(&self) -> Process {
        Process::new(self.server.pid())
    }

    /// Shuts the server down as an operator would, and waits for it.
    pub(crate) async fn stop(self) {
        self.server.terminate().await;
    }
}

/// A command of the binary that runs and ends. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    _directory: TempDir,
}

impl Running {
    /// Starts a command with these arguments and options and a configuration file.
    pub(crate) fn start(args: &[&str], options: &[(&str, &str)], file: &str) -> Result<Self> {
        let directory = TempDir::new()?;
        std::fs::write(directory.path().join("rhtmx-sync.toml"), file)?;
        let child = Command::new(binary())
            .args(args)
            .args(options.iter().flat_map(|(name, value)| [name, value]))
            .env("RUST_LOG", "warn")
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("starting a command")?;
        Ok(Self {
            child,
            _directory: directory,
        })
    }

    pub(crate) fn process(&self) -> Process {
        Process::new(self.child.id())
    }

    /// Its status, if it has ended.
    pub(crate) fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
