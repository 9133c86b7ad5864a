//! Metadata stays small, and what makes it small changes nothing.

use merge::{Clock, ColumnMerge, Deletes, Edit, Row, Rules, Site, Write, WriteError};
use proptest::prelude::*;
use serde_json::json;

use crate::world::{any_rules, at, edit, object, row, rules, site};

/// Above every clock of `world::clock`.
const LATER: u64 = 20;

/// A write above the horizon, by somebody who knows a birth that is known, or none.
fn later_write(row: &Row, millis: u64, knows: bool, edit: Edit) -> Write {
    let born = row.born().cloned().filter(|_| knows);
    Write {
        clock: at(LATER + millis, "later"),
        born,
        seen: None,
        edit,
    }
}

proptest! {
    #![proptest_config(crate::world::config())]

    #[test]
    fn folding_before_a_write_or_after_it_is_the_same(
        (rules, row) in any_rules().prop_flat_map(|rules| (Just(rules.clone()), row(rules))),
        horizon in crate::world::clock(),
        writes in prop::collection::vec((1..9_u64, any::<bool>(), edit()), 1..4),
    ) {
        // Nothing at or below the horizon is still to come: all of it is in the row.
        prop_assume!(row.is_whole() || row.born().is_none());
        let (mut folded, mut plain) = (row.clone(), row.clone());
        folded.fold(&horizon);
        prop_assert_eq!(folded.shown(&rules), row.shown(&rules), "folding changes no value");
        let mut again = folded.clone();
        again.fold(&horizon);
        prop_assert_eq!(&again, &folded, "folding twice is folding once");
        let reference = folded.clone().joined(&row, &rules);
        prop_assert_eq!(reference.shown(&rules), row.shown(&rules), "one who has not folded changes nothing");
        for (millis, knows, edit) in writes {
            let write = later_write(&plain, millis, knows, edit);
            for row in [&mut folded, &mut plain] {
                let part = write.part(Some(row), &rules, &site("one")).expect("a write that fits");
                row.join(&part, &rules);
            }
            prop_assert_eq!(folded.shown(&rules), plain.shown(&rules));
        }
        folded.fold(&horizon);
        plain.fold(&horizon);
        prop_assert_eq!(folded, plain);
    }

    #[test]
    fn metadata_folds_as_its_row_does(
        (rules, row) in any_rules().prop_flat_map(|rules| (Just(rules.clone()), row(rules))),
        horizon in crate::world::clock(),
    ) {
        let (mut folded, mut metadata) = (row.clone(), row.metadata());
        folded.fold(&horizon);
        metadata.fold(&horizon);
        prop_assert_eq!(&metadata, &folded.metadata());
        let is_gone = row.may_be_purged(&horizon, &rules);
        if is_gone || row.born().is_some_and(|born| *born > Clock::ground()) {
            prop_assert_eq!(row.metadata().may_be_forgotten(&horizon, &rules), is_gone);
        }
    }

    #[test]
    fn a_row_without_its_folded_metadata_takes_later_writes_as_with_it(
        (rules, mut row) in any_rules().prop_flat_map(|rules| (Just(rules.clone()), row(rules))),
        horizon in crate::world::clock(),
        writes in prop::collection::vec((1..9_u64, any::<bool>(), edit()), 1..4),
    ) {
        row.fold(&horizon);
        let mut metadata = row.metadata();
        metadata.fold(&horizon);
        let shown = row.shown(&rules);
        prop_assume!(shown.is_some() && metadata.may_be_forgotten(&horizon, &rules));
        let mut bare = Row::untracked(&shown.unwrap_or_default(), &rules).expect("values that were shown");
        for (millis, knows, edit) in writes {
            let write = later_write(&bare, millis, knows, edit);
            for row in [&mut row, &mut bare] {
                let part = write.part(Some(row), &rules, &Site::default()).expect("a write that fits");
                row.join(&part, &rules);
            }
            prop_assert_eq!(row.shown(&rules), bare.shown(&rules));
        }
    }

    #[test]
    fn a_write_at_or_below_the_horizon_is_refused_and_one_above_is_not(
        (rules, row) in any_rules().prop_flat_map(|rules| (Just(rules.clone()), row(rules))),
        horizon in crate::world::clock(),
        mut write in crate::world::write(),
    ) {
        let site = Site { horizon: Some(horizon.clone()), ..site("one") };
        let applied = write.apply(Some(&row), &rules, &site);
        let is_stale = applied == Err(WriteError::Stale { horizon: horizon.clone() });
        prop_assert_eq!(is_stale, write.clock <= horizon);
        write.clock = at(LATER, "later");
        prop_assert!(write.apply(Some(&row), &rules, &site).is_ok());
    }

    #[test]
    fn a_tombstone_that_was_purged_and_one_that_was_kept_answer_a_write_alike(
        row in row(rules(Deletes::Win)),
        horizon in crate::world::clock(),
        millis in 1..9_u64,
        knows in any::<bool>(),
        edit in edit(),
    ) {
        let rules = rules(Deletes::Win);
        prop_assume!(row.may_be_purged(&horizon, &rules));
        let write = later_write(&row, millis, knows, edit);
        let site = Site { horizon: Some(horizon.clone()), ..site("one") };
        let kept = write.apply(Some(&row), &rules, &site).expect("applied").row;
        let purged = write.apply(None, &rules, &site).map(|written| written.row).unwrap_or_default();
        prop_assert_eq!(purged.shown(&rules), kept.shown(&rules));
    }

    #[test]
    fn a_peer_that_slept_through_a_purge_brings_nothing_back(
        (rules, row) in any_rules().prop_flat_map(|rules| (Just(rules.clone()), row(rules))),
        horizon in crate::world::clock(),
    ) {
        prop_assume!(row.may_be_purged(&horizon, &rules));
        prop_assert!(row.is_stale_at(&horizon));
        // Before it heard of the deletion.
        let born = row.born().cloned();
        prop_assume!(born.is_some());
        let before = Write { clock: born.clone().expect("born"), born: None, seen: None, edit: Edit::Create(object(json!({"title": "old"}))) };
        let before = before.part(None, &rules, &site("one")).expect("a part");
        prop_assert!(before.is_stale_at(&horizon));
        // What it made new since is welcome.
        let new = later_write(&row, 1, false, Edit::Create(object(json!({"title": "new"}))));
        let new = new.part(None, &rules, &site("one")).expect("a part");
        prop_assert!(!new.is_stale_at(&horizon));
    }
}

