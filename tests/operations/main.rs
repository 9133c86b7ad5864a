//! The engine in operation: under load, beside long transactions, with connections and whole
//! servers that end, and at its beginning and its end.

mod doorbell;
mod engines;
mod leader;
mod locked;
mod writers;
