//! Why SQLite refused a write, in our own words, naming the column where one can be found.

use std::sync::Arc;

use diesel::result::{DatabaseErrorKind, Error};
use diesel::sql_types::{Bool, Nullable, Text};
use diesel::{QueryResult, QueryableByName, RunQueryDsl as _, SqliteConnection, sql_query};
use protocol::{Op, Reject, RejectCode};
use value::schema::Schema;

use super::statement::{Statement, Value};
use crate::quote::ident;

/// How SQLite's words begin for troubles that are not the data's: after those the mutation is tried
/// again. Triggers of the user's may say anything, so these are as long as they can be.
const NOT_THE_DATA: [&str; 14] = [
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
    "no such table: ",
    "no such column: ",
];

/// A write as it was tried, to explain why it was refused.
pub(super) struct Tried {
    pub(super) schema: Arc<Schema>,
    /// The table's name without quotes.
    pub(super) table: String,
    pub(super) op: Op,
    /// By the position of the column.
    pub(super) values: Vec<(usize, Value)>,
}

/// A refusal for which the data is to blame.
pub(super) struct Refused {
    kind: DatabaseErrorKind,
    message: String,
}

/// Whether the data is to blame for this error.
pub(super) fn refused(error: &Error) -> Option<Refused> {
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
    Some(Refused {
        kind,
        message: message.to_owned(),
    })
}

/// What is not known to be something else is a rule of the table.
fn is_of_the_data(message: &str) -> bool {
    let is_outdated = message.starts_with("table ") && message.contains(" has no column named ");
    !is_outdated && !NOT_THE_DATA.iter().any(|other| message.starts_with(other))
}

/// The answer to a refused write.
pub(super) fn reject(
    conn: &mut SqliteConnection,
    tried: &Tried,
    refused: &Refused,
) -> QueryResult<Reject> {
    let constraint = |message| Reject::new(RejectCode::Constraint, message);
    let (reject, column) = match refused.kind {
        DatabaseErrorKind::UniqueViolation => {
            if tried.is_key(refused.culprits()) {
                (
                    Reject::new(RejectCode::Exists, "a row with this key is there already"),
                    None,
                )
            } else {
                let column = tried.first_of(refused.culprits());
                (constraint("another row has this value already"), column)
            }
        }
        DatabaseErrorKind::NotNullViolation => (
            constraint("the column may not be null"),
            tried.first_of(refused.culprits()),
        ),
        DatabaseErrorKind::CheckViolation => {
            let column = checked_column(conn, tried, refused.culprits())?;
            (constraint("a check of the table does not hold"), column)
        }
        DatabaseErrorKind::ForeignKeyViolation => match foreign_key(conn, tried)? {
            Some(column) => (
                constraint("it refers to a row that is not there"),
                Some(column),
            ),
            None if tried.op == Op::Delete => (constraint("other rows refer to this row"), None),
            None => (constraint("a foreign key does not hold"), None),
        },
        _ => of_message(tried, &refused.message),
    };
    Ok(match column {
        Some(column) => reject.of_column(column),
        None => reject,
    })
}

fn of_message(tried: &Tried, message: &str) -> (Reject, Option<String>) {
    if message == "datatype mismatch" {
        // Only the row's own number has a type of its own.
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

impl Refused {
    /// What follows `… constraint failed: `.
    fn culprits(&self) -> &str {
        self.message
            .split_once(": ")
            .map_or("", |(_, culprits)| culprits)
    }
}

impl Tried {
    /// Whether these are the columns of the primary key: `todos.id`, `todos.list, todos.id`.
    fn is_key(&self, culprits: &str) -> bool {
        let key: Vec<String> = self
            .schema
            .key_columns()
            .map(|column| self.full_name(&column.name))
            .collect();
        culprits == key.join(", ")
    }

    /// The first of these columns. Names may hold anything, so they are not taken apart, but
    /// compared with those that there are; the longest wins.
    fn first_of(&self, culprits: &str) -> Option<String> {
        let begins = |name: &&str| {
            let rest = culprits.strip_prefix(&self.full_name(name));
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

/// A column that a check speaks of. SQLite gives the check's name, or its text where it has none.
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

/// The text of the check of this name, in the text that made its table.
fn named_check<'a>(table: &'a str, name: &str) -> Option<&'a str> {
    // Between the name and the parenthesis there is nothing but the end of a quote and `CHECK`.
    let between = ['"', '\'', '`', ']', ' ', '\n', '\t', '\r'];
    table.match_indices(name).find_map(|(at, _)| {
        let (word, check) = table[at + name.len()..].split_once('(')?;
        let end = end_of_parenthesis(check)?;
        word.trim_matches(between)
            .eq_ignore_ascii_case("CHECK")
            .then(|| &check[..end])
    })
}

/// Where the parenthesis ends that has just been opened. One in a text may mislead it, by which
/// only the column's name is lost.
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

/// The first column in the text of a check that the write has a value for, or else the first.
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

/// The columns that refer to other tables; without a name they refer to the primary key.
const FOREIGN_KEYS: &str = "\
SELECT f.id, f.\"table\" AS parent, f.\"from\" AS child_column, coalesce(f.\"to\", (SELECT p.name
    FROM pragma_table_info(f.\"table\") p WHERE p.pk = f.seq + 1)) AS parent_column
FROM pragma_foreign_key_list(?1) f ORDER BY f.id, f.seq";

/// The first column of a foreign key whose row is not there. SQLite does not say which it was.
fn foreign_key(conn: &mut SqliteConnection, tried: &Tried) -> QueryResult<Option<String>> {
    if tried.op == Op::Delete {
        return Ok(None);
    }
    let columns: Vec<ForeignKey> = sql_query(FOREIGN_KEYS)
        .bind::<Text, _>(&tried.table)
        .load(conn)?;
    for key in columns.chunk_by(|one, next| one.id == next.id) {
        if let Some(parent) = parent_of(tried, key)
            && !is_there(conn, parent)?
        {
            return Ok(key.first().map(|column| column.child_column.clone()));
        }
    }
    Ok(None)
}

/// Asks for the row that a foreign key refers to; none where the write does not say which.
fn parent_of(tried: &Tried, key: &[ForeignKey]) -> Option<Statement> {
    let parent = &key.first()?.parent;
    let mut statement = Statement::new(format!(
        "SELECT EXISTS (SELECT 1 FROM {} WHERE ",
        ident(parent)
    ));
    for (place, column) in key.iter().enumerate() {
        let position = tried.schema.position(&column.child_column)?;
        let (_, value) = tried.values.iter().find(|(index, _)| *index == position)?;
        if *value == Value::Null {
            return None;
        }
        let word = if place > 0 { " AND " } else { "" };
        statement = statement
            .sql(format!(
                "{word}{} = ",
                ident(column.parent_column.as_deref()?)
            ))
            .value(value.clone());
    }
    Some(statement.sql(") AS found"))
}

fn is_there(conn: &mut SqliteConnection, parent: Statement) -> QueryResult<bool> {
    #[derive(QueryableByName)]
    struct Answer {
        #[diesel(sql_type = Bool)]
        found: bool,
    }
    let answer: Answer = parent.get_result(conn)?;
    Ok(answer.found)
}
