//! A PostgreSQL server for one run of the tests or the benchmark: a new cluster in a temporary
//! directory, on a port of its own.

use std::fs::{self, OpenOptions};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::account::Account;
use crate::scratch::{Scratch, random_hex};

/// A fresh cluster needs a second or two; slow disks are given their time.
const START_TRIES: u32 = 1200;
const START_PAUSE: Duration = Duration::from_millis(50);

/// Locale of the cluster: UTF-8 characters, bytewise order.
const LOCALE: &str = if cfg!(target_os = "macos") {
    "C"
} else {
    "C.UTF-8"
};

/// For every cluster: nobody else's business.
const SETTINGS: [&str; 2] = ["listen_addresses=127.0.0.1", "log_line_prefix=%m [%p] %d "];

/// Settings for tests. Many run at once, each with its own database and pools; and nothing there has
/// to survive a crash.
pub const FOR_TESTS: &[&str] = &[
    "max_connections=400",
    "fsync=off",
    "full_page_writes=off",
    "synchronous_commit=on",
];

/// A running server. Dropping it stops it and removes its directory.
#[derive(Debug)]
pub struct Cluster {
    bin_dir: PathBuf,
    account: Account,
    settings: Vec<String>,
    port: u16,
    password: String,
    postgres: Child,
    scratch: Scratch,
}

impl Cluster {
    /// Makes a cluster with the programs in `bin_dir` and starts it with `settings`
    /// (`name=value`).
    ///
    /// # Errors
    /// When the programs fail, with what they said.
    pub fn start(bin_dir: &Path, settings: &[&str]) -> Result<Self> {
        let account = Account::choose()?;
        let scratch = Scratch::create()?;
        account.own(scratch.path())?;
        let password = random_hex()? + &random_hex()?;
        initdb(bin_dir, account, scratch.path(), &password)?;
        let port = free_port()?;
        let settings: Vec<String> = settings
            .iter()
            .map(|setting| (*setting).to_owned())
            .collect();
        let postgres = postgres(bin_dir, account, scratch.path(), port, &settings)?;
        let mut cluster = Self {
            bin_dir: bin_dir.to_owned(),
            account,
            settings,
            port,
            password,
            postgres,
            scratch,
        };
        cluster.wait_until_ready()?;
        Ok(cluster)
    }

    /// Stops the server as a crash of it would (`immediate`): no checkpoint, no goodbye, and what was
    /// not yet written to the log is lost. The next start recovers.
    ///
    /// # Errors
    /// When the server cannot be signalled.
    pub fn stop_immediately(&mut self) -> Result<()> {
        let id = self.postgres.id().to_string();
        let status = Command::new("kill")
            .args(["-QUIT", &id])
            .status()
            .context("could not run kill")?;
        if !status.success() {
            bail!("could not signal PostgreSQL:\n{}", self.log());
        }
        self.postgres.wait()?;
        Ok(())
    }

    /// Starts the server that [`stop_immediately`](Self::stop_immediately) stopped, on the same port,
    /// and waits until it has recovered.
    ///
    /// # Errors
    /// When it does not start; with its log.
    pub fn start_again(&mut self) -> Result<()> {
        // What a crash leaves there still says `ready`.
        let _ = fs::remove_file(data(self.scratch.path()).join("postmaster.pid"));
        self.postgres = postgres(
            &self.bin_dir,
            self.account,
            self.scratch.path(),
            self.port,
            &self.settings,
        )?;
        self.wait_until_ready()
    }

    /// The address of its database `postgres`, as a superuser.
    pub fn url(&self) -> String {
        format!(
            "postgresql://postgres:{}@127.0.0.1:{}/postgres",
            self.password, self.port
        )
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where its programs are.
    pub fn bin_dir(&self) -> &Path {
        &self.bin_dir
    }

    /// The directory that holds it.
    pub fn directory(&self) -> &Path {
        self.scratch.path()
    }

    /// The server notes in the eighth line of its pid file when it accepts connections.
    fn wait_until_ready(&mut self) -> Result<()> {
        let pid_file = data(self.scratch.path()).join("postmaster.pid");
        for _ in 0..START_TRIES {
            let ready = fs::read_to_string(&pid_file).is_ok_and(|text| {
                text.lines()
                    .nth(7)
                    .is_some_and(|state| state.trim() == "ready")
            });
            if ready {
                return Ok(());
            }
            if let Some(status) = self.postgres.try_wait()? {
                bail!("PostgreSQL did not start ({status}):\n{}", self.log());
            }
            sleep(START_PAUSE);
        }
        bail!("PostgreSQL did not become ready:\n{}", self.log());
    }

    fn log(&self) -> String {
        fs::read_to_string(log_file(self.scratch.path())).unwrap_or_default()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.scratch.release();
        if let Err(error) = self.postgres.wait() {
            eprintln!("could not wait for PostgreSQL: {error}");
        }
    }
}

fn initdb(bin_dir: &Path, account: Account, scratch: &Path, password: &str) -> Result<()> {
    let password_file = scratch.join("password");
    fs::write(&password_file, password)?;
    account.own(&password_file)?;
    let output = account
        .command(&bin_dir.join("initdb"))
        .args([
            "--username=postgres",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--no-sync",
        ])
        .arg(format!("--locale={LOCALE}"))
        .arg(format!("--pwfile={}", password_file.display()))
        .arg(format!("--pgdata={}", data(scratch).display()))
        .current_dir(scratch)
        .output()
        .with_context(|| format!("could not run {}/initdb", bin_dir.display()))?;
    if !output.status.success() {
        bail!(
            "initdb failed ({}):\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

fn postgres(
    bin_dir: &Path,
    account: Account,
    scratch: &Path,
    port: u16,
    settings: &[String],
) -> Result<Child> {
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(log_file(scratch))?;
    account
        .command(&bin_dir.join("postgres"))
        .arg("-D")
        .arg(data(scratch))
        .args(
            SETTINGS
                .iter()
                .copied()
                .chain(settings.iter().map(String::as_str))
                .flat_map(|setting| ["-c", setting]),
        )
        .args(["-c", &format!("port={port}")])
        .args([
            "-c",
            &format!("unix_socket_directories={}", scratch.display()),
        ])
        .current_dir(scratch)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("could not run {}/postgres", bin_dir.display()))
}

/// A port that nothing listens on. Somebody may take it before PostgreSQL does; then the log says
/// so.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

fn data(scratch: &Path) -> PathBuf {
    scratch.join("data")
}

fn log_file(scratch: &Path) -> PathBuf {
    scratch.join("postgres.log")
}
