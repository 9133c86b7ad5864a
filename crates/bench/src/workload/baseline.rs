//! What people write by hand, a Node server with LISTEN and a trigger that sends the row by NOTIFY, under the
//! same load as the engine.

use anyhow::Result;

use super::{ITEMS, Throughput, column, full_speed, latency_at, whole_table};
use crate::load::{Group, Histogram, Speaks};
use crate::node::{NodeServer, TRIGGER};
use crate::process::Process;
use crate::report::{Figure, Findings};
use crate::server::Engine;
use crate::stage::{self, Database, PATIENCE, Stage};
use crate::writers::Commit;

const FEW: usize = 100;
const MANY: usize = 1_000;
const NODE: &str = "Node";

/// The results of one server in one round.
struct Turn {
    calm: Histogram,
    busy: Histogram,
    full: Throughput,
    at_rest_mib: f64,
}

pub(super) async fn run(stage: &Stage) -> Result<Findings> {
    NodeServer::install()?;
    let (mut engine, mut node) = (Vec::new(), Vec::new());
    for _ in 0..stage.rounds {
        engine.push(engine_turn(stage).await?);
        node.push(node_turn(stage).await?);
    }
    let figure = |name: &str, unit, value: fn(&Turn) -> f64| {
        Figure::new(name, unit, column(&engine, value)).beside(NODE, column(&node, value))
    };
    let figures = vec![
        figure("100 subscribers, 10/s: p50", "ms", |turn| {
            turn.calm.quantile_ms(0.5)
        }),
        figure("100 subscribers, 10/s: p99", "ms", |turn| {
            turn.calm.quantile_ms(0.99)
        }),
        figure("1,000 subscribers, 200/s: p50", "ms", |turn| {
            turn.busy.quantile_ms(0.5)
        }),
        figure("1,000 subscribers, 200/s: p99", "ms", |turn| {
            turn.busy.quantile_ms(0.99)
        }),
        figure("1,000 subscribers, full speed: deliveries", "/s", |turn| {
            turn.full.deliveries_per_second
        }),
        figure(
            "1,000 subscribers, full speed: CPU per million",
            "s",
            |turn| turn.full.cpu_seconds_per_million,
        ),
        figure("the server at rest", "MiB", |turn| turn.at_rest_mib),
    ];
    Ok(Findings {
        figures,
        plots: Vec::new(),
    })
}

async fn engine_turn(stage: &Stage) -> Result<Turn> {
    let database = stage.database(stage::ITEMS).await?;
    let engine = Engine::start(&database.url, &[ITEMS]).await;
    let (address, process) = (engine.address(), engine.process());
    let gather = |subscribers| stage.receivers.group(&address, subscribers, whole_table);
    turn(stage, &database, process, gather).await
}

async fn node_turn(stage: &Stage) -> Result<Turn> {
    let database = stage
        .database(&format!("{};{TRIGGER}", stage::ITEMS))
        .await?;
    let node = NodeServer::start(&database.url)?;
    let (address, process) = (node.address(), node.process());
    let gather = |subscribers| {
        stage
            .receivers
            .group(&address, subscribers, |_| Speaks::Handshake)
    };
    turn(stage, &database, process, gather).await
}

async fn turn(
    stage: &Stage,
    database: &Database,
    server: Process,
    gather: impl Fn(usize) -> Group,
) -> Result<Turn> {
    let at_rest_mib = server.resident_kib()? / 1024.0;
    let few = gather(FEW);
    few.live(PATIENCE).await?;
    latency_at(database, &few, Commit::Insert(1), 200.0, stage.seconds(1.0)).await?;
    let (calm, _) = latency_at(database, &few, Commit::Insert(1), 10.0, stage.seconds(5.0)).await?;
    drop(few);
    let many = gather(stage.size(MANY));
    many.live(PATIENCE).await?;
    let (busy, _) = latency_at(
        database,
        &many,
        Commit::Insert(1),
        200.0,
        stage.seconds(3.0),
    )
    .await?;
    let time = stage.seconds(1.5);
    let full = full_speed(database, &many, server, (1, Commit::Insert(1)), time).await?;
    Ok(Turn {
        calm,
        busy,
        full,
        at_rest_mib,
    })
}
