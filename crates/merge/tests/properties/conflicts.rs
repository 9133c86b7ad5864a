//! Who is told of values that lost, and what each strategy keeps.

use merge::{
    Clock, Conflict, Deletes, Edit, FieldMergeStrategy, LOST_VALUES_MAX, LostValues, Row, Rules,
    Site, Write,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::world::{at, object, registers, rules};

fn title(clock: Clock, seen: Option<Clock>, title: Value) -> Write {
    let edit = Edit::Update(object(json!({"title": title})));
    Write {
        clock,
        born: None,
        seen,
        edit,
    }
}

fn start(rules: &Rules) -> Row {
    Row::untracked(&object(json!({"title": ""})), rules).expect("a row")
}

fn apply(row: &mut Row, write: &Write, rules: &Rules) -> Vec<Conflict> {
    let written = write
        .apply(Some(row), rules, &Site::default())
        .expect("applied");
    *row = written.row;
    written.conflicts
}

proptest! {
    #[test]
    fn each_value_that_lost_is_told_exactly_once_and_no_other(
        order in prop::collection::vec(1..30_u64, 1..12),
    ) {
        let rules = registers(FieldMergeStrategy::LastWriteWins);
        let mut row = start(&rules);
        let mut told = Vec::new();
        let mut written = Vec::new();
        for millis in order {
            if written.contains(&millis) {
                continue;
            }
            written.push(millis);
            // Each by a node of its own, none of which has heard of the others.
            let clock = at(millis, &format!("n{millis}"));
            told.extend(apply(&mut row, &title(clock, None, json!(millis)), &rules));
        }
        let mut lost: Vec<u64> = told.iter().map(|conflict| conflict.lost.hlc.millis()).collect();
        lost.sort_unstable();
        written.sort_unstable();
        let winner = written.pop();
        prop_assert_eq!(&row.values()["title"], &json!(winner));
        prop_assert_eq!(lost, written);
    }

    #[test]
    fn lost_values_merge_in_any_order(
        told in prop::collection::vec((0..3_usize, 1..60_u64, 0..3_i64, any::<bool>()), 0..80),
    ) {
        let mut replicas = [LostValues::default(), LostValues::default(), LostValues::default()];
        for (which, millis, value, resolve) in told {
            let lost = merge::Stamped { value: json!(value), hlc: at(millis, "a") };
            let strategy = FieldMergeStrategy::KeepBoth;
            replicas[which].keep(&Conflict { field: "title".to_owned(), kept: None, lost, strategy });
            if resolve {
                replicas[which].resolve("title", &at(millis, "a"));
            }
        }
        let join = |one: &LostValues, two: &LostValues| {
            let mut both = one.clone();
            both.join(two);
            both
        };
        let [one, two, three] = &replicas;
        prop_assert_eq!(join(one, two), join(two, one));
        prop_assert_eq!(join(&join(one, two), three), join(one, &join(two, three)));
        prop_assert_eq!(&join(one, one), one);
        prop_assert!(join(&join(one, two), three).open("title", None).len() <= LOST_VALUES_MAX);
    }
}

#[test]
fn an_author_who_saw_what_it_overwrites_is_in_no_conflict() {
    let rules = registers(FieldMergeStrategy::KeepBoth);
    let mut row = start(&rules);
    assert_eq!(
        apply(&mut row, &title(at(1, "a"), None, json!("A")), &rules),
        []
    );
    assert_eq!(
        apply(
            &mut row,
            &title(at(2, "b"), Some(at(1, "a")), json!("B")),
            &rules
        ),
        []
    );
    assert_eq!(
        apply(&mut row, &title(at(3, "b"), None, json!("own")), &rules),
        []
    );
    let told = apply(
        &mut row,
        &title(at(4, "c"), Some(at(2, "b")), json!("C")),
        &rules,
    );
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].lost.value, "own");
    assert_eq!(
        told[0].kept.as_ref().map(|kept| &kept.value),
        Some(&json!("C"))
    );
}

#[test]
fn equal_values_are_no_conflict_and_the_clock_moves_on() {
    let rules = registers(FieldMergeStrategy::LastWriteWins);
    let mut row = start(&rules);
    apply(&mut row, &title(at(1, "a"), None, json!(1)), &rules);
    assert_eq!(
        apply(&mut row, &title(at(5, "b"), None, json!(1.0)), &rules),
        []
    );
    assert_eq!(row.clock("title"), Some(&at(5, "b")));
    let told = apply(&mut row, &title(at(3, "c"), None, json!(2)), &rules);
    assert_eq!(told.len(), 1, "it is older than the second");
}

