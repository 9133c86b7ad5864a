//! Partitioned tables, written at the top and at the bottom.

use serde_json::json;

use super::watch::{Table, Watch};
use super::*;

const EVENTS: &str = "\
CREATE TABLE events (id integer NOT NULL, region text NOT NULL, n integer, PRIMARY KEY (id, region)) \
  PARTITION BY LIST (region); \
CREATE TABLE events_eu PARTITION OF events FOR VALUES IN ('eu'); \
CREATE TABLE events_us PARTITION OF events FOR VALUES IN ('us') PARTITION BY RANGE (id); \
CREATE TABLE events_us_low PARTITION OF events_us FOR VALUES FROM (0) TO (100); \
CREATE TABLE events_us_high PARTITION OF events_us FOR VALUES FROM (100) TO (1000)";

on_postgres! {
    /// Every statement through the parent, into a partition, and into a partition that is
    /// partitioned itself.
    async fn written_everywhere(db: TestDatabase) {
        db.execute(EVENTS).await;
        let mut watch = Watch::start(db, ["events"]).await;
        watch.step("INSERT INTO events VALUES (1, 'eu', 0), (1, 'us', 0), (100, 'us', 0)").await;
        watch.step("INSERT INTO events_eu VALUES (2, 'eu', 0)").await;
        watch.step("INSERT INTO events_us VALUES (2, 'us', 0), (102, 'us', 0)").await;
        watch.step("INSERT INTO events_us_high VALUES (103, 'us', 0)").await;
        assert_eq!(watch.rows("events").len(), 7);

        for table in ["events", "events_eu", "events_us", "events_us_low"] {
            watch.step(&format!("UPDATE {table} SET n = n + 1")).await;
        }
        assert_eq!(watch.row("events", r#"[2,"us"]"#)["n"], 3);
        let upsert = "ON CONFLICT (id, region) DO UPDATE SET n = 50";
        watch.step(&format!("INSERT INTO events VALUES (1, 'eu', 0), (9, 'eu', 0) {upsert}")).await;
        watch.step(&format!("INSERT INTO events_us_low VALUES (1, 'us', 0), (9, 'us', 0) {upsert}")).await;
        watch.step("DELETE FROM events WHERE id = 9").await;
        watch.step("DELETE FROM events_us WHERE id > 100").await;
        watch.step("DELETE FROM events_us_low WHERE id = 1").await;
        let copy = "COPY events_eu FROM PROGRAM 'printf \"20\\teu\\t0\\n\"'";
        watch.step(copy).await;
        assert_eq!(watch.row("events", r#"[20,"eu"]"#)["n"], 0);
    }

    /// A row that moves to another partition, with its key and without.
    async fn rows_that_move(db: TestDatabase) {
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

    /// Partitions that are truncated, attached and detached while a client is there.
    async fn partitions_come_and_go(db: TestDatabase) {
        db.execute(EVENTS).await;
        let mut watch = Watch::start(db, ["events"]).await;
        let fill = "INSERT INTO events SELECT i, r, 0 FROM generate_series(1, 200) i, (VALUES ('eu'), ('us')) v(r)";
        watch.step(fill).await;
        watch.step("TRUNCATE events_eu").await;
        assert_eq!(watch.rows("events").len(), 200);
        watch.step("TRUNCATE events_us_low").await;
        assert_eq!(watch.rows("events").len(), 101);
        watch.step("INSERT INTO events VALUES (7, 'eu', 1)").await;
        watch.step("TRUNCATE events").await;
        assert!(watch.rows("events").is_empty());
        watch.step(fill).await;

        // One with rows in it is attached; then it is written.
        watch.db.execute("CREATE TABLE events_asia (id integer NOT NULL, n integer, region text NOT NULL)").await;
        watch.db.execute("INSERT INTO events_asia VALUES (5, 50, 'asia'), (6, 60, 'asia')").await;
        watch.db.execute("ALTER TABLE events ATTACH PARTITION events_asia FOR VALUES IN ('asia')").await;
        watch.client.wait_until(|client| client.row("events", r#"[6,"asia"]"#).is_some()).await;
        watch.settle().await;
        watch.compare().await;
        watch.step("INSERT INTO events_asia (id, region, n) VALUES (8, 'asia', 80)").await;
        watch.step("UPDATE events_asia SET n = n + 1").await;
        watch.step("INSERT INTO events VALUES (9, 'asia', 90)").await;
        assert_eq!(watch.row("events", r#"[8,"asia"]"#), &json!({ "id": 8, "region": "asia", "n": 81 }));

        watch.db.execute("ALTER TABLE events DETACH PARTITION events_asia").await;
        watch.client.wait_until(|client| client.row("events", r#"[6,"asia"]"#).is_none()).await;
        watch.settle().await;
        watch.compare().await;
        // It is a table of its own again; nobody watches it, and its writes harm nobody.
        watch.write("UPDATE events_asia SET n = 0; DELETE FROM events_asia WHERE id = 5").await;
        watch.compare().await;

        watch.db.execute("DROP TABLE events_eu").await;
        watch.client.wait_until(|client| client.rows("events").len() == 200).await;
        watch.settle().await;
        watch.compare().await;
    }

    /// A new partition that is written at once, before the engine can know of it.
    async fn a_partition_written_at_once(db: TestDatabase) {
        db.execute(EVENTS).await;
        let mut watch = Watch::start(db, ["events"]).await;
        watch.db.execute(
            "CREATE TABLE events_africa PARTITION OF events FOR VALUES IN ('africa'); \
             INSERT INTO events_africa VALUES (1, 'africa', 1)",
        )
        .await;
        watch.db.execute("INSERT INTO events_africa VALUES (2, 'africa', 2)").await;
        watch.client.wait_until(|client| client.rows("events").len() == 2).await;
        watch.settle().await;
        watch.compare().await;
    }

    /// A partition that is an entity itself hears of what is written through its parent.
    async fn a_partition_as_an_entity(db: TestDatabase) {
        db.execute(EVENTS).await;
        let tables = ["events", "events_eu", "events_us_low"].map(Table::from);
        let mut watch = Watch::start(db, tables).await;
        watch.write("INSERT INTO events VALUES (1, 'eu', 0), (1, 'us', 0), (100, 'us', 0)").await;
        watch.compare().await;
        assert_eq!(watch.keys("events_eu"), [r#"[1,"eu"]"#]);
        watch.write("UPDATE events SET n = n + 1").await;
        watch.compare().await;
        watch.write("UPDATE events_us SET n = n + 1").await;
        watch.compare().await;
        watch.write("UPDATE events_us_low SET n = n + 1").await;
        watch.compare().await;
        assert_eq!(watch.row("events_us_low", r#"[1,"us"]"#)["n"], 3);
        watch.write("UPDATE events SET region = 'eu', id = 2 WHERE region = 'us' AND id = 1").await;
        watch.compare().await;
        assert!(watch.rows("events_us_low").is_empty());
        watch.write("TRUNCATE events").await;
        watch.compare().await;
    }

    /// Foreign keys to and from partitioned tables.
    async fn cascades_into_partitions(db: TestDatabase) {
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
