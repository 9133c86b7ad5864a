//! `rhtmx-sync changeset` and `rhtmx-sync replicate`: rows of one database for another.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read as _, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rhtmx_sync::{
    ChangesetFilter, DatabaseConfig, DbPool, EntityConfig, EntitySource, MergeSummary, NodeId,
    Replica, Replication, Rules,
};

use crate::cli::{ChangesetCommand, ReplicateOptions};
use crate::settings::Settings;

/// The longest page that is read, in bytes.
const PAGE_BYTES_MAX: u64 = 32 << 20;

/// How many parked records are listed for each entity.
const PARKED_LISTED: usize = 100;

/// How often both directions are tried until the databases are equal, once nothing is new.
const ROUNDS_MAX: u32 = 10;

/// The longest pause after failures.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// The status with which a command exits when some records could not be merged.
const PARKED: u8 = 3;

/// Carries out a command.
pub(crate) async fn changeset(
    settings: &Settings,
    command: ChangesetCommand,
) -> anyhow::Result<ExitCode> {
    let replica = Replica::open(settings.connect().await?, &entities(settings)?).await?;
    match command {
        ChangesetCommand::Export {
            since,
            only_node,
            except_node,
            family,
        } => {
            let node = |text: Option<String>| text.map(|text| NodeId::new(&text)).transpose();
            let filter = ChangesetFilter {
                only_node: node(only_node).context("--only-node")?,
                except_node: node(except_node).context("--except-node")?,
                ..ChangesetFilter::default()
            };
            let since = since.map(|since| since.parse()).transpose();
            let since = since.ok().context("--since is no cursor of a changeset")?;
            let mut pages = replica.changeset(filter, since.as_ref()).await?;
            let mut out = BufWriter::new(io::stdout().lock());
            if family {
                write_for_family(&replica, &mut pages, &mut out).await?;
            } else {
                while let Some(page) = pages.next().await? {
                    writeln!(out, "{}", page.to_value(replica.names()))?;
                }
            }
            out.flush()?;
            Ok(ExitCode::SUCCESS)
        }
        ChangesetCommand::Import { file } => {
            let merged = import(&replica, file.as_deref()).await?;
            println!("{}", told(&merged));
            list_parked(&replica).await
        }
        ChangesetCommand::Parked => {
            replica.retry_parked().await?;
            list_parked(&replica).await
        }
    }
}

/// One object, whose records have no metadata.
async fn write_for_family(
    replica: &Replica,
    pages: &mut rhtmx_sync::Pages,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let mut begun = BTreeSet::new();
    write!(out, "{{")?;
    while let Some(mut page) = pages.next().await? {
        page.header = None;
        for record in page.records.values_mut().flatten() {
            record.metadata = None;
        }
        let serde_json::Value::Object(tables) = page.to_value(replica.names()) else {
            continue;
        };
        for (table, records) in tables {
            let is_first = begun.is_empty();
            // An entity's pages follow one another.
            let mut before = match begun.insert(table.clone()) {
                true => {
                    let end = if is_first { "" } else { "]," };
                    format!("{end}{}:[", serde_json::Value::from(table))
                }
                false => ",".to_owned(),
            };
            for record in records.as_array().into_iter().flatten() {
                write!(out, "{before}{record}")?;
                before = ",".to_owned();
            }
        }
    }
    writeln!(out, "{}}}", if begun.is_empty() { "" } else { "]" })?;
    Ok(())
}

/// Merges the pages of a file, one on each line, or of the standard input. Those before one that is wrong stay merged.
async fn import(replica: &Replica, file: Option<&Path>) -> anyhow::Result<MergeSummary> {
    let mut input: Box<dyn BufRead + Send> = match file {
        Some(path) => {
            let file = File::open(path).with_context(|| format!("reading {}", path.display()))?;
            Box::new(BufReader::new(file))
        }
        None => Box::new(BufReader::new(io::stdin())),
    };
    let mut merged = MergeSummary::default();
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        let read = (&mut input)
            .take(PAGE_BYTES_MAX)
            .read_until(b'\n', &mut line)?;
        if read == 0 {
            break;
        }
        let place = || format!("line {number}");
        if read as u64 == PAGE_BYTES_MAX {
            bail!(
                "{}: a page has at most {PAGE_BYTES_MAX} bytes, each on a line of its own",
                place()
            );
        }
        let text = std::str::from_utf8(&line).with_context(place)?;
        if text.trim().is_empty() {
            continue;
        }
        let page = replica.read(text).with_context(place)?;
        merged += replica.merge(page).await.with_context(place)?;
    }
    merged += MergeSummary {
        records: 0,
        ..replica.retry_parked().await?
    };
    Ok(merged)
}

