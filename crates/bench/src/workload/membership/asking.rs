//! What a policy shows to many users, asked in one call, beside asking for each of them whether it shows one changed row.

use std::time::Instant;

use anyhow::Result;
use tokio_postgres::Client;

use super::MEMBERS;
use super::teams::ROLE;
use crate::report::{Bar, Figure};
use crate::server::Engine;
use crate::stage::{self, Database, Stage};
use crate::workload::ITEMS;

/// How many users are asked for.
const USERS: [usize; 2] = [500, 10_000];
const LISTS: usize = 1_000;
const LISTS_EACH: usize = 5;
/// The most groups that the server asks about in one statement.
const GROUPS_MAX: usize = 250;
/// A call is repeated until it has been asked for so many users.
const ASKED_MIN: usize = 10_000;
const MICROSECONDS_MAX: f64 = 40.0;

/// The lists of the user, as the server asks for them.
const QUESTION: &str = "SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_array(\
     CASE WHEN k.k0 IS NOT NULL THEN pg_catalog.concat(k.k0) END)), '[]'::pg_catalog.json)::pg_catalog.text \
     FROM (SELECT * FROM (SELECT DISTINCT m.list_id AS k0 FROM public.list_members m \
     WHERE m.user_id = public.bench_user() AND m.list_id IS NOT NULL) q LIMIT 1000001) k";

pub(super) async fn run(stage: &Stage) -> Result<Vec<Figure>> {
    let database = database(stage).await?;
    // It installs the function that asks.
    Engine::start(&database.url, &[ITEMS]).await.stop().await;
    let client = database.connect().await?;
    let mut figures = Vec::new();
    for users in USERS {
        let (mut together, mut each) = (Vec::new(), Vec::new());
        for _ in 0..stage.rounds {
            together.push(time(&client, &ask_together(users), users).await?);
            each.push(time(&client, &ask_each(users), users).await?);
        }
        figures.push(
            Figure::new(
                format!("policies: asking for {users} users in one call"),
                "µs",
                together,
            )
            .beside("each, about one row", each)
            .bar(Bar::AtMost(MICROSECONDS_MAX))
            .note("for each user, whose set then answers for every row"),
        );
    }
    Ok(figures)
}

async fn database(stage: &Stage) -> Result<Database> {
    let users = USERS.into_iter().max().unwrap_or_default();
    stage
        .database(&format!(
            "{};{};
             DO $$ BEGIN CREATE ROLE {ROLE} NOLOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
             CREATE TABLE {MEMBERS} (
                 list_id integer NOT NULL, user_id text NOT NULL, PRIMARY KEY (list_id, user_id)
             );
             CREATE INDEX ON {MEMBERS} (user_id);
             INSERT INTO {MEMBERS} SELECT (u * 7 + n * 13) % {LISTS}, u::text
                 FROM generate_series(1, {users}) u, generate_series(1, {LISTS_EACH}) n;
             CREATE FUNCTION bench_user() RETURNS text LANGUAGE sql STABLE AS
                 $$ SELECT current_setting('request.jwt.claims', true)::json ->> 'sub' $$;
             ALTER TABLE {MEMBERS} ENABLE ROW LEVEL SECURITY;
             ALTER TABLE items ENABLE ROW LEVEL SECURITY;
             CREATE POLICY own ON {MEMBERS} USING (user_id = bench_user());
             CREATE POLICY of_lists ON items USING (EXISTS (
                 SELECT 1 FROM {MEMBERS} m WHERE m.list_id = items.list_id AND m.user_id = bench_user()));
             GRANT SELECT ON items, {MEMBERS} TO {ROLE};
             ANALYZE",
            stage::ITEMS,
            stage::fill(1_000)
        ))
        .await
}

/// The statement by which the server asks, for users 1 and up.
fn ask_together(users: usize) -> String {
    let chunks = users.div_ceil(GROUPS_MAX);
    let question = QUESTION.replace('\'', "''");
    format!(
        "SELECT sum(length(_rhtmx_sync_ask_many('{ROLE}', ARRAY['row_security', 'search_path'], ARRAY['on', 'public'], \
         {GROUPS_MAX}, ARRAY['request.jwt.claims'], \
         (SELECT array_agg(json_build_object('sub', (chunk * {GROUPS_MAX} + n)::text)::text) \
             FROM generate_series(1, {GROUPS_MAX}) n), \
         ARRAY['{question}'])))::text FROM generate_series(0, {chunks} - 1) chunk"
    )
}

/// Asks as each user whether a row is visible.
fn ask_each(users: usize) -> String {
    format!(
        "DO $do$ DECLARE found boolean; BEGIN FOR u IN 1 .. {users} LOOP \
         SET LOCAL ROLE {ROLE}; \
         PERFORM set_config('request.jwt.claims', json_build_object('sub', u::text)::text, true); \
         EXECUTE 'SELECT EXISTS (SELECT 1 FROM items WHERE id = 1)' INTO found; \
         RESET ROLE; END LOOP; END $do$"
    )
}

/// Microseconds for each user.
async fn time(client: &Client, sql: &str, users: usize) -> Result<f64> {
    let repeats = ASKED_MIN.div_ceil(users);
    // The first one plans.
    client.batch_execute(sql).await?;
    let began = Instant::now();
    for _ in 0..repeats {
        client.batch_execute(sql).await?;
    }
    Ok(began.elapsed().as_secs_f64() * 1e6 / (repeats * users) as f64)
}
