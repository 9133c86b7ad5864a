//! What the hub publishes: one log batch, with each change written once, however many shapes it concerns.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use protocol::{MutationId, json};
use sync_core::cursor::{CommitId, Position};
use sync_core::shape::Shape;
use uuid::Uuid;

use crate::shared_frame::{Allowance, SharedFrame};

/// Frames up to this size are copied into one piece: that is cheaper than several pieces.
const WHOLE_FRAME_BYTES_MAX: usize = 16 * 1024;
/// So are frames whose pieces would be smaller than this on average.
const PIECE_BYTES_MIN: usize = 1024;
/// What is kept with a batch besides its changes, in bytes: frames that were copied into one piece, and
/// gzipped ones. Beyond it they are made for each client again.
const FRAMES_BYTES_MAX: usize = 256 * 1024;

/// A batch. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Batch(Arc<Contents>);

#[derive(Debug)]
pub(super) struct Contents {
    pub(super) position: Arc<Position>,
    pub(super) complete: bool,
    pub(super) texts: Texts,
    pub(super) shapes: HashMap<Shape, ShapeChanges>,
    pub(super) schema_changed: HashSet<String>,
    /// Shapes that no longer fit their table, although the log has no entry of its schema change.
    pub(super) outdated: HashSet<Shape>,
    /// Shapes with a set that is not known any more.
    pub(super) lost: HashSet<Shape>,
    /// Shapes that rows may have left which the batch does not name.
    pub(super) unclear: HashSet<Shape>,
    /// Shapes whose sets may have changed.
    pub(super) moved: HashSet<Shape>,
    /// The position that the batch follows, if shapes have moved.
    pub(super) follows: Option<Arc<Position>>,
    /// Shapes whose filters were not evaluated, because that would have cost more than their share.
    pub(super) unevaluated: HashSet<Shape>,
    /// The newest mutation of each client that made a change in the batch.
    pub(super) mutations: HashMap<Uuid, u64>,
    held: Held,
    frames: Arc<Allowance>,
}

/// The changes as text, each once, however many sessions receive it.
#[derive(Debug, Default)]
pub(super) struct Texts {
    /// The JSON of all changes, each behind a comma, so that neighbours are one piece of a frame.
    json: Bytes,
    changes: Vec<Written>,
    /// The mutations that made changes. A change's text does not name its mutation.
    origins: HashMap<u32, MutationId>,
}

#[derive(Debug)]
struct Written {
    commit_id: CommitId,
    end: usize,
}

/// [`Texts`] while they are written.
#[derive(Debug, Default)]
pub(super) struct TextsWriter {
    json: String,
    changes: Vec<Written>,
    origins: HashMap<u32, MutationId>,
}

/// The changes of one shape, in the order of the log.
#[derive(Debug, Default)]
pub(super) struct ShapeChanges {
    changes: Vec<Listed>,
    bytes: usize,
    /// The keys of a window's rows in their order, as JSON, where their values do not tell it.
    order: Option<Box<str>>,
    /// The frame without the transient changes, written for the first session that needs it.
    frame: OnceLock<Cached>,
}

/// A change that a shape receives.
#[derive(Debug, Clone, Copy)]
struct Listed {
    text: u32,
    transient: bool,
}

#[derive(Debug)]
enum Cached {
    /// None when no change is left.
    Kept(Option<SharedFrame>),
    /// It is written for each session.
    NotKept,
}

/// The memory that a batch takes, counted with that of all batches.
#[derive(Debug, Default)]
struct Held {
    all: Arc<AtomicUsize>,
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A shape's changes in a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Changes<'a> {
    batch: &'a Contents,
    shape: &'a Shape,
    of_shape: &'a ShapeChanges,
}

impl TextsWriter {
    /// Adds the JSON of a change. `origin` is the mutation that made it.
    pub(super) fn add(
        &mut self,
        commit_id: CommitId,
        origin: Option<MutationId>,
        text: &str,
    ) -> u32 {
        let index = u32::try_from(self.changes.len()).expect("a batch has fewer changes");
        self.json.push(',');
        self.json.push_str(text);
        self.changes.push(Written {
            commit_id,
            end: self.json.len(),
        });
        self.origins.extend(origin.map(|origin| (index, origin)));
        index
    }

