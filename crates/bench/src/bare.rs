//! The upper bound: a server without any logic, which writes recorded bytes to every connection.
//!
//! It runs as a process of its own, with as many threads as the engine, and writes each recorded batch with
//! one system call, like a server that has just received it.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::load::Recording;
use crate::process::Process;

/// The parent's handle of the server. Dropping it kills the server.
#[derive(Debug)]
pub(crate) struct BareServer {
    child: Child,
    start: ChildStdin,
    address: String,
    _directory: TempDir,
}

impl BareServer {
    /// Starts a server that waits for this many connections.
    pub(crate) fn start(recording: &Recording, connections: usize) -> Result<Self> {
        let directory = TempDir::new()?;
        let (bytes, ends) = (
            directory.path().join("bytes"),
            directory.path().join("ends"),
        );
        fs::write(&bytes, &recording.bytes)?;
        let text: Vec<String> = recording.ends.iter().map(usize::to_string).collect();
        fs::write(&ends, text.join("\n"))?;
        let mut child = Command::new(std::env::current_exe()?)
            .arg("bare-server")
            .arg(connections.to_string())
            .args([&bytes, &ends])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the bare server")?;
        let start = child.stdin.take().context("a pipe")?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("a pipe")?).read_line(&mut line)?;
        ensure!(!line.is_empty(), "the bare server exited");
        Ok(Self {
            child,
            start,
            address: line.trim().to_owned(),
            _directory: directory,
        })
    }

    pub(crate) fn address(&self) -> String {
        self.address.clone()
    }

    pub(crate) fn process(&self) -> Process {
        Process::new(self.child.id())
    }

    /// Makes the server write.
    pub(crate) fn go(&mut self) -> Result<()> {
        self.start
            .write_all(b"go\n")
            .context("the bare server exited")
    }
}

impl Drop for BareServer {
    fn drop(&mut self) {
        // Both fail only if it has already exited.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the server.
pub(crate) fn serve(connections: usize, bytes: &Path, ends: &Path) -> Result<()> {
    let bytes: Arc<[u8]> = fs::read(bytes)?.into();
    let ends: Result<Vec<usize>, _> = fs::read_to_string(ends)?.lines().map(str::parse).collect();
    let ends: Arc<[usize]> = ends?.into();
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(write_to_all(connections, bytes, ends))
}

async fn write_to_all(connections: usize, bytes: Arc<[u8]>, ends: Arc<[usize]>) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let mut streams = Vec::with_capacity(connections);
    while streams.len() < connections {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        streams.push(stream);
    }
    tokio::task::spawn_blocking(|| std::io::stdin().lines().next()).await?;
    let mut writing = JoinSet::new();
    for mut stream in streams {
        let (bytes, ends) = (bytes.clone(), ends.clone());
        writing.spawn(async move {
            let mut start = 0;
            for end in ends.iter() {
                if stream.write_all(&bytes[start..*end]).await.is_err() {
                    return;
                }
                start = *end;
            }
            // Keep the connection open until the parent has counted everything.
            std::future::pending::<()>().await;
        });
    }
    while writing.join_next().await.is_some() {}
    Ok(())
}
