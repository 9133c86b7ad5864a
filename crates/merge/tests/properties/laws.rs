//! The laws of a semilattice, for any rows, also those that no honest history makes.

use merge::{Metadata, Row};
use proptest::prelude::*;

use crate::world::{any_rules, row};

proptest! {
    #![proptest_config(crate::world::config())]

    #[test]
    fn who_is_told_what_stands_lacks_nothing_any_more(
        (rules, one, other) in any_rules().prop_flat_map(|rules| {
            (Just(rules.clone()), row(rules.clone()), row(rules))
        }),
    ) {
        let after = one.joined(&other, &rules);
        let told = other.joined(&after, &rules);
        prop_assert_eq!(after.ahead_of(&told, &rules).next(), None);
    }

    #[test]
    fn merge_is_commutative_associative_and_idempotent_for_every_type_of_column(
        (rules, one, two, three) in any_rules()
            .prop_flat_map(|rules| (Just(rules.clone()), row(rules.clone()), row(rules.clone()), row(rules)))
    ) {
        let join = |one: &Row, two: &Row| one.clone().joined(two, &rules);
        prop_assert_eq!(join(&one, &two), join(&two, &one));
        prop_assert_eq!(join(&join(&one, &two), &three), join(&one, &join(&two, &three)));
        prop_assert_eq!(join(&one, &one), one.clone());
        prop_assert_eq!(join(&join(&one, &two), &two), join(&one, &two));
        prop_assert_eq!(join(&one, &Row::default()), one);
    }

    #[test]
    fn a_row_and_its_metadata_survive_their_json(
        (rules, row) in any_rules().prop_flat_map(|rules| (Just(rules.clone()), row(rules)))
    ) {
        let text = serde_json::to_string(&row.metadata()).expect("JSON");
        let metadata: Metadata = serde_json::from_str(&text).expect("metadata");
        let read = Row::new(&metadata, &row.values(), &rules).expect("what was written");
        if row.born().is_some() || row.died().is_some() {
            prop_assert_eq!(read, row);
        }
    }

    #[test]
    fn metadata_is_read_or_refused_and_never_panics(
        text in metadata_text(),
        rules in any_rules(),
        values in crate::world::values(true),
    ) {
        let Ok(metadata) = serde_json::from_str::<Metadata>(&text) else { return Ok(()) };
        if let Ok(row) = Row::new(&metadata, &values, &rules) {
            let joined = row.clone().joined(&row, &rules);
            prop_assert_eq!(joined, row);
        }
    }
}

/// Texts close to metadata.
fn metadata_text() -> impl Strategy<Value = String> {
    let clock = prop_oneof![
        8 => "2001-09-09T01:46:40\\.00[0-3](000)?Z-00[0-9A-Fa-f]{2}-[a-c]".prop_map(|text| format!("\"{text}\"")),
        1 => Just("null".to_owned()),
        1 => Just("\"2001\"".to_owned()),
    ];
    let mark = prop_oneof![
        clock.clone(),
        clock.clone().prop_map(|clock| format!(
            r#"{{"counter":{{"set":{clock},"sums":{{"a":{{"added":3,"taken":"-1"}}}}}}}}"#
        )),
        clock.clone().prop_map(|clock| format!(
            r#"{{"set":{{"\"x\"":{{"added":{clock}}},"oops":{{"added":null}}}}}}"#
        )),
    ];
    let column = prop::sample::select(&crate::world::COLUMNS[..]);
    let field = (column, mark).prop_map(|(column, mark)| format!("\"{column}\":{mark}"));
    let fields = prop::collection::vec(field, 0..4)
        .prop_map(|fields| format!("\"fields\":{{{}}}", fields.join(",")));
    let name = prop::sample::select(&["born", "died", "base", "edited"][..]);
    let member = prop_oneof![
        3 => (name, clock).prop_map(|(name, clock)| format!("\"{name}\":{clock}")),
        2 => fields,
        1 => Just("\"partial\":true".to_owned()),
    ];
    prop::collection::vec(member, 0..6).prop_map(|members| format!("{{{}}}", members.join(",")))
}
