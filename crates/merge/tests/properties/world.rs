//! What the properties are about: clocks, values, rows, and histories of writes.

use std::collections::BTreeMap;

use merge::{
    Clock, ColumnMerge, ColumnRule, Comparison, Deletes, Edit, FieldMergeStrategy, HybridClock,
    NodeId, Row, Rules, Site, Write,
};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Map, Value, json};

pub(crate) const COLUMNS: [&str; 6] = ["title", "note", "likes", "tags", "best", "least"];

pub(crate) fn config() -> ProptestConfig {
    ProptestConfig {
        max_global_rejects: 100_000,
        ..ProptestConfig::default()
    }
}

pub(crate) fn rules(deletes: Deletes) -> Rules {
    let of = |merge| ColumnRule {
        merge,
        strategy: None,
    };
    Rules {
        deletes,
        columns: BTreeMap::from([
            ("likes".to_owned(), of(ColumnMerge::Counter)),
            ("tags".to_owned(), of(ColumnMerge::Set)),
            ("best".to_owned(), of(ColumnMerge::Max(Comparison::Number))),
            ("least".to_owned(), of(ColumnMerge::Min(Comparison::Number))),
        ]),
        ..Rules::default()
    }
}

pub(crate) fn any_rules() -> impl Strategy<Value = Rules> {
    prop_oneof![Just(Deletes::Win), Just(Deletes::Revive)].prop_map(rules)
}

pub(crate) fn node(name: &str) -> NodeId {
    NodeId::new(name).expect("a node id")
}

pub(crate) fn at(millis: u64, name: &str) -> Clock {
    Clock::new(millis, 0, &node(name))
}

/// Few moments and few nodes, so that clocks are often equal or in a tie.
pub(crate) fn clock() -> impl Strategy<Value = Clock> {
    (1..12_u64, 0..2_u16, prop_oneof![Just("a"), Just("b")])
        .prop_map(|(millis, counter, name)| Clock::new(millis, counter, &node(name)))
}

/// What a register may hold, the odd ones among it.
pub(crate) fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!(null)),
        Just(json!(-0.0)),
        Just(json!(0)),
        Just(json!(1.0)),
        Just(json!("NaN")),
        Just(json!("1e400")),
        Just(json!("")),
        Just(json!({"b": [1, null], "a": {}})),
        (0..5_i64).prop_map(|number| json!(number)),
        "[ab]{1,2}".prop_map(|text| json!(text)),
    ]
}

/// What may be written to a column; `whole` is what a creation writes.
pub(crate) fn value_for(column: &'static str, whole: bool) -> BoxedStrategy<Value> {
    let elements = || prop::collection::vec(prop_oneof![Just("x"), Just("y"), Just("z")], 0..3);
    match column {
        "likes" if whole => (-3..4_i64).prop_map(|number| json!(number)).boxed(),
        "likes" => prop_oneof![
            4 => (-3..4_i64).prop_map(|number| json!({"add": number})),
            1 => (0..9_i64).prop_map(|number| json!(number)),
        ]
        .boxed(),
        "tags" if whole => elements().prop_map(|elements| json!(elements)).boxed(),
        "tags" => prop_oneof![
            4 => (elements(), elements())
                .prop_map(|(add, remove)| json!({"add": add, "remove": remove})),
            1 => elements().prop_map(|elements| json!(elements)),
        ]
        .boxed(),
        _ => value().boxed(),
    }
}

pub(crate) fn values(whole: bool) -> impl Strategy<Value = Map<String, Value>> {
    let column = prop::sample::select(&COLUMNS[..]);
    let pair = column.prop_flat_map(move |column| {
        value_for(column, whole).prop_map(move |value| (column.to_owned(), value))
    });
    prop::collection::vec(pair, if whole { 0..6 } else { 1..4 })
        .prop_map(|pairs| pairs.into_iter().collect())
}

pub(crate) fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        2 => values(true).prop_map(Edit::Create),
        5 => values(false).prop_map(Edit::Update),
        2 => Just(Edit::Delete),
    ]
}

