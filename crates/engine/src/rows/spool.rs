//! Pages that are written once at the database's pace and read by any number of clients at theirs.
//!
//! A read's transaction ends when the database has sent everything, however slow the clients are. Pages that
//! they have not taken yet stay in memory, up to a budget that all spools share, and beyond it in an unnamed
//! temporary file that is deleted with the spool.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use tokio::sync::watch;

/// The most that all spools together keep in memory, in bytes.
pub(crate) const MEMORY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The pages of one read, with a `Head` before the first and an `End` after the last.
#[derive(Debug)]
pub(crate) struct Spool<Head, End> {
    state: Mutex<State<Head, End>>,
    /// Incremented for every addition; readers wait on it.
    version: watch::Sender<u64>,
    budget: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct State<Head, End> {
    head: Option<Head>,
    pages: Vec<Stored>,
    in_memory: usize,
    file: Option<Arc<Mutex<File>>>,
    file_len: u64,
    end: Option<End>,
}

#[derive(Debug, Clone)]
enum Stored {
    Memory(Bytes),
    File { offset: u64, len: usize },
}

/// The next item for a reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next<Head, End> {
    Head(Head),
    Page(Bytes),
    End(End),
}

impl<Head: Clone, End: Clone> Spool<Head, End> {
    pub(crate) fn new(budget: Arc<AtomicUsize>) -> Arc<Self> {
        let state = State {
            head: None,
            pages: Vec::new(),
            in_memory: 0,
            file: None,
            file_len: 0,
            end: None,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            version: watch::Sender::new(0),
            budget,
        })
    }

    fn state(&self) -> MutexGuard<'_, State<Head, End>> {
        self.state.lock().expect("no panic holds this lock")
    }

    fn changed(&self) {
        self.version.send_modify(|version| *version += 1);
    }

    /// Sets the head.
    pub(crate) fn begin(&self, head: Head) {
        self.state().head = Some(head);
        self.changed();
    }

    /// Adds a page.
    ///
    /// # Errors
    /// When the temporary file cannot be written.
    pub(crate) async fn push(&self, page: Bytes) -> std::io::Result<()> {
        let len = page.len();
        let fits = self.budget.fetch_add(len, Ordering::Relaxed) + len <= MEMORY_BYTES_MAX;
        if fits {
            let mut state = self.state();
            state.in_memory += len;
            state.pages.push(Stored::Memory(page));
        } else {
            self.budget.fetch_sub(len, Ordering::Relaxed);
            self.push_to_file(page).await?;
        }
        self.changed();
        Ok(())
    }

    async fn push_to_file(&self, page: Bytes) -> std::io::Result<()> {
        let (file, offset) = {
            let state = self.state();
            (state.file.clone(), state.file_len)
        };
        let len = page.len();
        let file = blocking(move || {
            let file = match file {
                Some(file) => file,
                None => Arc::new(Mutex::new(tempfile::tempfile()?)),
            };
            {
                let mut file = file.lock().expect("no panic holds this lock");
                file.seek(SeekFrom::Start(offset))?;
                file.write_all(&page)?;
            }
            Ok(file)
        })
        .await?;
        let mut state = self.state();
        state.file = Some(file);
        state.file_len += len as u64;
        state.pages.push(Stored::File { offset, len });
        Ok(())
    }

    /// Sets the end; no page may follow.
    pub(crate) fn finish(&self, end: End) {
        self.state().end = Some(end);
        self.changed();
    }

    /// Returns a reader that starts at the head.
    pub(crate) fn reader(self: &Arc<Self>) -> SpoolReader<Head, End> {
        SpoolReader {
            spool: self.clone(),
            version: self.version.subscribe(),
            read: None,
        }
    }
}

impl<Head, End> Drop for Spool<Head, End> {
    fn drop(&mut self) {
        let in_memory = self
            .state
            .get_mut()
            .expect("no panic holds this lock")
            .in_memory;
        self.budget.fetch_sub(in_memory, Ordering::Relaxed);
    }
}

