//! Parts of a log lie side by side, however they are merged, and are not written often.

use proptest::prelude::*;
use rhtmx_sync_documents::{CompactionPolicy, Tile, TileFault, check_tiles, parts_to_merge};

fn tile(from: u64, to: u64) -> Tile {
    Tile { from, to, bytes: 1 }
}

#[test]
fn a_part_that_is_missing_or_there_twice_is_found() {
    assert_eq!(check_tiles([], 0), Ok(()));
    assert_eq!(check_tiles([tile(1, 3), tile(4, 4)], 4), Ok(()));
    let fault = |expected, found| Err(TileFault { expected, found });
    assert_eq!(check_tiles([tile(1, 3), tile(5, 5)], 5), fault(4, 5));
    assert_eq!(check_tiles([tile(1, 3), tile(3, 5)], 5), fault(4, 3));
    assert_eq!(check_tiles([tile(1, 3)], 4), fault(4, 5));
    assert_eq!(check_tiles([tile(1, 3)], 2), fault(4, 3));
    assert_eq!(check_tiles([tile(2, 3)], 3), fault(1, 2));
    assert_eq!(check_tiles([tile(1, 0)], 0), fault(1, 0));
}

/// Appends updates of these sizes, and merges whenever there is something to merge. Returns the parts, and how many bytes
/// were written for each that came.
fn appended(sizes: impl IntoIterator<Item = u64>, policy: CompactionPolicy) -> (Vec<Tile>, f64) {
    let (mut tiles, mut came, mut written) = (Vec::<Tile>::new(), 0, 0);
    for (number, bytes) in (1..).zip(sizes) {
        tiles.push(Tile {
            from: number,
            to: number,
            bytes,
        });
        came += bytes;
        written += bytes;
        while let Some(parts) = parts_to_merge(&tiles, policy) {
            let start = parts.start;
            let merged: Vec<Tile> = tiles.drain(parts).collect();
            let bytes = merged.iter().map(|tile| tile.bytes).sum();
            let (first, last) = (merged[0], merged[merged.len() - 1]);
            tiles.insert(
                start,
                Tile {
                    from: first.from,
                    to: last.to,
                    bytes,
                },
            );
            written += bytes;
        }
    }
    let head = tiles.last().map_or(0, |tile| tile.to);
    assert_eq!(check_tiles(tiles.iter().copied(), head), Ok(()));
    (
        tiles,
        written as f64 / f64::from(u32::try_from(came.max(1)).expect("small")),
    )
}

#[test]
fn a_long_document_is_not_written_often() {
    let policy = CompactionPolicy::default();
    let (tiles, amplification) = appended((0..200_000).map(|number| 10 + number % 30), policy);
    println!("{amplification} {}", tiles.len());
    assert!(amplification <= 4.5, "{amplification}");
    assert!(tiles.len() <= policy.updates_min + 40, "{}", tiles.len());
}

proptest! {
    #[test]
    fn there_are_few_parts_whatever_comes(sizes in prop::collection::vec(1_u64..10_000, 0..2_000)) {
        let policy = CompactionPolicy { updates_min: 8, growth: 3 };
        let (tiles, _) = appended(sizes, policy);
        // Each merged part is followed by less than its threefold: few of about one size come one after the other, and
        // sizes have few levels.
        prop_assert!(tiles.len() <= 8 + 3 * 24, "{}", tiles.len());
    }
}
