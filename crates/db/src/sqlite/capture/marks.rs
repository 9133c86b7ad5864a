//! What a program's plain SQL has done to a counter or a set, where other databases merge with this one: as a difference, so that
//! what is done elsewhere meanwhile adds to it.
//!
//! The trigger reads what such a column was and is as one text, [`counter`] or [`set`], and makes its [`mark`] of it. Nothing
//! here may raise an error. Numbers are whole, or texts with nine digits behind the point: a double's digits may be more than
//! an amount has.

use merge::{COUNTING_DATABASES_MAX, EDITED_ELEMENTS_MAX, ELEMENT_BYTES_MAX};

use super::super::table::Field;

/// The condition that other databases merge with this one.
pub(super) const HAS_PEERS: &str = "EXISTS (SELECT 1 FROM _rhtmx_sync_peer)";

/// The condition that `c`, of the columns that changed, says what a counter or a set was and is.
pub(super) const MARKED: &str = "c.type = 'text'";

/// The greatest number that an amount of the trigger's is: beyond it a double's last digits are no longer its own.
const AMOUNT_MAX: i64 = 1 << 53;

/// The most digits of a number that is an element of a set: a double has as many.
const DIGITS_MAX: usize = 15;

/// The JSON text of what a counter was and is; another change where it is no number.
pub(super) fn counter(field: &Field, otherwise: u8) -> String {
    let (was, is) = (field.of("OLD"), field.of("NEW"));
    let is_amount = |value: &str| {
        let fits = format!("{value} BETWEEN -{AMOUNT_MAX} AND {AMOUNT_MAX}");
        format!(
            "CASE typeof({value}) WHEN 'null' THEN 1 WHEN 'integer' THEN {fits} WHEN 'real' THEN {fits} ELSE 0 END"
        )
    };
    format!(
        "CASE WHEN {} AND {} THEN {} ELSE {otherwise} END",
        is_amount(&was),
        is_amount(&is),
        text_of(&format!("1, {was}, {is}"))
    )
}

/// The same of a set; another change where it is no array.
pub(super) fn set(field: &Field, otherwise: u8) -> String {
    let (was, is) = (field.of("OLD"), field.of("NEW"));
    let is_array = |value: &str| {
        format!(
            "CASE WHEN typeof({value}) <> 'text' THEN 0 WHEN json_valid({value}) THEN json_type({value}) = 'array' ELSE 0 END"
        )
    };
    format!(
        "CASE WHEN {} THEN {} ELSE {otherwise} END",
        is_array(&is),
        text_of(&format!(
            "2, CASE WHEN {} THEN {was} ELSE '[]' END, {is}",
            is_array(&was)
        ))
    )
}

/// An array as a JSON string: as an array it would be one or a text, depending on the version of SQLite.
fn text_of(items: &str) -> String {
    format!("json_quote('' || json_array({items}))")
}

/// The new mark of the column `c`, if there is anything to keep, by the metadata `m` and with the clock `at`.
pub(super) fn mark() -> String {
    format!(
        "(SELECT CASE json_extract(c.value, '$[0]') WHEN 1 THEN {} ELSE {} END FROM (SELECT \
         (SELECT e.value FROM json_each(m, '$.fields') AS e WHERE e.key = c.key AND e.type = 'object') AS known))",
        counted(),
        chosen()
    )
}

/// The database has added, or taken. A number that was null, or becomes null, is set.
fn counted() -> String {
    let own = |sum: &str| {
        format!(
            "(SELECT CAST(json_extract(s.value, '$.{sum}') AS NUMERIC) FROM json_each(known, '$.counter.sums') AS s \
             WHERE s.key = database AND s.type = 'object')"
        )
    };
    let said = |sum: &str| {
        format!("CASE typeof({sum}) WHEN 'integer' THEN {sum} ELSE printf('%.9f', {sum}) END")
    };
    format!(
        "(SELECT CASE WHEN becomes IS NULL THEN json_object('counter', json_object('set', at, 'null', json('true'))) \
         WHEN was IS NULL THEN json_object('counter', json_object('set', at)) \
         WHEN database <> '' AND added <= {AMOUNT_MAX} AND taken <= {AMOUNT_MAX} AND others < {COUNTING_DATABASES_MAX} \
         THEN json_patch(coalesce(known, '{{}}'), json_object('counter', json_object('sums', json_object(database, \
         json_object('added', {said_added}, 'taken', {said_taken}))))) ELSE known END \
         FROM (SELECT was, becomes, database, coalesce({own_added}, 0) + max(becomes - was, 0) AS added, \
         coalesce({own_taken}, 0) + max(was - becomes, 0) AS taken, \
         (SELECT count(*) FROM json_each(known, '$.counter.sums') AS s WHERE s.key IS NOT database) AS others \
         FROM (SELECT json_extract(c.value, '$[1]') AS was, json_extract(c.value, '$[2]') AS becomes, \
         (SELECT node FROM _rhtmx_sync_meta) AS database)))",
        said_added = said("added"),
        said_taken = said("taken"),
        own_added = own("added"),
        own_taken = own("taken"),
    )
}

/// What was taken out, and what was put in.
fn chosen() -> String {
    // Every number has one name, without an exponent.
    let plain = "rtrim(rtrim(printf('%.12f', v.value), '0'), '.')";
    let name = format!(
        "CASE v.type WHEN 'text' THEN json_quote(v.value) WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' \
         WHEN 'integer' THEN CASE WHEN length(v.value) <= {DIGITS_MAX} THEN CAST(v.value AS TEXT) END \
         WHEN 'real' THEN CASE WHEN length({plain}) <= {DIGITS_MAX} AND CAST({plain} AS REAL) = v.value \
         AND v.value <> 0 THEN {plain} END END"
    );
    let added = "json_extract(mark, '$.added')";
    format!(
        "(SELECT CASE WHEN coalesce(max(is_edited), 0) AND count(*) <= {EDITED_ELEMENTS_MAX} \
         THEN '{{\"set\":{{' || group_concat(json_quote(name) || ':' || mark, ',') || '}}}}' ELSE known END \
         FROM (SELECT name, was <> here AS is_edited, CASE WHEN was = here THEN mark \
         WHEN here THEN json_patch(coalesce(mark, '{{}}'), json_object('added', at)) \
         ELSE json_object('added', {added}, 'removed', json_object('seen', {added}, 'at', at)) END AS mark \
         FROM (SELECT name, max(mark) AS mark, max(was) AS was, max(here) AS here FROM (\
         SELECT o.key AS name, o.value AS mark, 0 AS was, 0 AS here FROM json_each(known, '$.set') AS o WHERE o.type = 'object' \
         UNION ALL SELECT {name}, NULL, 1, 0 FROM json_each(json_extract(c.value, '$[1]')) AS v \
         UNION ALL SELECT {name}, NULL, 0, 1 FROM json_each(json_extract(c.value, '$[2]')) AS v) \
         WHERE length(CAST(name AS BLOB)) <= {ELEMENT_BYTES_MAX} GROUP BY name)) WHERE mark IS NOT NULL)"
    )
}