#[test]
fn an_edit_of_a_row_that_is_gone_or_another_now_is_told_to_its_author() {
    let rules = rules(Deletes::Win);
    let mut row = start(&rules);
    let delete = Write {
        clock: at(5, "a"),
        born: None,
        seen: None,
        edit: Edit::Delete,
    };
    assert_eq!(apply(&mut row, &delete, &rules), []);
    let told = apply(&mut row, &title(at(6, "b"), None, json!("late")), &rules);
    assert_eq!((told.len(), &told[0].kept), (1, &None));
    let edit = Edit::Create(object(json!({"title": "again"})));
    let again = Write {
        clock: at(7, "a"),
        born: None,
        seen: None,
        edit,
    };
    assert_eq!(apply(&mut row, &again, &rules), []);
    let told = apply(&mut row, &title(at(8, "b"), None, json!("late")), &rules);
    assert_eq!(
        told[0].kept.as_ref().map(|kept| &kept.value),
        Some(&json!("again"))
    );
}

#[test]
fn a_row_that_two_created_keeps_the_later_and_tells_of_the_other_fields() {
    let rules = rules(Deletes::Win);
    let create = |clock, title: &str| Write {
        clock,
        born: None,
        seen: None,
        edit: Edit::Create(object(json!({"title": title, "note": "same"}))),
    };
    let (one, two) = (create(at(1, "a"), "one"), create(at(2, "b"), "two"));
    for order in [[&one, &two], [&two, &one]] {
        let mut row = Row::default();
        let mut told = Vec::new();
        for write in order {
            told.extend(apply(&mut row, write, &rules));
        }
        assert_eq!(row.values()["title"], "two");
        let lost: Vec<_> = told
            .iter()
            .map(|conflict| (&*conflict.field, &conflict.lost.value))
            .collect();
        assert_eq!(lost, [("title", &json!("one"))]);
    }
}

#[test]
fn the_server_wins_over_a_later_write_that_had_not_seen_it() {
    let rules = registers(FieldMergeStrategy::ServerWins);
    let mut row = start(&rules);
    apply(
        &mut row,
        &title(at(3, "server"), None, json!("server")),
        &rules,
    );
    let told = apply(
        &mut row,
        &title(at(9, "client"), Some(at(2, "server")), json!("client")),
        &rules,
    );
    assert_eq!(row.values()["title"], "server");
    assert_eq!((told.len(), &told[0].lost.value), (1, &json!("client")));
    assert_eq!(told[0].strategy, FieldMergeStrategy::ServerWins);
    let told = apply(
        &mut row,
        &title(at(10, "client"), Some(at(3, "server")), json!("client")),
        &rules,
    );
    assert_eq!((&row.values()["title"], told.len()), (&json!("client"), 0));
}

#[test]
fn the_client_wins_over_a_later_value_by_a_clock_above_it() {
    let rules = registers(FieldMergeStrategy::ClientWins);
    let mut row = start(&rules);
    apply(
        &mut row,
        &title(at(9, "server"), None, json!("server")),
        &rules,
    );
    let before = row.clone();
    let told = apply(
        &mut row,
        &title(at(3, "client"), None, json!("client")),
        &rules,
    );
    assert_eq!(row.values()["title"], "client");
    assert_eq!(told[0].lost.value, "server");
    assert!(row.clock("title") > before.clock("title"));
    let again = row.clone();
    apply(
        &mut row,
        &title(at(3, "client"), None, json!("client")),
        &rules,
    );
    assert_eq!(row, again, "its own later value is no conflict");
    // A replica that has the other value, and no idea of the strategy.
    let other = before.joined(&row, &registers(FieldMergeStrategy::LastWriteWins));
    assert_eq!(other.values()["title"], "client");
}

#[test]
fn both_values_are_kept_until_one_person_resolves_the_conflict() {
    let rules = registers(FieldMergeStrategy::KeepBoth);
    let mut row = start(&rules);
    let mut lost = LostValues::default();
    for write in [
        title(at(5, "a"), None, json!("A")),
        title(at(3, "b"), None, json!("B")),
    ] {
        for conflict in apply(&mut row, &write, &rules) {
            lost.keep(&conflict);
        }
    }
    assert_eq!(row.values()["title"], "A", "the later is live at once");
    let open = lost.open("title", row.values().get("title"));
    assert_eq!((open.len(), &open[0].value), (1, &json!("B")));
    assert_eq!(
        lost.open("title", Some(&json!("B"))),
        [],
        "somebody wrote it by hand"
    );
    assert!(lost.resolve("title", &open[0].hlc));
    assert!(!lost.resolve("title", &open[0].hlc), "somebody was faster");
    assert_eq!(lost.open("title", None), []);
    lost.fold(&at(4, "z"));
    assert_eq!(lost, LostValues::default());
}
