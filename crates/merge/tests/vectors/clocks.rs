//! Clocks: how they are read, their order, and what is after them.

use std::collections::BTreeMap;

use merge::{Clock, ClockError, HybridClock, MILLIS_MAX, NODE_BYTES_MAX, NodeId};
use serde_json::{Value, json};

use crate::random::Random;

/// Ids of nodes whose order of bytes is not that of UTF-16 units, which is JavaScript's.
const NODES: [&str; 6] = ["a", "ab", "b-1", "é", "ﬀ", "𝒳"];

/// `2001-09-09T01:46:40.000Z`
const T: u64 = 1_000_000_000_000;

pub(crate) fn node(text: &str) -> NodeId {
    NodeId::new(text).expect("a node's id")
}

pub(crate) fn any_node(random: &mut Random) -> NodeId {
    node(random.pick(&NODES))
}

pub(crate) fn code(error: &ClockError) -> &'static str {
    match error {
        ClockError::Malformed | ClockError::OutOfRange => "clock",
        ClockError::Node => "node",
        ClockError::Ahead { .. } => "ahead",
        ClockError::Exhausted => "exhausted",
    }
}

pub(crate) fn vectors() -> BTreeMap<&'static str, Vec<Value>> {
    let mut random = Random(1);
    let mut ascending: Vec<Clock> = (0..60).map(|_| any_clock(&mut random)).collect();
    ascending.push(Clock::ground());
    ascending.sort();
    ascending.dedup();
    let after = (0..60).map(|_| after(&mut random)).collect();
    let hybrid = (0..25).map(|_| hybrid(&mut random)).collect();
    let texts = texts(&ascending);
    let ascending = ascending.iter().map(|clock| json!(clock)).collect();
    BTreeMap::from([
        ("texts", texts),
        ("ascending", ascending),
        ("after", after),
        ("hybrid", hybrid),
    ])
}

/// Also those that others write, with six digits of a second or small letters.
fn any_clock(random: &mut Random) -> Clock {
    let millis = T + random.below(3);
    let counter = random.pick(&[0, 1, 0x42, 0xff, 0xfffe, 0xffff]);
    let clock = Clock::new(millis, counter, &any_node(random));
    let text = clock.as_str();
    let foreign = match random.below(6) {
        0 => format!("{}123{}", &text[..23], &text[23..]),
        1 => format!(
            "{}{}{}",
            &text[..25],
            text[25..29].to_lowercase(),
            &text[29..]
        ),
        _ => text.to_owned(),
    };
    Clock::read_foreign(&foreign).expect("a clock")
}

fn texts(clocks: &[Clock]) -> Vec<Value> {
    let mut texts: Vec<String> = clocks.iter().map(Clock::to_string).collect();
    let long = "a".repeat(NODE_BYTES_MAX + 1);
    for node in [
        "",
        "a:b",
        "a\nb",
        "a\u{85}b",
        "-a",
        "_",
        "a b",
        "٣",
        "Ⅻ",
        "½",
        "a\u{2028}b",
        &long[1..],
        &long,
        &"é".repeat(64),
        &"é".repeat(65),
    ] {
        texts.push(format!("2001-09-09T01:46:40.000Z-0042-{node}"));
    }
    let malformed = [
        "",
        "-1",
        "2001-09-09T01:46:40.000Z",
        "2001-09-09T01:46:40.000Z-0042",
        "2001-09-09T01:46:40.000Z-042-abc",
        "2001-09-09T01:46:40.000Z-+042-abc",
        "2001-09-09T01:46:40.000Z-10042-abc",
        "2001-09-09T01:46:40.00Z-0042-abc",
        "2001-09-09T01:46:40.0000Z-0042-abc",
        "2001-09-09T01:46:40Z-0042-abc",
        "2001-09-09 01:46:40.000Z-0042-abc",
        "2001-09-09T01:46:40.000+01:00-0042-abc",
        "2001-02-29T01:46:40.000Z-0042-abc",
        "2000-02-29T01:46:40.000Z-0042-abc",
        "2001-00-09T01:46:40.000Z-0042-abc",
        "2001-09-09T24:00:00.000Z-0042-abc",
        "2001-09-09T23:59:60.000Z-0042-abc",
        "10001-09-09T01:46:40.000Z-0042-abc",
        "1969-12-31T23:59:59.999Z-0000-abc",
        "1970-01-01T00:00:00.000Z-0000-abc",
        "9999-12-31T23:59:59.999Z-FFFF-abc",
        "0000-01-01T00:00:00.000Z-0000-abc",
        " 2001-09-09T01:46:40.000Z-0042-abc",
    ];
    texts.extend(malformed.map(str::to_owned));
    let case = |text: &String| match Clock::read_foreign(text) {
        Ok(clock) => json!({
            "text": text,
            "millis": clock.millis(),
            "counter": clock.counter(),
            "node": clock.node(),
        }),
        Err(error) => json!({"text": text, "error": code(&error)}),
    };
    texts.iter().map(case).collect()
}

fn after(random: &mut Random) -> Value {
    let below = match random.below(8) {
        0 => None,
        1 => Some(Clock::new(MILLIS_MAX, u16::MAX, &node("a"))),
        _ => Some(any_clock(random)),
    };
    let millis = random.pick(&[0, T - 1, T, T + 1, T + 5, MILLIS_MAX, MILLIS_MAX + 1]);
    let name = random.pick(&NODES);
    let clock = answer(Clock::after(below.as_ref(), millis, &node(name)));
    json!({"below": below, "millis": millis, "node": name, "clock": clock})
}

fn answer(clock: Result<Clock, ClockError>) -> Value {
    match clock {
        Ok(clock) => json!({"is": clock}),
        Err(error) => json!({"error": code(&error)}),
    }
}

/// The time of one node runs, stops and goes back, and it receives, also what is too far ahead.
fn hybrid(random: &mut Random) -> Value {
    let name = random.pick(&NODES);
    let last = random.chance(50).then(|| any_clock(random));
    let mut hybrid = HybridClock::new(node(name), last.clone());
    let steps = (0..6).map(|_| {
        let time = T - 3 + random.below(6);
        let ahead = random.pick(&[0, 1, 59_999, 60_000, 60_001, 70_000]);
        let mut remotes: Vec<Clock> = (0..random.below(3)).map(|_| any_clock(random)).collect();
        if random.chance(30) {
            remotes.push(Clock::new(time + ahead, 7, &node("z")));
        }
        let clock = match remotes.is_empty() {
            true => hybrid.now(time),
            false => hybrid.receive_all(&remotes, time),
        };
        json!({
            "time": time, "remotes": remotes, "clock": answer(clock), "last": hybrid.last(),
        })
    });
    let steps: Vec<Value> = steps.collect();
    json!({"node": name, "last": last, "steps": steps})
}
