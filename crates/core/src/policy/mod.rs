//! Who may do what: the principal, what it may see and write, and the authorizer that decides.
//!
//! Decisions are pure. A read scope becomes part of the shape when the shape is resolved, so that sessions
//! with equal rights share one evaluation and one serialisation. A write scope is evaluated inside the
//! mutation's transaction. [`Policies`] decide by what is configured; an application may decide by itself.

mod authorizer;
mod config;
mod error;
mod internal;
mod lifetime;
mod matching;
mod policies;
mod principal;
mod scope;

pub use authorizer::{AllowAll, Authorizer};
pub use config::{ColumnAccess, ColumnPolicy, EntityPolicy, UpdatePolicy};
pub use error::PolicyError;
pub use internal::Internal;
pub use lifetime::Lifetime;
pub use matching::PrincipalMatch;
pub use policies::Policies;
pub use principal::Principal;
pub use scope::{ReadScope, RowScope, WriteColumns, WriteScope};
