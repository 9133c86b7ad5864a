//! The seam at which an application decides what a principal may do.

use std::fmt;

use filter::Table;
use protocol::Op;

use super::error::PolicyError;
use super::principal::Principal;
use super::scope::{ReadScope, WriteScope};

/// Decides what a principal may see and write. It is called whenever a shape is resolved and before each
/// write, so it must answer from memory.
pub trait Authorizer: fmt::Debug + Send + Sync {
    /// What the principal may see of an entity.
    fn read(&self, principal: &Principal, entity: &str) -> ReadScope;

    /// Which rows of an entity the principal may write with this operation.
    fn write(&self, principal: &Principal, entity: &str, op: Op) -> WriteScope;

    /// Whether nobody may do anything with an entity. For clients it does not exist then.
    fn is_closed(&self, entity: &str) -> bool {
        let _ = entity;
        false
    }

    /// Checks what it would answer against an entity's table, when the engine starts and when the table changes. Other
    /// tables, for subqueries, are among the table's `others`.
    ///
    /// # Errors
    /// What cannot be evaluated exactly. At the start it ends the start; later, clients get nothing by it.
    fn check(&self, entity: &str, table: Table<'_>) -> Result<(), PolicyError> {
        let _ = (entity, table);
        Ok(())
    }

    /// What is doubtful about what it answers, in sentences for the operator, who is told at the start.
    fn doubts(&self) -> Vec<String> {
        Vec::new()
    }

    /// The entities that it has policies for; one that is not configured ends the start.
    fn entities(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Allows everything to everybody.
#[derive(Debug, Clone, Copy, Default)]
pub struct AllowAll;

impl Authorizer for AllowAll {
    fn read(&self, _principal: &Principal, _entity: &str) -> ReadScope {
        ReadScope::Everything
    }

    fn write(&self, _principal: &Principal, _entity: &str, _op: Op) -> WriteScope {
        WriteScope::everything()
    }
}
