//! Applying a mutation exactly once: what both backends share.
//!
//! Everything happens in one transaction: it moves the client's number, if that is the next, and runs the writes, in
//! a savepoint. So a mutation that is sent again, to this server or another, finds the number moved and gets the same
//! answer as the first time. Mutations of several clients that wait at the same time share a transaction; one that
//! fails takes no other with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use diesel::result::DatabaseErrorKind;
use filter::Filter;
use protocol::{Op, Reject, RejectCode};
use serde_json::value::RawValue;
use sync_core::mutation::chain::{KeptChains, Place, Turn};
use sync_core::mutation::fields::{Known, Merged};
use sync_core::mutation::{Applied, CheckedWrite};
use uuid::Uuid;

use crate::entity::{Entity, EntityMap};
use crate::error::{DbError, DbResult};
#[cfg(feature = "postgres")]
use crate::fields::Beside;

/// A mutation whose writes have been checked, or that the check has rejected. A rejected one goes to the
/// database too, so that its number advances and its reject is stored.
#[derive(Debug, Clone)]
pub struct Mutation {
    /// Its client.
    pub client_id: Uuid,
    /// The user who pushed it; none for nobody. The first one whose mutation is answered owns the client id.
    pub user_id: Option<String>,
    /// Its number, and what it stands for.
    pub place: Place,
    /// The checked writes, or the reject.
    pub writes: Result<Vec<TableWrite>, Reject>,
    /// What is to be told of it, as it is stored; none until its writes are planned, and where there is nothing to tell.
    pub merged: Option<String>,
}

impl Mutation {
    /// A mutation that has not been applied yet.
    pub fn new(
        client_id: Uuid,
        user_id: Option<String>,
        place: Place,
        writes: Result<Vec<TableWrite>, Reject>,
    ) -> Self {
        Self {
            client_id,
            user_id,
            place,
            writes,
            merged: None,
        }
    }
}

/// What is told of a mutation, as it is stored.
pub(crate) fn stored_merged(merged: &Merged) -> Option<String> {
    let text = || serde_json::to_string(merged).expect("it is JSON");
    (!merged.is_empty()).then(text)
}

/// What was stored of it. What cannot be read is not told again.
pub(crate) fn merged_of_before(stored: Option<&str>) -> Merged {
    let read = stored.and_then(|text| serde_json::from_str(text).ok());
    read.unwrap_or_default()
}

/// What came of beginning a mutation whose transaction stays open between its writes.
#[derive(Debug)]
pub enum Began<T> {
    /// It comes next: its number has moved, and its client is locked until the transaction ends.
    Open(T),
    /// It does not come next; nothing was begun.
    Answered(Applied),
}

/// An error of Diesel's, as code of the application's that runs statements of its own meets it.
pub type StatementError = diesel::result::Error;

/// What follows for a mutation when a statement of the application's own code failed in it.
///
/// # Errors
/// When it is no fault of the data: retryable if the mutation may be tried again.
pub fn statement_reject(error: StatementError) -> DbResult<Reject> {
    let context = "a statement of the application's";
    if is_violation(&error) {
        return Ok(violated());
    }
    let message = match &error {
        StatementError::DatabaseError(DatabaseErrorKind::SerializationFailure, info) => {
            Some(info.message())
        }
        StatementError::DatabaseError(_, info) => {
            Some(info.message()).filter(|message| message.contains("deadlock detected"))
        }
        _ => None,
    };
    let recurring = message.map(|message| DbError::Recurring {
        write: None,
        message: message.to_owned(),
    });
    Err(recurring.unwrap_or_else(|| DbError::while_doing(context, error)))
}

/// Whether the error is a violated constraint.
pub(crate) fn is_violation(error: &StatementError) -> bool {
    use DatabaseErrorKind as Kind;
    matches!(
        error,
        StatementError::DatabaseError(
            Kind::ForeignKeyViolation
                | Kind::UniqueViolation
                | Kind::NotNullViolation
                | Kind::CheckViolation
                | Kind::ExclusionViolation
                | Kind::RestrictViolation,
            _
        )
    )
}

/// The error of a mutation during which another database has taken this one's place.
pub(crate) fn replaced_meanwhile() -> DbError {
    DbError::Unreachable(
        "the database was replaced meanwhile, and the mutation may be lost".to_owned(),
    )
}

