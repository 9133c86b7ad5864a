//! What a mutation is in SQL: its statements, the call that runs several of them, and why one failed.

pub(super) mod call;
pub(super) mod explain;
pub(super) mod fields;
mod literal;
mod scope;
pub(super) mod statement;
