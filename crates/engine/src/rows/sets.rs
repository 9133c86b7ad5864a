//! The sets that shapes name: what they are at the hub's position, and which rows a drain moves because of them.
//!
//! A drain that may change sets is asked about in rounds, at its own snapshot. First come the sets themselves
//! ([`LiveSets`]), then the rows of shapes that the changed sets have moved in or out, which did not change themselves.
//! Those are published with the drain's own changes, so at one position.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use db::read::OldValueColumns;
use filter::{Filter, Scalar, Set, SetsAtBoth};
use protocol::RowMetadata;
use serde_json::value::RawValue;
use sync_core::cursor::{CommitId, Position};
use sync_core::log::{ChangeKind, NetChange};
use sync_core::membership::{
    Answer, Backfill, Denials, Family, Lately, LiveSets, Question, SetFailure, SetView,
};
use sync_core::shape::Shape;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::windows::{MOVED_ROWS_MAX, MovedByFilter, MovedWindows, QUESTIONS_MAX};

/// The most rows that one drain publishes because sets moved them.
const MOVED_ROWS_TOTAL_MAX: usize = 4000;
/// So many shapes with changed sets are looked at one after another.
const FEW_CHANGED: usize = 8;

/// How long after sets could not be read they are asked for again: a question that fails may have taken long, and meanwhile
/// nobody receives anything.
const FAILED_SETS_PAUSE: Duration = Duration::from_secs(10);

/// The sets of all attached shapes.
#[derive(Debug, Default)]
pub(super) struct ShapeSets {
    live: LiveSets,
    /// The shapes that depend on each set.
    shapes: HashMap<Set, HashSet<Shape>>,
    round: Option<Round>,
    /// Who waits for each set to be known, or to have failed.
    waiting: HashMap<Set, Vec<oneshot::Sender<()>>>,
    old_value_columns: Merged,
    /// When the sets that could not be read were asked for again.
    failed_asked_at: Option<Instant>,
}

/// What the drain under way means for shapes.
#[derive(Debug)]
struct Round {
    position: Arc<Position>,
    /// Whether the sets are known by now, so that rows are asked for.
    of_rows: bool,
    asked: Vec<(Box<str>, Vec<Shape>)>,
    /// The rows that were moved, by entity and key, without those that the drain itself has changed.
    moved: BTreeMap<Box<str>, HashMap<String, Moved>>,
    /// Shapes with changed sets.
    changed: HashSet<Shape>,
    /// Shapes of which too many rows were moved.
    over: HashSet<Shape>,
}

/// The columns whose previous values the index and the sets look at.
#[derive(Debug, Default)]
struct Merged {
    of_index: Arc<OldValueColumns>,
    /// Of the columns of the sets.
    version: u64,
    /// None when either has changed.
    merged: Option<Arc<OldValueColumns>>,
}

/// The sets as a batch is evaluated with them.
#[derive(Debug)]
pub(super) struct SetContext<'a> {
    live: &'a LiveSets,
    before: SetView<'a>,
    now: SetView<'a>,
    changed: Option<&'a HashSet<Shape>>,
}

impl SetContext<'static> {
    /// No set is known.
    pub(super) fn unknown() -> Self {
        static NONE: LazyLock<LiveSets> = LazyLock::new(LiveSets::default);
        let (before, now) = NONE.views();
        Self {
            live: &NONE,
            before,
            now,
            changed: None,
        }
    }
}

impl SetContext<'_> {
    /// Before the drain and after it.
    pub(super) fn at_both(&self) -> SetsAtBoth<'_> {
        SetsAtBoth {
            before: &self.before,
            now: &self.now,
        }
    }

    /// The sets of a family that hold these values, or did before the drain.
    pub(super) fn holders(
        &self,
        family: &Family,
        values: &[&Scalar],
    ) -> impl Iterator<Item = &Set> {
        self.live.holders(family, values)
    }

    /// The keys of the rows of a shape's window in their order after the drain, where their values do not tell it.
    pub(super) fn order(&self, shape: &Shape) -> Option<Vec<&str>> {
        let set = shape.selection()?.filter().window()?;
        self.live.order(set)
    }

    /// The shapes whose sets have changed in the drain, when they are so few that it is cheaper to look at each of them than
    /// to find those that a row concerns.
    pub(super) fn few_changed(&self) -> Option<&HashSet<Shape>> {
        self.changed.filter(|changed| changed.len() <= FEW_CHANGED)
    }

    /// Whether the sets of a shape have changed in the drain.
    pub(super) fn has_changed(&self, shape: &Shape) -> bool {
        self.changed.is_some_and(|changed| changed.contains(shape))
    }
}

