mod records;

use std::collections::BTreeMap;
use std::sync::Arc;

use merge::{Clock, ClockPolicy, ColumnMerge, ColumnRule, Deletes, Metadata, NodeId, Row, Rules};
use proptest::prelude::*;
use protocol::{Op, Reject, RejectCode, Write};
use serde_json::value::to_raw_value;
use serde_json::{Map, Value, json};
use uuid::Uuid;
use value::schema::{Collation, Column, ColumnKind, Schema};

use super::{Action, KEPT_BYTES_MAX, Known, Merged, Plan, Receipt, Stamp, TOLD_BYTES_MAX, plan};
use crate::mutation::{CheckedWrite, check_fields};
use crate::policy::WriteColumns;

/// `2001-09-09T01:46:40.000Z`
const T: u64 = 1_000_000_000_000;

fn schema() -> Arc<Schema> {
    let column = |name: &str, kind| Column {
        name: name.to_owned(),
        kind,
        type_name: "some".to_owned(),
        nullable: name != "id",
        has_default: false,
        generated: name == "made",
        collation: Collation::Bytes,
        logged: true,
    };
    let text = || ColumnKind::Text { chars_max: None };
    Arc::new(Schema {
        entity: "todos".to_owned(),
        columns: vec![
            column("id", ColumnKind::INT8),
            column("title", text()),
            column("due", text()),
            column("likes", ColumnKind::INT8),
            column("tags", ColumnKind::Array(text().into())),
            column("made", text()),
        ],
        key: vec![0],
    })
}

fn rules(deletes: Deletes) -> Arc<Rules> {
    let rule = |merge| ColumnRule {
        merge,
        strategy: None,
    };
    Arc::new(Rules {
        deletes,
        columns: BTreeMap::from([
            ("likes".to_owned(), rule(ColumnMerge::Counter)),
            ("tags".to_owned(), rule(ColumnMerge::Set)),
        ]),
        ..Rules::default()
    })
}

fn client(number: u8) -> Uuid {
    Uuid::from_bytes([number; 16])
}

fn node(number: u8) -> NodeId {
    NodeId::of_client(client(number).as_bytes())
}

fn at(millis: u64, by: u8) -> Clock {
    Clock::new(T + millis, 0, &node(by))
}

/// A write of the row 1.
fn write(op: Op, values: &Value, clock: &Clock, born: Option<&Clock>) -> Write {
    let values = values.as_object().cloned().unwrap_or_default();
    let raw = |value: &Value| to_raw_value(value).expect("JSON");
    Write {
        entity: "todos".to_owned(),
        op,
        key: Some(json!(1)),
        values: values
            .iter()
            .map(|(name, value)| (name.clone(), raw(value)))
            .collect(),
        hlc: Some(clock.to_string()),
        born: born.map(Clock::to_string),
        seen: None,
        resolves: BTreeMap::new(),
    }
}

fn receipt(by: u8) -> Receipt {
    Receipt::new(ClockPolicy::Clamp, T + 1_000_000, client(by), 1)
}

fn check(write: &Write, rules: &Arc<Rules>, receipt: &mut Receipt) -> Result<CheckedWrite, Reject> {
    check_fields(write, schema(), WriteColumns::ALL, rules, receipt)
}

/// A table of one row, and its entry.
#[derive(Debug, Default, Clone)]
struct Store {
    known: Known,
}

impl Store {
    /// The row with these values, which nobody has edited.
    fn with(values: Value) -> Self {
        let row = Some(values.to_string());
        Self {
            known: Known {
                row,
                ..Known::default()
            },
        }
    }

    fn values(&self) -> Option<Map<String, Value>> {
        let row = self.known.row.as_ref()?;
        Some(serde_json::from_str(row).expect("an object"))
    }

