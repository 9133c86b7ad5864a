//! One subscription: its rows, and which frames the server may send in which phase.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::frame::{Fields, Violation, rule};
use super::rows::{Absent, Rows, Schema, has_metadata};

const REFETCH_REASONS: [&str; 4] = ["expired", "epoch", "schema", "permission"];

/// The phase of a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Before `subscribed`: changes are held back.
    Joining,
    /// Changes take effect at each `cursor`.
    Live,
    /// The server answered with an `error` of this code.
    Refused(String),
}

/// A subscription and the client's copy of its rows.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// The `subscribe` frame, without `id` and `cursor`.
    pub(super) request: Value,
    pub(super) phase: Phase,
    pub(super) shape: Option<String>,
    pub(super) cursor: Option<String>,
    /// The shape for which the cursor was received.
    cursor_shape: Option<String>,
    schema: Option<Schema>,
    rows: Rows,
    /// Changes held back until the next `cursor`, or until `subscribed`.
    held: Vec<Value>,
    join: Join,
    /// No `cursor` has come since `subscribed`: the rows may be newer than the stream.
    is_ahead: bool,
    puts: BTreeMap<String, u64>,
}

/// What a client keeps of a subscription between two connections.
#[derive(Clone, Debug)]
pub struct SavedSubscription {
    /// The `subscribe` frame, without `id` and `cursor`.
    pub request: Value,
    /// Where to resume; without it, the subscription starts over.
    pub cursor: Option<String>,
    /// The shape for which the cursor was received.
    pub shape: Option<String>,
    /// The rows, by key.
    pub rows: BTreeMap<String, Value>,
    /// What is known of the rows beside their values, by key, with `mode: "fields"`.
    pub metadata: BTreeMap<String, Value>,
}

/// The state between `subscribe` and `subscribed`.
#[derive(Clone, Debug, Default)]
struct Join {
    /// The request has a cursor: the server sends only changes to rows that the client has.
    resuming: bool,
    /// The test resumed without the rows, so changes may concern rows that the client does not have.
    without_rows: bool,
    /// The rows of the `snapshot` frames so far.
    snapshot: Rows,
    /// `more` of the last `snapshot` frame.
    more: Option<bool>,
}

impl Subscription {
    pub(super) fn new(request: Value) -> Self {
        Self {
            request,
            phase: Phase::Joining,
            shape: None,
            cursor: None,
            cursor_shape: None,
            schema: None,
            rows: Rows::default(),
            held: Vec::new(),
            join: Join::default(),
            is_ahead: false,
            puts: BTreeMap::new(),
        }
    }

    /// Resumes at a cursor without rows.
    pub(super) fn resumed(request: Value, cursor: String) -> Self {
        let join = Join {
            resuming: true,
            without_rows: true,
            ..Join::default()
        };
        Self {
            cursor: Some(cursor),
            join,
            ..Self::new(request)
        }
    }

    pub(super) fn restore(saved: SavedSubscription) -> Self {
        let join = Join {
            resuming: saved.cursor.is_some(),
            ..Join::default()
        };
        let rows = Rows {
            rows: saved.rows,
            metadata: saved.metadata,
        };
        Self {
            cursor: saved.cursor,
            cursor_shape: saved.shape,
            rows,
            join,
            ..Self::new(saved.request)
        }
    }

    /// Keeps the rows only if there is a cursor for them.
    pub(super) fn save(&self) -> SavedSubscription {
        let rows = if self.cursor.is_some() {
            self.rows.clone()
        } else {
            Rows::default()
        };
        SavedSubscription {
            request: self.request.clone(),
            cursor: self.cursor.clone(),
            shape: self.cursor_shape.clone(),
            rows: rows.rows,
            metadata: rows.metadata,
        }
    }

    /// The entity that it subscribes to.
    pub fn entity(&self) -> &str {
        self.request["entity"].as_str().unwrap_or_default()
    }

    /// Its phase.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Whether it is live.
    pub fn is_live(&self) -> bool {
        self.phase == Phase::Live
    }

    /// The shape that `subscribed` named.
    pub fn shape(&self) -> Option<&str> {
        self.shape.as_deref()
    }

    /// The schema that `subscribed` carried.
    pub fn schema(&self) -> Option<&Value> {
        self.schema.as_ref().map(|schema| &schema.summary)
    }

    /// Where this subscription would resume.
    pub fn cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    /// The rows, by key, without changes that are still held back.
    pub fn rows(&self) -> &BTreeMap<String, Value> {
        &self.rows.rows
    }

    /// What is known of rows beside their values, by key: the members `born`, `died`, `base`, `edited` and `clocks`.
    pub fn metadata(&self) -> &BTreeMap<String, Value> {
        &self.rows.metadata
    }

    /// Whether it asks for what is known of rows beside their values.
    fn is_of_fields(&self) -> bool {
        self.request["mode"] == "fields"
    }

    /// How often each row was sent whole, in a snapshot or a `put`, on this connection.
    pub fn puts(&self) -> &BTreeMap<String, u64> {
        &self.puts
    }

    pub(super) fn reset_counters(&mut self) {
        self.puts.clear();
    }

    pub(super) fn held(&self) -> &[Value] {
        &self.held
    }

