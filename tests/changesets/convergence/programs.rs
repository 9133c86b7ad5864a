//! Programs that know nothing of any of this, and write with plain SQL.

use rhtmx_sync_tests::Dice;
use serde_json::Value;
use testkit::Backend;

use super::sites::Site;
use super::truth::{Truth, clock_of};
use super::{FIXED, VOLATILE};

/// One transaction of a program.
pub(super) async fn write(site: &Site, truth: &Truth, dice: &mut Dice) {
    if dice.chance(20) {
        let id = truth.mortal(dice);
        match dice.chance(50) {
            true => delete(site, truth, id).await,
            false => set(site, truth, dice, id).await,
        }
    } else if dice.chance(50) {
        let id = dice.pick(1..FIXED + 1);
        match dice.pick(0..9) {
            0..3 => set(site, truth, dice, id).await,
            3 | 4 => {
                let likes = dice.pick(0..20) as i64 - 8;
                let sql = format!("UPDATE notes SET likes = likes + {likes} WHERE id = {id}");
                if run(site, &sql).await {
                    truth.liked(&id.to_string(), likes);
                }
            }
            5 => untag(site, truth, id).await,
            6 => {
                let number = dice.pick(0..1000);
                let (max, min) = match site.db.backend() {
                    Backend::Postgres => ("greatest", "least"),
                    Backend::Sqlite => ("max", "min"),
                };
                let sql = format!(
                    "UPDATE notes SET best = {max}(coalesce(best, {number}), {number}), \
                     least = {min}(coalesce(least, {number}), {number}) WHERE id = {id}"
                );
                if run(site, &sql).await {
                    truth.scored(&id.to_string(), number as i64);
                }
            }
            7 => {
                let tag = truth.new_text();
                let tags = match site.db.backend() {
                    Backend::Postgres => format!("tags || '[\"{tag}\"]'"),
                    Backend::Sqlite => format!("json_insert(tags, '$[#]', '{tag}')"),
                };
                let sql = format!("UPDATE notes SET tags = {tags} WHERE id = {id}");
                if run(site, &sql).await {
                    truth.tagged(&id.to_string(), &tag);
                }
            }
            _ => {
                let sql = format!(
                    "UPDATE notes SET state = '{}', owner = '{}' WHERE id <= {id}",
                    truth.new_text(),
                    truth.new_text()
                );
                run(site, &sql).await;
            }
        }
    } else {
        let sql = of_volatile_rows(dice, &truth.new_text());
        // A transaction that others overtake.
        let is_long = site.db.backend() == Backend::Postgres && dice.chance(20);
        let sql = match is_long && !sql.starts_with("BEGIN") {
            true => format!(
                "BEGIN; {sql}; SELECT pg_sleep(0.05); {}; COMMIT",
                of_one_row(dice, &truth.new_text())
            ),
            false => sql,
        };
        run(site, &sql).await;
    }
}

/// Sets a register, and finds out under which clock it was stamped: above what was there before.
async fn set(site: &Site, truth: &Truth, dice: &mut Dice, id: u64) {
    let column = if dice.chance(50) { "title" } else { "body" };
    let value = truth.new_text();
    let Some((_, before)) = look(site, column, id).await else {
        return;
    };
    if !run(
        site,
        &format!("UPDATE notes SET {column} = '{value}' WHERE id = {id}"),
    )
    .await
    {
        return;
    }
    // Somebody may have written since, or before. Then this value is not the newest.
    let found = look(site, column, id).await;
    let found = found.filter(|(found, _)| found.as_str() == Some(value.as_str()));
    if let Some((_, clock)) = found {
        assert!(
            clock > before,
            "{column} of {id} was {value} and not stamped: {clock} after {before}"
        );
        truth.wrote(&id.to_string(), column, &clock, &value);
    }
}

/// Takes an element out of the set of a row, if there is one.
async fn untag(site: &Site, truth: &Truth, id: u64) {
    let first = match site.db.backend() {
        Backend::Postgres => {
            "SELECT to_json(min(tag))::text FROM notes, jsonb_array_elements_text(tags) tag"
        }
        Backend::Sqlite => "SELECT json_quote(min(value)) FROM notes, json_each(tags)",
    };
    let found = site
        .db
        .query_json(&format!("{first} WHERE notes.id = {id}"))
        .await;
    let Some(tag) = found.first().and_then(Value::as_str) else {
        return;
    };
    let tags = match site.db.backend() {
        Backend::Postgres => format!("tags - '{tag}'"),
        Backend::Sqlite => {
            format!("(SELECT json_group_array(value) FROM json_each(tags) WHERE value <> '{tag}')")
        }
    };
    if run(
        site,
        &format!("UPDATE notes SET tags = {tags} WHERE id = {id}"),
    )
    .await
    {
        truth.untagged(&id.to_string(), tag);
    }
}

