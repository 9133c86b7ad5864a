//! Constraints that SQLite does not have.

use super::*;

async fn serve(db: &TestDatabase, tables: &str, entities: &[&str]) -> (TestServer, SyncClient) {
    db.execute(&format!("{NOTES}; {tables}")).await;
    let server = TestServer::start(db, ["notes"].iter().chain(entities).copied()).await;
    let client = server.connect().await;
    (server, client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deferred_constraints_are_rejects() {
    let db = TestDatabase::postgres().await;
    let tables = "CREATE TABLE knots (
        id integer PRIMARY KEY,
        next_id integer REFERENCES knots (id) DEFERRABLE INITIALLY DEFERRED,
        place integer UNIQUE DEFERRABLE INITIALLY DEFERRED)";
    let (_server, mut client) = serve(&db, tables, &["knots"]).await;
    let knot =
        |id: u64, next: u64| create("knots", json!({ "id": id, "next_id": next, "place": id }));
    assert_rejected(
        &mut client,
        json!([knot(1, 2)]),
        ("constraint", Some(0), Some("next_id")),
    )
    .await;
    // Two rows that need each other must be created together.
    client
        .push_next(json!([knot(1, 2), knot(2, 1)]))
        .await
        .acked();
    let swap = |one: u64, two: u64| {
        json!([
            update("knots", 1, json!({ "place": one })),
            update("knots", 2, json!({ "place": two }))
        ])
    };
    client.push_next(swap(2, 1)).await.acked();
    assert_rejected(&mut client, swap(1, 1), ("constraint", None, None)).await;
    let same = json!([update("knots", 1, json!({ "place": 1 }))]);
    assert_rejected(&mut client, same, ("constraint", Some(0), Some("place"))).await;
    let alone = json!([delete("knots", 2)]);
    assert_rejected(&mut client, alone, ("constraint", Some(0), None)).await;
    assert_eq!(count(&db, "knots WHERE place <> id").await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn constraint_triggers_and_exclusions_are_rejects() {
    let db = TestDatabase::postgres().await;
    let tables = "CREATE TABLE bookings (
            id integer PRIMARY KEY, during int4range, EXCLUDE USING gist (during WITH &&));
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF new.id > 100 THEN RAISE EXCEPTION 'a secret of the table'; END IF;
            RETURN NULL; END $$;
        CREATE CONSTRAINT TRIGGER late AFTER INSERT ON bookings DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION refuse()";
    let (_server, mut client) = serve(&db, tables, &["bookings"]).await;
    let booking = |id: u64, during: &str| create("bookings", json!({ "id": id, "during": during }));
    client.push_next(json!([booking(1, "[1,5)")])).await.acked();
    let overlapping = client.push_next(json!([booking(2, "[4,6)")])).await;
    let rejection = overlapping.rejected();
    assert_eq!(
        (rejection.code.as_str(), rejection.write),
        ("constraint", Some(0))
    );
    assert_no_database_words(rejection);
    assert_rejected(
        &mut client,
        json!([booking(101, "[8,9)")]),
        ("constraint", Some(0), None),
    )
    .await;
    assert_eq!(count(&db, "bookings").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn constraints_of_domains_are_rejects() {
    let db = TestDatabase::postgres().await;
    let tables = "CREATE DOMAIN plate AS text CHECK (VALUE ~ '^[A-Z]+$');
        CREATE DOMAIN wheels AS integer NOT NULL;
        CREATE DOMAIN grade AS text DEFAULT 'new' NOT NULL;
        CREATE TABLE cars (
            id integer PRIMARY KEY, plate plate, wheels wheels, grade grade, colour text);
        INSERT INTO cars VALUES (1, 'AB', 4, 'old', 'red')";
    let (_server, mut client) = serve(&db, tables, &["cars"]).await;
    let bad = json!([update(
        "cars",
        1,
        json!({ "colour": "blue", "plate": "ab" })
    )]);
    assert_rejected(&mut client, bad, ("constraint", Some(0), Some("plate"))).await;
    let bad = json!([update("cars", 1, json!({ "wheels": null }))]);
    assert_rejected(&mut client, bad, ("constraint", Some(0), Some("wheels"))).await;
    let bad = json!([create("cars", json!({ "id": 2, "plate": "CD" }))]);
    assert_rejected(&mut client, bad, ("constraint", Some(0), Some("wheels"))).await;
    client
        .push_next(json!([update("cars", 1, json!({ "colour": "blue" }))]))
        .await
        .acked();
    client
        .push_next(json!([upsert("cars", json!({ "id": 1, "plate": "XY" }))]))
        .await
        .acked();
    client
        .push_next(json!([create("cars", json!({ "id": 2, "wheels": 3 }))]))
        .await
        .acked();
    assert_eq!(count(&db, "cars WHERE grade = 'new'").await, 1);
    client.push_next(json!([delete("cars", 2)])).await.acked();
    assert_eq!(
        count(
            &db,
            "cars WHERE colour = 'blue' AND plate = 'XY' AND wheels = 4"
        )
        .await,
        1
    );
}

/// A trigger may raise an exception with any code, even with one that means something else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exceptions_of_every_code_are_rejects() {
    let db = TestDatabase::postgres().await;
    let tables = "CREATE TABLE cars (id integer PRIMARY KEY, code text);
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            RAISE EXCEPTION 'a secret of the table'
                USING ERRCODE = new.code, DETAIL = 'secret', HINT = 'secret'; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON cars FOR EACH ROW EXECUTE FUNCTION refuse()";
    let (_server, mut client) = serve(&db, tables, &["cars"]).await;
    for code in [
        "P0001", "P0002", "23505", "23502", "23503", "23514", "23P01", "22000", "22P02", "44000",
        "54000", "PT403", "45000", "ABCDE", "0A000", "21000", "38000", "2F000", "42501", "428C9",
    ] {
        let outcome = client
            .push_next(json!([create("cars", json!({ "id": 5, "code": code }))]))
            .await;
        let rejection = outcome.rejected();
        assert_eq!(rejection.write, Some(0), "{code}: {rejection:?}");
        assert_no_database_words(rejection);
    }
    client.push_next(json!([note(1, "x")])).await.acked();
    assert_eq!(count(&db, "cars").await, 0);
}

/// A code that stands for something that passes by itself does not when a trigger raises it each time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exceptions_of_passing_codes_are_rejects_in_the_end() {
    let db = TestDatabase::postgres().await;
    let tables = "CREATE TABLE cars (id integer PRIMARY KEY, code text);
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF new.code = 'assert' THEN ASSERT false; END IF;
            RAISE EXCEPTION 'a secret of the table' USING ERRCODE = new.code; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON cars FOR EACH ROW EXECUTE FUNCTION refuse()";
    let (server, _client) = serve(&db, tables, &["cars"]).await;
    let codes = [
        "assert", "08006", "25001", "26000", "40001", "42P01", "53100", "55000", "55006", "55P03",
        "57P01", "58030", "F0000", "XX000", "XX001",
    ];
    let pushes = codes.iter().zip(1_u64..).map(async |(code, id)| {
        let mut client = server.connect().await;
        let cars = json!([create("cars", json!({ "id": id, "code": code }))]);
        let outcome = client.push_next(cars).await;
        let rejection = outcome.rejected();
        assert_eq!(rejection.code, "constraint", "{code}: {rejection:?}");
        assert_no_database_words(rejection);
        client.push_next(json!([note(id, code)])).await.acked();
    });
    join_all(pushes).await;
    assert_eq!(count(&db, "cars").await, 0);
}

/// Where the database says only that some value is unfit, the column is still the right one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_only_its_type_refuses_names_its_column() {
    let db = TestDatabase::postgres().await;
    let tables = "CREATE TABLE texts (a text, id text PRIMARY KEY, q tsquery, m macaddr, z text)";
    let (_server, mut client) = serve(&db, tables, &["texts"]).await;
    for (column, value) in [("q", "a & & b"), ("m", "none"), ("z", "\u{0}")] {
        let mut row = json!({ "a": "a", "id": "key", "q": "a & b", "m": null, "z": "z" });
        row[column] = json!(value);
        let writes = json!([note(7, "x"), create("texts", row)]);
        assert_rejected(&mut client, writes, ("invalid", Some(1), Some(column))).await;
    }
}

/// An update of a column other than the key that other rows refer to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_references_to_other_columns_are_rejects() {
    let db = TestDatabase::postgres().await;
    let tables = "CREATE TABLE makers (id integer PRIMARY KEY, name text UNIQUE);
        CREATE TABLE cars (id integer PRIMARY KEY, name text REFERENCES makers (name));
        INSERT INTO makers VALUES (1, 'acme'); INSERT INTO cars VALUES (1, 'acme')";
    let (_server, mut client) = serve(&db, tables, &["makers", "cars"]).await;
    let renamed = json!([update("makers", 1, json!({ "name": "other" }))]);
    let rejection = assert_rejected(&mut client, renamed, ("constraint", Some(0), None)).await;
    assert!(
        rejection.message.contains("refer to this row"),
        "{rejection:?}"
    );
    let unknown = json!([update("cars", 1, json!({ "name": "other" }))]);
    let rejection =
        assert_rejected(&mut client, unknown, ("constraint", Some(0), Some("name"))).await;
    assert!(
        rejection.message.contains("does not exist"),
        "{rejection:?}"
    );
}

/// PostgreSQL does not find a conflict by a key that is deferrable.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upsert_on_a_deferrable_key_is_a_reject() {
    let db = TestDatabase::postgres().await;
    let tables = "CREATE TABLE later (id integer PRIMARY KEY DEFERRABLE, body text)";
    let (_server, mut client) = serve(&db, tables, &["later"]).await;
    let row = json!({ "id": 1, "body": "a" });
    let writes = json!([upsert("later", row.clone())]);
    assert_rejected(&mut client, writes, ("constraint", Some(0), None)).await;
    client
        .push_next(json!([create("later", row.clone())]))
        .await
        .acked();
    client
        .push_next(json!([upsert("later", row)]))
        .await
        .acked();
}
