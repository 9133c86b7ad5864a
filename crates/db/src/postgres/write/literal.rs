//! Texts as literals of a statement.

/// A text as a literal that does not depend on `standard_conforming_strings`. Between dollars nothing is escaped:
/// PostgreSQL reads JSON faster so than in `E''`, where each quote and backslash is a token of its own. A text that would
/// end the literal itself is escaped; to look for a tag that it lacks would let its writer choose for how long.
pub(super) fn literal(text: &str) -> String {
    let ended = format!("{text}{TAG}");
    // The text's own end may be the beginning of the tag.
    if ended.find(TAG) == Some(text.len()) {
        return format!("{TAG}{ended}");
    }
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// What begins and ends a literal.
const TAG: &str = "$q$";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_ends_where_its_text_ends() {
        assert_eq!(literal(r#"it's \u00e9 \""#), r#"$q$it's \u00e9 \"$q$"#);
        assert_eq!(literal("$q $1"), "$q$$q $1$q$");
        assert_eq!(literal(r"$q$; it's \"), r"E'$q$; it''s \\'");
        assert_eq!(literal("$q"), "E'$q'");
        assert_eq!(literal("$"), "$q$$$q$");
    }
}
