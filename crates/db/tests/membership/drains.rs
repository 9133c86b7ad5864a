//! Questions of drains.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use filter::testing::sets::{Dice, RowSets, SetTable, filter_of, random_filter};
use filter::{Condition, Filter, Scalar};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use serde_json::Value;
use sync_core::log::NetChange;
use sync_core::membership::{Answer, Question};
use testkit::{Backend, TestDatabase, both_backends};
use tokio::runtime::Handle;

use crate::listening::{EVERYTHING, Event, Listening, equals, keys, rows_of, values};

const MEMBERS: &str = "CREATE TABLE m (id INTEGER PRIMARY KEY, x INTEGER)";

/// Runs SQL as another program, within a call that must not wait.
fn execute(db: &TestDatabase, sql: &str) -> Result<(), String> {
    tokio::task::block_in_place(|| Handle::current().block_on(db.try_execute(sql)))
}

/// Applies entries to a copy of the column `x` by key.
fn apply(copy: &mut BTreeMap<String, String>, entries: &[NetChange]) {
    for entry in entries {
        let key = entry.key.clone().expect("a key");
        match &entry.row {
            Some(row) => {
                let row: Value = serde_json::from_str(row.get()).expect("JSON");
                copy.insert(key, row["x"].to_string());
            }
            None => drop(copy.remove(&key)),
        }
    }
}

