//! A session: one task that owns a connection and carries out what the rules of core decide.

mod hello;
mod pull;
mod reads;
mod send;
mod socket;
pub(crate) mod wire;

use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rhtmx_sync_core::cursor::{Cursor, Position};
use rhtmx_sync_core::protocol::{
    ClientFrame, CloseCode, ErrorCode, Origin, Push, RefetchReason, ServerFrame, Subscribe,
    SubscriptionId,
};
use rhtmx_sync_core::schema::Schema;
use rhtmx_sync_core::session::{Action, Applied, Session};
use rhtmx_sync_core::shape::Shape;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use uuid::Uuid;

use crate::engine::Inner;
use crate::frame::Shared;
use crate::hub::{Delivery, Seat};
use crate::mutate::MutateError;
pub(crate) use hello::greet;
use reads::{Read, Reads, Step};
use send::frame_of;
pub(crate) use socket::Socket;
use wire::{Gone, Incoming, Resume, Wire};

/// Mutations that one client may have waiting here; beyond it, its socket is not read.
const PUSHES_WAITING_MAX: usize = 32;
/// After so many heartbeats without an answer a client is gone.
const BEATS_UNHEARD_MAX: u32 = 2;
/// How long a goodbye may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

type Actions = VecDeque<Action<Delivery>>;

/// One connection after its `hello`.
pub(crate) struct Connection<W> {
    engine: Arc<Inner>,
    wire: W,
    seat: Seat,
    rules: Session<Delivery>,
    /// None for a connection that cannot push.
    client_id: Option<Uuid>,
    reads: Reads,
    /// What the rows of finished reads look like, until `subscribed` says so.
    schemas: HashMap<SubscriptionId, Arc<Schema>>,
    applying: Option<Applying>,
    /// Heartbeats since something was heard.
    beats_unheard: u32,
}

struct Applying {
    mutation: u64,
    task: JoinHandle<Result<Applied, MutateError>>,
}

/// Why a connection ends.
enum Ended {
    /// The client is gone, or does not read.
    Gone,
    /// We end it.
    Closing(CloseCode, &'static str),
}

/// Without a history there is nothing to be a part of: the hub has been reset.
const NO_HISTORY: Ended = Ended::Closing(
    CloseCode::ShuttingDown,
    "the database has changed; come back",
);

impl From<Gone> for Ended {
    fn from(Gone: Gone) -> Self {
        Self::Gone
    }
}

impl<W: Wire> Connection<W> {
    /// Boxed, because a future holds what is moved into it twice.
    pub(crate) fn new(
        engine: Arc<Inner>,
        wire: W,
        seat: Seat,
        client_id: Option<Uuid>,
    ) -> Box<Self> {
        let rules = Session::new(engine.config.limits.subscriptions_max);
        let reads = Reads::default();
        Box::new(Self {
            engine,
            wire,
            seat,
            rules,
            client_id,
            reads,
            schemas: HashMap::new(),
            applying: None,
            beats_unheard: 0,
        })
    }

    /// Does what the first frame asks for, and then serves the connection to its end.
    ///
    /// An idle connection holds this future, as large as the largest that may be under way within it. So
    /// those that are seldom under way are boxed.
    pub(crate) async fn run(mut self: Box<Self>, first: Option<Box<ClientFrame>>) {
        let begun = match first {
            Some(frame) => Box::pin(self.frame(*frame)).await,
            None => Ok(()),
        };
        let ended = match begun {
            Ok(()) => self.serve().await,
            Err(ended) => ended,
        };
        let key = self.seat.key;
        self.engine.hub.leave(key);
        // A mutation that is under way finishes, whoever is left to hear of it.
        if let Some(applying) = self.applying.take() {
            self.engine.tasks.spawn(applying.task);
        }
        if let Ended::Closing(code, reason) = ended {
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.wire.close(code, reason)).await;
        }
    }

