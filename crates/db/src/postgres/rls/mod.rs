//! Row level security: its policies, read from the catalog, and what they depend on, asked as the role with its claims.
//!
//! Nothing here opens a transaction: the questions are asked at the snapshot of the one that the caller has open.

pub(super) mod ask;
pub(super) mod catalog;
pub(super) mod group;
mod many;
pub(super) mod reply;
pub(super) mod settings;
pub(super) mod visible;
pub(super) mod watch;

pub use reply::{Asked, Failure};
pub use watch::CatalogVersion;
