//! The last frames of a connection, for the message of a test that fails.

use std::collections::VecDeque;
use std::fmt;

const LINES_MAX: usize = 200;
const LINE_CHARS_MAX: usize = 400;

#[derive(Debug, Default)]
pub(super) struct Transcript {
    lines: VecDeque<String>,
    dropped: usize,
}

impl Transcript {
    pub(super) fn sent(&mut self, text: &str) {
        self.note("-> ", text);
    }

    pub(super) fn received(&mut self, text: &str) {
        self.note("<- ", text);
    }

    fn note(&mut self, direction: &str, text: &str) {
        let mut line = direction.to_owned();
        line.extend(text.chars().take(LINE_CHARS_MAX));
        if line.len() < direction.len() + text.len() {
            line.push_str(&format!("… ({} bytes)", text.len()));
        }
        self.lines.push_back(line);
        if self.lines.len() > LINES_MAX {
            self.lines.pop_front();
            self.dropped += 1;
        }
    }
}

impl fmt::Display for Transcript {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "--- frames, without the first {} ---",
            self.dropped
        )?;
        self.lines
            .iter()
            .try_for_each(|line| writeln!(formatter, "{line}"))
    }
}