    async fn serve(&mut self) -> Ended {
        let shutdown = self.engine.shutdown.clone();
        // Asked anew in each turn it would take a lock that all sessions share.
        let mut shut_down = pin!(shutdown.cancelled());
        let mut heartbeat = tokio::time::interval(self.engine.config.limits.heartbeat());
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        heartbeat.reset();
        loop {
            let hears = self.hears();
            let step = tokio::select! {
                () = &mut shut_down => Err(Ended::Closing(CloseCode::ShuttingDown, "the server is shutting down")),
                incoming = self.wire.next(), if hears => Box::pin(self.incoming(incoming)).await,
                batch = self.seat.next() => match batch {
                    Some(batch) => self.deliver(Delivery(batch)).await,
                    None => Err(Ended::Closing(CloseCode::ShuttingDown, "the database has changed; come back")),
                },
                applied = finished(&mut self.applying) => Box::pin(self.applied(applied)).await,
                step = self.reads.next() => Box::pin(self.read_step(step)).await,
                _ = heartbeat.tick() => Box::pin(self.beat()).await,
            };
            let step = match step {
                Ok(()) => self.settle().await,
                Err(ended) => Err(ended),
            };
            if let Err(ended) = step {
                return ended;
            }
        }
    }

    /// What every step ends with: what the hub could not queue is read, what waits is sent, unless more
    /// is there already to go with it.
    async fn settle(&mut self) -> Result<(), Ended> {
        while self.seat.must_pull() {
            let actions = self.rules.overflowed();
            Box::pin(self.perform(actions)).await?;
        }
        if !self.seat.is_empty() {
            return Ok(());
        }
        self.flush().await
    }

    async fn incoming(&mut self, incoming: Incoming) -> Result<(), Ended> {
        self.beats_unheard = 0;
        match incoming {
            Incoming::Alive => Ok(()),
            Incoming::Gone => Err(Ended::Gone),
            Incoming::TooLarge => {
                self.fatal(
                    ErrorCode::TooLarge,
                    "the frame is larger than frame_bytes_max",
                )
                .await?;
                Err(Ended::Closing(
                    CloseCode::TooLarge,
                    "the frame was too large",
                ))
            }
            Incoming::Malformed(message) => {
                let frame = ServerFrame::Error {
                    code: ErrorCode::Protocol,
                    message,
                    id: None,
                    fatal: false,
                };
                self.send(&frame).await
            }
            Incoming::Frame(text) => match ClientFrame::parse(&text) {
                Ok(frame) => self.frame(frame).await,
                Err(error) => {
                    let (message, id) = (error.message.as_str(), error.id.as_ref());
                    let frame = ServerFrame::Error {
                        code: ErrorCode::Protocol,
                        message,
                        id,
                        fatal: false,
                    };
                    self.send(&frame).await
                }
            },
        }
    }

    async fn frame(&mut self, frame: ClientFrame) -> Result<(), Ended> {
        match frame {
            ClientFrame::Hello(_) => {
                let message = "this connection has said hello already";
                let frame = ServerFrame::Error {
                    code: ErrorCode::Protocol,
                    message,
                    id: None,
                    fatal: false,
                };
                self.send(&frame).await
            }
            // There is no authenticator yet: any token is taken, and nobody is anybody.
            ClientFrame::Auth { .. } => self.send(&ServerFrame::Authenticated { user: None }).await,
            ClientFrame::Ping { at } => self.send(&ServerFrame::Pong { at: at.as_ref() }).await,
            ClientFrame::Subscribe(subscribe) => {
                let engine = &self.engine;
                let resolve =
                    |subscribe: &Subscribe| engine.resolve(&subscribe.entity, subscribe.wanted());
                let actions = self.rules.subscribe(subscribe, resolve);
                self.perform(actions).await
            }
            ClientFrame::Unsubscribe { id } => {
                let actions = self.rules.unsubscribe(&id);
                self.perform(actions).await
            }
            ClientFrame::Push(push) => {
                let actions = self.rules.push(push);
                self.perform(actions).await
            }
        }
    }

    fn hears(&self) -> bool {
        self.rules.pushes_waiting() < PUSHES_WAITING_MAX
    }

