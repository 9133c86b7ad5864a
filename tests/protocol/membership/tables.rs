//! The table of the memberships is altered, emptied, locked or dropped: nobody is shown more meanwhile, and everything is
//! right afterwards.

use testkit::{Backend, SyncClient, TestDatabase, both_backends, eventually};

use super::doors::http;
use super::{keys, mark, serve, subscriber, wait_keys};

/// Whether a client was ever shown what only Ben may see.
fn was_shown_bens(client: &SyncClient) -> bool {
    client.puts("t", "3") + client.puts("t", "4") > 0
}

/// After whatever has happened: memberships decide as before.
async fn assert_works(db: &TestDatabase, ann: &mut SyncClient, ben: &mut SyncClient, first: u32) {
    db.execute(&format!(
        "INSERT INTO list_members (id, list_id, user_id) VALUES ({first}, 1, 'ben')"
    ))
    .await;
    wait_keys(ben, &["1", "2", "3", "4"]).await;
    db.execute(&format!("DELETE FROM list_members WHERE id = {first}"))
        .await;
    wait_keys(ben, &["3", "4"]).await;
    wait_keys(ann, &["1", "2"]).await;
    assert!(!was_shown_bens(ann), "{}", ann.transcript());
}

both_backends! {
    async fn a_column_more_among_the_memberships_shows_nobody_more(db: TestDatabase) {
        let server = serve(&db).await;
        let (mut ann, mut ben) = (subscriber(&server, "ann").await, subscriber(&server, "ben").await);
        db.execute("ALTER TABLE list_members ADD COLUMN since integer").await;
        db.execute("UPDATE list_members SET since = 5").await;
        assert_works(&db, &mut ann, &mut ben, 20).await;
        db.execute("ALTER TABLE list_members DROP COLUMN since").await;
        assert_works(&db, &mut ann, &mut ben, 21).await;
    }

    /// Without a column that its policy names, nobody is let in until it is there again.
    async fn a_column_that_decides_is_renamed_and_nobody_is_let_in(db: TestDatabase) {
        let server = serve(&db).await;
        let (mut ann, mut ben) = (subscriber(&server, "ann").await, subscriber(&server, "ben").await);
        db.execute("ALTER TABLE list_members RENAME COLUMN user_id TO member").await;
        db.execute("INSERT INTO todos VALUES (30, 1, 'while nobody knows')").await;
        for client in [&mut ann, &mut ben] {
            client.wait_until(|client| !client.errors().is_empty()).await;
            assert!(client.row("t", "30").is_none());
        }
        db.execute("ALTER TABLE list_members RENAME COLUMN member TO user_id").await;
        eventually("the server knows the column again", async || {
            let page = http(&server, "ann").get("/api/sync/todos").await;
            (page.status == 200).then_some(())
        }).await;
        let mut again = subscriber(&server, "ann").await;
        wait_keys(&mut again, &["1", "2", "30"]).await;
        drop(ben);
        assert!(!was_shown_bens(&again) && !was_shown_bens(&ann));
    }

    async fn the_table_of_the_memberships_is_made_again(db: TestDatabase) {
        let server = serve(&db).await;
        let (mut ann, mut ben) = (subscriber(&server, "ann").await, subscriber(&server, "ben").await);
        db.execute("BEGIN; DROP TABLE list_members; CREATE TABLE list_members (id integer PRIMARY KEY, list_id integer, user_id text, \
            role text NOT NULL DEFAULT 'reader'); INSERT INTO list_members VALUES (1, 1, 'ann', 'reader'), (2, 2, 'ben', 'reader'); COMMIT").await;
        assert_works(&db, &mut ann, &mut ben, 20).await;
        // With other members, in one transaction.
        db.execute("BEGIN; DROP TABLE list_members; CREATE TABLE list_members (id integer PRIMARY KEY, list_id integer, user_id text, \
            role text NOT NULL DEFAULT 'reader'); INSERT INTO list_members VALUES (2, 2, 'ben', 'reader'); COMMIT").await;
        wait_keys(&mut ann, &[]).await;
        wait_keys(&mut ben, &["3", "4"]).await;
        assert!(!was_shown_bens(&ann));
    }

    async fn the_memberships_are_emptied(db: TestDatabase) {
        let server = serve(&db).await;
        let (mut ann, mut ben) = (subscriber(&server, "ann").await, subscriber(&server, "ben").await);
        let empty = match db.backend() {
            Backend::Postgres => "TRUNCATE list_members",
            Backend::Sqlite => "DELETE FROM list_members",
        };
        db.execute(empty).await;
        wait_keys(&mut ann, &[]).await;
        wait_keys(&mut ben, &[]).await;
        // Emptied and filled in one transaction.
        db.execute(&format!("BEGIN; INSERT INTO list_members VALUES (8, 2, 'ann', 'reader'); {empty}; \
            INSERT INTO list_members VALUES (1, 1, 'ann', 'reader'), (2, 2, 'ben', 'reader'); COMMIT")).await;
        wait_keys(&mut ann, &["1", "2"]).await;
        wait_keys(&mut ben, &["3", "4"]).await;
        assert_works(&db, &mut ann, &mut ben, 20).await;
        db.execute(&format!("BEGIN; {empty}; INSERT INTO list_members VALUES (1, 1, 'ann', 'reader'), (2, 2, 'ben', 'reader'); COMMIT")).await;
        mark(&db, &mut [&mut ann, &mut ben], 1).await;
        assert_works(&db, &mut ann, &mut ben, 21).await;
    }
}

/// A session that holds a lock on the memberships: nobody is shown more, others go on, and it heals.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locked_memberships_show_nobody_more() {
    let db = TestDatabase::postgres().await;
    let server = serve(&db).await;
    let (mut ann, mut ben) = (
        subscriber(&server, "ann").await,
        subscriber(&server, "ben").await,
    );
    let mut other = db.connect_postgres().await;
    let lock = other.transaction().await.expect("a transaction");
    lock.batch_execute("LOCK TABLE list_members IN ACCESS EXCLUSIVE MODE")
        .await
        .expect("a lock");
    db.execute("INSERT INTO notes VALUES (1, 'while it is locked')")
        .await;
    ann.wait_until(|ann| ann.row("n", "1").is_some()).await;
    db.execute("UPDATE todos SET list_id = 2 WHERE id = 1")
        .await;
    db.execute("INSERT INTO notes VALUES (2, 'while it is locked')")
        .await;
    ann.wait_until(|ann| ann.row("n", "2").is_some()).await;
    lock.batch_execute("DELETE FROM list_members WHERE user_id = 'ann'")
        .await
        .expect("a write");
    lock.commit().await.expect("a commit");
    wait_keys(&mut ann, &[]).await;
    wait_keys(&mut ben, &["1", "3", "4"]).await;
    assert!(!was_shown_bens(&ann));
    assert_eq!(keys(&ann), Vec::<&str>::new());
}
