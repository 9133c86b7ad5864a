//! One change to a thousand subscribers, writers at full speed, beside a server that knows
//! nothing and writes the same bytes to as many sockets.

use anyhow::Result;

use super::{Began, ITEMS, Throughput, column, full_speed, throughput, whole_table};
use crate::bare::BareServer;
use crate::load::{Recording, Speaks};
use crate::plot::{Line, Plot};
use crate::report::{Bar, Figure, Findings};
use crate::server::Engine;
use crate::stage::{self, PATIENCE, Stage};
use crate::writers::Commit;

const SUBSCRIBERS: usize = 1_000;
/// Only for the plot, and only once.
const SMALLER: [usize; 2] = [10, 100];
/// Enough that the server, not the writer, is what holds things up.
const WRITERS: u32 = 4;
const ROWS_A_COMMIT: [i32; 2] = [1, 10];

/// Engine and bare server with the same bytes.
struct Pair {
    engine: Throughput,
    bare: Throughput,
}

pub(super) async fn run(stage: &Stage) -> Result<Findings> {
    let mut figures = Vec::new();
    let mut lines: Vec<Line> = ["engine", "bare server"]
        .map(|name| Line {
            name: name.to_owned(),
            points: Vec::new(),
        })
        .into();
    for rows in ROWS_A_COMMIT {
        let mut pairs = Vec::new();
        for _ in 0..stage.rounds {
            pairs.push(pair(stage, stage.size(SUBSCRIBERS), rows).await?);
        }
        describe(rows, &pairs, &mut figures);
        if rows == 1 {
            for subscribers in SMALLER {
                let pair = pair(stage, subscribers, rows).await?;
                point(&mut lines, subscribers, &pair);
            }
            point(&mut lines, stage.size(SUBSCRIBERS), &pairs[0]);
        }
    }
    let plot = Plot {
        file: "fan-out",
        title: "Cost of a delivery, one row a commit, writers at full speed",
        across: "subscribers",
        up: "CPU seconds of the server per million deliveries",
        lines,
    };
    Ok(Findings {
        figures,
        plots: vec![plot],
    })
}

fn point(lines: &mut [Line], subscribers: usize, pair: &Pair) {
    for (line, throughput) in lines.iter_mut().zip([pair.engine, pair.bare]) {
        let point = (subscribers as f64, throughput.cpu_seconds_per_million);
        line.points.push(point);
    }
}

fn describe(rows: i32, pairs: &[Pair], figures: &mut Vec<Figure>) {
    let name = format!("1,000 subscribers, {rows} a commit");
    let rate = |one: fn(&Pair) -> Throughput| column(pairs, |pair| one(pair).deliveries_per_second);
    let cpu =
        |one: fn(&Pair) -> Throughput| column(pairs, |pair| one(pair).cpu_seconds_per_million);
    let load = column(pairs, |pair| pair.engine.load_seconds_per_million);
    let note = format!(
        "the load's own: {:.2} s",
        load.iter().copied().fold(0.0, f64::max)
    );
    let most = |value: fn(&Pair) -> f64| column(pairs, value).into_iter().fold(0.0, f64::max);
    let writer = format!(
        "at most {:.0} commits/s written, {:.2} s behind",
        most(|pair| pair.engine.commits_per_second),
        most(|pair| pair.engine.behind_seconds),
    );
    figures.extend([
        Figure::new(
            format!("{name}: deliveries"),
            "/s",
            rate(|pair| pair.engine),
        )
        .beside("bare server", rate(|pair| pair.bare))
        .bar(Bar::RatioAtLeast(0.7))
        .note(writer),
        Figure::new(
            format!("{name}: CPU per million"),
            "s",
            cpu(|pair| pair.engine),
        )
        .beside("bare server", cpu(|pair| pair.bare))
        .bar(Bar::AtMost(4.0))
        .note(note),
    ]);
}

async fn pair(stage: &Stage, subscribers: usize, rows: i32) -> Result<Pair> {
    let (engine, recording) = engine(stage, subscribers, rows).await?;
    let bare = bare(stage, subscribers, &recording).await?;
    Ok(Pair { engine, bare })
}

async fn engine(stage: &Stage, subscribers: usize, rows: i32) -> Result<(Throughput, Recording)> {
    let database = stage.database(stage::ITEMS).await?;
    let engine = Engine::start(&database.url, &[ITEMS]).await;
    let group = stage
        .receivers
        .group(&engine.address(), subscribers, whole_table);
    group.live(PATIENCE).await?;
    group.tally.begin_recording();
    let (commit, time) = ((WRITERS, Commit::Insert(rows)), stage.seconds(2.0));
    let measured = full_speed(&database, &group, engine.process(), commit, time).await?;
    Ok((measured, group.tally.end_recording()))
}

async fn bare(stage: &Stage, subscribers: usize, recording: &Recording) -> Result<Throughput> {
    let mut server = BareServer::start(recording, subscribers)?;
    let group = stage
        .receivers
        .group(&server.address(), subscribers, |_| Speaks::Nothing);
    group.live(PATIENCE).await?;
    let changes = memchr::memchr_iter(crate::load::MARK, &recording.bytes).count();
    let began = Began::now(server.process())?;
    server.go()?;
    group
        .changes((changes * subscribers) as u64, PATIENCE)
        .await?;
    throughput(&group, 0, server.process(), &began)
}
