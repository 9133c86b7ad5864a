//! A statement that is assembled at run time, with values of any type.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use diesel::QueryResult;
use diesel::SqliteConnection;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{BigInt, Binary, Double, Nullable, Text, Untyped};
use diesel::sqlite::Sqlite;

/// A value as SQLite stores it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Integer(i64),
    Real(f64),
    Text(String),
    Blob(Vec<u8>),
}

impl Value {
    fn bind<'b>(&'b self, out: &mut AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        match self {
            Self::Null => out.push_bind_param::<Nullable<Text>, _>(&None::<String>),
            Self::Integer(integer) => out.push_bind_param::<BigInt, _>(integer),
            Self::Real(real) => out.push_bind_param::<Double, _>(real),
            Self::Text(text) => out.push_bind_param::<Text, _>(text),
            Self::Blob(bytes) => out.push_bind_param::<Binary, _>(bytes),
        }
    }
}

#[derive(Debug)]
enum Piece {
    Sql(String),
    Value(Value),
}

/// Pieces of SQL with values between them.
#[derive(Debug, Default)]
pub(super) struct Statement {
    pieces: Vec<Piece>,
    kept: bool,
}

impl Statement {
    /// A statement that begins with this text.
    pub(super) fn new(sql: impl Into<String>) -> Self {
        Self {
            pieces: vec![Piece::Sql(sql.into())],
            kept: false,
        }
    }

    /// Keeps the statement prepared on each connection. Only for a small number of different texts.
    pub(super) fn kept(mut self) -> Self {
        self.kept = true;
        self
    }

    /// The statement's text, with `?` for each value.
    pub(super) fn text(&self) -> String {
        let piece = |piece: &Piece| match piece {
            Piece::Sql(sql) => sql.clone(),
            Piece::Value(_) => "?".to_owned(),
        };
        self.pieces.iter().map(piece).collect()
    }

    /// Appends a text.
    pub(super) fn sql(mut self, sql: impl Into<String>) -> Self {
        self.pieces.push(Piece::Sql(sql.into()));
        self
    }

    /// Appends a value.
    pub(super) fn value(mut self, value: Value) -> Self {
        self.pieces.push(Piece::Value(value));
        self
    }

    /// Appends values, separated by commas.
    pub(super) fn values(mut self, values: impl IntoIterator<Item = Value>) -> Self {
        for (index, value) in values.into_iter().enumerate() {
            if index > 0 {
                self = self.sql(", ");
            }
            self = self.value(value);
        }
        self
    }
}

/// Which statements each connection keeps prepared: the first few different ones, since clients choose how many there
/// are.
#[derive(Debug, Default)]
pub(super) struct KeptStatements {
    texts: Mutex<HashSet<String>>,
}

/// How many there are at most.
const KEPT_MAX: usize = 64;

impl KeptStatements {
    /// Keeps the statement, unless there are too many others.
    pub(super) fn keep(&self, statement: Statement) -> Statement {
        let text = statement.text();
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        if texts.contains(&text) {
            return statement.kept();
        }
        if texts.len() == KEPT_MAX {
            return statement;
        }
        texts.insert(text);
        statement.kept()
    }
}

impl QueryFragment<Sqlite> for Statement {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        if !self.kept {
            out.unsafe_to_cache_prepared();
        }
        for piece in &self.pieces {
            match piece {
                Piece::Sql(sql) => out.push_sql(sql),
                Piece::Value(value) => value.bind(&mut out)?,
            }
        }
        Ok(())
    }
}

impl QueryId for Statement {
    type QueryId = ();

    const HAS_STATIC_QUERY_ID: bool = false;
}

impl Query for Statement {
    type SqlType = Untyped;
}

impl diesel::RunQueryDsl<SqliteConnection> for Statement {}