/// One client's progress through a spool.
#[derive(Debug)]
pub(crate) struct SpoolReader<Head, End> {
    spool: Arc<Spool<Head, End>>,
    version: watch::Receiver<u64>,
    /// The number of pages taken; none before the head.
    read: Option<usize>,
}

impl<Head: Clone, End: Clone> SpoolReader<Head, End> {
    /// Waits for the next item. Dropping the future loses nothing.
    ///
    /// # Errors
    /// When the temporary file cannot be read.
    pub(crate) async fn next(&mut self) -> std::io::Result<Next<Head, End>> {
        loop {
            self.version.mark_unchanged();
            let found = {
                let state = self.spool.state();
                match (self.read, &state.head, &state.end) {
                    (None, Some(head), _) => {
                        self.read = Some(0);
                        return Ok(Next::Head(head.clone()));
                    }
                    (None, None, Some(end)) => return Ok(Next::End(end.clone())),
                    (None, None, None) => None,
                    (Some(read), _, end) => match (state.pages.get(read), end) {
                        (Some(page), _) => Some((read, page.clone(), state.file.clone())),
                        (None, Some(end)) => return Ok(Next::End(end.clone())),
                        (None, None) => None,
                    },
                }
            };
            if let Some((read, page, file)) = found {
                let page = load(page, file).await?;
                self.read = Some(read + 1);
                return Ok(Next::Page(page));
            }
            // It cannot fail: the sender lives in the spool, which this reader holds.
            let _ = self.version.changed().await;
        }
    }
}

async fn load(page: Stored, file: Option<Arc<Mutex<File>>>) -> std::io::Result<Bytes> {
    match (page, file) {
        (Stored::Memory(page), _) => Ok(page),
        (Stored::File { offset, len }, Some(file)) => {
            blocking(move || {
                let mut page = vec![0; len];
                let mut file = file.lock().expect("no panic holds this lock");
                file.seek(SeekFrom::Start(offset))?;
                file.read_exact(&mut page)?;
                Ok(page.into())
            })
            .await
        }
        (Stored::File { .. }, None) => Err(std::io::Error::other(
            "a page is in the spool's file, but there is no file",
        )),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(std::io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read_all(mut reader: SpoolReader<u8, &'static str>) -> Vec<Next<u8, &'static str>> {
        let mut all = Vec::new();
        loop {
            let next = reader.next().await.expect("readable");
            let ended = matches!(next, Next::End(_));
            all.push(next);
            if ended {
                return all;
            }
        }
    }

    #[tokio::test]
    async fn early_and_late_readers_receive_the_same() {
        let spool = Spool::new(Arc::default());
        let early = tokio::spawn(read_all(spool.reader()));
        spool.begin(7);
        spool.push("a".into()).await.expect("room");
        spool.push("b".into()).await.expect("room");
        spool.finish("done");
        let late = read_all(spool.reader()).await;
        let expected = [
            Next::Head(7),
            Next::Page("a".into()),
            Next::Page("b".into()),
            Next::End("done"),
        ];
        assert_eq!(late, expected);
        assert_eq!(early.await.expect("no panic"), expected);
    }

    #[tokio::test]
    async fn pages_beyond_the_memory_budget_go_to_a_file() {
        let budget = Arc::new(AtomicUsize::new(MEMORY_BYTES_MAX - 5));
        let spool = Spool::new(budget.clone());
        spool.begin(1);
        for page in ["12345", "678", "90"] {
            spool.push(page.into()).await.expect("room");
        }
        spool.finish("done");
        assert_eq!(spool.state().file_len, 5);
        let read = read_all(spool.reader()).await;
        assert_eq!(
            read[1..4],
            [
                Next::Page("12345".into()),
                Next::Page("678".into()),
                Next::Page("90".into())
            ]
        );
        drop(spool);
        assert_eq!(budget.load(Ordering::Relaxed), MEMORY_BYTES_MAX - 5);
    }
}
