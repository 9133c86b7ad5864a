//! A client with many subscriptions, and its copies at each of its cursors.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use sync_core::cursor::{Cursor, Position};
use testkit::{ClientOptions, ClientState, Http, Phase, Subscription, SubscriptionId, SyncClient};

use crate::filters::asking::encoded;
use crate::filters::random::Random;

/// A copy of a selection at a cursor.
#[derive(Debug)]
pub(crate) struct Instant {
    pub(crate) source: String,
    /// The subscription's id; none for a poller.
    pub(crate) id: Option<u64>,
    pub(crate) number: usize,
    pub(crate) position: Position,
    pub(crate) rows: BTreeMap<String, Value>,
}

fn position(cursor: &str) -> Position {
    cursor.parse::<Cursor>().expect("a cursor").position
}

/// A client over WebSockets. It subscribes to numbered selections and, as `marks`, to the sign to stop.
pub(crate) struct Subscriber {
    url: String,
    client: Option<SyncClient>,
    /// The number of each subscription's selection. Ids are never used again.
    numbers: BTreeMap<u64, usize>,
    next_id: u64,
    pub(crate) instants: Vec<Instant>,
    /// How often a subscription was told to start over.
    pub(crate) refetches: usize,
}

impl Subscriber {
    pub(crate) async fn new(url: String, options: ClientOptions) -> Self {
        let mut client = SyncClient::connect(&url, options).await;
        client.subscribe("marks", "marks").await;
        Self {
            url,
            client: Some(client),
            numbers: BTreeMap::new(),
            next_id: 0,
            instants: Vec::new(),
            refetches: 0,
        }
    }

    fn client(&mut self) -> &mut SyncClient {
        self.client.as_mut().expect("connected")
    }

    /// Subscribes with the fields of a selection's `subscribe` frame.
    pub(crate) async fn subscribe(&mut self, number: usize, frame: Value) {
        let id = self.next_id;
        self.next_id += 1;
        self.numbers.insert(id, number);
        self.client().subscribe_with(id, frame).await;
    }

    /// Ends a subscription, unless it is the last one.
    pub(crate) async fn unsubscribe(&mut self, random: &mut Random) {
        let ids: Vec<u64> = self.numbers.keys().copied().collect();
        if ids.len() > 1 {
            let id = *random.pick(&ids);
            self.numbers.remove(&id);
            self.client().unsubscribe(id).await;
        }
    }

    /// Applies the frames that arrive within a moment.
    pub(crate) async fn listen(&mut self, moment: Duration) {
        let until = tokio::time::Instant::now() + moment;
        while let Ok(frame) = tokio::time::timeout_at(until, self.client().next_frame()).await {
            self.take(&frame);
        }
    }

    /// Disconnects without a word; changes that no cursor has confirmed are lost.
    pub(crate) fn leave(&mut self) -> ClientState {
        self.client.take().expect("connected").into_state()
    }

    pub(crate) async fn come_back(&mut self, state: &ClientState, options: ClientOptions) {
        self.client = Some(SyncClient::reconnect(&self.url, options, state).await);
    }

    /// Applies frames until all subscriptions are live, so that the next change reaches all at once.
    pub(crate) async fn settle(&mut self) {
        while !self
            .client()
            .subscriptions()
            .values()
            .all(Subscription::is_live)
        {
            let frame = self.client().next_frame().await;
            self.take(&frame);
        }
    }

    /// Applies frames until the mark has arrived, and all subscriptions are live and at least as new.
    pub(crate) async fn catch_up(&mut self, mark: &str) {
        let mut marked = None;
        loop {
            let client = self.client();
            if marked.is_none() && client.row("marks", mark).is_some() {
                marked = client.subscription("marks").cursor().map(position);
            }
            let mut subscriptions = client.subscriptions().values();
            let is_there = |subscription: &Subscription| {
                let position = subscription
                    .cursor()
                    .filter(|_| subscription.is_live())
                    .map(position);
                position
                    .zip(marked.as_ref())
                    .is_some_and(|(position, marked)| position.covers(marked))
            };
            if subscriptions.all(is_there) {
                return;
            }
            let frame = client.next_frame().await;
            self.take(&frame);
        }
    }

    /// The newest copy of each subscription that it has.
    pub(crate) fn newest(&self) -> impl Iterator<Item = &Instant> {
        let newest = |id: &u64| {
            let mut instants = self.instants.iter();
            instants.rfind(|instant| instant.id == Some(*id))
        };
        self.numbers.keys().filter_map(newest)
    }

