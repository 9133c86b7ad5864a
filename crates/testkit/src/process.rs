//! The server binary as a process that can be killed and started again.

use std::env;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tempfile::TempDir;

/// 20 seconds, to detect a hang; it says nothing about speed.
const ATTEMPTS_MAX: u32 = 1000;
const PAUSE: Duration = Duration::from_millis(20);

/// Environment variables with this prefix are removed, so that settings of the developer's shell do not reach
/// the server under test.
const OWN_SETTINGS: &str = "RHTMX_SYNC_";

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub struct ServerProcess {
    child: Child,
    output: Output,
    base_url: String,
    /// The working directory, empty so that no configuration file is found by chance.
    _directory: Option<TempDir>,
}

/// The server has exited.
#[derive(Debug)]
pub struct Exited {
    /// Its exit status.
    pub status: ExitStatus,
    /// Everything it printed.
    pub output: String,
}

/// The output of the process so far; two threads copy it from its pipes.
#[derive(Debug, Default)]
struct Output {
    text: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl ServerProcess {
    /// Starts the server in an empty directory and waits until it listens. To let it choose a port, pass
    /// `["--bind", "127.0.0.1:0"]`.
    pub async fn spawn<Args, Envs, Name, Content>(args: Args, envs: Envs) -> Self
    where
        Args: IntoIterator<Item: AsRef<OsStr>>,
        Envs: IntoIterator<Item = (Name, Content)>,
        Name: AsRef<OsStr>,
        Content: AsRef<OsStr>,
    {
        Self::try_spawn(args, envs)
            .await
            .unwrap_or_else(|exited| panic!("{}", exited.describe()))
    }

    /// Like [`spawn`](Self::spawn), for a server that may refuse its configuration.
    pub async fn try_spawn<Args, Envs, Name, Content>(
        args: Args,
        envs: Envs,
    ) -> Result<Self, Exited>
    where
        Args: IntoIterator<Item: AsRef<OsStr>>,
        Envs: IntoIterator<Item = (Name, Content)>,
        Name: AsRef<OsStr>,
        Content: AsRef<OsStr>,
    {
        let directory = TempDir::new().expect("could not create a temporary directory");
        let mut server = Self::try_spawn_in(directory.path(), args, envs).await?;
        server._directory = Some(directory);
        Ok(server)
    }

    /// Like [`try_spawn`](Self::try_spawn), in a directory of the caller, which may contain
    /// `rhtmx-sync.toml`.
    pub async fn try_spawn_in<Args, Envs, Name, Content>(
        directory: &Path,
        args: Args,
        envs: Envs,
    ) -> Result<Self, Exited>
    where
        Args: IntoIterator<Item: AsRef<OsStr>>,
        Envs: IntoIterator<Item = (Name, Content)>,
        Name: AsRef<OsStr>,
        Content: AsRef<OsStr>,
    {
        let mut command = command(&binary(), directory);
        command.args(args).envs(envs);
        Self::start(command).await
    }

    /// Starts another program that serves the engine's routes, in an empty directory, and waits until it listens.
    pub async fn spawn_program<Envs, Name, Content>(program: &Path, envs: Envs) -> Self
    where
        Envs: IntoIterator<Item = (Name, Content)>,
        Name: AsRef<OsStr>,
        Content: AsRef<OsStr>,
    {
        let directory = TempDir::new().expect("could not create a temporary directory");
        let mut command = command(program, directory.path());
        command.envs(envs);
        let mut server = Self::start(command)
            .await
            .unwrap_or_else(|exited| panic!("{}", exited.describe()));
        server._directory = Some(directory);
        server
    }

    /// `http://127.0.0.1:PORT`
    pub fn base_url(&self) -> String {
        self.base_url.clone()
    }

    /// `127.0.0.1:PORT`, for a second server to bind after this one has ended.
    pub fn address(&self) -> String {
        self.base_url.replacen("http://", "", 1)
    }

    /// The process id, for measurements.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The URL of the WebSocket, under the default prefix.
    pub fn ws_url(&self) -> String {
        format!("{}/api/sync/ws", self.base_url.replacen("http", "ws", 1))
    }

    /// Everything the server has printed so far.
    pub fn output(&self) -> String {
        self.output.text()
    }

    /// Waits until the server has printed `text`.
    pub async fn wait_for_output(&self, text: &str) {
        for _ in 0..ATTEMPTS_MAX {
            if self.output().contains(text) {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
        panic!("the server never printed {text:?}:\n{}", self.output());
    }

    /// Kills the server as a crash would (SIGKILL).
    pub fn kill(mut self) {
        self.end();
    }

    /// Asks the server to shut down (SIGTERM) and waits until it has. Returns its status and output.
    pub async fn terminate(self) -> Exited {
        let id = self.child.id().to_string();
        let status = Command::new("kill")
            .args(["-TERM", &id])
            .status()
            .expect("could not run kill");
        assert!(
            status.success(),
            "could not signal the server:\n{}",
            self.output()
        );
        self.wait().await
    }

    /// Waits until the server exits by itself.
    pub async fn wait(mut self) -> Exited {
        for _ in 0..ATTEMPTS_MAX {
            if let Some(status) = self.try_wait() {
                return self.exited(status);
            }
            tokio::time::sleep(PAUSE).await;
        }
        panic!("the server did not end:\n{}", self.output());
    }

    async fn start(mut command: Command) -> Result<Self, Exited> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("could not start {command:?}: {error}"));
        let mut output = Output::default();
        output.copy(child.stdout.take());
        output.copy(child.stderr.take());
        let server = Self {
            child,
            output,
            base_url: String::new(),
            _directory: None,
        };
        server.wait_until_listening().await
    }

    async fn wait_until_listening(mut self) -> Result<Self, Exited> {
        for _ in 0..ATTEMPTS_MAX {
            if let Some(address) = address(&self.output()) {
                self.base_url = address;
                return Ok(self);
            }
            if let Some(status) = self.try_wait() {
                return Err(self.exited(status));
            }
            tokio::time::sleep(PAUSE).await;
        }
        panic!(
            "the server never printed its address, http://127.0.0.1:PORT:\n{}",
            self.output()
        );
    }

    fn try_wait(&mut self) -> Option<ExitStatus> {
        self.child
            .try_wait()
            .expect("could not wait for the server")
    }

    fn exited(&mut self, status: ExitStatus) -> Exited {
        Exited {
            status,
            output: self.output.all(),
        }
    }

    fn end(&mut self) {
        // Both fail only if it has already exited.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        self.end();
        if thread::panicking() {
            eprintln!("--- output of the server ---\n{}", self.output.all());
        }
    }
}

impl Exited {
    fn describe(&self) -> String {
        format!(
            "the server exited ({}) before it listened:\n{}",
            self.status, self.output
        )
    }
}

impl Output {
    fn copy<Pipe: Read + Send + 'static>(&mut self, pipe: Option<Pipe>) {
        let Some(pipe) = pipe else { return };
        let text = Arc::clone(&self.text);
        self.readers.push(thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while pipe
                .read_until(b'\n', &mut line)
                .is_ok_and(|length| length > 0)
            {
                text.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        }));
    }

    fn text(&self) -> String {
        self.text
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Call this after the process has exited, because only then do the readers end.
    fn all(&mut self) -> String {
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        self.text()
    }
}

