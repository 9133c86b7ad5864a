//! An engine: carries out what a session answers, as the documentation of the commands says.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use protocol::{
    Change, ErrorCode, RefetchReason, Reject, RejectCode, SelectionRequest, SubscriptionId,
};
use rhtmx_sync_core::cursor::Position;
use rhtmx_sync_core::effect::Effect;
use rhtmx_sync_core::mutation::Applied;
use rhtmx_sync_core::session::{
    Batch, Command, Frame as Outgoing, HubCommand, ReadCommand, ReadFrom, Session, SubscribeError,
};
use rhtmx_sync_core::shape::Shape;
use rhtmx_sync_core::snapshot::Xid;

use crate::database::ENTITIES;
use crate::frames::{Frame, Message, Target};
use crate::hub::{Delivery, Queued};
use crate::reading::{Reading, learned};
use crate::world::{Checked, Failure, Fault, Rule, Shared};

const SUBSCRIPTIONS_MAX: usize = 4;

/// A pull goes through its shapes at the position of its snapshot.
#[derive(Debug)]
struct Pulling {
    shapes: Vec<(Shape, Arc<Position>)>,
    sent: usize,
    position: Option<Arc<Position>>,
    /// What the session decided besides: it waits for the end.
    then: Vec<Command<Delivery>>,
}

#[derive(Debug)]
struct Applying {
    mutation: u64,
    transaction: Option<Xid>,
    end: Option<Applied>,
}

/// One connection with its session.
#[derive(Debug)]
pub(crate) struct Connection {
    client: usize,
    session: Session<Delivery>,
    pub(crate) inbox: VecDeque<Message>,
    pub(crate) outbox: VecDeque<Frame>,
    reads: Vec<Reading>,
    /// The shape that each subscription was last read for with.
    shapes: BTreeMap<SubscriptionId, Shape>,
    pull: Option<Pulling>,
    apply: Option<Applying>,
}

impl Connection {
    pub(crate) fn open(client: usize, shared: &mut Shared) -> Self {
        shared.hub.connect(client);
        Self {
            client,
            session: Session::new(SUBSCRIPTIONS_MAX),
            inbox: VecDeque::new(),
            outbox: VecDeque::new(),
            reads: Vec::new(),
            shapes: BTreeMap::new(),
            pull: None,
            apply: None,
        }
    }

    /// The socket is gone; a transaction under way may still commit.
    pub(crate) fn close(self, shared: &mut Shared) {
        shared.hub.disconnect(self.client);
        if let Some(Applying {
            mutation,
            transaction: Some(xid),
            ..
        }) = self.apply
        {
            if shared.random.percent(50) {
                let commit_id = shared.database.commit(xid);
                shared
                    .database
                    .keep_outcome(self.client, mutation, Ok(commit_id));
            } else {
                shared.database.abort(xid);
            }
        }
    }

    /// The transaction of the mutation that is being applied.
    pub(crate) fn transaction(&self) -> Option<Xid> {
        self.apply.as_ref()?.transaction
    }

    /// The entity of a read that has its snapshot and is not at its end.
    pub(crate) fn reading(&self) -> Option<usize> {
        let reading = self.reads.iter().find(|reading| reading.end.is_some())?;
        ENTITIES
            .iter()
            .position(|entity| *entity == reading.shape.entity())
    }

    /// Takes one message of the client. This and its like say whether there was something to do;
    /// while a pull goes on, only a mutation may end.
    pub(crate) fn receive(&mut self, shared: &mut Shared) -> Result<bool, Failure> {
        if self.pull.is_some() {
            return Ok(false);
        }
        let Some(message) = self.inbox.pop_front() else {
            return Ok(false);
        };
        shared.note(|| format!("server {} takes {message:?}", self.client));
        let commands = match message {
            Message::Subscribe(subscribe) => self.session.subscribe(subscribe, |subscribe| {
                resolve(&subscribe.entity, &subscribe.selection, shared)
            }),
            Message::Unsubscribe(id) => self.session.unsubscribe(&id),
            Message::Push(push) => self.session.push(push),
        };
        self.perform(commands, shared)?;
        Ok(true)
    }

    /// Takes one delivery of the hub.
    pub(crate) fn take_delivery(&mut self, shared: &mut Shared) -> Result<bool, Failure> {
        if self.pull.is_some() {
            return Ok(false);
        }
        let commands = match shared.hub.take(self.client) {
            None => return Ok(false),
            Some(Queued::Overflow) => {
                shared.note(|| format!("server {} finds its queue overflowed", self.client));
                self.session.overflowed()
            }
            Some(Queued::Delivery(delivery)) => {
                shared.note(|| format!("server {} takes {delivery:?}", self.client));
                let position = delivery.position().clone();
                let tells = shared.fault == Some(Fault::TellsEachBatch) && delivery.complete();
                let mut commands = self.session.batch(delivery);
                commands.extend(tells.then_some(Command::Send(Outgoing::Cursor(position))));
                commands
            }
        };
        self.perform(commands, shared)?;
        Ok(true)
    }

