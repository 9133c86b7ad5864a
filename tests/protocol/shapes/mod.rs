//! Subscriptions to a part of an entity: `where`, `params` and `columns`.

mod altered;
mod bad_parts;
mod batches;
mod columns;
mod consistency;
mod events;
mod followers;
mod keys;
mod live;
mod names;
mod outages;
mod polling;
mod projections;
mod pulls;
mod pushes;
mod refused;
mod replaced;
mod resume;
mod retyped;
mod snapshots;
mod status;
mod times;
mod todos;
mod transactions;
mod values;
