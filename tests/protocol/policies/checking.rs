//! The check of a written row: it sees what the statement, and all that it set off, has left.

use std::sync::Arc;

use rhtmx_sync::{EntityPolicy, Policies};
use rhtmx_sync_tests::TestServer;
use serde_json::json;
use testkit::{Backend, TestDatabase, both_backends};

use super::{sign_in, user};
use crate::claims::ClaimsAreTokens;
use crate::writes::{create, update, upsert};

/// A server for a table whose rows only their owners may write.
async fn serve_own(db: &TestDatabase, entity: &str, statements: &[&str]) -> TestServer {
    for statement in statements {
        db.execute(statement).await;
    }
    let mut config = TestServer::config(db, [entity]).await;
    let own = "owner_id = auth.sub";
    let policy = EntityPolicy {
        read: Some("TRUE".to_owned()),
        create: Some(own.to_owned()),
        update: Some(own.into()),
        ..EntityPolicy::default()
    };
    config.auth.authenticator = Arc::new(ClaimsAreTokens);
    config.auth.authorizer =
        Arc::new(Policies::new([(entity.to_owned(), policy)]).expect("policies"));
    TestServer::with_config(config).await
}

async fn owners(db: &TestDatabase, entity: &str) -> Vec<Option<String>> {
    let owners = format!("SELECT owner_id FROM {entity} ORDER BY owner_id");
    db.query_text(&owners).await
}

both_backends! {
    async fn a_create_may_leave_its_key_to_the_database(db: TestDatabase) {
        let (keys, nothing) = match db.backend() {
            Backend::Postgres => ("bigint GENERATED ALWAYS AS IDENTITY", "RETURN NULL"),
            Backend::Sqlite => ("integer", ""),
        };
        let table = format!("CREATE TABLE entries (id {keys} PRIMARY KEY, owner_id text NOT NULL, body text)");
        let mut statements = vec![table.as_str(), "CREATE TABLE audit (id integer, owner_id text)"];
        // A trigger that inserts elsewhere does not mislead the check.
        let of_trigger = match db.backend() {
            Backend::Postgres => vec![
                format!("CREATE FUNCTION audited() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO audit VALUES (new.id, new.owner_id); {nothing}; END $$"),
                "CREATE TRIGGER audited AFTER INSERT ON entries FOR EACH ROW WHEN (new.body = 'audited') EXECUTE FUNCTION audited()".to_owned(),
            ],
            Backend::Sqlite => vec![
                "CREATE TRIGGER audited AFTER INSERT ON entries WHEN new.body = 'audited' BEGIN INSERT INTO audit VALUES (new.id, new.owner_id); END".to_owned(),
            ],
        };
        for with_trigger in [false, true] {
            if with_trigger {
                statements = of_trigger.iter().map(String::as_str).collect();
            }
            let server = serve_own(&db, "entries", &statements).await;
            let mut ann = sign_in(&server, &user("ann")).await;
            for body in ["plain", "audited"] {
                ann.push_next(json!([create("entries", json!({ "owner_id": "ann", "body": body }))])).await.acked();
                let bens = create("entries", json!({ "owner_id": "ben", "body": body }));
                let rejected = ann.push_next(json!([bens])).await;
                assert_eq!(rejected.rejected().code, "forbidden");
            }
            server.shutdown().await;
        }
        assert_eq!(owners(&db, "entries").await, vec![Some("ann".to_owned()); 4]);
    }
}

/// A default that PostgreSQL alone can compute, of a type whose JSON is not its own text.
#[tokio::test(flavor = "multi_thread")]
async fn a_chosen_key_of_any_type_finds_its_row() {
    for (kind, value) in [
        ("uuid", "gen_random_uuid()"),
        ("bytea", "decode('00ff10', 'hex')"),
        ("timestamptz", "clock_timestamp()"),
        ("numeric", "1.50"),
        ("text", "'it''s'"),
    ] {
        let db = TestDatabase::postgres().await;
        let table = format!(
            "CREATE TABLE entries (id {kind} PRIMARY KEY DEFAULT {value}, owner_id text NOT NULL)"
        );
        // Something after the statement, so that the row is looked for by its key.
        let statements = [
            table.as_str(),
            "CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$",
            "CREATE TRIGGER noted AFTER INSERT ON entries FOR EACH ROW EXECUTE FUNCTION noted()",
        ];
        let server = serve_own(&db, "entries", &statements).await;
        let mut ann = sign_in(&server, &user("ann")).await;
        let mine = create("entries", json!({ "owner_id": "ann" }));
        ann.push_next(json!([mine])).await.acked();
        assert_eq!(owners(&db, "entries").await, [Some("ann".to_owned())]);
    }
}