    /// Carries a plan out as a database does.
    fn carry_out(&mut self, write: &CheckedWrite, plan: &Plan) {
        let is_created = matches!(plan.action, Action::Create { .. });
        assert!(
            !is_created || self.known.row.is_none(),
            "a row is created once"
        );
        self.known.carry_out(&write.schema, plan);
        if is_created {
            let mut row = self.values().expect("it was created");
            for column in &write.schema.columns {
                row.entry(column.name.clone()).or_insert(Value::Null);
            }
            self.known.row = Some(Value::Object(row).to_string());
        }
    }

    fn push(&mut self, write: &Write, rules: &Arc<Rules>, by: u8) -> Result<Plan, Reject> {
        let checked = check(write, rules, &mut receipt(by))?;
        let fields = checked.fields.clone().expect("it merges");
        let plan = plan(&checked, &fields, &self.known)?;
        self.carry_out(&checked, &plan);
        Ok(plan)
    }

    fn value(&self, column: &str) -> Value {
        self.values().expect("the row is there")[column].clone()
    }
}

fn begun() -> Store {
    Store::with(json!({"id": 1, "title": "a", "due": "b", "likes": 1, "tags": ["x"], "made": "m"}))
}

#[test]
fn edits_of_different_fields_both_live_whatever_comes_first() {
    let rules = rules(Deletes::Win);
    let title = write(Op::Update, &json!({"title": "A"}), &at(5, 1), None);
    let due = write(Op::Update, &json!({"due": "B"}), &at(3, 2), None);
    for order in [[(&title, 1), (&due, 2)], [(&due, 2), (&title, 1)]] {
        let mut store = begun();
        for (write, by) in order {
            let plan = store.push(write, &rules, by).expect("accepted");
            assert_eq!(plan.conflicts, []);
        }
        assert_eq!(
            (store.value("title"), store.value("due")),
            (json!("A"), json!("B"))
        );
    }
}

#[test]
fn of_one_field_the_later_clock_wins_and_the_author_of_the_other_is_told() {
    let rules = rules(Deletes::Win);
    let mut store = begun();
    let later = write(Op::Update, &json!({"title": "later"}), &at(5, 1), None);
    let older = write(Op::Update, &json!({"title": "older"}), &at(3, 2), None);
    store.push(&later, &rules, 1).expect("accepted");
    let entry = store.known.metadata.clone();
    let lost = store.push(&older, &rules, 2).expect("accepted");
    assert!(matches!(lost.action, Action::Nothing), "{lost:?}");
    assert_eq!(lost.conflicts.len(), 1);
    assert_eq!(lost.conflicts[0].lost.value, json!("older"));
    assert_eq!(store.value("title"), json!("later"));
    assert_eq!(store.known.metadata, entry);
}

#[test]
fn a_write_that_partly_loses_sets_only_what_won() {
    let rules = rules(Deletes::Win);
    let mut store = begun();
    let title = write(Op::Update, &json!({"title": "later"}), &at(5, 1), None);
    store.push(&title, &rules, 1).expect("accepted");
    let both = write(
        Op::Update,
        &json!({"title": "older", "due": "new"}),
        &at(3, 2),
        None,
    );
    let plan = store.push(&both, &rules, 2).expect("accepted");
    let Action::Update { values, .. } = &plan.action else {
        panic!("{plan:?}");
    };
    assert_eq!(
        values.iter().map(|(index, _)| *index).collect::<Vec<_>>(),
        [2]
    );
}

#[test]
fn who_stamps_nothing_writes_above_all_that_is_there() {
    let rules = rules(Deletes::Win);
    let mut store = begun();
    let ahead = write(
        Op::Update,
        &json!({"title": "ahead"}),
        &at(900_000, 1),
        None,
    );
    store.push(&ahead, &rules, 1).expect("accepted");
    let mut unstamped = write(Op::Update, &json!({"title": "now"}), &at(0, 2), None);
    unstamped.hlc = None;
    let checked = check(
        &unstamped,
        &rules,
        &mut Receipt::new(ClockPolicy::Clamp, T, client(2), 1),
    );
    let checked = checked.expect("fits");
    let fields = checked.fields.clone().expect("it merges");
    let plan = plan(&checked, &fields, &store.known).expect("accepted");
    store.carry_out(&checked, &plan);
    assert!(plan.clock > at(900_000, 1));
    assert_eq!(plan.conflicts, []);
    assert_eq!(store.value("title"), json!("now"));
}