/// A program in this directory, without the settings of the developer's shell.
fn command(program: &Path, directory: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("NO_COLOR", "1").current_dir(directory);
    for (name, _) in env::vars_os() {
        if name == "DATABASE_URL" || name.to_string_lossy().starts_with(OWN_SETTINGS) {
            command.env_remove(name);
        }
    }
    command
}

/// The path of the server binary: `RHTMX_SYNC_BIN`, else the binary that Cargo built beside the tests (`target/PROFILE/deps/TEST`)
/// or beside the benchmark (`target/PROFILE`).
pub fn binary() -> PathBuf {
    if let Some(chosen) = env::var_os("RHTMX_SYNC_BIN") {
        return PathBuf::from(chosen);
    }
    let own = env::current_exe().expect("the path of this program is unknown");
    let built = own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|directory| directory.join("rhtmx-sync"))
        .find(|built| built.is_file());
    built.unwrap_or_else(|| {
        panic!(
            "there is no rhtmx-sync beside {}: run `cargo build --workspace --bins`",
            own.display()
        )
    })
}

/// Finds the address in a complete line. A server on all addresses is on this one as well.
fn address(output: &str) -> Option<String> {
    const START: &str = "http://127.0.0.1:";
    let (complete, _) = output.rsplit_once('\n')?;
    let complete = complete.replace("http://0.0.0.0:", START);
    let port = complete.split(START).nth(1)?;
    let digits: String = port.chars().take_while(char::is_ascii_digit).collect();
    (!digits.is_empty()).then(|| format!("{START}{digits}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn shell(script: &str) -> Result<ServerProcess, Exited> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        ServerProcess::start(command).await
    }

    const LISTENS: &str = "echo starting; echo at http://127.0.0.1:8081 now; exec sleep 60";

    #[test]
    fn the_address_is_read_from_a_complete_line() {
        assert_eq!(address("listening on http://127.0.0.1:80"), None);
        let log = "starting\nlistening on http://127.0.0.1:8081/api (2 entities)\n";
        assert_eq!(address(log).as_deref(), Some("http://127.0.0.1:8081"));
        let everywhere = "listening on http://0.0.0.0:8081\n";
        assert_eq!(
            address(everywhere).as_deref(),
            Some("http://127.0.0.1:8081")
        );
    }

    #[tokio::test]
    async fn a_server_listens_until_it_is_terminated() {
        let server = shell(LISTENS).await.unwrap();
        assert_eq!(server.ws_url(), "ws://127.0.0.1:8081/api/sync/ws");
        assert_eq!(server.address(), "127.0.0.1:8081");
        let exited = server.terminate().await;
        assert!(!exited.status.success());
        assert!(exited.output.starts_with("starting\n"));
    }

    #[tokio::test]
    async fn a_server_that_exits_at_once_is_returned_with_its_output() {
        let exited = shell("echo unknown key >&2; exit 2").await.unwrap_err();
        assert_eq!(
            (exited.status.code(), exited.output.as_str()),
            (Some(2), "unknown key\n")
        );
    }

    #[tokio::test]
    async fn a_killed_server_is_gone() {
        let server = shell(LISTENS).await.unwrap();
        let pid = server.pid().to_string();
        server.kill();
        let alive = Command::new("kill")
            .args(["-0", &pid])
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(!alive.success());
    }
}
