//! Comments, texts and words of a source file, in Rust, TypeScript, SQL or TOML.
//!
//! It knows just enough of each language to tell a text from a comment.

/// A piece of a source file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    /// The line on which it begins, counted from 1.
    pub(super) line: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// A comment, with the signs that make it one.
    Comment(String),
    /// What stands between quotes.
    Text(String),
    /// A name, a keyword or a number.
    Word(String),
    Mark(char),
}

/// How a language writes comments and texts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Language {
    line_comment: &'static str,
    block_comments: bool,
    quotes: &'static [char],
    /// A backslash escapes the next character.
    escapes: bool,
    /// `r#"…"#`, and `'` begins a lifetime unless it closes at once.
    rust: bool,
    /// `/…/` is a regular expression where a value may begin.
    regular_expressions: bool,
}

impl Language {
    const RUST: Self = Self {
        line_comment: "//",
        block_comments: true,
        quotes: &['"'],
        escapes: true,
        rust: true,
        regular_expressions: false,
    };
    pub(super) const TYPESCRIPT: Self = Self {
        quotes: &['"', '\'', '`'],
        rust: false,
        regular_expressions: true,
        ..Self::RUST
    };
    const SQL: Self = Self {
        line_comment: "--",
        quotes: &['\'', '"'],
        escapes: false,
        rust: false,
        ..Self::RUST
    };
    const TOML: Self = Self {
        line_comment: "#",
        block_comments: false,
        quotes: &['"', '\''],
        rust: false,
        ..Self::RUST
    };

    /// By a file's extension.
    pub(super) fn of(extension: &str) -> Option<Self> {
        match extension {
            "rs" => Some(Self::RUST),
            "ts" | "tsx" => Some(Self::TYPESCRIPT),
            "sql" => Some(Self::SQL),
            "toml" => Some(Self::TOML),
            _ => None,
        }
    }
}

/// Takes a text apart. Blanks are left out.
pub(super) fn tokens(text: &str, language: Language) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text;
    let mut line = 1;
    while let Some(first) = rest.chars().next() {
        let after_value = tokens
            .last()
            .is_some_and(|token: &Token| ends_a_value(&token.kind));
        let (length, kind) = next(rest, first, language, after_value);
        let (taken, left) = rest.split_at(length);
        tokens.extend(kind.map(|kind| Token { kind, line }));
        line += taken.matches('\n').count();
        rest = left;
    }
    tokens
}

/// After these a `/` divides.
fn ends_a_value(kind: &Kind) -> bool {
    match kind {
        Kind::Word(word) => !matches!(&**word, "return" | "case" | "typeof" | "in" | "of"),
        Kind::Text(_) => true,
        Kind::Mark(mark) => matches!(mark, ')' | ']' | '}'),
        Kind::Comment(_) => false,
    }
}

/// The length of the next piece, in bytes, and what it is; nothing for a blank.
fn next(rest: &str, first: char, language: Language, after_value: bool) -> (usize, Option<Kind>) {
    let until = |end: &str, from: usize| {
        let found = rest[from..].find(end);
        found.map_or(rest.len(), |found| from + found)
    };
    if rest.starts_with(language.line_comment) {
        let length = until("\n", 0);
        return (length, Some(Kind::Comment(rest[..length].to_owned())));
    }
    if language.block_comments && rest.starts_with("/*") {
        let length = (until("*/", 2) + 2).min(rest.len());
        return (length, Some(Kind::Comment(rest[..length].to_owned())));
    }
    if language.rust
        && let Some((length, inner)) = raw_text(rest).or_else(|| character(rest))
    {
        return (length, Some(Kind::Text(inner.to_owned())));
    }
    if language.quotes.contains(&first) {
        let one_line = language.regular_expressions && first != '`';
        let length = quoted(rest, first, language.escapes, one_line);
        let inner = rest[1..length]
            .strip_suffix(first)
            .unwrap_or(&rest[1..length]);
        return (length, Some(Kind::Text(inner.to_owned())));
    }
    if language.regular_expressions && first == '/' && !after_value {
        return (quoted(rest, '/', true, true), None);
    }
    if first.is_alphanumeric() || first == '_' {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        return (length, Some(Kind::Word(rest[..length].to_owned())));
    }
    let mark = (!first.is_whitespace()).then_some(Kind::Mark(first));
    (first.len_utf8(), mark)
}

/// The length of a quoted text, quotes included.
fn quoted(rest: &str, quote: char, escapes: bool, one_line: bool) -> usize {
    let mut escaped = false;
    let mut in_class = false;
    for (index, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' if escapes => escaped = true,
            '\n' if one_line => return index,
            '[' if quote == '/' => in_class = true,
            ']' if quote == '/' => in_class = false,
            c if c == quote && !in_class => return index + c.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

/// `r"…"` or `r#"…"#`, with or without `b` before.
fn raw_text(rest: &str) -> Option<(usize, &str)> {
    let start = rest.strip_prefix('b').unwrap_or(rest).strip_prefix('r')?;
    let inner = start.trim_start_matches('#');
    let hashes = &start[..start.len() - inner.len()];
    let inner = inner.strip_prefix('"')?;
    let end = inner.find(&format!("\"{hashes}"))?;
    let before = rest.len() - inner.len();
    Some((before + end + 1 + hashes.len(), &inner[..end]))
}

/// `'x'` or `'\n'`, and not the `'a` of a lifetime.
fn character(rest: &str) -> Option<(usize, &str)> {
    let inner = rest.strip_prefix('\'')?;
    let first = inner.chars().next()?;
    let end = match first {
        '\\' => 2 + inner.get(2..)?.find('\'')?,
        _ => first.len_utf8(),
    };
    inner
        .get(end..)?
        .starts_with('\'')
        .then(|| (end + 2, &inner[..end]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comments(text: &str, extension: &str) -> Vec<(usize, String)> {
        let tokens = tokens(text, Language::of(extension).unwrap()).into_iter();
        let comments = tokens.filter_map(|token| match token.kind {
            Kind::Comment(text) => Some((token.line, text)),
            _ => None,
        });
        comments.collect()
    }

    #[test]
    fn comments_of_rust_are_told_from_texts_and_lifetimes() {
        let text = "let a = \"// \\\" no\"; // one\nlet b = r#\"\"// no\"#;\n\
                    fn c<'a>() {} /* two\n*/ '\"' // three";
        let expected = [
            (1, "// one".to_owned()),
            (3, "/* two\n*/".to_owned()),
            (4, "// three".to_owned()),
        ];
        assert_eq!(comments(text, "rs"), expected);
    }

    #[test]
    fn comments_of_typescript_are_told_from_texts_and_regular_expressions() {
        let text = "a = /[/\"]'/; // one\nb = `// no`; c = 1 / 2; // two\n";
        let expected = [(1, "// one".to_owned()), (2, "// two".to_owned())];
        assert_eq!(comments(text, "ts"), expected);
    }

    #[test]
    fn comments_of_sql_and_toml_are_told_from_texts() {
        assert_eq!(
            comments("SELECT '--'; -- yes", "sql"),
            [(1, "-- yes".to_owned())]
        );
        assert_eq!(
            comments("a = \"# no\" # yes", "toml"),
            [(1, "# yes".to_owned())]
        );
    }
}
