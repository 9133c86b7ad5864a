//! All subscriptions of a client, changed only by the server's frames.
//!
//! It has no transport and no clock, so that the rules can be tested on their own.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use uuid::Uuid;

use super::frame::{Fields, Violation, rule};
use super::options::SubscriptionId;
use super::pushes::Pushes;
use super::subscription::{SavedSubscription, Subscription};

const PROTOCOL_VERSION: u64 = 1;

const ERROR_CODES: [&str; 10] = [
    "protocol",
    "unauthenticated",
    "forbidden",
    "unknown_entity",
    "bad_filter",
    "too_many_subscriptions",
    "rate_limited",
    "too_large",
    "unavailable",
    "internal",
];

/// What a client keeps between two connections, as it would on disk.
#[derive(Clone, Debug)]
pub struct ClientState {
    /// The client id.
    pub client_id: Uuid,
    /// Its subscriptions with their rows.
    pub subscriptions: BTreeMap<SubscriptionId, SavedSubscription>,
    /// The highest mutation that was answered.
    pub last_mutation: u64,
    /// The writes of mutations without an answer.
    pub unanswered: BTreeMap<u64, Value>,
}

#[derive(Debug)]
pub(super) struct Replica {
    client_id: Uuid,
    client_id_shared: bool,
    pub(super) welcome: Option<Value>,
    pub(super) subscriptions: BTreeMap<SubscriptionId, Subscription>,
    pub(super) pushes: Pushes,
    pub(super) frames: BTreeMap<String, u64>,
    pub(super) conflicts: Vec<Value>,
    pub(super) errors: Vec<Value>,
    /// Ended subscriptions; frames for them that were already on their way are no violation.
    retired: BTreeSet<SubscriptionId>,
    retired_shapes: BTreeSet<String>,
    ended: bool,
}

impl Replica {
    pub(super) fn new(client_id: Uuid, client_id_shared: bool) -> Self {
        Self {
            client_id,
            client_id_shared,
            welcome: None,
            subscriptions: BTreeMap::new(),
            pushes: Pushes::default(),
            frames: BTreeMap::new(),
            conflicts: Vec::new(),
            errors: Vec::new(),
            retired: BTreeSet::new(),
            retired_shapes: BTreeSet::new(),
            ended: false,
        }
    }

    pub(super) fn restore(state: &ClientState, client_id_shared: bool) -> Self {
        let mut replica = Self::new(state.client_id, client_id_shared);
        replica.pushes.last_mutation = state.last_mutation;
        replica.pushes.unanswered = state.unanswered.clone();
        replica.subscriptions = state
            .subscriptions
            .iter()
            .map(|(id, saved)| (id.clone(), Subscription::restore(saved.clone())))
            .collect();
        replica
    }

    pub(super) fn save(&self) -> ClientState {
        ClientState {
            client_id: self.client_id,
            subscriptions: self
                .subscriptions
                .iter()
                .map(|(id, live)| (id.clone(), live.save()))
                .collect(),
            last_mutation: self.pushes.last_mutation,
            unanswered: self.pushes.unanswered.clone(),
        }
    }

    /// The resume point that all live subscriptions share; none if they differ or none is live.
    pub(super) fn cursor(&self) -> Option<&str> {
        let mut live = self.live().map(|subscription| subscription.cursor());
        let first = live.next()??;
        live.all(|cursor| cursor == Some(first)).then_some(first)
    }

    /// Whether an id has been used on this connection. An id means one subscription for the whole connection;
    /// otherwise a late frame could be taken for another's.
    pub(super) fn is_used(&self, id: &SubscriptionId) -> bool {
        self.retired.contains(id) || self.subscriptions.contains_key(id)
    }

    /// Records a frame that the client is about to send.
    pub(super) fn send(&mut self, frame: &Value) {
        match frame["type"].as_str() {
            Some("subscribe") => self.subscribe(frame),
            Some("unsubscribe") => {
                if let Some(id) = SubscriptionId::from_json(&frame["id"]) {
                    let removed = self.subscriptions.remove(&id);
                    self.retired_shapes
                        .extend(removed.and_then(|subscription| subscription.shape));
                    self.retired.insert(id);
                }
            }
            Some("push") => {
                if let Some(mutation) = frame["mutation"].as_u64() {
                    self.pushes.send(mutation, &frame["writes"]);
                }
            }
            _ => {}
        }
    }

    fn subscribe(&mut self, frame: &Value) {
        let Some(id) = SubscriptionId::from_json(&frame["id"]).filter(|id| !self.is_used(id))
        else {
            return;
        };
        let mut request = frame.clone();
        let cursor = request.as_object_mut().and_then(|fields| {
            fields.remove("id");
            fields.remove("cursor")
        });
        let subscription = match cursor.as_ref().and_then(Value::as_str) {
            Some(cursor) => Subscription::resumed(request, cursor.to_owned()),
            None => Subscription::new(request),
        };
        self.subscriptions.insert(id, subscription);
    }

    pub(super) fn receive(&mut self, value: &Value) -> Result<(), Violation> {
        self.frame(value)
            .map_err(|violation| Violation(format!("{}\nin: {value}", violation.0)))
    }

