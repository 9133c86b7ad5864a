//! The engine in operation: under load, beside long transactions, with connections and whole
//! servers that end, and at its beginning and its end.

mod doorbell;
mod engines;
mod leader;
mod locked;
mod migrations;
mod process;
mod reconnect;
mod retention;
mod routes;
mod shutdown;
mod tail;
mod tracker;
mod writers;
