//! Histories of a row: what it is read as, what a write makes of it, and what two replicas of it make together.

use std::collections::BTreeMap;

use merge::{
    Clock, ColumnMerge, ColumnRule, Comparison, Deletes, Edit, FieldMergeStrategy, Metadata, Row,
    RowError, Rules, Site, Write, WriteError, Written,
};
use serde_json::{Map, Value, json};

use crate::clocks::{any_node, node};
use crate::random::Random;
use crate::values;

const HISTORIES: u64 = 400;

/// The names of two are those that every object of JavaScript has.
const COLUMNS: [&str; 15] = [
    "likes",
    "tags",
    "title",
    "note",
    "seal",
    "memo",
    "body",
    "likes",
    "constructor",
    "tags",
    "best",
    "least",
    "due",
    "day",
    "__proto__",
];

/// What goes to the files, and the rules that cases refer to by their index.
#[derive(Default)]
struct Cases {
    reads: Vec<Value>,
    writes: Vec<Value>,
    joins: Vec<Value>,
}

pub(crate) fn vectors() -> BTreeMap<&'static str, Vec<Value>> {
    let mut random = Random(2);
    let all_rules = rules();
    let mut cases = Cases::default();
    for history in 0..HISTORIES {
        let which = usize::try_from(history).expect("an index") % all_rules.len();
        play(&mut random, which, &all_rules[which], &mut cases);
    }
    BTreeMap::from([
        (
            "rules",
            all_rules.iter().map(|rules| json!(rules)).collect(),
        ),
        ("reads", cases.reads),
        ("writes", cases.writes),
        ("joins", cases.joins),
    ])
}

fn rules() -> Vec<Rules> {
    use {Deletes as D, FieldMergeStrategy as S};
    let merges = [
        ("body", ColumnMerge::Text),
        ("likes", ColumnMerge::Counter),
        ("constructor", ColumnMerge::Counter),
        ("tags", ColumnMerge::Set),
        ("best", ColumnMerge::Max(Comparison::Number)),
        ("least", ColumnMerge::Min(Comparison::Json)),
        ("due", ColumnMerge::Max(Comparison::Timestamp)),
        ("day", ColumnMerge::Min(Comparison::Date)),
    ];
    let mut columns: BTreeMap<String, ColumnRule> = BTreeMap::new();
    for (column, merge) in merges {
        columns.entry(column.to_owned()).or_default().merge = merge;
    }
    for (column, strategy) in [("note", S::ClientWins), ("seal", S::ServerWins)] {
        columns.entry(column.to_owned()).or_default().strategy = Some(strategy);
    }
    let of = |strategy, deletes| Rules {
        strategy,
        deletes,
        columns: columns.clone(),
    };
    vec![
        of(S::LastWriteWins, D::Win),
        of(S::LastWriteWins, D::Revive),
        of(S::ServerWins, D::Revive),
        of(S::ClientWins, D::Win),
        of(S::KeepBoth, D::Revive),
    ]
}

/// Two replicas of a row are written to, and told each other's.
fn play(random: &mut Random, which: usize, rules: &Rules, cases: &mut Cases) {
    let beginning = random.chance(30).then(|| {
        let values = values_of(random, false, true);
        Row::untracked(&values, rules).expect("values that fit")
    });
    let mut replicas = [beginning.clone(), beginning];
    let is_counting = random.chance(25);
    for _ in 0..9 {
        let at = usize::from(random.chance(50));
        let mut write = any_write(random, replicas[at].as_ref());
        if is_counting && random.chance(70) {
            let add = json!({"add": random.below(9)});
            write.born = replicas[at].as_ref().and_then(Row::born).cloned();
            write.edit = Edit::Update(Map::from_iter([("likes".to_owned(), add)]));
        }
        // What other databases count is for reading and joining alone, a device never does.
        let counts_as = random.chance(40).then(|| node(random.pick(&["b", "db"])));
        let is_device = counts_as.is_none();
        let site = Site {
            counts_as,
            horizon: None,
        };
        let written = write.apply(replicas[at].as_ref(), rules, &site);
        let is_refused = written.is_err();
        let has_lost = written
            .as_ref()
            .is_ok_and(|written| !written.conflicts.is_empty());
        let share = match (is_refused, has_lost) {
            (true, _) => 20,
            (_, true) => 14,
            _ => 5,
        };
        if is_device && random.chance(share) {
            cases
                .writes
                .push(write_case(which, replicas[at].as_ref(), &write, &written));
        }
        if let Ok(written) = written {
            let mut row = written.row;
            if random.chance(20) {
                row.fold(&clock(random));
            }
            replicas[at] = Some(row);
        }
        let [Some(one), Some(two)] = &replicas else {
            continue;
        };
        if random.chance(3) {
            cases.reads.push(read(random, which, one, two, rules));
        }
        if random.chance(40) {
            let row = one.clone().joined(two, rules);
            let counts = |row: &Row| told(row).to_string().contains("\"sums\"");
            let is_counted = one.born() == two.born() && counts(one) && counts(two);
            if one != two && random.chance(if is_counted { 50 } else { 4 }) {
                let case = json!({
                    "rules": which, "one": told(one), "two": told(two), "is": told(&row),
                    "shown": row.shown(rules).is_some(), "newest": row.newest(),
                });
                cases.joins.push(case);
            }
            replicas[at] = Some(row);
        }
    }
}

fn told(row: &Row) -> Value {
    json!({"metadata": row.metadata(), "values": row.values()})
}

