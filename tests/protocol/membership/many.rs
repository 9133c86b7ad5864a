//! Ten thousand rows that move in at once hold up nobody.

use std::time::Duration;

use testkit::both_backends;

use super::{mark, serve, subscriber, wait_keys};

const ROWS: usize = 10_000;

both_backends! {
    async fn ten_thousand_rows_move_in_and_out_while_others_go_on(db: TestDatabase) {
        let server = serve(&db).await;
        let series = |from: usize, to: usize, list: usize| format!(
            "WITH RECURSIVE n(i) AS (SELECT {from} UNION ALL SELECT i + 1 FROM n WHERE i < {to}) \
             INSERT INTO todos SELECT i, {list}, 'todo ' || i FROM n"
        );
        db.execute("INSERT INTO lists VALUES (3, NULL, 'large')").await;
        db.execute(&series(1000, 999 + ROWS, 3)).await;
        let (mut ann, mut ben) = (subscriber(&server, "ann").await, subscriber(&server, "ben").await);
        for round in 0..3_u32 {
            db.execute("INSERT INTO list_members VALUES (70, 3, 'ann', 'reader')").await;
            // A writer does not wait, and another client has what it writes, while Ann does not even read.
            let write = format!("UPDATE todos SET title = 'of ben {round}' WHERE id = 3");
            let wrote = tokio::time::timeout(Duration::from_secs(5), db.execute(&write)).await;
            wrote.expect("the writer waits");
            mark(&db, &mut [&mut ben], 10 * round + 1).await;
            assert_eq!(ben.row("t", "3").expect("a row")["title"], format!("of ben {round}"));
            ann.wait_until(|ann| ann.rows("t").len() == ROWS + 2).await;
            // All at one cursor with the membership.
            assert!(ann.row("m", "70").is_some());
            db.execute("BEGIN; UPDATE todos SET title = 'changed' WHERE id < 1010; DELETE FROM list_members WHERE id = 70; COMMIT").await;
            mark(&db, &mut [&mut ann], 10 * round + 2).await;
            wait_keys(&mut ann, &["1", "2"]).await;
        }
        assert_eq!((ann.frames("refetch"), ben.frames("refetch")), (0, 0));
        assert_eq!(ben.rows("t").len(), 2);
        let sessions = server.http().get("/api/sync/status").await;
        assert!(!sessions.text.contains("\"panics\":1"), "{}", sessions.text);
    }
}
