//! Questions of resumes and catch-ups.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use filter::testing::sets::filter_of;
use filter::{Filter, Scalar};
use rhtmx_sync_db::read::{ChangesQuery, Inquiring, QuestionTime, ReadError};
use sync_core::log::{ChangeKind, NetChange};
use sync_core::membership::{Answer, Inquiry, Question};
use testkit::both_backends;

use crate::listening::{EVERYTHING, Listening, equals, values};

const TIME: QuestionTime = QuestionTime {
    each: Duration::from_secs(10),
    total: Duration::from_secs(10),
};

/// Asks one set, and says that rows have moved.
struct Asking {
    question: Option<Question>,
    touched: Vec<(String, Filter)>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    entries: Vec<NetChange>,
    answers: Vec<Answer>,
}

impl Inquiry for Asking {
    fn begin(&mut self, entries: &[NetChange]) -> Vec<Question> {
        self.seen.lock().expect("no panic").entries = entries.to_vec();
        self.question.take().into_iter().collect()
    }

    fn answer(&mut self, answers: Vec<Answer>) -> Vec<Question> {
        self.seen.lock().expect("no panic").answers.extend(answers);
        Vec::new()
    }

    fn touched(&mut self) -> Vec<(String, Filter)> {
        std::mem::take(&mut self.touched)
    }
}

fn query(listening: &Listening, asking: Asking) -> ChangesQuery {
    ChangesQuery {
        from: listening.cursor.position.clone(),
        old_value_columns: BTreeMap::from([("m".to_owned(), BTreeSet::from(["x".to_owned()]))]),
        metadata: BTreeSet::new(),
        checked: true,
        entries_max: Some(1_000_000),
        entities: Some(BTreeSet::from(["t".to_owned()])),
        inquiry: Some(Inquiring::new(
            BTreeSet::from(["m".to_owned()]),
            Box::new(asking),
            TIME,
        )),
        at_drain: None,
    }
}

const TABLES: &str = "\
CREATE TABLE m (id INTEGER PRIMARY KEY, x INTEGER);
CREATE TABLE t (id INTEGER PRIMARY KEY, x INTEGER);
INSERT INTO m VALUES (1, 1);
INSERT INTO t VALUES (1, 1), (2, 1), (3, 2), (4, 3)";

both_backends! {
    async fn moved_rows_follow_the_changes(db: TestDatabase) {
        db.execute(TABLES).await;
        let listening = Listening::start(&db, &["m", "t"], &["m"]).await;
        db.execute("UPDATE m SET x = 2; UPDATE t SET x = 1 WHERE id = 2; DELETE FROM t WHERE id = 4").await;
        let seen = Arc::new(Mutex::new(Seen::default()));
        let asking = Asking {
            question: Some(Question::Set(listening.set("m", &["x"], EVERYTHING))),
            touched: [1, 2, 2, 3]
                .map(|x| ("t".to_owned(), filter_of(equals(1, Scalar::Int(x)))))
                .into(),
            seen: seen.clone(),
        };
        let mut changes = listening.db.read_changes(listening.entities.all(), query(&listening, asking));
        changes.start().await.expect("a start");
        // All has been asked before the first change comes.
        assert_eq!(values(&seen.lock().expect("no panic").answers[0]), BTreeMap::from([("2".to_owned(), 1)]));
        let mut found = Vec::new();
        while let Some(more) = changes.next().await.expect("changes") {
            found.extend(more.into_iter().map(|entry| {
                let touched = entry.kind == ChangeKind::Touched;
                assert!(!touched || entry.row.is_some() && entry.undo.is_some_and(|undo| undo.is_empty()));
                (entry.entity, entry.key.expect("a key"), touched)
            }));
        }
        let row = |key: &str, touched| ("t".to_owned(), key.to_owned(), touched);
        assert_eq!(found[..2], [row("2", false), row("4", false)]);
        found[2..].sort();
        assert_eq!(found[2..], [row("1", true), row("3", true)]);
        let seen = seen.lock().expect("no panic");
        let [entry] = seen.entries.as_slice() else {
            panic!("{:?}", seen.entries)
        };
        assert_eq!(entry.entity, "m");
        let undo = entry.undo.as_ref().expect("the past");
        let old = undo[0].old.as_ref().expect("a value").get().replace(' ', "");
        assert_eq!(old, r#"{"x":1}"#);
    }

    async fn a_read_whose_sets_are_of_another_table_is_outdated(db: TestDatabase) {
        db.execute(TABLES).await;
        let listening = Listening::start(&db, &["m", "t"], &["m"]).await;
        let asking = Asking {
            question: None,
            touched: Vec::new(),
            seen: Arc::default(),
        };
        let known = listening.entities.all();
        db.execute("ALTER TABLE m ADD COLUMN y INTEGER").await;
        let _ = listening.db.install(&"m".into()).await.expect("no error");
        let mut changes = listening.db.read_changes(known, query(&listening, asking));
        let error = changes.start().await.expect_err("another table");
        assert!(matches!(error, ReadError::Outdated(entity) if entity == "m"));
    }
}
