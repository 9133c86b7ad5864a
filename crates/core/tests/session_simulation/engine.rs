//! An engine: executes a session's commands as their documentation says.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use protocol::{
    Change, ErrorCode, RefetchReason, Reject, RejectCode, SelectionRequest, SubscriptionId,
};
use rhtmx_sync_core::cursor::Position;
use rhtmx_sync_core::effect::Effect;
use rhtmx_sync_core::mutation::Applied;
use rhtmx_sync_core::session::{
    Batch, Command, Frame as Outgoing, HubCommand, ReadCommand, ReadFrom, Session, SessionLimits,
    SubscribeError,
};
use rhtmx_sync_core::shape::Shape;
use rhtmx_sync_core::snapshot::Xid;

use crate::database::ENTITIES;
use crate::frames::{Frame, Message, Target};
use crate::hub::{Queued, SharedBatch};
use crate::reading::{Reading, changes_for};
use crate::world::{Checked, Failure, Fault, Rule, Shared};

const SUBSCRIPTIONS_MAX: usize = 4;

/// A catch-up sends its shapes one after another, at the position of its snapshot, or of several.
#[derive(Debug)]
struct CatchUp {
    /// Each with the position up to which it has been sent.
    shapes: Vec<(Shape, Arc<Position>)>,
    sent: usize,
    position: Option<Arc<Position>>,
    /// The session's other commands, which wait for the end.
    then: Vec<Command<SharedBatch>>,
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
    session: Session<SharedBatch>,
    pub(crate) inbox: VecDeque<Message>,
    pub(crate) outbox: VecDeque<Frame>,
    reads: Vec<Reading>,
    /// The shape with which each subscription was last read.
    shapes: BTreeMap<SubscriptionId, Shape>,
    catch_up: Option<CatchUp>,
    apply: Option<Applying>,
}

impl Connection {
    pub(crate) fn open(client: usize, shared: &mut Shared) -> Self {
        shared.hub.connect(client);
        Self {
            client,
            session: Session::new(SessionLimits {
                subscriptions_max: SUBSCRIPTIONS_MAX,
                filter_work_max: usize::MAX,
                filter_bytes_max: usize::MAX,
            }),
            inbox: VecDeque::new(),
            outbox: VecDeque::new(),
            reads: Vec::new(),
            shapes: BTreeMap::new(),
            catch_up: None,
            apply: None,
        }
    }

