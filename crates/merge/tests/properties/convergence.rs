//! Replicas that have been told the same hold the same, whatever the order.

use merge::{Clock, Deletes, Edit, FieldMergeStrategy, Row, Site, Write, digest};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::json;

use crate::world::{World, any_rules, at, history, object, registers, row, rules, value};

proptest! {
    #![proptest_config(crate::world::config())]

    #[test]
    fn every_order_of_a_history_with_duplicates_ends_in_the_same_row_and_metadata(
        rules in any_rules(),
        steps in history(),
        orders in prop::collection::vec(prop::collection::vec(any::<Index>(), 0..40), 4),
    ) {
        let mut world = World::play(rules, &steps);
        let all = world.parts.clone();
        let mut ends = Vec::new();
        for order in orders {
            let mut row = Row::default();
            // A random prefix with duplicates, then whatever is missing, from the end that the prefix prefers.
            let picked = order.iter().filter(|_| !all.is_empty()).map(|index| index.index(all.len()));
            let rest: Vec<usize> = if order.len() % 2 == 0 { (0..all.len()).collect() } else { (0..all.len()).rev().collect() };
            for index in picked.chain(rest) {
                row.join(&all[index], &world.rules);
            }
            ends.push(row);
        }
        for (_, row) in &mut world.replicas {
            for part in &all {
                row.join(part, &world.rules);
            }
        }
        ends.extend(world.replicas.iter().map(|(_, row)| row.clone()));
        for end in &ends {
            prop_assert_eq!(end, &ends[0]);
            prop_assert_eq!(end.metadata(), ends[0].metadata());
            prop_assert_eq!(digest([("key", end)]), digest([("key", &ends[0])]));
        }
    }

    #[test]
    fn whole_rows_bring_replicas_together_as_well_as_writes_do(
        rules in any_rules(),
        steps in history(),
        meetings in prop::collection::vec((0..3_usize, 0..3_usize), 0..10),
    ) {
        let mut world = World::play(rules, &steps);
        let mut expected = Row::default();
        for part in &world.parts {
            expected.join(part, &world.rules);
        }
        let all_meet = [(0, 1), (1, 2), (2, 1), (1, 0)];
        for (from, to) in meetings.into_iter().chain(all_meet) {
            let told = world.replicas[from].1.clone();
            world.replicas[to].1.join(&told, &world.rules);
        }
        for (_, row) in &world.replicas {
            prop_assert_eq!(row, &expected);
        }
    }

    #[test]
    fn a_change_that_never_arrived_shows_in_the_digest(
        rules in any_rules(),
        steps in history(),
        missing in any::<Index>(),
    ) {
        let world = World::play(rules, &steps);
        prop_assume!(!world.parts.is_empty());
        let missing = missing.index(world.parts.len());
        let (mut all, mut others) = (Row::default(), Row::default());
        for (index, part) in world.parts.iter().enumerate() {
            all.join(part, &world.rules);
            if index != missing {
                others.join(part, &world.rules);
            }
        }
        let is_same = digest([("key", &all)]) == digest([("key", &others)]);
        prop_assert_eq!(is_same, all == others);
    }

    #[test]
    fn what_sql_writes_is_never_undone_by_an_older_edit_that_arrives_later(
        before in row(registers(FieldMergeStrategy::LastWriteWins)),
        time_ms in 0..20_u64,
        clock in crate::world::clock(),
    ) {
        let rules = registers(FieldMergeStrategy::LastWriteWins);
        prop_assume!(before.shown(&rules).is_some());
        let now = Clock::after(before.newest(), time_ms, &crate::world::node("database")).expect("a clock");
        prop_assume!(clock < now);
        let born = before.born().cloned();
        let update = |clock: Clock, title: &str| Write {
            clock, born: born.clone(), seen: None, edit: Edit::Update(object(json!({"title": title}))),
        };
        let sql = update(now, "sql").apply(Some(&before), &rules, &Site::default()).expect("applied");
        let late = update(clock, "client").apply(Some(&sql.row), &rules, &Site::default()).expect("applied");
        prop_assert_eq!(&late.row.shown(&rules).expect("there")["title"], "sql");
        prop_assert_eq!(late.row, sql.row);
        prop_assert_eq!(late.conflicts.len(), 1);
    }

    #[test]
    fn of_two_nodes_with_one_id_and_one_clock_all_replicas_keep_the_same_value(
        one in value(),
        two in value(),
    ) {
        let rules = rules(Deletes::Win);
        let row = Row::untracked(&object(json!({"title": "", "note": ""})), &rules).expect("a row");
        let part = |title| {
            let edit = Edit::Update(object(json!({"title": title})));
            let write = Write { clock: at(5, "forked"), born: None, seen: None, edit };
            write.part(None, &rules, &Site::default()).expect("a write that fits")
        };
        let (one, two) = (part(one), part(two));
        let left = row.clone().joined(&one, &rules).joined(&two, &rules);
        let right = row.joined(&two, &rules).joined(&one, &rules);
        prop_assert_eq!(left, right);
    }
}

