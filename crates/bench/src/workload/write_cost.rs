//! The cost of capture for writers.
//!
//! Four databases of one cluster have the same table: bare; captured, with a server and a subscriber; captured,
//! with the server down; and with the row trigger that people write by hand, with a connection that listens.
//! They take turns, so that a slow moment of the machine affects all of them.

use std::time::Instant;

use anyhow::Result;

use super::{ITEMS, whole_table};
use crate::load::Group;
use crate::node::TRIGGER;
use crate::pgbench;
use crate::report::{Bar, Figure, Findings};
use crate::server::Engine;
use crate::stage::{self, Database, PATIENCE, Stage};

const CLIENTS: u32 = 8;
const ROWS: usize = 10_000;
const BULK_REPEATS: usize = 3;

const UPDATE: &str = "\\set id random(1, 10000)\n\\set list random(1, 1000000)\n\
    UPDATE items SET list_id = :list WHERE id = :id;\n";
const BULK_UPDATE: &str = "UPDATE items SET list_id = list_id + 1 WHERE id <= 10000";

fn insert() -> String {
    format!("INSERT INTO items (body) VALUES ('{:.<100}');\n", "")
}

/// One database for each kind of capture.
struct Tables {
    bare: Database,
    attached: Database,
    down: Database,
    notify: Database,
    _engine: Engine,
    _subscriber: Group,
    _listener: tokio_postgres::Client,
}

/// A value for each of the databases.
#[derive(Debug, Clone, Copy)]
struct Turn {
    bare: f64,
    attached: f64,
    down: f64,
    notify: f64,
}

pub(super) async fn run(stage: &Stage) -> Result<Findings> {
    let tables = Tables::make(stage).await?;
    // Warm up: the first run of each has cold files and catalogs.
    tables.commits(stage, &insert(), 1.0).await?;
    let (mut inserts, mut updates, mut bulk) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..stage.rounds {
        inserts.push(tables.commits(stage, &insert(), 3.0).await?);
        updates.push(tables.commits(stage, UPDATE, 2.0).await?);
        bulk.push(tables.bulk_milliseconds().await?);
    }
    let mut figures = Vec::new();
    one_row("one-row INSERT", &inserts, true, &mut figures);
    one_row("one-row UPDATE", &updates, false, &mut figures);
    let bare: Vec<f64> = bulk.iter().map(|turn| turn.bare).collect();
    let with = |name: &str, value: fn(&Turn) -> f64| {
        let values = bulk.iter().map(value).collect();
        Figure::new(name, "ms", values).beside("bare", bare.clone())
    };
    figures.push(
        with("UPDATE of 10,000 rows, server attached", |turn| {
            turn.attached
        })
        .bar(Bar::RatioAtMost(2.5)),
    );
    figures.push(with("UPDATE of 10,000 rows, notify trigger", |turn| {
        turn.notify
    }));
    Ok(Findings {
        figures,
        plots: Vec::new(),
    })
}

/// Adds the figures of one kind of write; only inserts have bars.
fn one_row(what: &str, turns: &[Turn], barred: bool, figures: &mut Vec<Figure>) {
    let values = |value: fn(&Turn) -> f64| -> Vec<f64> { turns.iter().map(value).collect() };
    let bare = values(|turn| turn.bare);
    let bar = |bar: Bar| if barred { bar } else { Bar::None };
    let figure = |name: &str, value| Figure::new(format!("{what}, {name}"), "/s", values(value));
    figures.extend([
        figure("server attached", |turn| turn.attached)
            .beside("bare", bare.clone())
            .bar(bar(Bar::RatioAtLeast(0.70))),
        figure("server attached", |turn| turn.attached)
            .beside("notify", values(|turn| turn.notify))
            .bar(bar(Bar::RatioAtLeast(2.2))),
        figure("server down", |turn| turn.down)
            .beside("bare", bare.clone())
            .bar(bar(Bar::RatioAtLeast(0.80))),
        figure("notify trigger", |turn| turn.notify).beside("bare", bare),
    ]);
}

impl Tables {
    async fn make(stage: &Stage) -> Result<Self> {
        let sql = format!("{};{}", stage::ITEMS, stage::fill(ROWS));
        let [bare, attached, down, notify] = [
            stage.database(&sql).await?,
            stage.database(&sql).await?,
            stage.database(&sql).await?,
            stage.database(&sql).await?,
        ];
        Engine::start(&down.url, &[ITEMS]).await.stop().await;
        notify.execute(TRIGGER).await?;
        let listener = notify.connect().await?;
        listener.batch_execute("LISTEN items").await?;
        let engine = Engine::start(&attached.url, &[ITEMS]).await;
        let subscriber = stage.receivers.group(&engine.address(), 1, whole_table);
        subscriber.live(PATIENCE).await?;
        Ok(Self {
            bare,
            attached,
            down,
            notify,
            _engine: engine,
            _subscriber: subscriber,
            _listener: listener,
        })
    }

    async fn commits(&self, stage: &Stage, script: &str, seconds: f64) -> Result<Turn> {
        let run = async |database: &Database| {
            let time = stage.seconds(seconds);
            pgbench::commits_per_second(stage, database, script, CLIENTS, time).await
        };
        Ok(Turn {
            bare: run(&self.bare).await?,
            attached: run(&self.attached).await?,
            down: run(&self.down).await?,
            notify: run(&self.notify).await?,
        })
    }

    /// The median of a few statements, because a single one may hit a slow moment of the disk.
    async fn bulk_milliseconds(&self) -> Result<Turn> {
        let mut turns = Vec::new();
        for _ in 0..BULK_REPEATS {
            turns.push(Turn {
                bare: bulk(&self.bare).await?,
                attached: bulk(&self.attached).await?,
                down: bulk(&self.down).await?,
                notify: bulk(&self.notify).await?,
            });
        }
        let middle = |value: fn(&Turn) -> f64| {
            let mut values: Vec<f64> = turns.iter().map(value).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        Ok(Turn {
            bare: middle(|turn| turn.bare),
            attached: middle(|turn| turn.attached),
            down: middle(|turn| turn.down),
            notify: middle(|turn| turn.notify),
        })
    }
}

async fn bulk(database: &Database) -> Result<f64> {
    let client = database.connect().await?;
    let began = Instant::now();
    client.batch_execute(BULK_UPDATE).await?;
    Ok(began.elapsed().as_secs_f64() * 1e3)
}
