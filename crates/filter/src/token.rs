//! Splits a text into the few tokens that a filter may hold.
//!
//! `sqlparser` knows how PostgreSQL quotes, escapes and comments. Any token that no filter may hold is an error
//! here, with its position, before anything is parsed.

use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::tokenizer::{
    Location, Token as SqlToken, TokenWithSpan, Tokenizer, Whitespace, Word,
};

use super::claim::ClaimPath;
use super::error::{FilterError, echo};
use super::syntax::CompareOp;

/// The longest text that is read, in bytes.
pub const TEXT_BYTES_MAX: usize = 16 * 1024;

/// One token and where it begins, in characters from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) at: usize,
}

/// The tokens of filters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TokenKind {
    Keyword(Keyword),
    Name { name: String, quoted: bool },
    Number(String),
    Text(String),
    Param(usize),
    Claim(ClaimPath),
    Compare(CompareOp),
    Open,
    Close,
    Comma,
    Minus,
    Period,
    Star,
}

/// The words with a meaning of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keyword {
    And,
    Or,
    Not,
    In,
    Between,
    Is,
    Null,
    Like,
    True,
    False,
    Select,
    Distinct,
    From,
    Where,
    As,
}

impl Keyword {
    const ALL: [(&'static str, Self); 15] = [
        ("AND", Self::And),
        ("OR", Self::Or),
        ("NOT", Self::Not),
        ("IN", Self::In),
        ("BETWEEN", Self::Between),
        ("IS", Self::Is),
        ("NULL", Self::Null),
        ("LIKE", Self::Like),
        ("TRUE", Self::True),
        ("FALSE", Self::False),
        ("SELECT", Self::Select),
        ("DISTINCT", Self::Distinct),
        ("FROM", Self::From),
        ("WHERE", Self::Where),
        ("AS", Self::As),
    ];

    fn of(word: &str) -> Option<Self> {
        let same = |(spelling, _): &&(&str, Self)| spelling.eq_ignore_ascii_case(word);
        Self::ALL.iter().find(same).map(|(_, keyword)| *keyword)
    }

    /// The word.
    pub(super) fn spelling(self) -> &'static str {
        let same = |(_, keyword): &&(&'static str, Self)| *keyword == self;
        let found = Self::ALL.iter().find(same);
        found.map_or("", |(spelling, _)| *spelling)
    }
}

/// Words that name a column in PostgreSQL only when they are quoted (its reserved words, appendix C of its
/// manual). Some of them mean something else entirely, such as `user`.
const RESERVED: &str = " all analyse analyze any array as asc asymmetric authorization binary both \
case cast check collate collation column concurrently constraint create cross current_catalog \
current_date current_role current_schema current_time current_timestamp current_user default \
deferrable desc distinct do else end except fetch for foreign freeze from full grant group having \
ilike initially inner intersect into isnull join lateral leading left limit localtime \
localtimestamp natural notnull offset on only order outer overlaps placing primary references \
returning right select session_user similar some symmetric system_user table tablesample then to \
trailing union unique user using variadic verbose when where window with ";

/// Those of them that join tables.
const JOINING: &str = " cross full inner join lateral left natural on outer right using ";

/// Those of them that follow a query's `WHERE`, or stand between queries.
const AFTER_WHERE: &str =
    " except fetch for group having intersect limit offset order union window ";

/// What a text is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Language {
    Filter,
    /// The same, with claims.
    Policy,
}

