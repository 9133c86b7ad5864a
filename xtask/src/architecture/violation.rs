//! What a rule reports: where, what is wrong, and what to do about it.

use std::fmt;

/// One breach of a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Violation {
    /// The file, relative to the repository, with slashes.
    pub(super) file: String,
    /// The line in it, counted from 1, where there is one.
    pub(super) line: Option<usize>,
    /// What is wrong.
    pub(super) problem: String,
    /// What to do about it.
    pub(super) remedy: String,
}

impl Violation {
    pub(super) fn new(file: &str, line: Option<usize>, problem: String, remedy: String) -> Self {
        Self {
            file: file.to_owned(),
            line,
            problem,
            remedy,
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: ", self.file)?,
            None => write!(f, "{}: ", self.file)?,
        }
        write!(f, "{}. {}.", self.problem, self.remedy)
    }
}
