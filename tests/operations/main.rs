//! The engine in operation: under load, beside long transactions, with connections and whole
//! servers that end, and at its beginning and its end.

mod audience;
mod doorbell;
mod engines;
mod leader;
mod locked;
mod measures;
mod migrations;
mod process;
mod reconnect;
mod retention;
mod routes;
mod shutdown;
mod tail;
mod tracker;
mod writers;
