//! Whatever is written where, and in whatever order changesets come: all databases end with the same rows and metadata.

use merge::Deletes;
use rhtmx_sync::Replication;
use rhtmx_sync_tests::Dice;
use testkit::{Backend, TestDatabase};

use super::{Synced, cursor_of, records_in};

const KEYS: u64 = 6;
const STEPS: u64 = 60;

/// One statement of a program.
async fn write(db: &TestDatabase, dice: &mut Dice) {
    let id = dice.pick(0..KEYS);
    let text = format!("'{}'", dice.pick(0..1000));
    let number = dice.pick(0..100);
    let sql = match dice.pick(0..9) {
        0..2 => format!(
            "INSERT INTO todos (id, title, note, likes, best, tags) VALUES ({id}, {text}, {text}, 1, {number}, '[\"a\"]') \
             ON CONFLICT (id) DO NOTHING"
        ),
        2 => format!("DELETE FROM todos WHERE id = {id}"),
        3 => format!("UPDATE todos SET title = {text} WHERE id = {id}"),
        4 => format!("UPDATE todos SET note = {text}, title = {text} WHERE id = {id}"),
        5 => format!("UPDATE todos SET likes = likes + {number} WHERE id = {id}"),
        6 => format!("UPDATE todos SET best = {number} WHERE id = {id}"),
        7 => format!("UPDATE todos SET tags = '[\"a\", \"{number}\"]' WHERE id = {id}"),
        _ => format!("UPDATE todos SET title = {text} WHERE id >= {id}"),
    };
    db.execute(&sql).await;
}

async fn converge(backends: [Backend; 2], deletes: Deletes, test: &str) {
    let mut dice = Dice::new(test);
    let one = Synced::new(backends[0], deletes).await;
    let two = Synced::new(backends[1], deletes).await;
    let all = [&one, &two];
    let mut sent: Vec<(usize, String)> = Vec::new();
    let mut cursors = [None, None];
    for _ in 0..STEPS {
        let at = usize::from(dice.chance(50));
        match dice.pick(0..10) {
            0..7 => write(&all[at].db, &mut dice).await,
            7 => {
                let since = cursors[at].clone().filter(|_| dice.chance(70));
                let pages = all[at].pages(since.as_deref()).await;
                cursors[at] = Some(cursor_of(&pages));
                sent.extend(pages.into_iter().map(|page| (at, page)));
            }
            // What was sent comes late, twice, or never.
            _ if !sent.is_empty() => {
                let (from, page) = &sent[dice.pick(0..sent.len() as u64) as usize];
                all[1 - from].merge(page).await;
            }
            _ => {}
        }
    }
    let both = Replication::new(one.replica.clone(), two.replica.clone()).expect("two databases");
    let mut rounds = 0;
    loop {
        let copied = both.round().await.expect("a round");
        assert_eq!(copied.there.parked + copied.back.parked, 0, "{copied:?}");
        if copied.there.changed + copied.back.changed == 0 {
            break;
        }
        rounds += 1;
        assert!(rounds < 5, "it does not come to rest: {copied:?}");
    }
    assert_eq!(one.rows().await, two.rows().await);
    assert!(one.is_same(&two).await, "the metadata differs");
    // The next rounds read nothing again.
    let copied = both.round().await.expect("a round");
    assert_eq!(copied.there.records + copied.back.records, 0, "{copied:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_and_postgresql() {
    for deletes in [Deletes::Win, Deletes::Revive] {
        Box::pin(converge([Backend::Postgres; 2], deletes, "two PostgreSQL")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_and_postgresql() {
    for deletes in [Deletes::Win, Deletes::Revive] {
        let backends = [Backend::Sqlite, Backend::Postgres];
        Box::pin(converge(backends, deletes, "SQLite and PostgreSQL")).await;
    }
}

/// Two edits of one row, of different columns, both survive; of one column the later one does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_edits_of_one_row_survive() {
    let laptop = Synced::new(Backend::Sqlite, Deletes::Win).await;
    let office = Synced::new(Backend::Postgres, Deletes::Win).await;
    office
        .db
        .execute("INSERT INTO todos (id, title, note) VALUES (1, 'a', 'b')")
        .await;
    let both =
        Replication::new(laptop.replica.clone(), office.replica.clone()).expect("two databases");
    both.round().await.expect("a round");
    laptop
        .db
        .execute("UPDATE todos SET title = 'on the train' WHERE id = 1")
        .await;
    office
        .db
        .execute("UPDATE todos SET note = 'in the office' WHERE id = 1")
        .await;
    both.round().await.expect("a round");
    for one in [&laptop, &office] {
        let row = &one.rows().await["1"];
        assert_eq!(
            (&row["title"], &row["note"]),
            (&"on the train".into(), &"in the office".into())
        );
    }
}

/// A changeset since a cursor has what has changed since, and no more; so has one of what was written beside the table alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changeset_since_a_cursor_has_what_was_taken_up_since() {
    for backend in [Backend::Postgres, Backend::Sqlite] {
        let (one, two) = (
            Synced::new(backend, Deletes::Win).await,
            Synced::new(backend, Deletes::Win).await,
        );
        one.db
            .execute("INSERT INTO todos (id) VALUES (1), (2), (3)")
            .await;
        let pages = one.pages(None).await;
        assert_eq!(records_in(&pages), 3);
        one.db.execute("DELETE FROM todos WHERE id = 2").await;
        let since = one.pages(Some(&cursor_of(&pages))).await;
        assert_eq!(records_in(&since), 1, "{since:?}");
        for page in &since {
            two.merge(page).await;
        }
        // The deletion of a row that was never there is known, handed on, and known to be known.
        let before = cursor_of(&two.pages(None).await);
        one.db.execute("INSERT INTO todos (id) VALUES (2)").await;
        one.db.execute("DELETE FROM todos WHERE id = 2").await;
        for page in one.pages(None).await {
            two.merge(&page).await;
        }
        let handed_on = two.pages(Some(&before)).await.concat();
        assert!(handed_on.contains("\"is_deleted\":1"), "{handed_on}");
        assert!(one.is_same(&two).await);
    }
}