/// A table without row ids has no name for a row whose key the database chose.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_cannot_be_found_again_may_not_be_created() {
    let db = TestDatabase::sqlite().await;
    let table = "CREATE TABLE entries (id text PRIMARY KEY NOT NULL DEFAULT (hex(randomblob(8))), owner_id text NOT NULL) WITHOUT ROWID";
    let server = serve_own(&db, "entries", &[table]).await;
    let mut ann = sign_in(&server, &user("ann")).await;
    let mine = create("entries", json!({ "owner_id": "ann" }));
    let rejected = ann.push_next(json!([mine])).await;
    assert_eq!(rejected.rejected().code, "forbidden");
    assert_eq!(owners(&db, "entries").await, Vec::<Option<String>>::new());
}

/// What PostgreSQL returns of a row is not always what becomes of it.
#[tokio::test(flavor = "multi_thread")]
async fn what_happens_to_a_row_after_its_statement_is_checked_too() {
    let table = "CREATE TABLE entries (id integer PRIMARY KEY, owner_id text NOT NULL, body text)";
    let function = "CREATE FUNCTION give() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
        IF pg_trigger_depth() = 1 THEN UPDATE entries SET owner_id = 'ben' WHERE body = 'gift'; END IF; RETURN NULL; END $$";
    let cases: [&[&str]; 5] = [
        &[
            table,
            function,
            "CREATE TRIGGER give AFTER INSERT OR UPDATE ON entries FOR EACH ROW EXECUTE FUNCTION give()",
        ],
        &[
            table,
            function,
            "CREATE TRIGGER give AFTER INSERT OR UPDATE ON entries FOR EACH STATEMENT EXECUTE FUNCTION give()",
        ],
        &[
            "CREATE TABLE entries (id integer PRIMARY KEY, owner_id text NOT NULL, body text) PARTITION BY RANGE (id)",
            "CREATE TABLE entries_0 PARTITION OF entries FOR VALUES FROM (0) TO (1000)",
            function,
            "CREATE TRIGGER give AFTER INSERT OR UPDATE ON entries_0 FOR EACH ROW EXECUTE FUNCTION give()",
        ],
        &[
            "CREATE TABLE entries (id integer PRIMARY KEY, owner_id text NOT NULL, body text) PARTITION BY RANGE (id)",
            "CREATE TABLE entries_0 PARTITION OF entries FOR VALUES FROM (0) TO (1000)",
            function,
            "CREATE TRIGGER give AFTER INSERT OR UPDATE ON entries FOR EACH ROW EXECUTE FUNCTION give()",
        ],
        &[
            table,
            "CREATE RULE give_new AS ON INSERT TO entries WHERE new.body = 'gift' DO ALSO UPDATE entries SET owner_id = 'ben', body = '' WHERE id = new.id",
        ],
    ];
    for statements in cases {
        let db = TestDatabase::postgres().await;
        let server = serve_own(&db, "entries", statements).await;
        let mut ann = sign_in(&server, &user("ann")).await;
        let row = |id: u32, body: &str| json!({ "id": id, "owner_id": "ann", "body": body });
        ann.push_next(json!([create("entries", row(1, "mine"))]))
            .await
            .acked();
        let mut gifts = vec![
            create("entries", row(2, "gift")),
            create("entries", json!({ "id": 3, "owner_id": "ben", "body": "" })),
        ];
        if !statements[1].contains("RULE") {
            gifts.push(upsert("entries", row(2, "gift")));
            gifts.push(upsert("entries", row(1, "gift")));
            gifts.push(update("entries", 1, json!({ "body": "gift" })));
        }
        for gift in gifts {
            let rejected = ann.push_next(json!([gift])).await;
            assert_eq!(
                rejected.rejected().code,
                "forbidden",
                "{gift} {statements:?}"
            );
        }
        assert_eq!(owners(&db, "entries").await, [Some("ann".to_owned())]);
    }
}
