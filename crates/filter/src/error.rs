//! Why a filter cannot be answered.

/// How much of the client's own words a message repeats, in characters.
const ECHO_CHARS_MAX: usize = 80;

/// The kind of fault that a filter has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilterErrorKind {
    /// It cannot be answered as it is written.
    Bad,
    /// It exceeds a bound.
    TooLarge,
}

/// Why a filter cannot be answered, in words for its author.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct FilterError {
    /// The kind of fault.
    pub kind: FilterErrorKind,
    /// What is wrong; begins with the position where there is one.
    pub message: String,
    /// The position in the filter's text, in characters from 1.
    pub position: Option<usize>,
}

impl FilterError {
    /// An error for something at `position` that cannot be answered.
    pub(super) fn bad(position: usize, what: impl AsRef<str>) -> Self {
        Self::at(FilterErrorKind::Bad, position, what.as_ref())
    }

    /// An error for something without a position that cannot be answered.
    pub fn bad_request(what: impl Into<String>) -> Self {
        Self {
            kind: FilterErrorKind::Bad,
            message: what.into(),
            position: None,
        }
    }

    /// An error for a projection that names a missing column.
    pub fn no_such_column(name: &str) -> Self {
        Self::bad_request(format!("in `columns`: there is no column {}", echo(name)))
    }

    /// An error for a bound that is exceeded at `position`.
    pub(super) fn too_large(position: usize, what: impl AsRef<str>) -> Self {
        Self::at(FilterErrorKind::TooLarge, position, what.as_ref())
    }

    /// An error for a bound that the filter as a whole exceeds.
    pub(super) fn too_large_throughout(what: impl Into<String>) -> Self {
        Self {
            kind: FilterErrorKind::TooLarge,
            message: what.into(),
            position: None,
        }
    }

    fn at(kind: FilterErrorKind, position: usize, what: &str) -> Self {
        let message = format!("at character {position}: {what}");
        Self {
            kind,
            message,
            position: Some(position),
        }
    }
}

/// The client's words, quoted and cut to a length that fits into a message.
pub(super) fn echo(words: &str) -> String {
    let mut kept: String = words.chars().take(ECHO_CHARS_MAX).collect();
    if kept.len() < words.len() {
        kept.push('…');
    }
    format!("{kept:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_repeat_little() {
        assert_eq!(echo("a\n"), r#""a\n""#);
        assert_eq!(echo(&"é".repeat(500)).chars().count(), ECHO_CHARS_MAX + 3);
    }

    #[test]
    fn errors_name_the_position() {
        let error = FilterError::bad(7, "no");
        assert_eq!(
            (error.to_string().as_str(), error.position),
            ("at character 7: no", Some(7))
        );
    }
}
