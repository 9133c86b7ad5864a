//! What sessions receive of rows that sets have moved: the same, however many of them are concerned.

use crate::rows::testing::{raw, shape_among};

use super::*;

const LIMITS_OF_MANY: HubLimits = HubLimits {
    entity_work_max: 100_000,
    ..LIMITS
};

/// A drain: its entries, and the answers to the questions that it asks.
fn drain(hub: &Arc<Hub>, id: i64, entries: Vec<NetChange>, answer: impl Fn(&Question) -> Answer) {
    let position = Arc::new(Position::log_id(id));
    let old_value_columns = hub.old_value_columns();
    let mut questions = hub.begin_inquiry(&position, &entries);
    while !questions.is_empty() {
        questions = hub.answer(questions.iter().map(&answer).collect());
    }
    if let Some(mut backfill) = hub.begin_backfill() {
        for (index, question) in backfill.questions.iter().enumerate() {
            backfill.answers.take(index, answer(question));
        }
    }
    hub.publish(LogBatch {
        position,
        entries,
        complete: true,
        old_value_columns,
    });
}

/// A membership in list 7 that was somebody else's and is this user's.
fn given(id: i64, user: usize) -> NetChange {
    let row = format!(r#"{{"id":{user},"list_id":7,"owner":{user},"done":false,"title":"m"}}"#);
    NetChange {
        commit_id: CommitId::LogId(id),
        entity: "members".to_owned(),
        key: Some(user.to_string()),
        ..update(&row, r#"{"owner":-1}"#)
    }
}

/// A membership in list 7 that was this user's and is somebody else's.
fn taken(id: i64, user: usize) -> NetChange {
    let row = format!(r#"{{"id":{user},"list_id":7,"owner":-1,"done":false,"title":"m"}}"#);
    NetChange {
        commit_id: CommitId::LogId(id),
        entity: "members".to_owned(),
        key: Some(user.to_string()),
        ..update(&row, &format!(r#"{{"owner":{user}}}"#))
    }
}

/// Shapes that an index finds, shapes that it does not, and shapes that one set decides for.
fn shape_of(user: usize) -> Shape {
    let own = format!("list_id IN (SELECT list_id FROM members WHERE owner = {user})");
    match user % 3 {
        0 => shape_among(&own),
        1 => shape_among(&format!("title LIKE 'z{user}%' OR {own}")),
        _ => shape_among(&format!(
            "title LIKE 'z{user}%' OR EXISTS (SELECT 1 FROM members WHERE owner = 2)"
        )),
    }
}

#[test]
fn moved_rows_mean_the_same_for_few_shapes_and_for_many() {
    let rows = [1, 2].map(|id| {
        (
            id.to_string(),
            ROW.replace(r#""id":1"#, &format!(r#""id":{id}"#)),
        )
    });
    let answer = |question: &Question| match question {
        Question::Set(_) => Answer::Set(Vec::new()),
        Question::Rows { .. } => {
            let rows = rows.iter();
            Answer::Rows(rows.map(|(key, row)| (key.clone(), raw(row))).collect())
        }
        other => panic!("{other:?}"),
    };
    for users in [3, 30] {
        let hub = Arc::new(hub(LIMITS_OF_MANY));
        // The last one stays without the list.
        let shapes: Vec<Shape> = (0..=users).map(shape_of).collect();
        let mut sessions: Vec<_> = shapes.iter().map(|one| session(&hub, one)).collect();
        let mut id = 2;
        while shapes
            .iter()
            .any(|one| hub.index().sets.are_known(one) != Ok(true))
        {
            drain(&hub, id, Vec::new(), answer);
            id += 1;
        }
        sessions
            .iter_mut()
            .for_each(|one| while next(one).is_some() {});
        let mut received = |given: fn(i64, usize) -> NetChange| {
            id += 1;
            drain(
                &hub,
                id,
                (0..users).map(|user| given(id, user)).collect(),
                answer,
            );
            let of_shape = |(one, shape): (&mut Mailbox<Batch>, &Shape)| {
                let Taken::Item(batch) = one.next().now_or_never()?? else {
                    panic!("a batch is dropped");
                };
                let array = batch.changes(shape)?.array(None, None)?;
                let changes: Vec<serde_json::Value> = serde_json::from_str(&array).expect("JSON");
                // They come in any order.
                Some(changes.iter().map(ToString::to_string).collect())
            };
            let sessions = sessions.iter_mut().zip(&shapes);
            sessions
                .map(of_shape)
                .collect::<Vec<Option<BTreeSet<String>>>>()
        };
        let all = |change: &dyn Fn(&str, &str) -> String| -> Vec<Option<BTreeSet<String>>> {
            let changes = rows.iter().map(|(key, row)| change(key, row));
            let changes = changes.map(|change| {
                change
                    .parse::<serde_json::Value>()
                    .expect("JSON")
                    .to_string()
            });
            let mut expected = vec![Some(changes.collect()); users];
            expected.push(None);
            expected
        };
        let put = |key: &str, row: &str| format!(r#"{{"op":"put","key":"{key}","row":{row}}}"#);
        assert_eq!(received(given), all(&put), "{users} users");
        let leave = |key: &str, _: &str| format!(r#"{{"op":"leave","key":"{key}"}}"#);
        assert_eq!(received(taken), all(&leave), "{users} users");
    }
}
