//! The seam at which an application decides what a principal may do.

use std::fmt;

use protocol::Op;

use super::{Principal, ReadScope, WriteScope};

/// Decides what a principal may see and write. It is called whenever a shape is resolved and before each
/// write, so it must answer from memory.
pub trait Authorizer: fmt::Debug + Send + Sync {
    /// What the principal may see of an entity.
    fn read(&self, principal: &Principal, entity: &str) -> ReadScope;

    /// Which rows of an entity the principal may write with this operation.
    fn write(&self, principal: &Principal, entity: &str, op: Op) -> WriteScope;
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
