//! One subscription's rows, and what the server may say of them in which phase.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::frame::{Fields, Violation, rule};
use super::rows::{Rows, Schema};

const REFETCH_REASONS: [&str; 4] = ["expired", "epoch", "schema", "permission"];

/// How far a subscription is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Before `subscribed`: what arrives is held back.
    Joining,
    /// `changes` arrive, and take effect at each `cursor`.
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
    schema: Option<Schema>,
    rows: Rows,
    /// Changes that wait for the next `cursor`, or for `subscribed`.
    held: Vec<Value>,
    join: Join,
    puts: BTreeMap<String, u64>,
}

/// What a client keeps of a subscription between two connections.
#[derive(Clone, Debug)]
pub struct SavedSubscription {
    /// The `subscribe` frame, without `id` and `cursor`.
    pub request: Value,
    /// Where to resume. Without it the subscription begins afresh.
    pub cursor: Option<String>,
    /// The rows, by key.
    pub rows: BTreeMap<String, Value>,
    /// The clocks of the rows' fields, by key, for field entities.
    pub clocks: BTreeMap<String, Value>,
}

/// The way from `subscribe` to `subscribed`.
#[derive(Clone, Debug, Default)]
struct Join {
    /// With a cursor: only the difference is sent, to rows that are here already.
    resuming: bool,
    /// The test resumed without handing over the rows, so changes may concern rows that are not
    /// here.
    without_rows: bool,
    /// The rows of the snapshot so far.
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
            schema: None,
            rows: Rows::default(),
            held: Vec::new(),
            join: Join::default(),
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
            clocks: saved.clocks,
        };
        Self {
            cursor: saved.cursor,
            rows,
            join,
            ..Self::new(saved.request)
        }
    }

    /// Only what a cursor vouches for is kept.
    pub(super) fn save(&self) -> SavedSubscription {
        let rows = if self.cursor.is_some() {
            self.rows.clone()
        } else {
            Rows::default()
        };
        SavedSubscription {
            request: self.request.clone(),
            cursor: self.cursor.clone(),
            rows: rows.rows,
            clocks: rows.clocks,
        }
    }

    /// The entity it subscribes to.
    pub fn entity(&self) -> &str {
        self.request["entity"].as_str().unwrap_or_default()
    }

    /// How far it is.
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
        self.schema.as_ref().map(|schema| &schema.0)
    }

    /// Where this subscription would resume.
    pub fn cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    /// The rows, by key, without what is still held back.
    pub fn rows(&self) -> &BTreeMap<String, Value> {
        &self.rows.rows
    }

    /// The clocks of the rows' fields, by key.
    pub fn clocks(&self) -> &BTreeMap<String, Value> {
        &self.rows.clocks
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

    /// Changes that are addressed to this subscription, before it is live.
    pub(super) fn catch_up(&mut self, changes: &[Value]) -> Result<(), Violation> {
        rule!(
            self.phase == Phase::Joining,
            "changes with an `id` for a subscription that is not joining"
        );
        rule!(self.join.more != Some(true), "changes amid a snapshot");
        // A later frame may name a row again: what changed while it was caught up.
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
            if fields.text("op")? == "put" {
                *self.puts.entry(fields.text("key")?.to_owned()).or_default() += 1;
            }
            self.held.push(change.clone());
        }
        Ok(())
    }

    pub(super) fn subscribed(&mut self, frame: Fields<'_>) -> Result<(), Violation> {
        rule!(
            self.phase == Phase::Joining,
            "`subscribed` for a subscription that is not joining"
        );
        rule!(self.join.more != Some(true), "`subscribed` amid a snapshot");
        self.schema = Some(Schema::read(frame.value("schema")?)?);
        self.shape = Some(frame.text("shape")?.to_owned());
        let cursor = frame.text("cursor")?;
        if !self.join.resuming {
            self.rows = std::mem::take(&mut self.join.snapshot);
        }
        self.commit(cursor)?;
        if let Some(schema) = self.schema.as_ref().filter(|_| !self.join.without_rows) {
            // Those kept from before a resume too: a changed schema asks for a refetch.
            self.rows
                .rows
                .iter()
                .try_for_each(|(key, row)| schema.check(key, row))?;
        }
        self.phase = Phase::Live;
        self.join = Join {
            without_rows: self.join.without_rows,
            ..Join::default()
        };
        Ok(())
    }

    /// Applies what was held back: the rows are now those of `cursor`.
    pub(super) fn commit(&mut self, cursor: &str) -> Result<(), Violation> {
        if let Some(schema) = &self.schema {
            for change in std::mem::take(&mut self.held) {
                self.rows
                    .apply(Fields::of(&change)?, schema, self.join.without_rows)?;
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
