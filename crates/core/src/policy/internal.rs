//! Entities that only policies read.

use std::collections::BTreeSet;
use std::sync::Arc;

use filter::Table;
use protocol::Op;

use super::authorizer::Authorizer;
use super::error::PolicyError;
use super::principal::Principal;
use super::scope::{ReadScope, WriteScope};

/// An authorizer for which some entities are closed, whatever another one says of them. It decides about the rest.
#[derive(Debug)]
pub struct Internal {
    entities: BTreeSet<String>,
    rest: Arc<dyn Authorizer>,
}

impl Internal {
    /// Closes these entities.
    pub fn new(entities: BTreeSet<String>, rest: Arc<dyn Authorizer>) -> Self {
        Self { entities, rest }
    }
}

impl Authorizer for Internal {
    fn read(&self, principal: &Principal, entity: &str) -> ReadScope {
        if self.entities.contains(entity) {
            return ReadScope::Nothing;
        }
        self.rest.read(principal, entity)
    }

    fn write(&self, principal: &Principal, entity: &str, op: Op) -> WriteScope {
        if self.entities.contains(entity) {
            return WriteScope::nothing();
        }
        self.rest.write(principal, entity, op)
    }

    fn is_closed(&self, entity: &str) -> bool {
        self.entities.contains(entity) || self.rest.is_closed(entity)
    }

    fn check(&self, entity: &str, table: Table<'_>) -> Result<(), PolicyError> {
        self.rest.check(entity, table)
    }

    fn doubts(&self) -> Vec<String> {
        self.rest.doubts()
    }

    fn entities(&self) -> Vec<String> {
        self.rest.entities()
    }
}
