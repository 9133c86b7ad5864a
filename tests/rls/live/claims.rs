//! Who is asked for together.

use super::*;

#[tokio::test]
async fn a_fresh_token_and_claims_that_no_policy_reads_make_no_other_shape() {
    let live = Live::start().await;
    let token = |iat: u32, theme: &str| json!({ "sub": ANN, "role": "authenticated", "iat": iat, "exp": iat + 3600, "theme": theme });
    let first = live.subscriber(&token(1, "dark")).await;
    let second = live.subscriber(&token(2, "light")).await;
    let ben = live.subscriber(&user(BEN)).await;
    let shape = |client: &SyncClient| client.subscription("t").shape().map(str::to_owned);
    assert!(shape(&first).is_some());
    assert_eq!(shape(&first), shape(&second));
    assert_ne!(shape(&first), shape(&ben));
    // What looks at the row alone is the same for everybody.
    let fences = |client: &SyncClient| client.subscription("f").shape().map(str::to_owned);
    assert_eq!(fences(&first), fences(&ben));
}

#[tokio::test]
async fn a_setting_is_made_from_its_claim() {
    let db = database().await;
    db.execute(
        "CREATE TABLE docs (id integer PRIMARY KEY, tenant integer); ALTER TABLE docs ENABLE ROW LEVEL SECURITY; \
         CREATE POLICY tenant ON docs USING (tenant = nullif(current_setting('app.tenant_id', true), '')::integer); \
         GRANT SELECT ON docs TO authenticated; INSERT INTO docs VALUES (1, 7), (2, 8)",
    )
    .await;
    let mut config = config(&db).await;
    config.entities.push(EntityConfig::new("docs").rls());
    let settings = [("app.tenant_id".to_owned(), "auth.tenant".to_owned())];
    config.auth.settings = settings.into();
    let live = Live::of(db, config).await;
    for (claims, seen) in [
        (
            json!({ "sub": ANN, "role": "authenticated", "tenant": 7 }),
            vec!["1"],
        ),
        (
            json!({ "sub": ANN, "role": "authenticated", "tenant": "8" }),
            vec!["2"],
        ),
        (json!({ "sub": ANN, "role": "authenticated" }), vec![]),
    ] {
        let mut client = live.connect(&claims).await;
        client.subscribe("t", "docs").await;
        client.wait_subscribed("t").await;
        assert_eq!(keys(&client), these(seen), "{claims}");
    }
}

#[tokio::test]
async fn nothing_but_the_policies_of_its_table_decides_about_an_entity() {
    let db = database().await;
    let policies = |name: &str| {
        let policy = rhtmx_sync::EntityPolicy {
            read: Some("TRUE".to_owned()),
            ..Default::default()
        };
        rhtmx_sync::Policies::new([(name.to_owned(), policy)]).expect("policies")
    };
    let mut beside = config(&db).await;
    beside.auth.authorizer = Arc::new(policies("todos"));
    let error = TestServer::try_with_config(beside).await.expect_err("both");
    assert!(
        error
            .to_string()
            .contains("policies for it in the configuration"),
        "{error}"
    );
    let mut internal = config(&db).await;
    for entity in &mut internal.entities {
        entity.internal = true;
    }
    let error = TestServer::try_with_config(internal)
        .await
        .expect_err("internal");
    assert!(error.to_string().contains("internal"), "{error}");
    let sqlite = TestDatabase::sqlite().await;
    let sqlite = TestServer::config(&sqlite, [EntityConfig::new("todos").rls()]).await;
    let error = TestServer::try_with_config(sqlite)
        .await
        .expect_err("SQLite");
    assert!(error.to_string().contains("only PostgreSQL"), "{error}");
}
