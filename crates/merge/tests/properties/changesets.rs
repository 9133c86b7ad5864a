//! Changesets, ours and the family's.

use std::collections::{BTreeMap, BTreeSet};

use merge::{
    Changeset, ChangesetErrorKind as Kind, ChangesetFilter, Clock, Deletes, Header, Horizons,
    NodeId, Peers, RECORDS_MAX, RESERVED, Record, Row, Rules, TableNames,
};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Map, Value, json};

use crate::world::{COLUMNS, any_rules, at, node, object, row, rules};

fn tables() -> BTreeMap<String, TableNames> {
    let columns = COLUMNS.into_iter().chain(["id", "name"]).map(str::to_owned);
    let names = TableNames {
        columns: columns.collect(),
        key: vec!["id".to_owned()],
    };
    BTreeMap::from([
        ("todos".to_owned(), names.clone()),
        ("users".to_owned(), names),
    ])
}

fn key(id: usize) -> Map<String, Value> {
    object(json!({"id": id}))
}

fn merge_page(rows: &mut BTreeMap<String, Row>, page: &Changeset, rules: &Rules) {
    for record in page.records.values().flatten() {
        let id = record.columns["id"].to_string();
        let known = rows.get(&id);
        let merged = record
            .merge(known, &["id".to_owned()], rules)
            .expect("a record that fits");
        rows.insert(id, merged);
    }
}

fn page_of<'a>(records: impl IntoIterator<Item = &'a Record>) -> Changeset {
    let records = records.into_iter().cloned().collect();
    Changeset {
        header: None,
        records: BTreeMap::from([("todos".to_owned(), records)]),
    }
}