    /// One of the reads takes its snapshot, or sends a page, or ends.
    pub(crate) fn step_read(&mut self, shared: &mut Shared) -> Result<bool, Failure> {
        if self.reads.is_empty() {
            return Ok(false);
        }
        let index = shared.random.below(self.reads.len());
        let reading = &mut self.reads[index];
        if reading.end.is_none() {
            reading.begin(shared);
        } else if self.pull.is_some() {
            // A pull has the socket to itself.
            return Ok(false);
        } else if shared.random.percent(shared.failures_percent) {
            reading.fail(shared);
            let rows = reading.from.is_none();
            self.outbox.extend(rows.then(|| Frame::Refetch {
                id: reading.id.clone(),
            }));
        } else if let Some(frame) = reading.frames.pop_front() {
            self.outbox.push_back(frame);
        } else {
            let reading = self.reads.remove(index);
            let end = reading.end.expect("the read has begun");
            if shared.fault == Some(Fault::AttachesAfterRead) {
                shared.hub.attach_late(self.client, reading.shape.clone());
            }
            shared.note(|| {
                format!(
                    "server {} has read for {}: {end:?}",
                    self.client, reading.id
                )
            });
            let mut commands = self.session.read(&reading.id, end);
            if shared.fault == Some(Fault::DropsBacklog) {
                commands
                    .retain(|command| !matches!(command, Command::Send(Outgoing::Changes { .. })));
            }
            self.perform(commands, shared)?;
        }
        Ok(true)
    }

    /// The pull takes its snapshot, or sends one shape's changes, or ends.
    pub(crate) fn step_pull(&mut self, shared: &mut Shared) -> Result<bool, Failure> {
        let Some(pull) = &mut self.pull else {
            return Ok(false);
        };
        let Some(position) = &pull.position else {
            let position = shared.database.now();
            shared.note(|| format!("server {} pulls at {position}", self.client));
            pull.position = Some(position);
            return Ok(true);
        };
        if shared.random.percent(shared.failures_percent) {
            shared.note(|| format!("the pull of server {} fails", self.client));
            shared.hub.rejoin(self.client);
            pull.position = None;
            pull.sent = 0;
            return Ok(true);
        }
        let Some((shape, since)) = pull.shapes.get(pull.sent) else {
            if shared.fault == Some(Fault::RejoinsAfterPull) {
                shared.hub.rejoin(self.client);
            }
            let commands = self.session.caught_up(position.clone());
            self.end_pull(commands, shared)?;
            return Ok(true);
        };
        pull.sent += 1;
        let entity = shape.entity();
        let items = shared.database.changes(since, position);
        let mut items = items.iter().filter(|item| item.entity == entity).peekable();
        let expired = !since.covers(shared.database.floor());
        let refused = if expired {
            Some((RefetchReason::Expired, None))
        } else if items
            .clone()
            .any(|item| matches!(item.learned, Effect::SchemaChanged))
        {
            Some((RefetchReason::Schema, Some(entity)))
        } else {
            None
        };
        if let Some((reason, entity)) = refused {
            shared.count("pulls refused");
            shared.note(|| format!("server {} cannot pull: {reason:?}", self.client));
            let commands = self.session.catch_up_refused(reason, entity);
            self.end_pull(commands, shared)?;
        } else if items.peek().is_some() {
            let transients = shared.fault != Some(Fault::PullsWithoutTransients);
            let changes = learned(items, shared.shapes.ask(shape), None, transients);
            self.outbox.push_back(Frame::Changes {
                target: Target::CaughtUp(shape.clone()),
                changes,
            });
        }
        Ok(true)
    }

    /// The session's answer comes before what it had decided besides.
    fn end_pull(&mut self, mut commands: Vec<Command<Delivery>>, shared: &mut Shared) -> Checked {
        commands.extend(self.pull.take().into_iter().flat_map(|pull| pull.then));
        self.perform(commands, shared)
    }