    /// Looks for another server when it comes back.
    pub(crate) fn move_to(&mut self, url: String) {
        self.url = url;
    }

    fn take(&mut self, frame: &Value) {
        self.refetches += usize::from(frame["type"] == "refetch");
        let id = match frame["type"].as_str() {
            Some("cursor") => None,
            Some("subscribed") => Some(frame["id"].clone()),
            _ => return,
        };
        let client = self.client.as_ref().expect("connected");
        for (name, subscription) in client.subscriptions() {
            let SubscriptionId::Number(name) = name else {
                continue;
            };
            assert!(
                !matches!(subscription.phase(), Phase::Refused(_)),
                "refused: {subscription:?}"
            );
            if !subscription.is_live() || id.as_ref().is_some_and(|id| id != name) {
                continue;
            }
            self.instants.push(Instant {
                source: format!("subscription {name} at `{}`", frame["type"]),
                id: Some(*name),
                number: self.numbers[name],
                position: position(subscription.cursor().expect("a cursor")),
                rows: subscription.rows().clone(),
            });
        }
    }
}

/// A client over plain HTTP that polls.
pub(crate) struct Poller {
    http: Http,
    number: usize,
    path: String,
    cursor: Option<String>,
    rows: BTreeMap<String, Value>,
    pub(crate) instants: Vec<Instant>,
    /// How often it was told to start over.
    pub(crate) refetches: usize,
}

impl Poller {
    /// Polls with the fields of a selection's `subscribe` frame.
    pub(crate) fn new(http: Http, number: usize, frame: &Value, limit: usize) -> Self {
        let entity = frame["entity"].as_str().expect("an entity");
        let mut path = format!("/api/sync/{entity}?limit={limit}");
        if let Some(filter) = frame["where"].as_str() {
            path.push_str(&format!("&where={}", encoded(filter)));
        }
        for name in ["params", "columns"] {
            if let Some(value) = frame.get(name) {
                path.push_str(&format!("&{name}={}", encoded(&value.to_string())));
            }
        }
        Self {
            http,
            number,
            path,
            cursor: None,
            rows: BTreeMap::new(),
            instants: Vec::new(),
            refetches: 0,
        }
    }

    /// The number of its selection.
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    /// Asks another server from now on.
    pub(crate) fn move_to(&mut self, http: Http) {
        self.http = http;
    }

    /// Polls once; returns whether more follows.
    pub(crate) async fn ask(&mut self) -> bool {
        let path = match &self.cursor {
            Some(cursor) => format!("{}&cursor={}", self.path, encoded(cursor)),
            None => self.path.clone(),
        };
        let reply = self.http.get(&path).await;
        if reply.status == 409 && self.cursor.is_some() {
            self.cursor = None;
            self.rows.clear();
            self.refetches += 1;
            return true;
        }
        assert_eq!(reply.status, 200, "{}", reply.text);
        let page = reply.json();
        let key = |item: &Value| item["key"].as_str().expect("a key").to_owned();
        for item in page["rows"].as_array().into_iter().flatten() {
            self.rows.insert(key(item), item["row"].clone());
        }
        for change in page["changes"].as_array().into_iter().flatten() {
            match change["op"].as_str() {
                Some("put") => drop(self.rows.insert(key(change), change["row"].clone())),
                Some("truncate") => self.rows.clear(),
                _ => drop(self.rows.remove(&key(change))),
            }
        }
        let cursor = page["cursor"].as_str().expect("a cursor");
        let more = page["more"] == true;
        // Rows of several pages are of several instants until their changes have been read: until then
        // there is a page token instead of a cursor.
        // The mark of a shape with policies may stand behind a cursor.
        let bare = match cursor.split_once(".~") {
            Some((bare, mark)) if !mark.contains('.') => bare,
            _ => cursor,
        };
        if let Some(cursor) = bare.parse::<Cursor>().ok().filter(|_| !more) {
            self.instants.push(Instant {
                source: "a poller".to_owned(),
                id: None,
                number: self.number,
                position: cursor.position,
                rows: self.rows.clone(),
            });
        }
        self.cursor = Some(cursor.to_owned());
        more
    }

    /// Polls until there are no more changes.
    pub(crate) async fn catch_up(&mut self) {
        while self.ask().await {}
        // The changes that happened while rows were read in pages.
        while self.ask().await {}
    }
}
