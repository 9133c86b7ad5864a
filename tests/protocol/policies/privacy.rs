//! Random users with random policies write and move rows among each other, change their claims, join and leave squads,
//! come and go, over two servers. What each client has is compared with what the database says that they may read, and so is each row, column
//! and key in each frame; and each answer to a write with what the database says that they may write.
//!
//! The policies' meaning comes from the database itself, in which a user's claims are written as literals.

use std::sync::Arc;

use rhtmx_sync::{ColumnPolicy, EntityConfig, EntityPolicy, Policies, UpdatePolicy};
use rhtmx_sync_tests::{Dice, TestServer};
use serde_json::{Value, json};
use testkit::{Phase, Subscription, SyncClient, TestDatabase, both_backends};

use crate::claims::{ClaimsAreTokens, options, token};

const USERS: [&str; 4] = ["ann", "ben", "cleo", "dan"];
const TEAMS: [&str; 3] = ["red", "blue", "green"];
/// How often everything is compared, and what happens in between.
const ROUNDS: u64 = 14;
const STEPS: u64 = 9;

/// Policies to choose from; those of a random world are two of them, joined.
const RULES: [&str; 16] = [
    "owner = auth.sub",
    "team IN auth.teams",
    "shown",
    "NOT shown",
    "level <= auth.level",
    "level BETWEEN 1 AND 2",
    "auth.role = 'admin'",
    "team = auth.profile.team",
    "owner <> auth.sub",
    "team IS NULL",
    "owner IN ('ann', auth.friend)",
    // Who is in which squad stands in a table that is never served. A column policy has no subqueries.
    "team IN (SELECT squad FROM squads WHERE member = auth.sub)",
    "team NOT IN (SELECT squad FROM squads WHERE member = auth.sub)",
    "EXISTS (SELECT 1 FROM squads WHERE squad = team AND member = auth.sub AND rank >= 2)",
    "NOT EXISTS (SELECT 1 FROM squads WHERE squad = team AND rank > 2)",
    "owner IN (SELECT member FROM squads WHERE squad IN (SELECT squad FROM squads WHERE member = auth.sub))",
];
/// As many of them are of the row and the claims alone.
const PLAIN_RULES: u64 = 11;

/// The policies of one run, as the server reads them.
struct World {
    read: String,
    create: String,
    using: String,
    check: String,
    delete: String,
    /// Where `secret` may be read.
    secret: String,
}

impl World {
    fn roll(dice: &mut Dice) -> Self {
        let mut rule = |count: u64| {
            let any = |dice: &mut Dice| RULES[dice.pick(0..count) as usize];
            let (one, other) = (any(dice), any(dice));
            match dice.pick(0..5) {
                0 => one.to_owned(),
                1 => format!("{one} AND NOT ({other})"),
                _ => format!("({one} OR {other})"),
            }
        };
        let all = RULES.len() as u64;
        Self {
            // Whatever else, most see something.
            read: format!("owner = auth.sub OR ({})", rule(all)),
            create: rule(all),
            using: rule(all),
            check: rule(all),
            delete: rule(all),
            secret: rule(PLAIN_RULES),
        }
    }

    fn policies(&self) -> Policies {
        let secret = ColumnPolicy {
            readable: Some(self.secret.as_str().into()),
            ..ColumnPolicy::default()
        };
        let items = EntityPolicy {
            read: Some(self.read.clone()),
            create: Some(self.create.clone()),
            update: Some(UpdatePolicy {
                using: self.using.clone(),
                check: Some(self.check.clone()),
            }),
            delete: Some(self.delete.clone()),
            columns: [("secret".to_owned(), secret)].into(),
        };
        let marks = EntityPolicy {
            read: Some("TRUE".to_owned()),
            ..EntityPolicy::default()
        };
        let entities = [("items".to_owned(), items), ("marks".to_owned(), marks)];
        Policies::new(entities).expect("policies")
    }
}