/// The error of a mutation whose transaction the application's own code has ended, or left in another one.
pub(crate) fn not_its_own_transaction() -> DbError {
    DbError::Statement {
        context: "ending a mutation",
        message: "the application's code has ended its transaction, or left another one open in it"
            .to_owned(),
    }
}

impl<T> Began<T> {
    /// The same with something made of what is open.
    pub(crate) fn map<U>(self, make: impl FnOnce(T) -> U) -> Began<U> {
        match self {
            Self::Open(open) => Began::Open(make(open)),
            Self::Answered(applied) => Began::Answered(applied),
        }
    }
}

impl Mutation {
    /// The same mutation with other writes, of which this is to be told.
    #[cfg(feature = "postgres")]
    pub(crate) fn with_writes(&self, writes: Vec<TableWrite>, merged: &Merged) -> Self {
        Self {
            client_id: self.client_id,
            user_id: self.user_id.clone(),
            place: self.place,
            writes: Ok(writes),
            merged: stored_merged(merged),
        }
    }

    /// The same mutation, rejected.
    pub(crate) fn rejected(&self, reject: Reject) -> Self {
        Self {
            client_id: self.client_id,
            user_id: self.user_id.clone(),
            place: self.place,
            writes: Err(reject),
            merged: None,
        }
    }

    /// The row that its write at this index names, for comparing it with others.
    #[cfg(feature = "postgres")]
    pub(crate) fn row(&self, write: usize) -> Option<String> {
        let write = self.writes.as_ref().ok()?.get(write)?;
        let key = write.canonical_key()?;
        Some(format!("{}\0{key}", write.entity))
    }
}

/// A client as it is stored.
#[derive(Debug, Default)]
pub struct ClientState {
    /// The number of its newest answered mutation, and the chains of its last ones.
    pub chains: KeptChains,
    /// The user whose it is; none when no user has pushed with it yet.
    pub user_id: Option<String>,
}

impl ClientState {
    /// Whether this user, or nobody, may use the client id.
    pub fn is_open_to(&self, user_id: Option<&str>) -> bool {
        self.user_id.is_none() || self.user_id.as_deref() == user_id
    }
}

/// A checked write with its table and the rows that the writer may write there.
#[derive(Debug, Clone)]
pub struct TableWrite {
    checked: CheckedWrite,
    pub(crate) table: Arc<Entity>,
    pub(crate) scope: TableScope,
    /// The tables that the sets of the scope are made of.
    pub(crate) others: EntityMap,
    /// As whom the database runs it, which then decides about it by itself; none with the engine's own rights.
    #[cfg_attr(
        not(feature = "postgres"),
        expect(dead_code, reason = "SQLite has no roles")
    )]
    pub(crate) run_as: Option<Arc<RunAs>>,
    /// What it does beside the table, when it carries out what was planned for a row that merges by its fields.
    #[cfg(feature = "postgres")]
    pub(crate) beside: Option<Box<Beside>>,
}

/// As whom PostgreSQL runs a write, so that its row level security and grants decide about it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunAs {
    /// The role. A superuser and the engine's own role are refused, and so is one that the engine's may not become.
    pub role: String,
    /// Settings by name, which must be an application's own; they are in force for the write alone.
    pub settings: BTreeMap<String, String>,
}

/// The rows of a table that a writer may write; `None` allows any row.
#[derive(Debug, Clone, Default)]
pub struct TableScope {
    /// The filter of the rows that exist for the writer; `None` for those that match `using`.
    pub visible: Option<Filter>,
    /// The filter that a row must match before it is updated or deleted; it includes `visible`.
    pub using: Option<Filter>,
    /// The filter that a row must match after it is created or updated.
    pub check: Option<Filter>,
}

impl TableWrite {
    /// A write to an entity's table; `None` when the entity has no table. The sets that the scope names are made of rows
    /// of `others`; no condition is true on one whose table is not among them, as the set was made for it.
    pub fn new(
        checked: CheckedWrite,
        table: Arc<Entity>,
        scope: TableScope,
        others: EntityMap,
    ) -> Option<Self> {
        table.relation.as_ref()?;
        Some(Self {
            checked,
            table,
            scope,
            others,
            run_as: None,
            #[cfg(feature = "postgres")]
            beside: None,
        })
    }

    /// The same write, about which PostgreSQL decides. Writes of one mutation run as the same role.
    #[must_use]
    pub fn decided_by_database(self, run_as: Arc<RunAs>) -> Self {
        Self {
            run_as: Some(run_as),
            scope: TableScope::default(),
            ..self
        }
    }