    /// The size of a text.
    pub(super) fn bytes_of(&self, text: u32) -> usize {
        let end = |index: usize| self.changes[index].end;
        let index = text as usize;
        end(index) - index.checked_sub(1).map_or(0, end)
    }
}

impl Texts {
    /// The bytes of a change in `json`, with its comma.
    fn range(&self, index: u32) -> std::ops::Range<usize> {
        let index = index as usize;
        let start = index
            .checked_sub(1)
            .map_or(0, |before| self.changes[before].end);
        start..self.changes[index].end
    }

    /// The text of a change, without its comma.
    fn text(&self, index: u32) -> &str {
        let range = self.range(index);
        let text = std::str::from_utf8(&self.json[range.start + 1..range.end]);
        text.expect("changes are written as text")
    }

    /// Adds a change to an array. Whose mutation it was is told to its author alone.
    fn append(&self, index: u32, author: Option<Uuid>, array: &mut String) {
        let text = self.text(index);
        match self.origin(index, author) {
            None => array.push_str(text),
            Some(origin) => {
                let object = text.strip_suffix('}').expect("a change is an object");
                let origin = json::text(&origin);
                array.push_str(object);
                array.push(',');
                array.push_str(origin.strip_prefix('{').expect("an object"));
            }
        }
    }

    fn origin(&self, index: u32, author: Option<Uuid>) -> Option<MutationId> {
        let origin = self.origins.get(&index).copied()?;
        (Some(origin.client_id) == author).then_some(origin)
    }
}

impl ShapeChanges {
    /// Makes room for so many more.
    pub(super) fn reserve(&mut self, changes: usize) {
        self.changes.reserve_exact(changes);
    }

    pub(super) fn push(&mut self, text: u32, transient: bool, bytes: usize) {
        self.changes.push(Listed { text, transient });
        self.bytes += bytes;
    }

    /// Says in which order a window's rows are.
    pub(super) fn set_order(&mut self, order: &[&str]) {
        self.order = Some(json::text(&order).into());
    }

    /// The number of changes.
    pub(super) fn len(&self) -> usize {
        self.changes.len()
    }

    /// Their size as JSON.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Contents {
    pub(super) fn new(position: Arc<Position>, complete: bool) -> Self {
        Self {
            position,
            complete,
            texts: Texts::default(),
            shapes: HashMap::new(),
            schema_changed: HashSet::new(),
            outdated: HashSet::new(),
            lost: HashSet::new(),
            unclear: HashSet::new(),
            moved: HashSet::new(),
            follows: None,
            unevaluated: HashSet::new(),
            mutations: HashMap::new(),
            held: Held::default(),
            frames: Arc::new(Allowance::new(FRAMES_BYTES_MAX)),
        }
    }

    /// Ends the writing. The batch is counted in `all` as long as anybody holds it.
    pub(super) fn finish(mut self, texts: TextsWriter, all: &Arc<AtomicUsize>) -> Batch {
        self.texts = Texts {
            json: texts.json.into(),
            changes: texts.changes,
            origins: texts.origins,
        };
        let lists = self.shapes.values();
        let listed: usize = lists.map(|changes| changes.changes.capacity()).sum();
        let orders = self
            .shapes
            .values()
            .filter_map(|changes| changes.order.as_ref());
        let orders = orders.map(|order| order.len());
        let bytes = size_of::<Self>()
            + self.texts.json.len()
            + self.texts.changes.capacity() * size_of::<Written>()
            + self.texts.origins.capacity() * size_of::<(u32, MutationId)>()
            + self.shapes.capacity() * size_of::<(Shape, ShapeChanges)>()
            + listed * size_of::<Listed>()
            + orders.sum::<usize>();
        all.fetch_add(bytes, Ordering::Relaxed);
        self.held = Held {
            all: all.clone(),
            bytes,
        };
        Batch(Arc::new(self))
    }
}

impl Batch {
    /// A batch that carries only a position.
    pub(super) fn empty(position: Arc<Position>) -> Self {
        Self(Arc::new(Contents::new(position, true)))
    }

