//! What a member holds of the lists' rows, beside the memberships that they hold.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

/// The rows and memberships of one member, as of the last cursor, and what has come since.
#[derive(Debug, Default)]
pub(super) struct Copy {
    items: Part,
    members: Part,
    /// The lists of rows that have come since the last cursor.
    came: Vec<i64>,
    /// The lists of memberships that have ended since then.
    ended: HashSet<i64>,
}

/// A subscription's rows: the list of each, by key.
#[derive(Debug, Default)]
struct Part {
    shape: Option<String>,
    lists: HashMap<String, i64>,
    /// The number of rows of each list.
    rows: HashMap<i64, u64>,
}

/// What is true at a cursor.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct AtCursor {
    /// The lists whose memberships have ended, and of which nothing is left.
    pub(super) left: Vec<i64>,
    /// Rows that came, or stayed, without a membership.
    pub(super) forbidden: u64,
}

impl Copy {
    /// Whether both subscriptions are live.
    pub(super) fn is_live(&self) -> bool {
        self.items.shape.is_some() && self.members.shape.is_some()
    }

    /// Takes a frame. Returns what is true now, at a cursor.
    pub(super) fn take(&mut self, frame: &Value) -> Option<AtCursor> {
        match frame["type"].as_str().unwrap_or_default() {
            "subscribed" => {
                let shape = frame["shape"].as_str().map(str::to_owned);
                self.part(&frame["id"]).shape = shape;
            }
            "refetch" => {
                let part = self.part(&frame["id"]);
                *part = Part {
                    shape: part.shape.take(),
                    ..Part::default()
                };
            }
            "snapshot" => {
                let is_items = frame["id"] == 1;
                for row in frame["rows"].as_array().into_iter().flatten() {
                    self.put(is_items, row);
                }
            }
            "changes" => {
                let is_items = frame["id"] == 1
                    || (frame["shape"].is_string()
                        && frame["shape"].as_str() == self.items.shape.as_deref());
                for change in frame["changes"].as_array().into_iter().flatten() {
                    if change["op"] == "put" {
                        self.put(is_items, change);
                    } else {
                        self.remove(is_items, change);
                    }
                }
            }
            "cursor" => return Some(self.at_cursor()),
            _ => {}
        }
        None
    }

    fn part(&mut self, id: &Value) -> &mut Part {
        if *id == 1 {
            &mut self.items
        } else {
            &mut self.members
        }
    }

    fn put(&mut self, is_items: bool, row: &Value) {
        let Some(list) = row["row"]["list_id"].as_i64() else {
            return;
        };
        let part = if is_items {
            self.came.push(list);
            &mut self.items
        } else {
            &mut self.members
        };
        part.remove(&row["key"]);
        part.lists.insert(row["key"].to_string(), list);
        *part.rows.entry(list).or_default() += 1;
    }

    fn remove(&mut self, is_items: bool, row: &Value) {
        if is_items {
            self.items.remove(&row["key"]);
        } else {
            self.ended.extend(self.members.remove(&row["key"]));
        }
    }

    fn at_cursor(&mut self) -> AtCursor {
        let is_member = |list: &i64| self.members.rows.contains_key(list);
        let ended = std::mem::take(&mut self.ended);
        let came = std::mem::take(&mut self.came);
        let mut at_cursor = AtCursor::default();
        // While a membership ends, rows of the transactions before may still come.
        let forbidden = came
            .iter()
            .filter(|list| !is_member(list) && !ended.contains(list));
        at_cursor.forbidden = forbidden.count() as u64;
        for list in ended {
            if is_member(&list) {
                continue;
            }
            match self.items.rows.get(&list) {
                Some(rows) => at_cursor.forbidden += rows,
                None => at_cursor.left.push(list),
            }
        }
        at_cursor
    }
}

impl Part {
    /// Removes a row. Returns its list.
    fn remove(&mut self, key: &Value) -> Option<i64> {
        let list = self.lists.remove(&key.to_string())?;
        if let Some(rows) = self.rows.get_mut(&list) {
            *rows -= 1;
            if *rows == 0 {
                self.rows.remove(&list);
            }
        }
        Some(list)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn member_of_seven() -> Copy {
        let mut copy = Copy::default();
        copy.take(&json!({ "type": "snapshot", "id": 1, "rows": [
            { "key": "1", "row": { "list_id": 7 } }, { "key": "2", "row": { "list_id": 7 } },
        ] }));
        copy.take(&json!({ "type": "subscribed", "id": 1, "shape": "i" }));
        copy.take(&json!({ "type": "snapshot", "id": 2, "rows": [
            { "key": "[7,\"u\"]", "row": { "list_id": 7 } },
        ] }));
        copy.take(&json!({ "type": "subscribed", "id": 2, "shape": "m" }));
        copy
    }

    fn changes(shape: &str, changes: &Value) -> Value {
        json!({ "type": "changes", "shape": shape, "changes": changes })
    }

    const CURSOR: &str = r#"{"type":"cursor"}"#;

    fn cursor(copy: &mut Copy) -> AtCursor {
        copy.take(&serde_json::from_str(CURSOR).unwrap()).unwrap()
    }

    #[test]
    fn rows_leave_with_their_membership() {
        let mut copy = member_of_seven();
        assert!(copy.is_live());
        copy.take(&changes(
            "m",
            &json!([{ "op": "leave", "key": "[7,\"u\"]" }]),
        ));
        copy.take(&changes(
            "i",
            &json!([{ "op": "leave", "key": "1" }, { "op": "leave", "key": "2" }]),
        ));
        let left = AtCursor {
            left: vec![7],
            forbidden: 0,
        };
        assert_eq!(cursor(&mut copy), left);
    }

    #[test]
    fn a_row_that_stays_or_comes_later_is_forbidden() {
        let mut copy = member_of_seven();
        copy.take(&changes(
            "m",
            &json!([{ "op": "delete", "key": "[7,\"u\"]" }]),
        ));
        copy.take(&changes("i", &json!([{ "op": "leave", "key": "1" }])));
        assert_eq!(cursor(&mut copy).forbidden, 1);
        let later = json!([{ "op": "put", "key": "3", "row": { "list_id": 7 } }, { "op": "leave", "key": "3" }]);
        copy.take(&changes("i", &later));
        assert_eq!(cursor(&mut copy).forbidden, 1);
    }
}
