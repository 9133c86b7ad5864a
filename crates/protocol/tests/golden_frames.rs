//! The protocol, letter by letter: `golden/frames.json` holds examples of every frame.
//!
//! Each frame must be written exactly as there, and be read back unchanged. The file is the contract with
//! clients in other languages: the TypeScript client is tested with it too.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rhtmx_sync_protocol::chain::CHAIN_BYTES;
use rhtmx_sync_protocol::{
    Ack, Auth, Authenticated, Chain, Change, Changes, ClientFrame, CloseCode, Conflict, Cursor,
    Direction, Error, ErrorCode, Limits, MutationId, Op, PROTOCOL_VERSION, Ping, Pong, Refetch,
    RefetchReason, Reject, RejectCode, Rejected, RowImage, RowMetadata, SchemaSummary, ServerFrame,
    Snapshot, Stamp, StampedValue, Step, Subscribed, SubscriptionId, Unsubscribe, Welcome,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use uuid::{Uuid, uuid};

/// The hash of every released state of the golden frames, with the version of the protocol that it belongs
/// to. Entries stay for ever; a new one goes to the end.
const VERSIONS: &[(u32, &str)] = &[
    (1, "0e8457f39e3625cc"),
    (1, "eed54364b19b5f7b"),
    (1, "1d81d75c7cebc7d1"),
    (1, "251fcec41a06912c"),
    (1, "b6b5481147ef9e0e"),
    (1, "cc060d4f1b61bb80"),
    (1, "02ed8a5f7c56ec82"),
    (1, "e708a95e5a1acac5"),
];

const CLIENT: Uuid = uuid!("67e55044-10b1-426f-9247-bb680e5fe0c8");

/// The file: frames by the name of the example, in the order of the names.
#[derive(Deserialize)]
struct Golden<'a> {
    #[serde(borrow)]
    server: BTreeMap<String, &'a RawValue>,
    #[serde(borrow)]
    client: BTreeMap<String, &'a RawValue>,
    #[serde(borrow)]
    codes: BTreeMap<String, &'a RawValue>,
}

fn golden() -> Golden<'static> {
    serde_json::from_str(include_str!("golden/frames.json")).expect("golden frames")
}

fn raw(value: impl Serialize) -> Box<RawValue> {
    to_raw_value(&value).expect("JSON")
}

fn row(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).expect("JSON")
}

fn subscription() -> SubscriptionId {
    SubscriptionId::from("todos-1")
}

/// A cursor of PostgreSQL.
const CURSOR: &str = "MGY5YS03LTEvcDc0NTo3NDg6NzQ1LDc0Nw";
/// A cursor of SQLite.
const SQLITE_CURSOR: &str = "MGY5YS03LTEvczQy";

/// The word in `type`. This does not compile when a frame is added: then add its word here and in
/// `SERVER_WORDS`, and an example to `server_frames`.
fn word(frame: &ServerFrame) -> &'static str {
    match frame {
        ServerFrame::Welcome(_) => "welcome",
        ServerFrame::Snapshot(_) => "snapshot",
        ServerFrame::Subscribed(_) => "subscribed",
        ServerFrame::Refetch(_) => "refetch",
        ServerFrame::Changes(_) => "changes",
        ServerFrame::Cursor(_) => "cursor",
        ServerFrame::Conflict(_) => "conflict",
        ServerFrame::Ack(_) => "ack",
        ServerFrame::Reject(_) => "reject",
        ServerFrame::Authenticated(_) => "authenticated",
        ServerFrame::Error(_) => "error",
        ServerFrame::Pong(_) => "pong",
    }
}

/// All words of `word`.
const SERVER_WORDS: [&str; 12] = [
    "welcome",
    "snapshot",
    "subscribed",
    "refetch",
    "changes",
    "cursor",
    "conflict",
    "ack",
    "reject",
    "authenticated",
    "error",
    "pong",
];

fn clock(number: u32) -> String {
    format!("2026-11-20T07:00:00.000Z-{number:04X}-node")
}

