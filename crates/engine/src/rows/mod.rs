//! Rows: which sessions subscribe to which, what each change means for them, and the reads that bring them up
//! to date.

mod batch;
mod cursor_frame;
mod hub;
mod index;
pub(crate) mod reads;
pub(crate) mod spool;

pub(crate) use batch::Batch;
pub(crate) use hub::{Hub, ShapeStatus};
pub(crate) use reads::Reader;