#[test]
fn two_people_who_edit_two_fields_of_a_row_keep_both_edits() {
    let rules = rules(Deletes::Win);
    let row = Row::untracked(&object(json!({"title": "a", "date": "b"})), &rules).expect("a row");
    let edit = |clock, values| Write {
        clock,
        born: None,
        seen: None,
        edit: Edit::Update(object(values)),
    };
    let one = edit(at(2, "phone"), json!({"title": "A"}));
    let two = edit(at(1, "laptop"), json!({"date": "B"}));
    let apply = |row: &Row, write: &Write| {
        write
            .apply(Some(row), &rules, &Site::default())
            .expect("applied")
            .row
    };
    let left = apply(&apply(&row, &one), &two);
    let right = apply(&apply(&row, &two), &one);
    assert_eq!(left, right);
    assert_eq!(
        left.shown(&rules),
        Some(object(json!({"title": "A", "date": "B"})))
    );
}

#[test]
fn a_deletion_wins_over_a_later_edit_or_is_revived_by_it_with_the_values_that_the_row_had() {
    for (deletes, expected) in [
        (Deletes::Win, None),
        (
            Deletes::Revive,
            Some(object(json!({"title": "A", "note": "n"}))),
        ),
    ] {
        let rules = rules(deletes);
        let row =
            Row::untracked(&object(json!({"title": "a", "note": "n"})), &rules).expect("a row");
        let write = |clock, edit| Write {
            clock,
            born: None,
            seen: None,
            edit,
        };
        let delete = write(at(5, "a"), Edit::Delete);
        let edit = write(at(6, "b"), Edit::Update(object(json!({"title": "A"}))));
        for order in [[&delete, &edit], [&edit, &delete]] {
            let end = order.iter().fold(row.clone(), |row, write| {
                write
                    .apply(Some(&row), &rules, &Site::default())
                    .expect("applied")
                    .row
            });
            assert_eq!(end.shown(&rules), expected);
        }
        let early = write(at(4, "b"), Edit::Update(object(json!({"title": "A"}))));
        let end = [&delete, &early].iter().fold(row, |row, write| {
            write
                .apply(Some(&row), &rules, &Site::default())
                .expect("applied")
                .row
        });
        assert_eq!(
            end.shown(&rules),
            None,
            "an edit before the deletion revives nothing"
        );
    }
}

#[test]
fn an_edit_of_an_earlier_row_is_never_seen_in_a_later_one_of_the_same_key() {
    for deletes in [Deletes::Win, Deletes::Revive] {
        let rules = rules(deletes);
        let write = |clock, born, edit| Write {
            clock,
            born,
            seen: None,
            edit,
        };
        let create = write(
            at(1, "a"),
            None,
            Edit::Create(object(json!({"title": "first"}))),
        );
        let delete = write(at(3, "a"), Some(at(1, "a")), Edit::Delete);
        let again = write(
            at(4, "a"),
            None,
            Edit::Create(object(json!({"title": "second"}))),
        );
        // Its author has not heard of either.
        let late = write(
            at(9, "b"),
            Some(at(1, "a")),
            Edit::Update(object(json!({"title": "edit"}))),
        );
        let row = [&create, &delete, &again, &late]
            .iter()
            .fold(Row::default(), |row, write| {
                write
                    .apply(Some(&row), &rules, &Site::default())
                    .expect("applied")
                    .row
            });
        assert_eq!(row.shown(&rules), Some(object(json!({"title": "second"}))));
    }
}

#[test]
fn an_edit_that_arrives_before_its_row_waits_and_is_there_with_it() {
    let rules = rules(Deletes::Win);
    let write = |clock, born, edit| Write {
        clock,
        born,
        seen: None,
        edit,
    };
    let create = write(
        at(1, "a"),
        None,
        Edit::Create(object(json!({"title": "a", "likes": -5}))),
    );
    let born = Some(at(1, "a"));
    let edit = write(
        at(2, "b"),
        born,
        Edit::Update(object(json!({"note": "B", "likes": {"add": 2}}))),
    );
    let site = crate::world::site("one");
    let waiting = edit.apply(None, &rules, &site).expect("applied").row;
    assert!(waiting.is_alive(&rules) && !waiting.is_whole());
    assert_eq!(waiting.shown(&rules), None);
    let whole = create
        .apply(Some(&waiting), &rules, &site)
        .expect("applied")
        .row;
    let expected = object(json!({"title": "a", "note": "B", "likes": -3}));
    assert_eq!(whole.shown(&rules), Some(expected));
}
