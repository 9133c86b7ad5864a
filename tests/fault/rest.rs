//! Everything comes to rest, and is compared.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use sync_core::snapshot::Snapshot;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::oracle::Oracle;
use crate::pushes::Pushed;
use crate::sample::Sample;
use crate::scene::{Report, Scene};
use crate::subscriptions::Plan;

/// How long all clients may take together.
const PATIENCE: Duration = Duration::from_secs(150);

/// The counts of a run.
#[derive(Debug, Default)]
pub(crate) struct RunStats {
    pub(crate) rounds: u64,
    pub(crate) samples: usize,
    pub(crate) acked: usize,
    pub(crate) rejected: usize,
    pub(crate) connections: u64,
    pub(crate) cursors: u64,
    pub(crate) refetches: u64,
}

/// The crashes since the last rest, which took back transaction numbers.
#[derive(Debug, Default)]
pub(crate) struct Crashes {
    /// The epoch of the engine, now that everything is at rest.
    pub(crate) epoch: String,
    /// The first transaction after each crash.
    pub(crate) first_transactions: Vec<u64>,
}

impl Crashes {
    /// What is wrong with a sample: the first row's key, and the message.
    ///
    /// A sample of another epoch was taken before a crash, after which the numbers that its snapshot
    /// may have seen were assigned again; or after it, at a server that had not noticed. It must be
    /// right in one of these ways. After several crashes the numbers that it has seen are unknown.
    fn contradicted(&self, oracle: &Oracle, sample: &Sample) -> Option<(String, String)> {
        let wrong = oracle.contradicts(sample, u64::MAX)?;
        if sample.epoch.as_str().starts_with(&self.epoch) {
            return Some(wrong);
        }
        match self.first_transactions.as_slice() {
            [] => Some(wrong),
            [next] => oracle.contradicts(sample, *next),
            _ => None,
        }
    }
}

/// Waits until every client has all its answers.
pub(crate) async fn answered(
    scene: &Scene,
    reports: &mut mpsc::Receiver<Report>,
    clients: usize,
) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    let mut waiting: BTreeSet<usize> = (0..clients).collect();
    while !waiting.is_empty() {
        match timeout_at(deadline, reports.recv()).await {
            Ok(Some(Report::Answered(client))) => {
                waiting.remove(&client);
            }
            Ok(_) => scene.trace.fail("a client reports out of turn"),
            Err(_) => {
                return Err(format!(
                    "no answers for some clients\n{}",
                    scene.doing(&waiting)
                ));
            }
        }
    }
    Ok(())
}

/// Takes every client's copy, and compares it with the tables and the history.
pub(crate) async fn compare(
    scene: &Scene,
    oracle: &Oracle,
    (now, crashes): (&Snapshot, &Crashes),
    ledger: &BTreeMap<String, usize>,
    reports: &mut mpsc::Receiver<Report>,
    clients: usize,
    stats: &mut RunStats,
) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    let mut waiting: BTreeSet<usize> = (0..clients).collect();
    while !waiting.is_empty() {
        let report = match timeout_at(deadline, reports.recv()).await {
            Ok(Some(report)) => report,
            Ok(None) | Err(_) => {
                return Err(format!(
                    "some clients do not come to rest\n{}",
                    scene.doing(&waiting)
                ));
            }
        };
        let Report::Settled {
            client,
            copies,
            pushed,
            samples,
            connections,
            counts,
            transcript,
            past,
        } = report
        else {
            continue;
        };
        waiting.remove(&client);
        stats.connections += connections;
        stats.cursors += counts.cursors;
        stats.refetches += counts.refetches;
        let fail = |what: String| {
            scene
                .trace
                .fail(&format!("client {client}: {what}\n{transcript}"))
        };
        for (id, plan, rows) in &copies {
            if let Some(wrong) = differs(oracle, now, plan, rows) {
                fail(format!("at rest, {id}: {wrong}"));
            }
        }
        for mutation in &pushed {
            if let Some(wrong) = unlike(mutation, ledger) {
                fail(wrong);
            }
            let counted = if mutation.acked == Some(true) {
                &mut stats.acked
            } else {
                &mut stats.rejected
            };
            *counted += 1;
        }
        for sample in &samples {
            stats.samples += 1;
            if let Some((key, wrong)) = crashes.contradicted(oracle, sample) {
                let about = |line: &&String| {
                    line.contains(&format!("\"{key}\"")) || line.contains("truncate")
                };
                let at = sample.snapshot.to_string();
                let received = past.iter().filter(|line| about(line) || line.contains(&at));
                let received: Vec<&str> = received.map(String::as_str).collect();
                let wrong = format!(
                    "{wrong}\nwhat it received about it:\n{}",
                    received.join("\n")
                );
                fail(format!(
                    "client {} held at a cursor what never was: {wrong}",
                    sample.client
                ));
            }
        }
    }
    Ok(())
}

/// Compares a copy with the plan's rows of the table.
fn differs(
    oracle: &Oracle,
    now: &Snapshot,
    plan: &Plan,
    rows: &BTreeMap<String, Value>,
) -> Option<String> {
    let memberships = oracle.memberships(now);
    let mut held: BTreeMap<&String, &Value> = rows.iter().collect();
    for (key, row) in oracle.rows(plan.entity, now) {
        if !plan.filter.holds(row, &memberships) {
            continue;
        }
        let mut expected = row.clone();
        if let (Some(columns), Some(fields)) = (&plan.columns, expected.as_object_mut()) {
            fields.retain(|name, _| name == "id" || columns.contains(&name.as_str()));
        }
        match held.remove(key) {
            Some(found) if *found == expected => {}
            found => {
                return Some(format!(
                    "{key} of {plan:?} is {found:?} instead of {expected}"
                ));
            }
        }
    }
    let (key, row) = held.first_key_value()?;
    Some(format!(
        "{key} of {plan:?} is {row}, and should not be there"
    ))
}

/// The number of rows of each tag.
pub(crate) fn counted(tags: impl Iterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for tag in tags {
        *counts.entry(tag).or_default() += 1;
    }
    counts
}

/// An acked mutation is applied once and whole, a rejected one not at all.
fn unlike(mutation: &Pushed, ledger: &BTreeMap<String, usize>) -> Option<String> {
    let found = ledger.get(&mutation.tag).copied().unwrap_or(0);
    let expected = if mutation.acked == Some(true) {
        mutation.entries
    } else {
        0
    };
    (found != expected).then(|| format!("{mutation:?} has {found} rows instead of {expected}"))
}