/// Splits a text into tokens.
///
/// # Errors
/// When the text is too long, or holds something that no filter may hold.
pub(super) fn tokens(text: &str, language: Language) -> Result<Vec<Token>, FilterError> {
    if text.len() > TEXT_BYTES_MAX {
        let message = format!("a filter has at most {TEXT_BYTES_MAX} bytes");
        return Err(FilterError::too_large_throughout(message));
    }
    let positions = Positions::new(text);
    let found = Tokenizer::new(&PostgreSqlDialect {}, text)
        .tokenize_with_location()
        .map_err(|error| FilterError::bad(positions.of(error.location), error.message))?;
    let mut tokens = Vec::with_capacity(found.len());
    let mut found = found.into_iter().peekable();
    while let Some(token) = found.next() {
        let at = positions.of(token.span.start);
        let blank = Whitespace::Space;
        match token.token {
            SqlToken::Whitespace(Whitespace::Newline | Whitespace::Tab) => {}
            SqlToken::Whitespace(space) if space == blank => {}
            SqlToken::Word(word)
                if language == Language::Policy
                    && is_auth(&word)
                    && next_is(&mut found, &SqlToken::Period) =>
            {
                let path = claim_path(&mut found)
                    .ok_or_else(|| FilterError::bad(at, "a claim is written auth.name"))?;
                let kind = TokenKind::Claim(path);
                tokens.push(Token { kind, at });
            }
            other => match before_minus(&other) {
                Some((op, length)) => tokens.extend([
                    Token {
                        kind: TokenKind::Compare(op),
                        at,
                    },
                    Token {
                        kind: TokenKind::Minus,
                        at: at + length,
                    },
                ]),
                None => tokens.push(Token {
                    kind: kind(other, at)?,
                    at,
                }),
            },
        }
    }
    Ok(tokens)
}

fn is_auth(word: &Word) -> bool {
    word.quote_style.is_none() && word.value.eq_ignore_ascii_case("auth")
}

type Found = std::iter::Peekable<std::vec::IntoIter<TokenWithSpan>>;

fn next_is(found: &mut Found, token: &SqlToken) -> bool {
    found.peek().is_some_and(|next| next.token == *token)
}

/// The names behind `auth`, each behind a period. Unlike a column's, they are never folded.
fn claim_path(found: &mut Found) -> Option<ClaimPath> {
    let mut names = Vec::new();
    while next_is(found, &SqlToken::Period) {
        found.next();
        match found.next()?.token {
            SqlToken::Word(word) => names.push(word.value),
            _ => return None,
        }
    }
    Some(ClaimPath::new(names))
}

/// The comparison in a token like the `>-` of `n>-5`, and its length. The tokenizer takes it for one
/// operator, but in PostgreSQL such an operator does not end in a minus: it is a comparison and a minus.
fn before_minus(token: &SqlToken) -> Option<(CompareOp, usize)> {
    let text = token.to_string();
    let sign = text.strip_suffix('-')?;
    let op = match sign {
        "=" => CompareOp::Eq,
        "<>" | "!=" => CompareOp::Ne,
        "<" => CompareOp::Lt,
        "<=" => CompareOp::Le,
        ">" => CompareOp::Gt,
        ">=" => CompareOp::Ge,
        _ => return None,
    };
    Some((op, sign.len()))
}

fn kind(token: SqlToken, at: usize) -> Result<TokenKind, FilterError> {
    Ok(match token {
        SqlToken::Word(word) if word.quote_style.is_some() => TokenKind::Name {
            name: word.value,
            quoted: true,
        },
        SqlToken::Word(word) => match Keyword::of(&word.value) {
            Some(keyword) => TokenKind::Keyword(keyword),
            None => TokenKind::Name {
                name: unreserved(word.value, at)?,
                quoted: false,
            },
        },
        SqlToken::Number(text, false) => TokenKind::Number(text),
        SqlToken::SingleQuotedString(text) => TokenKind::Text(text),
        SqlToken::Placeholder(text) => TokenKind::Param(param(&text, at)?),
        SqlToken::Eq => TokenKind::Compare(CompareOp::Eq),
        SqlToken::Neq => TokenKind::Compare(CompareOp::Ne),
        SqlToken::Lt => TokenKind::Compare(CompareOp::Lt),
        SqlToken::LtEq => TokenKind::Compare(CompareOp::Le),
        SqlToken::Gt => TokenKind::Compare(CompareOp::Gt),
        SqlToken::GtEq => TokenKind::Compare(CompareOp::Ge),
        SqlToken::LParen => TokenKind::Open,
        SqlToken::RParen => TokenKind::Close,
        SqlToken::Comma => TokenKind::Comma,
        SqlToken::Minus => TokenKind::Minus,
        SqlToken::Period => TokenKind::Period,
        SqlToken::Mul => TokenKind::Star,
        SqlToken::Whitespace(_) => {
            return Err(FilterError::bad(at, "a filter cannot have comments"));
        }
        SqlToken::SemiColon => return Err(FilterError::bad(at, "a filter is one condition")),
        other => {
            let message = format!("{} is not supported in a filter", echo(&other.to_string()));
            return Err(FilterError::bad(at, message));
        }
    })
}

