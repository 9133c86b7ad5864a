//! Mutations that are not applied: the code, the write and the column at fault, and never the
//! database's text.

mod postgres_constraints;
mod wrong_types;

use futures_util::future::join_all;
use rhtmx_sync::EntityConfig;
use rhtmx_sync_tests::TestServer;
use serde_json::{Value, json};
use testkit::{Backend, Rejection, SyncClient, TestDatabase, both_backends};

use crate::tables::{NOTES, TASKS, count};
use crate::writes::{create, delete, note, update, upsert};

/// Words of the databases' own messages.
const DATABASE_WORDS: [&str; 22] = [
    "violates",
    "constraint \"",
    "constraint failed",
    "sqlstate",
    "sqlite",
    "postgres",
    "duplicate key",
    "_pkey",
    "_key",
    "_check",
    "_fkey",
    "relation ",
    "syntax",
    "statement",
    "error",
    "detail",
    "context",
    "pl/pgsql",
    "raise",
    "secret",
    "character varying",
    "invalid input",
];

/// Why a mutation is rejected: the code, the write, the column.
type Reason<'a> = (&'a str, Option<u64>, Option<&'a str>);

#[track_caller]
fn assert_no_database_words(rejection: &Rejection) {
    let message = rejection.message.to_lowercase();
    for word in DATABASE_WORDS {
        assert!(!message.contains(word), "{word:?} in {rejection:?}");
    }
    assert!(!message.is_empty() && message.len() < 400, "{rejection:?}");
}

/// Pushes writes that must be rejected for this reason, then a mutation that must be applied.
async fn assert_rejected(client: &mut SyncClient, writes: Value, reason: Reason<'_>) -> Rejection {
    let outcome = client.push_next(writes.clone()).await;
    let rejection = outcome.rejected().clone();
    let found = (
        rejection.code.as_str(),
        rejection.write,
        rejection.column.as_deref(),
    );
    assert_eq!(found, reason, "{writes}: {rejection:?}");
    assert_no_database_words(&rejection);
    let good = upsert("notes", json!({ "id": 1, "body": "the next one" }));
    client.push_next(json!([good])).await.acked();
    rejection
}

const LIBRARY: &str = "
    CREATE TABLE notes (id integer PRIMARY KEY, body text NOT NULL);
    CREATE TABLE authors (
        id integer PRIMARY KEY, email text NOT NULL UNIQUE, age integer CHECK (age >= 0)
    );
    CREATE TABLE books (
        id integer PRIMARY KEY,
        author_id integer NOT NULL REFERENCES authors (id),
        title varchar(10) NOT NULL,
        pages integer DEFAULT 1 NOT NULL,
        letters integer GENERATED ALWAYS AS (length(title)) STORED,
        UNIQUE (author_id, title)
    );
    INSERT INTO authors VALUES (1, 'a@x', 30), (2, 'b@x', NULL);
    INSERT INTO books (id, author_id, title) VALUES (1, 1, 'one');";

async fn library(db: &TestDatabase) -> (TestServer, SyncClient) {
    db.execute(LIBRARY).await;
    let server = TestServer::start(db, ["notes", "authors", "books"]).await;
    let client = server.connect().await;
    (server, client)
}

/// The write, with its key in `key` as well.
fn with_key(mut write: Value, key: u64) -> Value {
    write["key"] = json!(key);
    write
}

fn author(id: u64, email: &str) -> Value {
    create("authors", json!({ "id": id, "email": email }))
}

fn book(id: u64, author: u64, title: &str) -> Value {
    create(
        "books",
        json!({ "id": id, "author_id": author, "title": title }),
    )
}

