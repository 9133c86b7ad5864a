//! Properties of the merge over random histories: several replicas, deletions and re-creations of one row, clocks that are
//! equal, ahead and behind, and every delivery in another order, with duplicates.

extern crate rhtmx_sync_merge as merge;

mod changesets;
mod clocks;
mod conflicts;
mod convergence;
mod folding;
mod laws;
mod types;
mod world;
