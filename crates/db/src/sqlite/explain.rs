//! Explains in the engine's words why a write failed, with the column where one can be found.

use std::sync::Arc;

use diesel::result::{DatabaseErrorKind, Error};
use diesel::sql_types::{Bool, Nullable, Text};
use diesel::{QueryResult, QueryableByName, RunQueryDsl as _, SqliteConnection, sql_query};
use protocol::{Op, Reject, RejectCode};
use value::schema::Schema;

use super::statement::{Statement, Value};
use crate::quote::ident;

/// The beginnings of SQLite's messages for failures that are not the data's fault: after those the mutation
/// is tried again. A trigger of the user's may raise any message, so these are as long as possible.
const NOT_THE_DATA: [&str; 12] = [
    "database is locked",
    "database table is locked",
    "database schema is locked",
    "database schema has changed",
    "database disk image is malformed",
    "database or disk is full",
    "disk I/O error",
    "attempt to write a readonly database",
    "unable to open database file",
    "file is not a database",
    "locking protocol",
    "out of memory",
];

/// Why the writes of a mutation were rolled back.
pub(super) enum WriteFailed {
    /// The data or a constraint forbids it.
    Rejected(Reject),
    /// The table or a trigger on it is at fault. The mutation is retried once the table has been read again.
    Table {
        write: Option<usize>,
        /// The database's message or code.
        message: String,
    },
    /// Anything else. The mutation stays open and may be tried again.
    Diesel(diesel::result::Error),
}

impl WriteFailed {
    /// The same failure, with the index of its write.
    pub(super) fn of_write(self, index: usize) -> Self {
        match self {
            Self::Rejected(reject) => Self::Rejected(reject.of_write(index)),
            Self::Table { message, .. } => Self::Table {
                write: Some(index),
                message,
            },
            failed @ Self::Diesel(_) => failed,
        }
    }
}

impl From<diesel::result::Error> for WriteFailed {
    fn from(error: diesel::result::Error) -> Self {
        Self::Diesel(error)
    }
}

/// A write that was tried, for explaining why it failed.
pub(super) struct Tried {
    pub(super) schema: Arc<Schema>,
    /// The table's name without quotes.
    pub(super) table: String,
    pub(super) op: Op,
    /// Each value with its column's index.
    pub(super) values: Vec<(usize, Value)>,
}

/// A failure that is the data's fault.
pub(super) struct Violation {
    kind: DatabaseErrorKind,
    message: String,
}

/// The violation behind an error; `None` when the error is not the data's fault.
pub(super) fn violation(error: &Error) -> Option<Violation> {
    let Error::DatabaseError(kind, info) = error else {
        return None;
    };
    let message = info.message();
    let kind = match kind {
        DatabaseErrorKind::UniqueViolation => DatabaseErrorKind::UniqueViolation,
        DatabaseErrorKind::ForeignKeyViolation => DatabaseErrorKind::ForeignKeyViolation,
        DatabaseErrorKind::NotNullViolation => DatabaseErrorKind::NotNullViolation,
        DatabaseErrorKind::CheckViolation => DatabaseErrorKind::CheckViolation,
        DatabaseErrorKind::Unknown if is_of_the_data(message) => DatabaseErrorKind::Unknown,
        _ => return None,
    };
    Some(Violation {
        kind,
        message: message.to_owned(),
    })
}

/// The failure for an error that is not a reject.
pub(super) fn failure(error: diesel::result::Error) -> WriteFailed {
    match &error {
        diesel::result::Error::DatabaseError(_, info) if is_of_the_table(info.message()) => {
            WriteFailed::Table {
                write: None,
                message: info.message().to_owned(),
            }
        }
        _ => WriteFailed::Diesel(error),
    }
}

/// Whether a message says that the statement or a trigger of the user's names what does not exist.
pub(super) fn is_of_the_table(message: &str) -> bool {
    let beginnings = ["no such table: ", "no such column: ", "no such function: "];
    is_outdated(message) || beginnings.iter().any(|other| message.starts_with(other))
}

/// Whether the statement was made for columns that the table no longer has.
fn is_outdated(message: &str) -> bool {
    message.starts_with("table ") && message.contains(" has no column named ")
}

/// Whether a message is about the data: any that is not known to be about something else is a rule of the
/// table.
fn is_of_the_data(message: &str) -> bool {
    !is_of_the_table(message) && !NOT_THE_DATA.iter().any(|other| message.starts_with(other))
}

