//! Quoting: the only module in which names and texts become SQL.

/// A quoted identifier.
pub(crate) fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A quoted text literal. A backslash is an ordinary character (`standard_conforming_strings`).
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A quoted text literal for PostgreSQL that means the same whatever `standard_conforming_strings` is: the body
/// of a function is parsed with the settings of the database session that calls it.
#[cfg(feature = "postgres")]
pub(crate) fn portable_literal(text: &str) -> String {
    if text.contains('\\') {
        format!(" E{}", literal(&text.replace('\\', "\\\\")))
    } else {
        literal(text)
    }
}

/// The text of a `text[]`.
#[cfg(feature = "postgres")]
pub(crate) fn array<'a>(items: impl Iterator<Item = &'a String>) -> String {
    let quoted: Vec<String> = items
        .map(|item| format!("\"{}\"", item.replace('\\', "\\\\").replace('"', "\\\"")))
        .collect();
    format!("{{{}}}", quoted.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_doubled() {
        assert_eq!(ident(r#"we"ird"#), r#""we""ird""#);
        assert_eq!(literal("it's"), "'it''s'");
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn a_portable_literal_escapes_its_backslashes() {
        assert_eq!(portable_literal("it's"), "'it''s'");
        assert_eq!(portable_literal(r"it\'s"), r" E'it\\''s'");
    }
}
