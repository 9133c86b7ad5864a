//! Questions behind drains.

use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use filter::{CompareOp, Condition, Filter, Membership, Scalar};
use rhtmx_sync_db::read::{Backfill, BackfillAnswers, QuestionTime};
use sync_core::membership::{Answer, Question};
use testkit::both_backends;
use tokio::runtime::Handle;

use crate::listening::{EVERYTHING, Listening, equals, keys, rows_of, values};

/// Hands answers on, each when it is let through.
struct Answers {
    passes: mpsc::Receiver<()>,
    answers: mpsc::Sender<(usize, Answer)>,
}

impl BackfillAnswers for Answers {
    fn take(&mut self, index: usize, answer: Answer) {
        let _ = tokio::task::block_in_place(|| self.passes.recv());
        let _ = self.answers.send((index, answer));
    }
}

const HOURS: Duration = Duration::from_secs(10_000);

both_backends! {
    async fn answers_behind_a_drain_are_of_its_snapshot_and_nobody_waits_for_them(db: TestDatabase) {
        db.execute("CREATE TABLE m (id INTEGER PRIMARY KEY, x INTEGER); INSERT INTO m VALUES (1, 1)").await;
        let db = Arc::new(db);
        let mut listening = Listening::start(&db, &["m"], &["m"]).await;
        let set = listening.set("m", &["x"], EVERYTHING);
        let everything = rows_of("m", Filter::everything(), 99);
        let (pass, passes) = mpsc::channel();
        let (sender, answers) = mpsc::channel();
        let mut taker = Some(Answers { passes, answers: sender });
        let writer = db.clone();
        listening.ask(|_| Vec::new()).await;
        listening.ask_behind(move || {
            let answers = Box::new(taker.take()?);
            // Behind the drain's snapshot.
            let write = writer.try_execute("INSERT INTO m VALUES (2, 1)");
            tokio::task::block_in_place(|| Handle::current().block_on(write)).expect("a write");
            Some(Backfill {
                questions: vec![Question::Set(set.clone()), everything.clone()],
                time: QuestionTime { each: HOURS, total: HOURS },
                answers,
            })
        });
        assert_eq!(listening.found().await[0].key.as_deref(), Some("2"));
        for id in 3..6 {
            db.execute(&format!("INSERT INTO m VALUES ({id}, 7)")).await;
            assert_eq!(listening.found().await[0].key.as_deref(), Some(&*id.to_string()));
        }
        drop(pass);
        let (first, of_set) = answers.recv().expect("an answer");
        let (second, of_rows) = answers.recv().expect("an answer");
        assert_eq!((first, second), (0, 1));
        assert_eq!(values(&of_set), BTreeMap::from([("1".to_owned(), 1)]));
        assert_eq!(keys(&of_rows), ["1"]);
        assert!(answers.recv().is_err(), "the end is told");
    }

    async fn an_answer_that_takes_too_long_is_given_up(db: TestDatabase) {
        let rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) SELECT i, i FROM n";
        db.execute(&format!("CREATE TABLE m (id INTEGER PRIMARY KEY, x INTEGER); INSERT INTO m {rows}")).await;
        let listening = Listening::start(&db, &["m"], &["m"]).await;
        // Each of its rows is compared with all.
        let greater = |value| Condition::Compare { column: 1, op: CompareOp::Gt, value: Scalar::Int(value) };
        let all = listening.set("m", &["id"], greater(0));
        let inside = Condition::Member { columns: vec![1], set: all, membership: Membership::In, negated: true };
        let dear = listening.set("m", &["x"], Condition::Or(vec![inside, greater(30_000)]));
        let cheap = listening.set("m", &["x"], equals(0, Scalar::Int(3)));
        let (pass, passes) = mpsc::channel();
        drop(pass);
        let (sender, answers) = mpsc::channel();
        let mut taker = Some(Answers { passes, answers: sender });
        listening.ask(|_| Vec::new()).await;
        listening.ask_behind(move || Some(Backfill {
            questions: vec![Question::Set(dear.clone()), Question::Set(cheap.clone())],
            time: QuestionTime { each: Duration::from_millis(1), total: HOURS },
            answers: Box::new(taker.take()?),
        }));
        let mut answers: Vec<(usize, Answer)> = tokio::task::block_in_place(|| answers.iter().collect());
        answers.sort_by_key(|(index, _)| *index);
        assert!(matches!(answers[0], (0, Answer::TooLong)), "{:?}", answers[0]);
        let (_, cheap) = &answers[1];
        assert!(matches!(cheap, Answer::TooLong) || values(cheap) == BTreeMap::from([("3".to_owned(), 1)]));
    }
}
