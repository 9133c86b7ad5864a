//! Questions about a read of the log, asked at its snapshot: what both backends share.
//!
//! Membership moves rows that have not changed themselves, so a read of the log alone does not say what it means. Its
//! reader asks what else must be known ([`Question`]), in the transaction of the read, and so at its snapshot. A question
//! that cannot be answered says so and harms nothing else.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use filter::Filter;
use serde_json::value::RawValue;
use sync_core::cursor::CommitId;
use sync_core::log::{ChangeKind, NetChange};
use sync_core::membership::{Answer, GroupQuestion, Inquiry, Question};
#[cfg(feature = "sqlite")]
use tokio_util::sync::CancellationToken;

use protocol::RowMetadata;

use super::collect::{CHUNK_BYTES, ITEMS_PER_CHUNK, read_metadata};
use super::{Fingerprints, Part, reason_in_place_of_row};
use crate::entity::Entity;
use crate::health::Health;
use crate::sets;

/// With more different values than this a set is not read.
pub const SET_VALUES_MAX: usize = 1_000_000;

/// The most bytes of JSON that an answer may have; with more it is [`Answer::TooMany`].
pub const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;

/// The most bytes of entries that are kept until all questions about them have been answered. Of a read with more, only
/// the entries that decide are kept.
pub const COLLECTED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How long the answers to the questions of one drain may take together. Meanwhile nobody receives anything.
pub(crate) const TIME_OF_DRAIN: QuestionTime = QuestionTime {
    each: Duration::from_secs(1),
    total: Duration::from_secs(1),
};

/// How long PostgreSQL may take for the answers of a group, on a connection that reads for a client.
#[cfg(feature = "postgres")]
pub(crate) const TIME_OF_GROUP: Duration = Duration::from_secs(1);

/// How long a question waits for a table that somebody has locked, in milliseconds.
#[cfg(feature = "postgres")]
pub(crate) const QUESTION_LOCK_MS_MAX: u32 = 500;

/// What an entry takes beside its texts, in bytes.
const ENTRY_BYTES: usize = 256;

/// How long the database may take for answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuestionTime {
    /// For each; with more it is [`Answer::TooLong`].
    pub each: Duration,
    /// For all of one inquiry, or of one backfill.
    pub total: Duration,
}

/// Questions that are asked at a drain's snapshot, but behind it: the drain does not wait for the answers, and neither do
/// the next ones. Dropping it says that the rest will not be answered.
pub struct Backfill {
    /// What is asked.
    pub questions: Vec<Question>,
    /// How long the answers may take. What there was no time for is not answered.
    pub time: QuestionTime,
    /// Takes the answers.
    pub answers: Box<dyn BackfillAnswers>,
}

impl fmt::Debug for Backfill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backfill")
            .field("questions", &self.questions.len())
            .field("time", &self.time)
            .finish_non_exhaustive()
    }
}

/// Takes the answers of a backfill.
pub trait BackfillAnswers: Send {
    /// Takes the answer to the question at this place.
    fn take(&mut self, index: usize, answer: Answer);
}

/// What is asked behind a read.
#[cfg(feature = "sqlite")]
pub(crate) struct BehindRead {
    /// Begins it, if there is something.
    pub(crate) begin: Box<dyn FnOnce() -> Option<Backfill> + Send>,
    /// Ends it early.
    pub(crate) shutdown: CancellationToken,
}

/// Questions that belong to a read of the log.
pub struct Inquiring {
    /// The entities whose entries decide what is asked. They are read before all others.
    pub deciding: BTreeSet<String>,
    /// Asks.
    pub inquiry: Box<dyn Inquiry>,
    /// How long the answers may take.
    pub time: QuestionTime,
    /// What is asked behind the read, on SQLite.
    #[cfg(feature = "sqlite")]
    pub(crate) backfill: Option<BehindRead>,
}

impl Inquiring {
    /// Questions about the entries of these entities, whose answers may take so long.
    pub fn new(deciding: BTreeSet<String>, inquiry: Box<dyn Inquiry>, time: QuestionTime) -> Self {
        Self {
            deciding,
            inquiry,
            time,
            #[cfg(feature = "sqlite")]
            backfill: None,
        }
    }
}

