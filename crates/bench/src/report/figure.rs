//! One figure: its values in each round, its reference and its bar.

use serde_json::{Value, json};

/// The value that a figure must reach.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bar {
    /// Nothing is promised.
    None,
    AtLeast(f64),
    AtMost(f64),
    /// In multiples of the reference.
    RatioAtLeast(f64),
    RatioAtMost(f64),
}

/// Whether a figure reaches its bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass,
    Short,
    /// There is no bar.
    Open,
    NotBuilt,
}

/// A figure.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    /// One value for each round.
    pub(crate) values: Vec<f64>,
    pub(crate) reference: Option<Reference>,
    pub(crate) bar: Bar,
    pub(crate) note: String,
}

/// What was measured for comparison, with one value for each round.
#[derive(Debug, Clone)]
pub(crate) struct Reference {
    pub(crate) name: &'static str,
    pub(crate) values: Vec<f64>,
}

impl Figure {
    pub(crate) fn new(name: impl Into<String>, unit: &'static str, values: Vec<f64>) -> Self {
        Self {
            name: name.into(),
            unit,
            values,
            reference: None,
            bar: Bar::None,
            note: String::new(),
        }
    }

    /// A figure of something that the server cannot do yet.
    pub(crate) fn not_built(name: impl Into<String>, why: &str) -> Self {
        let mut figure = Self::new(name, "", Vec::new());
        figure.note = format!("not built: {why}");
        figure
    }

    pub(crate) fn beside(mut self, name: &'static str, values: Vec<f64>) -> Self {
        self.reference = Some(Reference { name, values });
        self
    }

    pub(crate) fn bar(mut self, bar: Bar) -> Self {
        self.bar = bar;
        self
    }

    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    pub(crate) fn median(&self) -> f64 {
        median(&self.values)
    }

    /// The ratio of engine to reference in each round.
    pub(crate) fn ratios(&self) -> Vec<f64> {
        let reference = self.reference.iter().flat_map(|it| &it.values);
        self.values
            .iter()
            .zip(reference)
            .map(|(value, reference)| value / reference)
            .collect()
    }

    pub(crate) fn verdict(&self) -> Verdict {
        if self.values.is_empty() {
            return Verdict::NotBuilt;
        }
        let (value, ratio) = (self.median(), median(&self.ratios()));
        let holds = match self.bar {
            Bar::None => return Verdict::Open,
            Bar::AtLeast(bar) => value >= bar,
            Bar::AtMost(bar) => value <= bar,
            Bar::RatioAtLeast(bar) => ratio >= bar,
            Bar::RatioAtMost(bar) => ratio <= bar,
        };
        if holds { Verdict::Pass } else { Verdict::Short }
    }

    pub(crate) fn json(&self) -> Value {
        let reference = self.reference.as_ref().map(|reference| {
            json!({
                "name": reference.name, "rounds": reference.values, "median": median(&reference.values),
            })
        });
        let ratios = self.ratios();
        json!({
            "name": self.name, "unit": self.unit, "rounds": self.values, "median": self.median(),
            "reference": reference,
            "ratio": (!ratios.is_empty()).then(|| median(&ratios)),
            "bar": self.bar.text(), "verdict": self.verdict().text(), "note": self.note,
        })
    }
}

impl Bar {
    pub(crate) fn text(self) -> String {
        match self {
            Self::None => String::new(),
            Self::AtLeast(bar) => format!(">= {}", number(bar)),
            Self::AtMost(bar) => format!("<= {}", number(bar)),
            Self::RatioAtLeast(bar) => format!(">= {}x", number(bar)),
            Self::RatioAtMost(bar) => format!("<= {}x", number(bar)),
        }
    }
}

impl Verdict {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Short => "SHORT",
            Self::Open => "",
            Self::NotBuilt => "not built",
        }
    }
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => sorted[odd / 2],
        even => (sorted[even / 2 - 1] + sorted[even / 2]) / 2.0,
    }
}

/// The smallest and the largest value.
pub(crate) fn spread(values: &[f64]) -> String {
    let smallest = values.iter().copied().fold(f64::INFINITY, f64::min);
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    match values.len() {
        0 | 1 => String::new(),
        _ => format!("{}–{}", number(smallest), number(largest)),
    }
}

/// A number with about three significant digits.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        huge if huge >= 10_000_000.0 => format!("{:.1}M", value / 1e6),
        large if large >= 1_000_000.0 => format!("{:.2}M", value / 1e6),
        large if large >= 10_000.0 => format!("{:.1}k", value / 1e3),
        large if large >= 100.0 => format!("{value:.0}"),
        medium if medium >= 10.0 => format!("{value:.1}"),
        _ => {
            let text = format!("{value:.2}");
            text.strip_suffix(".00").unwrap_or(&text).to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_computed_in_each_round() {
        // The machine was half as fast in the second round.
        let figure = Figure::new("f", "/s", vec![80.0, 40.0, 90.0])
            .beside("bare", vec![100.0, 50.0, 100.0])
            .bar(Bar::RatioAtLeast(0.8));
        assert_eq!(figure.ratios(), [0.8, 0.8, 0.9]);
        assert_eq!(figure.verdict(), Verdict::Pass);
    }

    #[test]
    fn a_figure_without_a_value_does_not_pass() {
        assert_eq!(
            Figure::not_built("f", "filters").verdict(),
            Verdict::NotBuilt
        );
    }

    #[test]
    fn numbers_keep_three_digits() {
        let texts = [0.5, 2.0, 12.34, 123.4, 45_678.0, 2_345_678.0].map(number);
        assert_eq!(texts, ["0.50", "2", "12.3", "123", "45.7k", "2.35M"]);
    }
}
