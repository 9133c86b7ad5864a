//! Sets and the rows that they move, against a small database that answers each question by itself.
//!
//! The oracle evaluates conditions as they were made, in SQL's three-valued logic, without sets, forms or keys.

mod groups;
mod guards;
mod windows;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use filter::{
    Backend, Filter, InnerTable, Lookup, NoSets, RowReader, RowValues, Scalar, Set, Sets,
    SetsAtBoth, Table, Tables,
};
use proptest::prelude::*;
use protocol::Change;
use serde_json::value::RawValue;
use value::schema::{Collation, Column, ColumnKind, Schema};

use super::*;
use crate::cursor::CommitId;
use crate::effect::Effect;
use crate::log::{ChangeKind, NetChange, UndoRecord};
use crate::shape::{CurrentTable, Shape, ShapeReader};

const TABLES: [&str; 3] = ["a", "b", "c"];
/// `id` is the key; the others may be null.
const COLUMNS: [&str; 3] = ["id", "x", "y"];

type Row = [Option<i64>; 3];

/// The rows of each table, by key.
#[derive(Debug, Clone, Default, PartialEq)]
struct Database([BTreeMap<i64, Row>; 3]);

/// A condition on a row.
#[derive(Debug, Clone)]
enum Written {
    Equals(usize, i64),
    IsNull(usize),
    Within {
        column: usize,
        negated: bool,
        query: Box<Query>,
    },
    /// With pairs of a column of the subquery's table and one of the row's.
    Exists {
        negated: bool,
        pairs: Vec<(usize, usize)>,
        query: Box<Query>,
    },
    Not(Box<Written>),
    And(Box<Written>, Box<Written>),
    Or(Box<Written>, Box<Written>),
}

#[derive(Debug, Clone)]
struct Query {
    table: usize,
    column: usize,
    condition: Written,
}

impl Written {
    /// As text, on a table whose name is `outer`. Aliases are numbered by depth, so that a table may be inside itself.
    fn text(&self, outer: &str, depth: usize) -> String {
        let not = |negated: bool| if negated { "NOT " } else { "" };
        let alias = format!("s{depth}");
        match self {
            Self::Equals(column, value) => format!("{outer}.{} = {value}", COLUMNS[*column]),
            Self::IsNull(column) => format!("{outer}.{} IS NULL", COLUMNS[*column]),
            Self::Within {
                column,
                negated,
                query,
            } => format!(
                "{outer}.{} {}IN (SELECT {alias}.{} FROM {} AS {alias} WHERE {})",
                COLUMNS[*column],
                not(*negated),
                COLUMNS[query.column],
                TABLES[query.table],
                query.condition.text(&alias, depth + 1)
            ),
            Self::Exists {
                negated,
                pairs,
                query,
            } => {
                let pairs = pairs.iter().map(|(inner, own)| {
                    format!(
                        "{alias}.{} = {outer}.{} AND ",
                        COLUMNS[*inner], COLUMNS[*own]
                    )
                });
                format!(
                    "{}EXISTS (SELECT 1 FROM {} AS {alias} WHERE {}({}))",
                    not(*negated),
                    TABLES[query.table],
                    pairs.collect::<String>(),
                    query.condition.text(&alias, depth + 1)
                )
            }
            Self::Not(inner) => format!("NOT ({})", inner.text(outer, depth)),
            Self::And(one, other) => {
                format!(
                    "({} AND {})",
                    one.text(outer, depth),
                    other.text(outer, depth)
                )
            }
            Self::Or(one, other) => {
                format!(
                    "({} OR {})",
                    one.text(outer, depth),
                    other.text(outer, depth)
                )
            }
        }
    }