impl ShapeSets {
    /// No sets. Together they may hold so many values when another is added.
    pub(super) fn with_values_max(values_max: usize) -> Self {
        Self {
            live: LiveSets::with_values_max(values_max),
            ..Self::default()
        }
    }

    /// Adds a shape.
    pub(super) fn attach(&mut self, shape: &Shape) {
        for set in shape.all_sets() {
            self.shapes.entry(set).or_default().insert(shape.clone());
        }
        let filter = shape.selection().map(|selection| selection.filter());
        for set in filter.into_iter().flat_map(Filter::sets) {
            self.live.want(set);
        }
    }

    /// Removes a shape.
    pub(super) fn detach(&mut self, shape: &Shape) {
        for set in shape.all_sets() {
            if let Some(shapes) = self.shapes.get_mut(&set) {
                shapes.remove(shape);
                if shapes.is_empty() {
                    self.shapes.remove(&set);
                    self.waiting.remove(&set);
                }
            }
        }
        let filter = shape.selection().map(|selection| selection.filter());
        for set in filter.into_iter().flat_map(Filter::sets) {
            self.live.release(set);
        }
    }

    /// Whether no shape names a set.
    pub(super) fn is_unused(&self) -> bool {
        self.live.is_unused()
    }

    /// Whether the sets of an attached shape are known.
    ///
    /// # Errors
    /// When one was asked for and could not be read.
    pub(super) fn are_known(&self, shape: &Shape) -> Result<bool, SetFailure> {
        let wanted = |set: &Set| self.shapes.contains_key(set);
        let unknown = |set: &Set| wanted(set) && !self.live.is_known(set);
        let unknown: Vec<Set> = shape.all_sets().filter(unknown).collect();
        match unknown.iter().find_map(|set| self.live.failure(set)) {
            Some(failure) => Err(failure),
            None => Ok(unknown.is_empty()),
        }
    }

    /// How a set that the database is asked for has changed since a position.
    pub(super) fn lately(&self, set: &Set, position: &Position) -> Option<Lately> {
        self.live.lately(set, position)
    }

    /// Has the next drain ask those again whose answers change as time passes, and if `failed` those of which something
    /// failed. Returns whether there are any.
    pub(super) fn ask_groups_again(&mut self, failed: bool) -> bool {
        self.live.ask_groups_again(failed)
    }

    /// The groups of a shape's sets that see nothing, because the database could not be asked for them.
    pub(super) fn denials(&self, shape: &Shape) -> Denials {
        let sets: Vec<Set> = shape.all_sets().collect();
        self.live.denials(sets.iter())
    }

    /// Returns when what [`ShapeSets::are_known`] says of a shape may have changed; none when all its sets are known.
    pub(super) fn wait(&mut self, shape: &Shape) -> Option<oneshot::Receiver<()>> {
        let is_awaited = |set: &Set| self.shapes.contains_key(set) && !self.live.is_known(set);
        let set = shape.all_sets().find(is_awaited)?;
        let (sender, known) = oneshot::channel();
        let waiting = self.waiting.entry(set).or_default();
        waiting.retain(|sender| !sender.is_closed());
        waiting.push(sender);
        Some(known)
    }

    /// Tells those who wait for sets.
    fn tell(&mut self) {
        for set in self.live.take_settled() {
            // Dropping the senders tells them.
            self.waiting.remove(&set);
        }
    }

    /// Whether something would be asked with the next drain, even if the log had nothing new.
    pub(super) fn is_asking(&self) -> bool {
        self.live.is_asking()
    }

    /// What is to be asked behind the drain whose questions have been answered.
    pub(super) fn begin_backfill(&mut self) -> Option<Backfill> {
        self.round.as_ref()?;
        self.live.begin_backfill()
    }

    /// Takes an answer of a backfill.
    pub(super) fn backfilled(&mut self, ticket: u64, index: usize, answer: Answer) {
        self.live.backfilled(ticket, index, answer);
        self.tell();
    }

    /// Ends a backfill. Returns whether another one can begin.
    pub(super) fn end_backfill(&mut self, ticket: u64) -> bool {
        self.live.end_backfill(ticket);
        self.is_asking()
    }

    /// How many sets are known, and how many values they hold together.
    pub(super) fn size(&self) -> (usize, usize) {
        self.live.size()
    }

    /// The entities whose rows make the sets.
    pub(super) fn deciding(&self) -> BTreeSet<String> {
        self.live.entities().map(str::to_owned).collect()
    }

