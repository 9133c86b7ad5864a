//! `LIKE`, in time that grows with the text alone.
//!
//! A pattern is cut at its `%`. The parts before the first and after the last are compared with the ends of
//! the text. Each part between is searched for from where the part before it ended, and its first occurrence
//! is as good as any. Parts without `_` are found by the standard library's search, the others by shift-and
//! (Baeza-Yates and Gonnet, "A New Approach to Text Searching", 1992), so nothing backtracks.

mod part;

use std::sync::Arc;

use part::{PART_CHARS_MAX, Part};

/// The most characters of a pattern.
pub(super) const PATTERN_CHARS_MAX: usize = 1000;

/// A pattern, in one form: patterns that say the same are equal. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern {
    /// The parts between the `%`, one more than there are `%`. Only the first and the last may be empty.
    parts: Arc<[Part]>,
}

impl Pattern {
    /// Reads a pattern: `%` is any run of characters, `_` any one, and a backslash escapes the character
    /// after it.
    ///
    /// # Errors
    /// What is wrong, as a message.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        if text.chars().nth(PATTERN_CHARS_MAX).is_some() {
            return Err(format!(
                "a pattern has at most {PATTERN_CHARS_MAX} characters"
            ));
        }
        let mut parts = vec![Vec::new()];
        let mut chars = text.chars();
        while let Some(character) = chars.next() {
            let last = parts.last_mut().expect("never empty");
            match character {
                '%' => parts.push(Vec::new()),
                '_' => last.push(None),
                '\\' => match chars.next() {
                    Some(escaped) => last.push(Some(escaped)),
                    None => return Err("a pattern cannot end with a backslash".to_owned()),
                },
                other => last.push(Some(other)),
            }
        }
        let parts = one_form(parts);
        let middle = parts.iter().take(parts.len() - 1).skip(1);
        let is_too_long = |part: &Vec<_>| part.len() > PART_CHARS_MAX && part.contains(&None);
        if middle.clone().any(is_too_long) {
            return Err(format!(
                "a part of a pattern between two % has at most {PART_CHARS_MAX} characters if it contains _"
            ));
        }
        let count = parts.len();
        let parts = parts.into_iter().enumerate();
        let parts = parts.map(|(index, chars)| Part::new(chars, index == 0 || index + 1 == count));
        Ok(Self {
            parts: parts.collect(),
        })
    }

    /// Whether the whole text matches.
    pub fn matches(&self, text: &str) -> bool {
        let (first, rest) = self.parts.split_first().expect("never empty");
        let Some(text) = first.strip_from_start(text) else {
            return false;
        };
        let Some((last, middle)) = rest.split_last() else {
            return text.is_empty();
        };
        // The end is stripped first: the parts between may not reach into it.
        let Some(mut text) = last.strip_from_end(text) else {
            return false;
        };
        for part in middle {
            match part.find_end(text) {
                Some(end) => text = &text[end..],
                None => return false,
            }
        }
        true
    }

    /// The memory that it takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.parts.iter().map(Part::bytes).sum()
    }

    /// What it costs to search 64 bytes of a text, in comparisons. The parts are searched for one after
    /// another, so a text is read about once.
    pub(super) fn search_work(&self) -> usize {
        let parts = self.parts.iter().map(Part::search_work);
        parts.max().unwrap_or_default()
    }

    /// The only text that matches, if there is only one.
    pub(super) fn only_text(&self) -> Option<String> {
        match &self.parts[..] {
            [one] => one.chars.iter().copied().collect(),
            _ => None,
        }
    }

    /// The pattern's pieces in order: a character, `_` or `%`.
    pub fn pieces(&self) -> impl Iterator<Item = Piece> + '_ {
        self.parts.iter().enumerate().flat_map(|(index, part)| {
            let gap = (index > 0).then_some(Piece::Run);
            let chars = part
                .chars
                .iter()
                .map(|one| one.map_or(Piece::One, Piece::Char));
            gap.into_iter().chain(chars)
        })
    }

    /// The pattern's text, with a backslash only where it needs one.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for piece in self.pieces() {
            match piece {
                Piece::Run => text.push('%'),
                Piece::One => text.push('_'),
                Piece::Char(special @ ('%' | '_' | '\\')) => text.extend(['\\', special]),
                Piece::Char(other) => text.push(other),
            }
        }
        text
    }
}