    fn truth(&self, row: &Row, database: &Database) -> Option<bool> {
        let rows_of = |query: &Query| {
            let rows = database.0[query.table].values();
            let rows = rows.filter(|inner| query.condition.truth(inner, database) == Some(true));
            rows.copied().collect::<Vec<Row>>()
        };
        match self {
            Self::Equals(column, value) => row[*column].map(|found| found == *value),
            Self::IsNull(column) => Some(row[*column].is_none()),
            Self::Within {
                column,
                negated,
                query,
            } => {
                let mut any = Some(false);
                for inner in rows_of(query) {
                    let equal = row[*column].zip(inner[query.column]).map(|(a, b)| a == b);
                    any = or(any, equal);
                }
                any.map(|any| any != *negated)
            }
            Self::Exists {
                negated,
                pairs,
                query,
            } => {
                let equal = |inner: &Row| {
                    let mut pairs = pairs.iter();
                    pairs.all(|(of_inner, own)| {
                        inner[*of_inner].is_some() && inner[*of_inner] == row[*own]
                    })
                };
                Some(rows_of(query).iter().any(equal) != *negated)
            }
            Self::Not(inner) => inner.truth(row, database).map(|truth| !truth),
            Self::And(one, other) => {
                let not = |truth: Option<bool>| truth.map(|truth| !truth);
                let (one, other) = (one.truth(row, database), other.truth(row, database));
                not(or(not(one), not(other)))
            }
            Self::Or(one, other) => or(one.truth(row, database), other.truth(row, database)),
        }
    }
}

fn or(one: Option<bool>, other: Option<bool>) -> Option<bool> {
    match (one, other) {
        (Some(true), _) | (_, Some(true)) => Some(true),
        (Some(false), Some(false)) => Some(false),
        _ => None,
    }
}

fn json(row: &Row) -> Box<RawValue> {
    let members = COLUMNS.iter().zip(row).map(|(name, value)| {
        let value = value.map_or("null".to_owned(), |value| value.to_string());
        format!("{name:?}:{value}")
    });
    let members: Vec<String> = members.collect();
    RawValue::from_string(format!("{{{}}}", members.join(","))).expect("JSON")
}

fn schema(table: usize) -> Arc<Schema> {
    let column = |name: &&str| Column {
        name: (*name).to_owned(),
        kind: ColumnKind::INT8,
        type_name: "int8".to_owned(),
        nullable: true,
        has_default: false,
        generated: false,
        collation: Collation::Bytes,
        logged: true,
    };
    Arc::new(Schema {
        entity: TABLES[table].to_owned(),
        columns: COLUMNS.iter().map(column).collect(),
        key: vec![0],
    })
}

fn table(table: usize) -> CurrentTable {
    CurrentTable {
        has_records: false,
        schema: schema(table),
        fingerprint: "1".into(),
        backend: Backend::Postgres,
        fields: None,
    }
}

#[derive(Debug)]
struct AllTables;

impl Tables for AllTables {
    fn find(&self, entity: &str) -> Option<InnerTable> {
        let position = TABLES.iter().position(|name| *name == entity)?;
        Some(InnerTable {
            schema: schema(position),
            fingerprint: "1".into(),
            backend: Backend::Postgres,
            visible: None,
            rows: Filter::everything(),
            partial: BTreeMap::new(),
        })
    }
}

/// Sets as the database says they are, each looked up by going through all rows.
struct Asked<'a>(&'a Database);

fn held<'a>(set: &Set, row: &'a RowValues) -> Option<Vec<&'a Scalar>> {
    let columns = set.rows().columns.iter();
    columns.map(|column| row.scalar(*column)).collect()
}

impl Sets for Asked<'_> {
    fn look_up(&self, set: &Set, values: &[&Scalar]) -> Option<Lookup> {
        let rows = self.0.rows_of(set);
        let held = |row| held(set, row);
        Some(Lookup {
            found: rows
                .iter()
                .any(|row| held(row).is_some_and(|held| held == values)),
            is_empty: rows.is_empty(),
            has_null: rows.iter().any(|row| held(row).is_none()),
        })
    }
}

impl Database {
    fn read(&self, table: usize) -> impl Iterator<Item = (&Row, RowValues)> {
        let current = self::table(table);
        let reader = RowReader::new(Table::new(&current.schema, Backend::Postgres), 0..3);
        self.0[table]
            .values()
            .map(move |row| (row, reader.read(&json(row)).expect("a row")))
    }

