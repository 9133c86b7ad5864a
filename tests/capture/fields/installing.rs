//! Fields are turned on and off, and tables change.

use merge::Deletes;
use rhtmx_sync::SyncEngine;
use testkit::TestDatabase;

use super::*;

/// Which versions of the rows the table has.
async fn versions(db: &TestDatabase) -> Vec<Option<String>> {
    db.query_text("SELECT ctid || ' ' || xmin FROM todos ORDER BY id")
        .await
}

on_postgres! {
    async fn turning_fields_on_and_off_touches_no_row(db: TestDatabase) {
        db.execute(TODOS).await;
        db.execute("INSERT INTO todos (id, title) VALUES (1, 'one'), (2, 'two')").await;
        capture(&db, "todos".into()).await;
        let before = versions(&db).await;
        db.execute("UPDATE todos SET title = 'x' WHERE id = 3").await;
        let plain = function(&db).await;
        assert!(!plain.contains("_rhtmx_sync_field"));
        capture_todos(&db, todo_rules(Deletes::Win)).await;
        assert_eq!(versions(&db).await, before);
        assert!(entries(&db).await.is_empty());

        db.execute("UPDATE todos SET title = 'x' WHERE id = 1").await;
        let stamped = entries(&db).await;
        assert_eq!(stamped.len(), 1);
        let before = versions(&db).await;
        capture_todos(&db, todo_rules(Deletes::Win)).await;
        db.execute("ALTER TABLE todos ADD COLUMN more text DEFAULT 'x'").await;
        capture_todos(&db, todo_rules(Deletes::Revive)).await;
        assert_eq!((entries(&db).await, versions(&db).await), (stamped, before.clone()));

        capture(&db, "todos".into()).await;
        assert_eq!((entries(&db).await.len(), versions(&db).await), (0, before));
        db.execute("UPDATE todos SET title = 'y' WHERE id = 1; DELETE FROM todos WHERE id = 2").await;
        capture_todos(&db, todo_rules(Deletes::Win)).await;
        assert!(entries(&db).await.is_empty());
    }

    /// What was written while nothing was captured has no clock, so that older clocks are not believed.
    async fn metadata_of_before_a_pause_is_dropped(db: TestDatabase) {
        todos(&db, Deletes::Win).await;
        db.execute("UPDATE todos SET title = 'x'").await;
        let pool = DbPool::from_url(&db.url()).await.expect("a pool");
        SyncEngine::uncapture(&pool, None).await.expect("the triggers are removed");
        db.execute("UPDATE todos SET title = 'y'").await;
        capture_todos(&db, todo_rules(Deletes::Win)).await;
        assert!(entries(&db).await.is_empty());
        db.execute("UPDATE todos SET title = 'z'").await;
        assert_eq!(entries(&db).await.len(), 3);
        db.execute("DROP TABLE todos").await;
        todos(&db, Deletes::Win).await;
        assert!(entries(&db).await.is_empty());
    }
}

async fn function(db: &TestDatabase) -> String {
    let sql = "SELECT prosrc FROM pg_proc WHERE proname LIKE '\\_rhtmx\\_sync\\_capture\\_%'";
    db.query_text(sql).await.remove(0).expect("a function")
}