    /// The connection is lost; a transaction under way may still commit.
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
                    .store_answer(self.client, mutation, Ok(commit_id));
            } else {
                shared.database.abort(xid);
            }
        }
    }

    /// The transaction of the mutation that is being applied.
    pub(crate) fn transaction(&self) -> Option<Xid> {
        self.apply.as_ref()?.transaction
    }

    /// The entity of a read that has taken its snapshot and has not ended.
    pub(crate) fn reading(&self) -> Option<usize> {
        let reading = self.reads.iter().find(|reading| reading.end.is_some())?;
        ENTITIES
            .iter()
            .position(|entity| *entity == reading.shape.entity())
    }

    /// Takes one message of the client. Like the methods below, it returns whether there was something to
    /// do. During a catch-up only a mutation may end.
    pub(crate) fn receive(&mut self, shared: &mut Shared) -> Result<bool, Failure> {
        if self.catch_up.is_some() {
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

    /// Takes one batch from the mailbox.
    pub(crate) fn take_batch(&mut self, shared: &mut Shared) -> Result<bool, Failure> {
        if self.catch_up.is_some() {
            return Ok(false);
        }
        let commands = match shared.hub.take(self.client) {
            None => return Ok(false),
            Some(Queued::Overflow) => {
                shared.note(|| format!("server {} finds its mailbox overflowed", self.client));
                self.session.overflowed()
            }
            Some(Queued::Batch(batch)) => {
                shared.note(|| format!("server {} takes {batch:?}", self.client));
                let position = batch.position().clone();
                let is_faulty = shared.fault == Some(Fault::SendsCursorForEachBatch);
                let cursor = (is_faulty && batch.complete()).then_some(Outgoing::Cursor(position));
                let mut commands = self.session.batch(batch);
                commands.extend(cursor.map(Command::Send));
                commands
            }
        };
        self.perform(commands, shared)?;
        Ok(true)
    }

    /// Lets one of the reads take its snapshot, send a page, or end.
    pub(crate) fn step_read(&mut self, shared: &mut Shared) -> Result<bool, Failure> {
        if self.reads.is_empty() {
            return Ok(false);
        }
        let index = shared.random.below(self.reads.len());
        let reading = &mut self.reads[index];
        if reading.end.is_none() {
            reading.begin(shared);
        } else if self.catch_up.is_some() {
            // During a catch-up nothing else is sent.
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

    /// Lets the catch-up take its snapshot, send one shape's changes, or end.
    pub(crate) fn step_catch_up(&mut self, shared: &mut Shared) -> Result<bool, Failure> {
        let Some(catch_up) = &mut self.catch_up else {
            return Ok(false);
        };
        let Some(position) = &catch_up.position else {
            let position = shared.database.now();
            shared.note(|| format!("server {} catches up to {position}", self.client));
            catch_up.position = Some(position);
            return Ok(true);
        };
        if shared.random.percent(shared.failures_percent) {
            shared.note(|| format!("the catch-up of server {} breaks off", self.client));
            shared.hub.rejoin(self.client);
            catch_up.position = None;
            catch_up.sent = 0;
            return Ok(true);
        }
        let Some((shape, since)) = catch_up.shapes.get(catch_up.sent) else {
            if shared.fault == Some(Fault::RejoinsAfterCatchUp) {
                shared.hub.rejoin(self.client);
            }
            let is_apart = catch_up.shapes.iter().any(|(_, at)| at != position);
            let commands = match is_apart {
                true => {
                    shared.count("apart");
                    self.session.caught_up_apart(&catch_up.shapes)
                }
                false => self.session.caught_up(position.clone()),
            };
            self.end_catch_up(commands, shared)?;
            return Ok(true);
        };
        let (shape, since, position) = (shape.clone(), since.clone(), position.clone());
        let entity = shape.entity();
        let items = shared.database.changes(&since, &position);
        let mut items = items.iter().filter(|item| item.entity == entity).peekable();
        let expired = !since.covers(shared.database.floor());
        let failure = if expired {
            Some((RefetchReason::Expired, None))
        } else if items
            .clone()
            .any(|item| matches!(item.effect, Effect::SchemaChanged))
        {
            Some((RefetchReason::Schema, Some(entity)))
        } else {
            None
        };
        if let Some((reason, entity)) = failure {
            shared.count("failed catch-ups");
            shared.note(|| format!("server {} cannot catch up: {reason:?}", self.client));
            let commands = self.session.catch_up_failed(reason, entity);
            self.end_catch_up(commands, shared)?;
            return Ok(true);
        }
        if items.peek().is_some() {
            let transients = shared.fault != Some(Fault::CatchesUpWithoutTransients);
            let changes = changes_for(shared.shapes.resolved(&shape), items, None, transients);
            self.outbox.push_back(Frame::Changes {
                target: Target::CaughtUp(shape.clone()),
                changes,
            });
        }
        catch_up.shapes[catch_up.sent].1 = position;
        catch_up.sent += 1;
        let more = catch_up.sent < catch_up.shapes.len();
        if more && shared.random.percent(shared.apart_percent) {
            catch_up.position = None;
        }
        Ok(true)
    }

    /// Performs the session's commands at the end of a catch-up, then those that waited for it.
    fn end_catch_up(
        &mut self,
        mut commands: Vec<Command<SharedBatch>>,
        shared: &mut Shared,
    ) -> Checked {
        let ended = self.catch_up.take().into_iter();
        commands.extend(ended.flat_map(|catch_up| catch_up.then));
        self.perform(commands, shared)
    }

    /// Lets the mutation's transaction begin, write or end, or reports its end.
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
                commands.push(Command::Send(Outgoing::Ack {
                    mutation,
                    merged: None,
                }));
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
                database.store_answer(self.client, mutation, Err(RejectCode::Constraint));
                rejected(RejectCode::Constraint)
            } else {
                let commit_id = database.commit(xid);
                database.store_answer(self.client, mutation, Ok(commit_id));
                Applied::committed(Some(commit_id))
            });
        } else if let Some(answer) = database.answer(self.client, mutation) {
            // It was answered before: the same again.
            apply.end = Some(match answer {
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

    fn perform(&mut self, commands: Vec<Command<SharedBatch>>, shared: &mut Shared) -> Checked {
        let mut commands = VecDeque::from(commands);
        while let Some(command) = commands.pop_front() {
            shared.note(|| format!("session {}: {}", self.client, summary(&command)));
            match command {
                Command::CatchUp(shapes) => {
                    return self.begin_catch_up(shapes, commands.into(), shared);
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
                other => self.execute(other, shared)?,
            }
        }
        Ok(())
    }

    /// Resolves the shape of a subscription whose table has changed.
    fn resolve(
        &mut self,
        id: &SubscriptionId,
        shared: &mut Shared,
    ) -> Result<Vec<Command<SharedBatch>>, Failure> {
        let Some((entity, request)) = self.session.request(id) else {
            let text = format!("{id} has no request to resolve");
            return Err(Failure::new(Rule::Commands, text));
        };
        let found = resolve(&entity, &request, shared);
        shared.count(match found {
            Ok(_) => "resolved",
            Err(_) => "ended",
        });
        if shared.fault == Some(Fault::KeepsTheOldShape) {
            let old = self.shapes.get(id).cloned().expect("a shape, from a read");
            return Ok(self.session.resolved(id, Ok(old)));
        }
        Ok(self.session.resolved(id, found))
    }

    fn begin_catch_up(
        &mut self,
        shapes: Vec<(Shape, Arc<Position>)>,
        then: Vec<Command<SharedBatch>>,
        shared: &mut Shared,
    ) -> Checked {
        if self.catch_up.is_some() {
            let text = "a second catch-up at once".to_owned();
            return Err(Failure::new(Rule::Commands, text));
        }
        shared.count("catch-ups");
        if shared.fault != Some(Fault::RejoinsAfterCatchUp) {
            shared.hub.rejoin(self.client);
        }
        self.catch_up = Some(CatchUp {
            shapes,
            sent: 0,
            position: None,
            then,
        });
        Ok(())
    }

    fn execute(&mut self, command: Command<SharedBatch>, shared: &mut Shared) -> Checked {
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
                    shared.count("continued reads");
                }
                if self.reads.iter().any(|reading| reading.id == id) {
                    return Err(Failure::new(
                        Rule::Commands,
                        format!("{id} is read already"),
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
                    shared.count("batches for one subscription");
                }
                let transients = since.is_some() && fault != Some(Fault::DropsTransients);
                let since = since.filter(|_| fault != Some(Fault::IgnoresSince));
                let Some((resolved, items)) = batch.items(&shape) else {
                    let text = "a batch that was not read for this shape".to_owned();
                    return Err(Failure::new(Rule::Commands, text));
                };
                let mut changes = changes_for(resolved, items, since.as_deref(), transients);
                let is_leave = |(_, change): &(_, Change)| matches!(change, Change::Leave { .. });
                if changes.iter().any(is_leave) {
                    shared.count("leaves");
                }
                if fault == Some(Fault::SendsNoLeaves) {
                    changes.retain(|change| !is_leave(change));
                }
                if !changes.is_empty() {
                    let of_shape = if batch.may_repeat() {
                        Target::CaughtUp(shape)
                    } else {
                        Target::Shape(shape)
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
                unreachable!("`perform` handles them")
            }
            Command::Apply(push) => {
                if self.apply.is_some() {
                    return Err(Failure::new(
                        Rule::Commands,
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
            Command::Send(Outgoing::Ack { mutation, .. }) => {
                self.outbox.push_back(Frame::Ack(mutation))
            }
            Command::Send(Outgoing::Reject { mutation, .. }) => {
                self.outbox.push_back(Frame::Reject(mutation))
            }
            Command::Send(Outgoing::Error { error, id }) => {
                let code = error.code;
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

/// Resolves a request against its table as the engine knows it, which may be as old as the hub's last
/// position.
fn resolve(
    entity: &str,
    request: &SelectionRequest,
    shared: &mut Shared,
) -> Result<Shape, SubscribeError> {
    if !ENTITIES.contains(&entity) {
        let code = ErrorCode::UnknownEntity;
        return Err(SubscribeError::new(code, "no such entity"));
    }
    let position = if shared.random.percent(50) {
        shared.hub.position().clone()
    } else {
        shared.database.now()
    };
    let generation = shared.database.generation(entity, &position);
    let found = shared.shapes.resolve(entity, request, generation);
    if shared.random.percent(5) {
        // The hub publishes before the new shape is attached.
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
    Applied::Rejected(Reject::new(code, "rejected"))
}

fn summary(command: &Command<SharedBatch>) -> String {
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
