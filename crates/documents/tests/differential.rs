//! What passes a scan is held against yrs: it decodes it. And what Yjs has written passes.
//!
//! `vectors/yjs-updates.txt` has updates of Yjs 13.6, in hexadecimal: arrays, maps, texts with formats and embeds, XML,
//! documents within documents, in the grain in which editors make them and merged.

use proptest::prelude::*;
use rhtmx_sync_documents::{ScanLimits, Snapshot, scan_state_vector, scan_update, state_vector};
use yrs::Update;
use yrs::updates::decoder::Decode as _;

fn updates() -> Vec<Vec<u8>> {
    let lines = include_str!("vectors/yjs-updates.txt").lines();
    let bytes = |line: &str| {
        let digits = (0..line.len()).step_by(2);
        let byte = |at: usize| u8::from_str_radix(&line[at..at + 2], 16).expect("hexadecimal");
        digits.map(byte).collect()
    };
    lines.map(bytes).collect()
}

#[test]
fn what_yjs_has_written_passes_and_is_decoded() {
    let limits = ScanLimits::default();
    for update in updates() {
        let scan =
            scan_update(&update, &limits).unwrap_or_else(|fault| panic!("{fault}: {update:?}"));
        assert!(!scan.is_empty());
        if !scan.is_mergeable {
            // A half of a surrogate in JSON, or an XML hook.
            continue;
        }
        Update::decode_v1(&update).expect("yrs decodes it");
        let whole = yrs::merge_updates_v1([update.as_slice()]).expect("yrs merges it");
        // As yrs sees how far it goes.
        let snapshot = Snapshot::of_update(&whole, &limits)
            .unwrap_or_else(|fault| panic!("{fault}: {update:?} {whole:?}"));
        let vector = yrs::encode_state_vector_from_update_v1(&whole).expect("a state vector");
        let clocks = scan_state_vector(&vector, &limits).expect("a state vector");
        assert_eq!(
            state_vector(snapshot.clocks()),
            state_vector(&clocks),
            "{update:?}"
        );
    }
}

/// A change of bytes.
#[derive(Debug, Clone)]
enum Change {
    Set(prop::sample::Index, u8),
    Remove(prop::sample::Index),
    Insert(prop::sample::Index, u8),
    Repeat(prop::sample::Index, u8),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        4 => (at(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        2 => (at(), 0..12_u8).prop_map(|(at, byte)| Change::Set(at, byte)),
        1 => at().prop_map(Change::Remove),
        1 => (at(), any::<u8>()).prop_map(|(at, byte)| Change::Insert(at, byte)),
        1 => (at(), 2..9_u8).prop_map(|(at, length)| Change::Repeat(at, length)),
    ]
}

fn changed(mut update: Vec<u8>, changes: Vec<Change>) -> Vec<u8> {
    for change in changes {
        if update.is_empty() {
            break;
        }
        match change {
            Change::Set(at, byte) => {
                let at = at.index(update.len());
                update[at] = byte;
            }
            Change::Remove(at) => {
                update.remove(at.index(update.len()));
            }
            Change::Insert(at, byte) => update.insert(at.index(update.len()), byte),
            Change::Repeat(at, length) => {
                let at = at.index(update.len());
                let end = update.len().min(at + usize::from(length));
                let again = update[at..end].to_vec();
                update.splice(at..at, again);
            }
        }
    }
    update
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn what_passes_is_decoded(update in prop::sample::select(updates()), changes in prop::collection::vec(change(), 1..4)) {
        let update = changed(update, changes);
        if scan_update(&update, &ScanLimits::default()).is_ok_and(|scan| scan.is_mergeable) {
            let decoded = Update::decode_v1(&update);
            prop_assert!(decoded.is_ok(), "{:?}: {update:?}", decoded.err());
        }
    }
}
