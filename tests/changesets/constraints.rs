//! What a constraint of one database forbids is parked, told and tried again; everything else goes on.

use merge::Deletes;
use rhtmx_sync::{EntityConfig, RejectCode, Replication};
use testkit::{Backend, TestDatabase};

use super::{Synced, replica, rules};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_is_taken_is_parked_until_it_is_free() {
    for backend in [Backend::Postgres, Backend::Sqlite] {
        let one = Synced::new(backend, Deletes::Win).await;
        let two = Synced::new(Backend::Postgres, Deletes::Win).await;
        one.db
            .execute("INSERT INTO todos (id, code) VALUES (1, 'x'), (2, 'b'), (3, 'c')")
            .await;
        two.db
            .execute("INSERT INTO todos (id, code) VALUES (9, 'x')")
            .await;
        let both =
            Replication::new(one.replica.clone(), two.replica.clone()).expect("two databases");
        let copied = both.round().await.expect("a round");
        // Row 1 cannot be there, and row 9 cannot be here; the others are.
        assert!(
            copied.there.parked > 0 && copied.back.parked > 0,
            "{copied:?}"
        );
        assert_eq!(two.rows().await.len(), 3);
        let parked = two.replica.parked(10).await.expect("what is parked");
        let [one_parked] = parked.as_slice() else {
            panic!("{parked:?}");
        };
        assert_eq!(
            (one_parked.key.as_str(), &one_parked.reject.code),
            ("1", &RejectCode::Constraint)
        );
        assert_eq!(one_parked.node, one.replica.node().as_str());
        assert!(!one.is_same(&two).await);
        two.db
            .execute("UPDATE todos SET code = 'y' WHERE id = 9")
            .await;
        both.round().await.expect("a round");
        both.round().await.expect("a round");
        assert_eq!(two.replica.parked(10).await.expect("what is parked"), []);
        assert_eq!(one.rows().await, two.rows().await);
        assert_eq!(one.rows().await.len(), 4);
        assert!(one.is_same(&two).await);
    }
}

/// A row that refers to one that comes later waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_comes_before_its_parent_waits_for_it() {
    for backend in [Backend::Postgres, Backend::Sqlite] {
        let (from, to) = (
            TestDatabase::new(backend).await,
            TestDatabase::new(backend).await,
        );
        let tables = "CREATE TABLE lists (id BIGINT PRIMARY KEY); CREATE TABLE items (id BIGINT PRIMARY KEY, \
             list_id BIGINT NOT NULL REFERENCES lists (id))";
        // The child's table comes first.
        let entities =
            ["items", "lists"].map(|name| EntityConfig::new(name).fields(Default::default()));
        for db in [&from, &to] {
            db.execute(tables).await;
        }
        let (one, two) = (
            replica(&from, &entities).await,
            replica(&to, &entities).await,
        );
        from.execute("INSERT INTO lists (id) VALUES (1)").await;
        from.execute("INSERT INTO items (id, list_id) VALUES (1, 1), (2, 1)")
            .await;
        let both = Replication::new(one, two.clone()).expect("two databases");
        both.round().await.expect("a round");
        assert_eq!(two.parked(10).await.expect("what is parked"), []);
        assert!(both.is_equal().await.expect("digests"));
        let count = to.query_json("SELECT count(*) FROM items").await;
        assert_eq!(count, [2]);
        // Deletions, too, in whatever order.
        from.execute("DELETE FROM items").await;
        from.execute("DELETE FROM lists").await;
        both.round().await.expect("a round");
        assert!(both.is_equal().await.expect("digests"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_a_database_is_refused_until_it_has_a_name_of_its_own() {
    let one = Synced::new(Backend::Sqlite, Deletes::Win).await;
    let two = Synced::new(Backend::Sqlite, Deletes::Win).await;
    let node = one.replica.node().as_str();
    two.db
        .execute(&format!("UPDATE _rhtmx_sync_meta SET node = '{node}'"))
        .await;
    let entity = EntityConfig::new("todos").fields(rules(Deletes::Win));
    let copy = replica(&two.db, &[entity]).await;
    let error = Replication::new(one.replica.clone(), copy).expect_err("one node");
    assert!(error.to_string().contains("a copy"), "{error}");
}