    /// The write that was planned for the row instead.
    pub(crate) fn planned(&self, op: Op, values: Vec<(usize, Box<RawValue>)>) -> Self {
        let mut write = self.clone();
        write.checked.op = op;
        write.checked.values = values;
        write.checked.filled = Vec::new();
        write
    }

    /// Whether what was planned does anything: in the table, or beside it.
    #[cfg(feature = "postgres")]
    pub(crate) fn changes(&self) -> bool {
        let beside = self.beside.as_ref();
        beside.is_none_or(|beside| beside.loses.is_none() || beside.entry.is_some())
    }

    /// What its writer asked for.
    #[cfg(feature = "postgres")]
    pub(crate) fn written_op(&self) -> Op {
        self.beside
            .as_ref()
            .map_or(self.op, |beside| beside.written)
    }

    /// The reject of a write that must find its row, where only some may write it and the row is not there: what was known of
    /// a deleted one does not say who they are.
    pub(crate) fn finds_nobodys_row(&self, known: &Known) -> Option<Reject> {
        let must_find = matches!(self.op, Op::Update | Op::Delete);
        let is_missing = must_find && known.row.is_none() && self.scope.using.is_some();
        is_missing.then(not_found)
    }

    /// Whether it sets this column of a row that it finds.
    pub(crate) fn sets(&self, column: usize) -> bool {
        !self.schema.is_key(column) && !self.filled.contains(&column)
    }

    /// The table's quoted name.
    pub(crate) fn relation(&self) -> &str {
        self.table.relation.as_deref().unwrap_or_default()
    }
}

impl std::ops::Deref for TableWrite {
    type Target = CheckedWrite;

    fn deref(&self) -> &CheckedWrite {
        &self.checked
    }
}

/// The answer to a mutation that does not come next; none when it does, because the client was seen before a
/// mutation that has come since. `first` is the answer that the number got when it was applied.
pub(crate) fn answer_again(
    kept: &KeptChains,
    place: &Place,
    first: impl FnOnce() -> DbResult<Applied>,
) -> DbResult<Option<Applied>> {
    let reject = match kept.turn(place) {
        Turn::Next(_) => return Ok(None),
        Turn::Answered => return first().map(Some),
        Turn::OutOfOrder { expected } => out_of_order(expected),
        Turn::Forked => Reject::new(
            RejectCode::Forked,
            "this number, or one before it, was used for other writes; use another client_id",
        ),
        Turn::Forgotten => Reject::new(
            RejectCode::Forgotten,
            "this number is too old to tell whether it was applied with these writes",
        ),
    };
    Ok(Some(Applied::Rejected(reject)))
}

/// A reject as it was stored.
pub(crate) fn stored_reject(text: &str) -> DbResult<Reject> {
    serde_json::from_str(text).map_err(|error| DbError::Statement {
        context: "reading a stored reject",
        message: error.to_string(),
    })
}

/// The reject of a mutation whose number is not the next.
pub(crate) fn out_of_order(expected: u64) -> Reject {
    let message = format!("the next mutation of this client is {expected}");
    Reject {
        expected: Some(expected),
        ..Reject::new(RejectCode::OutOfOrder, message)
    }
}

/// The reject of a mutation that violated a constraint, nobody knows with which write.
pub(crate) fn violated() -> Reject {
    Reject::new(
        RejectCode::Constraint,
        "a constraint or a rule of the table is violated",
    )
}

/// The reject of a mutation whose commit violated a constraint.
pub(crate) fn rejected_at_commit(mutation: &Mutation) -> Reject {
    let reject = violated();
    match &mutation.writes {
        Ok(writes) if writes.len() == 1 => reject.of_write(0),
        _ => reject,
    }
}

/// The reject of an update or a delete that found no row that matches [`TableScope::using`], as far as the writer may
/// know why.
pub(crate) fn outside_using(is_visible: bool) -> Reject {
    match is_visible {
        true => Reject::new(RejectCode::Forbidden, "this user may not write this row"),
        false => not_found(),
    }
}

/// The reject of a write whose row does not exist.
pub(crate) fn not_found() -> Reject {
    Reject::new(RejectCode::NotFound, "the row does not exist")
}

/// The reject of a write whose row does not match [`TableScope::check`] afterwards.
pub(crate) fn outside_check() -> Reject {
    Reject::new(RejectCode::Forbidden, "this user may not write such a row")
}
