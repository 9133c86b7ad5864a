//! Properties of any text that a client may send.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use rhtmx_sync_core::cursor::{Cursor, Epoch, LogPosition, Position};
use rhtmx_sync_core::snapshot::Snapshot;
use serde_json::value::RawValue;

mod text_bodies;

use text_bodies::{auth_frame, client_frame, cursor_text, filter_text, policy_text};

/// Frames to start from: valid ones, and arrays of a frame's fields.
fn frames() -> Vec<String> {
    type Golden<'a> = BTreeMap<&'a str, BTreeMap<&'a str, &'a RawValue>>;
    let golden: Golden<'_> =
        serde_json::from_str(include_str!("../../protocol/tests/golden/frames.json"))
            .expect("golden frames");
    let valid = golden["client"].values().map(|frame| frame.get());
    let arrays = [r#"["ping"]"#, r#"["auth"]"#];
    valid.chain(arrays).map(str::to_owned).collect()
}

/// Frames with tokens to start from.
fn auth_frames() -> Vec<String> {
    const FRAMES: [&str; 4] = [
        r#"{"type":"auth","token":"eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl"}"#,
        r#"{"token":"\u0065yJhbGciOi.J9.c2ln","type":"auth","later":{"token":"another token"}}"#,
        r#"{"type":"hello","protocol":1,"client_id":"67e55044-10b1-426f-9247-bb680e5fe0c8","token":"a.long.token"}"#,
        r#"{"type":"hello","protocol":1,"client_id":"67e55044-10b1-426f-9247-bb680e5fe0c8","token":null,"accept":["gzip"]}"#,
    ];
    FRAMES.map(str::to_owned).to_vec()
}

/// Policies to start from, each with claims and a row.
fn policies() -> Vec<String> {
    const POLICIES: [&str; 12] = [
        "t = auth.sub OR b",
        "u = auth.sub AND NOT (e IN ('low', auth.app_metadata.level))",
        "t IN auth.teams AND a BETWEEN 1 AND auth.level",
        "s NOT IN auth.teams OR f < auth.level",
        "auth.role = 'admin' OR t LIKE 'a%' AND auth.sub <> s",
        "auth.\"https://app.example/team\" = 'x' AND d > auth.since",
        "NOT auth.on OR auth.sub IS NULL OR n = auth.level",
        "'x' IN auth.teams AND w <= auth.since",
        "z = auth.since OR (a <> auth.level AND NOT b)",
        "a IN (SELECT x.a FROM t x WHERE x.s = auth.sub AND x.e IN auth.teams)",
        "NOT EXISTS (SELECT 1 FROM t AS m WHERE m.a = t.a AND m.t = t.s AND auth.level < m.n)",
        "auth.sub IN (SELECT s FROM t WHERE b) OR auth.level NOT IN (SELECT a FROM t)",
    ];
    const CLAIMS: [&str; 3] = [
        r#"{"sub":"a%b","teams":["x","a",null,3],"level":1,"on":true,"role":"admin","app_metadata":{"level":"high"}}"#,
        r#"{"sub":"67e55044-10b1-426f-9247-bb680e5fe0c8","teams":[],"level":"2","since":"2026-11-20"}"#,
        "{}",
    ];
    const ROW: &str = r#"{"a":1,"b":true,"t":"a%b","s":"x","f":0.1,"n":"1","u":"67e55044-10b1-426f-9247-bb680e5fe0c8","d":"2026-11-21","e":"low"}"#;
    let of = |policy: &str| CLAIMS.map(|claims| format!("{policy}\n{claims}\n{ROW}"));
    POLICIES.iter().flat_map(|policy| of(policy)).collect()
}

/// Filters to start from, each with its parameters and a row.
fn filters() -> Vec<String> {
    const FILTERS: [&str; 11] = [
        "a = $1 AND b OR NOT (t LIKE $2)\n[5,\"x_%\"]",
        "a IN (1, 2, NULL) OR s NOT IN ('x', 'it''s')",
        "(a BETWEEN -1 AND 2.0) AND f <> 1e300 AND n >= '0.1'",
        "\"t\" < 'z' AND o IS NOT NULL AND e = 'low'",
        "u = '67e55044-10b1-426f-9247-bb680e5fe0c8' OR d > '2026-11-20'",
        "w <= '2026-11-20T07:00:00.5' AND z = '2026-11-20T07:00:00+01:00'",
        "t LIKE 'a\\%_%' AND NOT b IS NULL",
        "f = 'NaN' OR n = 'NaN' OR f < '-Infinity' OR $1\n[null]",
        "a IN (SELECT a FROM t WHERE t LIKE $1 AND a NOT IN (SELECT \"a\" FROM \"t\" x WHERE x.n < 2))\n[\"a%\"]",
        "NOT EXISTS (SELECT * FROM t m WHERE t.a = m.a AND m.s = t.t AND (b OR m.n > 1)) AND s NOT IN (SELECT DISTINCT s FROM t)",
        "EXISTS (SELECT 1 FROM t m WHERE (t.a = m.a) AND EXISTS (SELECT NULL FROM t AS y WHERE y.s = m.t)) OR $1 IN (SELECT n FROM t)\n[1]",
    ];
    const ROWS: [&str; 2] = [
        r#"{"a":1,"b":true,"t":"a%b","s":null,"f":0.1,"n":"0.12345678901234567890","e":"low"}"#,
        r#"{"u":"67e55044-10b1-426f-9247-bb680e5fe0c8","d":"infinity","w":"2026-11-20T07:00:00","z":"2026-11-20T07:00:00+00:00","o":{},"f":"NaN"}"#,
    ];
    let with = |filter: &str, row| {
        if filter.contains('\n') {
            format!("{filter}\n{row}")
        } else {
            format!("{filter}\n[]\n{row}")
        }
    };
    let pairs = FILTERS
        .iter()
        .flat_map(|filter| ROWS.map(|row| with(filter, row)));
    pairs.collect()
}

/// One of these texts with some characters replaced, left out or added.
fn mutated(texts: Vec<String>) -> impl Strategy<Value = String> {
    let character = prop_oneof![
        any::<char>(),
        prop::sample::select(br#"{}[]",:\0-e'%_$()<=>"#.map(char::from).to_vec())
    ];
    let edit = (
        any::<prop::sample::Index>(),
        0..3_usize,
        prop::collection::vec(character, 0..3),
    );
    let edits = prop::collection::vec(edit, 0..4);
    (prop::sample::select(texts), edits).prop_map(|(text, edits)| {
        edits.into_iter().fold(text, |text, (at, dropped, added)| {
            let mut characters: Vec<char> = text.chars().collect();
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
        ((0..=i64::MAX), any::<Option<u64>>())
            .prop_map(|(id, entry)| Position::Log(LogPosition { id, entry })),
    ];
    ("[-a-zA-Z0-9]{0,40}", position).prop_map(|(epoch, position)| Cursor {
        epoch: Epoch::new(&epoch),
        position,
    })
}

/// Texts that are close to those of snapshots, positions and cursors.
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
    fn any_text_is_a_frame_or_an_error(text in any::<String>()) {
        client_frame(&text);
    }

    #[test]
    fn any_text_close_to_a_frame_is_one_or_an_error(text in mutated(frames())) {
        client_frame(&text);
    }

    #[test]
    fn any_text_is_the_only_text_of_a_cursor_or_an_error(text in any::<String>()) {
        cursor_text(&text);
    }

    #[test]
    fn any_text_close_to_a_cursor_is_its_only_text_or_an_error(text in near_cursor()) {
        cursor_text(&text);
    }

    #[test]
    fn any_text_is_a_filter_or_an_error(text in any::<String>(), params in any::<String>(), row in "\\PC*") {
        filter_text(&text);
        filter_text(&format!("{text}\n{params}\n{row}"));
    }

    #[test]
    fn any_text_close_to_a_filter_is_one_or_an_error(text in mutated(filters())) {
        filter_text(&text);
    }

    #[test]
    fn any_text_is_a_policy_or_an_error(text in any::<String>(), claims in any::<String>(), row in "\\PC*") {
        policy_text(&text);
        policy_text(&format!("{text}\n{claims}\n{row}"));
    }

    #[test]
    fn any_text_close_to_a_policy_can_be_bound_to_any_claims(text in mutated(policies())) {
        policy_text(&text);
    }

    #[test]
    fn a_token_in_a_frame_is_read_once_and_not_shown(text in mutated(auth_frames())) {
        auth_frame(&text);
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
fn a_frame_of_deep_json_does_not_overflow_the_stack() {
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

#[test]
fn the_filters_that_are_mutated_are_filters() {
    // Otherwise the edits would start far from any filter.
    for text in filters() {
        assert!(filter_text(&text), "{text}");
    }
}

#[test]
fn the_policies_that_are_mutated_are_policies() {
    for text in policies() {
        assert!(policy_text(&text), "{text}");
    }
    for frame in auth_frames() {
        auth_frame(&frame);
    }
}

/// A user in every team: the claims are bound, or too large.
#[test]
fn a_policy_costs_no_more_than_a_bound_whatever_the_claims_are() {
    for count in [10, 1000, 100_000] {
        let teams: Vec<String> = (0..count).map(|team| format!("\"team {team}\"")).collect();
        let line = format!("{{\"teams\":[{}]}}", teams.join(","));
        let every = vec!["t IN auth.teams"; 400].join(" AND NOT ");
        for policy in [
            "t IN auth.teams",
            "t NOT IN auth.teams",
            "'x' IN auth.teams",
            &every,
        ] {
            assert!(policy_text(&format!(
                "{policy}\n{line}\n{{\"t\":\"team 7\"}}"
            )));
        }
    }
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(100), "]".repeat(100));
    assert!(policy_text(&format!("t = auth.a OR t IN auth.a\n{deep}")));
}

#[test]
fn a_deeply_nested_filter_is_an_error_without_a_stack_overflow() {
    let open = "NOT (".repeat(100_000);
    assert!(!filter_text(&format!("{open}a = 1{}", ")".repeat(100_000))));
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(!filter_text(&format!("a = $1\n{deep}")));
    assert!(!filter_text(&format!("a = $1\n[{deep}]")));
    assert!(filter_text(&format!("a = 1\n[]\n{deep}")));
}