/// A piece of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// This character.
    Char(char),
    /// `_`: any one character.
    One,
    /// `%`: any run of characters.
    Run,
}

/// Rewrites each run of `%` and `_` as its `_`, then one `%`: only their number matters.
fn one_form(parts: Vec<Vec<Option<char>>>) -> Vec<Vec<Option<char>>> {
    let count = parts.len();
    let mut kept: Vec<Vec<Option<char>>> = Vec::with_capacity(count);
    for (index, mut part) in parts.into_iter().enumerate() {
        if let Some(before) = kept.last_mut() {
            let wild = part.iter().take_while(|one| one.is_none()).count();
            before.extend(part.drain(..wild));
        }
        if !part.is_empty() || index == 0 || index + 1 == count {
            kept.push(part);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::read(text).expect(text)
    }

    #[test]
    fn wildcards_and_escapes() {
        for (text, matching, no_match) in [
            ("", vec![""], vec!["a"]),
            ("a", vec!["a"], vec!["", "A", "aa"]),
            ("%", vec!["", "a", "😀\n"], vec![]),
            ("_", vec!["a", "😀"], vec!["", "ab", "e\u{301}"]),
            ("a%", vec!["a", "ab"], vec!["", "ba"]),
            ("%a", vec!["a", "ba", "aa"], vec!["ab"]),
            ("a%a", vec!["aa", "aba"], vec!["a"]),
            ("%b_%", vec!["bb", "abcd"], vec!["ab", "b"]),
            (
                "%_b_c%",
                vec!["abxc", "bbbcc", "aabxbyc"],
                vec!["bxc", "abc"],
            ),
            (
                "ab%bc%cd",
                vec!["abbccd", "ab_bc_cd"],
                vec!["abccd", "abcd"],
            ),
            (r"50\%", vec!["50%"], vec!["500", r"50\%"]),
            (r"\a\\\_", vec![r"a\_"], vec![r"a\b"]),
            ("*?[a]", vec!["*?[a]"], vec!["xya"]),
        ] {
            let pattern = pattern(text);
            for one in matching {
                assert!(pattern.matches(one), "{text} {one}");
            }
            for one in no_match {
                assert!(!pattern.matches(one), "{text} {one}");
            }
        }
    }

    #[test]
    fn patterns_that_say_the_same_are_equal() {
        for (one, two) in [
            ("%%", "%"),
            ("a%_%b", "a_%b"),
            ("%_", "_%"),
            (r"\a\b%", "ab%"),
            ("%_%_", "__%%"),
        ] {
            assert_eq!(pattern(one), pattern(two), "{one} {two}");
            assert_eq!(pattern(&pattern(one).text()), pattern(one));
        }
        assert_eq!(pattern(r"\%a\\_%").text(), r"\%a\\_%");
        assert_eq!(pattern(r"a\%").only_text().as_deref(), Some("a%"));
        assert_eq!(pattern("a_").only_text(), None);
        assert_eq!(pattern("a%").only_text(), None);
    }

    #[test]
    fn invalid_patterns_are_errors() {
        assert!(Pattern::read("a\\").is_err());
        assert!(Pattern::read(r"a\\").is_ok());
        assert!(Pattern::read(&"a".repeat(PATTERN_CHARS_MAX + 1)).is_err());
        assert!(Pattern::read(&format!("%{}_%", "a".repeat(PART_CHARS_MAX))).is_err());
        assert!(
            pattern(&format!("%{}_%", "a".repeat(PART_CHARS_MAX - 1)))
                .matches(&"a".repeat(PART_CHARS_MAX))
        );
        assert!(pattern(&format!("%{}%", "a".repeat(500))).matches(&"a".repeat(500)));
    }

    /// Backtracking would take more steps here than there are atoms in the universe.
    #[test]
    fn patterns_that_invite_backtracking_are_fast() {
        let text = "a".repeat(1_000_000);
        for slow in [
            "%a".repeat(450) + "b",
            "%a_a".repeat(200) + "%b%",
            "%_a%b".repeat(150),
        ] {
            assert!(!pattern(&slow).matches(&text), "{slow}");
        }
        assert!(pattern(&"%a_".repeat(300)).matches(&text));
    }
}