    /// The mutation's transaction begins, writes or ends, or its end is told.
    pub(crate) fn step_apply(&mut self, shared: &mut Shared) -> Result<bool, Failure> {
        let Some(apply) = &mut self.apply else {
            return Ok(false);
        };
        let mutation = apply.mutation;
        let database = &mut shared.database;
        if let Some(end) = apply.end.take() {
            self.apply = None;
            shared.note(|| format!("server {} has applied {mutation}: {end:?}", self.client));
            let mut commands = self.session.applied(mutation, end);
            if shared.fault == Some(Fault::AcksAtOnce) {
                commands.push(Command::Send(Outgoing::Ack { mutation }));
            }
            self.perform(commands, shared)?;
        } else if let Some(xid) = apply.transaction {
            if shared.random.percent(50) {
                database.write(xid, &mut shared.random);
                return Ok(true);
            }
            apply.transaction = None;
            apply.end = Some(if shared.random.percent(20) {
                database.abort(xid);
                database.keep_outcome(self.client, mutation, Err(RejectCode::Constraint));
                rejected(RejectCode::Constraint)
            } else {
                let commit_id = database.commit(xid);
                database.keep_outcome(self.client, mutation, Ok(commit_id));
                Applied::committed(Some(commit_id))
            });
        } else if let Some(outcome) = database.outcome(self.client, mutation) {
            // Answered before: again what it was then.
            apply.end = Some(match outcome {
                Ok(commit_id) if database.floor().contains(commit_id) => Applied::committed(None),
                Ok(commit_id) => Applied::committed(Some(commit_id)),
                Err(code) => rejected(code),
            });
        } else {
            apply.transaction = database.begin();
            return Ok(apply.transaction.is_some());
        }
        Ok(true)
    }

    fn perform(&mut self, commands: Vec<Command<Delivery>>, shared: &mut Shared) -> Checked {
        let mut commands = VecDeque::from(commands);
        while let Some(command) = commands.pop_front() {
            shared.note(|| format!("session {}: {}", self.client, brief(&command)));
            match command {
                Command::CatchUp(shapes) => {
                    return self.begin_pull(shapes, commands.into(), shared);
                }
                Command::Resolve(id) => {
                    let resolved = VecDeque::from(self.resolve(&id, shared)?);
                    let (mut first, mut then) = (resolved, commands);
                    if !shared.resolves_first {
                        std::mem::swap(&mut first, &mut then);
                    }
                    first.append(&mut then);
                    commands = first;
                }
                other => self.carry_out(other, shared)?,
            }
        }
        Ok(())
    }

    /// Finds the shape of a subscription whose table has changed.
    fn resolve(
        &mut self,
        id: &SubscriptionId,
        shared: &mut Shared,
    ) -> Result<Vec<Command<Delivery>>, Failure> {
        let Some((entity, request)) = self.session.request(id) else {
            let text = format!("nobody knows what {id} asks for");
            return Err(Failure::new(Rule::Actions, text));
        };
        let found = resolve(&entity, &request, shared);
        shared.count(match found {
            Ok(_) => "resolved",
            Err(_) => "ended",
        });
        if shared.fault == Some(Fault::KeepsTheOldShape) {
            let old = self.shapes.get(id).cloned().expect("it was found once");
            return Ok(self.session.resolved(id, Ok(old)));
        }
        Ok(self.session.resolved(id, found))
    }

    fn begin_pull(
        &mut self,
        shapes: Vec<(Shape, Arc<Position>)>,
        then: Vec<Command<Delivery>>,
        shared: &mut Shared,
    ) -> Checked {
        if self.pull.is_some() {
            return Err(Failure::new(Rule::Actions, "a pull is going on".to_owned()));
        }
        shared.count("pulls");
        if shared.fault != Some(Fault::RejoinsAfterPull) {
            shared.hub.rejoin(self.client);
        }
        self.pull = Some(Pulling {
            shapes,
            sent: 0,
            position: None,
            then,
        });
        Ok(())
    }

