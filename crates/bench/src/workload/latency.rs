//! The time from before an INSERT to its receipt, at several rates, on PostgreSQL and SQLite, and for many
//! subscribers at 200,000 deliveries per second.

mod sqlite;

use std::collections::BTreeMap;

use anyhow::Result;

use super::{ITEMS, latency_at, whole_table};
use crate::load::{Group, Histogram};
use crate::plot::{Line, Plot};
use crate::report::{Bar, Figure, Findings};
use crate::server::Engine;
use crate::stage::{self, Database, PATIENCE, Stage};
use crate::writers::{Commit, Written};

const FEW: usize = 100;
/// Commits per second, and for how many seconds: slow rates take longer to yield as many samples.
const RATES: [(u32, f64); 3] = [(10, 8.0), (200, 3.0), (2000, 3.0)];
/// Only for the plot, and only once.
const RATES_BETWEEN: [(u32, f64); 2] = [(50, 3.0), (700, 3.0)];
const MANY: usize = 1_000;
const MANY_RATE: f64 = 200.0;

/// Percentiles of one measurement, in milliseconds.
#[derive(Debug, Clone, Copy)]
struct Times {
    p50: f64,
    p95: f64,
    p99: f64,
    max: f64,
    /// The INSERT alone, from sending it to its answer.
    insert_p50: f64,
    insert_p99: f64,
    /// The commits per second that the writers reached.
    reached: f64,
    /// The server's processor seconds per million deliveries.
    cpu_per_million: f64,
}

impl Times {
    fn of(histogram: &Histogram, written: &Written) -> Self {
        Self {
            p50: histogram.quantile_ms(0.50),
            p95: histogram.quantile_ms(0.95),
            p99: histogram.quantile_ms(0.99),
            max: histogram.max_ms(),
            insert_p50: written.times.quantile_ms(0.50),
            insert_p99: written.times.quantile_ms(0.99),
            reached: written.commits_per_second(),
            cpu_per_million: 0.0,
        }
    }
}

type ByRate = BTreeMap<u32, Vec<Times>>;

/// A database with a server and its subscribers.
struct Subscribers {
    database: Database,
    group: Group,
    engine: Engine,
}

impl Subscribers {
    async fn start(stage: &Stage, subscribers: usize) -> Result<Self> {
        let database = stage.database(stage::ITEMS).await?;
        let engine = Engine::start(&database.url, &[ITEMS]).await;
        let group = stage
            .receivers
            .group(&engine.address(), subscribers, whole_table);
        group.live(PATIENCE).await?;
        // Warm up: the first statements on each connection are parsed and planned.
        latency_at(
            &database,
            &group,
            Commit::Insert(1),
            200.0,
            stage.seconds(1.0),
        )
        .await?;
        Ok(Self {
            database,
            group,
            engine,
        })
    }

    async fn measure(&self, stage: &Stage, rate: f64, seconds: f64) -> Result<Times> {
        let process = self.engine.process();
        let cpu = process.cpu_seconds()?;
        let (histogram, written) = latency_at(
            &self.database,
            &self.group,
            Commit::Insert(1),
            rate,
            stage.seconds(seconds),
        )
        .await?;
        let deliveries = (written.rows * self.group.size() as u64) as f64;
        Ok(Times {
            cpu_per_million: (process.cpu_seconds()? - cpu) / deliveries * 1e6,
            ..Times::of(&histogram, &written)
        })
    }
}

pub(super) async fn run(stage: &Stage) -> Result<Findings> {
    let (mut postgres, mut sqlite) = (ByRate::new(), ByRate::new());
    let few = Subscribers::start(stage, FEW).await?;
    let file = sqlite::Subscribers::start(stage, FEW).await?;
    for round in 0..stage.rounds {
        let between = RATES_BETWEEN.iter().filter(|_| round == 0);
        for (rate, seconds) in RATES.iter().chain(between) {
            let times = few.measure(stage, f64::from(*rate), *seconds).await?;
            postgres.entry(*rate).or_default().push(times);
            let times = file.measure(stage, *rate, *seconds).await?;
            sqlite.entry(*rate).or_default().push(times);
        }
    }
    drop((few, file));
    let mut with_many = Vec::new();
    let many = Subscribers::start(stage, stage.size(MANY)).await?;
    for _ in 0..stage.rounds {
        with_many.push(many.measure(stage, MANY_RATE, 4.0).await?);
    }
    let mut figures = Vec::new();
    for (rate, _) in RATES {
        let bars = match rate {
            10 => (Bar::AtMost(2.0), Bar::AtMost(5.0)),
            _ => (Bar::None, Bar::None),
        };
        describe(
            &format!("PostgreSQL, {rate}/s"),
            &postgres[&rate],
            bars,
            &mut figures,
        );
    }
    for (rate, _) in RATES {
        let open = (Bar::None, Bar::None);
        describe(
            &format!("SQLite, {rate}/s"),
            &sqlite[&rate],
            open,
            &mut figures,
        );
    }
    let kept_up = (Bar::None, Bar::AtMost(50.0));
    describe(
        "1,000 subscribers, 200/s",
        &with_many,
        kept_up,
        &mut figures,
    );
    let cpu = with_many
        .iter()
        .map(|times| times.cpu_per_million)
        .collect();
    let name = "1,000 subscribers, 200/s: CPU per million deliveries";
    figures.push(Figure::new(name, "s", cpu).bar(Bar::AtMost(4.0)));
    Ok(Findings {
        figures,
        plots: vec![plot(&postgres, &sqlite)],
    })
}

fn describe(name: &str, rounds: &[Times], bars: (Bar, Bar), figures: &mut Vec<Figure>) {
    let values = |value: fn(&Times) -> f64| -> Vec<f64> { rounds.iter().map(value).collect() };
    let reached = rounds
        .iter()
        .map(|times| times.reached)
        .fold(f64::INFINITY, f64::min);
    let figure = |what: &str, value| Figure::new(format!("{name}: {what}"), "ms", values(value));
    figures.extend([
        figure("p50", |times| times.p50)
            .beside("INSERT alone", values(|times| times.insert_p50))
            .bar(bars.0),
        figure("p95", |times| times.p95),
        figure("p99", |times| times.p99)
            .beside("INSERT alone", values(|times| times.insert_p99))
            .bar(bars.1),
        figure("max", |times| times.max).note(format!("at least {reached:.0} commits/s written")),
    ]);
}

fn plot(postgres: &ByRate, sqlite: &ByRate) -> Plot {
    let line = |name: &str, rates: &ByRate, value: fn(&Times) -> f64| Line {
        name: name.to_owned(),
        points: rates
            .iter()
            .filter_map(|(rate, rounds)| Some((f64::from(*rate), value(rounds.first()?))))
            .collect(),
    };
    Plot {
        file: "latency",
        title: "From before the INSERT to receipt, 100 subscribers",
        across: "commits a second",
        up: "milliseconds",
        lines: vec![
            line("PostgreSQL p50", postgres, |times| times.p50),
            line("PostgreSQL p99", postgres, |times| times.p99),
            line("SQLite p50", sqlite, |times| times.p50),
            line("SQLite p99", sqlite, |times| times.p99),
        ],
    }
}
