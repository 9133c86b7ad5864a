//! The authorizer of an application, but for the entities whose own policies decide.

use std::sync::Arc;

use filter::Table;
use protocol::Op;
use sync_core::policy::{Authorizer, PolicyError, Principal, ReadScope, WriteScope};

use super::RowLevel;

/// Decides by row level security where an entity's policies do, and as another authorizer elsewhere.
#[derive(Debug)]
pub(crate) struct Guarded {
    row_level: Arc<RowLevel>,
    rest: Arc<dyn Authorizer>,
}

impl Guarded {
    pub(crate) fn new(row_level: Arc<RowLevel>, rest: Arc<dyn Authorizer>) -> Self {
        Self { row_level, rest }
    }
}

impl Authorizer for Guarded {
    fn read(&self, principal: &Principal, entity: &str) -> ReadScope {
        match self.row_level.decides(entity) {
            true => self.row_level.read(principal, entity),
            false => self.rest.read(principal, entity),
        }
    }

    fn write(&self, principal: &Principal, entity: &str, op: Op) -> WriteScope {
        match self.row_level.decides(entity) {
            true => self.row_level.write(principal, entity),
            false => self.rest.write(principal, entity, op),
        }
    }

    fn is_closed(&self, entity: &str) -> bool {
        !self.row_level.decides(entity) && self.rest.is_closed(entity)
    }

    fn check(&self, entity: &str, table: Table<'_>) -> Result<(), PolicyError> {
        match self.row_level.decides(entity) {
            true => Ok(()),
            false => self.rest.check(entity, table),
        }
    }

    fn doubts(&self) -> Vec<String> {
        self.rest.doubts()
    }

    fn entities(&self) -> Vec<String> {
        self.rest.entities()
    }
}
