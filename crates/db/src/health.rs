//! What cannot be read at the moment: whole entities, and single rows.
//!
//! A drain, a resume or a first read is one statement, so one table that fails would make all of it fail. The
//! listener leaves such an entity out, and says so here. When reading fails because of single rows, the entity
//! is *guarded*: from then on each of its rows is read by itself, and those that fail are listed here and are
//! not there for clients. Everything is tried again, with growing pauses, until it can be read.
//!
//! The normal path pays nothing: while nothing is wrong, each question here is one atomic load.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

/// The number of rows of one entity that may be unreadable at once; with more, all of it is unreadable.
pub const UNREADABLE_ROWS_MAX: usize = 1000;

/// The size of a row's JSON in bytes beyond which the row is unreadable: 16 MiB. A row exists several times
/// while it is written to clients, and they have to hold it.
pub const ROW_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The first and the longest pause between two attempts to read what could not be read.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LONGEST: Duration = Duration::from_secs(600);

/// Why an entity or a row cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Unreadable {
    /// Another transaction holds an exclusive lock on the table.
    Locked,
    /// The engine's role lacks a right on the table.
    Denied,
    /// There is no such table.
    Missing,
    /// The table's changes cannot be captured.
    NotCaptured,
    /// The row's JSON is larger than [`ROW_BYTES_MAX`].
    TooLarge,
    /// Reading it fails.
    Failing,
}

impl Unreadable {
    /// The reason's word in `status` and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Locked => "locked",
            Self::Denied => "denied",
            Self::Missing => "missing",
            Self::NotCaptured => "not_captured",
            Self::TooLarge => "too_large",
            Self::Failing => "failing",
        }
    }

    /// The reason that stands for a database's message. Diesel does not pass SQLSTATE on.
    pub(crate) fn of_message(message: &str) -> Self {
        if message.contains("permission denied") || message.contains("must be owner") {
            Self::Denied
        } else {
            Self::Failing
        }
    }
}

/// One entity that cannot be read, in whole or in part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The entity.
    pub entity: String,
    /// Why the whole entity cannot be read; none when only some rows cannot.
    pub reason: Option<Unreadable>,
    /// The number of rows that cannot be read.
    pub rows: usize,
}

/// The state of all entities.
#[derive(Debug, Default)]
pub struct Health {
    entities: Mutex<BTreeMap<String, State>>,
    /// The number of entities in the map.
    ill: AtomicU64,
    /// Grows with each change of which entities are guarded.
    version: AtomicU64,
}

/// The state of one entity of which something is wrong.
#[derive(Debug, Default)]
struct State {
    /// Why drains leave it out.
    left_out: Option<Unreadable>,
    /// Why its table could not be looked at, or captured.
    not_captured: Option<Unreadable>,
    /// Each of its rows is read by itself.
    guarded: bool,
    rows: BTreeMap<String, Unreadable>,
    checks: u32,
    check_at: Option<Instant>,
}

impl State {
    fn is_well(&self) -> bool {
        self.left_out.is_none()
            && self.not_captured.is_none()
            && !self.guarded
            && self.rows.is_empty()
    }

    fn check_later(&mut self) {
        self.check_at = Some(Instant::now() + pause(self.checks));
        self.checks += 1;
    }
}

/// The pause after this many attempts.
pub(crate) fn pause(attempts: u32) -> Duration {
    (RETRY_FIRST * 2_u32.pow(attempts.min(10))).min(RETRY_LONGEST)
}

