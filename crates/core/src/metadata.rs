//! What is kept of a row beside its values, where rows merge by their fields, and what of it a client is told.

use std::collections::BTreeMap;

use protocol::RowMetadata;
use serde::Deserialize;
use serde_json::value::RawValue;

/// The metadata as it is kept.
#[derive(Deserialize)]
struct Kept {
    born: Option<Box<str>>,
    died: Option<Box<str>>,
    base: Option<Box<str>>,
    edited: Option<Box<str>>,
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
        clocks: kept.fields,
        lost: kept.lost,
    })
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
