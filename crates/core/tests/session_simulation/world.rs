//! The world of a seed: who takes part in it, what may happen, and how it comes to rest.

use std::collections::BTreeMap;
use std::fmt;

use rhtmx_sync_core::session::BACKLOG_BATCHES_MAX;
use rhtmx_sync_core::snapshot::Xid;

use crate::client::Client;
use crate::database::{Database, ENTITIES, Numbering};
use crate::engine::Connection;
use crate::hub::Hub;
use crate::random::Random;
use crate::shapes::{Selection, Shapes};

pub(crate) const EPOCH: &str = "here";

/// A rule that may be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// At a `cursor` frame the copy equals the table (P3).
    Cursor,
    /// At `subscribed` too (P4).
    Subscribed,
    /// A client resumes with the copy that its cursor stands for.
    Resume,
    /// Answers arrive in order, each ack with a `cursor` frame that contains the mutation (P6).
    Ack,
    /// No change is sent twice.
    Repeat,
    /// Nothing stays outstanding.
    Stall,
    /// Frames arrive where the protocol allows them.
    Protocol,
    /// Commands can be executed.
    Commands,
}

#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) rule: Rule,
    text: String,
}

impl Failure {
    pub(crate) fn new(rule: Rule, text: String) -> Self {
        Self { rule, text }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.text)
    }
}

pub(crate) type Checked = Result<(), Failure>;

/// A fault of an engine or a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    AttachesAfterRead,
    DropsBacklog,
    IgnoresSince,
    DropsTransients,
    CatchesUpWithoutTransients,
    RepeatsWithoutTransients,
    RejoinsAfterCatchUp,
    SendsCursorForEachBatch,
    ForgetsAwaits,
    AcksAtOnce,
    HoldsNothingBack,
    KeepsHeldChangesOverRefetch,
    SendsNoLeaves,
    KeepsTheOldShape,
    ReadsStaleShapes,
}

/// How often each event happened, so that a test can see that it did.
pub(crate) type Tally = BTreeMap<&'static str, usize>;

/// What all actors of a world share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) database: Database,
    pub(crate) hub: Hub,
    pub(crate) shapes: Shapes,
    pub(crate) random: Random,
    pub(crate) fault: Option<Fault>,
    /// How often a client pushes when it does something.
    pub(crate) pushes_percent: usize,
    /// The selections of subscriptions.
    pub(crate) selections: &'static [Selection],
    /// Whether the commands that follow from a resolved shape precede the session's other commands.
    pub(crate) resolves_first: bool,
    /// How often a step of a read fails.
    pub(crate) failures_percent: usize,
    /// Whether a resume sends transient changes; it may, and need not.
    pub(crate) resumes_with_transients: bool,
    /// How often a catch-up reads the next shape at a snapshot of its own.
    pub(crate) apart_percent: usize,
    pub(crate) tally: Tally,
    /// What happened, when it is wanted.
    pub(crate) trace: Option<Vec<String>>,
}

impl Shared {
    pub(crate) fn count(&mut self, event: &'static str) {
        *self.tally.entry(event).or_default() += 1;
    }

    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(line());
        }
    }
}

/// What may happen next.
#[derive(Debug, Clone, Copy)]
enum Event {
    Transaction,
    Drain,
    Receive,
    Batch,
    Read,
    CatchUp,
    Apply,
    Frame,
    Act,
    Connect,
    Prune,
    Heartbeat,
    Storm,
}

/// Each event with the weights that it may have in a world.
const EVENTS: [(Event, [usize; 4]); 12] = [
    (Event::Transaction, [5, 20, 40, 80]),
    (Event::Drain, [1, 3, 10, 40]),
    (Event::Receive, [10, 20, 40, 80]),
    (Event::Batch, [1, 5, 20, 60]),
    (Event::Read, [2, 5, 20, 60]),
    (Event::CatchUp, [2, 10, 30, 60]),
    (Event::Apply, [5, 20, 40, 80]),
    (Event::Frame, [10, 20, 40, 80]),
    (Event::Act, [2, 5, 10, 20]),
    (Event::Connect, [0, 1, 2, 6]),
    (Event::Prune, [0, 0, 1, 2]),
    (Event::Heartbeat, [0, 0, 2, 4]),
];

pub(crate) struct World {
    shared: Shared,
    clients: Vec<Client>,
    connections: Vec<Option<Connection>>,
    weights: Vec<(Event, usize)>,
}

