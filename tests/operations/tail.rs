//! `rhtmx-sync tail`: changes as they happen, by any program.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{TestDatabase, both_backends, eventually};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::writers::{NOTES, TASKS, insert};

/// A running `tail`; dropping it ends the process.
struct Tail {
    process: Child,
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
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("tail starts");
        let lines = BufReader::new(process.stdout.take().expect("its output")).lines();
        Self {
            process,
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

    /// What it says as it ends by itself, with an error.
    async fn refused(self) -> String {
        let ended = self.process.wait_with_output().await.expect("an end");
        assert!(!ended.status.success());
        String::from_utf8_lossy(&ended.stderr).into_owned()
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
        let _server = TestServer::start(&db, ["notes"]).await;
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
        let _server = TestServer::start(&db, ["notes", "tasks"]).await;
        let mut tail = Tail::start(&db, &["--entity", "notes", "--entity", "tasks"]);
        tail.begun(&db).await;
        db.execute("INSERT INTO tasks VALUES (7, 'seven')").await;
        let line = tail.next().await;
        assert!(line.starts_with("tasks put 7 {") && line.contains("seven"), "{line}");
        db.execute("DELETE FROM tasks").await;
        assert_eq!(tail.next().await, "tasks delete 7");
    }
    /// It would leave triggers behind that nobody has asked for.
    async fn tail_captures_nothing_itself(db: TestDatabase) {
        db.execute(&format!("{NOTES}; {TASKS}")).await;
        let without_server = Tail::start(&db, &["notes"]).refused().await;
        assert!(without_server.contains("no server captures its table"), "{without_server}");
        let server = TestServer::start(&db, ["notes"]).await;
        let another_table = Tail::start(&db, &["tasks"]).refused().await;
        assert!(another_table.contains("no server captures its table"), "{another_table}");
        server.shutdown().await;
    }
}

/// A log that nobody prunes but `tail`, or by its settings, would be of no use to clients that come back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tail_shows_changes_without_a_leader_and_never_leads() {
    let db = TestDatabase::postgres().await;
    db.execute(NOTES).await;
    let server = TestServer::start(&db, ["notes"]).await;
    let mut tail = Tail::start(&db, &["notes"]);
    tail.begun(&db).await;
    server.shutdown().await;
    db.execute("INSERT INTO notes VALUES (1, 'alone')").await;
    while !tail.next().await.contains("alone") {}
    let leaders = "SELECT count(*)::text FROM _rhtmx_sync_lock l JOIN pg_stat_activity a USING (pid) \
                   WHERE l.name = 'leader'";
    // PostgreSQL ends the connection of who led a moment after it was closed.
    eventually("nobody leads", async || {
        (db.query_text(leaders).await == [Some("0".to_owned())]).then_some(())
    })
    .await;
    let server = TestServer::start(&db, ["notes"]).await;
    server.engine().ready().await;
    eventually("the server leads", async || {
        (db.query_text(leaders).await == [Some("1".to_owned())]).then_some(())
    })
    .await;
    server.shutdown().await;
}
