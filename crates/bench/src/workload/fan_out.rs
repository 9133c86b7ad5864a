//! One change to a thousand subscribers, with writers at full speed, beside a server without any logic that
//! writes the same bytes to as many sockets.
//!
//! That server is measured twice. First it writes each commit on its own, like a server that has just received
//! it. Then it writes the engine's own frames, in which several commits may be together: that costs it as
//! little as the engine, but it has all of them from the start, while the engine waits for the writers.

use std::time::Duration;

use anyhow::Result;

use super::{Began, ITEMS, Throughput, column, full_speed, latency_at, throughput, whole_table};
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
/// Enough that the server is the bottleneck, not the writer.
const WRITERS: u32 = 4;
/// Long enough for only one commit at that rate.
const ONE_COMMIT: Duration = Duration::from_millis(100);
const ROWS_A_COMMIT: [i32; 2] = [1, 10];

/// Commits that the bare server writes on their own: a second or two.
const FRAMES: usize = 300;

/// Engine and bare server with the same bytes.
struct Pair {
    engine: Throughput,
    /// A frame for each commit.
    bare: Throughput,
    /// The engine's frames.
    replay: Throughput,
}

/// Recordings of what the engine sent.
struct Recorded {
    one_commit: Recording,
    at_full_speed: Recording,
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
        .beside("bare", rate(|pair| pair.bare))
        .bar(Bar::RatioAtLeast(0.7))
        .note(writer),
        Figure::new(
            format!("{name}: deliveries"),
            "/s",
            rate(|pair| pair.engine),
        )
        .beside("replay", rate(|pair| pair.replay))
        .note("the engine's own frames, with no writers to wait for"),
        Figure::new(
            format!("{name}: CPU per million"),
            "s",
            cpu(|pair| pair.engine),
        )
        .beside("bare", cpu(|pair| pair.bare))
        .bar(Bar::AtMost(4.0))
        .note(note),
        Figure::new(
            format!("{name}: CPU per million"),
            "s",
            cpu(|pair| pair.engine),
        )
        .beside("replay", cpu(|pair| pair.replay)),
    ]);
}

async fn pair(stage: &Stage, subscribers: usize, rows: i32) -> Result<Pair> {
    let (engine, recorded) = engine(stage, subscribers, rows).await?;
    let alone = recorded.one_commit.repeat_first(stage.size(FRAMES));
    Ok(Pair {
        engine,
        bare: bare(stage, subscribers, &alone).await?,
        replay: bare(stage, subscribers, &recorded.at_full_speed).await?,
    })
}

async fn engine(stage: &Stage, subscribers: usize, rows: i32) -> Result<(Throughput, Recorded)> {
    let database = stage.database(stage::ITEMS).await?;
    let engine = Engine::start(&database.url, &[ITEMS]).await;
    let group = stage
        .receivers
        .group(&engine.address(), subscribers, whole_table);
    group.live(PATIENCE).await?;
    group.tally.begin_recording();
    latency_at(&database, &group, Commit::Insert(rows), 10.0, ONE_COMMIT).await?;
    let one_commit = group.tally.end_recording();
    group.tally.begin_recording();
    let (commit, time) = ((WRITERS, Commit::Insert(rows)), stage.seconds(2.0));
    let measured = full_speed(&database, &group, engine.process(), commit, time).await?;
    let recorded = Recorded {
        one_commit,
        at_full_speed: group.tally.end_recording(),
    };
    Ok((measured, recorded))
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