fn write_case(
    which: usize,
    known: Option<&Row>,
    write: &Write,
    written: &Result<Written, WriteError>,
) -> Value {
    let mut case = json!({"rules": which, "known": known.map(told), "write": write});
    let (name, value) = match written {
        Ok(written) => {
            case["conflicts"] = json!(written.conflicts);
            ("is", told(&written.row))
        }
        Err(WriteError::Row(error)) => ("error", json!(code(error))),
        Err(WriteError::Exhausted) => ("error", json!("exhausted")),
        Err(error) => panic!("{error}"),
    };
    case[name] = value;
    case
}

fn code(error: &RowError) -> &'static str {
    match error {
        RowError::Counter { .. } => "counter",
        RowError::Set { .. } => "set",
        RowError::Metadata { .. } => "mark",
        RowError::TooManyFields => "too_many_fields",
    }
}

/// Metadata with values that may not be its own.
fn read(random: &mut Random, which: usize, one: &Row, two: &Row, rules: &Rules) -> Value {
    let mut metadata = json!(one.metadata());
    if random.chance(20) {
        let of = ["born", "died", "base", "edited"];
        metadata[random.pick(&of)] = json!(clock(random));
    }
    let mut values = if random.chance(40) {
        two.values()
    } else {
        one.values()
    };
    if random.chance(20) {
        let column = random.pick(&COLUMNS);
        values.insert(column.to_owned(), json!("odd"));
    }
    let parsed: Metadata = serde_json::from_value(metadata.clone()).expect("metadata");
    let mut case = json!({"rules": which, "metadata": metadata, "values": values});
    match Row::new(&parsed, &values, rules) {
        Ok(row) => case["is"] = told(&row),
        Err(error) => case["error"] = json!(code(&error)),
    }
    case
}

/// Few moments and few nodes, so that clocks are often equal or in a tie.
fn clock(random: &mut Random) -> Clock {
    let counter = u16::from(random.chance(30));
    let clock = Clock::new(1 + random.below(12), counter, &any_node(random));
    let text = clock.as_str().to_owned();
    match random.below(20) {
        0 => Clock::read_foreign(&format!("{}123{}", &text[..23], &text[23..])).expect("a clock"),
        1 => Clock::read_foreign(&text.replace("-0001-", "-000a-")).expect("a clock"),
        2 => Clock::new(u64::MAX, u16::MAX, &clock.node()),
        _ => clock,
    }
}

/// A write by somebody who saw the row as it is, an earlier one, or who does not say.
fn any_write(random: &mut Random, known: Option<&Row>) -> Write {
    let born = match random.below(10) {
        0 => None,
        1 => Some(clock(random)),
        _ => known.and_then(Row::born).cloned(),
    };
    let seen = match random.below(3) {
        0 => None,
        1 => Some(clock(random)),
        _ => known.and_then(Row::newest).cloned(),
    };
    let has_odd = random.chance(6);
    let edit = match random.below(12) {
        0 => Edit::Delete,
        1..=2 => Edit::Create(values_of(random, has_odd, true)),
        _ if known.is_none() && random.chance(80) => Edit::Create(values_of(random, has_odd, true)),
        _ => Edit::Update(values_of(random, has_odd, false)),
    };
    Write {
        clock: clock(random),
        born,
        seen,
        edit,
    }
}

fn values_of(random: &mut Random, has_odd: bool, is_creation: bool) -> Map<String, Value> {
    let count = 1 + random.below(if is_creation { 6 } else { 3 });
    let pairs = (0..count).map(|_| {
        let column = random.pick(&COLUMNS);
        let value = match column {
            "likes" | "constructor" => counted(random, has_odd, is_creation),
            "tags" => elements(random, has_odd, is_creation),
            "best" => random.pick(&values::numbers()),
            "due" => random.pick(&values::timestamps()),
            "day" => random.pick(&values::dates()),
            _ => random.pick(&values::any()),
        };
        (column.to_owned(), value)
    });
    pairs.collect()
}

fn counted(random: &mut Random, has_odd: bool, is_creation: bool) -> Value {
    let amounts = [
        json!(3),
        json!(-2),
        json!(0.1),
        json!("0.000000001"),
        json!("9007199254740993"),
        json!("-999999999999999999999999999"),
    ];
    let odd = [
        json!("many"),
        json!(true),
        json!(1e300),
        json!({}),
        json!({"add": 1, "remove": 1}),
    ];
    let amount = random.pick(&amounts);
    match random.below(5) {
        _ if has_odd && random.chance(50) => random.pick(&odd),
        0 => json!(null),
        1..=3 if !is_creation => json!({"add": if has_odd { json!(null) } else { amount }}),
        _ => amount,
    }
}

fn elements(random: &mut Random, has_odd: bool, is_creation: bool) -> Value {
    let pool = [
        json!("x"),
        json!("y"),
        json!("ﬀ"),
        json!("𝒳"),
        json!("\u{1}\""),
        json!(1),
        json!(0.5),
        json!(1e21),
        json!(1e-7),
        json!(true),
    ];
    let mut some = || -> Vec<Value> {
        let count = random.below(4);
        (0..count).map(|_| random.pick(&pool)).collect()
    };
    let (add, remove) = (some(), some());
    let odd = [
        json!("x"),
        json!([null]),
        json!([[]]),
        json!({"add": "x"}),
        json!({}),
    ];
    match random.below(5) {
        _ if has_odd && random.chance(50) => random.pick(&odd),
        0 => json!(null),
        1..=3 if !is_creation => json!({"add": add, "remove": remove}),
        _ => json!(add),
    }
}
