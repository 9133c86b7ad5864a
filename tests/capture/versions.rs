//! More than one engine on a database: of two versions, and beside an `uncapture`.

use rhtmx_sync::{DbPool, SyncConfig, SyncEngine};
use rhtmx_sync_tests::TestServer;
use testkit::eventually;

use super::watch::Watch;
use super::*;

/// What says which capture is installed: its generation, and the identities of its triggers and its function.
async fn installed(db: &TestDatabase) -> Vec<Option<String>> {
    let installed = dialect(
        db,
        "SELECT concat_ws(' ', e.generation, t.tgname, t.xmin, p.xmin) FROM _rhtmx_sync_entity e, pg_trigger t \
         JOIN pg_proc p ON p.oid = t.tgfoid WHERE e.entity = 'notes' AND t.tgrelid = 'notes'::regclass ORDER BY t.tgname",
        "SELECT e.generation || s.name || s.rowid FROM _rhtmx_sync_entity e, sqlite_schema s \
         WHERE e.entity = 'notes' AND s.type = 'trigger' AND s.tbl_name = 'notes' ORDER BY s.name",
    );
    db.query_text(installed).await
}

/// The generation's digit.
fn generation(installed: &[Option<String>]) -> Option<char> {
    installed.first()?.as_ref()?.chars().next()
}

async fn newer(db: &TestDatabase) -> SyncConfig {
    let pool = DbPool::from_url(&db.url())
        .await
        .expect("a pool")
        .newer_by(1);
    SyncConfig::new(pool, vec!["notes", "fence"])
}

both_backends! {
    /// The newer engine installs its capture once. The older one leaves it alone, and works with it.
    async fn two_versions_live_beside_each_other(db: TestDatabase) {
        db.execute("CREATE TABLE notes (id integer PRIMARY KEY, body text)").await;
        let mut watch = Watch::start(db, ["notes"]).await;
        watch.step("INSERT INTO notes VALUES (1, 'a')").await;
        let old = installed(&watch.db).await;
        let server = TestServer::with_config(newer(&watch.db).await).await;
        let new = installed(&watch.db).await;
        assert_ne!(old, new);
        let mut client = server.connect().await;
        client.subscribe("notes", "notes").await;
        client.wait_subscribed("notes").await;
        // Each of these makes both look at the catalog again.
        for number in 2..6 {
            watch.db.execute(&format!("CREATE TABLE other{number} (id integer PRIMARY KEY)")).await;
            if let Backend::Postgres = watch.db.backend() {
                watch.db.execute(&format!("ALTER TABLE notes ALTER COLUMN body SET STATISTICS {number}")).await;
            }
            tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
            watch.step(&format!("INSERT INTO notes VALUES ({number}, 'b')")).await;
        }
        client.wait_until(|client| client.rows("notes").len() == 5).await;
        assert_eq!(installed(&watch.db).await, new);
        assert_eq!((watch.client.frames("refetch"), client.frames("refetch")), (0, 0));

        // A change of the table reaches the clients of both, and the newer capture stays, or comes back.
        watch.db.execute("ALTER TABLE notes ADD COLUMN stars integer").await;
        watch.wait_schema("notes", super::watch::has_columns(&["id", "body", "stars"])).await;
        watch.step("INSERT INTO notes VALUES (6, 'c', 3)").await;
        client.wait_until(|client| client.row("notes", "6").is_some_and(|row| row["stars"] == 3)).await;
        eventually("the newer capture", async || {
            let now = installed(&watch.db).await;
            (generation(&now) == generation(&new)).then_some(())
        })
        .await;
        server.shutdown().await;

        // Alone again, the older engine still captures.
        watch.db.execute("ALTER TABLE notes ADD COLUMN likes integer").await;
        watch.wait_schema("notes", super::watch::has_columns(&["id", "body", "stars", "likes"])).await;
        watch.step("INSERT INTO notes VALUES (7, 'd', 3, 9)").await;
    }

    /// A running server does not install again what `uncapture` removed; one that starts does.
    async fn a_running_server_respects_uncapture(db: TestDatabase) {
        db.execute("CREATE TABLE notes (id integer PRIMARY KEY, body text)").await;
        let mut watch = Watch::start(db, ["notes"]).await;
        watch.step("INSERT INTO notes VALUES (1, 'a')").await;
        let pool = DbPool::from_url(&watch.db.url()).await.expect("a pool");
        let only = ["notes".to_owned()];
        let removed = SyncEngine::uncapture(&pool, Some(&only)).await.expect("the triggers are removed");
        assert_eq!(removed, ["notes"]);
        for number in 2..5 {
            watch.db.execute(&format!("CREATE TABLE other{number} (id integer PRIMARY KEY)")).await;
            tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
            watch.db.execute(&format!("INSERT INTO notes VALUES ({number}, 'b')")).await;
        }
        assert_eq!(installed(&watch.db).await, Vec::<Option<String>>::new());

        let pool = DbPool::from_url(&watch.db.url()).await.expect("a pool");
        let other = TestServer::with_config(SyncConfig::new(pool, vec!["notes"])).await;
        watch.client.wait_until(|client| client.rows("notes").len() == 4).await;
        watch.step("INSERT INTO notes VALUES (5, 'c')").await;
        other.shutdown().await;
    }
}