    async fn beat(&mut self) -> Result<(), Ended> {
        if self.beats_unheard == BEATS_UNHEARD_MAX {
            return Err(Ended::Closing(
                CloseCode::Timeout,
                "nothing was heard for two heartbeats",
            ));
        }
        // Counted in beats, not in time: a session that was busy sending for long has not listened.
        if W::ANSWERS && self.hears() {
            self.beats_unheard += 1;
        }
        self.wire.ping();
        // A quiet client's cursor moves on too, so that it does not grow too old to resume from.
        self.engine.hub.tell_position(self.seat.key);
        Ok(())
    }

    /// The hub delivers. A change of our own mutation may be here before we heard that it committed;
    /// its ack goes first.
    async fn deliver(&mut self, delivery: Delivery) -> Result<(), Ended> {
        if self
            .under_way()
            .is_some_and(|mutation| delivery.0.is_by(mutation))
        {
            Box::pin(self.finish_applying()).await?;
        }
        let actions = self.rules.batch(delivery);
        self.perform(actions).await
    }

    fn under_way(&self) -> Option<Origin> {
        let mutation = self.applying.as_ref()?.mutation;
        Some(Origin {
            client_id: self.client_id?,
            mutation,
        })
    }

    async fn finish_applying(&mut self) -> Result<(), Ended> {
        // It may take long, and what was delivered before need not wait for it.
        self.flush().await?;
        let applied = finished(&mut self.applying).await;
        self.applied(applied).await
    }

    async fn applied(
        &mut self,
        (mutation, applied): (u64, Result<Applied, MutateError>),
    ) -> Result<(), Ended> {
        match applied {
            Ok(applied) => {
                let actions = self.rules.applied(mutation, applied);
                self.perform(actions).await
            }
            // Whether it was applied is not known. The client comes back and pushes it again.
            Err(error) => {
                let (code, message) = match error {
                    MutateError::Unavailable => (
                        ErrorCode::Unavailable,
                        "the database is out of reach; push again",
                    ),
                    MutateError::Internal => (ErrorCode::Internal, "the server failed; push again"),
                };
                self.fatal(code, message).await?;
                Err(Ended::Closing(
                    CloseCode::ShuttingDown,
                    "a mutation could not be tried to its end",
                ))
            }
        }
    }

    async fn read_step(&mut self, step: Step) -> Result<(), Ended> {
        match step {
            Step::Frame { text, turn } => self.send_page(text, turn).await,
            Step::Restarted(id) => self.refetch(&id, RefetchReason::Expired).await,
            Step::Failed(id) => {
                let message = "the rows cannot be read at the moment; trying again";
                let frame = ServerFrame::Error {
                    code: ErrorCode::Unavailable,
                    message,
                    id: Some(&id),
                    fatal: false,
                };
                self.send(&frame).await
            }
            Step::Ended {
                id,
                end,
                authors,
                schema,
            } => {
                self.schemas
                    .extend(schema.map(|schema| (id.clone(), schema)));
                if self
                    .under_way()
                    .is_some_and(|mutation| authors.contains(&mutation))
                {
                    self.finish_applying().await?;
                }
                let actions = self.rules.read(&id, end);
                self.perform(actions).await
            }
        }
    }

    /// Carries out what the rules decided, in order.
    async fn perform(&mut self, actions: Vec<Action<Delivery>>) -> Result<(), Ended> {
        let mut actions = Actions::from(actions);
        while let Some(action) = actions.pop_front() {
            match action {
                Action::Pull(shapes) => {
                    // The rules' answer comes before what else was decided.
                    let answer = Box::pin(self.pull(&shapes)).await?;
                    push_in_front(&mut actions, answer);
                }
                Action::Resolve(id) => {
                    let resolved = self
                        .rules
                        .request(&id)
                        .map(|request| self.engine.resolve(&request.entity, request.wanted()));
                    if let Some(resolved) = resolved {
                        push_in_front(&mut actions, self.rules.resolved(&id, resolved));
                    }
                }
                Action::Deliver {
                    batch,
                    shape,
                    id,
                    since,
                } => {
                    if let Some(frame) = frame_of(&batch, &shape, id.as_ref(), since.as_deref()) {
                        self.feed(frame, Resume::Unchanged).await?;
                    }
                }
                Action::Cursor(position) => {
                    let told = self.engine.hub.told(&position).ok_or(NO_HISTORY)?;
                    self.feed(told.frame.clone(), Resume::At(&told.cursor))
                        .await?;
                }
                action => Box::pin(self.act(action)).await?,
            }
        }
        Ok(())
    }

