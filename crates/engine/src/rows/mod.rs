//! Rows: which sessions subscribe to which, what each change means for them, and the reads that bring them up
//! to date.

mod audience;
mod batch;
pub(crate) mod blocking;
mod budget;
mod bulk;
mod continuations;
mod cursor_frame;
mod hub;
mod index;
pub(crate) mod pages;
mod past;
pub(crate) mod reads;
mod sets;
mod shape_reads;
pub(crate) mod spool;
mod spool_file;
mod stats;
#[cfg(test)]
mod testing;
mod turns;
mod user_shapes;
mod windows;
mod writer;

pub(crate) use audience::ShapeStats;
pub(crate) use batch::Batch;
pub(crate) use continuations::Continuations;
pub(crate) use hub::{FilterBytes, Hub, HubLimits};
pub(crate) use reads::Reader;
pub(crate) use sets::names_sets;
pub(crate) use turns::{ReadClient, ReadLimits};
