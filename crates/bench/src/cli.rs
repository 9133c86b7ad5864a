//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

/// Measures rhtmx-sync beside its references, on a PostgreSQL of its own.
#[derive(Debug, Parser)]
#[command(name = "rhtmx-sync-bench", version)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) internal: Option<Internal>,
    /// The workloads to measure, one after another.
    #[arg(required = true, value_enum)]
    pub(crate) workloads: Vec<Workload>,
    /// Also write the figures to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// The number of rounds in which engine and reference take turns.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
    /// Smaller and shorter: shows that everything runs; its figures are not to be quoted.
    #[arg(long)]
    pub(crate) quick: bool,
    /// `selective` with a policy for each user, in place of a filter for each subscriber.
    #[arg(long)]
    pub(crate) users: bool,
    /// `write-cost` and `ingest` of rows that merge by their fields, beside rows that are replaced whole.
    #[arg(long)]
    pub(crate) fields: bool,
    /// Also draw plots into this directory, as SVG.
    #[arg(long, value_name = "DIR")]
    pub(crate) plots: Option<PathBuf>,
}

/// Commands for processes that the benchmark starts from its own binary.
#[derive(Debug, Subcommand)]
pub(crate) enum Internal {
    /// Writes a recording to every connection, as fast as the sockets take it.
    #[command(hide = true)]
    BareServer {
        /// The number of connections to wait for.
        connections: usize,
        /// The recording's bytes.
        bytes: PathBuf,
        /// The offsets at which its pieces end.
        ends: PathBuf,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// The cost of capture for writers.
    WriteCost,
    /// The time from before the INSERT to receipt, at several rates.
    Latency,
    /// One change to a thousand subscribers, with writers at full speed.
    FanOut,
    /// Thousands of subscribers with different filters.
    Selective,
    /// Users whose rows are those of the lists that another table says they are members of.
    Membership,
    /// The same where row level security of the database says what they see.
    RowLevel,
    /// A new client, ten new clients, and one that was offline.
    CatchUp,
    /// A thousand clients subscribe at once.
    Herd,
    /// The memory of idle connections, and whether it is returned.
    Memory,
    /// Changes from the log to the hub, and mutations from clients.
    Ingest,
    /// A table that comes into an empty database with `replicate`.
    Replicate,
    /// Connections that break while writes go on.
    Lost,
    /// Clients that connect with tokens.
    Logins,
    /// Honest subscribers beside a neighbour who means harm.
    Hostile,
    /// A hand-written Node server, under the same load.
    Baseline,
    /// All of them.
    All,
}

impl Workload {
    pub(crate) const EACH: [Self; 15] = [
        Self::WriteCost,
        Self::Latency,
        Self::FanOut,
        Self::Selective,
        Self::Membership,
        Self::RowLevel,
        Self::CatchUp,
        Self::Herd,
        Self::Memory,
        Self::Ingest,
        Self::Replicate,
        Self::Lost,
        Self::Logins,
        Self::Hostile,
        Self::Baseline,
    ];

    pub(crate) fn name(self) -> String {
        self.to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_owned())
    }
}
