//! Partitioned tables, written through the parent and through their partitions.

use serde_json::json;

use super::watch::{Table, Watch};
use super::*;

const VISITS: &str = "\
CREATE TABLE visits (id integer NOT NULL, region text NOT NULL, n integer, PRIMARY KEY (id, region)) \
  PARTITION BY LIST (region); \
CREATE TABLE visits_eu PARTITION OF visits FOR VALUES IN ('eu'); \
CREATE TABLE visits_us PARTITION OF visits FOR VALUES IN ('us') PARTITION BY RANGE (id); \
CREATE TABLE visits_us_low PARTITION OF visits_us FOR VALUES FROM (0) TO (100); \
CREATE TABLE visits_us_high PARTITION OF visits_us FOR VALUES FROM (100) TO (1000)";

on_postgres! {
    /// Every statement through the parent, into a partition, and into a partition that is itself
    /// partitioned.
    async fn writes_at_any_level_of_partitions_are_captured(db: TestDatabase) {
        db.execute(VISITS).await;
        let mut watch = Watch::start(db, ["visits"]).await;
        watch.step("INSERT INTO visits VALUES (1, 'eu', 0), (1, 'us', 0), (100, 'us', 0)").await;
        watch.step("INSERT INTO visits_eu VALUES (2, 'eu', 0)").await;
        watch.step("INSERT INTO visits_us VALUES (2, 'us', 0), (102, 'us', 0)").await;
        watch.step("INSERT INTO visits_us_high VALUES (103, 'us', 0)").await;
        assert_eq!(watch.rows("visits").len(), 7);

        for table in ["visits", "visits_eu", "visits_us", "visits_us_low"] {
            watch.step(&format!("UPDATE {table} SET n = n + 1")).await;
        }
        assert_eq!(watch.row("visits", r#"[2,"us"]"#)["n"], 3);
        let upsert = "ON CONFLICT (id, region) DO UPDATE SET n = 50";
        watch.step(&format!("INSERT INTO visits VALUES (1, 'eu', 0), (9, 'eu', 0) {upsert}")).await;
        watch.step(&format!("INSERT INTO visits_us_low VALUES (1, 'us', 0), (9, 'us', 0) {upsert}")).await;
        watch.step("DELETE FROM visits WHERE id = 9").await;
        watch.step("DELETE FROM visits_us WHERE id > 100").await;
        watch.step("DELETE FROM visits_us_low WHERE id = 1").await;
        let copy = "COPY visits_eu FROM PROGRAM 'printf \"20\\teu\\t0\\n\"'";
        watch.step(copy).await;
        assert_eq!(watch.row("visits", r#"[20,"eu"]"#)["n"], 0);
    }

    /// Rows move to another partition, with their key changed and unchanged.
    async fn rows_that_move_between_partitions_are_captured(db: TestDatabase) {
        db.execute(
            "CREATE TABLE jobs (id integer NOT NULL, state text NOT NULL, PRIMARY KEY (id, state)) PARTITION BY LIST (state); \
             CREATE TABLE jobs_open PARTITION OF jobs FOR VALUES IN ('open'); \
             CREATE TABLE jobs_done PARTITION OF jobs FOR VALUES IN ('done', 'failed'); \
             CREATE TABLE spans (id integer PRIMARY KEY, n integer) PARTITION BY RANGE (id); \
             CREATE TABLE spans_low PARTITION OF spans FOR VALUES FROM (0) TO (100); \
             CREATE TABLE spans_high PARTITION OF spans FOR VALUES FROM (100) TO (1000)",
        )
        .await;
        let mut watch = Watch::start(db, ["jobs", "spans"]).await;
        watch.step("INSERT INTO jobs SELECT i, 'open' FROM generate_series(1, 300) i").await;
        watch.step("UPDATE jobs SET state = CASE WHEN id % 3 = 0 THEN 'done' ELSE state END").await;
        assert_eq!(watch.rows("jobs").len(), 300);
        watch.step("UPDATE jobs SET state = 'failed' WHERE state = 'done'").await;
        watch.step("INSERT INTO spans SELECT i, i FROM generate_series(90, 110) i").await;
        watch.step("UPDATE spans SET id = id + 30").await;
        watch.step("UPDATE spans SET id = id - 50, n = -1 WHERE id > 130").await;
        assert_eq!(watch.rows("spans").len(), 21);
    }

    /// Partitions are truncated, attached and detached while a client is connected.
    async fn partitions_may_be_attached_and_detached(db: TestDatabase) {
        db.execute(VISITS).await;
        let mut watch = Watch::start(db, ["visits"]).await;
        let fill = "INSERT INTO visits SELECT i, r, 0 FROM generate_series(1, 200) i, (VALUES ('eu'), ('us')) v(r)";
        watch.step(fill).await;
        watch.step("TRUNCATE visits_eu").await;
        assert_eq!(watch.rows("visits").len(), 200);
        watch.step("TRUNCATE visits_us_low").await;
        assert_eq!(watch.rows("visits").len(), 101);
        watch.step("INSERT INTO visits VALUES (7, 'eu', 1)").await;
        watch.step("TRUNCATE visits").await;
        assert!(watch.rows("visits").is_empty());
        watch.step(fill).await;

        // A partition that already has rows is attached, then written.
        watch.db.execute("CREATE TABLE visits_asia (id integer NOT NULL, n integer, region text NOT NULL)").await;
        watch.db.execute("INSERT INTO visits_asia VALUES (5, 50, 'asia'), (6, 60, 'asia')").await;
        watch.db.execute("ALTER TABLE visits ATTACH PARTITION visits_asia FOR VALUES IN ('asia')").await;
        watch.client.wait_until(|client| client.row("visits", r#"[6,"asia"]"#).is_some()).await;
        watch.settle().await;
        watch.compare().await;
        watch.step("INSERT INTO visits_asia (id, region, n) VALUES (8, 'asia', 80)").await;
        watch.step("UPDATE visits_asia SET n = n + 1").await;
        watch.step("INSERT INTO visits VALUES (9, 'asia', 90)").await;
        assert_eq!(watch.row("visits", r#"[8,"asia"]"#), &json!({ "id": 8, "region": "asia", "n": 81 }));

        watch.db.execute("ALTER TABLE visits DETACH PARTITION visits_asia").await;
        watch.client.wait_until(|client| client.row("visits", r#"[6,"asia"]"#).is_none()).await;
        watch.settle().await;
        watch.compare().await;
        // It is an ordinary table again: its writes are not captured, and none of them fails.
        watch.write("UPDATE visits_asia SET n = 0; DELETE FROM visits_asia WHERE id = 5").await;
        watch.compare().await;

        watch.db.execute("DROP TABLE visits_eu").await;
        watch.client.wait_until(|client| client.rows("visits").len() == 200).await;
        watch.settle().await;
        watch.compare().await;
    }

    /// A new partition that is empty adds no row, so nobody refetches, and its own writes are captured.
    async fn an_empty_partition_causes_no_refetch(db: TestDatabase) {
        db.execute(VISITS).await;
        let mut watch = Watch::start(db, ["visits"]).await;
        watch.step("INSERT INTO visits VALUES (1, 'eu', 0)").await;
        watch.db.execute("CREATE TABLE visits_asia PARTITION OF visits FOR VALUES IN ('asia') PARTITION BY RANGE (id)").await;
        watch.db.execute("CREATE TABLE visits_asia_low PARTITION OF visits_asia FOR VALUES FROM (0) TO (100)").await;
        let captured = "SELECT tgrelid::regclass::text FROM pg_trigger WHERE tgrelid = 'visits_asia_low'::regclass";
        testkit::eventually("the partition is captured", async || {
            (watch.db.query_text(captured).await.len() == 4).then_some(())
        })
        .await;
        watch.step("INSERT INTO visits_asia_low VALUES (2, 'asia', 0)").await;
        watch.step("INSERT INTO visits VALUES (3, 'asia', 0)").await;
        assert_eq!(watch.client.frames("refetch"), 0);
    }

    /// PostgreSQL lets no statement with the capture's triggers write a foreign table, so a table beside one is not
    /// captured, and no longer captured once one comes.
    async fn a_table_beside_a_foreign_partition_is_not_captured(db: TestDatabase) {
        db.execute(
            "CREATE FOREIGN DATA WRAPPER nothing; CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing; \
             CREATE TABLE p (id integer, k integer) PARTITION BY LIST (k); \
             CREATE TABLE p1 PARTITION OF p (PRIMARY KEY (id)) FOR VALUES IN (1); \
             CREATE TABLE parent (id integer PRIMARY KEY)",
        )
        .await;
        let mut watch = Watch::start(db, ["p1", "parent"]).await;
        watch.step("INSERT INTO p VALUES (1, 1)").await;
        watch.db.execute("CREATE FOREIGN TABLE p2 PARTITION OF p FOR VALUES IN (2) SERVER nowhere").await;
        watch.db.execute("CREATE FOREIGN TABLE child () INHERITS (parent) SERVER nowhere").await;
        let left = "SELECT tgrelid::regclass::text FROM pg_trigger WHERE tgrelid <> 'fence'::regclass";
        testkit::eventually("the triggers are gone", async || {
            watch.db.query_text(left).await.is_empty().then_some(())
        })
        .await;
        let reason = super::refusals::start_error(&watch.db, "p1".into()).await;
        assert!(reason.contains("p1") && reason.contains("p2") && reason.contains("foreign"), "{reason}");
        watch.db.execute("DROP FOREIGN TABLE p2; INSERT INTO p VALUES (2, 1)").await;
        watch.client.wait_until(|client| client.rows("p1").len() == 2).await;
    }

    /// A new partition is written at once, before the engine can know it.
    async fn a_new_partition_is_captured_from_its_first_write(db: TestDatabase) {
        db.execute(VISITS).await;
        let mut watch = Watch::start(db, ["visits"]).await;
        watch.db.execute(
            "CREATE TABLE visits_africa PARTITION OF visits FOR VALUES IN ('africa'); \
             INSERT INTO visits_africa VALUES (1, 'africa', 1)",
        )
        .await;
        watch.db.execute("INSERT INTO visits_africa VALUES (2, 'africa', 2)").await;
        watch.client.wait_until(|client| client.rows("visits").len() == 2).await;
        watch.settle().await;
        watch.compare().await;
    }

    /// Nothing waits for the transaction that is still writing another partition.
    async fn a_partition_attached_beside_a_long_writer_is_captured(db: TestDatabase) {
        db.execute(VISITS).await;
        db.execute("CREATE TABLE visits_asia (id integer NOT NULL, region text NOT NULL, n integer, PRIMARY KEY (id, region))")
            .await;
        let mut watch = Watch::start(db, ["visits"]).await;
        let writer = watch.db.connect_postgres().await;
        writer.batch_execute("BEGIN; INSERT INTO visits VALUES (1, 'eu', 0)").await.expect("the writer may insert");
        watch.db.execute("ALTER TABLE visits ATTACH PARTITION visits_asia FOR VALUES IN ('asia')").await;
        watch.db.execute("INSERT INTO visits_asia VALUES (2, 'asia', 0)").await;
        watch.client.wait_until(|client| client.rows("visits").contains_key(r#"[2,"asia"]"#)).await;
        watch.settle().await;
        watch.compare().await;
        watch.step("UPDATE visits_asia SET n = 1").await;
        writer.batch_execute("COMMIT").await.expect("the writer may commit");
        watch.settle().await;
        watch.compare().await;
        assert_eq!(watch.rows("visits").len(), 2);
    }

    async fn a_partition_that_is_an_entity_receives_writes_through_its_parent(db: TestDatabase) {
        db.execute(VISITS).await;
        let tables = ["visits", "visits_eu", "visits_us_low"].map(Table::from);
        let mut watch = Watch::start(db, tables).await;
        watch.write("INSERT INTO visits VALUES (1, 'eu', 0), (1, 'us', 0), (100, 'us', 0)").await;
        watch.compare().await;
        assert_eq!(watch.keys("visits_eu"), [r#"[1,"eu"]"#]);
        watch.write("UPDATE visits SET n = n + 1").await;
        watch.compare().await;
        watch.write("UPDATE visits_us SET n = n + 1").await;
        watch.compare().await;
        watch.write("UPDATE visits_us_low SET n = n + 1").await;
        watch.compare().await;
        assert_eq!(watch.row("visits_us_low", r#"[1,"us"]"#)["n"], 3);
        watch.write("UPDATE visits SET region = 'eu', id = 2 WHERE region = 'us' AND id = 1").await;
        watch.compare().await;
        assert!(watch.rows("visits_us_low").is_empty());
        watch.write("TRUNCATE visits").await;
        watch.compare().await;
    }

    /// Foreign keys to and from partitioned tables.
    async fn cascades_into_partitions_are_captured(db: TestDatabase) {
        db.execute("CREATE TABLE users (id integer PRIMARY KEY)").await;
        db.execute(
            "CREATE TABLE posts (id integer, user_id integer REFERENCES users (id) ON DELETE CASCADE ON UPDATE CASCADE, \
             PRIMARY KEY (id)) PARTITION BY HASH (id); \
             CREATE TABLE posts_0 PARTITION OF posts FOR VALUES WITH (MODULUS 2, REMAINDER 0); \
             CREATE TABLE posts_1 PARTITION OF posts FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
        )
        .await;
        let mut watch = Watch::start(db, ["users", "posts"]).await;
        watch.step("INSERT INTO users SELECT generate_series(1, 10)").await;
        watch.step("INSERT INTO posts SELECT i, 1 + i % 10 FROM generate_series(1, 100) i").await;
        watch.step("UPDATE users SET id = 20 WHERE id = 3").await;
        assert_eq!(watch.rows("posts").values().filter(|post| post["user_id"] == 20).count(), 10);
        watch.step("DELETE FROM users WHERE id < 8").await;
        assert_eq!(watch.rows("posts").len(), 40);
    }
}
