//! What is kept of a row beside its values, where rows merge by their fields, and what of it a client is told.

use std::collections::BTreeMap;

use merge::Clock;
use protocol::RowMetadata;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// The metadata as it is kept.
#[derive(Deserialize)]
struct Kept {
    born: Option<Box<str>>,
    died: Option<Box<str>>,
    base: Option<Box<str>>,
    edited: Option<Box<str>>,
    /// A clock that is later with each change of the row; only where it is asked for.
    newest: Option<Box<str>>,
    #[serde(default)]
    fields: BTreeMap<String, Box<RawValue>>,
    /// The lost values of a conflict that nobody has resolved.
    #[serde(default)]
    lost: BTreeMap<String, Box<RawValue>>,
}

/// Reads a row's metadata from the JSON that is kept of it.
///
/// # Errors
/// When it is no metadata.
pub fn read(kept: &str) -> Result<RowMetadata, serde_json::Error> {
    let kept: Kept = serde_json::from_str(kept)?;
    Ok(RowMetadata {
        born: kept.born,
        died: kept.died,
        base: kept.base,
        edited: kept.edited,
        newest: kept.newest,
        clocks: kept.fields,
        lost: kept.lost,
    })
}

/// The clock of a column's value: its own, or of a counter or a set the newest that it is made of; else the row's base, or
/// its birth. [`Clock::ground`] for a value from before anything was stamped.
pub fn clock_of(metadata: &RowMetadata, column: &str) -> Clock {
    let read = |text: &str| Clock::read_foreign(text).ok();
    let own = metadata.clocks.get(column).and_then(|known| {
        let known: Value = serde_json::from_str(known.get()).ok()?;
        newest(&known)
    });
    let base = || read(metadata.base.as_deref()?);
    let born = || read(metadata.born.as_deref()?);
    own.or_else(base)
        .or_else(born)
        .unwrap_or_else(Clock::ground)
}

/// The newest clock among the texts of a value.
fn newest(known: &Value) -> Option<Clock> {
    match known {
        Value::String(text) => Clock::read_foreign(text).ok(),
        Value::Array(values) => values.iter().filter_map(newest).max(),
        Value::Object(members) => members.values().filter_map(newest).max(),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

/// The metadata for those who are sent some columns of the row; `is_whole` says that these are all. Without all columns
/// nobody is told when the row was edited last.
pub(crate) fn of_columns(
    metadata: &RowMetadata,
    is_sent: impl Fn(&str) -> bool,
    is_whole: bool,
) -> RowMetadata {
    let columns_of = |all: &BTreeMap<String, Box<RawValue>>| {
        let sent = all.iter().filter(|(column, _)| is_sent(column));
        sent.map(|(column, known)| (column.clone(), known.clone()))
            .collect()
    };
    RowMetadata {
        born: metadata.born.clone(),
        died: metadata.died.clone(),
        base: metadata.base.clone(),
        edited: metadata.edited.clone().filter(|_| is_whole),
        newest: None,
        clocks: columns_of(&metadata.clocks),
        lost: columns_of(&metadata.lost),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEPT: &str = r#"{"born":"b","base":"a","edited":"e","fields":{"n":"1","t":{"set":{}}}}"#;

    fn written(metadata: &RowMetadata) -> String {
        serde_json::to_string(metadata).expect("JSON")
    }

    #[test]
    fn what_is_kept_is_told_with_the_fields_as_clocks() {
        let read = read(KEPT).expect("metadata");
        let told = r#"{"born":"b","base":"a","edited":"e","clocks":{"n":"1","t":{"set":{}}}}"#;
        assert_eq!(written(&read), told);
        let nothing = super::read("{}").expect("metadata");
        assert_eq!(written(&nothing), "{}");
        assert!(super::read("[]").is_err() && super::read(r#"{"born":1}"#).is_err());
    }

    #[test]
    fn a_value_has_its_own_clock_or_that_of_its_row() {
        let clock = |number: u32| format!("2026-11-20T07:00:00.000Z-{number:04X}-node");
        let of = |kept: &Value, column: &str| {
            let read = super::read(&kept.to_string()).expect("metadata");
            clock_of(&read, column).to_string()
        };
        let set = serde_json::json!({ "set": {
            "\"x\"": { "added": clock(4) },
            "\"y\"": { "added": clock(2), "removed": { "seen": clock(2), "at": clock(6) } },
        } });
        let mut kept =
            serde_json::json!({ "born": clock(1), "fields": { "title": clock(3), "tags": set } });
        assert_eq!(of(&kept, "title"), clock(3));
        assert_eq!(of(&kept, "tags"), clock(6));
        assert_eq!(of(&kept, "due"), clock(1));
        kept["base"] = clock(2).into();
        assert_eq!(of(&kept, "due"), clock(2));
        let nothing = serde_json::json!({});
        assert_eq!(of(&nothing, "due"), Clock::ground().to_string());
    }

    #[test]
    fn without_a_column_neither_its_clock_nor_the_newest_edit_is_told() {
        let read = read(KEPT).expect("metadata");
        let some = of_columns(&read, |column| column == "t", false);
        assert_eq!(
            written(&some),
            r#"{"born":"b","base":"a","clocks":{"t":{"set":{}}}}"#
        );
        let none = of_columns(&read, |_| false, false);
        assert_eq!(written(&none), r#"{"born":"b","base":"a"}"#);
        assert_eq!(written(&of_columns(&read, |_| true, true)), written(&read));
    }
}
