//! The writes of the corpus: under the settings that are made for a group, and as mutations.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use db::write::RunAs;
use protocol::RejectCode;
use rls::{Claims, Group, Uses};
use serde_json::{Value, json};
use testkit::TestDatabase;

use super::corpus::{Case, User};
use super::examined::Examined;
use super::pushing::Pushing;
use super::reading::{Loaded, load};
use super::{corpus, truth};

/// A case with what its policies read.
pub(crate) struct Writable {
    pub(crate) settings: BTreeSet<String>,
    pub(crate) entities: BTreeMap<String, Examined>,
}

impl Writable {
    pub(crate) async fn new(loaded: &Loaded, case: &Case) -> Self {
        let mut writable = Self {
            settings: BTreeSet::new(),
            entities: BTreeMap::new(),
        };
        for entity in &case.entities {
            let table = format!("{}.{}", case.id, entity.table);
            let examined = Examined::new(&loaded.reader, &table, &[]).await;
            let uses = examined.uses(&loaded.sources);
            writable.settings.extend(uses.settings);
            writable.entities.insert(entity.table.clone(), examined);
        }
        writable
    }

    /// A write is no group's: it takes the whole token.
    fn group(user: &User) -> Group {
        let uses = Uses {
            claims: Claims::All,
            any_setting: true,
            ..rls::Sources::default().uses([])
        };
        Group::new(&user.role, user.claims.as_ref(), &user.settings, &uses)
    }

    fn run_as(&self, group: &Group) -> Arc<RunAs> {
        let settings = group.values(&self.settings).into_iter().collect();
        Arc::new(RunAs {
            role: group.role.clone(),
            settings,
        })
    }
}