/// A policy as the database's own SQL, with a user's claims in place.
fn sql(policy: &str, claims: &Value) -> String {
    let text = |claim: &Value| match claim {
        Value::String(text) => format!("'{text}'"),
        Value::Number(number) => number.to_string(),
        _ => "NULL".to_owned(),
    };
    let teams = match claims["teams"].as_array().map(Vec::as_slice) {
        Some([]) => "(SELECT 'x' WHERE 1 = 0)".to_owned(),
        Some(teams) => {
            let teams: Vec<String> = teams.iter().map(text).collect();
            format!("({})", teams.join(", "))
        }
        None => "(NULL)".to_owned(),
    };
    let replaced = policy
        .replace("auth.teams", &teams)
        .replace("auth.profile.team", &text(&claims["profile"]["team"]));
    ["sub", "role", "level", "friend"]
        .iter()
        .fold(replaced, |sql, name| {
            sql.replace(&format!("auth.{name}"), &text(&claims[*name]))
        })
        // PostgreSQL knows no `NULL = 'admin'` without a type; SQLite needs none.
        .replace("NULL = 'admin'", "CAST(NULL AS text) = 'admin'")
}

/// The same over all moments that there ever were.
fn ever(sql: &str) -> String {
    let squads = "FROM squad_history AS squads WHERE squads.moment = history.moment AND ";
    sql.replace("FROM squads WHERE ", squads)
}

fn roll_claims(dice: &mut Dice, user: &str) -> Value {
    let mut claims = json!({ "sub": user });
    let team = |dice: &mut Dice| TEAMS[dice.pick(0..3) as usize];
    if dice.chance(70) {
        let count = dice.pick(0..3);
        let teams: Vec<&str> = (0..count).map(|_| team(dice)).collect();
        claims["teams"] = json!(teams);
    }
    if dice.chance(50) {
        claims["level"] = json!(dice.pick(0..4));
    }
    if dice.chance(25) {
        claims["role"] = json!("admin");
    }
    if dice.chance(40) {
        claims["profile"] = json!({ "team": team(dice) });
    }
    if dice.chance(40) {
        claims["friend"] = json!(USERS[dice.pick(0..4) as usize]);
    }
    claims
}

/// A user with a connection, and everything that it has received, with the claims that counted then.
struct Member {
    user: &'static str,
    client_id: Value,
    claims: Value,
    /// Claims of `auth` frames that have not been answered.
    renewed: Vec<Value>,
    client: SyncClient,
    received: Vec<(Value, Value)>,
}

impl Member {
    async fn join(server: &TestServer, user: &'static str, claims: Value, dice: &mut Dice) -> Self {
        let options = options(&claims);
        let client_id = json!(options.client_id);
        let mut client = SyncClient::connect(&server.ws_url(), options).await;
        client.subscribe("m", "marks").await;
        client.subscribe("i", "items").await;
        if dice.chance(50) {
            let part = json!({ "entity": "items", "where": "secret <> 's1' OR level > 1", "columns": ["secret", "body"] });
            client.subscribe_with("p", part).await;
        }
        if dice.chance(50) {
            let told = json!({ "entity": "items", "where": "owner IN (SELECT owner FROM items WHERE secret = 's1')" });
            client.subscribe_with("q", told).await;
        }
        Self {
            user,
            client_id,
            claims,
            renewed: Vec::new(),
            client,
            received: Vec::new(),
        }
    }

    /// Takes one frame.
    async fn take(&mut self) {
        let frame = self.client.next_frame().await;
        if frame["type"] == "authenticated" {
            self.claims = self.renewed.remove(0);
        }
        self.received.push((self.claims.clone(), frame));
    }

    async fn renew(&mut self, claims: Value) {
        let token = token(&claims);
        self.renewed.push(claims);
        self.client
            .send_json(json!({ "type": "auth", "token": token }))
            .await;
    }

    async fn write(&mut self, write: &Value) -> String {
        let number = self.client.next_mutation();
        self.client.send_push(number, json!([write])).await;
        while self.client.outcome(number).is_none() || !self.renewed.is_empty() {
            self.take().await;
        }
        match self.client.outcome(number).expect("an answer") {
            testkit::PushOutcome::Acked { .. } => "ack".to_owned(),
            testkit::PushOutcome::Rejected(rejection) => rejection.code.clone(),
        }
    }

    async fn see_mark(&mut self, mark: u64) {
        // One that names a column that does not exist for its user is refused.
        let has_joined = |client: &SyncClient| {
            let mut all = client.subscriptions().values();
            all.all(|one| one.is_live() || is_refused(one))
        };
        while self.client.row("m", &mark.to_string()).is_none()
            || !has_joined(&self.client)
            || !self.renewed.is_empty()
        {
            self.take().await;
        }
    }
}