    fn rows_of(&self, set: &Set) -> Vec<RowValues> {
        let table = TABLES
            .iter()
            .position(|name| *name == set.entity())
            .expect("a table");
        let rows = self.read(table).map(|(_, row)| row);
        let matches = |row: &RowValues| set.rows().filter.matches(row, &Asked(self)) == Some(true);
        rows.filter(matches).collect()
    }

    fn answer(&self, question: &Question) -> Answer {
        match question {
            Question::Group(_) => unreachable!("nobody is asked as a role"),
            Question::Set(set) => {
                let columns = &set.rows().columns;
                let values = |row: &RowValues| {
                    let members = columns.iter().map(|column| {
                        let value = row.scalar(*column).map(ToString::to_string);
                        format!(
                            "{:?}:{}",
                            COLUMNS[*column],
                            value.unwrap_or("null".to_owned())
                        )
                    });
                    format!("{{{}}}", members.collect::<Vec<String>>().join(","))
                };
                let mut counts: BTreeMap<String, u64> = BTreeMap::new();
                for row in self.rows_of(set) {
                    *counts.entry(values(&row)).or_default() += 1;
                }
                let raw = |text| RawValue::from_string(text).expect("JSON");
                Answer::Set(
                    counts
                        .into_iter()
                        .map(|(text, count)| (raw(text), count))
                        .collect(),
                )
            }
            Question::Window { .. } | Question::Fields { .. } => panic!("not in these tests"),
            Question::Rows { entity, filter, .. } => {
                let table = TABLES
                    .iter()
                    .position(|name| **name == **entity)
                    .expect("a table");
                let rows = self.read(table);
                let rows = rows.filter(|(_, row)| filter.matches(row, &NoSets) == Some(true));
                let rows = rows.map(|(row, _)| (key(row), json(row)));
                Answer::Rows(rows.collect())
            }
        }
    }

    /// The keys of the rows that match.
    fn keys(&self, table: usize, condition: &Written) -> BTreeSet<String> {
        let rows = self.0[table].values();
        let rows = rows.filter(|row| condition.truth(row, self) == Some(true));
        rows.map(key).collect()
    }
}

fn key(row: &Row) -> String {
    row[0].expect("a key").to_string()
}

/// A write: the row's new values, none to delete it.
#[derive(Debug, Clone)]
struct Write {
    table: usize,
    id: i64,
    values: Option<(Option<i64>, Option<i64>)>,
}

/// Writes the database, and returns the log's entries, folded into one net change for each row.
#[derive(Debug, Default)]
struct Log {
    entries: BTreeMap<(usize, i64), Vec<UndoRecord>>,
    next: i64,
}

impl Log {
    fn write(&mut self, database: &mut Database, write: &Write) {
        let rows = &mut database.0[write.table];
        let before = rows.get(&write.id).copied();
        let now = write.values.map(|(x, y)| [Some(write.id), x, y]);
        let kind = match (before, now) {
            (None, None) => return,
            (None, Some(_)) => ChangeKind::Create,
            (Some(before), Some(now)) if before == now => return,
            (Some(_), Some(_)) => ChangeKind::Update,
            (Some(_), None) => ChangeKind::Delete,
        };
        match now {
            Some(now) => rows.insert(write.id, now),
            None => rows.remove(&write.id),
        };
        self.next += 1;
        let record = UndoRecord {
            id: self.next,
            transaction: Some(self.next.unsigned_abs()),
            kind,
            // All columns, also those that did not change: what they were is right.
            old: before.map(|before| json(&before)),
        };
        self.entries
            .entry((write.table, write.id))
            .or_default()
            .insert(0, record);
    }

