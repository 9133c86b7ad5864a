//! How fast pushes are taken in whose rows merge by their fields, beside pushes of rows that are replaced whole.

use anyhow::Result;

use super::ingest::{PUSHERS, pushed_by};
use super::{FIELDS, ITEMS, column};
use crate::load::{EDITED_ROWS, Writes};
use crate::report::{Bar, Figure, Findings};
use crate::server::Engine;
use crate::stage::{self, Stage};

/// Acks a second, and milliseconds from a push to its ack that one in a hundred exceeds.
#[derive(Debug, Clone, Copy)]
struct Pace {
    acks: f64,
    p99_ms: f64,
}

/// One kind of write, as rows and as fields.
#[derive(Debug, Clone, Copy)]
struct Turn {
    rows: Pace,
    fields: Pace,
}

pub(super) async fn run(stage: &Stage) -> Result<Findings> {
    let databases = [
        stage.database(stage::ITEMS).await?,
        stage.database(stage::ITEMS).await?,
    ];
    let engines = [
        Engine::start(&databases[0].url, &[ITEMS]).await,
        Engine::start_configured(&databases[1].url, FIELDS, &[]).await?,
    ];
    let mut figures = Vec::new();
    for (name, edits) in [("creates", false), ("edits", true)] {
        let mut turns = Vec::new();
        for round in 0..stage.rounds {
            for database in &databases {
                let rows = if edits {
                    PUSHERS as usize * EDITED_ROWS as usize
                } else {
                    0
                };
                let sql = format!("TRUNCATE items RESTART IDENTITY; {}", stage::fill(rows));
                database.execute(&sql).await?;
            }
            turns.push(turn(stage, &engines, round, edits).await?);
        }
        figures.extend([
            Figure::new(
                format!("{name} from {PUSHERS} clients, fields"),
                "acks/s",
                column(&turns, |turn| turn.fields.acks),
            )
            .beside("rows", column(&turns, |turn| turn.rows.acks))
            .bar(Bar::RatioAtLeast(0.7)),
            Figure::new(
                format!("{name}, from a push to its ack, p99"),
                "ms",
                column(&turns, |turn| turn.fields.p99_ms),
            )
            .beside("rows", column(&turns, |turn| turn.rows.p99_ms)),
        ]);
    }
    Ok(Findings {
        figures,
        plots: Vec::new(),
    })
}

async fn turn(stage: &Stage, engines: &[Engine; 2], round: u32, edits: bool) -> Result<Turn> {
    // Every round has clients of its own, and rows that they create.
    let first = (u64::from(round) * 2 + u64::from(edits) + 1) * 1_000;
    let paced = async |engine: &Engine, stamped| {
        let writes = Writes { edits, stamped };
        let (acks, p99_ms) = pushed_by(stage, engine, first, writes, &[]).await?;
        anyhow::Ok(Pace { acks, p99_ms })
    };
    Ok(Turn {
        rows: paced(&engines[0], false).await?,
        fields: paced(&engines[1], true).await?,
    })
}
