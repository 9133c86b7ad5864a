//! Checks of the log, and of what keeps it from being pruned.

use super::facts::{Facts, LogFacts, Setup};
use super::{Check, Findings, Remedy, duration};

/// A transaction that has been open for longer is reported, in seconds. Vacuum removes nothing that it may still see.
const OLD_S: f64 = 600.0;
/// How many intervals of retention may pass without a checkpoint.
const INTERVALS_MAX: f64 = 20.0;

pub(super) fn examine(findings: &mut Findings<'_>, facts: &Facts, setup: &Setup) {
    match &facts.log {
        None if facts.role.log_schema.is_some() => {}
        None => findings.ok(
            Check::Log,
            "there is none before the first start of a server",
        ),
        Some(log) => examine_log(findings, log, facts, setup),
    }
    transactions(findings, facts);
}

fn examine_log(findings: &mut Findings<'_>, log: &LogFacts, facts: &Facts, setup: &Setup) {
    let before = findings.found.len();
    let size = megabytes(log.bytes);
    // Its space is reused and rarely given back.
    if log.bytes > setup.log_bytes_max.saturating_mul(2) {
        findings.warning(
            Check::Log,
            format!(
                "the log takes {size}, and retention.size_max_mb is {}",
                setup.log_bytes_max / 1_048_576
            ),
            Remedy::advice(
                "see that a server runs, which prunes it, and that no old transaction keeps vacuum from it",
            ),
        );
    }
    let interval_s = setup.retention_interval_ms as f64 / 1000.0;
    if let Some(age) = log
        .checkpoint_s
        .filter(|age| *age > interval_s * INTERVALS_MAX)
    {
        findings.warning(
            Check::Log,
            format!(
                "no server has pruned the log for {}, and it grows",
                duration(age)
            ),
            Remedy::advice("start a server, or run `rhtmx-sync uncapture` if none will come back"),
        );
    }
    if log.is_vacuumed_never {
        let schema = facts.role.log_schema.as_deref().unwrap_or_default();
        let remedy = if log.is_vacuumed_never_here {
            Remedy::sql(
                "its owner",
                format!("ALTER TABLE {schema}._rhtmx_sync_log RESET (autovacuum_enabled)"),
            )
        } else {
            Remedy::sql(
                "a superuser",
                "ALTER SYSTEM SET autovacuum = on; SELECT pg_reload_conf()",
            )
        };
        findings.error(
            Check::Log,
            "autovacuum is off for the log, so that its space is never used again",
            remedy,
        );
    }
    if findings.found.len() == before {
        let back = log.reaches_back_s.map_or_else(
            || "has no checkpoint yet".to_owned(),
            |age| format!("reaches back {}", duration(age)),
        );
        findings.ok(
            Check::Log,
            format!("it takes {size} and {back}, of {} h", setup.retention_hours),
        );
    }
}

fn transactions(findings: &mut Findings<'_>, facts: &Facts) {
    let oldest = facts
        .transactions
        .iter()
        .max_by(|a, b| a.age_s.total_cmp(&b.age_s));
    match oldest {
        Some(oldest) if oldest.age_s > OLD_S => {
            let (whose, end) = match (&oldest.gid, oldest.pid) {
                (Some(gid), _) => (
                    format!("the prepared transaction '{gid}'"),
                    format!("ROLLBACK PREPARED '{}'", gid.replace('\'', "''")),
                ),
                (None, pid) => {
                    let pid = pid.unwrap_or_default();
                    (
                        format!("a transaction of session {pid}"),
                        format!("SELECT pg_terminate_backend({pid})"),
                    )
                }
            };
            let role = oldest.role.as_deref().unwrap_or("an unknown role");
            let program = match oldest.program.as_deref() {
                Some(program) if !program.is_empty() => format!(", {program}"),
                _ => String::new(),
            };
            findings.warning(
                Check::Transactions,
                format!(
                    "{whose} ({role}{program}) has been open for {}: vacuum removes nothing since, and its changes come \
                     when it ends",
                    duration(oldest.age_s)
                ),
                Remedy::sql(format!("{role} or a superuser, if it is not wanted"), end),
            );
        }
        _ if !facts.role.sees_sessions => findings.warning(
            Check::Transactions,
            format!(
                "{} does not see how long transactions of other roles are open",
                facts.role.name
            ),
            Remedy::sql(
                "a superuser",
                format!("GRANT pg_read_all_stats TO {}", facts.role.name),
            ),
        ),
        oldest => {
            let text = oldest.map_or_else(
                || "none is open".to_owned(),
                |oldest| format!("the oldest has been open for {}", duration(oldest.age_s)),
            );
            findings.ok(Check::Transactions, text);
        }
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1_048_576.0)
}
