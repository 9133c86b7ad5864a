//! Programs that write all the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use diesel::connection::SimpleConnection as _;
use testkit::{Backend, TestDatabase};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Pause between two writes, so that others get a turn.
const PACE: Duration = Duration::from_millis(1);

/// Writers with a connection each. None of their writes may fail.
#[derive(Debug)]
pub(crate) struct Writers {
    stopped: Arc<AtomicBool>,
    progress: watch::Receiver<Progress>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Clone, Debug)]
struct Progress {
    writes: Vec<u64>,
    failed: Option<String>,
}

impl Writers {
    /// Starts a writer for each text, which it executes again and again.
    pub(crate) async fn start(db: &TestDatabase, texts: &[&str]) -> Self {
        let progress = Progress {
            writes: vec![0; texts.len()],
            failed: None,
        };
        let (sender, progress) = watch::channel(progress);
        let (sender, stopped) = (Arc::new(sender), Arc::new(AtomicBool::new(false)));
        let mut tasks = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            let (text, sender, stopped) = ((*text).to_owned(), sender.clone(), stopped.clone());
            let note = move |done: Result<(), String>| {
                sender.send_modify(|progress| match done {
                    Ok(()) => progress.writes[index] += 1,
                    Err(error) => progress.failed = Some(error),
                });
            };
            tasks.push(match db.backend() {
                Backend::Postgres => {
                    let client = db.connect_postgres().await;
                    tokio::spawn(async move {
                        while !stopped.load(Ordering::Relaxed) {
                            let done = client.batch_execute(&text).await;
                            note(done.map_err(|error| format!("{text}: {error:?}")));
                            tokio::time::sleep(PACE).await;
                        }
                    })
                }
                Backend::Sqlite => {
                    let mut connection = db.connect_sqlite();
                    tokio::task::spawn_blocking(move || {
                        while !stopped.load(Ordering::Relaxed) {
                            let done = connection.batch_execute(&text);
                            note(done.map_err(|error| format!("{text}: {error}")));
                            std::thread::sleep(PACE);
                        }
                    })
                }
            });
        }
        Self {
            stopped,
            progress,
            tasks,
        }
    }

    /// Waits until each writer has written some more.
    pub(crate) async fn wait_for_progress(&mut self) {
        let target: Vec<u64> = self
            .progress
            .borrow()
            .writes
            .iter()
            .map(|writes| writes + 10)
            .collect();
        let reached = |progress: &Progress| {
            progress.failed.is_some()
                || progress
                    .writes
                    .iter()
                    .zip(&target)
                    .all(|(writes, target)| writes >= target)
        };
        let patience = Duration::from_secs(60);
        let waited = tokio::time::timeout(patience, self.progress.wait_for(reached)).await;
        let progress = waited
            .expect("the writers hang")
            .expect("the writers are there")
            .clone();
        assert_eq!(progress.failed, None, "a write failed");
    }

    /// Stops the writers, and fails when a write has failed.
    pub(crate) async fn stop(self) {
        self.stopped.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("a writer panicked");
        }
        assert_eq!(self.progress.borrow().failed, None, "a write failed");
    }
}
