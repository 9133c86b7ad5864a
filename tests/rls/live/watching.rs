//! Policies, functions and rights that are altered while clients look on.

use super::*;

/// Each is altered, seen, and taken back.
async fn altered(sql: &str, expected: &[&str]) {
    let live = Live::with(
        "CREATE FUNCTION is_open() RETURNS boolean LANGUAGE sql STABLE AS 'SELECT false'; \
         CREATE POLICY opened ON todos FOR SELECT USING (is_open()); \
         DO $$ BEGIN CREATE ROLE todo_readers NOLOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$",
    )
    .await;
    let mut ben = live.subscriber(&user(BEN)).await;
    assert_eq!(keys(&ben), these(["3", "5"]));
    live.db.execute(sql).await;
    wait_keys(&mut ben, expected).await;
}

#[tokio::test]
async fn a_policy_that_is_dropped_shows_no_more() {
    altered("DROP POLICY public ON todos", &["3"]).await;
}

#[tokio::test]
async fn a_policy_that_is_altered_takes_effect() {
    altered(
        "ALTER POLICY public ON todos USING (visibility = 'private')",
        &["1", "2", "3", "4"],
    )
    .await;
}

#[tokio::test]
async fn a_policy_that_is_new_takes_effect() {
    altered(
        "CREATE POLICY first ON todos FOR SELECT USING (id = 1)",
        &["1", "3", "5"],
    )
    .await;
}

#[tokio::test]
async fn a_table_whose_row_level_security_is_disabled_is_open() {
    altered(
        "ALTER TABLE todos DISABLE ROW LEVEL SECURITY",
        &["1", "2", "3", "4", "5"],
    )
    .await;
}

#[tokio::test]
async fn a_function_that_is_replaced_takes_effect() {
    altered(
        "CREATE OR REPLACE FUNCTION is_open() RETURNS boolean LANGUAGE sql STABLE AS 'SELECT true'",
        &["1", "2", "3", "4", "5"],
    )
    .await;
}

#[tokio::test]
async fn a_right_that_a_question_needs_and_that_is_revoked_shows_nothing() {
    altered("REVOKE SELECT ON members FROM authenticated", &[]).await;
}