both_backends! {
    async fn an_answer_is_of_the_snapshot_of_the_drain(db: TestDatabase) {
        db.execute(MEMBERS).await;
        let mut listening = Listening::start(&db, &["m"], &["m"]).await;
        let set = listening.set("m", &["x"], EVERYTHING);
        let db = Arc::new(db);
        let writer = db.clone();
        let mut copy = BTreeMap::new();
        let mut step = 0;
        listening.ask(move |event| match event {
            Event::Begin(entries) => {
                apply(&mut copy, entries);
                // Each drain is followed by another, because somebody writes behind its snapshot.
                step += 1;
                if step <= 12 {
                    let sql = match step % 3 {
                        0 => format!("DELETE FROM m WHERE id = {}", step - 2),
                        1 => format!("INSERT INTO m VALUES ({step}, {})", step % 4),
                        _ => format!("UPDATE m SET x = 7 WHERE id = {}", step - 1),
                    };
                    execute(&writer, &sql).expect("a write");
                }
                vec![Question::Set(set.clone())]
            }
            Event::Answers(answers) => {
                let mut expected = BTreeMap::new();
                for value in copy.values() {
                    *expected.entry(value.clone()).or_default() += 1;
                }
                assert_eq!(values(&answers[0]), expected);
                Vec::new()
            }
        })
        .await;
        db.execute("INSERT INTO m VALUES (1000, 1)").await;
        loop {
            let found = listening.found().await;
            if found.iter().any(|entry| entry.key.as_deref() == Some("10") && entry.row.is_none()) {
                break;
            }
        }
    }

    async fn questions_are_asked_in_rounds_and_before_the_drain_is_published(db: TestDatabase) {
        db.execute(&format!("{MEMBERS}; INSERT INTO m VALUES (1, 1), (2, 1), (3, NULL)")).await;
        let mut listening = Listening::start(&db, &["m"], &["m"]).await;
        let sets = [
            listening.set("m", &["x"], EVERYTHING),
            listening.set("m", &[], EVERYTHING),
            listening.set("m", &["x"], equals(0, Scalar::Int(2))),
        ];
        let empty = listening.set("m", &[], equals(0, Scalar::Int(9)));
        let one = filter_of(equals(1, Scalar::Int(1)));
        let answered = Arc::new(Mutex::new(Vec::new()));
        let seen = answered.clone();
        listening.ask(move |event| match event {
            Event::Begin(_) => sets.iter().cloned().map(Question::Set).collect(),
            Event::Answers(answers) => {
                let mut seen = seen.lock().expect("no panic");
                seen.push(answers);
                match seen.len() {
                    1 => vec![
                        Question::Set(empty.clone()),
                        rows_of("m", one.clone(), 2),
                        rows_of("m", one.clone(), 1),
                    ],
                    _ => Vec::new(),
                }
            }
        })
        .await;
        db.execute("INSERT INTO m VALUES (4, NULL)").await;
        listening.found().await;
        let answered = answered.lock().expect("no panic");
        let count = |value: &str, count| (value.to_owned(), count);
        assert_eq!(values(&answered[0][0])[&"1".to_owned()], 2);
        assert!(matches!(&answered[0][1], Answer::Set(of) if of.len() == 1 && of[0].0.get() == "{}"));
        assert_eq!(values(&answered[0][2]), BTreeMap::from([count("1", 1)]));
        assert!(matches!(&answered[1][0], Answer::Set(none) if none.is_empty()));
        assert_eq!(keys(&answered[1][1]), ["1", "2"]);
        assert!(matches!(answered[1][2], Answer::TooMany));
    }

    async fn a_set_of_a_table_that_is_another_one_is_not_known(db: TestDatabase) {
        db.execute(MEMBERS).await;
        let mut listening = Listening::start(&db, &["m"], &["m"]).await;
        let old = listening.set("m", &["x"], EVERYTHING);
        db.execute("ALTER TABLE m ADD COLUMN y INTEGER").await;
        // The catalog is read again.
        let described = listening.db.install(&"m".into()).await.expect("no error");
        let entity = described.expect("a suitable table").expect("a table").entity;
        let answered = Arc::new(Mutex::new(Vec::new()));
        // Both of an engine that knows of the change and of one that does not.
        for knows in [false, true] {
            if knows {
                listening.entities.replace_one("m", Some(Arc::new(entity.clone())));
            }
            let (seen, old) = (answered.clone(), old.clone());
            listening.ask(move |event| match event {
                Event::Begin(_) => vec![Question::Set(old.clone())],
                Event::Answers(answers) => {
                    seen.lock().expect("no panic").extend(answers);
                    Vec::new()
                }
            })
            .await;
            db.execute(&format!("INSERT INTO m (id) VALUES ({})", i32::from(knows))).await;
            listening.found().await;
        }
        let answered = answered.lock().expect("no panic");
        assert!(answered.len() > 1);
        assert!(answered.iter().all(|answer| matches!(answer, Answer::Unknown)), "{answered:?}");
    }

    async fn a_filter_on_sets_is_true_for_the_same_rows_in_the_database(db: TestDatabase) {
        db.execute(
            "CREATE TABLE a (id INTEGER PRIMARY KEY, x INTEGER, y TEXT); \
             CREATE TABLE b (id INTEGER PRIMARY KEY, x BIGINT, y VARCHAR(9), z INTEGER); \
             INSERT INTO a VALUES (0, 0, 'a'), (1, 1, NULL), (2, NULL, 'b'), (3, 3, ''), (4, 2, 'c'); \
             INSERT INTO b VALUES (0, 0, 'a', 1), (1, 1, 'b', 0), (2, 2, NULL, 1), (3, 3, 'd', NULL)",
        )
        .await;
        let listening = Listening::start(&db, &["a", "b"], &["a", "b"]).await;
        let tables: Vec<SetTable> = ["a", "b"]
            .iter()
            .map(|name| {
                let entity = listening.entity(name);
                SetTable {
                    schema: entity.schema.clone(),
                    fingerprint: entity.fingerprint.as_str().into(),
                    backend: listening.db.filter_backend(),
                }
            })
            .collect();
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let mut filter = || {
            let rolls = prop::collection::vec(any::<usize>(), 60).new_tree(&mut runner);
            let rolls: Vec<usize> = rolls.expect("rolls").current();
            let mut next = 0;
            let dice: Dice<'_> = &mut |sides| {
                next += 1;
                rolls[next % rolls.len()] % sides
            };
            random_filter(&tables, 0, 3, dice)
        };
        let filters: Vec<Filter> = (0..400).map(|_| filter()).collect();
        // A drain has not the time for all of them.
        let mut waiting: Vec<Question> = ["a", "b"].map(|name| rows_of(name, Filter::everything(), 99)).into();
        waiting.extend(filters.iter().map(|filter| rows_of("a", filter.clone(), 99)));
        let all = waiting.len();
        let mut waiting: Vec<(usize, Question)> = waiting.into_iter().enumerate().rev().collect();
        let mut asked = Vec::new();
        let (sender, answered) = std::sync::mpsc::channel();
        listening.ask(move |event| {
            if let Event::Answers(answers) = event {
                for (answer, question) in answers.into_iter().zip(std::mem::take(&mut asked)) {
                    match answer {
                        Answer::TooLong => waiting.push(question),
                        answer => drop(sender.send((question.0, answer))),
                    }
                }
                return Vec::new();
            }
            // Those of a drain that has failed.
            waiting.append(&mut asked);
            asked = waiting.split_off(waiting.len().saturating_sub(20));
            asked.iter().map(|(_, question)| question.clone()).collect()
        })
        .await;
        let mut answers: BTreeMap<usize, Answer> = BTreeMap::new();
        while answers.len() < all {
            listening.drain_again().await;
            answers.extend(answered.try_iter());
        }
        let mut answers = answers.into_values();
        let mut sets = RowSets::default();
        for (table, answer) in tables.iter().zip(answers.by_ref()) {
            let Answer::Rows(mut rows) = answer else {
                panic!("{answer:?}")
            };
            rows.sort_by(|one, other| one.0.cmp(&other.0));
            sets.add(table, rows.iter().map(|(_, row)| &**row));
        }
        let mut selective = 0;
        for (filter, answer) in filters.iter().zip(answers) {
            let found = keys(&answer);
            let rows = sets.rows("a").iter().enumerate();
            let expected = rows.filter(|(_, row)| filter.matches(row, &sets) == Some(true));
            let expected: Vec<String> = expected.map(|(id, _)| id.to_string()).collect();
            assert_eq!(found, expected, "{filter:#?}");
            let is_selective = !found.is_empty() && found.len() < sets.rows("a").len();
            selective += usize::from(is_selective && filter.sets().len() > 0);
        }
        assert!(selective > 40, "too little is tested: {selective}");
    }

    async fn of_a_large_drain_only_what_decides_is_kept(db: TestDatabase) {
        db.execute(&format!("{MEMBERS}; CREATE TABLE large (id INTEGER PRIMARY KEY, x TEXT)")).await;
        let mut listening = Listening::start(&db, &["m", "large"], &["m"]).await;
        let begun = Arc::new(Mutex::new(Vec::new()));
        let seen = begun.clone();
        let set = listening.set("m", &["x"], EVERYTHING);
        listening.ask(move |event| match event {
            Event::Begin(entries) => {
                let entries = entries.iter().map(|entry| entry.entity.clone());
                seen.lock().expect("no panic").push(entries.collect::<Vec<_>>());
                vec![Question::Set(set.clone())]
            }
            Event::Answers(answers) => {
                assert!(matches!(answers[0], Answer::Set(_)));
                Vec::new()
            }
        })
        .await;
        let text = match db.backend() {
            Backend::Postgres => "repeat('x', 1048576)",
            Backend::Sqlite => "hex(zeroblob(524288))",
        };
        db.execute(&format!(
            "BEGIN; INSERT INTO m VALUES (1, 1); INSERT INTO large WITH RECURSIVE n(id) AS \
             (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < 70) SELECT id, {text} FROM n; COMMIT"
        ))
        .await;
        let found = listening.found().await;
        assert_eq!(found.len(), 71);
        let begun = begun.lock().expect("no panic");
        let begun: Vec<_> = begun.iter().filter(|entries| !entries.is_empty()).collect();
        assert_eq!(begun, [&vec!["m".to_owned()]]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_keeps_its_rows_while_it_is_asked_about() {
    let db = Arc::new(TestDatabase::postgres().await);
    db.execute(&format!("{MEMBERS}; INSERT INTO m VALUES (1, 1)"))
        .await;
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)").await;
    let mut listening = Listening::start(&db, &["m", "t"], &["m"]).await;
    let set = listening.set("m", &["x"], EVERYTHING);
    let writer = db.clone();
    listening
        .ask(move |event| match event {
            Event::Begin(_) => {
                for change in ["TRUNCATE m", "ALTER TABLE m ALTER x TYPE text"] {
                    let sql = format!("SET lock_timeout = '50ms'; {change}");
                    let error = execute(&writer, &sql).expect_err(change);
                    assert!(error.contains("lock timeout"), "{error}");
                }
                vec![Question::Set(set.clone())]
            }
            Event::Answers(answers) => {
                assert_eq!(values(&answers[0]), BTreeMap::from([("1".to_owned(), 1)]));
                Vec::new()
            }
        })
        .await;
    db.execute("INSERT INTO t VALUES (1)").await;
    listening.found().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_that_fails_harms_no_other() {
    let db = TestDatabase::postgres().await;
    db.execute(&format!("{MEMBERS}; INSERT INTO m VALUES (1, 1)"))
        .await;
    db.execute("CREATE TABLE locked (id INTEGER PRIMARY KEY, x INTEGER)")
        .await;
    let mut listening = Listening::start(&db, &["m", "locked"], &["m", "locked"]).await;
    let all = listening.set("m", &["x"], EVERYTHING);
    // A text is not a number.
    let failing = listening.set("m", &["x"], equals(1, Scalar::Text("x".into())));
    let locked = listening.set("locked", &["x"], EVERYTHING);
    let inside = Condition::Member {
        columns: vec![1],
        set: locked.clone(),
        membership: filter::Membership::In,
        negated: true,
    };
    let inside = listening.set("m", &["x"], inside);
    let (sender, answered) = std::sync::mpsc::channel();
    listening
        .ask(move |event| match event {
            Event::Begin(entries) => {
                let questions = [&all, &failing, &locked, &inside, &all]
                    .into_iter()
                    .cloned();
                match entries.is_empty() {
                    true => Vec::new(),
                    false => questions.map(Question::Set).collect(),
                }
            }
            Event::Answers(answers) => {
                let _ = sender.send(answers);
                Vec::new()
            }
        })
        .await;
    let other = db.connect_postgres().await;
    other
        .batch_execute("BEGIN; LOCK TABLE locked")
        .await
        .expect("a lock");
    db.execute("INSERT INTO m VALUES (2, 1)").await;
    let found = listening.found().await;
    assert_eq!(found.len(), 1);
    let answers = answered.recv().expect("answers");
    let both = BTreeMap::from([("1".to_owned(), 2)]);
    assert_eq!(values(&answers[0]), both);
    for unknown in &answers[1..4] {
        assert!(matches!(unknown, Answer::Unknown), "{unknown:?}");
    }
    assert_eq!(values(&answers[4]), both);
}
