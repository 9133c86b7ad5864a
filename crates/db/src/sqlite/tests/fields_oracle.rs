//! Random statements, each followed by a comparison of what the triggers keep with what merging makes of the same edits.

use std::collections::{BTreeMap, BTreeSet};

use diesel::connection::SimpleConnection as _;
use merge::{Clock, Deletes, Edit, Metadata, NodeId, Row, Rules, Site, Write};
use serde_json::{Map, Value, json};

use super::Synced;
use super::fields::{Kept, rules};

const TABLE: &str = "CREATE TABLE t (k TEXT COLLATE NOCASE PRIMARY KEY, a INT UNIQUE, b TEXT COLLATE NOCASE, c INT, \
    likes INT, best INT, tags JSON, UNIQUE (b, c))";
const AGAIN: &str = "CREATE TRIGGER again AFTER UPDATE OF c ON t WHEN NEW.c % 5 = 0 BEGIN UPDATE OR REPLACE t \
    SET a = a + 1 WHERE k = NEW.k; END";
const REGISTERS: [&str; 3] = ["a", "b", "c"];
/// Of these something is kept where other databases merge with this one.
const MARKED: [&str; 2] = ["likes", "tags"];

/// The table's rows and the entries, by key.
#[derive(Clone, Default)]
struct State {
    rows: BTreeMap<String, Value>,
    entries: BTreeMap<String, Kept>,
    /// With the database's name if others merge with it.
    site: Site,
}

impl State {
    async fn of(synced: &mut Synced, site: &Site) -> Self {
        let (_, rows) = synced.rows().await;
        let entries = synced.entries_of_fields().into_iter();
        Self {
            rows,
            entries: entries
                .map(|entry| (entry.entity_id.clone(), entry))
                .collect(),
            site: site.clone(),
        }
    }

    fn metadata(&self, key: &str) -> Metadata {
        self.entries.get(key).map(Kept::parsed).unwrap_or_default()
    }

    fn newest(&self, key: &str) -> Option<Clock> {
        let entry = self.entries.get(key)?;
        Some(Clock::read(&entry.newest).expect("a clock"))
    }

    fn image(&self, key: &str) -> Option<Value> {
        let image = self.entries.get(key)?.image.as_ref()?;
        Some(serde_json::from_str(image).expect("JSON"))
    }

    /// The row as it merges; none of one of which nothing was ever known.
    fn row(&self, key: &str, rules: &Rules) -> Option<Row> {
        let values = match (self.rows.get(key), self.image(key)) {
            (Some(row), image) => {
                assert_eq!(image, None, "a row that is there has no image");
                self.values(row)
            }
            (None, Some(image)) => self.values(&image),
            (None, None) if !self.entries.contains_key(key) => return None,
            (None, None) => Map::new(),
        };
        Some(Row::new(&self.metadata(key), &values, rules).expect("a row"))
    }

    /// The values of which something is kept.
    fn values(&self, row: &Value) -> Map<String, Value> {
        let marked = MARKED.iter().filter(|_| self.counts());
        let names = REGISTERS.iter().chain(marked);
        names
            .map(|name| ((*name).to_owned(), row[*name].clone()))
            .collect()
    }

    fn counts(&self) -> bool {
        self.site.counts_as.is_some()
    }

    /// The newest clock of what is kept of counters and sets.
    fn newest_mark(&self, key: &str) -> Option<Clock> {
        let metadata: Value = serde_json::from_str(&self.entries.get(key)?.metadata).expect("JSON");
        let mut waiting: Vec<&Value> = MARKED.map(|name| &metadata["fields"][name]).to_vec();
        let mut newest = None;
        while let Some(value) = waiting.pop() {
            match value {
                Value::Object(members) => waiting.extend(members.values()),
                Value::String(text) => newest = newest.max(Clock::read(text).ok()),
                _ => {}
            }
        }
        newest
    }
}

/// What a statement may do to the rows that it names.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// It leaves every row with its key where it is, or removes it.
    Edits,
    /// It may create rows with keys that others had.
    Creates,
}

/// One statement's step from one state to the next.
struct Step<'a> {
    before: &'a State,
    after: &'a State,
    rules: &'a Rules,
    kind: Kind,
    /// Whether a trigger of the user's changes rows once more.
    has_trigger: bool,
    sql: &'a str,
}

