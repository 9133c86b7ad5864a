//! In whose names the server's own code writes.
//!
//! A mutation needs an author whose numbers count up, so that it is applied once though it is tried again. The authors here
//! are made when they are needed, and used again; one of whose last number it is unknown whether it counts is forgotten.

use std::sync::{Mutex, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};
use uuid::Uuid;

/// Writes of the server's own that are applied at once; more wait. So there are no more authors than this, unless the
/// database fails.
const WRITING_MAX: usize = 8;

/// The authors.
#[derive(Debug)]
pub(crate) struct Authors {
    /// Those who are not writing.
    idle: Mutex<Vec<Author>>,
    writing: Semaphore,
}

/// One of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Author {
    pub(crate) client_id: Uuid,
    /// The number of its last mutation.
    pub(crate) number: u64,
}

impl Default for Authors {
    fn default() -> Self {
        Self {
            idle: Mutex::default(),
            writing: Semaphore::new(WRITING_MAX),
        }
    }
}

impl Authors {
    /// Waits until somebody may write.
    pub(crate) async fn permit(&self) -> Option<SemaphorePermit<'_>> {
        self.writing.acquire().await.ok()
    }

    /// Takes an author, with a number for its next mutation.
    pub(crate) fn take(&self) -> Author {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let mut author = idle.pop().unwrap_or_else(|| Author {
            client_id: Uuid::new_v4(),
            number: 0,
        });
        author.number += 1;
        author
    }

    /// Gives one back whose mutation has been answered.
    pub(crate) fn give_back(&self, author: Author) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push(author);
    }
}

impl Author {
    /// The same, whose last number was not used after all.
    pub(crate) fn unused(self) -> Self {
        Self {
            number: self.number - 1,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_author_that_was_not_given_back_is_not_used_again() {
        let authors = Authors::default();
        let first = authors.take();
        authors.give_back(first);
        let again = authors.take();
        assert_eq!((again.client_id, again.number), (first.client_id, 2));
        authors.give_back(again.unused());
        let same = authors.take();
        assert_eq!((same.client_id, same.number), (first.client_id, 2));
        let other = authors.take();
        assert_eq!(other.number, 1);
        assert_ne!(other.client_id, first.client_id);
    }
}
