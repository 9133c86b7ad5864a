//! Describes the machine: a figure without its machine says nothing.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

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

/// Whether other programs use the machine so much that absolute times are distorted. Takes a second in which
/// the benchmark does nothing. (The load average would include programs that have just ended.)
pub(crate) fn is_busy() -> bool {
    let Some(before) = processor_time() else {
        return false;
    };
    std::thread::sleep(Duration::from_secs(1));
    let Some(after) = processor_time() else {
        return false;
    };
    let (idle, all) = (after.idle - before.idle, after.all - before.all);
    (idle as f64) < (1.0 - BUSY) * all as f64
}

/// The share of the processors' time above which the machine is busy.
const BUSY: f64 = 0.1;

/// The processors' time in ticks, since the machine started.
struct ProcessorTime {
    idle: u64,
    /// Includes the time that a hypervisor gave to other machines.
    all: u64,
}

fn processor_time() -> Option<ProcessorTime> {
    let line = first_line("/proc/stat");
    let fields = line.split_whitespace().skip(1);
    let ticks: Vec<u64> = fields.map_while(|field| field.parse().ok()).collect();
    Some(ProcessorTime {
        // While a program waits for a disk, the processor is free for others.
        idle: ticks.get(3)? + ticks.get(4)?,
        all: ticks.iter().take(8).sum(),
    })
}

/// The type of the file system of `path`: commits to memory would be no measurement.
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