/// The reject for a write that failed.
pub(super) fn reject(
    conn: &mut SqliteConnection,
    tried: &Tried,
    violation: &Violation,
) -> QueryResult<Reject> {
    let constraint = |message| Reject::new(RejectCode::Constraint, message);
    let (reject, column) = match violation.kind {
        DatabaseErrorKind::UniqueViolation => {
            if tried.is_key(violation.detail()) {
                (
                    Reject::new(RejectCode::Exists, "a row with this key already exists"),
                    None,
                )
            } else {
                let column = tried.first_of(violation.detail());
                (constraint("another row already has this value"), column)
            }
        }
        DatabaseErrorKind::NotNullViolation => (
            constraint("the column may not be null"),
            tried.first_of(violation.detail()),
        ),
        DatabaseErrorKind::CheckViolation => {
            let column = checked_column(conn, tried, violation.detail())?;
            (constraint("a check of the table is violated"), column)
        }
        DatabaseErrorKind::ForeignKeyViolation => match foreign_key(conn, tried)? {
            Some(column) => (
                constraint("it refers to a row that does not exist"),
                Some(column),
            ),
            None if tried.op == Op::Delete => (constraint("other rows refer to this row"), None),
            None => (constraint("a foreign key is violated"), None),
        },
        _ => of_message(tried, &violation.message),
    };
    Ok(match column {
        Some(column) => reject.of_column(column),
        None => reject,
    })
}

/// The reject and its column for a failure that only SQLite's message describes.
fn of_message(tried: &Tried, message: &str) -> (Reject, Option<String>) {
    if message == "datatype mismatch" {
        // SQLite insists on the type of a rowid alone.
        let key = tried
            .schema
            .key_columns()
            .next()
            .map(|column| column.name.clone());
        (
            Reject::new(RejectCode::Invalid, "the key is not an integer"),
            key,
        )
    } else if message.starts_with("cannot store ") {
        let column = message
            .rsplit_once(" column ")
            .and_then(|(_, name)| tried.first_of(name));
        (
            Reject::new(
                RejectCode::Invalid,
                "the value does not fit the column's type",
            ),
            column,
        )
    } else if message.contains("too big") {
        (
            Reject::new(
                RejectCode::TooLarge,
                "a value is too large for the database",
            ),
            None,
        )
    } else {
        (
            Reject::new(RejectCode::Constraint, "a rule of the table forbids it"),
            None,
        )
    }
}

impl Violation {
    /// The columns or the check that follow `… constraint failed: `.
    fn detail(&self) -> &str {
        self.message
            .split_once(": ")
            .map_or("", |(_, detail)| detail)
    }
}

impl Tried {
    /// Whether these are the columns of the primary key: `todos.id` or `todos.list, todos.id`.
    fn is_key(&self, detail: &str) -> bool {
        let key: Vec<String> = self
            .schema
            .key_columns()
            .map(|column| self.full_name(&column.name))
            .collect();
        detail == key.join(", ")
    }

    /// The first of these columns. Names may contain anything, so the list is not split, but compared with
    /// the table's columns; the longest match wins.
    fn first_of(&self, detail: &str) -> Option<String> {
        let begins = |name: &&str| {
            let rest = detail.strip_prefix(&self.full_name(name));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(", "))
        };
        let names = self
            .schema
            .columns
            .iter()
            .map(|column| column.name.as_str());
        names
            .filter(begins)
            .max_by_key(|name| name.len())
            .map(str::to_owned)
    }

    fn full_name(&self, column: &str) -> String {
        format!("{}.{column}", self.table)
    }
}

/// A column that a check mentions. SQLite reports the check's name, or its text if it has none.
fn checked_column(
    conn: &mut SqliteConnection,
    tried: &Tried,
    check: &str,
) -> QueryResult<Option<String>> {
    #[derive(QueryableByName)]
    struct Definition {
        #[diesel(sql_type = Text)]
        text: String,
    }
    let tables: Vec<Definition> =
        sql_query("SELECT sql AS text FROM sqlite_schema WHERE type = 'table' AND name = ?1")
            .bind::<Text, _>(&tried.table)
            .load(conn)?;
    let named = tables
        .first()
        .and_then(|table| named_check(&table.text, check));
    Ok(mentioned(tried, named.unwrap_or(check)))
}