    async fn act(&mut self, action: Action<Delivery>) -> Result<(), Ended> {
        match action {
            Action::Attach(shape) => self.engine.hub.attach(self.seat.key, &shape),
            Action::Detach(shape) => self.engine.hub.detach(self.seat.key, &shape),
            Action::Await(awaited) => {
                if self.engine.hub.wait_for(self.seat.key, awaited) {
                    self.engine.poke();
                }
            }
            Action::Read { id, shape, from } => {
                self.reads
                    .push(Read::new(self.engine.reader.clone(), id, shape, from));
            }
            Action::StopReading(id) => self.reads.stop(&id),
            Action::Apply(push) => self.apply(push.0),
            Action::Subscribed {
                id,
                shape,
                position,
            } => self.subscribed(id, &shape, &position).await?,
            Action::Refetch { id, reason } => self.refetch(&id, reason).await?,
            Action::Ack { mutation } => self.send(&ServerFrame::Ack { mutation }).await?,
            Action::Reject { mutation, reject } => {
                self.send(&ServerFrame::Reject {
                    mutation,
                    reject: &reject,
                })
                .await?;
            }
            Action::Error { code, message, id } => {
                let frame = ServerFrame::Error {
                    code,
                    message: &message,
                    id: id.as_ref(),
                    fatal: false,
                };
                self.send(&frame).await?;
            }
            Action::Pull(_) | Action::Resolve(_) | Action::Deliver { .. } | Action::Cursor(_) => {
                unreachable!("perform takes these out")
            }
        }
        Ok(())
    }

    async fn subscribed(
        &mut self,
        id: SubscriptionId,
        shape: &Shape,
        position: &Position,
    ) -> Result<(), Ended> {
        let read = self.schemas.remove(&id);
        let schema = match (shape.part(), read) {
            (Some(part), _) => part.summary(),
            (None, Some(schema)) => schema.summary(),
            (None, None) => self.engine.summary(shape.entity()),
        };
        let cursor = self.cursor(position)?;
        let shape = shape.as_str();
        let frame = ServerFrame::Subscribed {
            id: &id,
            shape,
            cursor: &cursor,
            schema: &schema,
        }
        .to_text();
        self.feed(Shared::new(frame), Resume::At(&cursor)).await
    }

    fn cursor(&self, position: &Position) -> Result<Cursor, Ended> {
        let epoch = self.engine.hub.epoch().ok_or(NO_HISTORY)?;
        Ok(Cursor {
            epoch,
            position: position.clone(),
        })
    }

    fn apply(&mut self, push: Push) {
        let mutation = push.mutation;
        let client_id = self.client_id.unwrap_or_default();
        let engine = self.engine.clone();
        let task = self
            .engine
            .tasks
            .spawn(async move { engine.mutate(client_id, push).await });
        self.applying = Some(Applying { mutation, task });
    }
}

fn push_in_front(actions: &mut Actions, answer: Vec<Action<Delivery>>) {
    for action in answer.into_iter().rev() {
        actions.push_front(action);
    }
}

/// The mutation that is being applied, when it has ended. Dropping the future loses nothing.
async fn finished(applying: &mut Option<Applying>) -> (u64, Result<Applied, MutateError>) {
    let Some(under_way) = applying else {
        return std::future::pending().await;
    };
    let ended = (&mut under_way.task).await;
    let mutation = under_way.mutation;
    *applying = None;
    (mutation, ended.unwrap_or(Err(MutateError::Internal)))
}