#[test]
fn increments_add_up_and_leave_nothing_beside_the_row() {
    let rules = rules(Deletes::Win);
    let mut store = begun();
    for (by, add) in [(1, 3), (2, -1)] {
        let add = write(
            Op::Update,
            &json!({"likes": {"add": add}}),
            &at(1, by),
            None,
        );
        let plan = store.push(&add, &rules, by).expect("accepted");
        assert!(matches!(&plan.action, Action::Update { adds, .. } if adds.len() == 1));
        assert_eq!(plan.entry, None);
    }
    assert_eq!(store.value("likes"), json!(3));
}

#[test]
fn of_an_element_that_one_adds_and_another_removes_the_adding_wins() {
    let rules = rules(Deletes::Win);
    let mut store = begun();
    let remove = write(
        Op::Update,
        &json!({"tags": {"remove": ["x"]}}),
        &at(5, 1),
        None,
    );
    let add = write(
        Op::Update,
        &json!({"tags": {"add": ["x", "y"]}}),
        &at(3, 2),
        None,
    );
    store.push(&remove, &rules, 1).expect("accepted");
    store.push(&add, &rules, 2).expect("accepted");
    assert_eq!(store.value("tags"), json!(["x", "y"]));
}

#[test]
fn a_deletion_wins_over_an_edit_that_did_not_know_of_it() {
    let rules = rules(Deletes::Win);
    let mut store = begun();
    store
        .push(&write(Op::Delete, &json!({}), &at(1, 1), None), &rules, 1)
        .expect("accepted");
    let edit = write(Op::Update, &json!({"title": "late"}), &at(9, 2), None);
    let lost = store.push(&edit, &rules, 2).expect("accepted");
    assert!(matches!(lost.action, Action::Nothing));
    assert_eq!(lost.conflicts.len(), 1);
    assert_eq!(store.known.row, None);
    // Deleting it once more is no error: another device had not heard of it.
    let again = store.push(&write(Op::Delete, &json!({}), &at(2, 3), None), &rules, 3);
    assert!(matches!(again.expect("accepted").action, Action::Nothing));
}

#[test]
fn where_edits_revive_the_row_comes_back_with_what_it_had() {
    let rules = rules(Deletes::Revive);
    let mut store = begun();
    store
        .push(&write(Op::Delete, &json!({}), &at(1, 1), None), &rules, 1)
        .expect("accepted");
    assert_eq!(store.known.row, None);
    let edit = write(Op::Update, &json!({"title": "late"}), &at(9, 2), None);
    let revived = store.push(&edit, &rules, 2).expect("accepted");
    assert!(
        matches!(revived.action, Action::Create { .. }),
        "{revived:?}"
    );
    assert_eq!(
        (store.value("id"), store.value("title")),
        (json!(1), json!("late"))
    );
    assert_eq!(
        (store.value("due"), store.value("likes")),
        (json!("b"), json!(1))
    );
    assert_eq!(store.known.image, None);
}

#[test]
fn an_edit_of_an_earlier_row_is_not_seen_in_a_later_one() {
    let rules = rules(Deletes::Win);
    let mut store = begun();
    store
        .push(&write(Op::Delete, &json!({}), &at(1, 1), None), &rules, 1)
        .expect("accepted");
    let create = write(Op::Create, &json!({"title": "new"}), &at(2, 1), None);
    store.push(&create, &rules, 1).expect("accepted");
    let stale = write(Op::Update, &json!({"title": "stale"}), &at(9, 2), None);
    let lost = store.push(&stale, &rules, 2).expect("accepted");
    assert!(matches!(lost.action, Action::Nothing));
    let knowing = write(
        Op::Update,
        &json!({"title": "fresh"}),
        &at(9, 2),
        Some(&at(2, 1)),
    );
    store.push(&knowing, &rules, 2).expect("accepted");
    assert_eq!(store.value("title"), json!("fresh"));
}

