//! Who may do what: the principal, what a policy lets it see and write, and who decides.
//!
//! Decisions are pure. A read scope becomes part of the shape when that is resolved, so that equal rights
//! share one evaluation and one serialisation. A write scope is evaluated inside the mutation's
//! transaction.

mod authorizer;
mod principal;
mod scope;

pub use authorizer::{AllowAll, Authorizer};
pub use principal::Principal;
pub use scope::{ReadScope, WriteScope};
