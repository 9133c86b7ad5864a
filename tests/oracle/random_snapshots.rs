//! Random snapshots.

use rhtmx_sync_tests::Dice;
use sync_core::snapshot::{Snapshot, Xid};
use testkit::TestDatabase;

use crate::visibility::{includes, visible, written};

/// Ranges of transaction numbers: young, before and after a wrap of 32 bits, and far beyond. At the
/// wrap itself PostgreSQL skips some numbers, and does not parse them.
const BASES: [Xid; 4] = [1, (1 << 32) - 500, (1 << 32) + 1003, (1 << 62) + 1003];

/// A snapshot a little above `base`.
fn snapshot(dice: &mut Dice, base: Xid) -> Snapshot {
    let xmin = base + dice.pick(0..8);
    let xmax = xmin + dice.pick(0..24);
    let percent = dice.pick(0..100);
    let running = (xmin..xmax).filter(|_| dice.chance(percent)).collect();
    Snapshot::new(xmin, xmax, running).expect("a snapshot")
}

fn snapshots(dice: &mut Dice, count: usize) -> Vec<Snapshot> {
    (0..count)
        .map(|at| snapshot(dice, BASES[at % BASES.len()]))
        .collect()
}

#[tokio::test]
async fn contains_is_pg_visible_in_snapshot() {
    let mut dice = Dice::new("contains_is_pg_visible_in_snapshot");
    let snapshots = snapshots(&mut dice, 600);
    let base = |at: usize| BASES[at % BASES.len()];
    let pairs: Vec<(&Snapshot, Xid)> = snapshots
        .iter()
        .enumerate()
        .flat_map(|(at, snapshot)| (base(at)..base(at) + 36).map(move |xid| (snapshot, xid)))
        .collect();
    let db = TestDatabase::postgres().await;
    let expected = visible(&db.connect_postgres().await, &pairs).await;
    assert_eq!(expected.len(), pairs.len());
    assert!(expected.contains(&true) && expected.contains(&false));
    for ((snapshot, xid), expected) in pairs.into_iter().zip(expected) {
        assert_eq!(snapshot.contains(xid), expected, "{xid} in {snapshot}");
    }
}

#[tokio::test]
async fn covers_is_inclusion() {
    let mut dice = Dice::new("covers_is_inclusion");
    let ours = snapshots(&mut dice, 3000);
    let theirs = snapshots(&mut dice, 3000);
    let pairs: Vec<(&Snapshot, &Snapshot)> = ours.iter().zip(&theirs).collect();
    let db = TestDatabase::postgres().await;
    let expected = includes(&db.connect_postgres().await, &pairs).await;
    let covering = expected.iter().filter(|covers| **covers).count();
    assert!(
        (100..2900).contains(&covering),
        "{covering} of 3000 cover each other: too few"
    );
    for ((ours, theirs), expected) in pairs.into_iter().zip(expected) {
        assert_eq!(ours.covers(theirs), expected, "{ours} covers {theirs}");
    }
}

/// PostgreSQL parses what core parses, and writes it in the same way: a cursor has one text.
#[tokio::test]
async fn texts_are_the_same_as_postgresqls() {
    let mut dice = Dice::new("texts_are_postgresqls_own");
    let mut texts: Vec<String> = snapshots(&mut dice, 4000)
        .iter()
        .map(Snapshot::to_string)
        .collect();
    for text in texts.iter_mut().skip(1000) {
        let at = dice.pick(0..text.len() as u64) as usize;
        let other = *b"0123456789:,- +"
            .get(dice.pick(0..15) as usize)
            .expect("a character");
        let other = char::from(other).to_string();
        text.replace_range(at..=at, &other);
    }
    let accepted: Vec<String> = texts
        .into_iter()
        .filter(|text| text.parse::<Snapshot>().is_ok())
        .collect();
    assert!(
        (1500..3900).contains(&accepted.len()),
        "{} of 4000 are valid: too few",
        accepted.len()
    );
    let db = TestDatabase::postgres().await;
    let written = written(&db.connect_postgres().await, &accepted).await;
    for (accepted, written) in accepted.iter().zip(written) {
        assert_eq!(*accepted, written);
        assert_eq!(
            accepted
                .parse::<Snapshot>()
                .expect("PostgreSQL parses it")
                .to_string(),
            written
        );
    }
}