#[test]
fn nobody_proves_a_creation_that_the_database_has_not_seen() {
    let rules = rules(Deletes::Win);
    let mut store = begun();
    let forged = write(
        Op::Update,
        &json!({"title": "mine"}),
        &at(9, 2),
        Some(&at(8, 2)),
    );
    let reject = store.push(&forged, &rules, 2).expect_err("rejected");
    assert_eq!(reject.code, RejectCode::NotFound);
    assert_eq!(store.value("due"), json!("b"));
}

#[test]
fn what_was_never_there_is_not_found_and_what_is_there_is_not_created() {
    let rules = rules(Deletes::Win);
    let update = write(Op::Update, &json!({"title": "x"}), &at(1, 1), None);
    let reject = Store::default()
        .push(&update, &rules, 1)
        .expect_err("rejected");
    assert_eq!(reject.code, RejectCode::NotFound);
    // The database says that it exists, and nothing is kept of it.
    let create = write(Op::Create, &json!({"title": "x"}), &at(1, 1), None);
    let checked = check(&create, &rules, &mut receipt(1)).expect("fits");
    let fields = checked.fields.clone().expect("it merges");
    let plan = plan(&checked, &fields, &begun().known).expect("a plan");
    assert!(matches!(plan.action, Action::Create { .. }));
    assert_eq!(plan.entry, None);
}

#[test]
fn what_somebody_did_without_a_trigger_counts_as_done_last() {
    let rules = rules(Deletes::Win);
    let deleted = Some(json!({"died": at(50, 9)}).to_string());
    let mut back = begun();
    back.known.metadata = deleted;
    let edit = write(Op::Update, &json!({"title": "x"}), &at(60, 1), None);
    // Its author saw the row of before.
    assert!(matches!(
        back.push(&edit, &rules, 1).expect("accepted").action,
        Action::Nothing
    ));
    assert_eq!(back.value("title"), json!("a"));
    let mut gone = Store::default();
    gone.known.metadata = Some(json!({"born": at(5, 9), "fields": {}}).to_string());
    let lost = gone.push(&edit, &rules, 1).expect("accepted");
    assert!(matches!(lost.action, Action::Nothing));
}

#[test]
fn what_cannot_be_read_of_an_entry_counts_as_not_there() {
    let rules = rules(Deletes::Win);
    for metadata in [
        "nonsense",
        "{}",
        r#"{"fields":{"likes":"2001-09-09T01:46:40.000Z-0000-a","gone":"2001-09-09T01:46:40.000Z-0000-a"}}"#,
    ] {
        let mut store = begun();
        store.known.metadata = Some(metadata.to_owned());
        let edit = write(
            Op::Update,
            &json!({"title": "x", "likes": {"add": 1}}),
            &at(1, 1),
            None,
        );
        store.push(&edit, &rules, 1).expect("accepted");
        assert_eq!(store.value("title"), json!("x"), "{metadata}");
    }
}

