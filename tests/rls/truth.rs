//! What PostgreSQL shows a role, and lets it write.

use std::collections::{BTreeMap, BTreeSet};

use rls::Group;
use serde_json::Value;
use tokio_postgres::{Client, SimpleQueryMessage};

/// The statements that make a connection a group's until its transaction ends.
fn become_group(group: &Group, known: &BTreeSet<String>) -> String {
    let settings = group.values(known).into_iter().map(|(name, value)| {
        let value = value.replace('\'', "''");
        format!("SELECT set_config('{name}', '{value}', true);")
    });
    let settings: String = settings.collect();
    format!("BEGIN; SET LOCAL ROLE {}; {settings}", group.role)
}

/// The canonical keys of the rows that a group sees, or the SQLSTATE with which the read fails.
pub(crate) async fn visible(
    client: &Client,
    group: &Group,
    known: &BTreeSet<String>,
    key: &str,
    from: &str,
) -> Result<BTreeSet<String>, String> {
    let begun = client.batch_execute(&become_group(group, known)).await;
    begun.expect("the role can be set");
    let read = client
        .simple_query(&format!("SELECT {key} FROM {from}"))
        .await;
    client
        .batch_execute("ROLLBACK")
        .await
        .expect("a connection");
    match read {
        Ok(messages) => Ok(messages
            .into_iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                _ => None,
            })
            .collect()),
        Err(error) => Err(error.code().expect("a database's error").code().to_owned()),
    }
}

/// What becomes of a group's write: `ok` with the number of rows, or `error` with the SQLSTATE. It is taken back.
pub(crate) async fn written(
    client: &Client,
    group: &Group,
    known: &BTreeSet<String>,
    path: &str,
    sql: &str,
) -> String {
    let begun = format!(
        "{} SET LOCAL search_path = {path}",
        become_group(group, known)
    );
    client
        .batch_execute(&begun)
        .await
        .expect("the role can be set");
    let written = client.simple_query(sql).await;
    client
        .batch_execute("ROLLBACK")
        .await
        .expect("a connection");
    match written {
        Ok(messages) => {
            let done = messages
                .into_iter()
                .rev()
                .find_map(|message| match message {
                    SimpleQueryMessage::CommandComplete(rows) => Some(rows),
                    _ => None,
                });
            format!("ok {}", done.expect("a count"))
        }
        Err(error) => format!("error {}", error.code().expect("a database's error").code()),
    }
}

/// The query for the tables of a schema.
pub(crate) fn tables(schema: &str) -> String {
    format!(
        "SELECT relname::text FROM pg_class WHERE relnamespace = '{schema}'::regnamespace AND relkind = 'r'"
    )
}

/// The query for the rows of a table, in order.
pub(crate) fn contents(schema: &str, table: &str) -> String {
    format!(
        "SELECT to_jsonb(t)::text FROM {schema}.\"{table}\" t ORDER BY to_jsonb(t)::text COLLATE \"C\""
    )
}

/// What the tables of a schema hold after a group's write, which is taken back.
pub(crate) async fn left(
    client: &Client,
    group: &Group,
    known: &BTreeSet<String>,
    path: &str,
    sql: &str,
    schema: &str,
) -> BTreeMap<String, Vec<Value>> {
    let begun = format!(
        "{} SET LOCAL search_path = {path}; SAVEPOINT written",
        become_group(group, known)
    );
    client
        .batch_execute(&begun)
        .await
        .expect("the role can be set");
    if client.simple_query(sql).await.is_err() {
        let back = client.batch_execute("ROLLBACK TO written").await;
        back.expect("a connection");
    }
    client
        .batch_execute("SET LOCAL ROLE NONE")
        .await
        .expect("a connection");
    let left = contents_of(client, schema).await;
    client
        .batch_execute("ROLLBACK")
        .await
        .expect("a connection");
    left
}

/// What the tables of a schema hold.
pub(crate) async fn contents_of(client: &Client, schema: &str) -> BTreeMap<String, Vec<Value>> {
    let mut held = BTreeMap::new();
    for table in texts(client, &tables(schema)).await {
        let rows = texts(client, &contents(schema, &table)).await;
        let rows = rows
            .iter()
            .map(|row| serde_json::from_str(row).expect("JSON"));
        held.insert(table, rows.collect());
    }
    held
}

async fn texts(client: &Client, sql: &str) -> Vec<String> {
    let messages = client.simple_query(sql).await.expect("rows");
    let texts = messages.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    texts.collect()
}

/// A canonical key as the corpus has it: a text, or one text for each column.
pub(crate) fn as_in_corpus(key: &str, columns: usize) -> Value {
    if columns == 1 {
        return Value::from(key);
    }
    let values: Vec<Value> = serde_json::from_str(key).expect("a key of several columns");
    let text = |value: Value| match value {
        Value::String(text) => Value::String(text),
        other => Value::from(other.to_string()),
    };
    values.into_iter().map(text).collect()
}