    fn carry_out(&mut self, command: Command<Delivery>, shared: &mut Shared) -> Checked {
        let fault = shared.fault;
        match command {
            Command::Hub(HubCommand::Attach(_)) if fault == Some(Fault::AttachesAfterRead) => {}
            Command::Hub(HubCommand::Attach(shape)) => shared.hub.attach(self.client, shape),
            Command::Hub(HubCommand::Detach(_)) if fault == Some(Fault::AttachesAfterRead) => {}
            Command::Hub(HubCommand::Detach(shape)) => shared.hub.detach(self.client, &shape),
            Command::Read(ReadCommand::Start { id, shape, from }) => {
                self.shapes.insert(id.clone(), shape.clone());
                let (_, request) = self.session.request(&id).unwrap_or_default();
                if matches!(from, Some(ReadFrom::Position(_))) {
                    shared.count("read on");
                }
                if self.reads.iter().any(|reading| reading.id == id) {
                    return Err(Failure::new(
                        Rule::Actions,
                        format!("{id} is being read for"),
                    ));
                }
                let mut reading = Reading::new(id, shape, request, from);
                if shared.random.percent(20) {
                    reading.begin(shared);
                }
                self.reads.push(reading);
            }
            Command::Read(ReadCommand::Stop(id)) => self.reads.retain(|reading| reading.id != id),
            Command::Send(Outgoing::Changes {
                batch,
                shape,
                id,
                since,
            }) => {
                if id.is_some() {
                    shared.count("delivered to one");
                }
                let transients = since.is_some() && fault != Some(Fault::DropsTransients);
                let since = since.filter(|_| fault != Some(Fault::IgnoresSince));
                let Some((asked, items)) = batch.items(&shape) else {
                    let text = "a delivery that was not written for this shape".to_owned();
                    return Err(Failure::new(Rule::Actions, text));
                };
                let mut changes = learned(items, asked, since.as_deref(), transients);
                let leaves = |(_, change): &(_, Change)| matches!(change, Change::Leave { .. });
                if changes.iter().any(leaves) {
                    shared.count("left");
                }
                if fault == Some(Fault::TellsNobodyToLeave) {
                    changes.retain(|change| !leaves(change));
                }
                if !changes.is_empty() {
                    let of_shape = match batch.may_repeat() {
                        true => Target::CaughtUp(shape),
                        false => Target::Shape(shape),
                    };
                    let target = id.map_or(of_shape, Target::Subscription);
                    self.outbox.push_back(Frame::Changes { target, changes });
                }
            }
            Command::Hub(HubCommand::Await(_)) if fault == Some(Fault::ForgetsAwaits) => {}
            Command::Hub(HubCommand::Await(awaited)) => {
                shared.hub.await_position(self.client, awaited)
            }
            Command::CatchUp(_) | Command::Resolve(_) => {
                unreachable!("whoever performs takes them out")
            }
            Command::Apply(push) => {
                if self.apply.is_some() {
                    return Err(Failure::new(
                        Rule::Actions,
                        "two mutations at once".to_owned(),
                    ));
                }
                let mutation = push.mutation;
                self.apply = Some(Applying {
                    mutation,
                    transaction: None,
                    end: None,
                });
            }
            Command::Send(Outgoing::Subscribed {
                id,
                shape,
                position,
                ..
            }) => {
                self.outbox.push_back(Frame::Subscribed {
                    id,
                    shape,
                    position,
                });
            }
            Command::Send(Outgoing::Refetch { id, .. }) => {
                self.outbox.push_back(Frame::Refetch { id })
            }
            Command::Send(Outgoing::Cursor(position)) => {
                self.outbox.push_back(Frame::Cursor(position))
            }
            Command::Send(Outgoing::Ack { mutation }) => {
                self.outbox.push_back(Frame::Ack(mutation))
            }
            Command::Send(Outgoing::Reject { mutation, .. }) => {
                self.outbox.push_back(Frame::Reject(mutation))
            }
            Command::Send(Outgoing::Error { code, id, .. }) => {
                self.outbox.push_back(Frame::Error { code, id })
            }
        }
        Ok(())
    }

    /// Whether the session still has something to do for its client.
    pub(crate) fn is_busy(&self) -> bool {
        self.session.is_applying() || self.session.pushes_waiting() > 0 || !self.reads.is_empty()
    }
}

/// Finds the shape that a frame asks for in its table, as the engine knows it: that may be as old as
/// what the hub has told.
fn resolve(
    entity: &str,
    selection: &SelectionRequest,
    shared: &mut Shared,
) -> Result<Shape, SubscribeError> {
    if !ENTITIES.contains(&entity) {
        let message = "no such entity".to_owned();
        let code = ErrorCode::UnknownEntity;
        return Err(SubscribeError { code, message });
    }
    let position = if shared.random.percent(50) {
        shared.hub.position().clone()
    } else {
        shared.database.now()
    };
    let generation = shared.database.generation(entity, &position);
    let found = shared.shapes.resolve(entity, selection, generation);
    if shared.random.percent(5) {
        // The hub goes on while nobody has attached what was found.
        let Shared {
            hub,
            database,
            shapes,
            random,
            ..
        } = shared;
        hub.drain(database, shapes, random);
    }
    found
}

fn rejected(code: RejectCode) -> Applied {
    Applied::Rejected(Reject::new(code, "not this one"))
}

fn brief(command: &Command<Delivery>) -> String {
    match command {
        Command::Send(Outgoing::Changes {
            batch,
            shape,
            id,
            since,
        }) => {
            let position = batch.position();
            let since = since.as_ref().map(ToString::to_string);
            format!(
                "Deliver {} of {position} to {id:?} since {since:?}",
                shape.as_str()
            )
        }
        other => format!("{other:?}"),
    }
}