#[test]
fn clocks_that_no_write_may_have_are_refused() {
    let rules = rules(Deletes::Win);
    let push = |hlc: &str, policy, received_ms| {
        let mut write = write(Op::Update, &json!({"title": "x"}), &at(0, 1), None);
        write.hlc = Some(hlc.to_owned());
        let mut receipt = Receipt::new(policy, received_ms, client(1), 1);
        check(&write, &rules, &mut receipt).map(|checked| checked.fields.expect("it merges").stamp)
    };
    let others = at(0, 2).to_string();
    let long = format!("2001-09-09T01:46:40.000Z-0000-{}", "n".repeat(10_000));
    for hlc in [
        "",
        "-1",
        "2100",
        &others,
        &long,
        "2001-09-09T01:46:40.000Z-0000-a\0b",
    ] {
        let reject = push(hlc, ClockPolicy::Clamp, T).expect_err(hlc);
        assert_eq!(reject.code, RejectCode::Invalid, "{hlc}");
        assert!(reject.message.len() < 200, "{hlc}");
    }
    let future = Clock::new(4_102_444_800_000, 0, &node(1)).to_string();
    let reject = push(&future, ClockPolicy::Reject, T).expect_err("the year 2100");
    assert_eq!(reject.code, RejectCode::Clock);
    let clamped = push(&future, ClockPolicy::Clamp, T).expect("clamped");
    let super::Stamp::Author { clock, .. } = clamped else {
        panic!("{clamped:?}");
    };
    assert_eq!(clock.millis(), T);
}

#[test]
fn a_write_from_before_what_is_still_told_apart_is_refused() {
    let rules = rules(Deletes::Win);
    let push = |millis| {
        let write = write(Op::Update, &json!({"title": "x"}), &at(millis, 1), None);
        let mut receipt = receipt(1).refusing_before(T + 10);
        check(&write, &rules, &mut receipt)
    };
    let reject = push(9).expect_err("it is too old");
    assert_eq!(reject.code, RejectCode::Clock);
    assert!(push(10).is_ok());
}

#[test]
fn clocks_of_the_future_keep_the_order_of_their_mutations() {
    let rules = rules(Deletes::Win);
    let mut before = None;
    for number in 1..5 {
        let ahead = at(9_000_000 - number, 1);
        let write = write(Op::Update, &json!({"title": "x"}), &ahead, None);
        let mut receipt = Receipt::new(ClockPolicy::Clamp, T, client(1), number);
        let checked = check(&write, &rules, &mut receipt).expect("fits");
        let super::Stamp::Author { clock, .. } = checked.fields.expect("it merges").stamp else {
            panic!("it was stamped");
        };
        assert!(before < Some(clock.clone()), "{before:?} {clock}");
        before = Some(clock);
    }
}

#[test]
fn later_writes_of_one_row_in_a_mutation_are_above_the_earlier() {
    let rules = rules(Deletes::Win);
    let mut receipt = receipt(1);
    let mut store = begun();
    for title in ["z", "y", "x"] {
        let write = write(Op::Update, &json!({"title": title}), &at(5, 1), None);
        let checked = check(&write, &rules, &mut receipt).expect("fits");
        let fields = checked.fields.clone().expect("it merges");
        let plan = plan(&checked, &fields, &store.known).expect("accepted");
        store.carry_out(&checked, &plan);
    }
    assert_eq!(store.value("title"), json!("x"));
}

#[test]
fn edits_of_counters_and_sets_are_checked() {
    let rules = rules(Deletes::Win);
    for (values, column) in [
        (json!({"likes": {"add": "three"}}), "likes"),
        (json!({"likes": {"add": "NaN"}}), "likes"),
        (json!({"likes": {"add": 1e300}}), "likes"),
        (json!({"likes": {"sub": 1}}), "likes"),
        (json!({"likes": {"add": 1, "more": 1}}), "likes"),
        (json!({"likes": "many"}), "likes"),
        (json!({"tags": {"add": "x"}}), "tags"),
        (json!({"tags": {"add": [1]}}), "tags"),
        (json!({"tags": {"put": ["x"]}}), "tags"),
        (json!({"tags": {}}), "tags"),
        (json!({"title": {"add": 1}}), "title"),
        (json!({"made": "me"}), "made"),
    ] {
        let write = write(Op::Update, &values, &at(1, 1), None);
        let reject = begun().push(&write, &rules, 1).expect_err("rejected");
        assert_eq!(reject.code, RejectCode::Invalid, "{values}");
        assert_eq!(reject.column.as_deref(), Some(column), "{values}");
    }
}