impl fmt::Debug for Inquiring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inquiring")
            .field("deciding", &self.deciding)
            .finish_non_exhaustive()
    }
}

/// Entries of a read that are kept until its questions have been answered.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    pub(crate) entries: Vec<NetChange>,
    bytes: usize,
}

impl Collected {
    /// Takes more entries. Returns whether they still fit; when they do not, all are forgotten.
    pub(crate) fn take(&mut self, entries: Vec<NetChange>) -> bool {
        self.bytes += entries.iter().map(bytes).sum::<usize>();
        if self.bytes > COLLECTED_BYTES_MAX {
            self.entries = Vec::new();
            return false;
        }
        self.entries.extend(entries);
        true
    }
}

fn bytes(entry: &NetChange) -> usize {
    let row = entry.row.as_ref().map_or(0, |row| row.get().len());
    let undo = entry.undo.iter().flatten();
    let undo: usize = undo
        .map(|record| record.old.as_ref().map_or(0, |old| old.get().len()))
        .sum();
    ENTRY_BYTES + row + undo + entry.key.as_ref().map_or(0, String::len)
}

/// What stands for the entries of these entities where they are too many to be kept: that they are not known.
pub(crate) fn unread<'a>(
    entities: impl Iterator<Item = &'a String>,
    commit_id: CommitId,
) -> Vec<NetChange> {
    let unread = |entity: &String| NetChange {
        id: 0,
        commit_id,
        entity: entity.clone(),
        key: None,
        kind: ChangeKind::Unread,
        created: 0,
        deleted: 0,
        truncated_at: None,
        mutation_id: None,
        row: None,
        metadata: None,
        undo: None,
    };
    entities.map(unread).collect()
}

/// The entities of a question, that of its rows first.
///
/// # Errors
/// The name of one whose table is missing, or is not the one that the question was made for.
pub(crate) fn entities_of(
    question: &Question,
    entities: &BTreeMap<String, Arc<Entity>>,
) -> Result<Vec<Arc<Entity>>, String> {
    let own = match question {
        Question::Set(set) | Question::Window { set, .. } => sets::entity_of(set, entities),
        Question::Group(GroupQuestion { group, .. }) => {
            let own = entities.get(group.plan().entity());
            own.filter(|entity| *entity.fingerprint == *group.plan().fingerprint)
        }
        Question::Rows { entity, .. } | Question::Fields { entity, .. } => {
            let own = entities.get(&**entity);
            own.filter(|entity| entity.relation.is_some())
        }
    };
    let mut all = vec![own.ok_or_else(|| subject(question))?.clone()];
    if let Some(filter) = filter_of(question) {
        all.extend(sets::entities_of(filter, entities)?);
    }
    Ok(all)
}

/// The filter of the rows that a question is about; none when it is about a group.
pub(crate) fn filter_of(question: &Question) -> Option<&Filter> {
    match question {
        Question::Set(set) | Question::Window { set, .. } => Some(&set.rows().filter),
        Question::Rows { filter, .. } | Question::Fields { filter, .. } => Some(filter),
        Question::Group(_) => None,
    }
}

/// Whether these tables are at the read's snapshot as they are known.
pub(crate) fn are_known(entities: &[Arc<Entity>], found: &Fingerprints) -> bool {
    entities
        .iter()
        .all(|entity| found.get(&entity.schema.entity) == Some(&entity.fingerprint))
}

/// The end of the statement that answers a question: in which order, and how many lines.
pub(crate) fn end(question: &Question, entity: &Entity) -> String {
    if let Question::Window { set, rows } = question {
        let window = set.rows().window.iter();
        return window
            .map(|window| sets::first_rows(entity, window, *rows))
            .collect();
    }
    let limit = AnswerCollector::limit(question);
    limit.map_or_else(String::new, |limit| format!(" LIMIT {limit}"))
}