impl World {
    pub(crate) fn new(seed: u64, fault: Option<Fault>, traced: bool) -> Self {
        let mut random = Random::new(seed);
        let numbering = random.pick(&[
            Numbering::Snapshots,
            Numbering::Snapshots,
            Numbering::LogIds,
        ]);
        let entities = 1 + random.below(ENTITIES.len());
        let schema_changes_percent = random.pick(&[0, 1, 3, 10]);
        let mut database = Database::new(numbering, entities, schema_changes_percent);
        let clients = random.pick(&[1, 1, 2, 3]);
        let hub = Hub::new(database.now(), clients, &mut random);
        let mut weights = EVENTS
            .map(|(event, weights)| (event, random.pick(&weights)))
            .to_vec();
        // A storm is expensive, so it happens in few worlds, and once.
        if random.percent(1) {
            weights.push((Event::Storm, 5));
        }
        let pushes_percent = random.pick(&[5, 20, 50]);
        // In worlds with few selections more subscriptions share a shape.
        let selections = random.pick(&[
            &[Selection::Everything][..],
            &[Selection::One, Selection::NamesOfOne],
            &[Selection::Columns, Selection::Everything],
            &Selection::ALL,
            &Selection::ALL,
        ]);
        let resolves_first = random.percent(50);
        let failures_percent = random.pick(&[0, 0, 5, 30]);
        let resumes_with_transients = random.percent(50);
        let apart_percent = random.pick(&[0, 0, 20, 60]);
        let trace = traced.then(Vec::new);
        Self {
            shared: Shared {
                database,
                hub,
                shapes: Shapes::default(),
                random,
                fault,
                pushes_percent,
                selections,
                resolves_first,
                failures_percent,
                resumes_with_transients,
                apart_percent,
                tally: Tally::new(),
                trace,
            },
            clients: (0..clients).map(Client::new).collect(),
            connections: (0..clients).map(|_| None).collect(),
            weights,
        }
    }

    /// Lets this number of events happen, then lets everything come to rest.
    pub(crate) fn run(&mut self, events: usize) -> Checked {
        for client in 0..self.clients.len() {
            self.connect(client)?;
        }
        for _ in 0..events {
            // Many of the events that are drawn are not possible at the moment.
            for _ in 0..20 {
                let event = self.draw();
                if self.happen(event)? {
                    break;
                }
            }
        }
        self.come_to_rest()
    }

    fn draw(&mut self) -> Event {
        let total = self.weights.iter().map(|(_, weight)| weight).sum();
        let mut drawn = self.shared.random.below(total);
        for (event, weight) in &self.weights {
            if drawn < *weight {
                return *event;
            }
            drawn -= weight;
        }
        unreachable!("the weights add up to the total")
    }

    pub(crate) fn tally(&self) -> &Tally {
        &self.shared.tally
    }

    pub(crate) fn trace(&mut self) -> Vec<String> {
        self.shared.trace.take().unwrap_or_default()
    }

    /// Lets an event happen, and returns whether it was possible.
    fn happen(&mut self, event: Event) -> Result<bool, Failure> {
        let client = self.shared.random.below(self.clients.len());
        match event {
            Event::Transaction => self.step_transaction(),
            Event::Drain => return Ok(self.drain()),
            Event::Prune => {
                self.shared.database.prune(&mut self.shared.random);
                let floor = self.shared.database.floor().clone();
                self.shared.note(|| format!("the log begins at {floor}"));
            }
            Event::Heartbeat => self.shared.hub.heartbeat(),
            Event::Storm => return self.storm(client),
            Event::Connect => {
                if let Some(connection) = self.connections[client].take() {
                    self.shared
                        .note(|| format!("client {client} loses its connection"));
                    connection.close(&mut self.shared);
                } else {
                    self.connect(client)?;
                }
            }
            Event::Act => {
                let Some(connection) = &mut self.connections[client] else {
                    return Ok(false);
                };
                let message = self.clients[client].act(&mut self.shared);
                connection.inbox.push_back(message);
            }
            Event::Frame => return self.take_frame(client),
            Event::Receive | Event::Batch | Event::Read | Event::CatchUp | Event::Apply => {
                return self.serve(client, event);
            }
        }
        Ok(true)
    }

    fn serve(&mut self, client: usize, event: Event) -> Result<bool, Failure> {
        let Some(connection) = &mut self.connections[client] else {
            return Ok(false);
        };
        match event {
            Event::Receive => connection.receive(&mut self.shared),
            Event::Batch => connection.take_batch(&mut self.shared),
            Event::Read => connection.step_read(&mut self.shared),
            Event::CatchUp => connection.step_catch_up(&mut self.shared),
            _ => connection.step_apply(&mut self.shared),
        }
    }

    fn take_frame(&mut self, client: usize) -> Result<bool, Failure> {
        let Some(connection) = &mut self.connections[client] else {
            return Ok(false);
        };
        let Some(frame) = connection.outbox.pop_front() else {
            return Ok(false);
        };
        self.clients[client].take(frame, &mut self.shared)?;
        Ok(true)
    }