/// Lists what could not be merged.
async fn list_parked(replica: &Replica) -> anyhow::Result<ExitCode> {
    let parked = replica.parked(PARKED_LISTED).await?;
    for one in &parked {
        println!(
            "parked: {} {} of {}: {}",
            one.entity, one.key, one.node, one.reject.message
        );
    }
    Ok(match parked.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(PARKED),
    })
}

/// Keeps two databases equal.
pub(crate) async fn replicate(
    settings: &Settings,
    options: &ReplicateOptions,
) -> anyhow::Result<ExitCode> {
    let entities = entities(settings)?;
    // Nodes of the family may come back after any time.
    let clock_hours = match settings.merging.crdt {
        true => u64::MAX,
        false => settings.retention.clock_hours,
    };
    let open = async |url: &str| -> anyhow::Result<Replica> {
        let pool = DbPool::with_config(url, &DatabaseConfig::default()).await?;
        let replica = Replica::open(pool, &entities).await?;
        Ok(replica.with_clock_hours(clock_hours))
    };
    let (one, other) = (open(&options.from).await?, open(&options.to).await?);
    let both = Replication::new(one.clone(), other.clone())?;
    if options.once {
        let is_equal = until_equal(&both).await?;
        let mut code = list_parked(&one).await?;
        if code == ExitCode::SUCCESS {
            code = list_parked(&other).await?;
        }
        if is_equal {
            println!("both databases are equal");
        } else if code == ExitCode::SUCCESS {
            bail!("the databases have not become equal; are others writing to them?");
        }
        return Ok(code);
    }
    let every = Duration::from_millis(options.every_ms);
    let mut pause = every;
    loop {
        match both.round().await {
            Ok(copied) => {
                pause = every;
                if (copied.there, copied.back) != Default::default() {
                    tracing::info!(
                        there = told(&copied.there),
                        back = told(&copied.back),
                        "merged"
                    );
                }
            }
            Err(error) if error.is_retryable() => {
                pause = (pause * 2).min(PAUSE_MAX);
                tracing::warn!(%error, "the databases are not equal for the moment; trying again");
            }
            Err(error) => return Err(error.into()),
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            interrupted = tokio::signal::ctrl_c() => {
                interrupted.context("waiting for Ctrl-C")?;
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
}

/// Goes on until nothing is new, and both hold the same.
async fn until_equal(both: &Replication) -> anyhow::Result<bool> {
    let mut quiet = 0;
    while quiet < ROUNDS_MAX {
        let copied = both.round().await?;
        println!(
            "there: {}; back: {}",
            told(&copied.there),
            told(&copied.back)
        );
        if copied.is_equal {
            return Ok(true);
        }
        if copied.there.changed + copied.back.changed == 0 {
            quiet += 1;
            if both.is_equal().await? {
                return Ok(true);
            }
            if copied.there.parked + copied.back.parked > 0 {
                return Ok(false);
            }
        } else if copied.there.parked + copied.back.parked == 0 && both.is_equal().await? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn told(merged: &MergeSummary) -> String {
    let MergeSummary {
        records,
        changed,
        parked,
    } = merged;
    format!("{records} records, {changed} new, {parked} parked")
}

/// The entities that are meant, each with its rules. One that no configuration file names merges by the ordinary rules.
fn entities(settings: &Settings) -> anyhow::Result<Vec<EntityConfig>> {
    ensure!(
        !settings.entities.is_empty(),
        "no entities: pass --entity NAME, or name them in the configuration file"
    );
    let mut entities = Vec::new();
    for entity in &settings.entities {
        ensure!(
            matches!(entity.source, EntitySource::Table(_)),
            "{:?} has no table",
            entity.name
        );
        entities.push(match &entity.fields {
            Some(_) => entity.clone(),
            None => entity.clone().fields(Rules::default()),
        });
    }
    Ok(entities)
}
