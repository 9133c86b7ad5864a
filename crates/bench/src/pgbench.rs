//! Commits per second, measured by PostgreSQL's own pgbench: its writers cost next to nothing, and its figures
//! can be compared with others.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::process::Command;

use crate::stage::{Database, Stage};

/// Runs `script` with this many clients, and returns the commits per second.
pub(crate) async fn commits_per_second(
    stage: &Stage,
    database: &Database,
    script: &str,
    clients: u32,
    time: Duration,
) -> Result<f64> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), script)?;
    let output = Command::new(stage.program("pgbench"))
        .args(["--no-vacuum", "--protocol=prepared", "--jobs=1"])
        .arg(format!("--client={clients}"))
        .arg(format!("--time={}", time.as_secs().max(1)))
        .arg(format!("--file={}", file.path().display()))
        .arg(&database.url)
        .output()
        .await
        .context("could not run pgbench, which belongs to PostgreSQL's programs")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "pgbench failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let line = text.lines().find_map(|line| line.strip_prefix("tps = "));
    let figure = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    figure.with_context(|| format!("pgbench printed no figure:\n{text}"))
}