/// One line of the answer to a question: of a set, a value with the number of its rows; otherwise a row with its key.
#[derive(Debug)]
pub(crate) struct AnswerLine {
    pub(crate) key: Option<String>,
    pub(crate) row: Option<String>,
    pub(crate) count: Option<i64>,
    pub(crate) metadata: Option<String>,
}

/// Collects the lines of an answer.
pub(crate) struct AnswerCollector<'a> {
    question: &'a Question,
    health: &'a Health,
    lines: usize,
    bytes: usize,
    values: Vec<(Box<RawValue>, u64)>,
    rows: Vec<(String, Box<RawValue>)>,
    metadata: Vec<RowMetadata>,
}

impl<'a> AnswerCollector<'a> {
    pub(crate) fn new(question: &'a Question, health: &'a Health) -> Self {
        Self {
            question,
            health,
            lines: 0,
            bytes: 0,
            values: Vec::new(),
            rows: Vec::new(),
            metadata: Vec::new(),
        }
    }

    /// How many lines are read at most, one more than an answer may have; none for any number.
    fn limit(question: &Question) -> Option<usize> {
        Self::lines_max(question).checked_add(1)
    }

    fn lines_max(question: &Question) -> usize {
        match question {
            Question::Set(_) | Question::Group(_) => SET_VALUES_MAX,
            Question::Window { rows, .. } => *rows,
            Question::Rows { rows_max, .. } | Question::Fields { rows_max, .. } => *rows_max,
        }
    }

    /// Takes a line. Returns the answer if it is clear already.
    pub(crate) fn take(&mut self, line: AnswerLine) -> Option<Answer> {
        self.lines += 1;
        let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        self.bytes += length(&line.row) + length(&line.metadata);
        if self.lines > Self::lines_max(self.question) || self.bytes > ANSWER_BYTES_MAX {
            return Some(Answer::TooMany);
        }
        let row = line.row.ok_or(None);
        let row = row.and_then(|row| match reason_in_place_of_row(&row) {
            Some(reason) => Err(Some(reason)),
            None => RawValue::from_string(row).map_err(|_| None),
        });
        match (self.question, row, line.key) {
            (Question::Set(_), Ok(value), _) => {
                let count = line.count.and_then(|count| u64::try_from(count).ok());
                self.values.push((value, count.unwrap_or_default()));
            }
            (Question::Rows { .. } | Question::Window { .. }, Ok(row), Some(key)) => {
                self.rows.push((key, row));
            }
            (Question::Fields { entity, .. }, Ok(row), Some(key)) => {
                let kept = line.metadata.as_deref().unwrap_or("{}");
                self.metadata.push(read_metadata(kept, entity));
                self.rows.push((key, row));
            }
            (Question::Set(_) | Question::Window { .. }, _, _) => {
                return Some(Answer::Unknown);
            }
            // As for a first read, a row that cannot be read does not exist.
            (
                Question::Rows { entity, .. } | Question::Fields { entity, .. },
                Err(Some(reason)),
                Some(key),
            ) => {
                self.health.row_unreadable(entity, &key, reason);
            }
            (Question::Rows { .. } | Question::Fields { .. } | Question::Group(_), _, _) => {}
        }
        None
    }

    /// The answer, after the last line.
    pub(crate) fn finish(self) -> Answer {
        match self.question {
            Question::Set(_) => Answer::Set(self.values),
            Question::Window { .. } => Answer::Window(self.rows),
            Question::Rows { .. } => Answer::Rows(self.rows),
            Question::Fields { .. } => {
                let rows = self.rows.into_iter().zip(self.metadata);
                let rows = rows.map(|((key, row), metadata)| (key, row, Box::new(metadata)));
                Answer::Fields(rows.collect())
            }
            Question::Group(_) => Answer::Unknown,
        }
    }
}

/// The rows that moved without having changed themselves.
#[derive(Debug, Default)]
pub(crate) struct Moved {
    /// Which they are, by entity.
    rows: BTreeMap<String, Filter>,
    /// The keys of rows of these entities that have changed, and so come with the log.
    changed: BTreeMap<String, HashSet<String>>,
    /// The id of the newest entry of the log.
    newest: i64,
}

