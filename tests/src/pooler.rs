//! PgBouncer, where it is installed.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// Where packages install it, besides the `PATH`.
const PLACES: [&str; 3] = [
    "/usr/sbin/pgbouncer",
    "/usr/local/bin/pgbouncer",
    "/opt/homebrew/bin/pgbouncer",
];
/// Since this version it can follow prepared statements from one session to the next.
const FOLLOWS_STATEMENTS_SINCE: (u32, u32) = (1, 21);

/// A running pooler. Dropping it ends it.
#[derive(Debug)]
pub struct Pooler {
    process: Child,
    version: (u32, u32),
    url: String,
    directory: TempDir,
}

impl Pooler {
    /// A pooler in front of the database at this URL, with these lines among its settings, or the reason why there is
    /// none.
    ///
    /// # Errors
    /// When PgBouncer is not installed or does not start.
    pub async fn start(url: &str, settings: &[&str]) -> Result<Self, String> {
        let program = PLACES.iter().find(|place| Path::new(place).exists());
        let program = program.ok_or("pgbouncer is not installed")?;
        let version = version(program).ok_or("pgbouncer does not print its version")?;
        let directory = TempDir::new().map_err(|error| error.to_string())?;
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .map_err(|error| error.to_string())?
            .port();
        let (user, server) = url
            .strip_prefix("postgresql://")
            .and_then(|rest| rest.split_once('@'))
            .ok_or("a URL without a user")?;
        let (name, password) = user.split_once(':').ok_or("a URL without a password")?;
        let (server, database) = server.split_once('/').ok_or("a URL without a database")?;
        let (host, server_port) = server.split_once(':').ok_or("a URL without a port")?;
        let place = directory.path();
        let chosen = settings.join("\n");
        let settings = format!(
            "[databases]\n{database} = host={host} port={server_port} dbname={database} \
             user={name} password={password}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             auth_type = any\nmax_client_conn = 500\nserver_login_retry = 1\n{chosen}\nlogfile = {0}/log\npidfile = {0}/pid\nunix_socket_dir =\n",
            place.display()
        );
        let file = place.join("pgbouncer.ini");
        fs::write(&file, settings).map_err(|error| error.to_string())?;
        let mut command = Command::new(program);
        if test_postgres::is_root() {
            // PgBouncer does not run as root.
            Command::new("chown")
                .args(["-R", "nobody"])
                .arg(place)
                .status()
                .map_err(|error| error.to_string())?;
            command.args(["-u", "nobody"]);
        }
        let process = command
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| error.to_string())?;
        let url = format!("postgresql://{name}:{password}@127.0.0.1:{port}/{database}");
        let pooler = Self {
            process,
            version,
            url,
            directory,
        };
        for _ in 0..200 {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Ok(pooler);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err("pgbouncer does not listen".to_owned())
    }

    /// Its address, with the user and the password of the database's.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Whether `max_prepared_statements` is a setting of its.
    pub fn follows_statements(&self) -> bool {
        self.version >= FOLLOWS_STATEMENTS_SINCE
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let fatal = self.log();
        fatal
            .lines()
            .filter(|line| line.contains("FATAL"))
            .for_each(|line| println!("the pooler has ended by itself: {line}"));
        // Both fail only when it has already ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// `PgBouncer 1.21.0`
fn version(program: &str) -> Option<(u32, u32)> {
    let output = Command::new(program).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut numbers = text.lines().next()?.split(' ').nth(1)?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}