impl Health {
    fn entities(&self) -> MutexGuard<'_, BTreeMap<String, State>> {
        self.entities.lock().expect("no panic holds this lock")
    }

    fn is_all_well(&self) -> bool {
        self.ill.load(Ordering::Acquire) == 0
    }

    /// Changes an entity's state, and forgets it when it is well.
    fn change<T>(&self, entity: &str, change: impl FnOnce(&mut State) -> T) -> T {
        let mut entities = self.entities();
        let state = entities.entry(entity.to_owned()).or_default();
        let guarded = state.guarded;
        let result = change(state);
        let changed = state.guarded != guarded;
        if state.is_well() {
            entities.remove(entity);
        }
        self.ill.store(entities.len() as u64, Ordering::Release);
        if changed {
            self.version.fetch_add(1, Ordering::AcqRel);
        }
        result
    }

    /// Everything that cannot be read.
    pub fn report(&self) -> Vec<Report> {
        let entities = self.entities();
        let reports = entities.iter().map(|(entity, state)| Report {
            entity: entity.clone(),
            reason: state.left_out.or(state.not_captured),
            rows: state.rows.len(),
        });
        reports
            .filter(|report| report.reason.is_some() || report.rows > 0)
            .collect()
    }

    /// Notes why drains leave the entity out.
    #[cfg(feature = "postgres")]
    pub(crate) fn leave_out(&self, entity: &str, reason: Unreadable) {
        let before = self.change(entity, |state| state.left_out.replace(reason));
        if before == Some(reason) {
            return;
        }
        if reason == Unreadable::Locked {
            info!(entity, "the table is locked; its changes wait");
        } else {
            error!(
                entity,
                reason = reason.as_str(),
                "the table cannot be read; its clients wait until it can"
            );
        }
    }

    /// Notes that drains read the entity again.
    #[cfg(feature = "postgres")]
    pub(crate) fn take_in(&self, entity: &str) {
        if !self.is_all_well() && self.change(entity, |state| state.left_out.take()).is_some() {
            info!(entity, "the table can be read again");
        }
    }

    /// Notes that drains read all entities, until one of them cannot be read.
    #[cfg(feature = "postgres")]
    pub(crate) fn take_all_in(&self) {
        if self.is_all_well() {
            return;
        }
        let left_out: Vec<String> = self
            .entities()
            .iter()
            .filter(|(_, state)| state.left_out.is_some())
            .map(|(entity, _)| entity.clone())
            .collect();
        for entity in left_out {
            self.take_in(&entity);
        }
    }

    /// Notes why the entity's table could not be looked at or captured; none when it could.
    pub fn captured(&self, entity: &str, reason: Option<Unreadable>) {
        if reason.is_none() && self.is_all_well() {
            return;
        }
        self.change(entity, |state| state.not_captured = reason);
    }

    /// Why the entity's table could not be captured, if it could not.
    pub fn not_captured(&self, entity: &str) -> Option<Unreadable> {
        if self.is_all_well() {
            return None;
        }
        self.entities().get(entity)?.not_captured
    }

    /// Whether each of the entity's rows is read by itself.
    pub(crate) fn is_guarded(&self, entity: &str) -> bool {
        !self.is_all_well()
            && self
                .entities()
                .get(entity)
                .is_some_and(|state| state.guarded)
    }

    /// A number that changes with the set of guarded entities.
    #[cfg(feature = "postgres")]
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// From now on reads each of the entity's rows by itself. Returns whether that is new.
    pub(crate) fn guard(&self, entity: &str) -> bool {
        let is_new = self.change(entity, |state| {
            if state.guarded {
                return false;
            }
            state.guarded = true;
            state.checks = 0;
            state.check_later();
            true
        });
        if is_new {
            warn!(
                entity,
                "reading the table failed; its rows are read one by one"
            );
        }
        is_new
    }

    /// Notes that a row cannot be read, and returns whether too many of the entity's rows cannot.
    pub(crate) fn row_unreadable(&self, entity: &str, key: &str, reason: Unreadable) -> bool {
        let (is_new, too_many) = self.change(entity, |state| {
            let too_many = state.rows.len() >= UNREADABLE_ROWS_MAX;
            if too_many && !state.rows.contains_key(key) {
                return (false, true);
            }
            let is_new = state.rows.insert(key.to_owned(), reason).is_none();
            if is_new {
                state.checks = 0;
                state.check_later();
            }
            (is_new, false)
        });
        if is_new {
            error!(
                entity,
                key,
                reason = reason.as_str(),
                "a row cannot be read; for clients it is not there until it can"
            );
        }
        too_many
    }

    /// Notes that a row was read. If it could not be before, it is tried again at once, and then everyone is told to
    /// refetch: clients have been told that it is not there, and those who do not look at what has changed in it
    /// would not learn that it is.
    pub(crate) fn row_readable(&self, entity: &str, key: &str) {
        if self.knows_row(entity, key) {
            self.change(entity, |state| state.check_at = Some(Instant::now()));
        }
    }

    /// Notes that there is no such row any more.
    pub(crate) fn row_gone(&self, entity: &str, key: &str) {
        if self.knows_row(entity, key) {
            self.change(entity, |state| state.rows.remove(key));
            info!(entity, key, "a row that could not be read is gone");
        }
    }

    fn knows_row(&self, entity: &str, key: &str) -> bool {
        let is_known = |state: &State| state.rows.contains_key(key);
        !self.is_all_well() && self.entities().get(entity).is_some_and(is_known)
    }

    /// Tries the entity's rows again soon: its table may have changed in ways that the log does not tell.
    pub(crate) fn check_soon(&self, entity: &str) {
        if !self.is_all_well() && self.entities().contains_key(entity) {
            self.change(entity, |state| {
                state.checks = 0;
                state.check_later();
            });
        }
    }

    /// Forgets which rows cannot be read, because the table is another one now.
    pub fn forget_rows(&self, entity: &str) {
        if !self.is_all_well() && self.entities().contains_key(entity) {
            self.change(entity, |state| state.rows.clear());
        }
    }

    /// The entities of which single rows could not be read, and of which it is time to try them again.
    pub fn due(&self) -> Vec<(String, Vec<String>)> {
        if self.is_all_well() {
            return Vec::new();
        }
        let now = Instant::now();
        let mut due = Vec::new();
        for (entity, state) in &mut *self.entities() {
            let is_due = state.check_at.is_some_and(|at| at <= now);
            if is_due && (state.guarded || !state.rows.is_empty()) {
                state.check_later();
                due.push((entity.clone(), state.rows.keys().cloned().collect()));
            }
        }
        due
    }

    /// Takes the result of trying rows again: those that can be read now. When none is left that cannot, the
    /// entity is read as usual again.
    pub fn checked(&self, entity: &str, readable: &[String]) {
        self.change(entity, |state| {
            for key in readable {
                state.rows.remove(key);
            }
            let failing = |reason: &Unreadable| *reason != Unreadable::TooLarge;
            state.guarded = state.rows.values().any(failing);
        });
        if !readable.is_empty() {
            info!(entity, rows = readable.len(), "rows can be read again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entity_is_reported_until_it_can_be_read() {
        let health = Health::default();
        assert_eq!(health.report(), []);
        health.leave_out("a", Unreadable::Denied);
        let report = Report {
            entity: "a".to_owned(),
            reason: Some(Unreadable::Denied),
            rows: 0,
        };
        assert_eq!(health.report(), [report]);
        health.take_in("a");
        assert_eq!(health.report(), []);
        assert!(health.is_all_well());
        health.leave_out("a", Unreadable::Failing);
        health.row_unreadable("b", "1", Unreadable::TooLarge);
        health.take_all_in();
        assert_eq!(health.report().len(), 1);
        assert_eq!(health.report()[0].entity, "b");
    }

    #[test]
    fn an_entity_is_guarded_as_long_as_a_row_of_it_fails() {
        let health = Health::default();
        assert!(health.guard("a") && !health.guard("a"));
        assert!(health.report().is_empty());
        health.row_unreadable("a", "1", Unreadable::Failing);
        health.row_unreadable("a", "2", Unreadable::TooLarge);
        health.checked("a", &[]);
        assert!(health.is_guarded("a"));
        health.checked("a", &["1".to_owned()]);
        assert!(!health.is_guarded("a"));
        assert_eq!(health.report()[0].rows, 1);
        health.row_gone("a", "2");
        assert!(health.is_all_well());
    }

    #[test]
    fn a_row_that_was_read_stays_listed_until_everyone_can_be_told() {
        let health = Health::default();
        health.row_unreadable("a", "1", Unreadable::TooLarge);
        assert_eq!(health.due(), []);
        health.row_readable("a", "1");
        assert_eq!(health.due(), [("a".to_owned(), vec!["1".to_owned()])]);
        health.checked("a", &["1".to_owned()]);
        assert!(health.is_all_well());
    }

    #[test]
    fn a_bounded_number_of_rows_is_listed() {
        let health = Health::default();
        for key in 0..UNREADABLE_ROWS_MAX {
            assert!(!health.row_unreadable("a", &key.to_string(), Unreadable::Failing));
        }
        assert!(health.row_unreadable("a", "one more", Unreadable::Failing));
        assert_eq!(health.report()[0].rows, UNREADABLE_ROWS_MAX);
    }

    #[test]
    fn pauses_grow_to_their_longest() {
        assert_eq!(pause(0), RETRY_FIRST);
        assert_eq!(pause(3), RETRY_FIRST * 8);
        assert_eq!(pause(1000), RETRY_LONGEST);
    }
}