    /// The shapes that the batch changes.
    pub(super) fn shapes(&self) -> impl Iterator<Item = (&Shape, &ShapeChanges)> {
        self.0.shapes.iter()
    }

    /// The entities whose schema changed.
    pub(super) fn schema_changed_entities(&self) -> impl Iterator<Item = &str> {
        self.0.schema_changed.iter().map(String::as_str)
    }

    /// The shapes that must be refetched besides those of such entities.
    pub(super) fn refetched_shapes(&self) -> impl Iterator<Item = &Shape> {
        let fetched_again = self.0.outdated.iter().chain(&self.0.unclear);
        fetched_again.chain(&self.0.lost)
    }

    /// The shapes whose sets may have changed.
    pub(super) fn moved_shapes(&self) -> impl Iterator<Item = &Shape> {
        self.0.moved.iter()
    }

    /// The shapes whose sessions must read the log instead.
    pub(super) fn unevaluated_shapes(&self) -> impl Iterator<Item = &Shape> {
        self.0.unevaluated.iter()
    }

    /// The changes of one shape.
    pub(crate) fn changes(&self, shape: &Shape) -> Option<Changes<'_>> {
        let (shape, of_shape) = self.0.shapes.get_key_value(shape)?;
        Some(Changes {
            batch: &self.0,
            shape,
            of_shape,
        })
    }

    /// Whether a change in the batch was made by this mutation or a later one of the same client.
    pub(crate) fn is_by(&self, mutation: MutationId) -> bool {
        self.0
            .mutations
            .get(&mutation.client_id)
            .is_some_and(|newest| *newest >= mutation.mutation)
    }
}

impl sync_core::session::Batch for Batch {
    fn position(&self) -> &Arc<Position> {
        &self.0.position
    }

    fn complete(&self) -> bool {
        self.0.complete
    }

    fn bytes(&self) -> usize {
        self.0.held.bytes
    }

    fn touches(&self, shape: &Shape) -> bool {
        self.0.shapes.contains_key(shape)
    }

    fn is_unclear_for(&self, shape: &Shape) -> bool {
        self.0.unclear.contains(shape)
    }

    fn moves(&self, shape: &Shape) -> Option<&Arc<Position>> {
        let moves = !self.0.moved.is_empty() && self.0.moved.contains(shape);
        self.0.follows.as_ref().filter(|_| moves)
    }

    fn changes_schema_of(&self, shape: &Shape) -> bool {
        self.0.schema_changed.contains(shape.entity()) || self.0.outdated.contains(shape)
    }

    fn loses_sets_of(&self, shape: &Shape) -> bool {
        self.0.lost.contains(shape)
    }
}

