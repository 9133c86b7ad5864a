//! The command line.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use tracing_subscriber::EnvFilter;

/// A real-time sync server for PostgreSQL and SQLite.
///
/// Without a database it serves a demo on an embedded SQLite file.
#[derive(Debug, Parser)]
#[command(name = "rhtmx-sync", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) common: Common,
    /// Serve beyond this machine without verifying who clients are ([auth] is not configured).
    #[arg(long, global = true, env = "RHTMX_SYNC_OPEN", value_parser = BoolishValueParser::new())]
    pub(crate) open: bool,
    /// Format of the log output (on standard error, filtered by `RUST_LOG`).
    #[arg(
        long,
        global = true,
        env = "RHTMX_SYNC_LOG_FORMAT",
        default_value = "text"
    )]
    pub(crate) log_format: LogFormat,
}

/// The options of every command. Flags override the environment, which overrides the file.
#[derive(Debug, Default, Args)]
pub(crate) struct Common {
    /// The configuration file [default: rhtmx-sync.toml, if it exists].
    #[arg(long, global = true, value_name = "FILE", env = "RHTMX_SYNC_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// postgresql://… or sqlite://path [env: DATABASE_URL].
    // Not with clap's `env`: its help would print the password.
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) database_url: Option<String>,
    /// A direct connection for notifications, if --database-url goes through a transaction pooler
    /// [env: RHTMX_SYNC_DATABASE_LISTEN_URL].
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) listen_url: Option<String>,
    /// Where to listen [env: RHTMX_SYNC_BIND] [default: 127.0.0.1:8080].
    #[arg(long, global = true, value_name = "ADDR")]
    pub(crate) bind: Option<String>,
    /// An entity to sync, from the table of the same name, or NAME=TABLE; repeatable
    /// [env: RHTMX_SYNC_ENTITY, comma-separated].
    #[arg(long = "entity", global = true, value_name = "NAME")]
    pub(crate) entities: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve (the default).
    Serve,
    /// Create or update the tables of rhtmx-sync, and exit.
    Migrate,
    /// Remove the triggers from the tables.
    Uncapture {
        /// Only of these entities [default: all].
        entities: Vec<String>,
    },
    /// Print the status of a running server.
    Status,
    /// Examine the database, and say what mends what is wrong. It changes nothing.
    ///
    /// Exits with 0 when nothing keeps the server from working, 1 when something has to be mended, and 2 when the database
    /// could not be examined.
    Doctor {
        /// Print the findings as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print what row level security lets roles see, and how each condition of it is answered. It changes nothing.
    ExplainPolicy {
        /// The entity, or a table.
        entity: String,
        /// A role; repeatable [default: all that the engine's role may become and that may read the table].
        #[arg(long = "role", value_name = "ROLE")]
        roles: Vec<String>,
    },
    /// Write rows for another database, and merge those of others.
    ///
    /// The entities must merge by their fields. Exits with 3 when records are parked.
    #[command(subcommand)]
    Changeset(ChangesetCommand),
    /// Keep two databases equal: bring the rows of each to the other, and merge them by their fields.
    ///
    /// Exits with 3 when records are parked.
    Replicate(ReplicateOptions),
    /// Print changes as they happen.
    Tail {
        /// Only this entity [default: all].
        entity: Option<String>,
        /// Print one JSON object per line.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ChangesetCommand {
    /// Write the rows to the standard output, a page on each line. The last page names the cursor for `--since`.
    Export {
        /// Only what was taken up since this cursor, with which an earlier export ended.
        #[arg(long, value_name = "CURSOR")]
        since: Option<String>,
        /// Only rows that this node wrote last.
        #[arg(long, value_name = "NODE")]
        only_node: Option<String>,
        /// Only rows that another node wrote last.
        #[arg(long, value_name = "NODE")]
        except_node: Option<String>,
        /// Write one object whose records have no metadata, as other CRDT libraries on SQL read it.
        #[arg(long)]
        family: bool,
    },
    /// Merge the pages of a file.
    Import {
        /// The file [default: the standard input].
        file: Option<PathBuf>,
    },
    /// Try the records again that could not be merged, and list those that still cannot.
    Parked,
}

/// Which databases are kept equal, and for how long.
#[derive(Debug, Args)]
pub(crate) struct ReplicateOptions {
    /// One database.
    #[arg(long, value_name = "URL")]
    pub(crate) from: String,
    /// The other.
    #[arg(long, value_name = "URL")]
    pub(crate) to: String,
    /// End when both are equal.
    #[arg(long)]
    pub(crate) once: bool,
    /// How long to wait between two looks, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    pub(crate) every_ms: u64,
}

/// The format of the log output.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum LogFormat {
    /// Text for people.
    Text,
    /// One JSON object per line.
    Json,
}

impl LogFormat {
    pub(crate) fn start(self) {
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
        // Its finer levels write out whole frames, and with them tokens.
        let without_frames = "tungstenite=info".parse().expect("a directive");
        let filter = filter.add_directive(without_frames);
        let builder = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr);
        match self {
            Self::Text => builder.init(),
            Self::Json => builder.json().init(),
        }
    }
}
