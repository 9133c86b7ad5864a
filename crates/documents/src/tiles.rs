//! The stored parts of a document's log: they lie side by side from its first update to its last, and which are merged next.

use std::ops::Range;

use thiserror::Error;

/// A stored part: one update, or several that have been merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tile {
    /// The number of its first update.
    pub from: u64,
    /// The number of its last.
    pub to: u64,
    /// How many bytes it has.
    pub bytes: u64,
}

/// Parts that do not lie side by side: something is lost, or there twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("update {expected} is expected, and {found} comes")]
pub struct TileFault {
    /// The number that must come.
    pub expected: u64,
    /// The number that comes, or at the end the number after the document's last.
    pub found: u64,
}

/// Checks that parts, in their order, are all of `1..=head`.
///
/// # Errors
/// At the first place where they are not.
pub fn check_tiles(tiles: impl IntoIterator<Item = Tile>, head: u64) -> Result<(), TileFault> {
    let mut expected = 1;
    for tile in tiles {
        if tile.from != expected || tile.to < tile.from {
            let found = if tile.from == expected {
                tile.to
            } else {
                tile.from
            };
            return Err(TileFault { expected, found });
        }
        expected = tile.to + 1;
    }
    match expected == head + 1 {
        true => Ok(()),
        false => Err(TileFault {
            expected,
            found: head + 1,
        }),
    }
}

/// When parts are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompactionPolicy {
    /// How many single updates wait for a merge.
    pub updates_min: usize,
    /// A part is merged with those after it once they are together this many times as large as it: so each byte is written
    /// again only when what it is in grows by this factor, a number of times that is logarithmic in the document's size.
    pub growth: u64,
}

impl Default for CompactionPolicy {
    fn default() -> Self {
        Self {
            updates_min: 256,
            growth: 7,
        }
    }
}

/// Which parts are to be merged now: some at the end of the log, or none.
pub fn parts_to_merge(tiles: &[Tile], policy: CompactionPolicy) -> Option<Range<usize>> {
    let singles = tiles.iter().rev().take_while(|tile| tile.from == tile.to);
    let singles = singles.count();
    if singles < policy.updates_min.max(2) {
        return None;
    }
    let first_single = tiles.len() - singles;
    let (mut start, mut after) = (first_single, bytes_of(&tiles[first_single..]));
    for (index, tile) in tiles[..first_single].iter().enumerate().rev() {
        if tile.bytes.saturating_mul(policy.growth) <= after {
            start = index;
        }
        after = after.saturating_add(tile.bytes);
    }
    Some(start..tiles.len())
}

fn bytes_of(tiles: &[Tile]) -> u64 {
    tiles
        .iter()
        .fold(0, |sum, tile| sum.saturating_add(tile.bytes))
}