impl Step<'_> {
    fn check(&self) {
        let keys: BTreeSet<&String> = self
            .before
            .rows
            .keys()
            .chain(self.after.rows.keys())
            .collect();
        let entries = self.before.entries.keys().chain(self.after.entries.keys());
        for key in keys.into_iter().chain(entries) {
            self.check_entry(key);
            self.check_row(key);
        }
    }

    fn check_entry(&self, key: &str) {
        let is_there = self.after.rows.contains_key(key);
        let Some(entry) = self.after.entries.get(key) else {
            let was_there =
                self.before.rows.contains_key(key) || self.before.entries.contains_key(key);
            assert!(
                is_there || !was_there,
                "{}: no tombstone of {key}",
                self.sql
            );
            return;
        };
        let row = self.after.row(key, self.rules).expect("an entry");
        assert_eq!(
            row.is_alive(self.rules),
            is_there,
            "{}: {key} {entry:?}",
            self.sql
        );
        let metadata = entry.parsed();
        let newest = metadata.newest().map(Clock::as_str);
        // What is added has no clock of its own.
        let fits =
            newest == Some(&*entry.newest) || self.after.counts() && newest < Some(&*entry.newest);
        assert!(fits, "{}: {key} {entry:?}", self.sql);
    }

    fn check_row(&self, key: &str) {
        let (was, is) = (self.before.rows.get(key), self.after.rows.get(key));
        let (before, after) = (
            self.before.row(key, self.rules),
            self.after.row(key, self.rules),
        );
        let (older, newer) = (self.before.entries.get(key), self.after.entries.get(key));
        match (was, is) {
            // Maybe it was there meanwhile.
            (None, None) => assert!(
                older == newer || self.kind == Kind::Creates,
                "{}: {key}",
                self.sql
            ),
            (None, Some(_)) if before.is_none() => {
                assert_eq!(newer, None, "{}: {key} is new", self.sql)
            }
            // It was replaced by one that was replaced by another.
            (Some(_), None) if born(&before) != born(&after) => {
                assert_eq!(self.kind, Kind::Creates, "{}: {key}", self.sql);
                assert!(
                    before.as_ref().and_then(Row::newest) < born(&after),
                    "{}: {key}",
                    self.sql
                );
            }
            (Some(old), None) => {
                let image = self.after.image(key).unwrap_or_else(|| old.clone());
                // A statement may change a row before it replaces it by another that it changes.
                let row = self.updated(key, (old, &image));
                self.check_write(key, Some(row), &Edit::Delete);
            }
            (None, Some(row)) => {
                self.check_write(key, before, &Edit::Create(self.after.values(row)));
            }
            (Some(_), Some(row)) if born(&before) != born(&after) => {
                assert_eq!(self.kind, Kind::Creates, "{}: {key}", self.sql);
                self.check_write(key, before, &Edit::Create(self.after.values(row)));
            }
            (Some(old), Some(row)) => {
                let is_same = match self.rules.deletes {
                    Deletes::Win => self.after.values(old) == self.after.values(row),
                    Deletes::Revive => old == row,
                };
                if is_same && !self.has_trigger {
                    assert_eq!(older, newer, "{}: {key} is as it was", self.sql);
                }
                self.check_update(key, (old, row));
            }
        }
    }

    /// The row is what a write makes of an earlier one, all of whose clocks are below.
    fn check_write(&self, key: &str, before: Option<Row>, edit: &Edit) {
        let newest = self.after.newest(key);
        let clock = newest.unwrap_or_else(|| panic!("{}: nothing is known of {key}", self.sql));
        let is_above = before.as_ref().and_then(Row::newest) < Some(&clock);
        assert!(is_above, "{}: {key} {clock:?}", self.sql);
        let row = self.written(before.as_ref(), &clock, edit);
        assert_eq!(
            Some(row),
            self.after.row(key, self.rules),
            "{}: {key}",
            self.sql
        );
    }

    fn check_update(&self, key: &str, (old, now): (&Value, &Value)) {
        let mut row = self.updated(key, (old, now));
        let (older, newer) = (self.before.entries.get(key), self.after.entries.get(key));
        // An edit of no register is one, too.
        let has_stamped = Some(&row) != self.before.row(key, self.rules).as_ref();
        if old != now && !has_stamped && self.rules.deletes == Deletes::Revive {
            let newest = self.after.newest(key).expect("an entry");
            row = self.written(Some(&row), &newest, &Edit::Update(Map::new()));
        }
        assert_eq!(
            Some(row),
            self.after.row(key, self.rules),
            "{}: {key}: {older:?} {newer:?} {old} {now}",
            self.sql
        );
    }

    /// What writes of the columns make of the row whose values have changed. No other has a new clock.
    fn updated(&self, key: &str, (old, now): (&Value, &Value)) -> Row {
        let before = self.before.row(key, self.rules).expect("a row");
        let after = self.after.row(key, self.rules).expect("a row");
        let mut writes = Vec::new();
        for name in REGISTERS {
            let Some(clock) = after.clock(name) else {
                // Nothing is kept of the fields of a row that is gone for good.
                continue;
            };
            let has_changed = old[name] != now[name];
            let is_newer = before.clock(name) != Some(clock);
            // The trigger may change it back.
            let fits = has_changed == is_newer || self.has_trigger && name == "a" && is_newer;
            assert!(fits, "{}: {key} {name}", self.sql);
            if is_newer {
                let value = Map::from_iter([(name.to_owned(), now[name].clone())]);
                writes.push((clock.clone(), Edit::Update(value)));
            }
        }
        let marked = self.marked((old, now));
        if !marked.is_empty() && after.is_alive(self.rules) {
            let marked_at = self.after.newest_mark(key);
            let marked_at = marked_at.filter(|at| Some(at) > self.before.newest(key).as_ref());
            let clock = marked_at.or(self.after.newest(key));
            writes.push((clock.expect("an entry"), Edit::Update(marked)));
        }
        writes.sort_by(|one, two| one.0.cmp(&two.0));
        let above = self.before.newest(key);
        let mut row = before;
        for (clock, edit) in writes {
            assert!(above.as_ref() < Some(&clock), "{}: {key}", self.sql);
            row = self.written(Some(&row), &clock, &edit);
        }
        row
    }

    /// What was done to counters and sets.
    fn marked(&self, (old, now): (&Value, &Value)) -> Map<String, Value> {
        let mut marked = Map::new();
        for name in MARKED.iter().filter(|_| self.after.counts()) {
            let (was, is) = (&old[*name], &now[*name]);
            if was == is {
                continue;
            }
            let value = match (was.as_i64(), is.as_i64()) {
                (Some(was), Some(is)) => json!({ "add": is - was }),
                _ => is.clone(),
            };
            marked.insert((*name).to_owned(), value);
        }
        marked
    }

    fn written(&self, row: Option<&Row>, clock: &Clock, edit: &Edit) -> Row {
        let write = Write {
            clock: clock.clone(),
            born: row.and_then(Row::born).cloned(),
            seen: None,
            edit: edit.clone(),
        };
        let written = write.apply(row, self.rules, &self.after.site);
        written.expect("a write").row
    }
}