fn is_refused(subscription: &Subscription) -> bool {
    matches!(subscription.phase(), Phase::Refused(code) if code == "bad_filter")
}

/// The database as the judge.
struct Judge<'a> {
    db: &'a TestDatabase,
    world: &'a World,
}

impl Judge<'_> {
    async fn set(&self, query: &str) -> Vec<String> {
        let mut found: Vec<String> = self
            .db
            .query_text(query)
            .await
            .into_iter()
            .flatten()
            .collect();
        found.sort();
        found
    }

    /// Keeps every row and every membership as they are now.
    async fn remember(&self, moment: u64) {
        for (history, table) in [("history", "items"), ("squad_history", "squads")] {
            let keep = format!("INSERT INTO {history} SELECT {moment}, {table}.* FROM {table}");
            self.db.execute(&keep).await;
        }
    }

    async fn holds(&self, condition: &str, from: &str) -> Option<bool> {
        let query = format!("SELECT CASE WHEN {condition} THEN 'yes' ELSE 'no' END FROM {from}");
        self.db
            .query_text(&query)
            .await
            .first()
            .map(|answer| answer.as_deref() == Some("yes"))
    }

    /// What a member must have, and what it may ever have received.
    async fn judge(&self, member: &mut Member) {
        let World { read, secret, .. } = self.world;
        let (claims, client) = (&member.claims, &member.client);
        let (read, secret) = (sql(read, claims), sql(secret, claims));
        let expected = self
            .set(&format!("SELECT id || ' ' || body FROM items WHERE {read}"))
            .await;
        let mut had: Vec<String> = client
            .rows("i")
            .iter()
            .map(|(key, row)| format!("{key} {}", row["body"].as_str().expect("a body")))
            .collect();
        had.sort();
        assert_eq!(had, expected, "{} {claims}", member.user);
        let expected = self.set(&format!("SELECT id || ' ' || secret FROM items WHERE ({read}) AND ({secret}) AND secret IS NOT NULL")).await;
        let mut had: Vec<String> = client
            .rows("i")
            .iter()
            .filter_map(|(key, row)| Some(format!("{key} {}", row["secret"].as_str()?)))
            .collect();
        had.sort();
        assert_eq!(had, expected, "secrets of {} {claims}", member.user);
        let seen_secret =
            format!("(SELECT owner FROM items WHERE ({read}) AND ({secret}) AND secret = 's1')");
        let parts = [
            ("p", format!("secret <> 's1' AND ({secret}) OR level > 1")),
            ("q", format!("owner IN {seen_secret}")),
        ];
        for (id, condition) in parts {
            let part = client.subscriptions().get(&id.into());
            if part.is_none_or(is_refused) {
                continue;
            }
            let part =
                format!("SELECT CAST(id AS text) FROM items WHERE ({read}) AND ({condition})");
            let mut had: Vec<String> = client.rows(id).keys().cloned().collect();
            had.sort();
            let about = format!("{id} of {} {claims}", member.user);
            assert_eq!(had, self.set(&part).await, "{about}");
        }
        let frames = std::mem::take(&mut member.received);
        let mut of_claims: Vec<(Value, Vec<Value>)> = Vec::new();
        for (claims, frame) in frames {
            match of_claims.last_mut().filter(|(last, _)| *last == claims) {
                Some((_, frames)) => frames.push(frame),
                None => of_claims.push((claims, vec![frame])),
            }
        }
        for (claims, frames) in of_claims {
            let (read, secret) = (
                ever(&sql(&self.world.read, &claims)),
                sql(&self.world.secret, &claims),
            );
            let readable = self
                .set(&format!(
                    "SELECT id || ' ' || body FROM history WHERE {read}"
                ))
                .await;
            let secrets = self
                .set(&format!(
                    "SELECT id || ' ' || body FROM history WHERE ({read}) AND ({secret})"
                ))
                .await;
            let keys = self
                .set(&format!(
                    "SELECT DISTINCT CAST(id AS text) FROM history WHERE {read}"
                ))
                .await;
            for frame in frames {
                self.judge_words(member, &frame);
                for item in frame["rows"]
                    .as_array()
                    .into_iter()
                    .chain(frame["changes"].as_array())
                    .flatten()
                {
                    let (Some(key), row) = (item["key"].as_str(), &item["row"]) else {
                        continue;
                    };
                    match row
                        .get("body")
                        .and_then(Value::as_str)
                        .filter(|body| body.starts_with('v'))
                    {
                        Some(body) => {
                            let version = format!("{key} {body}");
                            assert!(
                                readable.contains(&version),
                                "{} {claims} received {frame}",
                                member.user
                            );
                            assert_eq!(
                                secrets.contains(&version),
                                row.get("secret").is_some(),
                                "{} {claims} received {frame}",
                                member.user
                            );
                        }
                        None if row.get("mark").is_some() => {}
                        None => {
                            assert!(
                                keys.contains(&key.to_owned()),
                                "{} {claims} was told of {frame}",
                                member.user
                            );
                            assert!(row.is_null(), "values of a row that is gone: {frame}");
                        }
                    }
                    let author = (&item["client_id"], &item["mutation"]);
                    assert!(
                        author == (&Value::Null, &Value::Null) || *author.0 == member.client_id,
                        "{} was told whose mutation it was: {frame}",
                        member.user
                    );
                }
            }
        }
    }

    /// Answers and errors repeat no value, neither of a row nor of what was written.
    fn judge_words(&self, member: &Member, frame: &Value) {
        let (Some("reject" | "error"), Some(message)) =
            (frame["type"].as_str(), frame["message"].as_str())
        else {
            return;
        };
        let is_value = |word: &str| {
            let digits = word.trim_start_matches(['v', 's']).trim_end_matches('n');
            digits.len() < word.len() && digits.parse::<u64>().is_ok()
        };
        let mut words = message.split(|c: char| !c.is_alphanumeric());
        assert!(
            !words.any(|word| is_value(word) || USERS.contains(&word) || TEAMS.contains(&word)),
            "{} was told {frame}",
            member.user
        );
    }

    /// The answer that a write must get.
    async fn verdict(&self, claims: &Value, op: &str, id: u64, values: &Value) -> &'static str {
        let World {
            read,
            create,
            using,
            check,
            delete,
            ..
        } = self.world;
        let holds =
            async |policy: &str, from: String| self.holds(&sql(policy, claims), &from).await;
        let row = format!("(SELECT * FROM items WHERE id = {id}) t");
        let merged = |of: &str| {
            let column = |name: &str| match &values[name] {
                Value::Null if of.is_empty() => format!(
                    "CAST(NULL AS {}) AS {name}",
                    if name == "level" { "integer" } else { "text" }
                ),
                Value::Null => name.to_owned(),
                Value::String(text) => format!("'{text}' AS {name}"),
                other => format!("{other} AS {name}"),
            };
            let columns =
                ["owner", "team", "level", "shown"].map(|name| match (name, &values[name], of) {
                    ("shown", Value::Null, "") => "false AS shown".to_owned(),
                    _ => column(name),
                });
            let from = if of.is_empty() {
                String::new()
            } else {
                format!(" FROM {of}")
            };
            format!("(SELECT {}{from}) t", columns.join(", "))
        };
        let visible = holds(read, row.clone()).await;
        match (op, visible) {
            ("update" | "delete", None | Some(false)) => "not_found",
            ("update", Some(true)) => match holds(using, row.clone()).await == Some(true)
                && holds(check, merged(&row)).await == Some(true)
            {
                true => "ack",
                false => "forbidden",
            },
            ("delete", Some(true)) => match holds(delete, row).await == Some(true) {
                true => "ack",
                false => "forbidden",
            },
            ("create", None) => match holds(create, merged("")).await == Some(true) {
                true => "ack",
                false => "forbidden",
            },
            // What the database would fill in is not known then.
            ("create", Some(visible)) => {
                let null = "CAST(NULL AS boolean) AS shown";
                let given = match &values["shown"] {
                    Value::Null => merged("").replace("false AS shown", null),
                    _ => merged(""),
                };
                match visible && holds(create, given).await == Some(true) {
                    true => "exists",
                    false => "forbidden",
                }
            }
            (_, None) => match holds(create, merged("")).await == Some(true)
                && holds(check, merged("")).await == Some(true)
            {
                true => "ack",
                false => "forbidden",
            },
            (_, Some(visible)) => {
                let may = visible
                    && holds(using, row.clone()).await == Some(true)
                    && holds(create, merged(&row)).await == Some(true)
                    && holds(check, merged(&row)).await == Some(true);
                if may { "ack" } else { "forbidden" }
            }
        }
    }
}