/// Any write, also one that no honest author makes.
pub(crate) fn write() -> impl Strategy<Value = Write> {
    let born = prop_oneof![1 => Just(None), 3 => clock().prop_map(Some)];
    (clock(), born, edit()).prop_map(|(clock, born, edit)| Write {
        clock,
        born,
        seen: None,
        edit,
    })
}

pub(crate) fn site(name: &str) -> Site {
    Site {
        counts_as: Some(node(name)),
        horizon: None,
    }
}

/// Any row: what any writes make of none, or of one without metadata.
pub(crate) fn row(rules: Rules) -> impl Strategy<Value = Row> {
    let beginning = prop_oneof![
        2 => Just(None),
        1 => values(true).prop_map(Some),
    ];
    (
        beginning,
        prop::collection::vec((write(), any::<bool>()), 0..6),
    )
        .prop_map(move |(values, writes)| {
            let mut row = values.map_or_else(Row::default, |values| {
                Row::untracked(&values, &rules).expect("values that fit")
            });
            for (write, first) in writes {
                let site = site(if first { "one" } else { "two" });
                let part = write
                    .part(Some(&row), &rules, &site)
                    .expect("a write that fits");
                row.join(&part, &rules);
            }
            row
        })
}

/// One step of a history.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// A replica writes, with its clock off by so much.
    Write {
        replica: usize,
        skew_ms: u64,
        edit: Edit,
    },
    /// A replica receives something that was written.
    Deliver { replica: usize, which: Index },
}

pub(crate) fn history() -> impl Strategy<Value = Vec<Step>> {
    let write = (0..3_usize, 0..4_u64, edit()).prop_map(|(replica, skew_ms, edit)| Step::Write {
        replica,
        skew_ms,
        edit,
    });
    let deliver =
        (0..3_usize, any::<Index>()).prop_map(|(replica, which)| Step::Deliver { replica, which });
    prop::collection::vec(prop_oneof![2 => write, 1 => deliver], 1..20)
}

/// Replicas of one row, and all that was ever written to it.
pub(crate) struct World {
    pub(crate) rules: Rules,
    pub(crate) replicas: Vec<(HybridClock, Row)>,
    pub(crate) parts: Vec<Row>,
}

impl World {
    pub(crate) fn play(rules: Rules, steps: &[Step]) -> Self {
        let replicas = ["one", "two", "three"]
            .map(|name| (HybridClock::new(node(name), None), Row::default()));
        let mut world = Self {
            rules,
            replicas: replicas.into(),
            parts: Vec::new(),
        };
        for (time, step) in (1_000..).zip(steps) {
            world.step(time, step);
        }
        world
    }

    fn step(&mut self, time_ms: u64, step: &Step) {
        match step {
            Step::Write {
                replica,
                skew_ms,
                edit,
            } => {
                let (clock, row) = &mut self.replicas[*replica];
                let site = site(clock.node().as_str());
                let clock = clock.now(time_ms - skew_ms).expect("a clock");
                let born = row.born().cloned();
                let write = Write {
                    clock,
                    born,
                    seen: None,
                    edit: edit.clone(),
                };
                let part = write
                    .part(Some(row), &self.rules, &site)
                    .expect("a write that fits");
                row.join(&part, &self.rules);
                self.parts.push(part);
            }
            Step::Deliver { replica, which } if !self.parts.is_empty() => {
                let part = &self.parts[which.index(self.parts.len())];
                let (clock, row) = &mut self.replicas[*replica];
                if let Some(newest) = part.newest() {
                    clock.receive(newest, time_ms).expect("not far ahead");
                }
                row.join(part, &self.rules);
            }
            Step::Deliver { .. } => {}
        }
    }
}

/// All of a row with the strategy `strategy` and nothing but registers.
pub(crate) fn registers(strategy: FieldMergeStrategy) -> Rules {
    Rules {
        strategy,
        ..Rules::default()
    }
}

pub(crate) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        other => panic!("{other} is no object"),
    }
}
