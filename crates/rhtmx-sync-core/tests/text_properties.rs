//! What holds for any text that a client may send.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use rhtmx_sync_core::cursor::{Cursor, Epoch, Position};
use rhtmx_sync_core::snapshot::Snapshot;
use serde_json::value::RawValue;

mod text_bodies;

use text_bodies::{client_frame, cursor_text};

/// Frames to start from: valid ones, and arrays of a frame's fields.
fn frames() -> Vec<String> {
    type Golden<'a> = BTreeMap<&'a str, BTreeMap<&'a str, &'a RawValue>>;
    let golden: Golden<'_> =
        serde_json::from_str(include_str!("golden/frames.json")).expect("golden frames");
    let valid = golden["client"].values().map(|frame| frame.get());
    let arrays = [r#"["ping"]"#, r#"["auth"]"#];
    valid.chain(arrays).map(str::to_owned).collect()
}

/// A frame in which some characters were replaced, left out or added.
fn mutated_frame() -> impl Strategy<Value = String> {
    let character = prop_oneof![
        any::<char>(),
        prop::sample::select(br#"{}[]",:\0-e"#.map(char::from).to_vec())
    ];
    let edit = (
        any::<prop::sample::Index>(),
        0..3_usize,
        prop::collection::vec(character, 0..3),
    );
    let edits = prop::collection::vec(edit, 0..4);
    (prop::sample::select(frames()), edits).prop_map(|(frame, edits)| {
        edits
            .into_iter()
            .fold(frame, |frame, (at, dropped, added)| {
                let mut characters: Vec<char> = frame.chars().collect();
                let from = at.index(characters.len() + 1);
                let to = (from + dropped).min(characters.len());
                characters.splice(from..to, added);
                characters.into_iter().collect()
            })
    })
}

prop_compose! {
    fn snapshot()(
        xmin in prop_oneof![1..50_u64, 1..u64::MAX - 1_000],
        gaps in prop::collection::vec(0..20_u64, 0..8),
        tail in 0..20_u64,
    ) -> Snapshot {
        let mut next = xmin;
        let mut running = Vec::new();
        for gap in gaps {
            running.push(next + gap);
            next += gap + 1;
        }
        Snapshot::new(xmin, next + tail, running).expect("ascending")
    }
}

fn cursor() -> impl Strategy<Value = Cursor> {
    let position = prop_oneof![
        snapshot().prop_map(Position::Snapshot),
        (0..=i64::MAX).prop_map(Position::LogId),
    ];
    ("[-a-zA-Z0-9]{0,40}", position).prop_map(|(epoch, position)| Cursor {
        epoch: Epoch::new(&epoch),
        position,
    })
}

/// Texts in the neighbourhood of a snapshot's, a position's and a cursor's.
fn near_cursor() -> impl Strategy<Value = String> {
    let snapshot = "[+]?0?[0-9]{0,2}:[0-9]{1,2}:([0-9]{1,2}(,[0-9]{1,2}){0,3},?)?";
    let plain = prop_oneof![
        snapshot,
        "p[0-9]{1,2}:[0-9]{1,2}:",
        "s[-+]?0?[0-9]{0,20}",
        cursor().prop_map(|cursor| cursor.position.to_string()),
    ];
    prop_oneof![
        snapshot,
        ("[-a-z/. ]{0,4}/?", plain)
            .prop_map(|(epoch, plain)| URL_SAFE_NO_PAD.encode(format!("{epoch}{plain}"))),
        (cursor(), "[-_A-Za-z0-9=+/ ]{0,2}").prop_map(|(cursor, more)| format!("{cursor}{more}")),
    ]
}

proptest! {
    #[test]
    fn any_text_as_a_frame(text in any::<String>()) {
        client_frame(&text);
    }

    #[test]
    fn almost_a_frame(text in mutated_frame()) {
        client_frame(&text);
    }

    #[test]
    fn any_text_as_a_cursor(text in any::<String>()) {
        cursor_text(&text);
    }

    #[test]
    fn almost_a_cursor(text in near_cursor()) {
        cursor_text(&text);
    }

    #[test]
    fn cursors_survive_their_text(cursor in cursor()) {
        prop_assert_eq!(cursor.to_string().parse::<Cursor>(), Ok(cursor.clone()));
        let json = serde_json::to_string(&cursor).expect("JSON");
        prop_assert_eq!(serde_json::from_str::<Cursor>(&json).ok(), Some(cursor));
    }

    #[test]
    fn snapshots_survive_their_text(snapshot in snapshot()) {
        prop_assert_eq!(snapshot.to_string().parse::<Snapshot>(), Ok(snapshot));
    }
}

#[test]
fn nesting_without_end_is_refused_without_overflow() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let deep = format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
        client_frame(&deep);
        for field in ["at", "id", "later"] {
            client_frame(&format!("{{\"type\":\"ping\",\"{field}\":{deep}}}"));
        }
        client_frame(&format!(
            r#"{{"type":"push","mutation":1,"writes":[{{"entity":"t","op":"create","values":{{"a":{deep}}}}}]}}"#
        ));
    }
}
