//! The report: a table for people, and JSON for programs.

mod figure;

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

pub(crate) use figure::{Bar, Figure, Verdict};
use figure::{median, number, spread};

use crate::cli::{Cli, Workload};
use crate::machine;
use crate::plot::Plot;
use crate::stage::Stage;

/// The result of a workload.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) figures: Vec<Figure>,
    pub(crate) plots: Vec<Plot>,
}

/// The results so far.
#[derive(Debug)]
pub(crate) struct Report {
    facts: Vec<(&'static str, String)>,
    /// Other programs were using the machine at the start.
    busy: bool,
    rounds: u32,
    quick: bool,
    sections: Vec<Section>,
}

#[derive(Debug)]
struct Section {
    workload: String,
    seconds: f64,
    findings: Findings,
    failure: Option<String>,
}

impl Report {
    pub(crate) fn new(stage: &Stage, cli: &Cli) -> Self {
        Self {
            facts: machine::describe(&stage.program("postgres"), stage.cluster.directory()),
            busy: machine::is_busy(),
            rounds: stage.rounds,
            quick: cli.quick,
            sections: Vec::new(),
        }
    }

    pub(crate) fn heading(&self) -> String {
        let mut text = String::new();
        for (name, fact) in &self.facts {
            let _ = writeln!(text, "{name:>12}  {fact}");
        }
        let quick = if self.quick {
            "; a quick run: not to be quoted"
        } else {
            ""
        };
        let _ = writeln!(
            text,
            "{:>12}  {}, taking turns with the reference; medians (smallest–largest){quick}",
            "rounds", self.rounds
        );
        if self.busy {
            let _ = writeln!(
                text,
                "{:>12}  other programs are using this machine: trust ratios and memory, not times",
                "BUSY"
            );
        }
        text
    }

    /// Adds the result of a workload, and returns it as a table.
    pub(crate) fn add(
        &mut self,
        workload: Workload,
        findings: Result<Findings>,
        took: Duration,
    ) -> String {
        let (findings, failure) = match findings {
            Ok(findings) => (findings, None),
            Err(error) => (Findings::default(), Some(format!("{error:#}"))),
        };
        let section = Section {
            workload: workload.name(),
            seconds: took.as_secs_f64(),
            findings,
            failure,
        };
        let text = section.table();
        self.sections.push(section);
        text
    }

    /// The number of figures that reach their bars.
    pub(crate) fn summary(&self) -> String {
        let verdicts: Vec<Verdict> = self.figures().map(Figure::verdict).collect();
        let count = |counted| {
            verdicts
                .iter()
                .filter(|verdict| **verdict == counted)
                .count()
        };
        let failed = self.sections.iter().filter(|it| it.failure.is_some());
        format!(
            "\n{} pass, {} short, {} not built, {} workloads failed; {:.0} s in all\n",
            count(Verdict::Pass),
            count(Verdict::Short),
            count(Verdict::NotBuilt),
            failed.count(),
            self.sections.iter().map(|it| it.seconds).sum::<f64>(),
        )
    }

    fn figures(&self) -> impl Iterator<Item = &Figure> {
        self.sections.iter().flat_map(|it| &it.findings.figures)
    }

    pub(crate) fn json(&self) -> Result<String> {
        let workloads: Vec<Value> = self.sections.iter().map(Section::json).collect();
        let report = json!({
            "machine": machine::json(&self.facts), "busy": self.busy, "rounds": self.rounds, "quick": self.quick,
            "workloads": workloads,
        });
        Ok(serde_json::to_string_pretty(&report)? + "\n")
    }

    /// Writes the plots into a directory.
    pub(crate) fn draw(&self, directory: &Path) -> Result<()> {
        std::fs::create_dir_all(directory)?;
        for plot in self.sections.iter().flat_map(|it| &it.findings.plots) {
            std::fs::write(directory.join(format!("{}.svg", plot.file)), plot.svg())?;
        }
        Ok(())
    }
}

impl Section {
    fn table(&self) -> String {
        let mut rows =
            vec![["", "measured", "", "beside", "", "ratio", "", "bar", ""].map(str::to_owned)];
        rows.extend(self.findings.figures.iter().map(row));
        let widths: Vec<usize> = (0..rows[0].len())
            .map(|column| {
                rows.iter()
                    .map(|row| row[column].chars().count())
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let mut text = format!("\n{}  ({:.0} s)\n", self.workload, self.seconds);
        if let Some(failure) = &self.failure {
            let _ = writeln!(text, "  FAILED: {failure}");
            return text;
        }
        for (row, figure) in rows.iter().zip(
            [None]
                .into_iter()
                .chain(self.findings.figures.iter().map(Some)),
        ) {
            let mut line = String::from(" ");
            for (cell, width) in row.iter().zip(&widths) {
                let _ = write!(line, " {cell:<width$}");
            }
            let note = figure.map_or("", |figure| &figure.note);
            let _ = writeln!(text, "{} {note}", line.trim_end());
        }
        text
    }

    fn json(&self) -> Value {
        let figures: Vec<Value> = self.findings.figures.iter().map(Figure::json).collect();
        json!({
            "workload": self.workload, "seconds": self.seconds, "failure": self.failure,
            "figures": figures,
        })
    }
}

fn row(figure: &Figure) -> [String; 9] {
    let ratios = figure.ratios();
    let (reference, ratio) = match &figure.reference {
        Some(reference) => (
            format!("{} {}", reference.name, number(median(&reference.values))),
            number(median(&ratios)),
        ),
        None => Default::default(),
    };
    let measured = match figure.values.as_slice() {
        [] => String::new(),
        values => format!("{} {}", number(median(values)), figure.unit),
    };
    [
        figure.name.clone(),
        measured,
        spread(&figure.values),
        reference,
        String::new(),
        ratio,
        spread(&ratios),
        figure.bar.text(),
        figure.verdict().text().to_owned(),
    ]
}
