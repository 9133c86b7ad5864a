//! Every case of the corpus: its users, its moves by another connection, its writes as mutations, and random writes.

use std::collections::BTreeMap;

use rhtmx_sync::EntityConfig;
use rhtmx_sync_tests::Dice;

use super::writes::RandomWrite;
use super::{Served, Watcher, one_of, rounds};
use crate::corpus::{Case, User};
use crate::examined::Examined;
use crate::reading::{Loaded, load};
use crate::writing::{Writable, mutations, target};

/// The corpus is split, so that its parts run beside each other.
const PARTS: usize = 4;

/// Random writes for each case.
const WRITES: usize = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_hold_what_postgresql_shows_in_the_first_quarter_of_the_corpus() {
    compare_part(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_hold_what_postgresql_shows_in_the_second_quarter_of_the_corpus() {
    compare_part(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_hold_what_postgresql_shows_in_the_third_quarter_of_the_corpus() {
    compare_part(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_hold_what_postgresql_shows_in_the_fourth_quarter_of_the_corpus() {
    compare_part(3).await;
}

async fn compare_part(part: usize) {
    let mut dice = Dice::new("cases");
    let only = std::env::var("RLS_CASE").ok();
    let is_wanted = |case: &Case| only.as_ref().is_none_or(|only| *only == case.id);
    let loaded = load(|number, case| number % PARTS == part && is_wanted(case)).await;
    let users = loaded.cases.iter().flat_map(|case| {
        let users = case.users.iter();
        users.map(|user| (name_of(case, user), user.clone()))
    });
    let users: BTreeMap<String, User> = users.collect();
    let mut entities = Vec::new();
    let mut with_uncaptured = Vec::new();
    for case in &loaded.cases {
        for (table, has_key) in tables(&loaded, case).await {
            let name = format!("{}.{table}", case.id);
            let config = EntityConfig::on_table(&name, &name);
            let is_served = case.entities.iter().any(|entity| entity.table == table);
            match (is_served, has_key) {
                (true, _) => entities.push(config.rls()),
                (false, true) => entities.push(config.internal()),
                (false, false) => with_uncaptured.push(case.id.clone()),
            }
        }
    }
    let mut served = Served::start(&loaded.db, entities, &users).await;
    for case in &loaded.cases {
        println!("{}", case.id);
        let has_uncaptured = with_uncaptured.contains(&case.id);
        run(&loaded, &mut served, case, has_uncaptured, &mut dice).await;
    }
}

fn name_of(case: &Case, user: &User) -> String {
    format!("{} {}", case.id, user.name)
}

/// The tables of a case, and whether they have a key.
async fn tables(loaded: &Loaded, case: &Case) -> Vec<(String, bool)> {
    let sql = format!(
        "SELECT json_build_array(c.relname, EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary))::text \
         FROM pg_class c WHERE c.relnamespace = '{}'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition",
        case.id
    );
    let found = loaded.db.query_json(&sql).await.into_iter();
    found
        .map(|table| serde_json::from_value(table).expect("a table"))
        .collect()
}

async fn run(
    loaded: &Loaded,
    served: &mut Served<'_>,
    case: &Case,
    has_uncaptured: bool,
    dice: &mut Dice,
) {
    // What follows from a table that is not captured takes its time, as what follows from the clock.
    let is_exact = !has_uncaptured && !case.is_flagged("clock");
    let writable = Writable::new(loaded, case).await;
    let examined = writable.entities.into_iter();
    let entities: BTreeMap<String, Examined> = examined
        .map(|(table, examined)| (format!("{}.{table}", case.id), examined))
        .collect();
    let mut watchers = Vec::new();
    for user in &case.users {
        let name = name_of(case, user);
        watchers.push(Watcher::connect(served, &name, user, &entities, &writable.settings).await);
    }
    compare(
        served,
        &mut watchers,
        is_exact,
        &format!("{} at first", case.id),
    )
    .await;
    for write in case
        .writes
        .iter()
        .filter(|write| !write.sql.contains("returning"))
    {
        let entity = format!("{}.{}", case.id, target(&write.sql));
        for (key, mutation) in mutations(&loaded.db, &entities[&entity], &write.sql).await {
            // One mutation is one row of what the statement names.
            let sql = match (&key, mutation["key"].as_str()) {
                (Some(_), _) if !write.sql.contains(" where ") => {
                    format!(
                        "{} where id = '{}'",
                        write.sql,
                        mutation["key"].to_string().trim_matches('"')
                    )
                }
                _ => write.sql.clone(),
            };
            let random = RandomWrite {
                entity: entity.clone(),
                key,
                mutation,
                sql,
                search_path: format!("{}, public", case.id),
            };
            let at = case
                .users
                .iter()
                .position(|user| user.name == write.user)
                .expect("a user");
            served.push(&mut watchers[at], &case.id, &random).await;
        }
        compare(
            served,
            &mut watchers,
            is_exact,
            &format!("{} after {}", case.id, write.sql),
        )
        .await;
    }
    for sql in &case.moves {
        let path = format!("SET search_path = {}, public; ", case.id);
        loaded.db.execute(&(path + sql)).await;
        compare(
            served,
            &mut watchers,
            is_exact,
            &format!("{} after {sql}", case.id),
        )
        .await;
    }
    let names: Vec<&String> = entities.keys().collect();
    for round in 0..rounds(WRITES) {
        let entity = one_of(&names, dice).as_str();
        let Some(write) = RandomWrite::new(&loaded.db, entity, &entities[entity], dice).await
        else {
            continue;
        };
        if round % 3 == 2 {
            // By the owner, whom constraints alone bind.
            let _ = loaded.db.try_execute(&write.sql).await;
        } else {
            let at = dice.pick(0..watchers.len() as u64);
            let watcher = &mut watchers[usize::try_from(at).expect("a position")];
            served.push(watcher, &case.id, &write).await;
        }
        compare(
            served,
            &mut watchers,
            is_exact,
            &format!("{} after {}", case.id, write.sql),
        )
        .await;
    }
}

async fn compare(
    served: &mut Served<'_>,
    watchers: &mut [Watcher<'_>],
    is_exact: bool,
    when: &str,
) {
    match is_exact {
        true => served.compare(watchers, when).await,
        false => served.compare_in_time(watchers, when).await,
    }
}