    fn drain(&mut self, database: &Database, forget: bool) -> Vec<NetChange> {
        let entries = std::mem::take(&mut self.entries).into_iter();
        let changes = entries.map(|((table, id), records)| {
            let count = |kind| records.iter().filter(|record| record.kind == kind).count();
            NetChange {
                id: records[0].id,
                commit_id: CommitId::LogId(records[0].id),
                entity: TABLES[table].to_owned(),
                key: Some(id.to_string()),
                kind: records[0].kind,
                created: i64::try_from(count(ChangeKind::Create)).expect("few"),
                deleted: i64::try_from(count(ChangeKind::Delete)).expect("few"),
                truncated_at: None,
                mutation_id: None,
                row: database.0[table].get(&id).map(json),
                metadata: None,
                undo: (!forget || id % 2 == 0).then_some(records),
            }
        });
        changes.collect()
    }
}

/// Touched rows that the entries do not name.
fn touched(
    entity: &str,
    rows: Vec<(String, Box<RawValue>)>,
    entries: &[NetChange],
) -> Vec<NetChange> {
    let is_new = |key: &String| {
        let mut entries = entries.iter();
        !entries.any(|entry| entry.entity == entity && entry.key.as_ref() == Some(key))
    };
    let rows = rows.into_iter().filter(|(key, _)| is_new(key));
    let change = |(key, row)| NetChange {
        id: i64::MAX,
        commit_id: CommitId::LogId(i64::MAX),
        entity: entity.to_owned(),
        key: Some(key),
        kind: ChangeKind::Touched,
        created: 0,
        deleted: 0,
        truncated_at: None,
        mutation_id: None,
        row: Some(row),
        metadata: None,
        undo: Some(Vec::new()),
    };
    rows.map(change).collect()
}

/// Applies what changes mean for a shape to a copy. False when the copy must be refetched.
fn apply(
    copy: &mut BTreeSet<String>,
    shape: &Shape,
    changes: &[NetChange],
    sets: SetsAtBoth<'_>,
) -> bool {
    let reader = ShapeReader::new(shape.clone());
    for change in changes
        .iter()
        .filter(|change| change.entity == shape.entity())
    {
        match change.effect_on(&reader, sets).expect("a row") {
            Effect::Change {
                transient: true, ..
            }
            | Effect::Nothing => {}
            Effect::Change { change, .. } => match change {
                Change::Put { key, .. } => drop(copy.insert(key)),
                Change::Delete { key, .. } | Change::Leave { key, .. } => drop(copy.remove(&key)),
                Change::Patch { .. } => panic!("no metadata is sent"),
                Change::Truncate => copy.clear(),
            },
            Effect::SchemaChanged | Effect::Unclear => return false,
        }
    }
    true
}

fn condition(depth: u32) -> BoxedStrategy<Written> {
    let column = 0..3_usize;
    let leaf = prop_oneof![
        (column.clone(), 0..4_i64).prop_map(|(column, value)| Written::Equals(column, value)),
        (1..3_usize).prop_map(Written::IsNull),
    ];
    if depth == 0 {
        return leaf.boxed();
    }
    let query = (column.clone(), column.clone(), condition(depth - 1)).prop_map(
        |(table, column, condition)| {
            Box::new(Query {
                table,
                column,
                condition,
            })
        },
    );
    let within = (column.clone(), any::<bool>(), query.clone());
    let within = within.prop_map(|(column, negated, query)| Written::Within {
        column,
        negated,
        query,
    });
    let pairs = prop::collection::btree_map(column.clone(), column, 0..3);
    let exists = (any::<bool>(), pairs, query);
    let exists = exists.prop_map(|(negated, pairs, query)| Written::Exists {
        negated,
        pairs: pairs.into_iter().collect(),
        query,
    });
    let part = prop_oneof![2 => within, 2 => exists, 1 => leaf];
    part.prop_recursive(2, 4, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|one| Written::Not(Box::new(one))),
            (inner.clone(), inner.clone())
                .prop_map(|(one, other)| Written::And(Box::new(one), Box::new(other))),
            (inner.clone(), inner)
                .prop_map(|(one, other)| Written::Or(Box::new(one), Box::new(other))),
        ]
    })
    .boxed()
}