fn born(row: &Option<Row>) -> Option<&Clock> {
    row.as_ref().and_then(Row::born)
}

struct Dice(u64);

impl Dice {
    fn draw(&mut self, below: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }

    fn of<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[usize::try_from(self.draw(from.len() as u64)).expect("small")]
    }

    fn statement(&mut self) -> (Kind, String) {
        let key = self.of(&["a", "A", "b", "B", "c", "d"]);
        let (a, b, c) = (self.draw(5), self.of(&["x", "X", "y"]), self.draw(7));
        let (likes, best) = (self.of(&["0", "1", "7", "NULL"]), self.draw(3));
        let tags = self.of(&["[]", "[\"x\"]", "[\"x\", 1.50]", "[\"y\\\"\", true, \"x\"]"]);
        let or = self.of(&["OR REPLACE", "", "OR IGNORE", "OR FAIL", "OR REPLACE"]);
        let values = format!("('{key}', {a}, '{b}', {c}, {likes}, {best}, '{tags}')");
        match self.draw(9) {
            0 | 1 => (Kind::Creates, format!("INSERT {or} INTO t VALUES {values}")),
            2 => (
                Kind::Creates,
                format!(
                    "INSERT {or} INTO t SELECT k || 'z', a + 1, b, c + 1, likes, best, tags FROM t WHERE length(k) < 3 UNION ALL VALUES {values}"
                ),
            ),
            3 => (
                Kind::Edits,
                format!("UPDATE {or} t SET a = {a}, c = {c} WHERE k <> '{key}'"),
            ),
            4 => (
                Kind::Creates,
                format!("UPDATE {or} t SET k = '{key}', b = '{b}' WHERE a = {a}"),
            ),
            5 => (
                Kind::Edits,
                format!(
                    "INSERT INTO t VALUES {values} ON CONFLICT (k) DO UPDATE SET a = {a}, likes = {likes}, b = '{b}', tags = '{tags}'"
                ),
            ),
            6 => (
                Kind::Edits,
                format!(
                    "UPDATE t SET likes = {likes}, best = {best}, tags = '{tags}' WHERE c <> {c}"
                ),
            ),
            7 => (
                Kind::Edits,
                format!("INSERT INTO t VALUES {values} ON CONFLICT DO NOTHING"),
            ),
            _ => (
                Kind::Edits,
                format!("DELETE FROM t WHERE a = {a} OR b = '{b}' AND c < 3"),
            ),
        }
    }
}

