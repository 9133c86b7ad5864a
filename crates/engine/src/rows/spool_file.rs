//! What spools may take of memory and disk, and the temporary files that they share it in.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use crate::config::ReadsConfig;

/// A file of a spool is this large; a file is deleted when all its pages have been taken.
const SEGMENT_BYTES: u64 = 16 * 1024 * 1024;

/// Why a page could not be spooled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpoolError {
    /// The readers made no room for too long.
    #[error("the clients read too slowly for what is kept for them")]
    Full,
    /// A temporary file failed.
    #[error("spooling a read: {0}")]
    Io(#[from] std::io::Error),
}

/// What all spools together have taken, and may.
#[derive(Debug)]
pub(crate) struct Budget {
    memory_max: usize,
    spool_bytes_max: u64,
    spools_bytes_max: u64,
    directory: Option<PathBuf>,
    /// How long a full spool waits for room.
    patience: Duration,
    memory: AtomicUsize,
    files: AtomicU64,
    /// Changes when something is freed.
    freed: watch::Sender<()>,
}

impl Budget {
    pub(crate) fn new(config: &ReadsConfig, patience: Duration) -> Arc<Self> {
        Arc::new(Self {
            memory_max: config.spool_memory_bytes_max,
            spool_bytes_max: config.spool_bytes_max,
            spools_bytes_max: config.spools_bytes_max,
            directory: config.spool_directory.clone(),
            patience,
            memory: AtomicUsize::new(0),
            files: AtomicU64::new(0),
            freed: watch::Sender::new(()),
        })
    }

    /// Takes memory, if so much is left.
    pub(super) fn take_memory(&self, bytes: usize) -> bool {
        let fits = self.memory.fetch_add(bytes, Ordering::Relaxed) + bytes <= self.memory_max;
        if !fits {
            self.memory.fetch_sub(bytes, Ordering::Relaxed);
        }
        self.publish();
        fits
    }

    pub(super) fn free_memory(&self, bytes: usize) {
        self.memory.fetch_sub(bytes, Ordering::Relaxed);
        self.publish();
        self.freed.send_replace(());
    }

    /// Waits until a spool that has `in_files` bytes may write so many more.
    pub(super) async fn wait_for_room(
        &self,
        bytes: usize,
        in_files: impl Fn() -> u64,
    ) -> Result<(), SpoolError> {
        let bytes = bytes as u64;
        let mut freed = self.freed.subscribe();
        loop {
            freed.mark_unchanged();
            let of_spool = in_files();
            // A page that is larger than the bound is kept alone.
            let fits = |used: u64, max: u64| used == 0 || used.saturating_add(bytes) <= max;
            let of_all = self.files.load(Ordering::Relaxed);
            if fits(of_spool, self.spool_bytes_max) && fits(of_all, self.spools_bytes_max) {
                return Ok(());
            }
            metrics::counter!("rhtmx_sync_spool_waits_total").increment(1);
            match tokio::time::timeout(self.patience, freed.changed()).await {
                Ok(_) => {}
                Err(_) => return Err(SpoolError::Full),
            }
        }
    }

    fn publish(&self) {
        let (memory, files) = self.used();
        metrics::gauge!("rhtmx_sync_spool_memory_bytes").set(memory as f64);
        metrics::gauge!("rhtmx_sync_spool_file_bytes").set(files as f64);
    }

    /// The bytes in memory and in files.
    pub(super) fn used(&self) -> (usize, u64) {
        (
            self.memory.load(Ordering::Relaxed),
            self.files.load(Ordering::Relaxed),
        )
    }
}

/// One temporary file. It has no name, so that it never outlives the process.
#[derive(Debug)]
pub(super) struct Segment {
    file: Arc<Mutex<File>>,
    len: AtomicU64,
    budget: Arc<Budget>,
}

impl Segment {
    pub(super) async fn create(budget: Arc<Budget>) -> Result<Arc<Self>, SpoolError> {
        let directory = budget.directory.clone();
        let file = blocking(move || match directory {
            Some(directory) => tempfile::tempfile_in(directory),
            None => tempfile::tempfile(),
        });
        Ok(Arc::new(Self {
            file: Arc::new(Mutex::new(file.await?)),
            len: AtomicU64::new(0),
            budget,
        }))
    }

    pub(super) fn is_full(&self) -> bool {
        self.len.load(Ordering::Relaxed) >= SEGMENT_BYTES
    }

    /// Writes a page and returns where it begins. There is one writer.
    pub(super) async fn append(&self, page: Bytes) -> std::io::Result<u64> {
        let (file, len) = (self.file.clone(), page.len() as u64);
        let offset = self.len.load(Ordering::Relaxed);
        blocking(move || {
            let mut file = file.lock().expect("no panic holds this lock");
            file.seek(SeekFrom::Start(offset))?;
            file.write_all(&page)
        })
        .await?;
        self.len.store(offset + len, Ordering::Relaxed);
        self.budget.files.fetch_add(len, Ordering::Relaxed);
        self.budget.publish();
        Ok(offset)
    }

    pub(super) async fn read(&self, offset: u64, len: usize) -> std::io::Result<Bytes> {
        let file = self.file.clone();
        blocking(move || {
            let mut page = vec![0; len];
            let mut file = file.lock().expect("no panic holds this lock");
            file.seek(SeekFrom::Start(offset))?;
            file.read_exact(&mut page)?;
            Ok(page.into())
        })
        .await
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        let len = self.len.load(Ordering::Relaxed);
        self.budget.files.fetch_sub(len, Ordering::Relaxed);
        self.budget.publish();
        self.budget.freed.send_replace(());
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(std::io::Error::other)?
}