    fn frame(&mut self, value: &Value) -> Result<(), Violation> {
        let frame = Fields::of(value)?;
        let kind = frame.text("type")?;
        *self.frames.entry(kind.to_owned()).or_default() += 1;
        rule!(!self.ended, "a frame after a fatal error");
        rule!(
            (kind == "welcome") != self.welcome.is_some() || kind == "error",
            "`welcome` comes first, and once"
        );
        match kind {
            "welcome" => self.welcome(value, frame),
            "snapshot" => self.addressed(frame, |subscription| subscription.snapshot(frame)),
            "subscribed" => self.subscribed(frame),
            "refetch" => self.addressed(frame, |subscription| subscription.refetch(frame)),
            "changes" => self.changes(frame),
            "cursor" => self.commit(frame),
            "ack" => self.pushes.ack(frame),
            "reject" => self.pushes.reject(frame),
            "conflict" => self.conflict(value, frame),
            "authenticated" => frame.value("user").map(drop),
            "error" => self.error(value, frame),
            "pong" => Ok(()),
            other => Err(Violation(format!("an unknown type `{other}`"))),
        }
    }

    fn welcome(&mut self, value: &Value, frame: Fields<'_>) -> Result<(), Violation> {
        let protocol = frame.number("protocol")?;
        rule!(
            protocol == PROTOCOL_VERSION,
            "the server speaks version {protocol}"
        );
        frame.text("session_id")?;
        frame.text("epoch")?;
        frame.number("heartbeat_ms")?;
        let limits = Fields::of(frame.value("limits")?)?;
        for limit in ["frame_bytes_max", "subscriptions_max", "writes_max"] {
            limits.number(limit)?;
        }
        self.pushes.welcome(frame.number("last_mutation")?)?;
        self.welcome = Some(value.clone());
        Ok(())
    }

    fn subscribed(&mut self, frame: Fields<'_>) -> Result<(), Violation> {
        // The client unsubscribed while this was on its way; changes of the shape may be on their way too.
        let id = SubscriptionId::from_json(frame.value("id")?);
        if id.is_some_and(|id| self.retired.contains(&id)) {
            self.retired_shapes.insert(frame.text("shape")?.to_owned());
        }
        self.addressed(frame, |subscription| subscription.subscribed(frame))
    }

    fn changes(&mut self, frame: Fields<'_>) -> Result<(), Violation> {
        let changes = frame.list("changes")?;
        if frame.optional("id").is_some() {
            rule!(
                frame.optional("shape").is_none(),
                "`changes` has both an `id` and a `shape`"
            );
            return self.addressed(frame, |subscription| subscription.catch_up(changes));
        }
        let shape = frame.text("shape")?;
        let mut found = self.retired_shapes.contains(shape);
        for subscription in self.subscriptions.values_mut() {
            if subscription.is_live() && subscription.shape() == Some(shape) {
                subscription.hold(changes)?;
                found = true;
            }
        }
        rule!(
            found,
            "changes of the shape {shape}, which no live subscription has"
        );
        Ok(())
    }

    fn commit(&mut self, frame: Fields<'_>) -> Result<(), Violation> {
        let cursor = frame.text("cursor")?;
        if !self.client_id_shared {
            let held = self.live().flat_map(Subscription::held);
            held.filter_map(|change| self.own_mutation(change))
                .try_for_each(|mutation| self.pushes.visible(mutation))?;
        }
        self.subscriptions
            .values_mut()
            .filter(|subscription| subscription.is_live())
            .try_for_each(|subscription| subscription.commit(cursor))
    }

    fn conflict(&mut self, value: &Value, frame: Fields<'_>) -> Result<(), Violation> {
        for name in ["entity", "key", "field", "strategy"] {
            frame.text(name)?;
        }
        let sides = [frame.optional("kept"), Some(frame.value("lost")?)];
        for side in sides.into_iter().flatten() {
            let side = Fields::of(side)?;
            side.value("value")?;
            side.text("hlc")?;
        }
        self.conflicts.push(value.clone());
        Ok(())
    }

    fn error(&mut self, value: &Value, frame: Fields<'_>) -> Result<(), Violation> {
        let code = frame.text("code")?;
        frame.text("message")?;
        rule!(
            ERROR_CODES.contains(&code),
            "an unknown error code `{code}`"
        );
        self.ended = frame.boolean("fatal")?;
        self.errors.push(value.clone());
        // An unknown id comes from a frame that the test wrote by hand.
        let id = frame.optional("id").and_then(SubscriptionId::from_json);
        // While rows cannot be read, the server keeps trying.
        if let Some(subscription) = id.and_then(|id| self.subscriptions.get_mut(&id))
            && code != "unavailable"
        {
            subscription.refuse(code);
        }
        Ok(())
    }

    fn addressed(
        &mut self,
        frame: Fields<'_>,
        act: impl FnOnce(&mut Subscription) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        let id = SubscriptionId::from_json(frame.value("id")?);
        let Some(id) = id else {
            return Err(Violation("`id` is not an id of this client".to_owned()));
        };
        match self.subscriptions.get_mut(&id) {
            Some(subscription) => act(subscription),
            None if self.retired.contains(&id) => Ok(()),
            None => Err(Violation(format!("no subscription has the id {id}"))),
        }
    }

    /// The number of the client's own mutation that made a change, if one did.
    fn own_mutation(&self, change: &Value) -> Option<u64> {
        let own = change["client_id"].as_str() == Some(self.client_id.to_string().as_str());
        own.then(|| change["mutation"].as_u64()).flatten()
    }

    fn live(&self) -> impl Iterator<Item = &Subscription> {
        self.subscriptions
            .values()
            .filter(|subscription| subscription.is_live())
    }
}