impl Changes<'_> {
    /// Returns the JSON array of the changes that `since` does not contain; none when it would be empty. The
    /// changes that the client `author` made name their mutation.
    ///
    /// With `since` it includes transient changes: a reader that joined in between may hold a row that was
    /// created and deleted within the batch.
    pub(crate) fn array(&self, since: Option<&Position>, author: Option<Uuid>) -> Option<String> {
        let texts = &self.batch.texts;
        let changes = &self.of_shape.changes;
        let mut array = String::with_capacity(self.of_shape.bytes + 2);
        for change in changes {
            let leave_out = match since {
                None => change.transient,
                Some(since) => since.contains(texts.changes[change.text as usize].commit_id),
            };
            if !leave_out {
                array.push(if array.is_empty() { '[' } else { ',' });
                texts.append(change.text, author, &mut array);
            }
        }
        array.push(']');
        array.starts_with('[').then_some(array)
    }

    /// The frame for a session that has received all earlier changes of the shape, shared by all but the
    /// authors of the changes; none when there is nothing to send.
    pub(crate) fn frame(&self, author: Option<Uuid>) -> Option<SharedFrame> {
        if self.has_changes_by(author) {
            return self.own_frame(author);
        }
        let mut own = None;
        let cached = self.of_shape.frame.get_or_init(|| {
            let (frame, bytes) = self.write();
            if self.batch.frames.take(bytes) {
                return Cached::Kept(frame);
            }
            own = frame;
            Cached::NotKept
        });
        match cached {
            Cached::Kept(frame) => frame.clone(),
            Cached::NotKept => own.or_else(|| self.write().0),
        }
    }

    /// The order of a window's rows after these changes, where their values do not tell it: a JSON array of their keys.
    pub(crate) fn order(&self) -> Option<&str> {
        self.of_shape.order.as_deref()
    }

    fn has_changes_by(&self, author: Option<Uuid>) -> bool {
        author.is_some_and(|author| self.batch.mutations.contains_key(&author))
            && self.of_shape.changes.iter().any(|change| {
                let origin = self.batch.texts.origin(change.text, author);
                origin.is_some()
            })
    }

    fn own_frame(&self, author: Option<Uuid>) -> Option<SharedFrame> {
        let array = self.array(None, author)?;
        let text = json::changes_of_shape(self.shape.as_str(), &array, self.order());
        Some(SharedFrame::new(text))
    }

    /// Writes the frame. Returns with it the bytes that it has of its own.
    fn write(&self) -> (Option<SharedFrame>, usize) {
        let texts = &self.batch.texts;
        let mut runs: Vec<std::ops::Range<usize>> = Vec::new();
        for change in self
            .of_shape
            .changes
            .iter()
            .filter(|change| !change.transient)
        {
            let range = texts.range(change.text);
            match runs.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => runs.push(range),
            }
        }
        let bytes: usize = runs.iter().map(ExactSizeIterator::len).sum();
        if bytes <= WHOLE_FRAME_BYTES_MAX || bytes / runs.len() < PIECE_BYTES_MIN {
            let frame = self.own_frame(None);
            let bytes = frame.as_ref().map_or(0, SharedFrame::len);
            return (frame, bytes);
        }
        // The first change has no comma before it.
        runs[0].start += 1;
        let before = json::before_changes_of_shape(self.shape.as_str());
        let mut pieces = Vec::with_capacity(runs.len() + 2);
        let after = json::after_changes(self.order());
        let own_bytes = before.len() + after.len() + (runs.len() + 2) * size_of::<Bytes>();
        pieces.push(before.into());
        pieces.extend(runs.into_iter().map(|run| texts.json.slice(run)));
        pieces.push(after.into());
        let frame = SharedFrame::of_pieces(pieces, self.batch.frames.clone());
        (Some(frame), own_bytes)
    }
}

#[cfg(test)]
mod tests {
    use sync_core::session::Batch as _;

    use super::*;