    /// The columns whose previous values filters and sets look at.
    pub(super) fn old_value_columns(
        &mut self,
        of_index: Arc<OldValueColumns>,
    ) -> Arc<OldValueColumns> {
        if self.live.is_unused() {
            return of_index;
        }
        let columns = &mut self.old_value_columns;
        let version = self.live.columns_version();
        if columns.version != version || !Arc::ptr_eq(&columns.of_index, &of_index) {
            columns.version = version;
            columns.of_index = of_index.clone();
            columns.merged = None;
        }
        let merge = || {
            let mut merged = (*of_index).clone();
            for (entity, name) in self.live.columns() {
                let names = merged.entry(entity.to_owned()).or_default();
                names.insert(name.to_owned());
            }
            Arc::new(merged)
        };
        columns.merged.get_or_insert_with(merge).clone()
    }

    /// Takes the entries of a drain up to `position`, which `advances` beyond the last one or does not. Returns the first
    /// questions.
    pub(super) fn begin(
        &mut self,
        position: &Arc<Position>,
        entries: &[NetChange],
        advances: bool,
    ) -> Vec<Question> {
        self.round = Some(Round {
            position: position.clone(),
            of_rows: false,
            asked: Vec::new(),
            moved: BTreeMap::new(),
            changed: HashSet::new(),
            over: HashSet::new(),
        });
        let is_due = |asked: Instant| asked.elapsed() >= FAILED_SETS_PAUSE;
        if self.failed_asked_at.is_none_or(is_due) {
            self.failed_asked_at = Some(Instant::now());
            self.live.ask_failed_again();
        }
        let questions = self.live.begin(entries, advances);
        if questions.is_empty() {
            return self.ask_for_rows();
        }
        questions
    }

    /// Takes the answers. Returns the next questions; none when all is known.
    pub(super) fn answer(&mut self, answers: Vec<Answer>) -> Vec<Question> {
        let Some(round) = &mut self.round else {
            return Vec::new();
        };
        if round.of_rows {
            round.take_rows(answers);
            return Vec::new();
        }
        let of_groups = answers.iter().filter_map(|answer| match answer {
            Answer::Group(answer) => Some(answer),
            _ => None,
        });
        let (asked, failed) = of_groups.fold((0, 0), |(asked, failed), answer| {
            (asked + 1, failed + u64::from(answer.has_failed))
        });
        metrics::counter!("rhtmx_sync_policy_questions_total").increment(asked);
        metrics::counter!("rhtmx_sync_policy_failures_total").increment(failed);
        let questions = self.live.answer(answers);
        if questions.is_empty() {
            return self.ask_for_rows();
        }
        questions
    }

    /// Asks for the rows that changed sets have moved.
    fn ask_for_rows(&mut self) -> Vec<Question> {
        let Some(round) = &mut self.round else {
            return Vec::new();
        };
        round.of_rows = true;
        let shapes = self.live.changed().filter_map(|set| self.shapes.get(set));
        let shapes: HashSet<&Shape> = shapes.flatten().collect();
        round.changed.reserve(shapes.len());
        let mut windows = MovedWindows::default();
        let mut asked = MovedByFilter::default();
        for shape in shapes {
            let Some(selection) = shape.selection() else {
                continue;
            };
            let Some(filter) = selection.filter().touched(&|set| self.live.change(set)) else {
                continue;
            };
            round.changed.insert(shape.clone());
            if let Some(set) = selection.filter().window() {
                let change = self.live.change(set).into_iter();
                change.for_each(|change| windows.add(shape, selection, change));
            } else if !asked.add(shape, filter) {
                round.over.insert(shape.clone());
            }
        }
        let mut questions = Vec::new();
        for (entity, filter, shapes) in windows.into_questions() {
            if questions.len() == QUESTIONS_MAX {
                round.over.extend(shapes);
                continue;
            }
            let of_entity = entity.clone();
            questions.push(question(entity, filter, &shapes));
            round.asked.push((of_entity, shapes));
        }
        for (entity, filter, shapes) in asked.into_questions() {
            let of_entity = entity.clone();
            questions.push(question(entity, filter, &shapes));
            round.asked.push((of_entity, shapes));
        }
        questions
    }

