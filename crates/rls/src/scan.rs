//! The words of SQL, of whatever dialect a function's body is in. It is only read for names, so what is no SQL at all
//! does no harm.

/// A piece of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    /// A name or a keyword, in lower case unless it was quoted.
    Word(String),
    /// The content of a text literal.
    Text(String),
    /// Any other character; `->` and `->>` are one.
    Symbol(&'static str),
}

/// Takes a text apart, without its comments.
pub(crate) fn pieces(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let taken = if first == '\'' || first == '"' {
            let (content, taken) = quoted(rest, first);
            pieces.push(match first {
                '"' => Piece::Word(content),
                _ => Piece::Text(content),
            });
            taken
        } else if rest.starts_with("--") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if first.is_alphabetic() || first == '_' {
            let is_part = |one: char| one.is_alphanumeric() || one == '_' || one == '$';
            let end = rest.find(|one| !is_part(one)).unwrap_or(rest.len());
            pieces.push(Piece::Word(rest[..end].to_lowercase()));
            end
        } else {
            let symbol = ["->>", "->", "::", "(", ")", ",", ".", ";"];
            match symbol.into_iter().find(|symbol| rest.starts_with(symbol)) {
                Some(symbol) => {
                    pieces.push(Piece::Symbol(symbol));
                    symbol.len()
                }
                None => {
                    if !first.is_whitespace() {
                        pieces.push(Piece::Symbol(""));
                    }
                    first.len_utf8()
                }
            }
        };
        rest = &rest[taken.max(1)..];
    }
    pieces
}

/// The content of a quoted text, and how many bytes it takes.
fn quoted(text: &str, quote: char) -> (String, usize) {
    let mut content = String::new();
    let mut characters = text.char_indices().skip(1).peekable();
    while let Some((at, character)) = characters.next() {
        if character != quote {
            content.push(character);
        } else if characters.next_if(|(_, next)| *next == quote).is_some() {
            content.push(quote);
        } else {
            return (content, at + 1);
        }
    }
    (content, text.len())
}
