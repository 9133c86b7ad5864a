//! Where the figures were taken: a figure without its machine says nothing.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

/// The machine and the versions, as pairs of a name and a text.
pub(crate) fn describe(postgres: &Path, data: &Path) -> Vec<(&'static str, String)> {
    vec![
        ("processor", processor()),
        ("cores", cores()),
        ("memory", memory()),
        ("kernel", first_line("/proc/sys/kernel/osrelease")),
        ("file system", file_system(data)),
        ("rhtmx-sync", env!("CARGO_PKG_VERSION").to_owned()),
        ("postgres", version(postgres)),
        ("node", version(Path::new("node"))),
        ("load before", first_line("/proc/loadavg")),
    ]
}

pub(crate) fn json(facts: &[(&'static str, String)]) -> Value {
    facts
        .iter()
        .map(|(name, text)| (*name, json!(text)))
        .collect()
}

fn processor() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or_else(unknown, |(_, name)| name.trim().to_owned())
}

fn cores() -> String {
    std::thread::available_parallelism().map_or_else(|_| unknown(), |cores| cores.to_string())
}

fn memory() -> String {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib: Option<u64> = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    kib.map_or_else(unknown, |kib| format!("{} GiB", kib / 1024 / 1024))
}

/// Whether others use the machine so much that absolute times say more of them than of us.
pub(crate) fn is_busy() -> bool {
    let load = first_line("/proc/loadavg");
    let running: Option<f64> = load.split(' ').next().and_then(|text| text.parse().ok());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    running.is_some_and(|running| running > cores as f64 / 2.0)
}

/// The kind of file system under `path`: a figure of commits from memory would be no figure.
fn file_system(path: &Path) -> String {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            Some((fields.next()?, fields.next()?))
        })
        .filter(|(mounted_at, _)| path.starts_with(mounted_at))
        .max_by_key(|(mounted_at, _)| mounted_at.len())
        .map_or_else(unknown, |(_, kind)| kind.to_owned())
}

fn version(program: &Path) -> String {
    Command::new(program)
        .arg("--version")
        .output()
        .ok()
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .map_or_else(|| "absent".to_owned(), |text| text.trim().to_owned())
}

fn first_line(path: &str) -> String {
    fs::read_to_string(path)
        .ok()
        .and_then(|text| Some(text.lines().next()?.to_owned()))
        .unwrap_or_else(unknown)
}

fn unknown() -> String {
    "unknown".to_owned()
}
