//! Queries the server over HTTP, and the database in SQL.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use filter::{Backend, FilterError, FilterErrorKind};
use testkit::{Http, TestDatabase};
use tokio_postgres::{Client, SimpleQueryMessage};

use super::writer::Written;

/// The server's answer to a filter on the entity `t`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The keys of the rows that match.
    Rows(BTreeSet<i64>),
    Refused {
        code: String,
        message: String,
    },
}

impl Answer {
    pub(crate) fn refused(error: &FilterError) -> Self {
        let code = match error.kind {
            FilterErrorKind::Bad => "bad_filter",
            FilterErrorKind::TooLarge => "too_large",
        };
        Self::Refused {
            code: code.to_owned(),
            message: error.message.clone(),
        }
    }
}

/// Asks the server for the keys of the matching rows.
pub(crate) async fn ask(http: &Http, written: &Written) -> Answer {
    let mut path = format!("/api/sync/t?columns=k&where={}", encoded(&written.text));
    if !written.params.is_empty() {
        let params = serde_json::to_string(&written.params).expect("JSON");
        path.push_str(&format!("&params={}", encoded(&params)));
    }
    let reply = http.get(&path).await;
    let body = reply.json();
    if reply.status != 200 {
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        return Answer::Refused {
            code: text("code"),
            message: text("message"),
        };
    }
    let rows = body["rows"].as_array().expect("rows");
    let keys: BTreeSet<i64> = rows
        .iter()
        .map(|row| row["row"]["k"].as_i64().expect("a key"))
        .collect();
    assert_eq!(keys.len(), rows.len(), "a row comes twice");
    Answer::Rows(keys)
}

pub(crate) fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("memory");
        }
    }
    encoded
}

/// For each condition and each row, by key: `1`, `0`, or `u` for unknown.
pub(crate) async fn judged(
    db: &TestDatabase,
    backend: Backend,
    conditions: &[&str],
) -> Vec<String> {
    if conditions.is_empty() {
        return Vec::new();
    }
    let sql = match backend {
        Backend::Postgres => {
            let queries: Vec<String> = conditions
                .iter()
                .map(|condition| truths(condition))
                .collect();
            format!("SET \"TimeZone\" = 'UTC'; {}", queries.join("; "))
        }
        Backend::Sqlite => {
            let query = |(n, condition): (usize, &&str)| {
                format!(
                    "SELECT {n} AS n, (SELECT group_concat(coalesce({condition}, 'u'), '' ORDER BY k) FROM t) AS truths"
                )
            };
            let queries: Vec<String> = conditions.iter().enumerate().map(query).collect();
            format!(
                "SELECT truths FROM ({}) ORDER BY n",
                queries.join(" UNION ALL ")
            )
        }
    };
    let answers = db.query_text(&sql).await;
    assert_eq!(answers.len(), conditions.len());
    answers
        .into_iter()
        .map(|answer| answer.expect("rows"))
        .collect()
}

fn truths(condition: &str) -> String {
    format!("SELECT string_agg(coalesce(({condition})::int::text, 'u'), '' ORDER BY k) FROM t")
}

/// As above for one text that PostgreSQL must parse; none when a value is valid for core's column but
/// not for PostgreSQL's type.
pub(crate) async fn judged_garbled(client: &Client, condition: &str) -> Option<String> {
    let sql = format!("SET \"TimeZone\" = 'UTC'; {}", truths(condition));
    match client.simple_query(&sql).await {
        Ok(messages) => messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        }),
        Err(error) => {
            let error = error.as_db_error().expect("an answer");
            // `1AND` is two tokens for core, and was for PostgreSQL before 15.
            let is_junk = error.message().starts_with("trailing junk");
            // PostgreSQL has no operators for domains over enums; garbling may take away the cast.
            let is_bare_domain =
                error.code().code() == "42883" && error.message().contains(": mood");
            assert!(
                is_junk || is_bare_domain || error.code().code().starts_with("22"),
                "core parses a filter, PostgreSQL does not: {condition}\n{error}"
            );
            None
        }
    }
}
