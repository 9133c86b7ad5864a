//! What is asked at the snapshot of a read of the log is answered at that snapshot.

mod drains;
mod listening;
mod reads;