fn conflict() -> Conflict {
    let stamped = |value, number| StampedValue {
        value: row(value),
        hlc: clock(number),
    };
    Conflict {
        entity: "todos".to_owned(),
        key: "1".to_owned(),
        field: "title".to_owned(),
        kept: Some(stamped("\"b\"", 4)),
        lost: stamped("\"a\"", 3),
        strategy: "last_write_wins".to_owned(),
        mutation: Some(3),
        write: Some(0),
    }
}

fn metadata() -> RowMetadata {
    let text = |text: String| row(&format!("{text:?}"));
    RowMetadata {
        born: Some(clock(0).into()),
        died: None,
        base: Some(clock(1).into()),
        edited: Some(clock(2).into()),
        newest: None,
        clocks: [
            (
                "likes".to_owned(),
                row(r#"{"counter":{"sums":{"node":[2,1]}}}"#),
            ),
            ("title".to_owned(), text(clock(3))),
        ]
        .into(),
        lost: [(
            "title".to_owned(),
            row(&format!(r#"[{{"value":"é","hlc":"{}"}}]"#, clock(1))),
        )]
        .into(),
    }
}

fn changes() -> [Change; 6] {
    let key = || "1".to_owned();
    let mutation_id = Some(MutationId {
        client_id: CLIENT,
        mutation: 3,
    });
    [
        Change::Put {
            key: key(),
            row: row(r#"{"id": 1, "n": 1.10}"#),
            metadata: RowMetadata::default(),
            mutation_id: None,
        },
        Change::Put {
            key: key(),
            row: row(r#"{"id": 1, "n": "9007199254740993"}"#),
            metadata: RowMetadata::default(),
            mutation_id,
        },
        Change::Delete {
            hlc: None,
            key: key(),
            mutation_id,
        },
        Change::Delete {
            hlc: None,
            key: r#"[1,"eu"]"#.to_owned(),
            mutation_id: None,
        },
        Change::Leave {
            key: key(),
            mutation_id: None,
        },
        Change::Truncate,
    ]
}

fn changes_of_fields() -> [Change; 3] {
    let key = || "1".to_owned();
    let mutation_id = Some(MutationId {
        client_id: CLIENT,
        mutation: 3,
    });
    [
        Change::Put {
            key: key(),
            row: row(r#"{"id": 1, "title": "a"}"#),
            metadata: metadata(),
            mutation_id: None,
        },
        Change::Patch {
            key: key(),
            values: row(r#"{"title": "a"}"#),
            metadata: metadata(),
            mutation_id,
        },
        Change::Patch {
            key: key(),
            values: row("{}"),
            metadata: RowMetadata::default(),
            mutation_id: None,
        },
    ]
}

fn rejects() -> [(&'static str, Reject); 5] {
    let column = Reject::new(RejectCode::Constraint, "title may not be null");
    let mut order = Reject::new(RejectCode::OutOfOrder, "mutation 7 comes next");
    order.expected = Some(7);
    let mut refused = Reject::new(RejectCode::Refused, "a list has at most 100 entries");
    refused.reason = Some("list_full".to_owned());
    [
        ("reject", column.of_write(0).of_column("title")),
        (
            "reject_of_all_writes",
            Reject::new(RejectCode::Forbidden, "not yours"),
        ),
        ("reject_out_of_order", order),
        (
            "reject_forked",
            Reject::new(RejectCode::Forked, "this number was used for other writes"),
        ),
        ("reject_refused", refused.of_write(1)),
    ]
}

fn welcome(user: Option<&str>) -> ServerFrame {
    ServerFrame::Welcome(Welcome {
        protocol: PROTOCOL_VERSION,
        features: vec!["rows".to_owned(), "push".to_owned()],
        session_id: uuid!("0b0e6c3e-7d1c-4a51-9a7b-0f4b8f0d9c11"),
        epoch: "0f9a-7-1".to_owned(),
        last_mutation: 2,
        last_chain: user.map(|_| Chain([0xa5; CHAIN_BYTES])),
        now: Some(1_774_000_000_000),
        heartbeat_ms: 30_000,
        limits: Limits {
            frame_bytes_max: 1_048_576,
            subscriptions_max: 100,
            writes_max: 1_000,
        },
        user: user.map(str::to_owned),
    })
}

/// Each example of a server frame, with its name.
fn server_frames() -> Vec<(&'static str, ServerFrame)> {
    let id = subscription;
    let schema = SchemaSummary {
        key: vec!["id".to_owned()],
        columns: [("id", "int8"), ("title", "text")]
            .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
            .into(),
    };
    let rows = [
        ("1", r#"{"id": 1, "title": "a"}"#),
        ("2", r#"{"id": 2, "title": null}"#),
    ];
    let rows = rows.map(|(key, text)| RowImage {
        key: key.to_owned(),
        row: row(text),
        metadata: RowMetadata::default(),
    });
    let rows_with_metadata = rows.clone().map(|image| RowImage {
        metadata: match image.key.as_str() {
            "1" => metadata(),
            _ => RowMetadata::default(),
        },
        ..image
    });
    let rules = row(
        r#"{"strategy":"last_write_wins","deletes":"win","columns":{"likes":{"merge":"counter"}}}"#,
    );
    let subscribed = |rules| {
        ServerFrame::Subscribed(Subscribed {
            id: SubscriptionId::Number(7),
            shape: "s1".to_owned(),
            cursor: CURSOR.to_owned(),
            schema: schema.clone(),
            rules,
        })
    };
    let cursor = |text: &str| {
        ServerFrame::Cursor(Cursor {
            cursor: text.to_owned(),
        })
    };
    let user = |user: Option<&str>| {
        ServerFrame::Authenticated(Authenticated {
            user: user.map(str::to_owned),
        })
    };
    let pong = |at: Option<Value>| {
        let at = at.map(|at| to_raw_value(&at).expect("JSON"));
        ServerFrame::Pong(Pong { at })
    };
    let mut frames = vec![
        ("welcome", welcome(None)),
        ("welcome_of_a_user", welcome(Some("ann"))),
        (
            "snapshot",
            ServerFrame::Snapshot(Snapshot {
                id: id(),
                rows: rows.into(),
                more: true,
            }),
        ),
        (
            "snapshot_of_fields",
            ServerFrame::Snapshot(Snapshot {
                id: id(),
                rows: rows_with_metadata.into(),
                more: false,
            }),
        ),
        ("subscribed", subscribed(None)),
        ("subscribed_to_fields", subscribed(Some(rules))),
        (
            "refetch",
            ServerFrame::Refetch(Refetch {
                id: id(),
                reason: RefetchReason::Expired,
            }),
        ),
        (
            "changes",
            ServerFrame::Changes(Changes {
                shape: Some("s1".to_owned()),
                id: None,
                changes: changes().into(),
                order: None,
            }),
        ),
        (
            "changes_of_a_resume",
            ServerFrame::Changes(Changes {
                shape: None,
                id: Some(id()),
                changes: changes().into(),
                order: None,
            }),
        ),
        (
            "changes_of_fields",
            ServerFrame::Changes(Changes {
                shape: Some("s1".to_owned()),
                id: None,
                changes: changes_of_fields().into(),
                order: None,
            }),
        ),
        (
            "changes_of_a_window",
            ServerFrame::Changes(Changes {
                shape: Some("s1".to_owned()),
                id: None,
                changes: vec![Change::Leave {
                    key: "3".to_owned(),
                    mutation_id: None,
                }],
                order: Some(vec!["2".to_owned(), "1".to_owned()]),
            }),
        ),
        ("cursor", cursor(CURSOR)),
        ("cursor_of_sqlite", cursor(SQLITE_CURSOR)),
        (
            "ack",
            ServerFrame::Ack(Ack {
                mutation: 3,
                stamps: Vec::new(),
            }),
        ),
        (
            "ack_with_stamps",
            ServerFrame::Ack(Ack {
                mutation: 3,
                stamps: vec![Stamp {
                    write: 1,
                    hlc: clock(3),
                }],
            }),
        ),
        ("conflict", ServerFrame::Conflict(conflict())),
        (
            "conflict_of_another",
            ServerFrame::Conflict(Conflict {
                kept: None,
                mutation: None,
                write: None,
                ..conflict()
            }),
        ),
        ("authenticated", user(Some("ann"))),
        ("authenticated_nobody", user(None)),
        (
            "error",
            ServerFrame::Error(
                Error::new(ErrorCode::UnknownEntity, "no entity \"t\"").of_subscription(id()),
            ),
        ),
        (
            "error_fatal",
            ServerFrame::Error(Error::fatal(ErrorCode::Protocol, "unknown type")),
        ),
        (
            "error_rate_limited",
            ServerFrame::Error(
                Error::fatal(ErrorCode::RateLimited, "too many")
                    .retry_after(Duration::from_millis(1500)),
            ),
        ),
        ("pong", pong(Some(json!({"n": [1, null]})))),
        ("pong_without_at", pong(None)),
    ];
    frames.extend(rejects().map(|(name, reject)| {
        let mutation = 3;
        (name, ServerFrame::Reject(Rejected { mutation, reject }))
    }));
    frames
}

#[test]
fn server_frames_are_written_and_read_as_the_file_says() {
    let golden = golden().server;
    let mut names = BTreeSet::new();
    let mut words = BTreeSet::new();
    for (name, frame) in server_frames() {
        let text = frame.to_text();
        let expected = golden.get(name).map_or("nothing", |raw| raw.get());
        assert_eq!(
            text, expected,
            "server frame {name:?} of golden/frames.json"
        );
        let read = ServerFrame::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(read.to_text(), text, "{name}, read and written again");
        let plain: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(plain["type"], word(&frame), "{name}");
        words.insert(word(&frame));
        names.insert(name.to_owned());
    }
    assert!(
        golden.keys().eq(&names),
        "golden/frames.json has server frames that are not tested"
    );
    assert_eq!(
        words,
        BTreeSet::from(SERVER_WORDS),
        "each frame has an example"
    );
}

#[test]
fn client_frames_are_written_as_the_file_says() {
    for (name, raw) in golden().client {
        let written = parsed(&name).to_text();
        let written: serde_json::Value = serde_json::from_str(&written).expect("JSON");
        let mut golden: serde_json::Value = serde_json::from_str(raw.get()).expect("JSON");
        // Stands for a field that a newer client may add.
        golden.as_object_mut().expect("an object").remove("later");
        assert_eq!(written, golden, "client frame {name:?}");
    }
}

#[test]
fn a_change_without_a_required_field_is_an_error() {
    for text in [
        r#"{"op":"put","key":"1"}"#,
        r#"{"op":"put","row":{}}"#,
        r#"{"op":"patch","key":"1","clocks":{}}"#,
        r#"{"op":"patch","values":{}}"#,
        r#"{"op":"delete"}"#,
        r#"{"op":"leave"}"#,
        r#"{"op":"dance","key":"1"}"#,
    ] {
        assert!(serde_json::from_str::<Change>(text).is_err(), "{text}");
    }
}

/// All words of a code, in order, from serde's error for a word that is not one of them.
fn words_of<T: DeserializeOwned + Serialize>() -> Box<RawValue> {
    let Err(none) = serde_json::from_str::<T>("\"\"") else {
        panic!("the empty word is a code")
    };
    let message = none.to_string();
    let words = message.split('`').skip(3).step_by(2);
    let codes = words.map(|word| serde_json::from_value(json!(word)).expect("a code"));
    raw(codes.collect::<Vec<T>>())
}

#[test]
fn codes_are_spelled_as_in_the_file() {
    let close = [
        CloseCode::ShuttingDown,
        CloseCode::Protocol,
        CloseCode::Unauthenticated,
        CloseCode::Forbidden,
        CloseCode::Timeout,
        CloseCode::TooLarge,
        CloseCode::RateLimited,
    ];
    let actual = [
        ("close", raw(close.map(|code| code as u16))),
        ("error", words_of::<ErrorCode>()),
        ("refetch", words_of::<RefetchReason>()),
        ("reject", words_of::<RejectCode>()),
    ];
    let golden = golden().codes;
    for (name, codes) in &actual {
        let expected = golden.get(*name).map_or("nothing", |raw| raw.get());
        assert_eq!(
            codes.get(),
            expected,
            "codes {name:?} of golden/frames.json"
        );
    }
    assert_eq!(golden.len(), actual.len());
}

fn parsed(name: &str) -> ClientFrame {
    let frame = golden().client[name];
    ClientFrame::parse(frame.get()).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn every_client_frame_is_read() {
    let names = golden().client.into_keys();
    let words = names.map(|name| match parsed(&name) {
        ClientFrame::Hello(_) => "hello",
        ClientFrame::Auth(_) => "auth",
        ClientFrame::Subscribe(_) => "subscribe",
        ClientFrame::Unsubscribe(_) => "unsubscribe",
        ClientFrame::Push(_) => "push",
        ClientFrame::Ping(_) => "ping",
    });
    let all = ["hello", "auth", "subscribe", "unsubscribe", "push", "ping"];
    assert_eq!(
        words.collect::<BTreeSet<_>>(),
        BTreeSet::from(all),
        "each frame has an example"
    );
}

#[test]
fn a_hello_is_read_with_all_its_fields() {
    let ClientFrame::Hello(least) = parsed("hello") else {
        panic!("a hello")
    };
    assert_eq!((least.protocol, least.client_id), (1, CLIENT));
    assert_eq!((least.token, least.accept.len()), (None, 0));
    let ClientFrame::Hello(full) = parsed("hello_with_all") else {
        panic!("a hello")
    };
    assert_eq!(full.token.as_deref(), Some("secret"));
    assert_eq!(full.accept, ["gzip"]);
    let ClientFrame::Auth(Auth { token }) = parsed("auth") else {
        panic!("an auth")
    };
    assert_eq!(token, "fresh");
}

#[test]
fn a_subscribe_is_read_with_all_its_fields() {
    let ClientFrame::Subscribe(least) = parsed("subscribe") else {
        panic!("a subscribe")
    };
    assert_eq!(
        (least.id, least.entity.as_str()),
        (SubscriptionId::Number(7), "todos")
    );
    assert!(least.selection.is_everything());
    assert!(least.selection.mode.is_none() && least.cursor.is_none());
    let ClientFrame::Subscribe(full) = parsed("subscribe_with_all") else {
        panic!("a subscribe")
    };
    assert_eq!(full.id, subscription());
    assert_eq!(
        full.selection.filter.as_deref(),
        Some("owner = $1 AND done = $2")
    );
    let params = full.selection.params.expect("parameters");
    let params: Vec<&str> = params.iter().map(|param| param.get()).collect();
    assert_eq!(params, [r#""ann""#, "false"]);
    assert_eq!(full.selection.columns, Some(vec!["title".to_owned()]));
    assert_eq!(full.selection.mode.as_deref(), Some("rows"));
    assert_eq!(full.cursor.as_deref(), Some(CURSOR));
    let ClientFrame::Subscribe(window) = parsed("subscribe_to_window") else {
        panic!("a subscribe")
    };
    let window = window.selection;
    let order = [("created_at", Direction::Desc), ("title", Direction::Asc)];
    let order = order.map(|(column, direction)| (column.to_owned(), direction));
    assert_eq!(window.order, Some(order.to_vec()));
    assert_eq!(window.limit, Some(50));
    let after = window.after.expect("values");
    let after: Vec<&str> = after.iter().map(|value| value.get()).collect();
    assert_eq!(after, [r#""2026-11-27T10:00:00.000000Z""#, "null", "17"]);
    let ClientFrame::Unsubscribe(Unsubscribe { id }) = parsed("unsubscribe") else {
        panic!("an unsubscribe")
    };
    assert_eq!(id, subscription());
}

#[test]
fn a_push_keeps_values_as_they_were_spelled() {
    let ClientFrame::Push(push) = parsed("push") else {
        panic!("a push")
    };
    assert_eq!(push.mutation, 3);
    let [
        Step::Write(create),
        Step::Write(update),
        Step::Write(upsert),
        Step::Write(delete),
    ] = &push.writes[..]
    else {
        panic!("four writes")
    };
    let ops = [create.op, update.op, upsert.op, delete.op];
    assert_eq!(ops, [Op::Create, Op::Update, Op::Upsert, Op::Delete]);
    assert_eq!((create.entity.as_str(), &create.key), ("todos", &None));
    assert_eq!(create.values["n"].get(), "1.10");
    assert_eq!(
        (&update.key, update.values["title"].get()),
        (&Some(json!("1")), "null")
    );
    assert_eq!(
        update.hlc.as_deref(),
        Some("2026-11-20T07:00:00.000Z-0000-node")
    );
    assert_eq!(upsert.key, Some(json!([1, "eu"])));
    assert_eq!((&delete.key, delete.values.len()), (&Some(json!(1)), 0));
}

#[test]
fn a_push_mixes_writes_and_calls() {
    let ClientFrame::Push(push) = parsed("push_with_calls") else {
        panic!("a push")
    };
    let [Step::Call(complete), Step::Write(delete), Step::Call(tidy)] = &push.writes[..] else {
        panic!("a write between two calls")
    };
    assert_eq!(complete.mutator, "complete_todo");
    let args = complete.args.as_ref().map(|args| args.get());
    assert_eq!(args, Some(r#"{"id":"1","n":1.10}"#));
    assert_eq!(delete.op, Op::Delete);
    assert_eq!((tidy.mutator.as_str(), tidy.args.is_none()), ("tidy", true));
}

#[test]
fn a_ping_is_read_with_any_json() {
    let ClientFrame::Ping(Ping { at }) = parsed("ping") else {
        panic!("a ping")
    };
    let at: Value = serde_json::from_str(at.expect("it has one").get()).expect("JSON");
    assert_eq!(at, json!({"n": [1, null]}));
    let ClientFrame::Ping(Ping { at }) = parsed("ping_without_at") else {
        panic!("a ping")
    };
    assert!(at.is_none());
}

/// FNV-1a, 64 bits.
fn fnv(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[test]
fn changed_golden_frames_have_an_entry_in_versions() {
    let golden = golden();
    let frames = golden
        .server
        .into_iter()
        .chain(golden.client)
        .chain(golden.codes);
    let text: Vec<String> = frames
        .map(|(name, raw)| format!("{name} {raw}\n"))
        .collect();
    let hash = format!("{:016x}", fnv(text.concat().bytes()));
    assert_eq!(
        VERSIONS.last(),
        Some(&(PROTOCOL_VERSION, hash.as_str())),
        "the golden frames are not those of the last entry of VERSIONS. Append one, with the hash \
         above. If a client or a server of the last entry would not understand the new frames, \
         raise PROTOCOL_VERSION and say in the history in version.rs what changed; if it \
         would (another example, a field that may be missing), the number stays. Only an entry \
         that was never released may be replaced."
    );
    assert!(
        VERSIONS.is_sorted_by_key(|(version, _)| *version),
        "versions only grow"
    );
}

#[test]
fn the_browser_clients_copy_of_the_golden_frames_is_the_same() {
    let copy = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../clients/typescript/tests/golden/frames.json"
    );
    let copied = std::fs::read_to_string(copy).expect("the copy");
    assert!(
        copied == include_str!("golden/frames.json"),
        "copy crates/protocol/tests/golden/frames.json to {copy}"
    );
}
