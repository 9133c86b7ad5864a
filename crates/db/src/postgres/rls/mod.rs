//! Row level security: its policies, read from the catalog, and what they depend on, asked as the role with its claims.
//!
//! Nothing here opens a transaction of its own but [`PolicyReader`]: the questions are asked at the snapshot of the
//! transaction that the caller has open.

mod ask;
mod catalog;
pub(super) mod group;
mod many;
mod reader;
mod watch;

pub use ask::{Asked, Failure};
pub use reader::PolicyReader;
pub use watch::CatalogVersion;
