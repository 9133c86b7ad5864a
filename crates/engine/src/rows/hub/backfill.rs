//! What is asked behind a drain, for the hub: how long it may take, and where the answers go.

use std::sync::Arc;
use std::time::Duration;

use db::read::{Backfill, BackfillAnswers, QuestionTime};
use sync_core::membership::{Answer, Lane, SetFailure};
use sync_core::shape::Shape;

use super::super::sets::names_sets;
use super::Hub;

/// What takes longer than this is asked for by itself.
const BRIEF: Duration = Duration::from_millis(100);
/// How long those together may take that are asked for together.
const BRIEF_TOTAL: Duration = Duration::from_secs(1);

/// How long the answers of a backfill may take.
fn time(lane: Lane, timeout: Duration) -> QuestionTime {
    match lane {
        Lane::Brief => QuestionTime {
            each: BRIEF.min(timeout),
            total: BRIEF_TOTAL,
        },
        Lane::Long => QuestionTime {
            each: timeout,
            total: timeout + BRIEF_TOTAL,
        },
    }
}

impl Hub {
    /// What is to be asked behind the drain whose questions have been answered.
    pub(crate) fn begin_backfill(self: &Arc<Self>) -> Option<Backfill> {
        let backfill = self.index().sets.begin_backfill()?;
        let time = time(backfill.lane, self.limits.subquery_timeout);
        Some(Backfill {
            questions: backfill.questions,
            time,
            answers: Box::new(HubAnswers {
                hub: self.clone(),
                ticket: backfill.ticket,
            }),
        })
    }

    /// Takes an answer of a backfill.
    fn backfilled(&self, ticket: u64, index: usize, answer: Answer) {
        self.index().sets.backfilled(ticket, index, answer);
    }

    /// Ends a backfill.
    fn end_backfill(&self, ticket: u64) {
        if self.index().sets.end_backfill(ticket) {
            self.wake.notify_one();
        }
    }

    /// Waits until the sets of an attached shape are known, so that every batch from then on is evaluated with them.
    pub(crate) async fn sets_known(&self, shape: &Shape) -> Result<(), SetFailure> {
        if !names_sets(shape) {
            return Ok(());
        }
        loop {
            let (are_known, changed) = {
                let mut index = self.index();
                let are_known = index.sets.are_known(shape);
                // Also where one could not be read: a drain may ask for it again.
                if are_known.is_err() || are_known == Ok(false) && index.sets.is_asking() {
                    self.wake.notify_one();
                }
                (are_known, index.sets.wait(shape))
            };
            match changed {
                Some(changed) if !are_known? => drop(changed.await),
                _ => return Ok(()),
            }
        }
    }
}

/// Takes the answers of one backfill, until it is dropped.
struct HubAnswers {
    hub: Arc<Hub>,
    ticket: u64,
}

impl BackfillAnswers for HubAnswers {
    fn take(&mut self, index: usize, answer: Answer) {
        let result = match &answer {
            Answer::Set(_) | Answer::Window(_) => "known",
            Answer::TooLong => "too_long",
            Answer::TooMany => "too_many",
            Answer::Rows(_) | Answer::Fields(_) | Answer::Group(_) | Answer::Unknown => "unread",
        };
        metrics::counter!("rhtmx_sync_sets_asked_total", "result" => result).increment(1);
        self.hub.backfilled(self.ticket, index, answer);
    }
}

impl Drop for HubAnswers {
    fn drop(&mut self) {
        self.hub.end_backfill(self.ticket);
    }
}
