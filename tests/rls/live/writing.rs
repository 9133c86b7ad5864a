//! Writes as the token's role: PostgreSQL decides, and the answer tells what the role may know.

use testkit::PushOutcome;

use super::*;

/// The reject's code of each write, or nothing for an ack.
async fn codes(client: &mut SyncClient, writes: impl IntoIterator<Item = Value>) -> Vec<String> {
    let mut codes = Vec::new();
    for write in writes {
        let outcome = client.push_next(json!([write])).await;
        codes.push(match outcome {
            PushOutcome::Acked { .. } => String::new(),
            PushOutcome::Rejected(rejection) => rejection.code,
        });
    }
    codes
}

fn create(id: u32, owner: &str) -> Value {
    json!({ "op": "create", "entity": "todos", "values": { "id": id, "owner": owner } })
}

fn update(id: u32, values: &Value) -> Value {
    json!({ "op": "update", "entity": "todos", "key": id, "values": values })
}

fn delete(id: u32) -> Value {
    json!({ "op": "delete", "entity": "todos", "key": id })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_decides_about_each_write() {
    let mut live = Live::start().await;
    let mut ann = live.subscriber(&user(ANN)).await;
    let title = json!({ "title": "new" });
    let writes = [
        (create(9, ANN), ""),
        (create(10, BEN), "forbidden"),
        (update(9, &title), ""),
        (update(9, &json!({ "owner": BEN })), "forbidden"),
        // Of another list, of one's own list, and public: none is one's own.
        (update(3, &title), "not_found"),
        (update(1, &title), "forbidden"),
        (update(5, &title), "forbidden"),
        (delete(3), "not_found"),
        (delete(5), "forbidden"),
        (delete(99), "not_found"),
        (delete(4), ""),
        (create(3, ANN), "forbidden"),
        (create(5, ANN), "exists"),
    ];
    let (writes, expected): (Vec<Value>, Vec<&str>) = writes.into_iter().unzip();
    assert_eq!(codes(&mut ann, writes).await, expected);
    live.fence(&mut ann).await;
    assert_eq!(keys(&ann), these(["1", "2", "5", "9"]));
    assert_eq!(ann.row("t", "9").expect("a row")["title"], "new");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_nobody_may_be_writes_nothing_by_any_way_in() {
    let live = Live::start().await;
    for role in [
        None,
        Some("none"),
        Some("nobody-knows-it"),
        Some("postgres"),
        Some(""),
    ] {
        let mut claims = json!({ "sub": ANN });
        if let Some(role) = role {
            claims["role"] = role.into();
        }
        let mut client = live.connect(&claims).await;
        let writes = [
            create(9, ANN),
            update(4, &json!({ "title": "x" })),
            delete(4),
        ];
        for code in codes(&mut client, writes).await {
            assert!(
                matches!(code.as_str(), "forbidden" | "not_found"),
                "{claims}: {code}"
            );
        }
        let http = live.server.http();
        let http = http.with_token(rhtmx_sync_tests::claims::token(&claims));
        let push =
            json!({ "client_id": uuid::Uuid::new_v4(), "mutation": 1, "writes": [create(9, ANN)] });
        let answer = http.post("/api/sync/todos", &push).await.json();
        assert_eq!(answer["type"], "reject", "{claims}: {answer}");
        assert!(
            matches!(answer["code"].as_str(), Some("forbidden" | "not_found")),
            "{answer}"
        );
    }
    let left = "SELECT string_agg(id::text || title, ',' ORDER BY id) FROM todos";
    assert_eq!(
        live.db.query_text(left).await,
        [Some("1,2,3,4,5".to_owned())]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_write_reads_of_the_session_is_the_tokens() {
    let db = database().await;
    db.execute(
        "CREATE TABLE docs (id integer PRIMARY KEY, tenant text DEFAULT current_setting('app.tenant_id', true), \
         author uuid DEFAULT auth.uid()); \
         ALTER TABLE docs ENABLE ROW LEVEL SECURITY; \
         CREATE POLICY tenant ON docs USING (tenant = current_setting('app.tenant_id', true) AND author = auth.uid()); \
         GRANT SELECT, INSERT ON docs TO authenticated; \
         CREATE TABLE plain (id integer PRIMARY KEY, seen text DEFAULT coalesce(current_setting('app.tenant_id', true), 'null'))",
    )
    .await;
    let mut config = config(&db).await;
    config.entities.push(EntityConfig::new("docs").rls());
    config.entities.push(EntityConfig::new("plain"));
    let settings = [("app.tenant_id".to_owned(), "auth.tenant".to_owned())];
    config.auth.settings = settings.into();
    let live = Live::of(db, config).await;
    let create =
        |entity: &str, id: u32| json!({ "op": "create", "entity": entity, "values": { "id": id } });
    for (at, (id, tenant)) in [(ANN, json!("acme")), (BEN, json!(7)), (ANN, Value::Null)]
        .into_iter()
        .enumerate()
    {
        let claims = json!({ "sub": id, "role": "authenticated", "tenant": tenant });
        let mut client = live.connect(&claims).await;
        let number = u32::try_from(at).expect("few");
        // In one mutation with what no policy decides about.
        let both = json!([create("plain", number), create("docs", number)]);
        client.push_next(both).await.acked();
        let tenant = match tenant {
            Value::String(text) => text,
            Value::Null => String::new(),
            other => other.to_string(),
        };
        let kept = format!("SELECT tenant || ' ' || author FROM docs WHERE id = {at}");
        assert_eq!(
            live.db.query_text(&kept).await,
            [Some(format!("{tenant} {id}"))]
        );
    }
    // The settings end with their mutation, and a connection that has been used is as a new one.
    let mut client = live.connect(&user(ANN)).await;
    client.push_next(json!([create("plain", 9)])).await.acked();
    let seen = "SELECT json_agg(seen ORDER BY id)::text FROM plain";
    let seen = live.db.query_json(seen).await;
    assert_eq!(seen, [json!(["acme", "7", "", ""])]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reject_names_no_column_that_the_role_may_not_read() {
    let live = Live::with(
        "ALTER TABLE todos ADD secret text NOT NULL DEFAULT 'x' CHECK (secret <> title); \
         REVOKE SELECT ON todos FROM authenticated; \
         GRANT SELECT (id, list_id, owner, title, visibility) ON todos TO authenticated",
    )
    .await;
    let mut ann = live.connect(&user(ANN)).await;
    let outcome = ann
        .push_next(json!([update(4, &json!({ "title": "x" }))]))
        .await;
    let reject = outcome.rejected();
    assert_eq!(reject.code, "constraint");
    assert_eq!(reject.column, None, "{reject:?}");
}
