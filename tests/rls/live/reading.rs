use serde_json::json;

use super::*;

#[tokio::test]
async fn a_role_receives_the_rows_that_its_policies_show_it() {
    let live = Live::start().await;
    let ann = live.subscriber(&user(ANN)).await;
    assert_eq!(keys(&ann), these(["1", "2", "4", "5"]));
    let ben = live.subscriber(&user(BEN)).await;
    assert_eq!(keys(&ben), these(["3", "5"]));
    let anonymous = json!({ "sub": ANN, "role": "anon" });
    let anonymous = live.subscriber(&anonymous).await;
    assert_eq!(keys(&anonymous), these(["4", "5"]));
    let without_mfa = json!({ "sub": ANN, "role": "authenticated", "aal": "aal0" });
    let without_mfa = live.subscriber(&without_mfa).await;
    assert_eq!(keys(&without_mfa), these([]));
}

#[tokio::test]
async fn for_a_role_that_nobody_knows_or_may_become_there_is_nothing() {
    let live = Live::start().await;
    for claims in [
        json!({ "sub": ANN }),
        json!({ "sub": ANN, "role": "nobody knows it" }),
        json!({ "sub": ANN, "role": "none" }),
        json!({ "sub": ANN, "role": "postgres" }),
        json!({ "sub": ANN, "role": "" }),
    ] {
        let mut client = live.connect(&claims).await;
        client.subscribe("t", "todos").await;
        assert_eq!(client.wait_refused("t").await, "unknown_entity", "{claims}");
    }
}

#[tokio::test]
async fn a_row_that_changes_is_sent_to_those_who_may_see_it_then() {
    let mut live = Live::start().await;
    let mut ann = live.subscriber(&user(ANN)).await;
    let mut ben = live.subscriber(&user(BEN)).await;
    live.db
        .execute("UPDATE todos SET list_id = 2 WHERE id = 1")
        .await;
    wait_keys(&mut ben, &["1", "3", "5"]).await;
    wait_keys(&mut ann, &["2", "4", "5"]).await;
    live.db
        .execute("UPDATE todos SET visibility = 'private' WHERE id = 5")
        .await;
    wait_keys(&mut ben, &["1", "3"]).await;
    live.db
        .execute("UPDATE todos SET owner = NULL WHERE id = 4")
        .await;
    wait_keys(&mut ann, &["2"]).await;
    live.db
        .execute("UPDATE todos SET title = 'new' WHERE id = 3")
        .await;
    live.fence(&mut ann).await;
    assert_eq!(keys(&ann), these(["2"]));
    assert_eq!(ann.puts("t", "3"), 0);
}

#[tokio::test]
async fn a_membership_moves_rows_in_and_out_with_its_own_cursor() {
    let mut live = Live::start().await;
    let mut ann = live.subscriber(&user(ANN)).await;
    let mut ben = live.subscriber(&user(BEN)).await;
    let join = format!("INSERT INTO members VALUES (1, '{BEN}')");
    live.db.execute(&join).await;
    wait_keys(&mut ben, &["1", "2", "3", "5"]).await;
    let leave = format!("DELETE FROM members WHERE user_id = '{ANN}'");
    live.db.execute(&leave).await;
    live.fence(&mut ann).await;
    assert_eq!(keys(&ann), these(["4", "5"]));
    // Back and forth in one transaction is nothing.
    live.db.execute(&format!("BEGIN; DELETE FROM members WHERE user_id = '{BEN}'; INSERT INTO members VALUES (1, '{BEN}'), (2, '{BEN}'); COMMIT")).await;
    live.fence(&mut ben).await;
    assert_eq!(keys(&ben), these(["1", "2", "3", "5"]));
    live.db.execute("TRUNCATE members").await;
    live.fence(&mut ben).await;
    assert_eq!(keys(&ben), these(["5"]));
}

#[tokio::test]
async fn a_where_of_the_client_and_its_subqueries_stay_within_the_policies() {
    let mut live = Live::with(
        "CREATE TABLE notes (id integer PRIMARY KEY, todo_id integer); GRANT SELECT ON notes TO authenticated; \
         INSERT INTO notes SELECT id, id FROM todos",
    )
    .await;
    let server = live.server;
    server.shutdown().await;
    let mut config = config(&live.db).await;
    config.entities.push(EntityConfig::new("notes").rls());
    live.server = TestServer::with_config(config).await;
    let mut ben = live.connect(&user(BEN)).await;
    let within = json!({ "entity": "notes", "where": "todo_id IN (SELECT id FROM todos)" });
    ben.subscribe_with("t", within).await;
    ben.wait_subscribed("t").await;
    assert_eq!(keys(&ben), these(["3", "5"]));
    let join = format!("INSERT INTO members VALUES (1, '{BEN}')");
    live.db.execute(&join).await;
    wait_keys(&mut ben, &["1", "2", "3", "5"]).await;
    live.db.execute("DELETE FROM members").await;
    wait_keys(&mut ben, &["5"]).await;
}

