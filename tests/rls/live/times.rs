//! What changes without a write.

use super::*;

#[tokio::test]
async fn a_row_whose_time_is_over_leaves_without_a_write() {
    let live = Live::with(
        "ALTER TABLE todos ADD until timestamptz; \
         CREATE POLICY until ON todos AS RESTRICTIVE USING (until IS NULL OR until > now())",
    )
    .await;
    let mut ann = live.subscriber(&user(ANN)).await;
    assert_eq!(keys(&ann), these(["1", "2", "4", "5"]));
    live.db
        .execute("UPDATE todos SET until = now() + interval '2 seconds' WHERE id = 1")
        .await;
    live.db
        .execute("UPDATE todos SET until = now() - interval '1 hour' WHERE id = 2")
        .await;
    wait_keys(&mut ann, &["1", "4", "5"]).await;
    wait_keys(&mut ann, &["4", "5"]).await;
}

#[tokio::test]
async fn a_table_that_is_no_entity_is_asked_about_each_second() {
    let live = Live::with(
        "CREATE TABLE admins (user_id uuid PRIMARY KEY); GRANT SELECT ON admins TO authenticated; \
         CREATE POLICY admins ON todos FOR SELECT USING (EXISTS (SELECT FROM admins a WHERE a.user_id = auth.uid()))",
    )
    .await;
    let mut ben = live.subscriber(&user(BEN)).await;
    assert_eq!(keys(&ben), these(["3", "5"]));
    let promote = format!("INSERT INTO admins VALUES ('{BEN}')");
    live.db.execute(&promote).await;
    wait_keys(&mut ben, &["1", "2", "3", "4", "5"]).await;
    live.db.execute("DELETE FROM admins").await;
    wait_keys(&mut ben, &["3", "5"]).await;
}