    pub(super) fn snapshot(&mut self, frame: Fields<'_>) -> Result<(), Violation> {
        rule!(
            self.phase == Phase::Joining,
            "a snapshot for a subscription that is not joining"
        );
        rule!(
            !self.join.resuming,
            "a snapshot answers a resume, without a refetch"
        );
        rule!(
            self.join.more != Some(false),
            "a snapshot page after the last"
        );
        rule!(self.held.is_empty(), "a snapshot page after changes");
        for entry in frame.list("rows")? {
            let entry = Fields::of(entry)?;
            let key = entry.text("key")?;
            self.check_mode(entry)?;
            Fields::of(entry.value("row")?)?;
            rule!(
                !self.join.snapshot.rows.contains_key(key),
                "the snapshot has the row {key} twice"
            );
            self.join.snapshot.put(key, entry)?;
            *self.puts.entry(key.to_owned()).or_default() += 1;
        }
        self.join.more = Some(frame.boolean("more")?);
        Ok(())
    }

    /// Takes changes addressed to this subscription, before it is live.
    pub(super) fn catch_up(&mut self, changes: &[Value]) -> Result<(), Violation> {
        rule!(
            self.phase == Phase::Joining,
            "changes with an `id` for a subscription that is not joining"
        );
        rule!(self.join.more != Some(true), "changes amid a snapshot");
        // A later frame may name a row again, if it changed during the catch-up.
        let mut changed = BTreeSet::new();
        for change in changes {
            let change = Fields::of(change)?;
            if change.text("op")? == "truncate" {
                changed.clear();
            } else {
                let key = change.text("key")?;
                rule!(
                    changed.insert(key),
                    "the row {key} comes twice in one frame of a resume"
                );
            }
        }
        self.hold(changes)
    }

    pub(super) fn hold(&mut self, changes: &[Value]) -> Result<(), Violation> {
        for change in changes {
            let fields = Fields::of(change)?;
            self.check_mode(fields)?;
            if fields.text("op")? == "put" {
                *self.puts.entry(fields.text("key")?.to_owned()).or_default() += 1;
            }
            self.held.push(change.clone());
        }
        Ok(())
    }

    /// Checks that nothing is said of a row beside its values where that was not asked for.
    fn check_mode(&self, entry: Fields<'_>) -> Result<(), Violation> {
        let is_patch = entry.optional_text("op")? == Some("patch");
        rule!(
            self.is_of_fields() || !(is_patch || has_metadata(entry)),
            "a patch or metadata for a subscription to rows"
        );
        Ok(())
    }

    pub(super) fn subscribed(&mut self, frame: Fields<'_>) -> Result<(), Violation> {
        rule!(
            self.phase == Phase::Joining,
            "`subscribed` for a subscription that is not joining"
        );
        rule!(self.join.more != Some(true), "`subscribed` amid a snapshot");
        let shape = frame.text("shape")?;
        rule!(
            frame.optional("rules").is_some() == self.is_of_fields(),
            "`rules` belong to subscriptions to fields"
        );
        self.schema = Some(Schema::read(frame.value("schema")?, shape)?);
        self.shape = Some(shape.to_owned());
        self.cursor_shape = self.shape.clone();
        let cursor = frame.text("cursor")?;
        if !self.join.resuming {
            self.rows = std::mem::take(&mut self.join.snapshot);
        }
        self.commit(cursor)?;
        if let Some(schema) = self.schema.as_ref().filter(|_| !self.join.without_rows) {
            // Rows from before a resume are checked too, because a schema change requires a refetch.
            self.rows
                .rows
                .iter()
                .try_for_each(|(key, row)| schema.check(key, row))?;
        }
        self.phase = Phase::Live;
        self.is_ahead = true;
        self.join = Join {
            without_rows: self.join.without_rows,
            ..Join::default()
        };
        Ok(())
    }

    /// Applies the changes that were held back, so that the rows are those of `cursor`.
    pub(super) fn commit(&mut self, cursor: &str) -> Result<(), Violation> {
        let absent = match (self.join.without_rows, std::mem::take(&mut self.is_ahead)) {
            (true, _) => Absent::Unknown,
            (false, true) => Absent::Nothing,
            (false, false) => Absent::Wrong,
        };
        if let Some(schema) = &self.schema {
            for change in std::mem::take(&mut self.held) {
                self.rows.apply(Fields::of(&change)?, schema, absent)?;
            }
        }
        self.cursor = Some(cursor.to_owned());
        Ok(())
    }

    pub(super) fn refetch(&mut self, frame: Fields<'_>) -> Result<(), Violation> {
        let reason = frame.text("reason")?;
        rule!(
            REFETCH_REASONS.contains(&reason),
            "an unknown refetch reason `{reason}`"
        );
        rule!(
            !matches!(self.phase, Phase::Refused(_)),
            "a refetch for a subscription that was refused"
        );
        let puts = std::mem::take(&mut self.puts);
        *self = Self {
            puts,
            ..Self::new(self.request.clone())
        };
        Ok(())
    }

    pub(super) fn refuse(&mut self, code: &str) {
        *self = Self {
            phase: Phase::Refused(code.to_owned()),
            ..Self::new(self.request.clone())
        };
    }
}
