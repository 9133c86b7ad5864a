//! Invalid selections, one of each kind.

use serde_json::{Value, json};

/// Each with the code of its error and a word of the message.
pub(super) fn bad_selections() -> Vec<(Value, &'static str, &'static str)> {
    let ors = |count: usize| vec!["id = 1"; count].join(" OR ");
    let nested = |depth: usize| format!("{}done{}", "(".repeat(depth), ")".repeat(depth));
    let nots = |count: usize| format!("{}done", "NOT ".repeat(count));
    let of = |text: &str| json!({ "where": text });
    let with = |text: &str, params: Value| json!({ "where": text, "params": params });
    vec![
        (of("colour = 1"), "bad_filter", "at character 1: "),
        (
            of("list_id = 1 AND colour IS NULL"),
            "bad_filter",
            "at character 17: ",
        ),
        (of("done = 1"), "bad_filter", "at character 8: "),
        (of("list_id = 'one'"), "bad_filter", "at character 11: "),
        (of("list_id = 1.5"), "bad_filter", "at character 11: "),
        (of("list_id = TRUE"), "bad_filter", "at character 11: "),
        (of("owner = 1"), "bad_filter", "at character 9: "),
        (of("list_id LIKE '1'"), "bad_filter", "at character 1: "),
        (of("list_id"), "bad_filter", "at character 1: "),
        (of("list_id = id"), "bad_filter", "at character 11: "),
        (of("1 = 1"), "bad_filter", "at character 1: "),
        (of(""), "bad_filter", "at character 1: "),
        (of("   "), "bad_filter", "at character "),
        (of("list_id ="), "bad_filter", "at character 10: "),
        (of("list_id = 1 list_id"), "bad_filter", "at character 13: "),
        (of("(list_id = 1"), "bad_filter", "at character 13: "),
        (of("lower(owner) = 'ann'"), "bad_filter", "at character "),
        (of("pg_sleep(10) IS NULL"), "bad_filter", "at character "),
        (of("id = (SELECT 1)"), "bad_filter", "at character "),
        (
            of("id IN (SELECT id FROM todos LIMIT 1)"),
            "bad_filter",
            "at character ",
        ),
        (of("EXISTS (SELECT 1)"), "bad_filter", "at character "),
        (
            of("done; DROP TABLE todos"),
            "bad_filter",
            "at character 5: ",
        ),
        (of("done;"), "bad_filter", "at character 5: "),
        (of("done -- and so on"), "bad_filter", "at character 6: "),
        (of("done /* and so on */"), "bad_filter", "at character 6: "),
        (of("id + 1 = 2"), "bad_filter", "at character 4: "),
        (of("id::text = '1'"), "bad_filter", "at character "),
        (of("owner ~ 'a'"), "bad_filter", "at character "),
        (of("owner ILIKE 'a'"), "bad_filter", "at character "),
        (of("lists.id = 1"), "bad_filter", "at character 1: "),
        (of("owner = 'ann"), "bad_filter", "at character "),
        (of("owner = $0"), "bad_filter", "at character "),
        (of("id = ?"), "bad_filter", "at character "),
        (
            of("id = 1 OR current_user = 'x'"),
            "bad_filter",
            "at character 11: ",
        ),
        (with("id = $1", json!([])), "bad_filter", "at character 6: "),
        (of("id = $1"), "bad_filter", "at character 6: "),
        (
            with("id = $1 OR id = $3", json!([1, 2])),
            "bad_filter",
            "at character 17: ",
        ),
        (with("id = $1", json!([1, 2])), "bad_filter", "parameter $2"),
        (with("id = $2", json!([1, 2])), "bad_filter", "parameter $1"),
        (
            with("id = $1", json!(["one"])),
            "bad_filter",
            "at character 6: ",
        ),
        (
            with("id = $1", json!([[1]])),
            "bad_filter",
            "at character 6: ",
        ),
        (
            with("id = $1", json!([{ "a": 1 }])),
            "bad_filter",
            "at character 6: ",
        ),
        (
            with("id = $1", json!([1e300])),
            "bad_filter",
            "at character 6: ",
        ),
        (with("id = 1", json!([1])), "bad_filter", "parameter $1"),
        (json!({ "params": [1] }), "bad_filter", "`where`"),
        (
            json!({ "columns": ["title", "colour"] }),
            "bad_filter",
            "colour",
        ),
        (json!({ "columns": [""] }), "bad_filter", "`columns`"),
        (
            json!({ "columns": ["TITLE; --"] }),
            "bad_filter",
            "`columns`",
        ),
        (
            with("owner = $1", json!(["x".repeat(100_000)])),
            "too_large",
            "parameters",
        ),
        (of(&ors(10_000)), "too_large", ""),
        (of(&ors(1_400)), "too_large", "at character "),
        (of(&nested(1_000)), "too_large", "at character "),
        (of(&nots(1_000)), "too_large", "at character "),
        (
            of(&format!("owner = '{}'", "x".repeat(1_000_000))),
            "too_large",
            "",
        ),
        (
            of(&format!("owner LIKE '{}'", "%_".repeat(2_000))),
            "bad_filter",
            "at character 12: ",
        ),
    ]
}
