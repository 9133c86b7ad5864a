//! What follows when a read for a subscription fails.
//!
//! Invariants:
//! 1. Every failure has an answer: another try, the rows instead of the changes, or an error that ends the subscription.
//! 2. Rows that have been sent are sent again a few times at most.
//! 3. A state that ends by itself (a lock, a database out of reach) never ends a subscription.

use protocol::ErrorCode;

use crate::limit::Limit;
use crate::session::SubscribeError;

/// How often rows that have been sent are sent again.
const RESTARTS_MAX: u32 = 3;
/// After this many failures that would come back, a resume becomes a refetch.
const RESUME_FAILURES_MAX: u32 = 2;
/// After this many tries without progress, a subscription ends.
const STALLS_MAX: u32 = 3;

/// Why a read failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadFailure {
    /// Because of a state that ends by itself: the database is out of reach, the table locked or just changed.
    Passing,
    /// More reads wait than may.
    Busy,
    /// A statement failed, and will fail again until somebody changes something.
    Statement,
    /// The database sent nothing for too long.
    NoProgress,
    /// The client takes the rows so slowly that they cannot be kept for it.
    Slow,
    /// There are more rows than a first read may have.
    TooManyRows,
    /// What its subqueries select is more than all sets together may hold.
    TooManySetValues,
    /// The database takes too long to find out what its subqueries select.
    SlowSubquery,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Retry {
    /// Try the same again, after a pause.
    Again,
    /// Have the client drop what it has, and read all rows, after a pause.
    Refetch,
    /// End the subscription.
    End(SubscribeError),
}

/// The failures of one subscription's reads.
#[derive(Debug, Default)]
pub struct ReadRetry {
    failures: u32,
    restarts: u32,
    stalls: u32,
    lasting: u32,
}

impl ReadRetry {
    /// The number of failures, for the length of the pause.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Decides what follows a failure. `has_sent` tells whether the client received some of the read; `is_resume`
    /// whether changes were read.
    pub fn failed(&mut self, failure: ReadFailure, has_sent: bool, is_resume: bool) -> Retry {
        let end = |code, message| Retry::End(SubscribeError::new(code, message));
        self.failures += 1;
        match failure {
            ReadFailure::Passing | ReadFailure::Busy => {}
            ReadFailure::Statement => self.lasting += 1,
            ReadFailure::NoProgress => {
                self.lasting += 1;
                self.stalls += 1;
            }
            ReadFailure::Slow => {
                let message = "these are more rows than are kept for a client that reads so slowly";
                return end(ErrorCode::TooLarge, message);
            }
            ReadFailure::TooManyRows => {
                let message = "these are more rows than a subscription may have (reads.rows_max); select fewer with `where`";
                return Retry::End(SubscribeError::beyond(Limit::RowsOfRead, message));
            }
            ReadFailure::TooManySetValues => {
                let message = "the subqueries of all clients select as many values as the server keeps (limits.set_values_total_max)";
                return Retry::End(SubscribeError::beyond(Limit::SetValuesTotal, message));
            }
            ReadFailure::SlowSubquery => {
                let message = "the database takes too long to find out what a subquery selects (reads.subquery_timeout_ms); select less with it, or by columns with an index";
                return Retry::End(SubscribeError::beyond(Limit::SubqueryTime, message));
            }
        }
        if self.stalls >= STALLS_MAX {
            let message = "the database takes too long to read these rows";
            return end(ErrorCode::Unavailable, message);
        }
        if has_sent {
            self.restarts += 1;
            if self.restarts > RESTARTS_MAX {
                let message = "the rows could not be read to their end";
                return end(ErrorCode::Unavailable, message);
            }
            return Retry::Refetch;
        }
        if is_resume && self.lasting >= RESUME_FAILURES_MAX {
            return Retry::Refetch;
        }
        Retry::Again
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_resume_without_progress_becomes_a_refetch_and_then_an_error() {
        let mut retry = ReadRetry::default();
        let stall = ReadFailure::NoProgress;
        assert_eq!(retry.failed(stall, false, true), Retry::Again);
        assert_eq!(retry.failed(stall, false, true), Retry::Refetch);
        assert!(matches!(retry.failed(stall, false, false), Retry::End(_)));
    }

    #[test]
    fn a_lock_or_a_missing_right_never_ends_a_subscription() {
        let mut retry = ReadRetry::default();
        for _ in 0..100 {
            assert_eq!(
                retry.failed(ReadFailure::Passing, false, true),
                Retry::Again
            );
        }
        for _ in 0..100 {
            let failed = retry.failed(ReadFailure::Statement, false, false);
            assert_eq!(failed, Retry::Again);
        }
    }

    proptest! {
        #[test]
        fn rows_are_sent_again_a_few_times_only(
            failures in proptest::collection::vec((0_usize..6, any::<bool>()), 1..100),
        ) {
            let mut retry = ReadRetry::default();
            let mut resent = 0;
            for (failure, is_resume) in failures {
                let failure = [
                    ReadFailure::Passing,
                    ReadFailure::Busy,
                    ReadFailure::Statement,
                    ReadFailure::NoProgress,
                    ReadFailure::Slow,
                    ReadFailure::TooManyRows,
                ][failure];
                match retry.failed(failure, true, is_resume) {
                    Retry::Refetch => resent += 1,
                    Retry::End(_) => break,
                    Retry::Again => prop_assert!(false, "what was sent is void"),
                }
            }
            prop_assert!(resent <= RESTARTS_MAX);
        }
    }
}
