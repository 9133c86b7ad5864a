//! Why a filter is refused.

/// How much of the client's own words a message repeats, in characters.
const ECHO_CHARS_MAX: usize = 80;

/// What kind of fault a filter has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilterErrorKind {
    /// It cannot be answered as it is written.
    Bad,
    /// It passes a bound.
    TooLarge,
}

/// A filter that is not answered, in words for whoever wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct FilterError {
    /// What kind of fault it is.
    pub kind: FilterErrorKind,
    /// What is wrong; begins with the place where there is one.
    pub message: String,
    /// The place in the filter's text, in characters from 1.
    pub position: Option<usize>,
}

impl FilterError {
    /// Something at `position` cannot be answered.
    pub(super) fn bad(position: usize, what: impl AsRef<str>) -> Self {
        Self::at(FilterErrorKind::Bad, position, what.as_ref())
    }

    /// Something at no one place cannot be answered.
    pub fn bad_throughout(what: impl Into<String>) -> Self {
        Self {
            kind: FilterErrorKind::Bad,
            message: what.into(),
            position: None,
        }
    }

    /// A projection names what is not there.
    pub fn no_such_column(name: &str) -> Self {
        Self::bad_throughout(format!("in `columns`: there is no column {}", echo(name)))
    }

    /// A bound is passed at `position`.
    pub(super) fn too_large(position: usize, what: impl AsRef<str>) -> Self {
        Self::at(FilterErrorKind::TooLarge, position, what.as_ref())
    }

    /// The filter as a whole passes a bound.
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
    fn errors_name_the_place() {
        let error = FilterError::bad(7, "no");
        assert_eq!(
            (error.to_string().as_str(), error.position),
            ("at character 7: no", Some(7))
        );
    }
}