#[test]
fn a_row_that_was_never_edited_has_no_metadata_and_its_first_edit_makes_it() {
    let rules = rules(Deletes::Win);
    let values = object(json!({"title": "a", "note": "b", "likes": 3, "tags": ["x"], "best": 1}));
    let row = Row::untracked(&values, &rules).expect("a row");
    assert_eq!(row.shown(&rules), Some(values));
    // The birth is that of all rows that were there.
    let metadata = serde_json::to_value(row.metadata()).expect("JSON");
    assert_eq!(metadata, json!({"born": Clock::ground()}));
    let write = |millis| Write {
        clock: at(millis, "a"),
        born: None,
        seen: None,
        edit: Edit::Update(object(json!({"title": "A"}))),
    };
    // Fields were turned on at 10: an edit from before loses, and its author is told.
    let site = Site {
        horizon: Some(at(10, "z")),
        counts_as: None,
    };
    assert_eq!(
        write(9).apply(Some(&row), &rules, &site),
        Err(WriteError::Stale {
            horizon: at(10, "z")
        })
    );
    let row = write(11)
        .apply(Some(&row), &rules, &site)
        .expect("applied")
        .row;
    let metadata = serde_json::to_value(row.metadata()).expect("JSON");
    let expected = json!({"born": Clock::ground(), "fields": {"title": at(11, "a")}});
    assert_eq!(metadata, expected);
}

#[test]
fn metadata_stays_small_after_many_edits_by_many_devices() {
    stays_small(500, 5_000);
}

#[test]
#[ignore = "it takes minutes without optimisation"]
fn metadata_stays_small_after_a_million_edits() {
    stays_small(100_000, 1_000_000);
}