    /// The sets for a batch of a drain up to `position`. None when the drain has not been asked about, though it had to
    /// be.
    pub(super) fn context(&self, position: &Position) -> Option<SetContext<'_>> {
        let round = self.round_of(position);
        if round.is_none() && !self.live.is_unused() {
            return None;
        }
        let (before, now) = self.live.views();
        Some(SetContext {
            live: &self.live,
            before,
            now,
            changed: round.map(|round| &round.changed),
        })
    }

    fn round_of(&self, position: &Position) -> Option<&Round> {
        let round = self.round.as_ref();
        round.filter(|round| *round.position == *position)
    }

    /// The shapes of which the drain moves too many rows.
    pub(super) fn over(&self) -> impl Iterator<Item = &Shape> {
        self.round.iter().flat_map(|round| &round.over)
    }

    /// The shapes whose sets may have changed in the drain, even if they changed back.
    pub(super) fn moved_shapes(&self) -> HashSet<Shape> {
        let stirred = self.live.stirred().into_iter();
        let shapes = stirred.filter_map(|set| self.shapes.get(set));
        shapes.flatten().cloned().collect()
    }

    /// The shapes with a set that is not known any more.
    pub(super) fn lost_shapes(&self) -> HashSet<Shape> {
        let lost = self.live.lost().filter_map(|set| self.shapes.get(set));
        lost.flatten().cloned().collect()
    }

    /// Notes the rows that a part of the drain has changed.
    pub(super) fn note_changed(&mut self, entries: &[NetChange]) {
        let Some(round) = self.round.as_mut().filter(|round| !round.moved.is_empty()) else {
            return;
        };
        for entry in entries {
            if let (Some(key), Some(rows)) = (&entry.key, round.moved.get_mut(&*entry.entity)) {
                rows.remove(key);
            }
        }
    }

    /// The rows that the sets have moved and the drain has not changed itself.
    pub(super) fn take_moved(&mut self) -> Vec<NetChange> {
        let Some(round) = &mut self.round else {
            return Vec::new();
        };
        let commit_id = CommitId::after(&round.position);
        let moved = std::mem::take(&mut round.moved).into_iter();
        let moved = moved.flat_map(|(entity, rows)| {
            let rows = rows.into_iter();
            rows.map(move |(key, row)| (entity.clone(), key, row))
        });
        let change = |(entity, key, (row, metadata)): (Box<str>, String, Moved)| NetChange {
            id: i64::MAX,
            commit_id,
            entity: entity.into(),
            key: Some(key),
            kind: ChangeKind::Touched,
            created: 0,
            deleted: 0,
            truncated_at: None,
            mutation_id: None,
            row: Some(row),
            metadata,
            undo: Some(Vec::new()),
        };
        moved.map(change).collect()
    }

    /// After a drain that was not asked about no set is known any more. Returns the shapes with a set that was.
    pub(super) fn forget_known(&mut self) -> HashSet<Shape> {
        let was_known = |(set, _): &(&Set, &HashSet<Shape>)| self.live.is_known(set);
        let lost = self.shapes.iter().filter(was_known);
        let lost = lost.flat_map(|(_, shapes)| shapes).cloned().collect();
        self.live.forget_known();
        self.round = None;
        lost
    }

    /// The drain has been published. Returns whether more can be asked for than before.
    pub(super) fn commit(&mut self) -> bool {
        let Some(round) = self.round.take() else {
            return false;
        };
        let asks_more = self.live.commit_at(&round.position);
        self.tell();
        asks_more && self.is_asking()
    }

    /// The hub starts again.
    pub(super) fn reset(&mut self) {
        self.live.reset();
        self.shapes.clear();
        self.waiting.clear();
        self.round = None;
        self.old_value_columns = Merged::default();
        self.failed_asked_at = None;
    }
}

/// A row that was moved, and where it was asked for what is known of it beside its values.
type Moved = (Box<RawValue>, Option<Box<RowMetadata>>);

/// The question for rows that concern these shapes.
fn question(entity: Box<str>, filter: Filter, shapes: &[Shape]) -> Question {
    let rows_max = MOVED_ROWS_MAX;
    match shapes.iter().any(Shape::has_metadata) {
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
}

/// Whether a shape's filter names sets.
pub(crate) fn names_sets(shape: &Shape) -> bool {
    let filter = shape.selection().map(|selection| selection.filter());
    filter.is_some_and(|filter| filter.sets().len() > 0)
}

impl Round {
    fn take_rows(&mut self, answers: Vec<Answer>) {
        let asked = std::mem::take(&mut self.asked);
        let mut answers = answers.into_iter();
        for (entity, shapes) in asked {
            let count: usize = self.moved.values().map(HashMap::len).sum();
            match answers.next() {
                Some(Answer::Rows(rows)) if count + rows.len() <= MOVED_ROWS_TOTAL_MAX => {
                    let moved = self.moved.entry(entity).or_default();
                    for (key, row) in rows {
                        // Another question may have brought the metadata along.
                        moved.entry(key).or_insert((row, None));
                    }
                }
                Some(Answer::Fields(rows)) if count + rows.len() <= MOVED_ROWS_TOTAL_MAX => {
                    let rows = rows.into_iter();
                    let rows = rows.map(|(key, row, metadata)| (key, (row, Some(metadata))));
                    self.moved.entry(entity).or_default().extend(rows);
                }
                _ => self.over.extend(shapes),
            }
        }
    }
}
