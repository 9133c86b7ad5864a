//! Updates as Yjs writes them pass; what is wrong is told with its place, whatever it is.

use proptest::prelude::*;
use rhtmx_sync_documents::{
    AwarenessEntry, ClientRange, FaultKind, Limit, ScanLimits, Snapshot, scan_awareness,
    scan_state_vector, scan_update,
};

/// Updates that Yjs, or yrs, has written; from the tests of yrs, and by hand from the grammar.
const WRITTEN: [&[u8]; 6] = [
    &[0, 0],
    &[
        1, 1, 220, 240, 237, 172, 15, 0, 4, 1, 4, 116, 101, 115, 116, 3, 97, 98, 99, 0,
    ],
    &[
        2, 1, 220, 240, 237, 172, 15, 0, 4, 1, 4, 116, 101, 115, 116, 3, 97, 98, 99, 1, 201, 139,
        250, 201, 1, 0, 4, 1, 4, 116, 101, 115, 116, 2, 100, 101, 0,
    ],
    &[
        1, 2, 148, 189, 145, 162, 9, 0, 4, 1, 4, 116, 101, 115, 116, 3, 97, 98, 99, 68, 148, 189,
        145, 162, 9, 0, 2, 100, 101, 0,
    ],
    // A key of a map, and the one before it.
    &[
        1, 1, 176, 249, 159, 198, 7, 0, 40, 1, 0, 4, 107, 101, 121, 66, 1, 119, 6, 118, 97, 108,
        117, 101, 66, 0,
    ],
    // A range of deletions alone.
    &[0, 1, 5, 1, 3, 2],
];

fn scanned(bytes: &[u8]) -> Result<rhtmx_sync_documents::UpdateScan, FaultKind> {
    scan_update(bytes, &ScanLimits::default()).map_err(|fault| fault.kind)
}

#[test]
fn what_yjs_writes_passes() {
    for update in WRITTEN {
        let scan = scanned(update);
        assert!(scan.is_ok(), "{scan:?}: {update:?}");
    }
    let scan = scanned(WRITTEN[3]).expect("an update");
    let range = ClientRange {
        client: 2_487_508_628,
        from: 0,
        to: 5,
        until_gap: 5,
    };
    assert_eq!((scan.clients, scan.structs), (vec![range], 2));
    assert!(scanned(WRITTEN[0]).expect("an update").is_empty());
    assert_eq!(scanned(WRITTEN[5]).expect("an update").delete_ranges, 1);
}

#[test]
fn an_update_that_is_cut_off_or_goes_on_is_none() {
    for update in WRITTEN {
        for end in 0..update.len() {
            assert!(scanned(&update[..end]).is_err(), "{end} of {update:?}");
        }
        let more = [update, &[0]].concat();
        assert_eq!(scanned(&more), Err(FaultKind::Trailing));
    }
}

/// An update with one item of the client 1 and this content, whose number is `number`.
fn with_content(number: u8, content: &[u8]) -> Vec<u8> {
    let begin = [1, 1, 1, 0, number, 1, 1, b'r'];
    [&begin, content, &[0]].concat()
}

#[test]
fn every_content_is_read_to_its_end() {
    let length_of = |number, content: &[u8]| {
        let scan = scanned(&with_content(number, content));
        scan.map(|scan| scan.clients[0].to)
    };
    assert_eq!(length_of(1, &[7]), Ok(7));
    assert_eq!(length_of(2, b"\x02\x09undefined\x02{}"), Ok(2));
    assert_eq!(length_of(3, &[2, 0, 255]), Ok(1));
    // UTF-16 counts a face as two.
    assert_eq!(length_of(4, "\u{5}a😀".as_bytes()), Ok(3));
    assert_eq!(length_of(5, b"\x07{\"a\":1}"), Ok(1));
    assert_eq!(length_of(6, b"\x04bold\x04true"), Ok(1));
    assert_eq!(length_of(7, &[2]), Ok(1));
    assert_eq!(length_of(7, &[3, 1, b'p']), Ok(1));
    assert_eq!(
        length_of(
            8,
            &[
                3, 125, 0xbf, 0xff, 0xff, 0xff, 0x0f, 127, 118, 1, 1, b'k', 117, 0
            ]
        ),
        Ok(3)
    );
    assert_eq!(length_of(9, &[1, b'g', 118, 0]), Ok(1));
    assert!(
        scanned(&with_content(9, &[1, b'g', 118, 0]))
            .expect("an update")
            .has_documents
    );
}

