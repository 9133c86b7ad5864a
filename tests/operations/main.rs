//! The engine in operation: under load, beside long transactions, with connections and whole servers
//! that end, at its start and its shutdown.

mod change_cost;
mod change_tracker;
mod doctor;
mod doorbell;
mod emptied;
mod engines;
mod explain_policy;
mod leader;
mod locked_tables;
mod locks;
mod metrics;
mod migrations;
mod mutations;
mod ordinary_role;
mod output;
mod pooler;
mod process;
mod reconnect;
mod retention;
mod routes;
mod shutdown;
mod statement_log;
mod supabase;
mod tail;
mod tls;
mod unreadable;
mod writers;
