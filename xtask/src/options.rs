//! The options of the commands.

use anyhow::{Context, Result, bail};

/// The options of `test`, `check` and `fault`; each command takes some of them.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Options<'a> {
    /// `--pg 18`: use the newest release of this version, fetched from npm.
    pub(crate) pg: Option<u32>,
    /// `--minutes 20`
    pub(crate) minutes: Option<u64>,
    /// `--seed 7`
    pub(crate) seed: Option<u64>,
    /// `--mutants`
    pub(crate) mutants: bool,
    /// The arguments after `--`.
    pub(crate) extra: Vec<&'a str>,
}

impl<'a> Options<'a> {
    /// Reads the options of a command, whose names are `known`.
    pub(crate) fn read(arguments: &[&'a str], known: &[&str]) -> Result<Self> {
        let mut options = Self::default();
        let mut rest = arguments.iter();
        while let Some(&argument) = rest.next() {
            if !known.contains(&argument) {
                bail!("this command has no option {argument}");
            }
            let mut value = || {
                rest.next()
                    .with_context(|| format!("{argument} needs a value"))
            };
            match argument {
                "--pg" => options.pg = Some(value()?.parse().context("--pg")?),
                "--minutes" => options.minutes = Some(value()?.parse().context("--minutes")?),
                "--seed" => options.seed = Some(value()?.parse().context("--seed")?),
                "--mutants" => options.mutants = true,
                _ => {
                    options.extra = rest.copied().collect();
                    break;
                }
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_end_at_two_dashes() {
        let options = Options::read(&["--pg", "18", "--", "--seed", "x"], &["--pg", "--"]).unwrap();
        assert_eq!(options.pg, Some(18));
        assert_eq!(options.extra, ["--seed", "x"]);
    }

    #[test]
    fn unknown_options_and_missing_values_are_refused() {
        assert!(Options::read(&["--seed", "1"], &["--pg", "--"]).is_err());
        assert!(Options::read(&["--pg"], &["--pg"]).is_err());
        assert!(Options::read(&["--pg", "new"], &["--pg"]).is_err());
    }
}
