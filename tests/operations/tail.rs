//! `rhtmx-sync tail`: changes as they happen, by any program.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{TestDatabase, both_backends};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::writers::{NOTES, TASKS, insert};

/// A running `tail`; dropping it ends the process.
struct Tail {
    _process: Child,
    _folder: TempDir,
    lines: Lines<BufReader<ChildStdout>>,
}

/// The server binary, found as the testkit finds it.
fn binary() -> PathBuf {
    std::env::var_os("RHTMX_SYNC_BIN")
        .map(PathBuf::from)
        .unwrap_or_else(|| {
            let test = std::env::current_exe().expect("the test's own path");
            test.ancestors()
                .nth(2)
                .expect("the target folder")
                .join("rhtmx-sync")
        })
}

impl Tail {
    fn start(db: &TestDatabase, args: &[&str]) -> Self {
        let folder = TempDir::new().expect("a folder");
        let mut process = Command::new(binary())
            .arg("tail")
            .args(args)
            .current_dir(folder.path())
            .env("DATABASE_URL", db.url())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("tail starts");
        let lines = BufReader::new(process.stdout.take().expect("its output")).lines();
        Self {
            _process: process,
            _folder: folder,
            lines,
        }
    }

    async fn line(&mut self, patience: Duration) -> Option<String> {
        let line = tokio::time::timeout(patience, self.lines.next_line())
            .await
            .ok()?;
        Some(line.expect("text").expect("tail continues"))
    }

    /// Writes until it shows something, the only sign that it has started.
    async fn begun(&mut self, db: &TestDatabase) {
        for id in 1_000_000.. {
            db.execute(&insert([id])).await;
            if self.line(Duration::from_millis(200)).await.is_some() {
                break;
            }
        }
        // Earlier changes have been shown once this one is.
        db.execute("INSERT INTO notes VALUES (0, 'begun')").await;
        while !self.next().await.contains("begun") {}
    }

    async fn next(&mut self) -> String {
        self.line(Duration::from_secs(20)).await.expect("a line")
    }

    async fn next_json(&mut self) -> Value {
        serde_json::from_str(&self.next().await).expect("JSON")
    }
}

both_backends! {
    async fn tail_shows_changes_of_other_programs(db: TestDatabase) {
        db.execute(&format!("{NOTES}; {TASKS}")).await;
        let mut tail = Tail::start(&db, &["notes", "--json"]);
        tail.begun(&db).await;
        db.execute("INSERT INTO tasks VALUES (7, 'of another table')").await;
        db.execute("INSERT INTO notes VALUES (1, 'one')").await;
        let row = json!({ "id": 1, "body": "one" });
        let line = json!({ "entity": "notes", "op": "put", "key": "1", "row": row });
        assert_eq!(tail.next_json().await, line);
        db.execute("DELETE FROM notes WHERE id = 1").await;
        let line = json!({ "entity": "notes", "op": "delete", "key": "1" });
        assert_eq!(tail.next_json().await, line);
    }

    async fn tail_prints_readable_lines(db: TestDatabase) {
        db.execute(&format!("{NOTES}; {TASKS}")).await;
        let mut tail = Tail::start(&db, &["--entity", "notes", "--entity", "tasks"]);
        tail.begun(&db).await;
        db.execute("INSERT INTO tasks VALUES (7, 'seven')").await;
        let line = tail.next().await;
        assert!(line.starts_with("tasks put 7 {") && line.contains("seven"), "{line}");
        db.execute("DELETE FROM tasks").await;
        assert_eq!(tail.next().await, "tasks delete 7");
    }
}