#[test]
fn what_is_hostile_is_refused_with_a_reason() {
    let limits = ScanLimits::default();
    let update = |bytes: &[u8]| {
        scan_update(bytes, &limits)
            .map_err(|fault| fault.kind)
            .map(|_| ())
    };
    // A text that is not UTF-8: y-crdt 644.
    let broken = [
        1, 1, 0xca, 1, 0, 0xc4, 1, 0x0a, 1, 0x0b, 6, 0x20, 0x74, 0x68, 0x65, 0xe5, 0x65, 0,
    ];
    assert_eq!(update(&broken), Err(FaultKind::Text));
    // Billions are announced: y-crdt 639.
    for bomb in [
        &[0x80, 0x80, 0x80, 0x80, 0x0f][..],
        &[0xff, 0xff, 0xff, 0x7a],
    ] {
        assert_eq!(update(bomb), Err(FaultKind::Count));
        let vector = scan_state_vector(bomb, &limits).map_err(|fault| fault.kind);
        assert_eq!(vector, Err(FaultKind::Count));
        let awareness = scan_awareness(bomb, &limits).map_err(|fault| fault.kind);
        assert_eq!(awareness, Err(FaultKind::Count));
    }
    assert_eq!(update(&[]), Err(FaultKind::Ended));
    // Version 2: yjs 687.
    let second = b"\x00\x01\x00\x00\x00\x00\x00\x01\x00\x01\x00\x01\x02\x00\x01\x60\x20\x00\x00\x1f\xdf\xff\xff\xff\xf7\xf0";
    assert!(update(second).is_err());
    // Arrays in arrays.
    let deep: Vec<u8> = [&[1][..], &[117, 1].repeat(100_000), &[126]].concat();
    assert_eq!(
        update(&with_content(8, &deep)),
        Err(FaultKind::TooMany(Limit::Depth))
    );
    let json = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let json = [&[0x90, 0x03][..], json.as_bytes()].concat();
    assert_eq!(
        update(&with_content(5, &json)),
        Err(FaultKind::TooMany(Limit::Depth))
    );
    // Clocks beyond 31 bits, lengths of zero, a client that comes twice, unknown tags.
    let far = [0xff, 0xff, 0xff, 0xff, 0x07];
    assert_eq!(
        update(&[&[1, 1, 1][..], &far, &[4, 1, 1, b'r', 1, b'x', 0]].concat()),
        Err(FaultKind::Clock)
    );
    assert_eq!(
        update(&[&[0, 1, 1, 1][..], &far, &[1]].concat()),
        Err(FaultKind::Clock)
    );
    assert_eq!(update(&with_content(4, &[0])), Err(FaultKind::Empty));
    assert_eq!(update(&with_content(1, &[0])), Err(FaultKind::Empty));
    assert_eq!(update(&[0, 1, 1, 1, 5, 0]), Err(FaultKind::Empty));
    assert_eq!(
        update(&[2, 1, 1, 0, 0, 1, 1, 1, 1, 0, 1, 0]),
        Err(FaultKind::Twice)
    );
    assert_eq!(update(&with_content(7, &[9])), Err(FaultKind::Tag));
    assert_eq!(update(&with_content(11, &[0])), Err(FaultKind::Tag));
    assert_eq!(update(&with_content(8, &[1, 5])), Err(FaultKind::Tag));
    assert_eq!(update(&with_content(5, b"\x01{")), Err(FaultKind::Json));
    // A client beyond what JavaScript counts to.
    let client = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    assert_eq!(
        update(&[&[1, 1][..], &client, &[0, 0, 1, 0]].concat()),
        Err(FaultKind::Number)
    );
}