    fn connect(&mut self, client: usize) -> Checked {
        self.shared.note(|| format!("client {client} connects"));
        let messages = self.clients[client].connect(&mut self.shared)?;
        let mut connection = Connection::open(client, &mut self.shared);
        connection.inbox = messages;
        self.connections[client] = Some(connection);
        Ok(())
    }

    fn drain(&mut self) -> bool {
        let moved = self.shared.hub.drain(
            &mut self.shared.database,
            &self.shared.shapes,
            &mut self.shared.random,
        );
        let position = self.shared.hub.position().clone();
        self.shared.note(|| format!("the hub is at {position}"));
        moved
    }

    /// The running transactions that no session waits for.
    fn transactions(&self) -> Vec<Xid> {
        let own = self
            .connections
            .iter()
            .flatten()
            .filter_map(Connection::transaction);
        let own: Vec<_> = own.collect();
        let running = self.shared.database.running().iter().copied();
        running.filter(|xid| !own.contains(xid)).collect()
    }

    fn end_transactions(&mut self) {
        for xid in self.transactions() {
            self.shared.database.commit(xid);
        }
    }

    /// Lets another program begin a transaction, write, commit or roll back.
    fn step_transaction(&mut self) {
        let others = self.transactions();
        let Shared {
            database, random, ..
        } = &mut self.shared;
        if others.is_empty() || random.percent(20) {
            database.begin();
            return;
        }
        let xid = random.pick(&others);
        match random.below(100) {
            0..60 => database.write(xid, random),
            60..95 => {
                let commit_id = database.commit(xid);
                self.shared.note(|| format!("{commit_id:?} commits"));
            }
            _ => database.abort(xid),
        }
    }

    /// Commits changes to the entity of a read while the read stands still: about as many as the session
    /// keeps batches for.
    fn storm(&mut self, client: usize) -> Result<bool, Failure> {
        let reading = self.connections[client]
            .as_ref()
            .and_then(Connection::reading);
        let Some(entity) = reading else {
            return Ok(false);
        };
        self.end_transactions();
        if !self.shared.database.running().is_empty() {
            return Ok(false);
        }
        self.shared.count("storms");
        self.weights
            .retain(|(event, _)| !matches!(event, Event::Storm));
        for _ in 0..BACKLOG_BATCHES_MAX - 3 + self.shared.random.below(10) {
            let Shared {
                database,
                random,
                hub,
                shapes,
                ..
            } = &mut self.shared;
            let xid = database.begin().expect("nothing runs");
            database.put(xid, entity, random);
            database.commit(xid);
            while hub.drain(database, shapes, random) {}
            while self.serve(client, Event::Batch)? {}
            self.serve(client, Event::CatchUp)?;
            while self.take_frame(client)? {}
        }
        Ok(true)
    }

    /// Ends all other transactions; then nothing may stay outstanding, even without a heartbeat.
    fn come_to_rest(&mut self) -> Checked {
        self.shared
            .note(|| "nothing new happens from here on".to_owned());
        for client in 0..self.clients.len() {
            if self.connections[client].is_none() {
                self.connect(client)?;
            }
        }
        self.end_transactions();
        self.settle()?;
        self.check_at_rest()?;
        self.shared.hub.heartbeat();
        self.settle()?;
        self.check_at_rest()?;
        let position = self.shared.hub.position();
        if !self
            .clients
            .iter()
            .all(|client| client.has_reached(position))
        {
            let text = "a heartbeat did not bring the cursor up".to_owned();
            return Err(Failure::new(Rule::Stall, text));
        }
        Ok(())
    }

    fn settle(&mut self) -> Checked {
        for _ in 0..20_000 {
            let mut moved = self.drain();
            for client in 0..self.clients.len() {
                for event in [
                    Event::Receive,
                    Event::Batch,
                    Event::Read,
                    Event::CatchUp,
                    Event::Apply,
                ] {
                    moved |= self.serve(client, event)?;
                }
                moved |= self.take_frame(client)?;
            }
            if !moved {
                return Ok(());
            }
        }
        Err(Failure::new(
            Rule::Stall,
            "it never comes to rest".to_owned(),
        ))
    }

    fn check_at_rest(&mut self) -> Checked {
        let position = self.shared.hub.position().clone();
        if self.connections.iter().flatten().any(Connection::is_busy) {
            return Err(Failure::new(Rule::Stall, "a session is busy".to_owned()));
        }
        for (number, client) in self.clients.iter().enumerate() {
            client.check_at_rest(&position, &self.shared.database)?;
            let attached = self.shared.hub.attached(number);
            if self.shared.fault.is_none() && *attached != client.shapes() {
                let text = format!("{number} is attached to {attached:?}");
                return Err(Failure::new(Rule::Commands, text));
            }
        }
        Ok(())
    }
}
