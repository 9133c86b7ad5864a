//! Reads of changes whose first pages have been returned, until their clients ask for the next.
//!
//! Without them, each page would read everything since the client's cursor. One that is not here any more costs another
//! read, nothing else.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use sync_core::shape::Shape;
use tokio::time::Instant;

use super::pages::ChangePages;

/// The most reads that are kept.
const KEPT_MAX: usize = 64;
/// How long a client may take to ask for the next page.
const KEPT_FOR: Duration = Duration::from_secs(30);

/// The reads, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Continuations {
    kept: Mutex<VecDeque<Kept>>,
}

#[derive(Debug)]
struct Kept {
    shape: Shape,
    token: String,
    pages: ChangePages,
    until: Instant,
}

impl Continuations {
    fn kept(&self) -> MutexGuard<'_, VecDeque<Kept>> {
        self.kept.lock().expect("no panic holds this lock")
    }

    /// Keeps a read for the client that comes with this page token.
    pub(crate) fn keep(&self, shape: &Shape, token: String, pages: ChangePages) {
        let mut kept = self.kept();
        if kept.len() >= KEPT_MAX {
            kept.pop_front();
        }
        kept.push_back(Kept {
            shape: shape.clone(),
            token,
            pages,
            until: Instant::now() + KEPT_FOR,
        });
    }

    /// Takes the read that this page token continues.
    pub(crate) fn take(&self, shape: &Shape, token: &str) -> Option<ChangePages> {
        let mut kept = self.kept();
        let found = kept
            .iter()
            .position(|kept| kept.token == token && kept.shape == *shape);
        kept.remove(found?).map(|kept| kept.pages)
    }

    /// Drops the reads that nobody has asked for in time.
    pub(crate) fn expire(&self) {
        let now = Instant::now();
        self.kept().retain(|kept| kept.until > now);
    }
}