#[test]
fn each_limit_is_kept() {
    let small = ScanLimits {
        structs_max: 1,
        clients_max: 1,
        delete_ranges_max: 1,
        binary_bytes_max: 1,
        awareness_bytes_max: 2,
        awareness_clients_max: 1,
    };
    let update = |bytes: &[u8]| {
        scan_update(bytes, &small)
            .map_err(|fault| fault.kind)
            .map(|_| ())
    };
    assert_eq!(update(WRITTEN[3]), Err(FaultKind::TooMany(Limit::Structs)));
    assert_eq!(update(WRITTEN[2]), Err(FaultKind::TooMany(Limit::Clients)));
    assert_eq!(
        update(&[0, 1, 1, 2, 0, 1, 3, 1]),
        Err(FaultKind::TooMany(Limit::DeleteRanges))
    );
    assert_eq!(
        update(&with_content(3, &[2, 0, 0])),
        Err(FaultKind::TooMany(Limit::BinaryBytes))
    );
    assert_eq!(update(WRITTEN[1]), Ok(()));
    let awareness = |bytes: &[u8]| {
        scan_awareness(bytes, &small)
            .map_err(|fault| fault.kind)
            .map(|_| ())
    };
    assert_eq!(
        awareness(b"\x01\x01\x01\x03{ }"),
        Err(FaultKind::TooMany(Limit::AwarenessBytes))
    );
    assert_eq!(
        awareness(b"\x02\x01\x01\x02{}\x02\x01\x02{}"),
        Err(FaultKind::TooMany(Limit::AwarenessClients))
    );
    assert_eq!(awareness(b"\x01\x01\x01\x02{}"), Ok(()));
}

#[test]
fn awareness_says_who_is_there_and_who_is_gone() {
    let limits = ScanLimits::default();
    let entries = scan_awareness(b"\x02\x01\x01\x02{}\x07\x02\x04null", &limits);
    let entry = |client, clock, state| AwarenessEntry {
        client,
        clock,
        state,
    };
    assert_eq!(
        entries,
        Ok(vec![entry(1, 1, Some("{}")), entry(7, 2, None)])
    );
    assert_eq!(scan_awareness(&[0], &limits), Ok(vec![]));
    let fault = scan_awareness(b"\x01\x01\x01\x01{", &limits).expect_err("no JSON");
    assert_eq!((fault.at, fault.kind), (3, FaultKind::Json));
}

#[test]
fn a_state_vector_has_each_client_once() {
    let limits = ScanLimits::default();
    let clocks = scan_state_vector(
        &[2, 220, 240, 237, 172, 15, 3, 201, 139, 250, 201, 1, 2],
        &limits,
    );
    let clocks: Vec<u64> = clocks.expect("a state vector").into_values().collect();
    assert_eq!(clocks, [2, 3]);
    let twice = scan_state_vector(&[2, 1, 1, 1, 2], &limits).expect_err("twice");
    assert_eq!((twice.at, twice.kind), (3, FaultKind::Twice));
}

#[test]
fn what_is_the_same_has_one_snapshot() {
    let snapshot =
        |bytes: &[u8]| Snapshot::of_update(bytes, &ScanLimits::default()).expect("an update");
    // The same ranges in another grain and order, and the clients in another order.
    let one = snapshot(&[2, 1, 1, 0, 0, 9, 1, 2, 0, 0, 4, 1, 1, 1, 0, 9]);
    let two = snapshot(&[
        2, 2, 2, 0, 0, 1, 0, 3, 1, 1, 0, 0, 9, 1, 1, 3, 4, 5, 0, 2, 1, 3,
    ]);
    assert_eq!(one, two);
    assert_eq!(one.to_bytes(), two.to_bytes());
    assert_eq!(one.to_bytes(), [1, 1, 1, 0, 9, 2, 1, 9, 2, 4]);
    // Something else is deleted, and the clocks are the same.
    let three = snapshot(&[2, 1, 1, 0, 0, 9, 1, 2, 0, 0, 4, 1, 1, 1, 0, 8]);
    assert_eq!(three.clocks(), one.clocks());
    assert_ne!(three.to_bytes(), one.to_bytes());
    // What comes after a gap is not there yet.
    let gap = snapshot(&[1, 3, 1, 0, 0, 2, 10, 3, 0, 1, 0]);
    assert_eq!(gap.clocks().values().collect::<Vec<_>>(), [&2]);
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        let limits = ScanLimits::default();
        let _ = scan_update(&bytes, &limits);
        let _ = scan_state_vector(&bytes, &limits);
        let _ = scan_awareness(&bytes, &limits);
    }

    /// What is hostile looks like an update in most of its bytes.
    #[test]
    fn no_changed_bytes_panic(index in 0..WRITTEN.len(), changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut update = WRITTEN[index].to_vec();
        for (at, byte) in changes {
            let at = at.index(update.len());
            update[at] = byte;
        }
        if let Ok(scan) = scan_update(&update, &ScanLimits::default()) {
            for range in scan.clients {
                prop_assert!(range.from < range.to && range.to < 1 << 31);
            }
        }
    }
}
