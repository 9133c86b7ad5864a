//! The values that sets hold.

use std::hash::{Hash, Hasher};

use filter::Scalar;
use hashbrown::Equivalent;

/// The values that one row gives to a set, one for each of its columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Values {
    One(Scalar),
    Several(Box<[Scalar]>),
}

/// Values that are looked up.
pub(super) struct LookedUp<'a>(pub(super) &'a [&'a Scalar]);

/// Whether a difference is yet to be added to what is known, or to be taken off it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    Plus,
    Minus,
}

impl Sign {
    pub(super) fn add(self, count: u64, change: i64) -> u64 {
        let change = if self == Self::Minus { -change } else { change };
        count.saturating_add_signed(change)
    }
}

impl Values {
    pub(super) fn as_slice(&self) -> &[Scalar] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Several(values) => values,
        }
    }
}

impl FromIterator<Scalar> for Values {
    fn from_iter<I: IntoIterator<Item = Scalar>>(values: I) -> Self {
        let mut values: Vec<Scalar> = values.into_iter().collect();
        match values.len() {
            1 => Self::One(values.remove(0)),
            _ => Self::Several(values.into()),
        }
    }
}

// Both are hashed alike, so that values can be looked up without being copied.
impl Hash for Values {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_slice().iter().for_each(|value| value.hash(state));
    }
}

impl Hash for LookedUp<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.iter().for_each(|value| value.hash(state));
    }
}

impl Equivalent<Values> for LookedUp<'_> {
    fn equivalent(&self, values: &Values) -> bool {
        self.0.iter().copied().eq(values.as_slice())
    }
}