both_backends! {
    async fn unknown_names_are_rejected(db: TestDatabase) {
        let (_server, mut client) = library(&db).await;
        for name in [
            "nowhere",
            "",
            "Notes",
            "pg_class",
            "_rhtmx_sync_client",
            "notes; DROP TABLE notes",
        ] {
            let writes = json!([note(5, "x"), create(name, json!({ "id": 1 }))]);
            assert_rejected(&mut client, writes, ("unknown_entity", Some(1), None)).await;
        }
        for name in ["colour", "", "Title", "title\"", "ctid", "rowid", "xmin"] {
            let writes = json!([update("books", 1, json!({ name: 1 }))]);
            assert_rejected(&mut client, writes, ("unknown_column", Some(0), Some(name))).await;
        }
        assert_eq!(
            (count(&db, "notes").await, count(&db, "books").await),
            (1, 1)
        );
    }

    async fn missing_and_existing_rows_are_rejected(db: TestDatabase) {
        let (_server, mut client) = library(&db).await;
        let missing = json!([update("authors", 9, json!({ "email": "x" }))]);
        assert_rejected(&mut client, missing, ("not_found", Some(0), None)).await;
        let missing = json!([note(5, "x"), note(6, "x"), delete("authors", 9)]);
        assert_rejected(&mut client, missing, ("not_found", Some(2), None)).await;
        let existing = json!([author(1, "new@x")]);
        assert_rejected(&mut client, existing, ("exists", Some(0), None)).await;
        let twice = json!([note(7, "x"), note(7, "x")]);
        assert_rejected(&mut client, twice, ("exists", Some(1), None)).await;
        let gone = json!([
            delete("authors", 2),
            update("authors", 2, json!({ "age": 1 }))
        ]);
        assert_rejected(&mut client, gone, ("not_found", Some(1), None)).await;
        assert_eq!(
            (count(&db, "notes").await, count(&db, "authors").await),
            (1, 2)
        );
    }

    async fn missing_required_values_are_rejected(db: TestDatabase) {
        let (_server, mut client) = library(&db).await;
        let email = ("constraint", Some(0), Some("email"));
        for write in [
            create("authors", json!({ "id": 5 })),
            create("authors", json!({ "id": 5, "email": null })),
            update("authors", 1, json!({ "email": null })),
            upsert("authors", json!({ "id": 1, "email": null })),
            upsert("authors", json!({ "id": 5, "age": 1 })),
        ] {
            assert_rejected(&mut client, json!([write]), email).await;
        }
        let writes = json!([create(
            "books",
            json!({ "id": 5, "author_id": 1, "title": "x", "pages": null })
        )]);
        assert_rejected(&mut client, writes, ("constraint", Some(0), Some("pages"))).await;
        // A column with a default may be left out, as may any column of an existing row.
        client.push_next(json!([book(5, 1, "five")])).await.acked();
        client
            .push_next(json!([upsert("authors", json!({ "id": 1, "age": 31 }))]))
            .await
            .acked();
        assert_eq!(
            count(&db, "authors WHERE age = 31 AND email = 'a@x'").await,
            1
        );
    }

    async fn values_that_are_not_unique_are_rejected(db: TestDatabase) {
        let (_server, mut client) = library(&db).await;
        let email = ("constraint", Some(0), Some("email"));
        for write in [
            author(5, "a@x"),
            update("authors", 2, json!({ "email": "a@x" })),
            upsert("authors", json!({ "id": 2, "email": "a@x" })),
            upsert("authors", json!({ "id": 5, "email": "a@x" })),
        ] {
            assert_rejected(&mut client, json!([write]), email).await;
        }
        let outcome = client
            .push_next(json!([note(6, "x"), book(6, 1, "one")]))
            .await;
        let rejection = outcome.rejected();
        assert_eq!(
            (rejection.code.as_str(), rejection.write),
            ("constraint", Some(1))
        );
        assert_no_database_words(rejection);
        assert_eq!(
            (count(&db, "authors").await, count(&db, "books").await),
            (2, 1)
        );
    }

    async fn broken_references_are_rejected(db: TestDatabase) {
        let (_server, mut client) = library(&db).await;
        let column = Some("author_id");
        let orphan = json!([book(5, 77, "x")]);
        assert_rejected(&mut client, orphan, ("constraint", Some(0), column)).await;
        let orphan = json!([update("books", 1, json!({ "author_id": 77 }))]);
        assert_rejected(&mut client, orphan, ("constraint", Some(0), column)).await;
        let parent = json!([delete("authors", 1)]);
        assert_rejected(&mut client, parent, ("constraint", Some(0), None)).await;
        // In the right order it is applied.
        let writes = json!([
            author(5, "c@x"),
            book(5, 5, "x"),
            delete("books", 1),
            delete("authors", 1)
        ]);
        client.push_next(writes).await.acked();
        assert_eq!(
            (count(&db, "authors").await, count(&db, "books").await),
            (2, 1)
        );
    }

    async fn values_that_fail_a_check_are_rejected(db: TestDatabase) {
        let (_server, mut client) = library(&db).await;
        for write in [
            create("authors", json!({ "id": 5, "email": "e@x", "age": -1 })),
            update("authors", 1, json!({ "age": -5 })),
            upsert("authors", json!({ "id": 1, "email": "a@x", "age": -5 })),
        ] {
            assert_rejected(
                &mut client,
                json!([write]),
                ("constraint", Some(0), Some("age")),
            )
            .await;
        }
        assert_eq!(count(&db, "authors WHERE age = 30").await, 1);
    }

    async fn values_of_generated_columns_are_rejected(db: TestDatabase) {
        let (_server, mut client) = library(&db).await;
        let letters = ("invalid", Some(0), Some("letters"));
        for write in [
            create(
                "books",
                json!({ "id": 5, "author_id": 1, "title": "x", "letters": 1 }),
            ),
            update("books", 1, json!({ "letters": 3 })),
            upsert(
                "books",
                json!({ "id": 1, "author_id": 1, "title": "x", "letters": 1 }),
            ),
        ] {
            assert_rejected(&mut client, json!([write]), letters).await;
        }
        client.push_next(json!([book(5, 1, "five")])).await.acked();
        assert_eq!(count(&db, "books WHERE letters = 4").await, 1);
    }

    async fn values_that_are_too_large_are_rejected(db: TestDatabase) {
        let (_server, mut client) = library(&db).await;
        // SQLite does not limit the size of texts and integers.
        let mut too_much = vec![
            ("title", json!("eleven char")),
            ("pages", json!(2_147_483_648_u64)),
            ("pages", json!(-2_147_483_649_i64)),
        ];
        if db.backend() == Backend::Sqlite {
            too_much = vec![("pages", json!(9_223_372_036_854_775_808_u64))];
        }
        for (column, value) in [
            ("title", json!("null\0byte")),
            ("title", json!(7)),
            ("title", json!(["a"])),
            ("pages", json!("99999999999999999999")),
            ("pages", json!(1.5)),
            ("pages", json!("many")),
            ("pages", json!(true)),
            ("pages", json!({ "n": 1 })),
        ]
        .into_iter()
        .chain(too_much)
        {
            let writes = json!([note(6, "x"), update("books", 1, json!({ column: value }))]);
            assert_rejected(&mut client, writes, ("invalid", Some(1), Some(column))).await;
        }
        assert_eq!(
            (
                count(&db, "notes").await,
                count(&db, "books WHERE title = 'one'").await
            ),
            (1, 1)
        );
        for title in ["ten chars!", "äöüäöüäöüä", "", "'; DROP --"] {
            client
                .push_next(json!([update("books", 1, json!({ "title": title }))]))
                .await
                .acked();
        }
    }

    async fn invalid_keys_are_rejected(db: TestDatabase) {
        db.execute(
            "CREATE TABLE members (team integer NOT NULL, name text NOT NULL, role text, \
             PRIMARY KEY (team, name))",
        )
        .await;
        db.execute(&format!(
            "{NOTES}; INSERT INTO members VALUES (1, 'ann', 'lead')"
        ))
        .await;
        let server = TestServer::start(&db, ["notes", "members"]).await;
        let mut client = server.connect().await;
        for key in [
            json!("x"),
            json!("007"),
            json!(1.5),
            json!(""),
            json!(u64::MAX),
            json!(true),
        ] {
            for write in [
                update("notes", key.clone(), json!({ "body": "x" })),
                delete("notes", key.clone()),
            ] {
                assert_rejected(
                    &mut client,
                    json!([write]),
                    ("invalid", Some(0), Some("id")),
                )
                .await;
            }
            let write = create("notes", json!({ "id": key, "body": "x" }));
            assert_rejected(
                &mut client,
                json!([write]),
                ("invalid", Some(0), Some("id")),
            )
            .await;
        }
        for key in [json!({ "id": 1 }), json!([]), json!([1, 2])] {
            let writes = json!([delete("notes", key)]);
            assert_rejected(&mut client, writes, ("invalid", Some(0), None)).await;
        }
        for write in [
            json!({ "entity": "notes", "op": "delete" }),
            json!({ "entity": "notes", "op": "delete", "key": null }),
            json!({ "entity": "notes", "op": "update", "values": { "body": "x" } }),
            json!({ "entity": "notes", "op": "update", "key": 1 }),
            json!({ "entity": "notes", "op": "delete", "key": 1, "values": { "body": "x" } }),
        ] {
            assert_rejected(&mut client, json!([write]), ("invalid", Some(0), None)).await;
        }
        for (write, column) in [
            (update("notes", 1, json!({ "id": 2, "body": "x" })), "id"),
            (with_key(note(6, "x"), 5), "id"),
            (upsert("notes", json!({ "body": "x" })), "id"),
            (upsert("members", json!({ "team": 1, "role": "x" })), "name"),
            (
                update("members", json!(["x", "ann"]), json!({ "role": "x" })),
                "team",
            ),
            (
                update("members", json!([1, 2]), json!({ "role": "x" })),
                "name",
            ),
            (
                update("members", json!([1, null]), json!({ "role": "x" })),
                "name",
            ),
        ] {
            assert_rejected(
                &mut client,
                json!([write]),
                ("invalid", Some(0), Some(column)),
            )
            .await;
        }
        for key in [
            json!("ann"),
            json!(1),
            json!([1]),
            json!([1, "ann", 2]),
            json!("[1]"),
            json!("[1,"),
        ] {
            let writes = json!([update("members", key, json!({ "role": "x" }))]);
            assert_rejected(&mut client, writes, ("invalid", Some(0), None)).await;
        }
        let found = [json!([1, "ann"]), json!("[1,\"ann\"]"), json!(["1", "ann"])];
        for (number, key) in found.into_iter().enumerate() {
            let writes = json!([update(
                "members",
                key,
                json!({ "role": number.to_string() })
            )]);
            client.push_next(writes).await.acked();
            assert_eq!(
                count(&db, &format!("members WHERE role = '{number}'")).await,
                1
            );
        }
    }

    async fn mutations_beyond_the_limit_of_writes_are_rejected(db: TestDatabase) {
        db.execute(NOTES).await;
        let mut config = TestServer::config(&db, ["notes"]).await;
        config.limits.writes_max = 3;
        let server = TestServer::with_config(config).await;
        let mut client = server.connect().await;
        let many =
            |count: u64| Value::from((11..11 + count).map(|id| note(id, "x")).collect::<Vec<_>>());
        assert_rejected(&mut client, many(4), ("too_large", None, None)).await;
        assert_rejected(&mut client, json!([]), ("invalid", None, None)).await;
        client.push_next(many(3)).await.acked();
        assert_eq!(count(&db, "notes").await, 4);
    }

    async fn writes_to_an_entity_without_a_table_are_rejected(db: TestDatabase) {
        db.execute(NOTES).await;
        let entities = vec![
            EntityConfig::new("notes"),
            EntityConfig::without_table("presence"),
        ];
        let server = TestServer::start(&db, entities).await;
        let mut client = server.connect().await;
        for write in [
            create("presence", json!({ "id": 1 })),
            delete("presence", "1"),
        ] {
            let writes = json!([note(5, "x"), write]);
            assert_rejected(&mut client, writes, ("forbidden", Some(1), None)).await;
        }
        assert_eq!(count(&db, "notes").await, 1);
    }

    /// Such a constraint fails at the commit, after all writes have succeeded.
    async fn broken_deferred_references_are_rejected(db: TestDatabase) {
        let knots = "CREATE TABLE knots (id integer PRIMARY KEY, \
                     next_id integer REFERENCES knots (id) DEFERRABLE INITIALLY DEFERRED)";
        db.execute(&format!("{NOTES}; {knots}")).await;
        let server = TestServer::start(&db, ["notes", "knots"]).await;
        let mut client = server.connect().await;
        let knot = |id: u64, next: u64| create("knots", json!({ "id": id, "next_id": next }));
        for (writes, write) in [
            (json!([knot(1, 2)]), Some(0)),
            (json!([note(5, "x"), knot(1, 2)]), None),
        ] {
            let outcome = client.push_next(writes.clone()).await;
            let rejection = outcome.rejected();
            assert_eq!(
                (rejection.code.as_str(), rejection.write),
                ("constraint", write)
            );
            assert_no_database_words(rejection);
            // The same answer again.
            let mutation = client.next_mutation() - 1;
            let again = client.push(mutation, writes).await;
            assert_eq!(again.rejected(), rejection);
        }
        assert_eq!(
            (count(&db, "knots").await, count(&db, "notes").await),
            (0, 0)
        );
        // Two rows that need each other must be created together.
        client
            .push_next(json!([knot(1, 2), knot(2, 1)]))
            .await
            .acked();
        let outcome = client.push_next(json!([delete("knots", 2)])).await;
        assert_eq!(outcome.rejected().code, "constraint");
        assert_eq!(count(&db, "knots").await, 2);
    }

    /// The trigger's message is not sent to clients, and the next mutation is applied.
    async fn a_failing_trigger_is_a_reject(db: TestDatabase) {
        db.execute(NOTES).await;
        let trigger = match db.backend() {
            Backend::Postgres => {
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                 RAISE EXCEPTION 'a secret of the table'; END $$; \
                 CREATE TRIGGER refuse BEFORE INSERT ON notes FOR EACH ROW \
                 WHEN (new.body = 'bad') EXECUTE FUNCTION refuse()"
            }
            Backend::Sqlite => {
                "CREATE TRIGGER refuse BEFORE INSERT ON notes WHEN new.body = 'bad' \
                 BEGIN SELECT RAISE(ABORT, 'a secret of the table'); END"
            }
        };
        db.execute(trigger).await;
        let server = TestServer::start(&db, ["notes"]).await;
        let mut client = server.connect().await;
        let writes = json!([note(5, "good"), note(6, "bad")]);
        assert_rejected(&mut client, writes, ("constraint", Some(1), None)).await;
        assert_eq!(count(&db, "notes").await, 1);
    }

    /// A trigger that names what does not exist fails each time, so its mutation is rejected and holds up no other.
    async fn a_trigger_with_a_missing_name_is_a_reject(db: TestDatabase) {
        db.execute(&format!("{NOTES}; {TASKS}")).await;
        let triggers = match db.backend() {
            Backend::Postgres => {
                "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                 CASE new.body \
                   WHEN 'column' THEN new.missing := 1; \
                   WHEN 'table' THEN DELETE FROM missing; \
                   WHEN 'function' THEN PERFORM missing(new.id); \
                   WHEN 'state' THEN RAISE EXCEPTION 'secret' USING ERRCODE = '55000'; \
                   WHEN 'internal' THEN RAISE EXCEPTION 'secret' USING ERRCODE = 'XX000'; \
                   ELSE NULL; END CASE; RETURN new; END $$; \
                 CREATE TRIGGER fail BEFORE INSERT ON tasks FOR EACH ROW EXECUTE FUNCTION fail()"
            }
            Backend::Sqlite => {
                "CREATE TABLE missing (id integer); \
                 CREATE TRIGGER fail BEFORE INSERT ON tasks BEGIN DELETE FROM missing; END; \
                 PRAGMA legacy_alter_table = ON; ALTER TABLE missing RENAME TO gone"
            }
        };
        db.execute(triggers).await;
        let server = TestServer::start(&db, ["notes", "tasks"]).await;
        let mut client = server.connect().await;
        let bodies: &[&str] = match db.backend() {
            Backend::Postgres => &["column", "table", "function", "state", "internal"],
            Backend::Sqlite => &["table"],
        };
        for body in bodies {
            let task = create("tasks", json!({ "id": 6, "body": body }));
            let writes = json!([note(5, "good"), task]);
            assert_rejected(&mut client, writes, ("constraint", Some(1), None)).await;
        }
        assert_eq!(count(&db, "tasks").await, 0);
        assert_eq!(count(&db, "notes").await, 1);
    }
}