/// The tables, and what they were at each moment.
fn tables() -> [String; 5] {
    let columns = "owner text NOT NULL, team text, level integer NOT NULL, shown boolean NOT NULL DEFAULT false, body text NOT NULL, secret text";
    let squads = "id integer PRIMARY KEY, squad text, member text NOT NULL, rank integer NOT NULL";
    [
        format!("CREATE TABLE items (id integer PRIMARY KEY, {columns})"),
        format!("CREATE TABLE history (moment integer, id integer, {columns})"),
        format!("CREATE TABLE squads ({squads})"),
        format!(
            "CREATE TABLE squad_history (moment integer, {})",
            squads.replace(" PRIMARY KEY", "")
        ),
        "CREATE TABLE marks (id integer PRIMARY KEY, mark integer NOT NULL DEFAULT 1)".to_owned(),
    ]
}

/// Some values of a row, never the whole of it.
fn roll_values(dice: &mut Dice, version: u64, whole: bool) -> Value {
    let mut values = json!({ "body": format!("v{version}") });
    let user = USERS[dice.pick(0..4) as usize];
    for (name, value) in [
        ("owner", json!(user)),
        ("team", json!(TEAMS[dice.pick(0..3) as usize])),
        ("level", json!(dice.pick(0..4))),
        ("shown", json!(dice.chance(50))),
        ("secret", json!(format!("s{}", dice.pick(1..4)))),
    ] {
        let needed = whole && matches!(name, "owner" | "level");
        if needed || dice.chance(45) {
            values[name] = value;
        }
    }
    values
}