#[tokio::test]
async fn a_write_as_the_role_of_a_group_ends_as_the_corpus_says() {
    let loaded = load(|_, case| !case.writes.is_empty()).await;
    let expected = corpus::expected();
    let client = loaded.db.connect_postgres().await;
    let mut wrong = Vec::new();
    let mut tried = 0;
    for case in &loaded.cases {
        let writable = Writable::new(&loaded, case).await;
        for (write, expected) in case.writes.iter().zip(&expected[&case.id].writes) {
            let group = Writable::group(case.user(&write.user));
            let settings = &writable.settings;
            let path = format!("{}, public", case.id);
            let result = truth::written(&client, &group, settings, &path, &write.sql).await;
            if result != expected.result {
                wrong.push(format!(
                    "{}: {} gives {result}, not {}",
                    case.id, write.sql, expected.result
                ));
            }
            tried += 1;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(tried >= 30, "only {tried} writes");
}

/// Each write of the corpus as mutations, one for each row that it names: as many are applied as rows are written by the
/// statement, the others are answered by what the role sees, and the tables hold what they hold after the statement.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_of_the_corpus_as_a_mutation_ends_as_postgresql_decides() {
    let loaded = load(|_, case| !case.writes.is_empty()).await;
    let expected = corpus::expected();
    let mut pushing = Pushing::new(&loaded.db, &loaded.db.url(), &[]).await;
    let client = loaded.db.connect_postgres().await;
    let mut wrong = Vec::new();
    let mut tried = 0;
    for case in &loaded.cases {
        let writable = Writable::new(&loaded, case).await;
        for examined in writable.entities.values() {
            pushing.capture(&examined.entity.schema.entity).await;
        }
        for (write, expected) in case.writes.iter().zip(&expected[&case.id].writes) {
            // The engine returns no row from a write.
            if write.sql.contains("returning") {
                continue;
            }
            let group = Writable::group(case.user(&write.user));
            let run_as = writable.run_as(&group);
            let table = target(&write.sql);
            let examined = &writable.entities[table];
            let (key, from) = examined.sql();
            let visible = truth::visible(&client, &group, &writable.settings, key, from).await;
            let visible = visible.unwrap_or_default();
            let path = format!("{}, public", case.id);
            let kept = keep(&loaded.db, case).await;
            let after = truth::left(
                &client,
                &group,
                &writable.settings,
                &path,
                &write.sql,
                &case.id,
            )
            .await;
            let mut applied = 0;
            for (key, mutation) in mutations(&loaded.db, examined, &write.sql).await {
                let entity = examined.entity.schema.entity.as_str();
                match pushing
                    .push(&run_as, &[entity], std::slice::from_ref(&mutation))
                    .await
                {
                    Ok(_) => applied += 1,
                    Err(reject) => {
                        let hidden = key.is_some_and(|key| !visible.contains(&key));
                        let right = match hidden {
                            true => RejectCode::NotFound,
                            false => RejectCode::Forbidden,
                        };
                        if reject.code != right {
                            wrong.push(format!("{}: {mutation} gives {reject:?}", case.id));
                        }
                    }
                }
            }
            let result = match applied {
                0 if expected.result.starts_with("error") => "error 42501".to_owned(),
                applied => format!("ok {applied}"),
            };
            if result != expected.result {
                wrong.push(format!("{}: {} gives {result}", case.id, write.sql));
            }
            if keep(&loaded.db, case).await != after {
                wrong.push(format!("{}: {} leaves other rows", case.id, write.sql));
            }
            put_back(&loaded.db, case, &kept).await;
            tried += 1;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(tried >= 29, "only {tried} writes");
}

/// The table that a statement writes.
pub(crate) fn target(sql: &str) -> &str {
    let words: Vec<&str> = sql.split_whitespace().collect();
    match words[0] {
        "update" => words[1],
        _ => words[2],
    }
}

/// The mutations of a statement of the corpus, each with the canonical key of the row that it must find, if it must.
pub(crate) async fn mutations(
    db: &TestDatabase,
    examined: &Examined,
    sql: &str,
) -> Vec<(Option<String>, Value)> {
    let schema = &examined.entity.schema;
    let entity = &schema.entity;
    let names: Vec<&str> = schema
        .columns
        .iter()
        .map(|column| column.name.as_str())
        .collect();
    if let Some((_, values)) = sql.split_once(" values (") {
        let values = values.trim_end().strip_suffix(')').expect("an end");
        let values: serde_json::Map<String, Value> = names
            .iter()
            .zip(values.split(','))
            .map(|(name, value)| ((*name).to_owned(), literal(value)))
            .collect();
        return vec![(
            None,
            json!({ "entity": entity, "op": "create", "values": values }),
        )];
    }
    let (statement, condition) = match sql.split_once(" where ") {
        Some((statement, condition)) => (statement, Some(condition)),
        None => (sql, None),
    };
    let only = condition.map(|condition| literal(condition.split_once('=').expect("a key").1));
    let set = statement.split_once(" set ").map(|(_, set)| {
        let (column, value) = set.split_once('=').expect("a value");
        (column.trim(), literal(value))
    });
    let rows = examined.rows(db).await.into_iter();
    let rows = rows.filter_map(|(key, row)| {
        let row: Value = serde_json::from_str(row.get()).expect("JSON");
        let mut parts: Vec<Value> = schema
            .key_columns()
            .map(|column| row[&column.name].clone())
            .collect();
        let named = match parts.len() {
            1 => parts.remove(0),
            _ => Value::Array(parts),
        };
        if only.as_ref().is_some_and(|only| *only != named) {
            return None;
        }
        let mut write = json!({ "entity": entity, "op": "delete", "key": named });
        if let Some((column, value)) = &set {
            write["op"] = "update".into();
            write["values"] = json!({ *column: value });
        }
        Some((Some(key), write))
    });
    rows.collect()
}

fn literal(text: &str) -> Value {
    let text = text.trim();
    match text.strip_prefix('\'') {
        Some(text) => text.strip_suffix('\'').expect("an end").into(),
        None => serde_json::from_str(text).expect("a number, true, false or null"),
    }
}

/// What the tables of a case hold.
pub(crate) async fn keep(db: &TestDatabase, case: &Case) -> BTreeMap<String, Vec<Value>> {
    let mut kept = BTreeMap::new();
    for table in db
        .query_text(&truth::tables(&case.id))
        .await
        .into_iter()
        .flatten()
    {
        let rows = db.query_json(&truth::contents(&case.id, &table)).await;
        kept.insert(table, rows);
    }
    kept
}

/// Puts it back, whatever refers to it.
async fn put_back(db: &TestDatabase, case: &Case, kept: &BTreeMap<String, Vec<Value>>) {
    let mut sql = "SET session_replication_role = replica;".to_owned();
    for (table, rows) in kept {
        let rows = Value::from(rows.clone()).to_string().replace('\'', "''");
        let table = format!("{}.\"{table}\"", case.id);
        sql += &format!(
            "DELETE FROM {table}; INSERT INTO {table} SELECT * FROM jsonb_populate_recordset(null::{table}, '{rows}');"
        );
    }
    db.execute(&sql).await;
}
