//! Compares snapshots with what they stand for: sets of transactions.

use std::collections::BTreeSet;

use proptest::prelude::*;
use rhtmx_sync_core::cursor::{CommitId, Position};
use rhtmx_sync_core::snapshot::{Snapshot, Xid};

/// The transactions of the model; every snapshot here ends well before the last.
const UNIVERSE: std::ops::Range<Xid> = 0..24;

/// A snapshot, and the set of transactions that it sees.
fn snapshot() -> impl Strategy<Value = (Snapshot, BTreeSet<Xid>)> {
    (1..8_u64, 0..8_u64).prop_flat_map(|(xmin, length)| {
        let xmax = xmin + length;
        // Many are running at the end, so that a higher xmax need not mean that more is visible.
        let running = prop::collection::vec(prop::bool::weighted(0.6), length as usize);
        running.prop_map(move |running| {
            let running: Vec<Xid> = (xmin..xmax)
                .zip(running)
                .filter_map(|(xid, runs)| runs.then_some(xid))
                .collect();
            let seen = UNIVERSE
                .filter(|xid| *xid < xmax && !running.contains(xid))
                .collect();
            (
                Snapshot::new(xmin, xmax, running).expect("a snapshot"),
                seen,
            )
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn a_snapshot_contains_the_transactions_of_its_set((snapshot, seen) in snapshot()) {
        for xid in UNIVERSE {
            prop_assert_eq!(snapshot.contains(xid), seen.contains(&xid), "{}", xid);
            let position = Position::Snapshot(snapshot.clone());
            prop_assert_eq!(position.contains(CommitId::Xid(xid)), seen.contains(&xid), "{}", xid);
        }
    }

    #[test]
    fn a_snapshot_covers_its_subsets((a, seen_by_a) in snapshot(), (b, seen_by_b) in snapshot()) {
        prop_assert_eq!(a.covers(&b), seen_by_b.is_subset(&seen_by_a));
        prop_assert_eq!(b.covers(&a), seen_by_a.is_subset(&seen_by_b));
    }

    /// Of two random snapshots one seldom covers the other, so this is a later one of the same database.
    #[test]
    fn a_later_snapshot_covers_an_earlier_one(
        (earlier, seen) in snapshot(),
        begun in 0..6_u64,
        ended in prop::collection::vec(any::<bool>(), 16),
    ) {
        let xmax = earlier.xmax() + begun;
        let open = earlier.running().iter().copied().chain(earlier.xmax()..xmax);
        let running: Vec<Xid> =
            open.zip(&ended).filter_map(|(xid, ended)| (!ended).then_some(xid)).collect();
        let xmin = running.first().copied().unwrap_or(xmax);
        let later = Snapshot::new(xmin, xmax, running).expect("a snapshot");
        prop_assert!(later.covers(&earlier));
        let grown = UNIVERSE.filter(|xid| later.contains(*xid)).count() > seen.len();
        prop_assert_eq!(earlier.covers(&later), !grown);
        let (earlier, later) = (Position::Snapshot(earlier), Position::Snapshot(later));
        let newest = earlier.clone().max(later.clone());
        for commit_id in UNIVERSE.map(CommitId::Xid) {
            prop_assert_eq!(newest.contains(commit_id), later.contains(commit_id));
        }
    }
}
