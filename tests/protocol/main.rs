//! Protocol version 1, held against a running engine on each database.

mod consistency;
mod events;
mod followers;
mod gzip;
mod hello;
mod http;
mod limits;
mod polling;
mod push;
mod rejects;
mod resume;
mod scopes;
mod shapes;
mod slow_reader;
mod subscribe;
mod tables;
mod writes;
