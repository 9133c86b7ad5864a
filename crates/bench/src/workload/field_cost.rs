//! What it costs writers that their rows merge by their fields, beside what row capture costs them.
//!
//! Three databases of one cluster have the same table: bare; captured; and captured with its fields. The captured ones have
//! a server and a subscriber each. They take turns.

use std::time::Instant;

use anyhow::{Result, ensure};

use super::{FIELDS, ITEMS, whole_table};
use crate::load::Group;
use crate::pgbench;
use crate::report::{Bar, Figure, Findings};
use crate::server::Engine;
use crate::stage::{self, Database, PATIENCE, Stage};

const CLIENTS: u32 = 8;
const ROWS: usize = 10_000;
const BULK_REPEATS: usize = 5;
/// More rows than the clients can delete in the time.
const DOOMED: usize = 60_000;

const UPDATE: &str = "\\set id random(1, 10000)\n\\set list random(1, 1000000)\n\
    UPDATE items SET list_id = :list WHERE id = :id;\n";
const DELETE: &str = "DELETE FROM items WHERE id = (SELECT nextval('doomed'));\n";
const BULK_UPDATE: &str = "UPDATE items SET list_id = list_id + 1 WHERE id <= 10000";

/// The databases.
struct Tables {
    bare: Database,
    rows: Database,
    fields: Database,
    _engines: [Engine; 2],
    _subscribers: [Group; 2],
}

/// A value for each of the databases.
#[derive(Debug, Clone, Copy)]
struct Turn {
    bare: f64,
    rows: f64,
    fields: f64,
}

impl Turn {
    fn map(self, of: impl Fn(f64) -> f64) -> Self {
        Self {
            bare: of(self.bare),
            rows: of(self.rows),
            fields: of(self.fields),
        }
    }
}

pub(super) async fn run(stage: &Stage) -> Result<Findings> {
    let tables = Tables::make(stage).await?;
    let insert = format!("INSERT INTO items (body) VALUES ('{:.<100}');\n", "");
    // Warm up: the first run of each has cold files and catalogs.
    tables.microseconds(stage, &insert, 1.0).await?;
    tables.bulk_milliseconds().await?;
    let mut turns = [const { Vec::new() }; 4];
    for _ in 0..stage.rounds {
        turns[0].push(tables.microseconds(stage, &insert, 3.0).await?);
        turns[1].push(tables.microseconds(stage, UPDATE, 3.0).await?);
        turns[2].push(tables.deletes(stage).await?);
        turns[3].push(tables.bulk_milliseconds().await?);
    }
    let [inserts, updates, deletes, bulk] = &turns;
    let mut figures = vec![
        added("one-row INSERT", "µs", inserts).bar(Bar::RatioAtMost(1.5)),
        added("one-row UPDATE", "µs", updates).bar(Bar::RatioAtMost(1.5)),
        added("one-row DELETE", "µs", deletes).bar(Bar::RatioAtMost(1.5)),
        added("UPDATE of 10,000 rows", "ms", bulk),
    ];
    let values = |value: fn(&Turn) -> f64| bulk.iter().map(value).collect::<Vec<f64>>();
    let bare = values(|turn| turn.bare);
    let with = |name: &str, values| Figure::new(name, "ms", values).beside("bare", bare.clone());
    figures.extend([
        with("UPDATE of 10,000 rows, fields", values(|turn| turn.fields))
            .bar(Bar::RatioAtMost(3.5)),
        with("UPDATE of 10,000 rows, rows", values(|turn| turn.rows)),
    ]);
    Ok(Findings {
        figures,
        plots: Vec::new(),
    })
}

/// What each kind of capture adds to a write.
fn added(what: &str, unit: &'static str, turns: &[Turn]) -> Figure {
    let over = |value: fn(&Turn) -> f64| turns.iter().map(|turn| value(turn) - turn.bare).collect();
    let bare: Vec<f64> = turns.iter().map(|turn| turn.bare).collect();
    let bare = Figure::new("", "", bare).median();
    Figure::new(
        format!("{what}, what fields add"),
        unit,
        over(|turn| turn.fields),
    )
    .beside("rows", over(|turn| turn.rows))
    .note(format!("to {bare:.0} {unit}"))
}

impl Tables {
    async fn make(stage: &Stage) -> Result<Self> {
        let sql = format!(
            "{};{}CREATE SEQUENCE doomed",
            stage::ITEMS,
            stage::fill(ROWS)
        );
        let [bare, rows, fields] = [
            stage.database(&sql).await?,
            stage.database(&sql).await?,
            stage.database(&sql).await?,
        ];
        let engines = [
            Engine::start(&rows.url, &[ITEMS]).await,
            Engine::start_configured(&fields.url, FIELDS, &[]).await?,
        ];
        let subscribe = |engine: &Engine| stage.receivers.group(&engine.address(), 1, whole_table);
        let subscribers = [subscribe(&engines[0]), subscribe(&engines[1])];
        for subscriber in &subscribers {
            subscriber.live(PATIENCE).await?;
        }
        Ok(Self {
            bare,
            rows,
            fields,
            _engines: engines,
            _subscribers: subscribers,
        })
    }

    /// How long a statement takes, as the clients see it.
    async fn microseconds(&self, stage: &Stage, script: &str, seconds: f64) -> Result<Turn> {
        let run = async |database: &Database| {
            let time = stage.seconds(seconds);
            pgbench::commits_per_second(stage, database, script, CLIENTS, time).await
        };
        let turn = Turn {
            bare: run(&self.bare).await?,
            rows: run(&self.rows).await?,
            fields: run(&self.fields).await?,
        };
        Ok(turn.map(|commits| f64::from(CLIENTS) * 1e6 / commits))
    }

    async fn deletes(&self, stage: &Stage) -> Result<Turn> {
        for database in [&self.bare, &self.rows, &self.fields] {
            let doomed = format!(
                "DELETE FROM items WHERE id > {ROWS}; \
                 SELECT setval('doomed', nextval(pg_get_serial_sequence('items', 'id'))); \
                 INSERT INTO items (body) SELECT '' FROM generate_series(1, {DOOMED})"
            );
            database.execute(&doomed).await?;
        }
        let turn = self.microseconds(stage, DELETE, 2.0).await?;
        for database in [&self.bare, &self.rows, &self.fields] {
            let left = database.connect().await?;
            let left = left.query_one("SELECT count(*) FROM items", &[]).await?;
            ensure!(
                left.get::<_, i64>(0) > ROWS as i64,
                "there were too few rows to delete"
            );
        }
        Ok(turn)
    }

    /// The median of a few statements, because a single one may hit a slow moment of the disk.
    async fn bulk_milliseconds(&self) -> Result<Turn> {
        let mut turns = Vec::new();
        for _ in 0..BULK_REPEATS {
            turns.push(Turn {
                bare: bulk(&self.bare).await?,
                rows: bulk(&self.rows).await?,
                fields: bulk(&self.fields).await?,
            });
        }
        let median = |value: fn(&Turn) -> f64| {
            Figure::new("", "", turns.iter().map(value).collect()).median()
        };
        Ok(Turn {
            bare: median(|turn| turn.bare),
            rows: median(|turn| turn.rows),
            fields: median(|turn| turn.fields),
        })
    }
}

async fn bulk(database: &Database) -> Result<f64> {
    let client = database.connect().await?;
    let began = Instant::now();
    client.batch_execute(BULK_UPDATE).await?;
    Ok(began.elapsed().as_secs_f64() * 1e3)
}