    fn change(key: usize, row_bytes: usize) -> String {
        let body = "x".repeat(row_bytes);
        format!(r#"{{"op":"put","key":"{key}","row":{{"body":"{body}"}}}}"#)
    }

    /// A batch whose shapes have the changes of these rows; the last one is the client's.
    fn batch(
        row_bytes: usize,
        shapes: &[(&str, &[u32])],
        author: Uuid,
    ) -> (Batch, Arc<AtomicUsize>) {
        let mut contents = Contents::new(Arc::new(Position::log_id(9)), true);
        let mut texts = TextsWriter::default();
        for key in 0..4 {
            let origin = (key == 3).then_some(MutationId {
                client_id: author,
                mutation: 7,
            });
            texts.add(CommitId::LogId(key as i64), origin, &change(key, row_bytes));
        }
        contents.mutations.insert(author, 7);
        for (name, listed) in shapes {
            let changes = contents.shapes.entry(Shape::whole(name)).or_default();
            for text in *listed {
                changes.push(*text, false, texts.bytes_of(*text));
            }
        }
        let all = Arc::default();
        (contents.finish(texts, &all), all)
    }

    fn text(frame: &SharedFrame) -> String {
        String::from_utf8(frame.pieces().concat()).expect("text")
    }

    #[test]
    fn a_change_exists_once_however_many_shapes_carry_it() {
        let names: Vec<String> = (0..100).map(|number| format!("s{number}")).collect();
        let shapes: Vec<(&str, &[u32])> =
            names.iter().map(|name| (&**name, &[0, 1, 2][..])).collect();
        let row_bytes = 100_000;
        let (batch, all) = batch(row_bytes, &shapes, Uuid::nil());
        let held = all.load(Ordering::Relaxed);
        assert!(held < 5 * row_bytes && held > 4 * row_bytes, "{held}");
        assert_eq!(batch.bytes(), held);
        for (shape, _) in batch.shapes() {
            let frame = batch.changes(shape).and_then(|changes| changes.frame(None));
            let frame = frame.expect("a frame");
            // What precedes the changes, the changes, and what follows them.
            assert_eq!(frame.pieces().len(), 3);
            assert!(
                batch
                    .0
                    .texts
                    .json
                    .as_ptr_range()
                    .contains(&frame.pieces()[1].as_ptr())
            );
        }
        drop(batch);
        assert_eq!(all.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn frames_in_pieces_are_written_as_frames_in_one() {
        for row_bytes in [10, 20_000] {
            for listed in [&[0, 1, 2][..], &[0, 2], &[1]] {
                let (batch, _) = batch(row_bytes, &[("s", listed)], Uuid::nil());
                let changes = batch.changes(&Shape::whole("s")).expect("changes");
                let written: Vec<String> = listed
                    .iter()
                    .map(|key| change(*key as usize, row_bytes))
                    .collect();
                let array = format!("[{}]", written.join(","));
                let expected = json::changes_of_shape("s", &array, None);
                assert_eq!(text(&changes.frame(None).expect("a frame")), expected);
                assert_eq!(changes.array(None, None), Some(array));
            }
        }
    }

    #[test]
    fn whose_mutation_a_change_was_is_told_to_its_author_alone() {
        let author = Uuid::from_u128(5);
        for row_bytes in [10, 20_000] {
            let (batch, _) = batch(row_bytes, &[("s", &[0, 3])], author);
            let changes = batch.changes(&Shape::whole("s")).expect("changes");
            let told = text(&changes.frame(Some(author)).expect("a frame"));
            let told: serde_json::Value = serde_json::from_str(&told).expect("a frame");
            let origin = |index: usize| {
                let change = &told["changes"][index];
                (change.get("client_id"), change.get("mutation"))
            };
            assert_eq!(origin(0), (None, None));
            let (client, mutation) = (author.to_string().into(), 7.into());
            assert_eq!(origin(1), (Some(&client), Some(&mutation)));
            for other in [None, Some(Uuid::from_u128(6))] {
                let frame = text(&changes.frame(other).expect("a frame"));
                assert!(!frame.contains("client_id") && !frame.contains("mutation"));
            }
        }
    }

    #[test]
    fn frames_beyond_the_allowance_are_written_again() {
        let names: Vec<String> = (0..100).map(|number| format!("s{number}")).collect();
        let shapes: Vec<(&str, &[u32])> = names.iter().map(|name| (&**name, &[0][..])).collect();
        let (batch, _) = batch(WHOLE_FRAME_BYTES_MAX - 1000, &shapes, Uuid::nil());
        let mut kept = 0;
        for name in &names {
            let changes = batch.changes(&Shape::whole(name)).expect("changes");
            let frame = || text(&changes.frame(None).expect("a frame"));
            assert_eq!(frame(), frame());
            kept += usize::from(matches!(
                changes.of_shape.frame.get(),
                Some(Cached::Kept(_))
            ));
        }
        assert_eq!(kept, FRAMES_BYTES_MAX / (WHOLE_FRAME_BYTES_MAX - 1000 + 90));
    }
}
