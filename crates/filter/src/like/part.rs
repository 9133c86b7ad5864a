//! A part of a pattern between two `%`, or beside one.

use std::collections::BTreeMap;

/// The most characters of a part between two `%` that contains `_`: the bits of a word.
pub(super) const PART_CHARS_MAX: usize = 128;

/// A part: characters, and none for `_`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Part {
    pub(super) chars: Vec<Option<char>>,
    finder: Finder,
}

/// How a part is searched for; follows from its characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Finder {
    Literal(String),
    /// The positions in the part at which each character may stand, and those at which any may.
    ShiftAnd {
        positions: BTreeMap<char, u128>,
        any: u128,
    },
    /// The part is at an end of the pattern, and is not searched for.
    Anchored,
}

impl Part {
    /// Makes a part; it is `anchored` at an end of the pattern.
    pub(super) fn new(chars: Vec<Option<char>>, anchored: bool) -> Self {
        let finder = match chars.iter().copied().collect::<Option<String>>() {
            _ if anchored => Finder::Anchored,
            Some(literal) => Finder::Literal(literal),
            None => {
                let mut positions = BTreeMap::new();
                let mut any = 0;
                for (index, one) in chars.iter().enumerate() {
                    match one {
                        Some(character) => *positions.entry(*character).or_default() |= 1 << index,
                        None => any |= 1 << index,
                    }
                }
                Finder::ShiftAnd { positions, any }
            }
        };
        Self { chars, finder }
    }

    /// The memory that it takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let finder = match &self.finder {
            Finder::Literal(literal) => literal.len(),
            Finder::ShiftAnd { positions, .. } => positions.len() * size_of::<(char, u128)>(),
            Finder::Anchored => 0,
        };
        size_of::<Self>() + self.chars.len() * size_of::<Option<char>>() + finder
    }

    /// What it costs to search 64 bytes of a text, in comparisons.
    pub(super) fn search_work(&self) -> usize {
        match &self.finder {
            Finder::Literal(_) => 8,
            Finder::ShiftAnd { .. } => 64,
            Finder::Anchored => 0,
        }
    }

    pub(super) fn strip_from_start<'a>(&self, text: &'a str) -> Option<&'a str> {
        let mut rest = text.chars();
        for one in &self.chars {
            let found = rest.next()?;
            if one.is_some_and(|character| character != found) {
                return None;
            }
        }
        Some(rest.as_str())
    }

    pub(super) fn strip_from_end<'a>(&self, text: &'a str) -> Option<&'a str> {
        let mut rest = text.chars();
        for one in self.chars.iter().rev() {
            let found = rest.next_back()?;
            if one.is_some_and(|character| character != found) {
                return None;
            }
        }
        Some(rest.as_str())
    }

    /// The end of the first occurrence.
    pub(super) fn find_end(&self, text: &str) -> Option<usize> {
        match &self.finder {
            Finder::Literal(literal) => text.find(literal.as_str()).map(|at| at + literal.len()),
            Finder::ShiftAnd { positions, any } => {
                let accept = 1_u128 << (self.chars.len() - 1);
                let mut state = 0_u128;
                for (at, character) in text.char_indices() {
                    let fits = any | positions.get(&character).copied().unwrap_or_default();
                    state = ((state << 1) | 1) & fits;
                    if state & accept != 0 {
                        return Some(at + character.len_utf8());
                    }
                }
                None
            }
            Finder::Anchored => None,
        }
    }
}
