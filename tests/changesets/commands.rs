//! The commands `changeset` and `replicate`.

use std::fs;

use merge::Deletes;
use serde_json::Value;
use tempfile::TempDir;
use testkit::{Backend, Exited, ServerProcess};

use super::{Synced, records_in};

/// Runs a command on a database, with a configuration that names the table.
async fn run(db: &Synced, folder: &TempDir, args: &[&str]) -> Exited {
    let file = folder.path().join("rhtmx-sync.toml");
    let text = "[entities.todos]\nfields = 'last_write_wins'\n\
        [entities.todos.columns]\nlikes = { merge = 'counter' }\nbest = { merge = 'max' }\ntags = { merge = 'set' }\n";
    fs::write(&file, text).expect("a file");
    let settings = [
        ("DATABASE_URL", db.db.url()),
        ("RHTMX_SYNC_CONFIG", file.display().to_string()),
        ("RUST_LOG", "error".to_owned()),
    ];
    ServerProcess::try_spawn(args, settings)
        .await
        .expect_err("it ends")
}

fn pages(exited: &Exited) -> Vec<String> {
    let lines = exited.output.lines().filter(|line| line.starts_with('{'));
    lines.map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_database_exports_another_imports() {
    let folder = TempDir::new().expect("a folder");
    let one = Synced::new(Backend::Postgres, Deletes::Win).await;
    let two = Synced::new(Backend::Sqlite, Deletes::Win).await;
    one.db
        .execute("INSERT INTO todos (id, title) SELECT i, 'a' FROM generate_series(1, 1200) i")
        .await;
    let exported = run(&one, &folder, &["changeset", "export"]).await;
    let written = pages(&exported);
    assert_eq!(records_in(&written), 1200, "{}", exported.output);
    let file = folder.path().join("pages");
    let file = file.to_str().expect("UTF-8");
    // The last page but one is cut off: those before it are merged, and it is said which one it is.
    let mut cut = written[..2].join("\n");
    cut.truncate(cut.len() - 7);
    fs::write(file, &cut).expect("a file");
    let imported = run(&two, &folder, &["changeset", "import", file]).await;
    assert!(!imported.status.success());
    assert!(
        imported.output.contains("line 2") && imported.output.contains("cut off"),
        "{}",
        imported.output
    );
    let merged = two.rows().await.len();
    assert!(merged > 0 && merged < 1200, "{merged}");
    fs::write(file, written.join("\n")).expect("a file");
    let imported = run(&two, &folder, &["changeset", "import", file]).await;
    assert!(imported.status.success(), "{}", imported.output);
    assert!(
        imported.output.contains("1200 records"),
        "{}",
        imported.output
    );
    assert!(one.is_same(&two).await);
    // Since the cursor with which the first one ended.
    one.db
        .execute("UPDATE todos SET title = 'b' WHERE id = 7")
        .await;
    let cursor: Value = serde_json::from_str(written.last().expect("a page")).expect("JSON");
    let cursor = cursor["_rhtmx_sync"]["cursor"].as_str().expect("a cursor");
    let since = run(&one, &folder, &["changeset", "export", "--since", cursor]).await;
    assert_eq!(records_in(&pages(&since)), 1, "{}", since.output);
    let family = run(&one, &folder, &["changeset", "export", "--family"]).await;
    let family: Value =
        serde_json::from_str(pages(&family).first().expect("one object")).expect("JSON");
    let records = family["todos"].as_array().expect("records");
    assert_eq!(records.len(), 1200);
    let names: Vec<&String> = records[6].as_object().expect("a record").keys().collect();
    assert!(names.iter().all(|name| *name != "_rhtmx_sync"), "{names:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicate_once_ends_when_both_are_equal() {
    let folder = TempDir::new().expect("a folder");
    let one = Synced::new(Backend::Sqlite, Deletes::Win).await;
    let two = Synced::new(Backend::Postgres, Deletes::Win).await;
    one.db
        .execute("INSERT INTO todos (id, title) VALUES (1, 'a'), (2, 'b')")
        .await;
    two.db
        .execute("INSERT INTO todos (id, title) VALUES (3, 'c')")
        .await;
    let (from, to) = (one.db.url(), two.db.url());
    let args = ["replicate", "--once", "--from", &from, "--to", &to];
    let ended = run(&one, &folder, &args).await;
    assert!(
        ended.status.success() && ended.output.contains("equal"),
        "{}",
        ended.output
    );
    assert_eq!(one.rows().await, two.rows().await);
    assert_eq!(one.rows().await.len(), 3);
    one.db
        .execute("INSERT INTO todos (id, code) VALUES (4, 'x')")
        .await;
    two.db
        .execute("INSERT INTO todos (id, code) VALUES (5, 'x')")
        .await;
    let ended = run(&one, &folder, &args).await;
    assert_eq!(ended.status.code(), Some(3), "{}", ended.output);
    assert!(ended.output.contains("parked: todos"), "{}", ended.output);
}