async fn moved_by_others(db: &TestDatabase, dice: &mut Dice, version: u64) {
    let values = roll_values(dice, version, true);
    let some = format!("id % {} = {}", dice.pick(2..6), dice.pick(0..2));
    let text = |value: &Value| match value {
        Value::String(text) => format!("'{text}'"),
        other => other.to_string(),
    };
    let all: Vec<(String, String)> = values
        .as_object()
        .expect("values")
        .iter()
        .map(|(name, value)| (name.clone(), text(value)))
        .collect();
    let sql = match dice.pick(0..9) {
        6..9 => squads_moved(dice),
        0 => format!("DELETE FROM items WHERE {some}"),
        1 => "UPDATE items SET team = NULL, body = body || 'n' WHERE id % 7 = 1".to_owned(),
        2 | 3 => {
            let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
            let values: Vec<&str> = all.iter().map(|(_, value)| value.as_str()).collect();
            let id = dice.pick(1..25);
            format!(
                "DELETE FROM items WHERE id = {id}; INSERT INTO items (id, {}) VALUES ({id}, {})",
                names.join(", "),
                values.join(", ")
            )
        }
        _ => {
            let set: Vec<String> = all
                .iter()
                .map(|(name, value)| format!("{name} = {value}"))
                .collect();
            format!("UPDATE items SET {} WHERE {some}", set.join(", "))
        }
    };
    db.execute(&format!("BEGIN; {sql}; COMMIT")).await;
}

/// Somebody joins, leaves or is moved; in one squad by several ways; at times one without a name, of which nobody knows
/// which it is. A row of the same transaction goes with it.
fn squads_moved(dice: &mut Dice) -> String {
    let (id, rank) = (dice.pick(1..9), dice.pick(0..4));
    let member = USERS[dice.pick(0..4) as usize];
    let squad = TEAMS[dice.pick(0..3) as usize];
    let join = format!("INSERT INTO squads VALUES ({id}, '{squad}', '{member}', {rank})");
    let leave = format!("DELETE FROM squads WHERE id = {id}");
    match dice.pick(0..8) {
        0 => leave,
        1 => {
            format!("UPDATE squads SET squad = '{squad}', rank = {rank} WHERE member = '{member}'")
        }
        2 => format!("{leave}; INSERT INTO squads VALUES ({id}, NULL, '{member}', {rank})"),
        3 => "DELETE FROM squads WHERE squad IS NULL".to_owned(),
        4 => format!(
            "UPDATE items SET team = '{squad}', body = body || 'n' WHERE id % 5 = {rank}; {leave}; {join}"
        ),
        5 => format!("DELETE FROM squads WHERE member = '{member}'"),
        _ => format!("{leave}; {join}"),
    }
}