/// Edits rows at random and folds what is kept of them; the bytes are those of its JSON.
fn stays_small(rows: usize, edits: u64) {
    const DAY_MS: u64 = 86_400_000;
    let devices = 1_000;
    let rules = Rules::default();
    let columns: Vec<String> = (0..20).map(|index| format!("column_{index}")).collect();
    let values = columns
        .iter()
        .map(|column| (column.clone(), json!("value")))
        .collect();
    let mut table = vec![Row::untracked(&values, &rules).expect("a row"); rows];
    // A generator of its own, so that a failure repeats itself.
    let mut state = 1_u64;
    let mut random = |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let start = 1_800_000_000_000;
    for step in 0..edits {
        // The edits of thirty days, of which clocks remember seven.
        let time_ms = start + step * 30 * DAY_MS / edits;
        let which = usize::try_from(random(rows as u64)).expect("small");
        let column = &columns[usize::try_from(random(20)).expect("small")];
        let device = format!("{:08x}", random(devices));
        let write = Write {
            clock: at(time_ms, &device),
            born: None,
            seen: None,
            edit: Edit::Update(object(json!({column: step}))),
        };
        let row = &mut table[which];
        *row = write
            .apply(Some(row), &rules, &Site::default())
            .expect("applied")
            .row;
    }
    let horizon = at(start + 23 * DAY_MS, "zzzzzzzz");
    let mut bytes: Vec<usize> = table
        .iter()
        .map(|row| {
            let mut metadata = row.metadata();
            metadata.fold(&horizon);
            match metadata.may_be_forgotten(&horizon, &rules) {
                true => 0,
                false => serde_json::to_string(&metadata).expect("JSON").len(),
            }
        })
        .collect();
    bytes.sort_unstable();
    println!("median {}, most {}", bytes[rows / 2], bytes[rows - 1]);
    assert!(bytes[rows / 2] <= 335, "median {}", bytes[rows / 2]);
    assert!(bytes[rows - 1] <= 2048, "most {}", bytes[rows - 1]);
}

#[test]
fn a_row_that_was_revived_is_not_lost_by_folding_nor_one_that_died_brought_back() {
    let rules = rules(Deletes::Revive);
    let row = Row::untracked(&object(json!({"title": "a", "likes": 1})), &rules).expect("a row");
    let write = |millis, edit| Write {
        clock: at(millis, "a"),
        born: None,
        seen: None,
        edit,
    };
    let apply = |row: &Row, write: Write| {
        write
            .apply(Some(row), &rules, &site("one"))
            .expect("applied")
            .row
    };
    let dead = apply(&row, write(5, Edit::Delete));
    // An increment has no clock of its own, and revives all the same.
    let alive = apply(
        &dead,
        write(7, Edit::Update(object(json!({"likes": {"add": 1}})))),
    );
    assert!(alive.is_alive(&rules));
    for (mut row, is_alive) in [(dead.clone(), false), (alive, true)] {
        row.fold(&at(10, "z"));
        assert_eq!(row.is_alive(&rules), is_alive);
        assert_eq!(row.joined(&dead, &rules).is_alive(&rules), is_alive);
    }
    assert_eq!(rules.merge("likes"), ColumnMerge::Counter);
}

#[test]
fn an_edit_from_before_a_deletion_is_no_edit_that_revives_once_its_clock_is_folded() {
    let rules = rules(Deletes::Revive);
    let row = Row::untracked(&object(json!({"title": "a"})), &rules).expect("a row");
    let write = |millis, edit| Write {
        clock: at(millis, "a"),
        born: None,
        seen: None,
        edit,
    };
    let edited = write(1, Edit::Update(object(json!({"title": "b"}))));
    let edited = edited.apply(Some(&row), &rules, &site("one"));
    let dead =
        write(2, Edit::Delete).apply(Some(&edited.expect("applied").row), &rules, &site("one"));
    let mut dead = dead.expect("applied").row;
    let mut metadata = dead.metadata();
    metadata.fold(&at(1, "a"));
    dead.fold(&at(1, "a"));
    assert_eq!(metadata, dead.metadata());
}