/// Deletes a row, and finds out under which clock.
async fn delete(site: &Site, truth: &Truth, id: u64) {
    if !run(site, &format!("DELETE FROM notes WHERE id = {id}")).await {
        return;
    }
    let held = site.held().await;
    let held = held
        .get(&id.to_string())
        .unwrap_or_else(|| panic!("{id} has left no trace"));
    // Somebody may have brought it back since. Then the deletion is not the newest.
    if held.row.is_null() {
        let died = held.metadata["died"].as_str();
        truth.died(&id.to_string(), died.expect("the clock of the deletion"));
    }
}

/// A register's value and its clock; none where the row is not there.
async fn look(site: &Site, column: &str, id: u64) -> Option<(Value, String)> {
    let array = match site.db.backend() {
        Backend::Postgres => format!("json_build_array({column}, metadata)::text"),
        Backend::Sqlite => format!("json_array({column}, json(metadata))"),
    };
    let sql = format!(
        "SELECT {array} FROM notes LEFT JOIN _rhtmx_sync_field ON entity_id = CAST(id AS text) WHERE id = {id}"
    );
    let mut found = site.db.query_json(&sql).await.pop()?;
    Some((found[0].take(), clock_of(&found[1], column)))
}

fn of_one_row(dice: &mut Dice, text: &str) -> String {
    let id = dice.pick(VOLATILE);
    format!("UPDATE notes SET body = '{text}', state = '{text}' WHERE id = {id}")
}

/// What is done to rows that come and go.
fn of_volatile_rows(dice: &mut Dice, text: &str) -> String {
    let id = dice.pick(VOLATILE);
    let other = dice.pick(VOLATILE);
    let number = dice.pick(0..100);
    let insert = format!(
        "INSERT INTO notes (id, title, body, state, likes, points, best, least, tags) \
         VALUES ({id}, '{text}', '{text}', '{text}', 1, {number}, {number}, {number}, '[\"a\", \"b\"]')"
    );
    match dice.pick(0..16) {
        0..3 => format!("{insert} ON CONFLICT (id) DO NOTHING"),
        3 => format!(
            "{insert} ON CONFLICT (id) DO UPDATE SET title = excluded.title, points = {number}"
        ),
        4 | 14 => format!("DELETE FROM notes WHERE id = {id}"),
        5 => format!("BEGIN; DELETE FROM notes WHERE id = {id}; {insert}; COMMIT"),
        6 => format!(
            "BEGIN; UPDATE notes SET title = '{text}' WHERE id = {id}; DELETE FROM notes WHERE id = {id}; COMMIT"
        ),
        // The row goes, and one of another key comes.
        7 => format!(
            "UPDATE notes SET id = {other} WHERE id = {id} AND NOT EXISTS (SELECT 1 FROM notes WHERE id = {other})"
        ),
        8 => format!(
            "UPDATE notes SET points = points + {number}, likes = likes - 1 WHERE id = {id}"
        ),
        9 => format!("UPDATE notes SET points = {number}, owner = NULL WHERE id = {id}"),
        10 => format!("UPDATE notes SET best = {number}, least = {number} WHERE id = {id}"),
        11 => format!("UPDATE notes SET tags = '[\"a\", \"{number}\"]' WHERE id = {id}"),
        12 => format!("UPDATE notes SET tags = NULL, body = NULL WHERE id = {id}"),
        _ => format!(
            "UPDATE notes SET title = '{text}', state = '{text}' WHERE id >= {id} AND id < {}",
            VOLATILE.end
        ),
    }
}

/// Whether it was committed: of two transactions that wait for each other, or create one row, one is not.
async fn run(site: &Site, sql: &str) -> bool {
    const OF_OTHERS: [&str; 3] = ["deadlock detected", "duplicate key", "UNIQUE constraint"];
    match site.db.try_execute(sql).await {
        Ok(()) => true,
        Err(error) if OF_OTHERS.iter().any(|of_others| error.contains(of_others)) => false,
        Err(error) => panic!("{}: {error}: {sql}", site.name),
    }
}
