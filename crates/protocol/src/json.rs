//! Writes frames whose payload is JSON text already, so that it is written once and shared.
//!
//! A test compares each with the frame that serde writes.

use serde::Serialize;

use crate::SubscriptionId;

/// The JSON text of a value of ours.
///
/// # Panics
/// When JSON cannot express the value, such as a map whose keys are not texts.
pub fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("JSON can express our values")
}

/// A `changes` frame of a live shape, around an array of changes and one of keys.
pub fn changes_of_shape(shape: &str, array: &str, order: Option<&str>) -> String {
    let end = end_of_changes(order);
    format!(
        r#"{{"type":"changes","shape":{},"changes":{array}{end}"#,
        text(&shape)
    )
}

/// What precedes the changes in the frame of [`changes_of_shape`], up to the bracket of their array.
pub fn before_changes_of_shape(shape: &str) -> String {
    format!(r#"{{"type":"changes","shape":{},"changes":["#, text(&shape))
}

/// What follows them, around an array of keys.
pub fn after_changes(order: Option<&str>) -> String {
    format!("]{}", end_of_changes(order))
}

fn end_of_changes(order: Option<&str>) -> String {
    order.map_or_else(|| "}".to_owned(), |order| format!(r#","order":{order}}}"#))
}

/// A `changes` frame of a subscription that catches up, around an array of changes and one of keys.
pub fn changes_of_subscription(id: &SubscriptionId, array: &str, order: Option<&str>) -> String {
    let end = end_of_changes(order);
    format!(
        r#"{{"type":"changes","id":{},"changes":{array}{end}"#,
        text(id)
    )
}

/// A `snapshot` frame, around an array of row images.
pub fn snapshot(id: &SubscriptionId, array: &str, more: bool) -> String {
    format!(
        r#"{{"type":"snapshot","id":{},"rows":{array},"more":{more}}}"#,
        text(id)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Change, Changes, RowImage, ServerFrame, Snapshot};

    #[test]
    fn frames_are_written_as_serde_writes_them() {
        let id = SubscriptionId::from("a\"b");
        let changes = vec![Change::Truncate];
        let array = text(&changes);
        let of_shape = ServerFrame::Changes(Changes {
            shape: Some("s\"".to_owned()),
            id: None,
            changes: changes.clone(),
            order: None,
        });
        assert_eq!(changes_of_shape("s\"", &array, None), of_shape.to_text());
        let pieces = before_changes_of_shape("s\"") + &text(&changes[0]) + &after_changes(None);
        assert_eq!(pieces, of_shape.to_text());
        let ordered = ServerFrame::Changes(Changes {
            shape: Some("s".to_owned()),
            id: None,
            changes: changes.clone(),
            order: Some(vec!["2".to_owned(), "1".to_owned()]),
        });
        let order = Some(r#"["2","1"]"#);
        assert_eq!(changes_of_shape("s", &array, order), ordered.to_text());
        let pieces = before_changes_of_shape("s") + &text(&changes[0]) + &after_changes(order);
        assert_eq!(pieces, ordered.to_text());
        let of_id = ServerFrame::Changes(Changes {
            shape: None,
            id: Some(id.clone()),
            changes,
            order: None,
        });
        assert_eq!(changes_of_subscription(&id, &array, None), of_id.to_text());
        let rows: Vec<RowImage> =
            serde_json::from_str(r#"[{"key":"1","row":{"id": 1}}]"#).expect("rows");
        let array = text(&rows);
        let page = ServerFrame::Snapshot(Snapshot {
            id: id.clone(),
            rows,
            more: true,
        });
        assert_eq!(snapshot(&id, &array, true), page.to_text());
    }
}