/// The text of the check of this name, from the text that created its table.
fn named_check<'a>(table: &'a str, name: &str) -> Option<&'a str> {
    // Between the name and the parenthesis there are only the end of a quote and `CHECK`.
    let between = ['"', '\'', '`', ']', ' ', '\n', '\t', '\r'];
    table.match_indices(name).find_map(|(at, _)| {
        let (word, check) = table[at + name.len()..].split_once('(')?;
        let end = end_of_parenthesis(check)?;
        word.trim_matches(between)
            .eq_ignore_ascii_case("CHECK")
            .then(|| &check[..end])
    })
}

/// The end of the parenthesis that has just been opened. A parenthesis inside a string may mislead it, which
/// loses only the column's name.
fn end_of_parenthesis(text: &str) -> Option<usize> {
    let mut depth = 1;
    text.bytes().position(|byte| {
        depth += match byte {
            b'(' => 1,
            b')' => -1,
            _ => 0,
        };
        depth == 0
    })
}

/// The first column in the text of a check for which the write has a value, or else the first column.
fn mentioned(tried: &Tried, text: &str) -> Option<String> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    let column_of = |word: &str| {
        tried
            .schema
            .columns
            .iter()
            .position(|column| column.name.eq_ignore_ascii_case(word))
    };
    let columns: Vec<usize> = text
        .split(|c| !is_part(c))
        .filter(|word| !word.is_empty())
        .filter_map(column_of)
        .collect();
    let written = |index: &&usize| tried.values.iter().any(|(position, _)| position == *index);
    let column = columns.iter().find(written).or(columns.first())?;
    Some(tried.schema.columns[*column].name.clone())
}

#[derive(QueryableByName)]
struct ForeignKey {
    #[diesel(sql_type = diesel::sql_types::Integer)]
    id: i32,
    #[diesel(sql_type = Text)]
    parent: String,
    #[diesel(sql_type = Text)]
    child_column: String,
    #[diesel(sql_type = Nullable<Text>)]
    parent_column: Option<String>,
}

/// Returns the columns that refer to other tables; if they name no column they refer to the primary key.
const FOREIGN_KEYS: &str = "\
SELECT f.id, f.\"table\" AS parent, f.\"from\" AS child_column, coalesce(f.\"to\", (SELECT p.name
    FROM pragma_table_info(f.\"table\") p WHERE p.pk = f.seq + 1)) AS parent_column
FROM pragma_foreign_key_list(?1) f ORDER BY f.id, f.seq";

/// The first column of a foreign key whose row does not exist. SQLite does not say which key failed.
fn foreign_key(conn: &mut SqliteConnection, tried: &Tried) -> QueryResult<Option<String>> {
    if tried.op == Op::Delete {
        return Ok(None);
    }
    let columns: Vec<ForeignKey> = sql_query(FOREIGN_KEYS)
        .bind::<Text, _>(&tried.table)
        .load(conn)?;
    for key in columns.chunk_by(|one, next| one.id == next.id) {
        if let Some(parent) = parent_of(tried, key)
            && !exists(conn, parent)?
        {
            return Ok(key.first().map(|column| column.child_column.clone()));
        }
    }
    Ok(None)
}

/// The query for the row to which a foreign key refers; `None` when the write does not determine it.
fn parent_of(tried: &Tried, key: &[ForeignKey]) -> Option<Statement> {
    let parent = &key.first()?.parent;
    let mut statement = Statement::new(format!(
        "SELECT EXISTS (SELECT 1 FROM {} WHERE ",
        ident(parent)
    ));
    for (index, column) in key.iter().enumerate() {
        let position = tried.schema.position(&column.child_column)?;
        let (_, value) = tried.values.iter().find(|(other, _)| *other == position)?;
        if *value == Value::Null {
            return None;
        }
        let word = if index > 0 { " AND " } else { "" };
        statement = statement
            .sql(format!(
                "{word}{} = ",
                ident(column.parent_column.as_deref()?)
            ))
            .value(value.clone());
    }
    Some(statement.sql(") AS found"))
}

fn exists(conn: &mut SqliteConnection, parent: Statement) -> QueryResult<bool> {
    #[derive(QueryableByName)]
    struct Answer {
        #[diesel(sql_type = Bool)]
        found: bool,
    }
    let answer: Answer = parent.get_result(conn)?;
    Ok(answer.found)
}
