//! The server and two terminals, as processes.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use testkit::{ServerProcess, both_backends};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// Far longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(60);

struct Terminal {
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    /// What it has said.
    said: Vec<String>,
    // Killed when it is dropped.
    _process: Child,
}

impl Terminal {
    fn open(server: &ServerProcess) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_edit"))
            .arg(server.ws_url())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("a terminal");
        Self {
            input: process.stdin.take().expect("its input"),
            output: BufReader::new(process.stdout.take().expect("its output")).lines(),
            said: Vec::new(),
            _process: process,
        }
    }

    async fn say(&mut self, line: &str) {
        let line = format!("{line}\n");
        self.input.write_all(line.as_bytes()).await.expect("input");
    }

    async fn read(&mut self) -> String {
        let line = timeout(PATIENCE, self.output.next_line()).await;
        let line =
            line.unwrap_or_else(|_| panic!("the terminal says no more than {:?}", self.said));
        let line = line.expect("output").expect("the terminal goes on");
        self.said.push(line.clone());
        line
    }

    /// Reads to the line that has all of these words.
    async fn wait_for(&mut self, words: &[&str]) {
        while !has_all(&self.read().await, words) {}
    }

    /// Looks for the line that has all of these words, also among those that were read before.
    async fn has_said(&mut self, words: &[&str]) {
        while !self.said.iter().any(|line| has_all(line, words)) {
            self.read().await;
        }
    }
}

fn has_all(line: &str, words: &[&str]) -> bool {
    words.iter().all(|word| line.contains(word))
}

both_backends! {
    async fn edits_made_offline_come_together(db: TestDatabase) {
        let envs = [("DATABASE_URL", db.url()), ("BIND", "127.0.0.1:0".to_owned())];
        let server = ServerProcess::spawn_program(Path::new(env!("CARGO_BIN_EXE_field_sync")), envs).await;
        let (mut ann, mut ben) = (Terminal::open(&server), Terminal::open(&server));
        for terminal in [&mut ann, &mut ben] {
            terminal.wait_for(&["\"Milk\"", "online"]).await;
            terminal.say("offline").await;
            terminal.wait_for(&["offline"]).await;
        }
        ann.say("title Oat milk").await;
        ann.say("likes +1").await;
        ann.wait_for(&["Oat milk", "likes 1", "2 waiting"]).await;
        ben.say("due Monday").await;
        ben.say("likes +2").await;
        ben.wait_for(&["\"Milk\"", "Monday", "likes 2", "2 waiting"]).await;
        ann.say("online").await;
        ben.say("online").await;
        for terminal in [&mut ann, &mut ben] {
            terminal.wait_for(&["Oat milk", "Monday", "likes 3", "online, 0 waiting"]).await;
        }
        // One field, two authors, of whom one is later, if only by a name: the other is told.
        for (terminal, line) in [(&mut ann, "title Ann's"), (&mut ben, "title Ben's")] {
            terminal.say("offline").await;
            terminal.wait_for(&["offline"]).await;
            terminal.say(line).await;
            terminal.wait_for(&["1 waiting"]).await;
        }
        for terminal in [&mut ann, &mut ben] {
            terminal.say("online").await;
            terminal.wait_for(&["online, 0 waiting"]).await;
        }
        let title = db.query_text("SELECT title FROM notes").await.remove(0).expect("a title");
        let loser = if title == "Ann's" { &mut ben } else { &mut ann };
        loser.has_said(&["stays", "Ann's", "Ben's"]).await;
        db.execute("UPDATE notes SET title = 'psql'").await;
        for terminal in [&mut ann, &mut ben] {
            terminal.wait_for(&["psql"]).await;
        }
    }
}
