//! Columns for which the last write would be wrong.

use merge::{
    Clock, ColumnMerge, Comparison, Deletes, Edit, Row, RowError, Rules, Site, Write, WriteError,
};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::world::{at, object, rules, site};

fn update(clock: Clock, born: Option<Clock>, values: Value) -> Write {
    Write {
        clock,
        born,
        seen: None,
        edit: Edit::Update(object(values)),
    }
}

fn start(values: Value) -> Row {
    Row::untracked(&object(values), &rules(Deletes::Win)).expect("a row")
}

fn shown(row: &Row) -> Map<String, Value> {
    row.shown(&rules(Deletes::Win)).expect("there")
}

proptest! {
    #[test]
    fn increments_of_several_databases_add_up_in_every_order(
        amounts in prop::collection::vec((0..3_usize, -50..50_i64), 0..30),
        order in any::<prop::sample::Index>(),
    ) {
        let rules = rules(Deletes::Win);
        let mut databases = ["one", "two", "three"].map(|name| (name, start(json!({"likes": 7}))));
        for (millis, (which, amount)) in (1..).zip(&amounts) {
            let (name, row) = &mut databases[*which];
            let write = update(at(millis, "device"), None, json!({"likes": {"add": amount}}));
            *row = write.apply(Some(row), &rules, &site(name)).expect("applied").row;
        }
        let first = order.index(3);
        let mut row = databases[first].1.clone();
        for offset in [2, 1, 2] {
            row.join(&databases[(first + offset) % 3].1, &rules);
        }
        let sum: i64 = 7 + amounts.iter().map(|(_, amount)| amount).sum::<i64>();
        prop_assert_eq!(&shown(&row)["likes"], &json!(sum));
    }

    #[test]
    fn a_counter_that_one_database_keeps_has_no_metadata(
        amounts in prop::collection::vec(-50..50_i64, 0..20),
    ) {
        let rules = rules(Deletes::Win);
        let mut row = start(json!({"likes": 7}));
        for (millis, amount) in (1..).zip(&amounts) {
            let write = update(at(millis, "device"), None, json!({"likes": {"add": amount}}));
            row = write.apply(Some(&row), &rules, &Site::default()).expect("applied").row;
        }
        let sum: i64 = 7 + amounts.iter().sum::<i64>();
        prop_assert_eq!(&shown(&row)["likes"], &json!(sum));
        let metadata = serde_json::to_value(row.metadata()).expect("JSON");
        prop_assert_eq!(metadata.get("fields"), None);
    }
}

#[test]
fn the_greatest_value_does_not_diverge_when_a_row_is_created_again_as_one_with_clocks_does() {
    let rules = rules(Deletes::Win);
    let known = Some(at(2, "a"));
    let create = |millis| Write {
        clock: at(millis, "a"),
        born: None,
        seen: None,
        edit: Edit::Create(object(json!({"best": 0}))),
    };
    let site = Site::default();
    let first = create(1).apply(None, &rules, &site).expect("applied").row;
    let ten = update(at(1, "b"), Some(at(1, "a")), json!({"best": 10}));
    let five = update(at(3, "b"), known, json!({"best": 5}));
    let again = create(2);
    let parts = [&ten, &five, &again].map(|write| write.part(None, &rules, &site).expect("a part"));
    for order in [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ] {
        let row = order.iter().fold(first.clone(), |row, index| {
            row.joined(&parts[*index], &rules)
        });
        assert_eq!(shown(&row)["best"], 5, "{order:?}");
    }
    // The shortcut: the greatest value, of those that are not older than the newest creation when they arrive.
    let naive = |order: [&str; 3]| {
        let (mut born, mut best) = (1, None);
        for step in order {
            match step {
                "ten" if born <= 1 => best = best.max(Some((1, 10))),
                "five" => {
                    best = best
                        .max(Some((3, 5)))
                        .filter(|_| best.is_none_or(|(_, value)| value < 5))
                        .or(best)
                }
                "again" => {
                    born = 2;
                    best = best.filter(|(clock, _)| *clock >= born);
                }
                _ => {}
            }
        }
        best
    };
    assert_ne!(
        naive(["ten", "five", "again"]),
        naive(["again", "ten", "five"])
    );
}

#[test]
fn the_greatest_and_the_least_are_kept_whatever_their_clocks_and_null_loses() {
    let rules = rules(Deletes::Win);
    let row = start(json!({"best": null, "least": null}));
    let site = Site::default();
    let row = [
        json!({"best": 3, "least": 3}),
        json!({"best": "9007199254740993", "least": "9007199254740993"}),
        json!({"best": null, "least": null}),
        json!({"best": -1, "least": -1}),
    ]
    .into_iter()
    .zip([9, 1, 5, 3])
    .fold(row, |row, (values, millis)| {
        update(at(millis, "a"), None, values)
            .apply(Some(&row), &rules, &site)
            .expect("applied")
            .row
    });
    assert_eq!(
        shown(&row),
        object(json!({"best": "9007199254740993", "least": -1}))
    );
}

