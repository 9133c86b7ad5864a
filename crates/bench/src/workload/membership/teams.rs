//! A thousand users, each a member of ten of a thousand lists, and what a change of a row costs the server.

use std::ops::Range;

use anyhow::Result;
use serde_json::{Value, json};

use super::MEMBERS;
use crate::load::{Group, Speaks, Subscribe, User};
use crate::report::{Bar, Figure};
use crate::server::Engine;
use crate::stage::{self, Database, PATIENCE, Stage};
use crate::users::{GuardedEngine, token};
use crate::workload::{ITEMS, cost_of_a_change};

const USERS: usize = 1_000;
const LISTS: usize = 1_000;
/// So each list has ten members, too.
const LISTS_EACH: usize = 10;
pub(super) const ROWS_A_LIST: usize = 100;
/// Further lists, of [`ROWS_A_LIST`] rows. Every second user is a member of one.
const SPARE_LISTS: usize = 100;

const POLICIES: &str = "[entities.items]
read = \"list_id IN (SELECT list_id FROM list_members WHERE user_id = auth.sub)\"
[entities.list_members]
read = \"user_id = auth.sub\"
";

/// The role of the users where the database's own policies decide.
pub(super) const ROLE: &str = "rhtmx_sync_bench_reader";

const ROW_LEVEL: &str = "[entities.items]
rls = true
[entities.list_members]
rls = true
";

/// The users, connected, and their database.
pub(super) struct Teams {
    pub(super) database: Database,
    pub(super) guarded: GuardedEngine,
    pub(super) group: Group,
    pub(super) users: usize,
    pub(super) lists: usize,
    /// What tokens say beside the user.
    claims: Value,
}

impl Teams {
    pub(super) async fn start(stage: &Stage) -> Result<Self> {
        Self::start_with(stage, "SELECT 1", POLICIES, json!({})).await
    }

    /// The same, where the policies are the database's own.
    pub(super) async fn start_row_level(stage: &Stage) -> Result<Self> {
        let policies = format!(
            "DO $$ BEGIN CREATE ROLE {ROLE} NOLOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
             CREATE FUNCTION bench_user() RETURNS text LANGUAGE sql STABLE AS
                 $$ SELECT current_setting('request.jwt.claims', true)::json ->> 'sub' $$;
             ALTER TABLE {MEMBERS} ENABLE ROW LEVEL SECURITY;
             ALTER TABLE items ENABLE ROW LEVEL SECURITY;
             CREATE POLICY own ON {MEMBERS} USING (user_id = bench_user());
             CREATE POLICY of_lists ON items USING (EXISTS (
                 SELECT 1 FROM {MEMBERS} m WHERE m.list_id = items.list_id AND m.user_id = bench_user()));
             GRANT SELECT ON items, {MEMBERS} TO {ROLE}"
        );
        Self::start_with(stage, &policies, ROW_LEVEL, json!({ "role": ROLE })).await
    }

    async fn start_with(
        stage: &Stage,
        statements: &str,
        entities: &str,
        claims: Value,
    ) -> Result<Self> {
        let (users, lists) = (stage.size(USERS), stage.size(LISTS));
        let database = database(stage, users, lists).await?;
        database.execute(statements).await?;
        let guarded = GuardedEngine::start(&database.url, entities).await?;
        let group = connect(stage, &guarded, &claims, 0..users)?;
        group.live(PATIENCE).await?;
        Ok(Self {
            database,
            guarded,
            group,
            users,
            lists,
            claims,
        })
    }

    /// These users, each connected and subscribed to all rows that they may see.
    pub(super) fn connect(&self, stage: &Stage, users: Range<usize>) -> Result<Group> {
        connect(stage, &self.guarded, &self.claims, users)
    }

    /// A user's token.
    pub(super) fn token(&self, user: usize) -> Result<String> {
        token(user, self.claims.clone())
    }

    /// How many users see a row.
    fn audience(&self) -> usize {
        self.users * LISTS_EACH / self.lists
    }

    /// What a change of a row costs the server, in microseconds of its processor.
    pub(super) async fn cost_of_a_change(&self, stage: &Stage) -> Result<f64> {
        let receivers = (&self.group, self.guarded.engine.process());
        let audience = self.audience() as u64;
        cost_of_a_change(stage, &self.database, receivers, self.lists, audience).await
    }

    /// A user's spare list.
    pub(super) fn spare_list(&self, user: usize) -> i32 {
        i32::try_from(self.lists + user % SPARE_LISTS).unwrap_or(i32::MAX)
    }

    /// The number of a list behind the spare ones, of which nobody is a member.
    pub(super) fn extra_list(&self, number: usize) -> i32 {
        i32::try_from(self.lists + SPARE_LISTS + number).unwrap_or(i32::MAX)
    }
}

