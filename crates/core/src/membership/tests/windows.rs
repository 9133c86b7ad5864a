//! Windows against a database that orders all its rows.

use std::cell::Cell;
use std::cmp::Ordering;

use filter::{Direction, Filter, SetRows, Window, WindowRequest};
use proptest::prelude::*;

use super::*;

/// A window as it is asked for: of which rows, ordered by which columns (descending or not), how many, behind which.
#[derive(Debug, Clone)]
struct Asked {
    condition: Written,
    order: Vec<(usize, bool)>,
    limit: usize,
    after: Option<Row>,
}

impl Asked {
    /// The order with the key behind it.
    fn whole_order(&self) -> Vec<(usize, bool)> {
        let mut order = self.order.clone();
        if order.iter().all(|(column, _)| *column != 0) {
            order.push((0, order.last().is_some_and(|(_, descending)| *descending)));
        }
        order
    }

    fn compare(&self, one: &Row, other: &Row) -> Ordering {
        let order = self.whole_order().into_iter();
        let each = order.map(|(column, descending)| {
            // A null is above every value.
            let rank = |row: &Row| (row[column].is_none(), row[column]);
            let ascending = rank(one).cmp(&rank(other));
            if descending {
                ascending.reverse()
            } else {
                ascending
            }
        });
        each.fold(Ordering::Equal, Ordering::then)
    }

    /// The first rows of the database behind the one with which the window begins.
    fn first(&self, database: &Database, rows_max: usize) -> Vec<Row> {
        let rows = database.0[0].values();
        let rows = rows.filter(|row| self.condition.truth(row, database) == Some(true));
        let is_behind = |row: &&Row| {
            let after = self.after.as_ref();
            after.is_none_or(|after| self.compare(after, row) == Ordering::Less)
        };
        let mut rows: Vec<Row> = rows.filter(is_behind).copied().collect();
        rows.sort_by(|one, other| self.compare(one, other));
        rows.truncate(rows_max);
        rows
    }

    fn keys(&self, database: &Database) -> BTreeSet<String> {
        let rows = self.first(database, self.limit);
        rows.iter().map(key).collect()
    }

    fn shape(&self) -> Option<Shape> {
        let table = table(0);
        let text = self.condition.text(&table.schema.entity, 0);
        let among = Table::new(&table.schema, Backend::Postgres).among(&AllTables);
        let filter = Filter::new(&text, &[], among).ok()?;
        let direction = |descending| match descending {
            true => Direction::Descending,
            false => Direction::Ascending,
        };
        let order = self.order.iter();
        let order: Vec<(&str, Direction)> = order
            .map(|(column, descending)| (COLUMNS[*column], direction(*descending)))
            .collect();
        let after = self.after.map(|after| {
            let values = self.whole_order().into_iter();
            let values = values.map(|(column, _)| {
                let text = after[column].map_or("null".to_owned(), |value| value.to_string());
                RawValue::from_string(text).expect("JSON")
            });
            values.collect::<Vec<_>>()
        });
        let request = WindowRequest {
            order: &order,
            limit: self.limit,
            after: after.as_deref(),
        };
        let window = Window::new(request, among, |_| false).expect("a window");
        let filter = Filter::of_window(Set::new(SetRows {
            schema: table.schema.clone(),
            fingerprint: table.fingerprint.clone(),
            backend: table.backend,
            filter,
            columns: table.schema.key.clone(),
            window: Some(window),
            asked: None,
        }));
        // Of a window of nothing, nothing is left.
        Some(Shape::of_filter(&table, filter)).filter(|shape| window_of(shape).is_some())
    }

    fn answer(&self, database: &Database, question: &Question) -> Answer {
        match question {
            Question::Window { rows, .. } => {
                let rows = self.first(database, *rows);
                Answer::Window(rows.iter().map(|row| (key(row), json(row))).collect())
            }
            other => database.answer(other),
        }
    }
}

fn window_of(shape: &Shape) -> Option<&Set> {
    shape.selection()?.filter().window()
}

fn asked() -> impl Strategy<Value = Asked> {
    let order = prop::collection::btree_map(0..3_usize, any::<bool>(), 0..3);
    let order = order.prop_map(|order| order.into_iter().collect::<Vec<(usize, bool)>>());
    let value = || prop::option::weighted(0.8, 0..4_i64);
    let after = (0..8_i64, value(), value()).prop_map(|(id, x, y)| [Some(id), x, y]);
    let condition = prop_oneof![
        1 => condition(2),
        2 => Just(Written::Not(Box::new(Written::Equals(0, 99)))),
        1 => (1..3_usize, 0..3_i64).prop_map(|(column, value)| Written::Equals(column, value)),
    ];
    (
        condition,
        order.prop_shuffle(),
        1..4_usize,
        prop::option::weighted(0.3, after),
    )
        .prop_map(|(condition, order, limit, after)| Asked {
            condition,
            order,
            limit,
            after,
        })
}

