//! `cargo run --release -p rhtmx-sync-bench -- WORKLOAD`: measures every figure that the project promises,
//! beside its reference in the same run.

mod bare;
mod cli;
mod load;
mod machine;
mod node;
mod pgbench;
mod plot;
mod process;
mod report;
mod server;
mod stage;
mod users;
mod workload;
mod writers;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::Parser as _;

use cli::{Cli, Internal, Workload};
use report::Report;
use stage::Stage;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let ran = match &cli.internal {
        Some(Internal::BareServer {
            connections,
            bytes,
            ends,
        }) => bare::serve(*connections, bytes, ends),
        None => run(&cli),
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rhtmx-sync-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the benchmark. Writers run on this thread and receivers on another; the rest of the machine is for the
/// server and the database.
fn run(cli: &Cli) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(measure(cli))
}

async fn measure(cli: &Cli) -> Result<()> {
    let workloads = if cli.workloads.contains(&Workload::All) {
        Workload::EACH.to_vec()
    } else {
        cli.workloads.clone()
    };
    let stage = Stage::set(cli).await?;
    let mut report = Report::new(&stage, cli);
    print!("{}", report.heading());
    for workload in workloads {
        let began = Instant::now();
        let mut figures = Box::pin(workload::run(workload, &stage)).await;
        if let Err(error) = &mut figures {
            // Continue with the other workloads.
            eprintln!("{}: {error:#}", workload.name());
        }
        let section = report.add(workload, figures, began.elapsed());
        print!("{section}");
    }
    if let Some(path) = &cli.json {
        std::fs::write(path, report.json()?)
            .with_context(|| format!("writing {}", path.display()))?;
    }
    if let Some(directory) = &cli.plots {
        report.draw(directory)?;
    }
    print!("{}", report.summary());
    Ok(())
}