fn op() -> impl Strategy<Value = Op> {
    prop::sample::select(vec![
        Op::Create,
        Op::Update,
        Op::Update,
        Op::Update,
        Op::Upsert,
        Op::Delete,
    ])
}

fn values() -> impl Strategy<Value = Value> {
    let text = prop::sample::select(vec![json!("a"), json!("b"), json!(null)]);
    let likes = prop::sample::select(vec![json!({"add": 1}), json!({"add": -2}), json!(7)]);
    let tags = prop::sample::select(vec![
        json!({"add": ["x"]}),
        json!({"remove": ["x", "y"]}),
        json!(["y"]),
    ]);
    (
        prop::option::of(text.clone()),
        prop::option::of(text),
        prop::option::of(likes),
        prop::option::of(tags),
    )
        .prop_filter_map("something is written", |(title, due, likes, tags)| {
            let named = [
                ("title", title),
                ("due", due),
                ("likes", likes),
                ("tags", tags),
            ];
            let object: Map<String, Value> = named
                .into_iter()
                .filter_map(|(name, value)| Some((name.to_owned(), value?)))
                .collect();
            (!object.is_empty()).then_some(Value::Object(object))
        })
}

proptest! {
    /// What a plan leaves in the table and beside it is the row that merges: it is read back as that, it is in the table
    /// exactly while it is alive, and no clock ever goes back. Its entry names a clock that is not before any of its own, and
    /// later with each change of what the row shows.
    #[test]
    fn what_is_kept_is_the_row_that_merges(
        revives in any::<bool>(),
        writes in prop::collection::vec((op(), values(), 0_u64..8, 1_u8..4, prop::option::of(0_u64..8), any::<bool>()), 1..24),
    ) {
        let rules = rules(if revives { Deletes::Revive } else { Deletes::Win });
        let schema = schema();
        let mut store = begun();
        for (op, values, millis, by, born, is_stamped) in writes {
            let values = if op == Op::Delete { json!({}) } else { values };
            let known_birth = store.known.row(&schema, &rules).and_then(|row| row.born().cloned());
            let born = match born {
                Some(_) if is_stamped => known_birth,
                Some(millis) => Some(at(millis, by)),
                None => None,
            };
            let mut write = write(op, &values, &at(millis, by), born.as_ref());
            if op == Op::Create {
                write.values.retain(|_, raw| !raw.get().starts_with('{'));
            }
            if !is_stamped {
                write.hlc = None;
            }
            let Ok(checked) = check(&write, &rules, &mut receipt(by)) else {
                continue;
            };
            let fields = checked.fields.clone().expect("it merges");
            let before = store.known.row(&schema, &rules);
            let Ok(plan) = plan(&checked, &fields, &store.known) else {
                continue;
            };
            if matches!(plan.action, Action::Create { .. }) && store.known.row.is_some() {
                continue;
            }
            let newest_before = store.known.newest.clone();
            store.carry_out(&checked, &plan);
            let after = store.known.row(&schema, &rules).expect("a row is known");
            let is_alive = after.is_alive(&rules) && after.is_whole();
            prop_assert_eq!(is_alive, store.known.row.is_some());
            let metadata: Metadata = match &store.known.metadata {
                Some(text) => serde_json::from_str(text).expect("metadata"),
                None => Metadata::default(),
            };
            if store.known.metadata.is_some() {
                prop_assert_eq!(&metadata, &after.metadata(), "it is in its one form");
            } else {
                prop_assert!(after.metadata().is_empty());
            }
            prop_assert!(after.newest() >= before.as_ref().and_then(Row::newest) || !is_alive || plan_is_new_birth(&before, &after));
            if let Some(entry) = &plan.entry {
                let own = metadata.newest().cloned().unwrap_or_else(Clock::ground);
                prop_assert!(entry.newest >= own);
                let has_changed = before.as_ref().and_then(|row| row.shown(&rules)) != after.shown(&rules);
                match newest_before {
                    Some(before) if has_changed => prop_assert!(entry.newest.as_str() > before.as_str()),
                    Some(before) => prop_assert!(entry.newest.as_str() >= before.as_str()),
                    None => prop_assert_eq!(&entry.newest, &own),
                }
            }
            prop_assert_eq!(store.known.image.is_some(), revives && !is_alive && store.known.metadata.is_some());
        }
    }
}