fn unreserved(word: String, at: usize) -> Result<String, FilterError> {
    let is_among = |words: &str| words.contains(&format!(" {} ", word.to_ascii_lowercase()));
    if !word.is_ascii() || !is_among(RESERVED) {
        return Ok(word);
    }
    let instead = if is_among(JOINING) {
        "; instead of a join write another IN (SELECT …) in the subquery's WHERE"
    } else if is_among(AFTER_WHERE) {
        "; a subquery is SELECT … FROM … WHERE … and nothing more"
    } else {
        ""
    };
    let message = format!(
        "{} is not supported{instead}; write a column of this name in quotes",
        echo(&word)
    );
    Err(FilterError::bad(at, message))
}

fn param(text: &str, at: usize) -> Result<usize, FilterError> {
    let digits = text.strip_prefix('$').unwrap_or_default();
    let number = digits
        .parse()
        .ok()
        .filter(|number: &usize| number.to_string() == digits);
    number.filter(|&number| number > 0).ok_or_else(|| {
        FilterError::bad(
            at,
            format!("a parameter is $1, $2 and so on, not {}", echo(text)),
        )
    })
}

/// Converts lines and columns to characters from the beginning.
struct Positions {
    /// The number of characters before each line.
    lines: Vec<usize>,
    length: usize,
}

impl Positions {
    fn new(text: &str) -> Self {
        let mut lines = vec![0];
        let mut length = 0;
        for character in text.chars() {
            length += 1;
            if character == '\n' {
                lines.push(length);
            }
        }
        Self { lines, length }
    }

    fn of(&self, location: Location) -> usize {
        let number = |value: u64| usize::try_from(value).unwrap_or(1).max(1);
        let before = self
            .lines
            .get(number(location.line) - 1)
            .copied()
            .unwrap_or(self.length);
        (before + number(location.column)).min(self.length + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<TokenKind> {
        tokens(text, Language::Filter)
            .expect(text)
            .into_iter()
            .map(|token| token.kind)
            .collect()
    }

    #[test]
    fn names_keywords_and_literals() {
        let name = |name: &str, quoted| TokenKind::Name {
            name: name.to_owned(),
            quoted,
        };
        let text = "Ab \"A\"\"b\" aNd 'it''s\\' 1.5e+3 $12";
        let expected = [
            name("Ab", false),
            name("A\"b", true),
            TokenKind::Keyword(Keyword::And),
            TokenKind::Text("it's\\".to_owned()),
            TokenKind::Number("1.5e+3".to_owned()),
            TokenKind::Param(12),
        ];
        assert_eq!(kinds(text), expected);
        assert_eq!(kinds("\"and\""), [name("and", true)]);
    }

    #[test]
    fn positions_are_characters_from_one() {
        let at = |text| {
            tokens(text, Language::Filter)
                .expect(text)
                .iter()
                .map(|t| t.at)
                .collect::<Vec<_>>()
        };
        assert_eq!(at("é = 'ü'"), [1, 3, 5]);
        assert_eq!(at("a\r\n =\n\n\t😀"), [1, 5, 9]);
        for (text, position) in [
            ("a = 1; b", 6),
            ("a = 1 -- b", 7),
            ("a /* b */ = 1", 3),
            ("'é' = 'b", 7),
            ("a\n|| b", 3),
            ("a = $x", 5),
            ("a = $0", 5),
            ("a = $01", 5),
            ("a = $99999999999999999999", 5),
            ("user = 'x'", 1),
            ("a ILIKE 'x'", 3),
            ("a::int = 1", 2),
            ("a = E'x'", 5),
            ("a = U&'x'", 5),
            ("a = $$x$$", 5),
            ("a = 1L", 5),
            ("a = ?", 5),
        ] {
            assert_eq!(
                tokens(text, Language::Filter).expect_err(text).position,
                Some(position),
                "{text}"
            );
        }
    }

    #[test]
    fn a_text_that_is_too_long_is_not_read() {
        let long = "(".repeat(1024 * 1024);
        let error = tokens(&long, Language::Filter).expect_err("too long");
        assert_eq!(error.kind, crate::FilterErrorKind::TooLarge);
        assert!(tokens(&"(".repeat(TEXT_BYTES_MAX), Language::Filter).is_ok());
    }
}
