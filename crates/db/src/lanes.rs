//! A queue of jobs and the few lanes that work on it: tasks that exist only while there is work.
//!
//! Invariants:
//! 1. While a job waits that may be taken, a lane runs.
//! 2. No two lanes work on jobs that name the same row.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a lane works on.
pub(crate) trait Job {
    /// The row that no other lane may work on meanwhile; `None` where that does not matter.
    fn row(&self) -> Option<&str>;

    /// Its part of what a lane may take at once.
    fn weight(&self) -> usize;
}

/// The queue.
#[derive(Debug)]
pub(crate) struct Lanes<J> {
    shared: Arc<Mutex<State<J>>>,
    /// How many lanes may run.
    lanes_max: usize,
}

#[derive(Debug)]
struct State<J> {
    waiting: VecDeque<J>,
    running: usize,
    /// The rows of the jobs that are under way.
    rows: Vec<String>,
}

impl<J: Job> Lanes<J> {
    pub(crate) fn new(lanes_max: usize) -> Self {
        let state = State {
            waiting: VecDeque::new(),
            running: 0,
            rows: Vec::new(),
        };
        Self {
            shared: Arc::new(Mutex::new(state)),
            lanes_max,
        }
    }

    /// Queues a job. Returns a lane that the caller must run until it has nothing left to take, unless enough are
    /// running.
    pub(crate) fn submit(&self, job: J) -> Option<Lane<J>> {
        let mut state = lock(&self.shared);
        state.waiting.push_back(job);
        if state.running == self.lanes_max {
            return None;
        }
        state.running += 1;
        Some(Lane {
            shared: self.shared.clone(),
            rows: Vec::new(),
            has_ended: false,
        })
    }

    /// Whether a job that names this row waits or is under way.
    #[cfg(feature = "postgres")]
    pub(crate) fn names(&self, row: &str) -> bool {
        let state = lock(&self.shared);
        let is_it = |job: &J| job.row() == Some(row);
        state.rows.iter().any(|busy| busy == row) || state.waiting.iter().any(is_it)
    }
}

/// One lane.
#[derive(Debug)]
pub(crate) struct Lane<J: Job> {
    shared: Arc<Mutex<State<J>>>,
    rows: Vec<String>,
    has_ended: bool,
}

impl<J: Job> Lane<J> {
    /// Ends the jobs that it took before, and takes the oldest that may run: several if their weights are at most
    /// `weight_max` together, one in any case. When it returns none, the lane has ended.
    pub(crate) fn take(&mut self, weight_max: usize) -> Vec<J> {
        let mut state = lock(&self.shared);
        state.release(&mut self.rows);
        let mut taken: Vec<J> = Vec::new();
        let (mut weight, mut at) = (0, 0);
        while at < state.waiting.len() {
            let job = &state.waiting[at];
            if !taken.is_empty() && weight + job.weight() > weight_max {
                break;
            }
            let row = job.row().map(str::to_owned);
            if row.as_ref().is_some_and(|row| state.rows.contains(row)) {
                at += 1;
                continue;
            }
            weight += job.weight();
            state.rows.extend(row.clone());
            self.rows.extend(row);
            taken.extend(state.waiting.remove(at));
        }
        if taken.is_empty() {
            self.has_ended = true;
            state.running -= 1;
        }
        taken
    }
}

impl<J: Job> Drop for Lane<J> {
    fn drop(&mut self) {
        if !self.has_ended {
            let mut state = lock(&self.shared);
            state.release(&mut self.rows);
            state.running -= 1;
        }
    }
}

impl<J> State<J> {
    fn release(&mut self, rows: &mut Vec<String>) {
        for row in rows.drain(..) {
            if let Some(at) = self.rows.iter().position(|busy| *busy == row) {
                self.rows.swap_remove(at);
            }
        }
    }
}

fn lock<J>(shared: &Mutex<State<J>>) -> MutexGuard<'_, State<J>> {
    // Nothing in here panics half-way.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, PartialEq)]
    struct Numbered {
        number: usize,
        row: Option<String>,
    }

    impl Job for Numbered {
        fn row(&self) -> Option<&str> {
            self.row.as_deref()
        }

        fn weight(&self) -> usize {
            1 + self.number % 3
        }
    }

    proptest! {
        /// Any interleaving of submits and takes.
        #[test]
        fn every_job_is_taken_once_and_no_row_by_two_lanes(
            steps in prop::collection::vec((any::<bool>(), 0_usize..3, 0_usize..4), 1..120),
        ) {
            let lanes = Lanes::new(2);
            let mut running: Vec<(Lane<Numbered>, Vec<Numbered>)> = Vec::new();
            let (mut submitted, mut taken) = (0, Vec::new());
            for (submits, row, which) in steps {
                if submits {
                    let row = (row > 0).then(|| row.to_string());
                    let number = submitted;
                    submitted += 1;
                    let lane = lanes.submit(Numbered { number, row });
                    running.extend(lane.map(|lane| (lane, Vec::new())));
                    prop_assert!(!running.is_empty() && running.len() <= 2);
                } else if !running.is_empty() {
                    let at = which % running.len();
                    let jobs = running[at].0.take(4);
                    taken.extend(jobs.iter().map(|job| job.number));
                    if jobs.is_empty() {
                        running.remove(at);
                    } else {
                        running[at].1 = jobs;
                    }
                    let rows = running.iter().flat_map(|(_, jobs)| jobs.iter().filter_map(Job::row));
                    let mut rows: Vec<&str> = rows.collect();
                    rows.sort_unstable();
                    let all = rows.len();
                    rows.dedup();
                    prop_assert_eq!(all, rows.len());
                }
            }
            for (mut lane, _) in running {
                loop {
                    let jobs = lane.take(4);
                    if jobs.is_empty() {
                        break;
                    }
                    taken.extend(jobs.iter().map(|job| job.number));
                }
            }
            taken.sort_unstable();
            prop_assert_eq!(taken, (0..submitted).collect::<Vec<_>>());
        }
    }
}