impl Moved {
    /// The rows that match one of these filters.
    pub(crate) fn new(touched: Vec<(String, Filter)>) -> Self {
        let mut rows = BTreeMap::new();
        for (entity, filter) in touched {
            let filter = match rows.remove(&entity) {
                Some(other) => filter.or(other),
                None => filter,
            };
            rows.insert(entity, filter);
        }
        Self {
            rows,
            ..Self::default()
        }
    }

    /// Notes what comes with the log.
    pub(crate) fn pass(&mut self, part: &Part<NetChange>) {
        let Part::Items(entries) = part else { return };
        for entry in entries {
            self.newest = self.newest.max(entry.id);
            if let Some(key) = &entry.key
                && self.rows.contains_key(&entry.entity)
            {
                let changed = self.changed.entry(entry.entity.clone()).or_default();
                changed.insert(key.clone());
            }
        }
    }

    /// A question for the rows of each entity, with what is known of those of some beside their values.
    pub(crate) fn questions(&self, with_metadata: &BTreeSet<String>) -> Vec<Question> {
        let rows = self.rows.iter();
        rows.map(|(name, filter)| {
            let (entity, filter) = (name.as_str().into(), filter.clone());
            let rows_max = usize::MAX;
            match with_metadata.contains(name) {
                true => Question::Fields {
                    entity,
                    filter,
                    rows_max,
                },
                false => Question::Rows {
                    entity,
                    filter,
                    rows_max,
                },
            }
        })
        .collect()
    }

    /// Collects the rows of an entity as changes.
    pub(crate) fn collector<'a>(
        &'a self,
        entity: &'a str,
        commit_id: CommitId,
        health: &'a Health,
    ) -> MovedCollector<'a> {
        MovedCollector {
            moved: self,
            changed: self.changed.get(entity),
            entity,
            commit_id,
            health,
            kept: Collected::default(),
        }
    }
}

/// Collects moved rows into parts of a read of changes.
pub(crate) struct MovedCollector<'a> {
    moved: &'a Moved,
    changed: Option<&'a HashSet<String>>,
    entity: &'a str,
    commit_id: CommitId,
    health: &'a Health,
    kept: Collected,
}

impl MovedCollector<'_> {
    /// Takes a row. Returns the part that it completes.
    pub(crate) fn take(&mut self, line: AnswerLine) -> Option<Part<NetChange>> {
        let (Some(key), Some(row)) = (line.key, line.row) else {
            return None;
        };
        if self.changed.is_some_and(|changed| changed.contains(&key)) {
            return None;
        }
        if let Some(reason) = reason_in_place_of_row(&row) {
            self.health.row_unreadable(self.entity, &key, reason);
            return None;
        }
        self.kept.take(vec![NetChange {
            id: self.moved.newest,
            commit_id: self.commit_id,
            entity: self.entity.to_owned(),
            key: Some(key),
            kind: ChangeKind::Touched,
            created: 0,
            deleted: 0,
            truncated_at: None,
            mutation_id: None,
            row: RawValue::from_string(row).ok(),
            metadata: line
                .metadata
                .map(|kept| Box::new(read_metadata(&kept, self.entity))),
            undo: Some(Vec::new()),
        }]);
        let is_full = self.kept.entries.len() >= ITEMS_PER_CHUNK || self.kept.bytes >= CHUNK_BYTES;
        if is_full { self.finish() } else { None }
    }

    /// The last part, unless it is empty.
    pub(crate) fn finish(&mut self) -> Option<Part<NetChange>> {
        let kept = std::mem::take(&mut self.kept);
        (!kept.entries.is_empty()).then_some(Part::Items(kept.entries))
    }
}

/// The entity that a question is about, for a log.
pub(crate) fn subject(question: &Question) -> &str {
    match question {
        Question::Set(set) | Question::Window { set, .. } => set.entity(),
        Question::Group(question) => question.group.plan().entity(),
        Question::Rows { entity, .. } | Question::Fields { entity, .. } => entity,
    }
}