#[test]
fn a_counter_to_which_every_database_adds_the_most_can_be_read_again() {
    let rules = rules(Deletes::Win);
    for (most, all) in [
        (
            "999999999999999999999999999",
            "16999999999999999999999999983",
        ),
        (
            "-999999999999999999999999999",
            "-16999999999999999999999999983",
        ),
    ] {
        let row = (1..=16).fold(start(json!({"likes": most})), |row, database: u32| {
            let write = update(at(1, "a"), None, json!({"likes": {"add": most}}));
            let site = site(&database.to_string());
            write.apply(Some(&row), &rules, &site).expect("applied").row
        });
        assert_eq!(shown(&row)["likes"], all);
        let read = Row::new(&row.metadata(), &row.values(), &rules);
        assert_eq!(read, Ok(row));
        let write = update(at(1, "a"), None, json!({"likes": all}));
        let refused = write.apply(None, &rules, &Site::default());
        assert!(matches!(
            refused,
            Err(WriteError::Row(RowError::Counter { .. }))
        ));
    }
}

#[test]
fn setting_a_counter_merges_as_the_last_write_and_sets_aside_what_was_added_before() {
    let rules = rules(Deletes::Win);
    let site = site("one");
    let row = start(json!({"likes": 1}));
    let apply = |row: &Row, millis, likes: Value| {
        let write = update(at(millis, "a"), None, json!({"likes": likes}));
        write.apply(Some(row), &rules, &site).expect("applied").row
    };
    let row = apply(&row, 1, json!({"add": 5}));
    let row = apply(&row, 2, json!(100));
    assert_eq!(shown(&row)["likes"], 100);
    let row = apply(&row, 3, json!({"add": -1}));
    assert_eq!(
        shown(&apply(&row, 1, json!(7)))["likes"],
        99,
        "an earlier setting is late"
    );
}

#[test]
fn an_element_that_one_adds_while_another_removes_it_stays_and_one_that_was_seen_goes() {
    let rules = rules(Deletes::Win);
    let site = Site::default();
    let row = start(json!({"tags": ["x"]}));
    let part = |row: &Row, millis, node, tags: Value| {
        let write = update(at(millis, node), None, json!({"tags": tags}));
        write.part(Some(row), &rules, &site).expect("a part")
    };
    let remove = part(&row, 9, "a", json!({"remove": ["x"]}));
    let add = part(&row, 2, "b", json!({"add": ["x", "y"]}));
    for order in [[&remove, &add], [&add, &remove]] {
        let row = order
            .iter()
            .fold(row.clone(), |row, part| row.joined(part, &rules));
        assert_eq!(shown(&row)["tags"], json!(["x", "y"]));
        let gone = part(&row, 10, "a", json!({"remove": ["x"]}));
        let row = row.joined(&gone, &rules);
        assert_eq!(shown(&row)["tags"], json!(["y"]));
        assert_eq!(shown(&row.joined(&remove, &rules))["tags"], json!(["y"]));
    }
}

#[test]
fn an_array_that_is_written_to_a_set_adds_and_removes_what_its_author_saw() {
    let rules = rules(Deletes::Win);
    let site = Site::default();
    let row = start(json!({"tags": ["x", "y", 1.0]}));
    let part = |millis, node, tags: Value| {
        let write = update(at(millis, node), None, json!({"tags": tags}));
        write.part(Some(&row), &rules, &site).expect("a part")
    };
    let one = part(1, "a", json!(["y", "z", 1]));
    let two = part(2, "b", json!({"add": ["w"]}));
    let row = row.clone().joined(&two, &rules).joined(&one, &rules);
    assert_eq!(shown(&row)["tags"], json!(["w", "y", "z", 1]));
}

#[test]
fn what_fits_no_counter_and_no_set_is_refused_and_changes_nothing() {
    let rules = rules(Deletes::Win);
    let row = start(json!({"likes": 1, "tags": [], "title": "a"}));
    let many: Vec<u32> = (0..300).collect();
    for values in [
        json!({"title": "b", "likes": "many"}),
        json!({"title": "b", "likes": "NaN"}),
        json!({"title": "b", "likes": {"add": null}}),
        json!({"title": "b", "likes": {"add": 1, "remove": 1}}),
        json!({"title": "b", "likes": {}}),
        json!({"title": "b", "likes": {"add": 1e30}}),
        json!({"title": "b", "likes": true}),
        json!({"title": "b", "tags": "x"}),
        json!({"title": "b", "tags": {"add": [{}]}}),
        json!({"title": "b", "tags": {"add": [[]]}}),
        json!({"title": "b", "tags": {"add": [null]}}),
        json!({"title": "b", "tags": {"add": "x"}}),
        json!({"title": "b", "tags": {"add": ["x"], "drop": ["y"]}}),
        json!({"title": "b", "tags": {"add": ["é".repeat(2000)]}}),
        json!({"title": "b", "tags": {"add": many}}),
    ] {
        let refused =
            update(at(1, "a"), None, values.clone()).apply(Some(&row), &rules, &site("one"));
        let is_refused = matches!(
            &refused,
            Err(WriteError::Row(RowError::Counter { column, .. } | RowError::Set { column, .. }))
                if column == "likes" || column == "tags"
        );
        assert!(is_refused, "{values}: {refused:?}");
    }
}

#[test]
fn the_text_of_a_document_is_a_register_here() {
    let mut rules = Rules::default();
    rules.columns.entry("body".to_owned()).or_default().merge = ColumnMerge::Text;
    rules.columns.entry("best".to_owned()).or_default().merge = ColumnMerge::Max(Comparison::Json);
    let row = Row::untracked(&object(json!({"body": "a", "best": "b"})), &rules).expect("a row");
    let row =
        update(at(1, "a"), None, json!({"body": "b"})).apply(Some(&row), &rules, &Site::default());
    assert_eq!(row.expect("applied").row.values()["body"], "b");
}
