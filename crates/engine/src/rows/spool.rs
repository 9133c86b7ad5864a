//! Pages that are written once at the database's pace and read by any number of clients at theirs.
//!
//! A read's transaction ends when the database has sent everything, however slow the clients are. Pages that some of
//! them have not taken yet stay in memory, up to a budget that all spools share, and beyond it in unnamed temporary
//! files that are deleted as soon as all have taken them. Beyond the budget for files the read waits for its clients,
//! and fails when they make no room for too long.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use tokio::sync::watch;

use super::spool_file::{Budget, Segment, SpoolError};

/// The pages of one read, with a `Head` before the first and an `End` after the last.
#[derive(Debug)]
pub(crate) struct Spool<Head, End> {
    state: Mutex<State<Head, End>>,
    /// Incremented for every addition and every reader that leaves; readers and the writer wait on it.
    version: watch::Sender<u64>,
    budget: Arc<Budget>,
}

#[derive(Debug)]
struct State<Head, End> {
    head: Option<Head>,
    /// The pages that some reader has not taken, and the number of those before them.
    pages: VecDeque<Stored>,
    dropped: usize,
    in_memory: usize,
    /// The file that is written to.
    segment: Option<Arc<Segment>>,
    end: Option<End>,
    /// The number of pages that each reader has taken.
    readers: HashMap<u64, usize>,
    next_reader: u64,
}

#[derive(Debug, Clone)]
enum Stored {
    Memory(Bytes),
    File {
        segment: Arc<Segment>,
        offset: u64,
        len: usize,
    },
}

impl Stored {
    fn bytes_in_file(&self) -> u64 {
        match self {
            Self::Memory(_) => 0,
            Self::File { len, .. } => *len as u64,
        }
    }
}

/// The next item for a reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next<Head, End> {
    Head(Head),
    Page(Bytes),
    End(End),
}

impl<Head: Clone, End: Clone> Spool<Head, End> {
    /// A spool with its first reader.
    pub(crate) fn new(budget: Arc<Budget>) -> (Arc<Self>, SpoolReader<Head, End>) {
        let state = State {
            head: None,
            pages: VecDeque::new(),
            dropped: 0,
            in_memory: 0,
            segment: None,
            end: None,
            readers: HashMap::new(),
            next_reader: 0,
        };
        let spool = Arc::new(Self {
            state: Mutex::new(state),
            version: watch::Sender::new(0),
            budget,
        });
        let reader = spool.add_reader(&mut spool.state());
        (spool, reader)
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

    /// Adds a page, and waits for room if need be.
    ///
    /// # Errors
    /// When a temporary file cannot be written, or the readers make no room.
    pub(crate) async fn push(&self, page: Bytes) -> Result<(), SpoolError> {
        if self.budget.take_memory(page.len()) {
            let mut state = self.state();
            state.in_memory += page.len();
            state.pages.push_back(Stored::Memory(page));
        } else {
            let in_files = || {
                let state = self.state();
                state.pages.iter().map(Stored::bytes_in_file).sum::<u64>()
            };
            self.budget.wait_for_room(page.len(), in_files).await?;
            self.push_to_file(page).await?;
        }
        self.changed();
        Ok(())
    }

    async fn push_to_file(&self, page: Bytes) -> Result<(), SpoolError> {
        let current = self.state().segment.clone();
        let segment = match current.filter(|segment| !segment.is_full()) {
            Some(segment) => segment,
            None => Segment::create(self.budget.clone()).await?,
        };
        let len = page.len();
        let offset = segment.append(page).await?;
        let mut state = self.state();
        state.segment = Some(segment.clone());
        state.pages.push_back(Stored::File {
            segment,
            offset,
            len,
        });
        Ok(())
    }

    /// Sets the end; no page may follow.
    pub(crate) fn finish(&self, end: End) {
        let mut state = self.state();
        state.end = Some(end);
        // Its last pages keep the file.
        state.segment = None;
        drop(state);
        self.changed();
    }

    /// Returns another reader that starts at the head; none when all earlier ones have left. The read must not have
    /// begun.
    pub(crate) fn join(self: &Arc<Self>) -> Option<SpoolReader<Head, End>> {
        let mut state = self.state();
        (!state.readers.is_empty()).then(|| self.add_reader(&mut state))
    }

    fn add_reader(self: &Arc<Self>, state: &mut State<Head, End>) -> SpoolReader<Head, End> {
        let id = state.next_reader;
        state.next_reader += 1;
        state.readers.insert(id, 0);
        SpoolReader {
            spool: self.clone(),
            id,
            version: self.version.subscribe(),
            read: None,
        }
    }

    /// Returns when the last reader has left.
    pub(crate) async fn abandoned(&self) {
        let mut version = self.version.subscribe();
        while !self.state().readers.is_empty() {
            // It cannot fail: this holds the sender.
            let _ = version.changed().await;
        }
    }

    /// Drops the pages that every reader has taken.
    fn release(&self, state: &mut State<Head, End>) {
        let all = state.dropped + state.pages.len();
        let taken = state.readers.values().min().copied().unwrap_or(all);
        while state.dropped < taken
            && let Some(page) = state.pages.pop_front()
        {
            state.dropped += 1;
            if let Stored::Memory(page) = page {
                state.in_memory -= page.len();
                self.budget.free_memory(page.len());
            }
        }
        // The next page begins another file, so this one need not wait until it is full.
        if state.pages.is_empty() {
            state.segment = None;
        }
    }
}

impl<Head, End> Drop for Spool<Head, End> {
    fn drop(&mut self) {
        let state = self.state.get_mut().expect("no panic holds this lock");
        self.budget.free_memory(state.in_memory);
    }
}

/// One client's progress through a spool.
#[derive(Debug)]
pub(crate) struct SpoolReader<Head: Clone, End: Clone> {
    spool: Arc<Spool<Head, End>>,
    id: u64,
    version: watch::Receiver<u64>,
    /// The number of pages taken; none before the head.
    read: Option<usize>,
}

impl<Head: Clone, End: Clone> SpoolReader<Head, End> {
    /// Waits until there is a next item. Dropping the future loses nothing.
    pub(crate) async fn ready(&mut self) {
        loop {
            self.version.mark_unchanged();
            {
                let state = self.spool.state();
                let has_page = self.read.map_or(state.head.is_some(), |read| {
                    read < state.dropped + state.pages.len()
                });
                if has_page || state.end.is_some() {
                    return;
                }
            }
            // It cannot fail: the sender lives in the spool, which this reader holds.
            let _ = self.version.changed().await;
        }
    }

