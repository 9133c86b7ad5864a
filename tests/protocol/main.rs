//! Protocol version 1, tested against a running engine on each database.

mod application;
mod chain;
mod claims;
mod consistency;
mod gzip;
mod hello;
mod http;
mod identity;
mod limits;
mod owners;
mod policies;
mod polling;
mod push;
mod reads;
mod rejects;
mod resume;
mod scopes;
mod shapes;
mod slow_reader;
mod sse;
mod subscribe;
mod subscribers;
mod tables;
mod tickets;
mod tokens;
mod writes;