/// A client from a place where it is later.
fn hurry(synced: &mut Synced, state: &State, dice: &mut Dice) {
    let newest = state
        .entries
        .values()
        .map(|entry| entry.newest.as_str())
        .max();
    let millis = newest
        .and_then(|newest| Clock::read(newest).ok())
        .map_or(0, |clock| clock.millis());
    let node = merge::NodeId::new("client").expect("a node");
    let late = Clock::new(
        millis + 100_000_999,
        0xFFFD + u16::try_from(dice.draw(3)).expect("small"),
        &node,
    );
    synced.run(&format!(
        "UPDATE _rhtmx_sync_field SET newest = '{late}', metadata = json_set(metadata, '$.fields.a', '{late}') \
         WHERE entity_id IN (SELECT k FROM t WHERE a <> 0)",
        late = late.as_str()
    ));
}

async fn run(deletes: Deletes, tables: &str, settings: &str, has_peers: bool, seed: u64) {
    let rules = rules(deletes);
    let mut synced = Synced::with_fields(tables, "t", rules.clone()).await;
    synced.run(settings);
    let mut site = Site::default();
    if has_peers {
        synced.run("INSERT INTO _rhtmx_sync_peer VALUES ('other', 'e', '')");
        let node = synced.ask("SELECT node AS text FROM _rhtmx_sync_meta");
        site.counts_as = Some(NodeId::new(&node[0]).expect("a node"));
    }
    let mut dice = Dice(seed);
    let mut before = State::of(&mut synced, &site).await;
    let (mut born_again, mut revivable) = (0, 0);
    for _ in 0..150 {
        if dice.draw(20) == 0 {
            hurry(&mut synced, &before, &mut dice);
            before = State::of(&mut synced, &site).await;
        }
        let (kind, sql) = dice.statement();
        // Many fail, and are meant to.
        let done = synced.other.batch_execute(&sql);
        let after = State::of(&mut synced, &site).await;
        let step = Step {
            before: &before,
            after: &after,
            rules: &rules,
            kind,
            has_trigger: tables != TABLE,
            sql: &sql,
        };
        step.check();
        if let Some(values) = sql.strip_prefix("INSERT OR REPLACE INTO t VALUES ('") {
            let key = &values[..1];
            if done.is_ok() && before.rows.contains_key(key) && after.rows.contains_key(key) {
                let born =
                    |state: &State| state.row(key, &rules).and_then(|row| row.born().cloned());
                assert!(born(&after) > born(&before), "{sql}");
                born_again += 1;
            }
        }
        revivable += after
            .entries
            .values()
            .filter(|entry| entry.image.is_some())
            .count();
        before = after;
    }
    assert!(born_again > 1 && (revivable > 30) == (deletes == Deletes::Revive));
    synced.follow().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_statements_leave_what_merging_would() {
    for deletes in [Deletes::Win, Deletes::Revive] {
        for has_peers in [false, true] {
            run(deletes, TABLE, "", has_peers, 20_261_128).await;
            let recursive = "PRAGMA recursive_triggers = ON";
            run(deletes, TABLE, recursive, has_peers, 5).await;
        }
    }
}

/// With a trigger of the user's that changes rows beside.
#[tokio::test(flavor = "multi_thread")]
async fn random_statements_and_their_triggers_leave_what_merging_would() {
    for deletes in [Deletes::Win, Deletes::Revive] {
        run(deletes, &format!("{TABLE}; {AGAIN}"), "", false, 7).await;
    }
}