fn write() -> impl Strategy<Value = Write> {
    let value = || prop::option::weighted(0.8, 0..4_i64);
    let values = prop::option::weighted(0.75, (value(), value()));
    (0..3_usize, 0..5_i64, values).prop_map(|(table, id, values)| Write { table, id, values })
}

/// What happens between two drains.
#[derive(Debug, Clone)]
struct Round {
    writes: Vec<Write>,
    /// Whether the log has lost what rows were.
    forget: bool,
    /// Whether the drain fails once, after its first answers.
    fails: bool,
    /// Whether questions about rows are answered with too many.
    too_many: bool,
    /// After how many moments a backfill that begins here is answered, and what its first set is answered.
    backfill: (usize, Option<Refusal>),
    /// Which shape is attached or detached before.
    toggles: Option<usize>,
}

/// An answer that does not say what a set holds.
#[derive(Debug, Clone, Copy)]
enum Refusal {
    TooLong,
    Unknown,
    /// None at all.
    Silence,
}

/// Backfills that have begun, each with the database as it was then.
struct Asides<'a> {
    all: Vec<Aside>,
    answer: &'a dyn Fn(&Database, &Question) -> Answer,
}

#[derive(Debug)]
struct Aside {
    backfill: Backfill,
    database: Database,
    moments: usize,
    refusal: Option<Refusal>,
}

impl<'a> Asides<'a> {
    fn new(answer: &'a dyn Fn(&Database, &Question) -> Answer) -> Self {
        Self {
            all: Vec::new(),
            answer,
        }
    }

    fn begin(
        &mut self,
        live: &mut LiveSets,
        database: &Database,
        (moments, refusal): (usize, Option<Refusal>),
    ) {
        while let Some(backfill) = live.begin_backfill() {
            self.all.push(Aside {
                backfill,
                database: database.clone(),
                moments,
                refusal,
            });
        }
    }

    /// A moment passes: those that are due are answered.
    fn pass(&mut self, live: &mut LiveSets) {
        self.all.retain_mut(|aside| {
            if aside.moments > 0 {
                aside.moments -= 1;
                return true;
            }
            let ticket = aside.backfill.ticket;
            for (index, question) in aside.backfill.questions.iter().enumerate() {
                let answer = match aside.refusal.filter(|_| index == 0) {
                    None => (self.answer)(&aside.database, question),
                    Some(Refusal::TooLong) => Answer::TooLong,
                    Some(Refusal::Unknown) => Answer::Unknown,
                    Some(Refusal::Silence) => continue,
                };
                live.backfilled(ticket, index, answer);
            }
            live.end_backfill(ticket);
            false
        });
    }
}

fn round() -> impl Strategy<Value = Round> {
    let rarely = || prop::bool::weighted(0.15);
    let refusal = prop_oneof![
        Just(Refusal::TooLong),
        Just(Refusal::Unknown),
        Just(Refusal::Silence)
    ];
    (
        prop::collection::vec(write(), 0..6),
        rarely(),
        rarely(),
        rarely(),
        (0..6_usize, prop::option::weighted(0.2, refusal)),
        prop::option::weighted(0.3, 0..4_usize),
    )
        .prop_map(
            |(writes, forget, fails, too_many, backfill, toggles)| Round {
                writes,
                forget,
                fails,
                too_many,
                backfill,
                toggles,
            },
        )
}

fn resolve(table: usize, condition: &Written) -> Option<Shape> {
    let table = self::table(table);
    let text = condition.text(&table.schema.entity, 0);
    let among = Table::new(&table.schema, Backend::Postgres).among(&AllTables);
    // A condition may be deeper, or have more subqueries, than filters may.
    let filter = Filter::new(&text, &[], among).ok()?;
    Some(Shape::of_filter(&table, filter)).filter(|shape| shape.selection().is_some())
}

