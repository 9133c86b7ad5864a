//! A process's processor time and memory, as the kernel reports them.

use std::fs;

use anyhow::{Context as _, Result};

/// Linux reports processor time in hundredths of a second, whatever the kernel's own tick is.
const TICKS_PER_SECOND: f64 = 100.0;

/// A running process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process {
    pid: u32,
}

impl Process {
    pub(crate) fn new(pid: u32) -> Self {
        Self { pid }
    }

    pub(crate) fn own() -> Self {
        Self::new(std::process::id())
    }

    /// The processor time of all threads in seconds, in user and kernel mode.
    pub(crate) fn cpu_seconds(self) -> Result<f64> {
        let stat = self.read("stat")?;
        // The program's name is in parentheses and may contain anything.
        let (_, fields) = stat.rsplit_once(')').context("/proc has changed")?;
        let mut fields = fields.split_whitespace().skip(11);
        let mut ticks = || -> Option<f64> { fields.next()?.parse().ok() };
        let (user, system) = ticks().zip(ticks()).context("/proc has changed")?;
        Ok((user + system) / TICKS_PER_SECOND)
    }

    /// Resident memory in KiB.
    pub(crate) fn resident_kib(self) -> Result<f64> {
        self.memory_kib("VmRSS:")
    }

    /// The most resident memory that it ever had, in KiB.
    pub(crate) fn peak_kib(self) -> Result<f64> {
        self.memory_kib("VmHWM:")
    }

    fn memory_kib(self, name: &str) -> Result<f64> {
        let status = self.read("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        kib.context("/proc has changed")
    }

    fn read(self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.pid);
        fs::read_to_string(&path).with_context(|| format!("reading {path} (Linux only)"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_of_this_process_are_read() {
        assert!(Process::own().cpu_seconds().unwrap() >= 0.0);
        assert!(Process::own().resident_kib().unwrap() > 100.0);
    }
}