#[tokio::test]
async fn a_column_that_a_role_may_not_select_does_not_exist_for_it() {
    let live = Live::with(
        "REVOKE SELECT ON todos FROM authenticated; GRANT SELECT (id, list_id, title) ON todos TO authenticated",
    )
    .await;
    let mut ann = live.subscriber(&user(ANN)).await;
    let row = ann.row("t", "1").expect("a row").clone();
    assert_eq!(row, json!({ "id": 1, "list_id": 1, "title": "" }));
    let by_owner = json!({ "entity": "todos", "where": "visibility = 'public'" });
    ann.subscribe_with("w", by_owner).await;
    assert_eq!(ann.wait_refused("w").await, "bad_filter");
    live.db
        .execute("UPDATE todos SET title = 'new', visibility = 'public' WHERE id = 1")
        .await;
    ann.wait_until(|ann| ann.row("t", "1").is_some_and(|row| row["title"] == "new"))
        .await;
    assert_eq!(
        ann.row("t", "1"),
        Some(&json!({ "id": 1, "list_id": 1, "title": "new" }))
    );
}

#[tokio::test]
async fn a_window_is_of_the_rows_that_a_role_may_see() {
    let live = Live::start().await;
    let mut ann = live.connect(&user(ANN)).await;
    let newest = json!({ "entity": "todos", "order": [["id", "desc"]], "limit": 2 });
    ann.subscribe_with("t", newest).await;
    ann.wait_subscribed("t").await;
    assert_eq!(keys(&ann), these(["4", "5"]));
    live.db
        .execute("UPDATE todos SET visibility = 'private' WHERE id = 5")
        .await;
    wait_keys(&mut ann, &["2", "4"]).await;
    let join = format!("INSERT INTO members VALUES (2, '{ANN}')");
    live.db.execute(&join).await;
    wait_keys(&mut ann, &["3", "4"]).await;
}

#[tokio::test]
async fn a_page_over_http_has_the_rows_that_the_role_may_see() {
    let live = Live::start().await;
    let token = rhtmx_sync_tests::claims::token(&user(BEN));
    let page = live.server.http().with_token(&token);
    let page = page.get("/api/sync/todos").await.json();
    let keys: Vec<&str> = page["rows"]
        .as_array()
        .expect("rows")
        .iter()
        .filter_map(|row| row["key"].as_str())
        .collect();
    assert_eq!(keys, ["3", "5"]);
}

#[tokio::test]
async fn where_policies_are_per_row_only_the_rows_that_have_changed_are_asked_about() {
    let mut live = Live::with(
        "CREATE FUNCTION shows(title text) RETURNS boolean LANGUAGE plpgsql STABLE AS $$ BEGIN
            IF title = 'raises' THEN RAISE 'no'; END IF; RETURN title <> 'hidden'; END $$;
         CREATE POLICY titles ON todos AS RESTRICTIVE USING (shows(title))",
    )
    .await;
    let mut ann = live.subscriber(&user(ANN)).await;
    assert_eq!(keys(&ann), these(["1", "2", "4", "5"]));
    // A row of which nobody hears: from here on, a question about all rows is answered with nothing.
    live.db
        .execute(
            "SET session_replication_role = replica;
             INSERT INTO todos (id, list_id, title) VALUES (6, 1, 'raises');
             RESET session_replication_role",
        )
        .await;
    live.db
        .execute("UPDATE todos SET title = 'hidden' WHERE id = 1")
        .await;
    wait_keys(&mut ann, &["2", "4", "5"]).await;
    live.db
        .execute(
            "BEGIN; UPDATE todos SET title = 'new' WHERE id IN (1, 2); DELETE FROM todos WHERE id = 4;
             INSERT INTO todos (id, list_id) VALUES (7, 1), (8, 2); COMMIT",
        )
        .await;
    wait_keys(&mut ann, &["1", "2", "5", "7"]).await;
    live.fence(&mut ann).await;
    assert_eq!(keys(&ann), these(["1", "2", "5", "7"]));
    // Another table decides about all of them.
    let joins = format!("INSERT INTO members VALUES (2, '{ANN}')");
    live.db.execute(&joins).await;
    wait_keys(&mut ann, &[]).await;
    live.db.execute("DELETE FROM todos WHERE id = 6").await;
    wait_keys(&mut ann, &["1", "2", "3", "5", "7", "8"]).await;
}

#[tokio::test]
async fn a_row_that_decides_about_others_of_its_table_moves_them() {
    let mut live = Live::with(
        "CREATE FUNCTION is_newest(wanted integer) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER AS
            $$ SELECT wanted = (SELECT max(id) FROM public.todos) $$;
         CREATE POLICY newest ON todos AS RESTRICTIVE USING (is_newest(id))",
    )
    .await;
    let mut ann = live.subscriber(&user(ANN)).await;
    assert_eq!(keys(&ann), these(["5"]));
    live.db
        .execute("INSERT INTO todos (id, list_id) VALUES (6, 1)")
        .await;
    wait_keys(&mut ann, &["6"]).await;
    live.db.execute("DELETE FROM todos WHERE id = 6").await;
    wait_keys(&mut ann, &["5"]).await;
    live.fence(&mut ann).await;
    assert_eq!(keys(&ann), these(["5"]));
}
