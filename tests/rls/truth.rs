//! What PostgreSQL shows a role, and lets it write.

use std::collections::BTreeSet;

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
    schema: &str,
    sql: &str,
) -> String {
    let begun = format!(
        "{} SET LOCAL search_path = {schema}, public",
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
