//! The settings of the database sessions in which the log is read.

use crate::postgres::store::SEARCH_PATH;

/// The settings under which L drains. Those of the planner, because left alone it scans tables and the log; the time
/// zone and output formats, because rows are turned into JSON here; no time-out but the one for locked tables.
const SETTINGS_OF_DRAINS: [&str; 16] = [
    SEARCH_PATH,
    "statement_timeout = 0",
    "idle_in_transaction_session_timeout = 0",
    "lock_timeout = '500ms'",
    "\"TimeZone\" = 'UTC'",
    "datestyle = 'ISO, MDY'",
    "intervalstyle = 'postgres'",
    "bytea_output = 'hex'",
    "extra_float_digits = 1",
    "standard_conforming_strings = on",
    "jit = off",
    "max_parallel_workers_per_gather = 0",
    "plan_cache_mode = force_generic_plan",
    "enable_seqscan = off",
    "enable_hashjoin = off",
    "enable_mergejoin = off",
];
/// Sets them, for the session or for a transaction.
pub(super) fn settings_of_drains(set: &str) -> String {
    SETTINGS_OF_DRAINS
        .map(|setting| format!("{set} {setting}"))
        .join("; ")
}
