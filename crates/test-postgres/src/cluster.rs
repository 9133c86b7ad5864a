//! A PostgreSQL server for one run of the tests or the benchmark: a new cluster in a temporary directory, on
//! its own port.

use std::fs::{self, OpenOptions};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::account::Account;
use crate::scratch::{Scratch, random_hex};

/// A new cluster needs a second or two, on a slow disk much longer.
const START_ATTEMPTS_MAX: u32 = 1200;
const START_PAUSE: Duration = Duration::from_millis(50);

/// The cluster's locale: UTF-8 characters, bytewise order.
const LOCALE: &str = if cfg!(target_os = "macos") {
    "C"
} else {
    "C.UTF-8"
};

/// Settings of every cluster, which accepts only connections from this machine.
const SETTINGS: [&str; 2] = ["listen_addresses=127.0.0.1", "log_line_prefix=%m [%p] %d "];

/// Settings for tests. Many tests run at once, each with its own database and pools, and their data need not
/// survive a crash.
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
    /// Creates a cluster with the programs in `bin_dir` and starts it with `settings` (`name=value`).
    ///
    /// # Errors
    /// When the programs fail, with their output.
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

    /// Makes a hot standby of this server from a base backup, and starts it.
    ///
    /// # Errors
    /// When the programs fail, with their output.
    pub fn standby(&self) -> Result<Self> {
        let scratch = Scratch::create()?;
        self.account.own(scratch.path())?;
        let output = self
            .account
            .command(&self.bin_dir.join("pg_basebackup"))
            .args([
                "--checkpoint=fast",
                "--wal-method=stream",
                "--write-recovery-conf",
                "--no-sync",
            ])
            .arg(format!("--dbname={}", self.url()))
            .arg(format!("--pgdata={}", data(scratch.path()).display()))
            .current_dir(scratch.path())
            .output()
            .context("could not run pg_basebackup")?;
        if !output.status.success() {
            bail!(
                "pg_basebackup failed ({}):\n{}",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            );
        }
        let port = free_port()?;
        let postgres = postgres(
            &self.bin_dir,
            self.account,
            scratch.path(),
            port,
            &self.settings,
        )?;
        let mut standby = Self {
            bin_dir: self.bin_dir.clone(),
            account: self.account,
            settings: self.settings.clone(),
            port,
            password: self.password.clone(),
            postgres,
            scratch,
        };
        standby.wait_until_ready()?;
        Ok(standby)
    }

    /// Stops the server as a crash would (`immediate`): without a checkpoint, without closing connections, and
    /// with the loss of what was not written to the WAL. The next start recovers.
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

    /// Stops the server in order and starts it again on the same port.
    ///
    /// # Errors
    /// When it cannot be signalled, or does not start.
    pub fn restart(&mut self) -> Result<()> {
        let id = self.postgres.id().to_string();
        let status = Command::new("kill").args(["-INT", &id]).status()?;
        if !status.success() {
            bail!("could not signal PostgreSQL:\n{}", self.log());
        }
        self.postgres.wait()?;
        self.start_again()
    }

    /// Starts the server that [`stop_immediately`](Self::stop_immediately) stopped, on the same port,
    /// and waits until it has recovered.
    ///
    /// # Errors
    /// When it does not start, with its log.
    pub fn start_again(&mut self) -> Result<()> {
        // The file that a crash leaves behind still says `ready`.
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

    /// The URL of its database `postgres`, as a superuser.
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

    /// The directory of its programs.
    pub fn bin_dir(&self) -> &Path {
        &self.bin_dir
    }

    /// The directory that holds the cluster.
    pub fn directory(&self) -> &Path {
        self.scratch.path()
    }

    /// Writes a file of the server's into its data directory, which nobody but the server may read.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = data(self.scratch.path()).join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        self.account.own(&path)
    }

    /// Waits until the eighth line of the server's pid file says that it accepts connections.
    fn wait_until_ready(&mut self) -> Result<()> {
        let pid_file = data(self.scratch.path()).join("postmaster.pid");
        for _ in 0..START_ATTEMPTS_MAX {
            let ready = fs::read_to_string(&pid_file).is_ok_and(|text| {
                text.lines()
                    .nth(7)
                    .is_some_and(|state| ["ready", "standby"].contains(&state.trim()))
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

/// Returns a port that nothing listens on. If another program takes it before PostgreSQL does, the log says
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