fn connect(
    stage: &Stage,
    guarded: &GuardedEngine,
    claims: &Value,
    users: Range<usize>,
) -> Result<Group> {
    let tokens = users.clone().map(|user| token(user, claims.clone()));
    let tokens = tokens.collect::<Result<Vec<_>>>()?;
    let address = guarded.engine.address();
    let group = stage.receivers.group(&address, users.len(), |user| User {
        token: Some(tokens[user].clone()),
        speaks: Speaks::Protocol(Subscribe::all(ITEMS)),
    });
    Ok(group)
}

/// The lists of a user, all different.
fn lists_of(user: usize, lists: usize) -> impl Iterator<Item = usize> {
    let apart = lists / LISTS_EACH + 1;
    (0..LISTS_EACH).map(move |number| (user + number * apart) % lists)
}

/// The tables, with the memberships of the users and with all rows.
async fn database(stage: &Stage, users: usize, lists: usize) -> Result<Database> {
    let database = stage.database(stage::ITEMS).await?;
    let all_lists = lists + SPARE_LISTS;
    let apart = lists / LISTS_EACH + 1;
    let tables = format!(
        "CREATE INDEX items_by_list ON items (list_id);
         CREATE TABLE {MEMBERS} (
             list_id integer NOT NULL, user_id text NOT NULL, PRIMARY KEY (list_id, user_id)
         );
         CREATE INDEX members_by_user ON {MEMBERS} (user_id);
         INSERT INTO {MEMBERS} SELECT (u + n * {apart}) % {lists}, u::text
             FROM generate_series(0, {users} - 1) u, generate_series(0, {LISTS_EACH} - 1) n;
         INSERT INTO {MEMBERS} SELECT {lists} + u % {SPARE_LISTS}, u::text
             FROM generate_series(0, {users} - 1, 2) u;"
    );
    database.execute(&tables).await?;
    let rows = rows_of_lists(0, all_lists, ROWS_A_LIST);
    database.execute(&rows).await?;
    database.execute("VACUUM ANALYZE").await?;
    Ok(database)
}

/// SQL that inserts this many rows into each of some lists.
pub(super) fn rows_of_lists(first: usize, lists: usize, rows: usize) -> String {
    format!(
        "INSERT INTO items (list_id, body) \
         SELECT {first} + n % {lists}, '|' || lpad('', 16, '0') || rpad('', 83, '.') \
         FROM generate_series(0, {lists} * {rows} - 1) n"
    )
}

/// What a change costs, beside subscriptions that name the same lists.
pub(super) async fn cost(stage: &Stage, teams: &Teams) -> Result<Vec<Figure>> {
    let each_list = Named::start(stage, teams, |lists| {
        let one = |list| Subscribe {
            lists: vec![list],
            ..Subscribe::all(ITEMS)
        };
        Speaks::Several(lists.into_iter().map(one).collect())
    })
    .await?;
    let own_filter = Named::start(stage, teams, |lists| {
        Speaks::Protocol(Subscribe {
            lists,
            ..Subscribe::all(ITEMS)
        })
    })
    .await?;
    let audience = teams.audience();
    let (mut of_members, mut of_lists, mut of_filters) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..stage.rounds {
        let cost = async |database, group, engine: &Engine| {
            let receivers = (group, engine.process());
            cost_of_a_change(stage, database, receivers, teams.lists, audience as u64).await
        };
        of_members.push(teams.cost_of_a_change(stage).await?);
        of_lists.push(cost(&each_list.database, &each_list.group, &each_list.engine).await?);
        of_filters.push(cost(&own_filter.database, &own_filter.group, &own_filter.engine).await?);
    }
    let name = "a change of a row, 1,000 users in 10 lists each";
    Ok(vec![
        Figure::new(name, "µs", of_members.clone())
            .beside("10 x list_id = $1", of_lists)
            .bar(Bar::RatioAtMost(1.5))
            .note("of the server's processor; ten sessions receive it"),
        Figure::new(name, "µs", of_members).beside("list_id IN ($1, …)", of_filters),
    ])
}

/// The same audience by subscriptions that name the lists.
struct Named {
    database: Database,
    group: Group,
    engine: Engine,
}

impl Named {
    async fn start(
        stage: &Stage,
        teams: &Teams,
        speaks: impl Fn(Vec<i64>) -> Speaks,
    ) -> Result<Self> {
        let database = database(stage, teams.users, teams.lists).await?;
        let engine = Engine::start(&database.url, &[ITEMS]).await;
        let group = stage
            .receivers
            .group(&engine.address(), teams.users, |user| {
                speaks(
                    lists_of(user, teams.lists)
                        .map(|list| list as i64)
                        .collect(),
                )
            });
        group.live(PATIENCE).await?;
        Ok(Self {
            database,
            group,
            engine,
        })
    }
}