async fn servers(db: &TestDatabase, world: &World) -> Vec<TestServer> {
    let mut servers = Vec::new();
    for _ in 0..2 {
        let mut config = TestServer::config(db, ["items", "marks"]).await;
        config.entities.push(EntityConfig::new("squads").internal());
        config.auth.authenticator = Arc::new(ClaimsAreTokens);
        config.auth.authorizer = Arc::new(world.policies());
        servers.push(TestServer::with_config(config).await);
    }
    servers
}

async fn play(db: &TestDatabase, dice: &mut Dice) {
    let world = World::roll(dice);
    for statement in tables() {
        db.execute(&statement).await;
    }
    let servers = servers(db, &world).await;
    let judge = Judge { db, world: &world };
    let mut members = Vec::new();
    for (index, user) in USERS.into_iter().chain(["ann"]).enumerate() {
        let claims = roll_claims(dice, user);
        members.push(Member::join(&servers[index % 2], user, claims, dice).await);
    }
    let mut version = 0;
    judge.remember(version).await;
    for round in 0..ROUNDS {
        for _ in 0..STEPS {
            version += 1;
            let at = dice.pick(0..members.len() as u64) as usize;
            let member = &mut members[at];
            match dice.pick(0..10) {
                0..=2 => moved_by_others(db, dice, version).await,
                3 => member.renew(roll_claims(dice, member.user)).await,
                4 => {
                    // Away, and back with the claims of another moment.
                    while !member.renewed.is_empty() {
                        member.take().await;
                    }
                    let Member {
                        user,
                        client_id,
                        claims,
                        client,
                        received,
                        ..
                    } = members.swap_remove(at);
                    let state = client.into_state();
                    if dice.chance(70) {
                        moved_by_others(db, dice, version).await;
                    }
                    let claims = if dice.chance(50) {
                        roll_claims(dice, user)
                    } else {
                        claims
                    };
                    let server = &servers[dice.pick(0..2) as usize];
                    let client =
                        SyncClient::reconnect(&server.ws_url(), options(&claims), &state).await;
                    members.push(Member {
                        user,
                        client_id,
                        claims,
                        renewed: Vec::new(),
                        client,
                        received,
                    });
                }
                _ => {
                    while !member.renewed.is_empty() {
                        member.take().await;
                    }
                    let op = ["create", "update", "upsert", "delete"][dice.pick(0..4) as usize];
                    let id = dice.pick(1..25);
                    let mut values = roll_values(dice, version, matches!(op, "create" | "upsert"));
                    let verdict = judge.verdict(&member.claims, op, id, &values).await;
                    let write = match op {
                        "delete" => json!({ "entity": "items", "op": op, "key": id }),
                        "update" => {
                            json!({ "entity": "items", "op": op, "key": id, "values": values })
                        }
                        _ => {
                            values["id"] = json!(id);
                            json!({ "entity": "items", "op": op, "values": values })
                        }
                    };
                    let answer = member.write(&write).await;
                    assert_eq!(answer, verdict, "{} {} {write}", member.user, member.claims);
                }
            }
            judge.remember(version).await;
        }
        // When all have joined, another mark comes with a cursor, and then all rows are of one instant.
        for mark in [2 * round, 2 * round + 1] {
            let insert = format!("INSERT INTO marks (id) VALUES ({mark})");
            db.execute(&insert).await;
            for member in &mut members {
                member.see_mark(mark).await;
            }
        }
        for member in &mut members {
            judge.judge(member).await;
        }
    }
}

both_backends! {
    async fn nobody_receives_what_they_may_not_read_and_everybody_what_they_may(db: TestDatabase) {
        let mut dice = Dice::new("privacy");
        play(&db, &mut dice).await;
    }
}
