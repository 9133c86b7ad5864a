//! Subscriptions to a selection of an entity: `where`, `params` and `columns`.

mod bad_selections;
mod budgets;
mod catch_up;
mod changed_keys;
mod column_types;
mod consistency;
mod database_outages;
mod dates_and_times;
mod filter_values;
mod first_reads;
mod net_changes;
mod open_transactions;
mod own_writes;
mod polling;
mod projections;
mod resume;
mod row_effects;
mod schema_changes;
mod selection_errors;
mod shape_names;
mod sse;
mod status;
mod subscribers;
mod todos;
mod type_changes;
mod upserts;
