//! Sets of other tables' rows: what a read of the log asks about them is answered at its snapshot, and what a writer may
//! write follows from them.

mod at_drains;
mod backfills;
mod drains;
mod listening;
mod reads;
mod writes;