/// Whether the row was created again, so that what was known of the earlier one does not count.
fn plan_is_new_birth(before: &Option<Row>, after: &Row) -> bool {
    after.born() > before.as_ref().and_then(Row::born)
}

#[test]
fn what_a_mutation_is_told_is_bounded_however_large_the_rows_are() {
    let rules = rules(Deletes::Win);
    let text = |bytes: usize| json!({ "title": "x".repeat(bytes) });
    let told = |kept: usize, lost: usize, writes: u64| {
        let mut merged = Merged::default();
        for number in 0..writes {
            let mut store = begun();
            let later = write(Op::Update, &text(kept), &at(900, 1), None);
            store.push(&later, &rules, 1).expect("accepted");
            let earlier = write(Op::Update, &text(lost), &at(100, 2), None);
            let checked = check(&earlier, &rules, &mut receipt(2)).expect("fits");
            let fields = checked.fields.clone().expect("it merges");
            let plan = plan(&checked, &fields, &store.known).expect("accepted");
            merged.add(number as usize, &checked, &plan);
        }
        merged
    };
    let [small] = &told(5, 3, 1).conflicts[..] else {
        panic!("one conflict")
    };
    assert_eq!(
        small.kept.as_ref().map(|kept| kept.value.get().len()),
        Some(7)
    );
    let [large] = &told(KEPT_BYTES_MAX, 3, 1).conflicts[..] else {
        panic!("one conflict")
    };
    assert!(large.kept.is_none());
    let many = told(60_000, 3, 40).conflicts;
    let bytes = |told: &protocol::Conflict| {
        told.lost.value.get().len() + told.kept.as_ref().map_or(0, |kept| kept.value.get().len())
    };
    let total: usize = many.iter().map(bytes).sum();
    assert!(
        many.len() < 40 && total <= TOLD_BYTES_MAX,
        "{} {total}",
        many.len()
    );
}

#[test]
fn what_the_database_writes_itself_counts_under_its_clock_or_the_next_one() {
    let rules = rules(Deletes::Win);
    let own = at(5, 9);
    let push = |store: &mut Store, values: Value| {
        let write = Write {
            hlc: None,
            ..write(Op::Update, &values, &own, None)
        };
        let mut checked = check(&write, &rules, &mut receipt(9)).expect("it fits");
        let mut fields = checked.fields.take().expect("it merges");
        fields.stamp = Stamp::Own { clock: own.clone() };
        let plan = plan(&checked, &fields, &store.known).expect("accepted");
        store.carry_out(&checked, &plan);
        plan.clock
    };
    let mut store = begun();
    assert_eq!(push(&mut store, json!({"title": "A"})), own);
    // A second time it comes after the first, also where the row is as late as it.
    let next = Clock::new(T + 5, 1, &node(9));
    assert_eq!(push(&mut store, json!({"title": "0"})), next);
    assert_eq!(store.value("title"), json!("0"));
    let late = write(Op::Update, &json!({"due": "B"}), &at(700, 2), None);
    store.push(&late, &rules, 2).expect("accepted");
    let above = Clock::new(T + 700, 1, &node(9));
    assert_eq!(push(&mut store, json!({"due": "C"})), above);
    assert_eq!(store.value("due"), json!("C"));
}