/// Mostly writes of the table of the windows.
fn write_of_window() -> impl Strategy<Value = Write> {
    let value = || prop::option::weighted(0.8, 0..4_i64);
    let values = prop::option::weighted(0.75, (value(), value()));
    (prop_oneof![4 => Just(0), 1 => 1..3_usize], 0..8_i64, values)
        .prop_map(|(table, id, values)| Write { table, id, values })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// At each position the copy of a window is `ORDER BY … LIMIT` of the database.
    #[test]
    fn a_window_equals_the_first_rows_at_each_position(
        asked in asked(),
        steps in prop::collection::vec((prop::collection::vec(write_of_window(), 0..5), prop::bool::weighted(0.1)), 1..12),
        moments in 0..8_usize,
    ) {
        let Some(shape) = asked.shape() else { return Ok(()) };
        let window = window_of(&shape).expect("a window");
        let (mut database, mut log, mut live) = (Database::default(), Log::default(), LiveSets::default());
        let answer = |database: &Database, question: &Question| asked.answer(database, question);
        let mut asides = Asides::new(&answer);
        live.want(window);
        // None while the window is not known.
        let mut copy: Option<BTreeSet<String>> = None;
        for (writes, forget) in steps {
            writes.iter().for_each(|write| log.write(&mut database, write));
            let entries = log.drain(&database, forget);
            ask(&mut live, &entries, |question| answer(&database, question), (&mut asides, false));
            asides.begin(&mut live, &database, (moments, None));
            asides.pass(&mut live);
            let expected = asked.keys(&database);
            if let Some(copy) = &mut copy {
                let filter = shape.selection().expect("a selection").filter();
                let moved = filter.touched(&|set| live.change(set));
                let moved = moved.map(|filter| {
                    let question = Question::Rows { entity: "a".into(), filter, rows_max: usize::MAX };
                    match database.answer(&question) {
                        Answer::Rows(rows) => touched("a", rows, &entries),
                        other => panic!("{other:?}"),
                    }
                });
                let (before, now) = live.views();
                let sets = SetsAtBoth { before: &before, now: &now };
                let exact = apply(copy, &shape, &entries, sets)
                    && apply(copy, &shape, &moved.unwrap_or_default(), sets);
                if exact {
                    prop_assert_eq!(&*copy, &expected);
                } else {
                    prop_assert!(forget);
                    *copy = expected.clone();
                }
            }
            live.commit();
            asides.pass(&mut live);
            match live.contents(window) {
                Some(known) => {
                    let known = known.counts.keys().map(|key| key.as_slice()[0].to_string());
                    prop_assert_eq!(known.collect::<BTreeSet<String>>(), expected.clone());
                    copy.get_or_insert(expected);
                }
                None => prop_assert!(copy.is_none()),
            }
        }
        settle(&mut live, &database, &mut asides);
        let known = live.contents(window).expect("it is known");
        let known = known.counts.keys().map(|key| key.as_slice()[0].to_string());
        prop_assert_eq!(known.collect::<BTreeSet<String>>(), asked.keys(&database));
        live.release(window);
        prop_assert_eq!((live.held(), live.size()), (0, (0, 0)));
    }

    /// A change outside of a window asks nothing, and moves nothing.
    #[test]
    fn a_change_behind_the_kept_rows_asks_nothing(
        order in any::<bool>(),
        limit in 1..4_usize,
        changes in prop::collection::vec((prop::option::of(0..40_i64), any::<bool>()), 1..6),
    ) {
        let asked = Asked {
            condition: Written::Not(Box::new(Written::Equals(0, 99))),
            order: vec![(1, order)],
            limit,
            after: None,
        };
        let shape = asked.shape().expect("a shape");
        let window = window_of(&shape).expect("a window");
        let (mut database, mut log, mut live) = (Database::default(), Log::default(), LiveSets::default());
        let far = if order { 0 } else { 100 };
        for id in 0..10 {
            let near = if order { 100 + id } else { id - 10 };
            log.write(&mut database, &Write { table: 0, id, values: Some((Some(near), None)) });
        }
        log.drain(&database, false);
        live.want(window);
        let answer = |database: &Database, question: &Question| asked.answer(database, question);
        let mut asides = Asides::new(&answer);
        settle(&mut live, &database, &mut asides);
        for (index, (value, delete)) in changes.iter().enumerate() {
            let id = 20 + i64::try_from(index % 3).expect("few");
            // Null comes first where the order is descending, so it is no change behind.
            let value = value.or(order.then_some(0)).map(|value| value + far);
            let values = (!delete).then_some((value, None));
            log.write(&mut database, &Write { table: 0, id, values });
            let entries = log.drain(&database, false);
            let questions = Cell::new(0);
            ask(&mut live, &entries, |question| {
                questions.set(questions.get() + 1);
                asked.answer(&database, question)
            }, (&mut asides, false));
            prop_assert_eq!(questions.get(), 0);
            prop_assert!(live.change(window).is_none() && !live.stirred().contains(window));
            live.commit();
        }
    }

    /// A reader that has been away receives the difference.
    #[test]
    fn a_resume_brings_a_window_to_what_the_database_says(
        asked in asked(),
        before in prop::collection::vec(write_of_window(), 0..12),
        since in prop::collection::vec(write_of_window(), 0..8),
        forget in prop::bool::weighted(0.1),
    ) {
        let Some(shape) = asked.shape() else { return Ok(()) };
        let (mut database, mut log) = (Database::default(), Log::default());
        before.iter().for_each(|write| log.write(&mut database, write));
        log.drain(&database, false);
        let mut copy = asked.keys(&database);
        since.iter().for_each(|write| log.write(&mut database, write));
        let entries = log.drain(&database, forget);
        let mut past = PastSets::new([&shape]);
        let mut questions = past.begin(&entries);
        while !questions.is_empty() {
            let answers = questions.iter().map(|question| asked.answer(&database, question));
            questions = past.answer(answers.collect());
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
        if apply(&mut copy, &shape, &changes, SetsAtBoth { before: &before, now: &now }) {
            prop_assert_eq!(copy, asked.keys(&database));
        } else {
            prop_assert!(forget);
        }
    }
}

/// A full window that loses rows one by one asks only when no kept row is left behind it.
#[test]
fn a_window_asks_when_the_rows_kept_behind_it_are_used_up() {
    let asked = Asked {
        condition: Written::Not(Box::new(Written::Equals(0, 99))),
        order: vec![(1, true)],
        limit: 4,
        after: None,
    };
    let shape = asked.shape().expect("a shape");
    let window = window_of(&shape).expect("a window");
    let (mut database, mut log, mut live) =
        (Database::default(), Log::default(), LiveSets::default());
    let write = |id, values| Write {
        table: 0,
        id,
        values,
    };
    for id in 0..20 {
        log.write(&mut database, &write(id, Some((Some(id), None))));
    }
    log.drain(&database, false);
    live.want(window);
    let answer = |database: &Database, question: &Question| asked.answer(database, question);
    settle(&mut live, &database, &mut Asides::new(&answer));
    let mut asks = Vec::new();
    for id in (10..20).rev() {
        log.write(&mut database, &write(id, None));
        let entries = log.drain(&database, false);
        let questions = live.begin(&entries, true);
        asks.push(questions.len());
        if !questions.is_empty() {
            let answers = questions.iter().map(|it| asked.answer(&database, it));
            live.answer(answers.collect());
        }
        live.commit();
    }
    assert_eq!(asks, [0, 0, 1, 0, 0, 1, 0, 0, 1, 0]);
    // A new row at the top asks nothing, and one that changes where it is does not move the window.
    for values in [(Some(50), None), (Some(50), Some(1))] {
        log.write(&mut database, &write(30, Some(values)));
        let entries = log.drain(&database, false);
        assert_eq!(live.begin(&entries, true), []);
        let stays = values.1.is_some();
        assert_eq!(live.change(window).is_none(), stays);
        assert_eq!(live.stirred().contains(window), !stays);
        live.commit();
    }
}

/// However many windows a table has, a change is looked at for those that its row may be in alone.
#[test]
fn a_change_concerns_the_windows_that_its_row_may_be_in() {
    let table = table(0);
    let window = |condition: &str| {
        let among = Table::new(&table.schema, Backend::Postgres).among(&AllTables);
        let request = WindowRequest {
            order: &[],
            limit: 2,
            after: None,
        };
        Set::new(SetRows {
            filter: Filter::new(condition, &[], among).expect("a filter"),
            window: Some(Window::new(request, among, |_| false).expect("a window")),
            schema: table.schema.clone(),
            fingerprint: table.fingerprint.clone(),
            backend: table.backend,
            columns: table.schema.key.clone(),
            asked: None,
        })
    };
    let (mut database, mut log, mut live) =
        (Database::default(), Log::default(), LiveSets::default());
    for id in 0..8 {
        let values = Some((Some(id), Some(id)));
        log.write(
            &mut database,
            &Write {
                table: 1,
                id,
                values,
            },
        );
    }
    log.drain(&database, false);
    for id in 0..8 {
        live.want(&window(&format!("x IN (SELECT x FROM b WHERE id = {id})")));
        live.want(&window(&format!("y = {id}")));
    }
    let answer = |database: &Database, question: &Question| match question {
        Question::Window { .. } => Answer::Window(Vec::new()),
        other => database.answer(other),
    };
    settle(&mut live, &database, &mut Asides::new(&answer));
    let mut concerned = |id, values| {
        let write = Write {
            table: 0,
            id,
            values,
        };
        log.write(&mut database, &write);
        let entries = log.drain(&database, false);
        ask(
            &mut live,
            &entries,
            |question| answer(&database, question),
            (&mut Asides::new(&answer), false),
        );
        let concerned = live.concerned();
        live.commit();
        concerned
    };
    assert_eq!(concerned(1, Some((Some(3), Some(5)))), 2);
    assert_eq!(concerned(2, Some((Some(4), None))), 1);
    // From one to another.
    assert_eq!(concerned(1, Some((Some(6), Some(5)))), 3);
    assert_eq!(concerned(1, None), 2);
    assert_eq!(concerned(3, Some((None, None))), 0);
}
