-- What a program's plain SQL has done to a counter or a set, where other databases merge with this one: as a difference, so that
-- what is done elsewhere meanwhile adds to it. A trigger says what such a column was and is, takes the row's metadata from the last
-- view, and empties the table. The views are several because an older SQLite cannot parse what nests deeper. None may fail, whatever
-- the metadata is.
CREATE TABLE _rhtmx_sync_marking (
    entity TEXT NOT NULL,
    entity_id TEXT NOT NULL,
    field TEXT NOT NULL,
    -- `counter`, with numbers or nulls, or `set`, with the texts of JSON arrays.
    kind TEXT NOT NULL,
    was,
    becomes
);

-- With what is known of the column, and the clock of the change.
CREATE VIEW _rhtmx_sync_marking_known AS
SELECT w.*, f.newest AS at, (SELECT node FROM _rhtmx_sync_meta) AS database,
    (SELECT e.value FROM json_each(CASE WHEN json_valid(f.metadata) THEN f.metadata ELSE '{}' END, '$.fields') AS e
        WHERE e.key = w.field AND e.type = 'object') AS known
FROM _rhtmx_sync_marking AS w JOIN _rhtmx_sync_field AS f ON f.entity = w.entity AND f.entity_id = w.entity_id;

-- What the database has added to counters and taken from them, and how many others count.
CREATE VIEW _rhtmx_sync_marking_sums AS
SELECT k.*,
    coalesce((SELECT CAST(json_extract(s.value, '$.added') AS NUMERIC) FROM json_each(k.known, '$.counter.sums') AS s
        WHERE s.key = k.database AND s.type = 'object'), 0) + max(k.becomes - k.was, 0) AS added,
    coalesce((SELECT CAST(json_extract(s.value, '$.taken') AS NUMERIC) FROM json_each(k.known, '$.counter.sums') AS s
        WHERE s.key = k.database AND s.type = 'object'), 0) + max(k.was - k.becomes, 0) AS taken,
    (SELECT count(*) FROM json_each(k.known, '$.counter.sums') AS s WHERE s.key IS NOT k.database) AS others
FROM _rhtmx_sync_marking_known AS k WHERE k.kind = 'counter';

-- The marks of counters. Numbers are whole, or texts with nine digits behind the point: a double's digits may be more than an
-- amount has. A number that was null, or becomes null, is set.
CREATE VIEW _rhtmx_sync_marking_counters AS
SELECT entity, entity_id, field, CASE
    WHEN becomes IS NULL THEN json_object('counter', json_object('set', at, 'null', json('true')))
    WHEN was IS NULL THEN json_object('counter', json_object('set', at))
    -- What a merge would refuse: the number alone is kept.
    WHEN database = '' OR others >= 16 OR added > 9007199254740992 OR taken > 9007199254740992 THEN known
    ELSE json_patch(coalesce(known, '{}'), json_object('counter', json_object('sums', json_object(database, json_object(
        'added', CASE typeof(added) WHEN 'integer' THEN added ELSE printf('%.9f', added) END,
        'taken', CASE typeof(taken) WHEN 'integer' THEN taken ELSE printf('%.9f', taken) END))))) END AS mark
FROM _rhtmx_sync_marking_sums;

-- Each element of sets by the text of its JSON, from what is known of it, what the set was, and what it is.
CREATE VIEW _rhtmx_sync_marking_values AS
SELECT k.entity, k.entity_id, k.field, k.known, k.at, 0 AS was_in, 1 AS is_in, v.type, v.value
FROM _rhtmx_sync_marking_known AS k, json_each(k.becomes) AS v WHERE k.kind = 'set'
UNION ALL
SELECT k.entity, k.entity_id, k.field, k.known, k.at, 1, 0, v.type, v.value
FROM _rhtmx_sync_marking_known AS k, json_each(k.was) AS v WHERE k.kind = 'set';

-- Every number has one name, without an exponent. Longer ones are not the same in doubles.
CREATE VIEW _rhtmx_sync_marking_names AS
SELECT entity, entity_id, field, known, at, was_in, is_in, CASE type
    WHEN 'text' THEN json_quote(value)
    WHEN 'true' THEN 'true'
    WHEN 'false' THEN 'false'
    WHEN 'integer' THEN CASE WHEN length(value) <= 15 THEN CAST(value AS TEXT) END
    WHEN 'real' THEN CASE WHEN value <> 0 AND length(rtrim(rtrim(printf('%.12f', value), '0'), '.')) <= 15
        AND CAST(rtrim(rtrim(printf('%.12f', value), '0'), '.') AS REAL) = value
        THEN rtrim(rtrim(printf('%.12f', value), '0'), '.') END END AS name, NULL AS mark
FROM _rhtmx_sync_marking_values
UNION ALL
SELECT k.entity, k.entity_id, k.field, k.known, k.at, 0, 0, o.key, o.value
FROM _rhtmx_sync_marking_known AS k, json_each(k.known, '$.set') AS o WHERE k.kind = 'set' AND o.type = 'object';

-- What is known of each element from now on.
CREATE VIEW _rhtmx_sync_marking_elements AS
SELECT entity, entity_id, field, known, name, was_in <> is_in AS is_edited, CASE
    WHEN was_in = is_in THEN mark
    WHEN is_in THEN json_patch(coalesce(mark, '{}'), json_object('added', at))
    ELSE json_object('added', json_extract(mark, '$.added'),
        'removed', json_object('seen', json_extract(mark, '$.added'), 'at', at)) END AS mark
FROM (SELECT entity, entity_id, field, known, at, name, max(mark) AS mark, max(was_in) AS was_in, max(is_in) AS is_in
    FROM _rhtmx_sync_marking_names WHERE length(CAST(name AS BLOB)) <= 1024
    GROUP BY entity, entity_id, field, name);

-- The marks of sets. Of more elements than a merge takes, the set alone is kept.
CREATE VIEW _rhtmx_sync_marking_sets AS
SELECT entity, entity_id, field, CASE
    WHEN max(is_edited) AND count(*) <= 256
    THEN '{"set":{' || group_concat(json_quote(name) || ':' || mark, ',') || '}}' ELSE known END AS mark
FROM _rhtmx_sync_marking_elements WHERE mark IS NOT NULL GROUP BY entity, entity_id, field;

CREATE VIEW _rhtmx_sync_marking_marks AS
SELECT entity, entity_id, field, mark FROM _rhtmx_sync_marking_counters WHERE mark IS NOT NULL
UNION ALL
SELECT entity, entity_id, field, mark FROM _rhtmx_sync_marking_sets WHERE mark IS NOT NULL;

-- The members of `fields` in the metadata of each entry.
CREATE VIEW _rhtmx_sync_marking_members AS
SELECT entity, entity_id, json_quote(field) || ':' || mark AS member FROM _rhtmx_sync_marking_marks
UNION ALL
SELECT f.entity, f.entity_id, json_quote(e.key) || ':' || CASE e.type WHEN 'object' THEN e.value ELSE json_quote(e.value) END
FROM _rhtmx_sync_field AS f, json_each(CASE WHEN json_valid(f.metadata) THEN f.metadata ELSE '{}' END, '$.fields') AS e
WHERE typeof(e.key) = 'text' AND e.key NOT IN (
    SELECT m.field FROM _rhtmx_sync_marking_marks AS m WHERE m.entity = f.entity AND m.entity_id = f.entity_id);