/// Runs an inquiry of the stream to its end, unless it fails.
fn ask(
    live: &mut LiveSets,
    entries: &[NetChange],
    answer: impl Fn(&Question) -> Answer,
    (asides, fails): (&mut Asides<'_>, bool),
) {
    let mut questions = live.begin(entries, true);
    while !questions.is_empty() {
        let answers = questions.iter().map(&answer).collect();
        asides.pass(live);
        questions = live.answer(answers);
        if fails {
            return;
        }
    }
}

/// A few drains without changes, after which every set in use is known.
fn settle(live: &mut LiveSets, database: &Database, asides: &mut Asides<'_>) {
    let answer = asides.answer;
    for _ in 0..40 {
        live.ask_failed_again();
        ask(
            live,
            &[],
            |question| answer(database, question),
            (asides, false),
        );
        asides.begin(live, database, (0, None));
        live.commit();
        asides.pass(live);
    }
}

fn direct_sets(shape: &Shape) -> impl Iterator<Item = &Set> {
    let filter = shape.selection().map(|selection| selection.filter());
    filter.into_iter().flat_map(Filter::sets)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// At each position every set that is known is what the database says, and each copy is what the condition selects.
    #[test]
    fn sets_and_copies_equal_the_database_at_each_position(
        conditions in prop::collection::vec((0..3_usize, condition(3)), 1..4),
        steps in prop::collection::vec(round(), 1..10),
    ) {
        let mut database = Database::default();
        let mut log = Log::default();
        let mut live = LiveSets::default();
        let mut asides = Asides::new(&Database::answer);
        let shapes = conditions.iter();
        let shapes = shapes.filter_map(|(table, condition)| {
            Some((*table, condition, resolve(*table, condition)?))
        });
        let shapes: Vec<(usize, &Written, Shape)> = shapes.collect();
        // What the clients of a shape hold, if it is attached and its sets are known.
        let mut copies: Vec<Option<BTreeSet<String>>> = vec![None; shapes.len()];
        let mut attached = vec![true; shapes.len()];
        for (_, _, shape) in &shapes {
            direct_sets(shape).for_each(|set| live.want(set));
        }
        for step in steps {
            if let Some(place) = step.toggles.filter(|place| *place < shapes.len()) {
                let (_, _, shape) = &shapes[place];
                match attached[place] {
                    true => direct_sets(shape).for_each(|set| live.release(set)),
                    false => direct_sets(shape).for_each(|set| live.want(set)),
                }
                attached[place] ^= true;
                copies[place] = None;
            }
            let are_known = |live: &LiveSets, place: usize| {
                let (_, _, shape) = &shapes[place];
                attached[place] && shape.all_sets().all(|set| live.is_known(&set))
            };
            for (place, (table, condition, _)) in shapes.iter().enumerate() {
                if copies[place].is_none() && are_known(&live, place) {
                    copies[place] = Some(database.keys(*table, condition));
                }
            }
            for write in &step.writes {
                log.write(&mut database, write);
            }
            let entries = log.drain(&database, step.forget);
            let answer = |question: &Question| match question {
                Question::Rows { .. } if step.too_many => Answer::TooMany,
                question => database.answer(question),
            };
            if step.fails {
                ask(&mut live, &entries, answer, (&mut asides, true));
                asides.begin(&mut live, &database, step.backfill);
            }
            ask(&mut live, &entries, answer, (&mut asides, false));
            asides.begin(&mut live, &database, step.backfill);
            asides.pass(&mut live);
            let shapes_and_copies = shapes.iter().zip(&mut copies);
            for ((table, condition, shape), copy) in shapes_and_copies {
                let Some(copy) = copy else { continue };
                let filter = shape.selection().expect("a selection").filter();
                let moved = filter.touched(&|set| live.change(set));
                let moved = moved.map(|filter| {
                    let entity = shape.entity().into();
                    let question = Question::Rows { entity, filter, rows_max: usize::MAX };
                    match database.answer(&question) {
                        Answer::Rows(rows) => touched(shape.entity(), rows, &entries),
                        other => panic!("{other:?}"),
                    }
                });
                let (before, now) = live.views();
                let sets = SetsAtBoth { before: &before, now: &now };
                let exact = apply(copy, shape, &entries, sets)
                    && apply(copy, shape, &moved.unwrap_or_default(), sets);
                let expected = database.keys(*table, condition);
                if exact {
                    prop_assert_eq!(&*copy, &expected, "{}", condition.text(TABLES[*table], 0));
                } else {
                    prop_assert!(step.forget);
                    *copy = expected;
                }
            }
            live.commit();
            asides.pass(&mut live);
            let sets: Vec<Set> = live.sets().cloned().collect();
            let columns = sets.iter().flat_map(|set| {
                let names = set.rows().evaluated_column_names();
                names.map(|name| (set.entity(), name))
            });
            prop_assert_eq!(live.columns().collect::<BTreeSet<_>>(), columns.collect());
            let known: Vec<&Set> = sets.iter().filter(|set| live.is_known(set)).collect();
            for set in &known {
                let Answer::Set(values) = database.answer(&Question::Set((*set).clone())) else {
                    panic!("a set")
                };
                let expected = Contents::read(set.rows(), &values).expect("values");
                prop_assert_eq!(live.contents(set), Some(expected.clone()), "{}", set.name());
                for values in expected.counts.keys() {
                    let values: Vec<&Scalar> = values.as_slice().iter().collect();
                    prop_assert!(live.holders(&family(set), &values).any(|holder| holder == *set));
                }
                prop_assert!(set.rows().filter.sets().all(|inner| live.is_known(inner)));
            }
            let held = known.iter().map(|set| live.contents(set).map_or(0, |contents| contents.len()));
            prop_assert_eq!(live.held(), held.sum::<usize>());
            // A set that was known is known for as long as it is in use.
            for (place, copy) in copies.iter().enumerate() {
                prop_assert!(copy.is_none() || are_known(&live, place));
            }
        }
        settle(&mut live, &database, &mut asides);
        for set in live.sets() {
            prop_assert!(live.is_known(set), "{}", set.name());
        }
        prop_assert!(!live.is_asking());
        for ((_, _, shape), attached) in shapes.iter().zip(attached) {
            if attached {
                direct_sets(shape).for_each(|set| live.release(set));
            }
        }
        prop_assert!(live.is_unused());
        prop_assert_eq!(live.columns().count(), 0);
        prop_assert_eq!(live.held(), 0);
        prop_assert_eq!(live.size(), (0, 0));
    }

    /// A reader that has been away receives exactly the difference, or is told that nobody knows it.
    #[test]
    fn a_resume_brings_a_copy_to_what_the_database_says(
        (table, condition) in (0..3_usize, condition(3)),
        before in prop::collection::vec(write(), 0..10),
        since in prop::collection::vec(write(), 0..10),
        forget in prop::bool::weighted(0.1),
    ) {
        let Some(shape) = resolve(table, &condition) else { return Ok(()) };
        let mut database = Database::default();
        let mut log = Log::default();
        before.iter().for_each(|write| log.write(&mut database, write));
        log.drain(&database, false);
        let mut copy = database.keys(table, &condition);
        since.iter().for_each(|write| log.write(&mut database, write));
        let entries = log.drain(&database, forget);
        let mut past = PastSets::new([&shape]);
        let mut questions = past.begin(&entries);
        while !questions.is_empty() {
            questions = past.answer(questions.iter().map(|question| database.answer(question)).collect());
        }
        if past.is_unknown(&shape) {
            prop_assert!(forget);
            return Ok(());
        }
        let mut changes = entries.clone();
        for (shape, filter) in past.touched() {
            let question = Question::Rows { entity: shape.entity().into(), filter, rows_max: usize::MAX };
            let Answer::Rows(rows) = database.answer(&question) else { panic!("rows") };
            changes.extend(touched(shape.entity(), rows, &entries));
        }
        let (before, now) = past.views();
        let exact = apply(&mut copy, &shape, &changes, SetsAtBoth { before: &before, now: &now });
        if exact {
            prop_assert_eq!(copy, database.keys(table, &condition), "{}", condition.text(TABLES[table], 0));
        } else {
            prop_assert!(forget);
        }
    }
}

/// Drains without changes. Returns the backfill that begins with it.
fn drain(live: &mut LiveSets) -> Option<Backfill> {
    assert!(live.begin(&[], true).is_empty());
    let backfill = live.begin_backfill();
    live.commit();
    backfill
}

#[test]
fn a_set_that_could_not_be_read_is_not_asked_for_at_each_drain() {
    let set = numbered_set(1);
    let mut live = LiveSets::default();
    live.want(&set);
    assert!(live.is_asking());
    let backfill = drain(&mut live).expect("a backfill");
    assert_eq!(backfill.questions, [Question::Set(set.clone())]);
    assert!(!live.is_asking() && drain(&mut live).is_none());
    live.backfilled(backfill.ticket, 0, Answer::Unknown);
    assert_eq!(live.take_settled(), std::slice::from_ref(&set));
    live.end_backfill(backfill.ticket);
    assert_eq!(live.failure(&set), Some(SetFailure::Unread));
    assert!(!live.is_asking() && drain(&mut live).is_none());
    live.ask_failed_again();
    let backfill = drain(&mut live).expect("a backfill");
    live.backfilled(backfill.ticket, 0, Answer::Set(Vec::new()));
    assert_eq!(live.take_settled(), std::slice::from_ref(&set));
    assert!(live.is_known(&set));
    assert_eq!(live.failure(&set), None);
}

/// One that takes long waits for others of its kind alone.
#[test]
fn a_set_that_takes_long_is_asked_for_by_itself_and_may_fail() {
    let set = numbered_set(1);
    let mut live = LiveSets::default();
    live.want(&set);
    let brief = drain(&mut live).expect("a backfill");
    assert_eq!(brief.lane, Lane::Brief);
    live.backfilled(brief.ticket, 0, Answer::TooLong);
    assert!(live.take_settled().is_empty());
    live.end_backfill(brief.ticket);
    let long = drain(&mut live).expect("a backfill");
    assert_eq!(long.lane, Lane::Long);
    // An answer to what is not asked any more.
    live.backfilled(brief.ticket, 0, Answer::Set(Vec::new()));
    assert!(!live.is_known(&set));
    live.backfilled(long.ticket, 0, Answer::TooLong);
    assert_eq!(live.failure(&set), Some(SetFailure::TooSlow));
    assert!(!live.is_asking());
    live.release(&set);
    live.end_backfill(long.ticket);
    live.want(&set);
    assert_eq!(drain(&mut live).map(|it| it.lane), Some(Lane::Brief));
}

#[test]
fn backfills_are_as_many_as_may_be_and_in_the_order_in_which_sets_were_wanted() {
    let sets: Vec<Set> = (0..2000).map(numbered_set).collect();
    let mut live = LiveSets::default();
    sets.iter().for_each(|set| live.want(set));
    let mut asked = Vec::new();
    let mut backfills = Vec::new();
    while let Some(backfill) = drain(&mut live) {
        asked.extend(backfill.questions.clone());
        backfills.push(backfill.ticket);
    }
    assert_eq!(backfills.len(), Lane::Brief.backfills_max());
    assert!(!live.is_asking());
    let expected = sets.iter().take(backfills.len() * BACKFILL_SETS_MAX);
    let expected: Vec<Question> = expected.cloned().map(Question::Set).collect();
    assert_eq!(asked, expected);
    live.end_backfill(backfills[0]);
    assert!(live.is_asking());
}

pub(super) fn numbered_set(number: i64) -> Set {
    let query = Query {
        table: 1,
        column: 1,
        condition: Written::Equals(2, number),
    };
    let condition = Written::Within {
        column: 1,
        negated: false,
        query: Box::new(query),
    };
    let shape = resolve(0, &condition).expect("a shape");
    shape.all_sets().next().expect("a set")
}
