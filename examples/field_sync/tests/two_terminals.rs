//! The server and two terminals, as processes.

use std::path::Path;
use std::process::Stdio;

use testkit::{ServerProcess, both_backends};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

struct Terminal {
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
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
            _process: process,
        }
    }

    async fn say(&mut self, line: &str) {
        let line = format!("{line}\n");
        self.input.write_all(line.as_bytes()).await.expect("input");
    }

    /// Reads to the line that has all of these words.
    async fn wait_for(&mut self, words: &[&str]) -> String {
        loop {
            let line = self.output.next_line().await.expect("output");
            let line = line.unwrap_or_else(|| panic!("the terminal has ended before {words:?}"));
            if words.iter().all(|word| line.contains(word)) {
                return line;
            }
        }
    }
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
        // One field, two authors.
        ann.say("offline").await;
        ann.wait_for(&["offline"]).await;
        ann.say("title Ann's").await;
        ann.wait_for(&["Ann's"]).await;
        ben.say("title Ben's").await;
        ben.wait_for(&["Ben's", "0 waiting"]).await;
        ann.say("online").await;
        ann.wait_for(&["stays", "Ben's", "Ann's"]).await;
        ann.wait_for(&["Ben's", "0 waiting"]).await;
        db.execute("UPDATE notes SET title = 'psql'").await;
        for terminal in [&mut ann, &mut ben] {
            terminal.wait_for(&["psql"]).await;
        }
    }
}