proptest! {
    #[test]
    fn a_changeset_in_any_pages_in_any_order_and_twice_is_the_whole(
        (rules, theirs, ours) in any_rules().prop_flat_map(|rules| {
            let rows = || prop::collection::vec(row(rules.clone()), 1..6);
            (Just(rules.clone()), rows(), rows())
        }),
        order in prop::collection::vec(any::<Index>(), 0..10),
    ) {
        let record = |(id, row): (usize, &Row)| Record::of(&key(id), row, None, &rules);
        let records: Vec<Record> = theirs.iter().enumerate().filter_map(record).collect();
        prop_assume!(!records.is_empty());
        let before: BTreeMap<String, Row> = ours
            .iter()
            .enumerate()
            .map(|(id, row)| (id.to_string(), row.clone()))
            .collect();
        let mut whole = before.clone();
        merge_page(&mut whole, &page_of(&records), &rules);
        for (id, row) in theirs.iter().enumerate().filter(|(_, row)| row.newest().is_some()) {
            let expected = ours.get(id).cloned().unwrap_or_default().joined(row, &rules);
            prop_assert_eq!(&whole[&id.to_string()], &expected, "nothing is lost on the way");
        }
        let mut paged = before;
        let picked = order.iter().map(|index| index.index(records.len()));
        for index in picked.chain(0..records.len()) {
            let text = page_of([&records[index]]).to_value(&tables()).to_string();
            let page = Changeset::read(&text, &tables()).expect("a page");
            merge_page(&mut paged, &page, &rules);
        }
        prop_assert_eq!(paged, whole);
    }

    #[test]
    fn a_page_that_was_cut_off_anywhere_is_refused(
        row in row(rules(Deletes::Win)),
        cut in any::<Index>(),
    ) {
        let record = Record::of(&key(1), &row, None, &rules(Deletes::Win));
        prop_assume!(record.is_some());
        let text = page_of(&record).to_value(&tables()).to_string();
        let cut = (0..cut.index(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let error = Changeset::read(&text[..cut], &tables()).expect_err("cut off");
        prop_assert_eq!(error.kind, Kind::Cut);
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in page_text(), rules in any_rules(), known in row(rules(Deletes::Win))) {
        let Ok(page) = Changeset::read(&text, &tables()) else { return Ok(()) };
        for record in page.records.values().flatten() {
            let _merged = record.merge(Some(&known), &["id".to_owned()], &rules);
            let _created = record.merge(None, &["id".to_owned()], &rules);
        }
        let again = Changeset::read(&page.to_value(&tables()).to_string(), &tables()).expect("what was read");
        prop_assert_eq!(again.records.len(), page.records.len());
    }
}

/// Texts close to changesets.
fn page_text() -> impl Strategy<Value = String> {
    let json = prop_oneof![
        Just("null".to_owned()),
        Just("1".to_owned()),
        Just("-0.0".to_owned()),
        Just("1e300".to_owned()),
        Just("1e400".to_owned()),
        Just("[]".to_owned()),
        Just("[{}]".to_owned()),
        Just("[1,\"x\",true]".to_owned()),
        Just("{\"add\":1}".to_owned()),
        Just("\"2001-09-09T01:46:40.000Z-0042-abc\"".to_owned()),
        Just("\"2001-09-09T01:46:40.000123Z-0042-ABC-d\"".to_owned()),
        Just("{\"born\":\"2001-09-09T01:46:40.000Z-0042-abc\"}".to_owned()),
        Just("{\"died\":\"2001-09-09T01:46:40.000Z-0042-abc\",\"partial\":true}".to_owned()),
        any::<String>().prop_map(|text| json!(text).to_string()),
    ];
    let name = prop::sample::select(
        &[
            "id",
            "title",
            "likes",
            "tags",
            "best",
            "hlc",
            "hlc",
            "is_deleted",
            "modified",
            "node_id",
            RESERVED,
            "odd",
        ][..],
    );
    let member = (name, json).prop_map(|(name, value)| format!("\"{name}\":{value}"));
    let record = prop::collection::vec(member, 0..8).prop_map(|members| {
        format!(
            "{{\"id\":1,\"hlc\":\"2001-09-09T01:46:40.000Z-0042-abc\"{}{}}}",
            if members.is_empty() { "" } else { "," },
            members.join(",")
        )
    });
    prop_oneof![
        8 => record.prop_map(|record| format!("{{\"todos\":[{record}]}}")),
        1 => any::<String>(),
        1 => Just("{\"_rhtmx_sync\":{\"version\":2,\"node\":\"a\"}}".to_owned()),
    ]
}

#[test]
fn a_changeset_of_the_family_is_taken_as_it_is() {
    let text = r#"{"users":[{"id":1,"name":"John Doe","hlc":"2001-09-09T01:46:40.000Z-0042-test_node_id"}]}"#;
    let page = Changeset::read(text, &tables()).expect("a page");
    let record = &page.records["users"][0];
    assert_eq!(record.hlc.node().as_str(), "test_node_id");
    assert!(!record.is_deleted);
    let rules = Rules::default();
    let key = ["id".to_owned()];
    let row = record.merge(None, &key, &rules).expect("merged");
    assert_eq!(row.shown(&rules), Some(object(json!({"name": "John Doe"}))));
    // Without one column, later; deleted; and back with a later clock.
    let of = |clock: &str, columns: Value, is_deleted: bool| {
        let mut record = record.clone();
        record.columns = object(columns);
        record.hlc = Clock::read_foreign(clock).expect("a clock");
        record.is_deleted = is_deleted;
        record
    };
    let titled = of(
        "2001-09-09T01:46:40.000Z-0043-b",
        json!({"id": 1, "title": "Dr"}),
        false,
    );
    let row = titled.merge(Some(&row), &key, &rules).expect("merged");
    assert_eq!(
        row.shown(&rules),
        Some(object(json!({"name": "John Doe", "title": "Dr"})))
    );
    let early = of(
        "2001-09-09T01:46:39.000Z-0043-b",
        json!({"id": 1, "name": "old"}),
        false,
    );
    let row = early.merge(Some(&row), &key, &rules).expect("merged");
    assert_eq!(row.values()["name"], "John Doe");
    let deleted = of(
        "2001-09-09T01:46:41.000Z-0000-b",
        json!({"id": 1, "name": "John Doe"}),
        true,
    );
    let row = deleted.merge(Some(&row), &key, &rules).expect("merged");
    assert_eq!(row.shown(&rules), None);
    let back = of(
        "2001-09-09T01:46:42.000Z-0000-b",
        json!({"id": 1, "name": "Jane"}),
        false,
    );
    let row = back.merge(Some(&row), &key, &rules).expect("merged");
    assert_eq!(row.shown(&rules), Some(object(json!({"name": "Jane"}))));
}

#[test]
fn a_record_is_written_as_the_family_reads_it() {
    let rules = rules(Deletes::Win);
    let row = Row::untracked(&object(json!({"title": "a"})), &rules).expect("a row");
    let record = Record::of(&key(7), &row, Some(at(5, "server")), &rules).expect("a record");
    let page = page_of(&Some(record)).to_value(&tables());
    let written = &page["todos"][0];
    assert_eq!(written["id"], 7);
    assert_eq!(written["is_deleted"], 0);
    assert_eq!(written["hlc"], "1970-01-01T00:00:00.000Z-0000-0");
    assert_eq!(written["node_id"], "0");
    assert_eq!(written["modified"], json!(at(5, "server")));
}

#[test]
fn a_table_whose_columns_have_the_familys_names_keeps_their_values() {
    let rules = Rules::default();
    let mut tables = tables();
    let table = tables.get_mut("todos").expect("a table");
    table
        .columns
        .extend(["hlc", "modified", "is_deleted"].map(str::to_owned));
    let values = object(json!({"hlc": "mine", "modified": "yesterday", "is_deleted": true}));
    let row = Row::untracked(&values, &rules).expect("a row");
    let modified = Some(at(5, "server"));
    let record = Record::of(&key(7), &row, modified, &rules).expect("a record");
    let text = page_of(&Some(record.clone())).to_value(&tables).to_string();
    let page = Changeset::read(&text, &tables).expect("a page");
    assert_eq!(page.records["todos"][0], record);
    let merged = page.records["todos"][0].merge(None, &["id".to_owned()], &rules);
    assert_eq!(merged.expect("merged").shown(&rules), Some(values));
    // A tombstone has none of these values.
    let mut dead = record;
    dead.columns = key(7);
    dead.is_deleted = true;
    dead.metadata = None;
    let text = page_of(&Some(dead.clone())).to_value(&tables).to_string();
    let page = Changeset::read(&text, &tables).expect("a page");
    assert_eq!(page.records["todos"][0], dead);
}

#[test]
fn a_bad_changeset_is_refused_with_the_code_and_the_place() {
    let hlc = "2001-09-09T01:46:40.000Z-0042-abc";
    let many: Vec<Value> = (0..=RECORDS_MAX)
        .map(|id| json!({"id": id, "hlc": hlc}))
        .collect();
    for (page, kind, place) in [
        (json!([]), Kind::Malformed, "changeset"),
        (
            json!({"pg_authid": []}),
            Kind::UnknownTable,
            "table \"pg_authid\"",
        ),
        (json!({"todos": {}}), Kind::Malformed, "table \"todos\""),
        (
            json!({"todos": [1]}),
            Kind::Malformed,
            "table \"todos\", record 0",
        ),
        (json!({"todos": many}), Kind::TooLarge, "table \"todos\""),
        (
            json!({"todos": [{"id": 1}]}),
            Kind::Clock,
            "table \"todos\", record 0, column \"hlc\"",
        ),
        (
            json!({"todos": [{"id": 1, "hlc": "-1"}]}),
            Kind::Clock,
            "table \"todos\", record 0, column \"hlc\"",
        ),
        (
            json!({"todos": [{"hlc": hlc}]}),
            Kind::NoKey,
            "table \"todos\", record 0, column \"id\"",
        ),
        (
            json!({"todos": [{"id": 1, "hlc": hlc, "x\"; drop": 1}]}),
            Kind::UnknownColumn,
            "table \"todos\", record 0, column \"x\\\"; drop\"",
        ),
        (
            json!({"todos": [{"id": 1, "hlc": hlc, "title": ["a\0b"]}]}),
            Kind::NullByte,
            "table \"todos\", record 0, column \"title\"",
        ),
        (
            json!({"todos": [{"id": 1, "hlc": hlc}, {"id": 1, "hlc": hlc}]}),
            Kind::Repeated,
            "table \"todos\", record 1",
        ),
        (
            json!({"todos": [{"id": 1, "hlc": hlc, RESERVED: {"metadata": {"borne": hlc}}}]}),
            Kind::Metadata,
            "table \"todos\", record 0",
        ),
        (
            json!({RESERVED: {"version": 2, "node": "a"}}),
            Kind::Version,
            "changeset",
        ),
    ] {
        let error = Changeset::read(&page.to_string(), &tables()).expect_err("refused");
        assert_eq!(error.kind, kind, "{error}");
        assert_eq!(error.to_string(), format!("{place}: {kind}"));
    }
}

#[test]
fn a_record_from_the_future_is_kept_aside() {
    let rules = Rules::default();
    let row = Row::untracked(&object(json!({"title": "a"})), &rules).expect("a row");
    let mut record = Record::of(&key(1), &row, None, &rules).expect("a record");
    for (millis, is_future) in [(1_000, false), (61_000, false), (61_001, true)] {
        record.hlc = at(millis, "a");
        assert_eq!(record.is_from_the_future(1_000), is_future);
    }
    // Whatever its own `hlc` says.
    record.hlc = at(1, "a");
    let metadata = json!({"born": at(1, "a"), "fields": {"title": at(61_001, "a")}});
    record.metadata = serde_json::from_value(metadata).ok();
    assert!(record.metadata.is_some() && record.is_from_the_future(1_000));
}

#[test]
fn a_filter_takes_tables_nodes_and_what_was_taken_up_since() {
    let takes = |filter: &ChangesetFilter| {
        [("todos", "a", 5), ("todos", "b", 6), ("users", "a", 7)].map(|(table, name, modified)| {
            filter.takes(table, &at(1, name), &at(modified, "server"))
        })
    };
    let all = ChangesetFilter::default();
    assert_eq!(takes(&all), [true; 3]);
    assert!(!all.leaves_out());
    let only_tables = Some(BTreeSet::from(["todos".to_owned()]));
    assert_eq!(
        takes(&ChangesetFilter {
            only_tables,
            ..all.clone()
        }),
        [true, true, false]
    );
    let only_node = Some(node("a"));
    assert_eq!(
        takes(&ChangesetFilter {
            only_node,
            ..all.clone()
        }),
        [true, false, true]
    );
    let except = ChangesetFilter {
        except_node: Some(node("a")),
        ..all.clone()
    };
    assert_eq!(takes(&except), [false, true, false]);
    assert!(except.leaves_out());
    let modified_after = Some(at(5, "server"));
    assert_eq!(
        takes(&ChangesetFilter {
            modified_after,
            ..all
        }),
        [false, true, true]
    );
}

#[test]
fn the_last_page_says_up_to_where_its_database_has_everything() {
    let mut peers = Peers::new(node("one"), [], Horizons::default());
    peers.raise_horizon(at(9, "one"));
    let header = Header {
        version: merge::CHANGESET_VERSION,
        node: NodeId::new("one").expect("a node id"),
        up_to: Some(at(10, "one")),
        horizons: Some(peers.horizons().clone()),
        cursor: Some("a cursor".to_owned()),
    };
    let page = Changeset {
        header: Some(header),
        records: BTreeMap::new(),
    };
    let read = Changeset::read(&page.to_value(&tables()).to_string(), &tables()).expect("a page");
    assert_eq!(read, page);
    assert_eq!(read.last_modified(), None);
}