    /// Waits for the next item. Dropping the future loses nothing.
    ///
    /// # Errors
    /// When a temporary file cannot be read.
    pub(crate) async fn next(&mut self) -> std::io::Result<Next<Head, End>> {
        loop {
            self.ready().await;
            let (read, page) = {
                let state = self.spool.state();
                match (self.read, &state.head, &state.end) {
                    (None, Some(head), _) => {
                        self.read = Some(0);
                        return Ok(Next::Head(head.clone()));
                    }
                    (None, None, Some(end)) => return Ok(Next::End(end.clone())),
                    (None, None, None) => continue,
                    (Some(read), _, end) => match (state.pages.get(read - state.dropped), end) {
                        (Some(page), _) => (read, page.clone()),
                        (None, Some(end)) => return Ok(Next::End(end.clone())),
                        (None, None) => continue,
                    },
                }
            };
            let page = match page {
                Stored::Memory(page) => page,
                Stored::File {
                    segment,
                    offset,
                    len,
                } => segment.read(offset, len).await?,
            };
            self.read = Some(read + 1);
            let mut state = self.spool.state();
            state.readers.insert(self.id, read + 1);
            self.spool.release(&mut state);
            return Ok(Next::Page(page));
        }
    }
}

impl<Head: Clone, End: Clone> Drop for SpoolReader<Head, End> {
    fn drop(&mut self) {
        let mut state = self.spool.state();
        state.readers.remove(&self.id);
        self.spool.release(&mut state);
        drop(state);
        self.spool.changed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ReadsConfig;

    fn budget(memory: usize, one: u64, all: u64) -> Arc<Budget> {
        let config = ReadsConfig {
            spool_memory_bytes_max: memory,
            spool_bytes_max: one,
            spools_bytes_max: all,
            ..ReadsConfig::default()
        };
        Budget::new(&config, std::time::Duration::from_millis(50))
    }

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
        let (spool, early) = Spool::new(budget(100, 0, 0));
        let late = spool.join().expect("a reader");
        let early = tokio::spawn(read_all(early));
        spool.begin(7);
        spool.push("a".into()).await.expect("room");
        spool.push("b".into()).await.expect("room");
        spool.finish("done");
        let expected = [
            Next::Head(7),
            Next::Page("a".into()),
            Next::Page("b".into()),
            Next::End("done"),
        ];
        assert_eq!(early.await.expect("no panic"), expected);
        assert_eq!(read_all(late).await, expected);
        assert!(spool.join().is_none(), "nobody reads it any more");
    }

    #[tokio::test]
    async fn pages_beyond_the_memory_budget_go_to_a_file() {
        let budget = budget(5, 100, 100);
        let (spool, reader) = Spool::new(budget.clone());
        spool.begin(1);
        for page in ["12345", "678", "90"] {
            spool.push(page.into()).await.expect("room");
        }
        spool.finish("done");
        assert_eq!(budget.used(), (5, 5));
        let read = read_all(reader).await;
        assert_eq!(
            read[1..4],
            [
                Next::Page("12345".into()),
                Next::Page("678".into()),
                Next::Page("90".into())
            ]
        );
        // What all have taken is not kept, though the spool is.
        assert_eq!(budget.used(), (0, 0));
        drop(spool);
    }

    #[tokio::test]
    async fn a_full_spool_waits_for_its_readers_and_then_fails() {
        let (spool, mut reader) = Spool::<u8, &str>::new(budget(0, 4, 4));
        spool.begin(1);
        spool.push("1234".into()).await.expect("room");
        let full = spool.push("5".into()).await;
        assert!(matches!(full, Err(SpoolError::Full)), "{full:?}");
        reader.next().await.expect("the head");
        let pushed = tokio::spawn({
            let spool = spool.clone();
            async move { spool.push("5".into()).await }
        });
        assert_eq!(
            reader.next().await.expect("a page"),
            Next::Page("1234".into())
        );
        pushed.await.expect("no panic").expect("room");
        assert_eq!(reader.next().await.expect("a page"), Next::Page("5".into()));
    }

    #[tokio::test]
    async fn a_spool_without_readers_is_abandoned() {
        let (spool, reader) = Spool::<u8, u8>::new(budget(10, 0, 0));
        let abandoned = tokio::spawn({
            let spool = spool.clone();
            async move { spool.abandoned().await }
        });
        drop(reader);
        abandoned.await.expect("no panic");
    }
}
