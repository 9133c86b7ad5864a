//! Records of devices, and the clock that they see of a row.

use super::*;
use crate::mutation::fields::check_received;

fn device() -> NodeId {
    NodeId::new("device").expect("a node")
}

fn of_device(millis: u64) -> Clock {
    Clock::new(T + millis, 0, &device())
}

/// A record of the row 1, as a device sends it.
fn record(op: Op, mut values: Value, clock: &Clock) -> Write {
    values["id"] = json!(1);
    Write {
        key: None,
        ..write(op, &values, clock, None)
    }
}

fn received(
    write: &Write,
    rules: &Arc<Rules>,
    columns: &WriteColumns,
) -> Result<CheckedWrite, Reject> {
    let receipt = receipt(1).of_records(Some(device()));
    check_received(write, &schema(), columns, rules, &receipt)
}

fn take(store: &mut Store, write: &Write, columns: &WriteColumns) -> Plan {
    let checked = received(write, &rules(Deletes::Win), columns).expect("it fits");
    let fields = checked.fields.clone().expect("it merges");
    let plan = plan(&checked, &fields, &store.known).expect("accepted");
    store.carry_out(&checked, &plan);
    plan
}

#[test]
fn a_change_that_no_clock_tells_raises_the_newest_under_the_databases_name() {
    let rules = rules(Deletes::Win);
    let mut store = begun();
    store.known.node = Some("database".to_owned());
    let title = write(Op::Update, &json!({"title": "A"}), &at(5, 1), None);
    let due = write(Op::Update, &json!({"due": "B"}), &at(3, 2), None);
    let lost = write(Op::Update, &json!({"due": "C"}), &at(1, 2), None);
    store.push(&title, &rules, 1).expect("accepted");
    assert_eq!(store.known.newest, Some(at(5, 1).to_string()));
    store.push(&due, &rules, 2).expect("accepted");
    let raised = Clock::new(T + 5, 1, &NodeId::new("database").expect("a node"));
    assert_eq!(store.known.newest, Some(raised.to_string()));
    store.push(&lost, &rules, 2).expect("accepted");
    assert_eq!(
        store.known.newest,
        Some(raised.to_string()),
        "nothing has changed"
    );
}

#[test]
fn a_record_is_a_write_of_its_columns_however_often_it_comes() {
    let all = WriteColumns::ALL;
    let mut store = Store::default();
    let created = record(Op::Upsert, json!({"title": "a", "due": "b"}), &of_device(5));
    assert!(matches!(
        take(&mut store, &created, all).action,
        Action::Create { .. }
    ));
    assert_eq!(store.known.newest, Some(of_device(5).to_string()));
    let rules = rules(Deletes::Win);
    let later = write(
        Op::Update,
        &json!({"due": "B"}),
        &at(9, 2),
        Some(&of_device(5)),
    );
    store.push(&later, &rules, 2).expect("accepted");
    let entry = store.known.clone();
    assert!(matches!(
        take(&mut store, &created, all).action,
        Action::Nothing
    ));
    assert_eq!(store.known, entry, "twice is once");
    let edited = record(Op::Upsert, json!({"title": "A", "due": "b"}), &of_device(7));
    take(&mut store, &edited, all);
    assert_eq!(
        (store.value("title"), store.value("due")),
        (json!("A"), json!("B"))
    );
    let gone = record(Op::Delete, json!({}), &of_device(20));
    assert!(matches!(
        take(&mut store, &gone, all).action,
        Action::Delete
    ));
    assert!(matches!(
        take(&mut store, &edited, all).action,
        Action::Nothing
    ));
    assert_eq!(store.known.newest, Some(of_device(20).to_string()));
}

#[test]
fn a_record_of_another_node_or_from_the_future_is_refused() {
    let rules = rules(Deletes::Win);
    let code = |clock: &Clock| {
        let record = record(Op::Upsert, json!({"title": "a"}), clock);
        received(&record, &rules, WriteColumns::ALL).map_err(|reject| reject.code)
    };
    assert_eq!(code(&at(5, 1)).expect_err("refused"), RejectCode::Invalid);
    let received_ms = 1_000_000;
    assert!(code(&of_device(received_ms + 60_000)).is_ok());
    assert_eq!(
        code(&of_device(received_ms + 60_001)).expect_err("refused"),
        RejectCode::Clock
    );
    let foreign = format!("2001-09-09T01:46:40.000123Z-00ab-{}", device());
    let foreign = Clock::read_foreign(&foreign).expect("a clock");
    let mut store = Store::default();
    take(
        &mut store,
        &record(Op::Upsert, json!({"title": "a"}), &foreign),
        WriteColumns::ALL,
    );
    assert_eq!(
        store.known.newest.as_deref(),
        Some(foreign.as_str()),
        "as it came"
    );
    // Who edits the row says that clock.
    let edit = write(
        Op::Update,
        &json!({"title": "b"}),
        &at(9, 2),
        Some(&foreign),
    );
    store.push(&edit, &rules, 2).expect("accepted");
    assert_eq!(store.value("title"), json!("b"));
}

#[test]
fn what_a_device_may_not_write_stays_and_what_the_server_fills_in_is_of_the_creation() {
    let columns = WriteColumns {
        hidden: Vec::new(),
        unwritable: vec!["due".to_owned()],
        defaults: vec![("title".to_owned(), Some(json!("ann")))],
    };
    let mut store = Store::default();
    let sent = json!({"title": "ben", "due": "d", "likes": 5, "made": "by the device"});
    take(
        &mut store,
        &record(Op::Upsert, sent.clone(), &of_device(5)),
        &columns,
    );
    let row = store.values().expect("a row");
    assert_eq!(
        (&row["title"], &row["due"], &row["likes"]),
        (&json!("ann"), &json!(null), &json!(5))
    );
    let rules = rules(Deletes::Win);
    let edit = write(
        Op::Update,
        &json!({"title": "carl"}),
        &at(9, 2),
        Some(&of_device(5)),
    );
    store.push(&edit, &rules, 2).expect("accepted");
    take(
        &mut store,
        &record(Op::Upsert, sent, &of_device(20)),
        &columns,
    );
    assert_eq!(store.value("title"), json!("carl"), "another has it now");
}
