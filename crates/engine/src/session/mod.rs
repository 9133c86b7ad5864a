//! A session: one task that owns a connection and carries out what the rules of core decide.

mod catch_up;
mod expiry;
mod frames;
mod handshake;
mod input;
mod reads;
mod send;
mod sse;
mod transport;
mod turn;
mod websocket;

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use merge::NodeId;
use protocol::{
    ClientFrame, CloseCode, Error, ErrorCode, MutationId, Push, RefetchReason, ServerFrame,
    SubscriptionId,
};
use sync_core::cursor::Epoch;
use sync_core::limit::Limit;
use sync_core::mutation::Applied;
use sync_core::policy::Principal;
use sync_core::retry::ReadFailure;
use sync_core::session::{Command, Frame, HubCommand, ReadCommand, Session};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use uuid::Uuid;
use value::schema::Schema;

use expiry::Expiry;
pub(crate) use handshake::{Greeting, greet};
use input::{Flood, Input};
use reads::{Read, Reads, Step};
pub(crate) use sse::{EventStream, NO_CURSOR};
pub(crate) use transport::{Disconnected, Incoming, Outgoing, Resume, Transport};
pub(crate) use websocket::WebSocket;

use crate::auth::{Counted, Identity, NamedBy};
use crate::bus::BusSubscription;
use crate::limits::{self, RETRY_AFTER};
use crate::lost_values;
use crate::mailbox::{Mailbox, Taken};
use crate::mutations::{self, MutationError};
use crate::principals::Present;
use crate::rows::{Batch, FilterBytes, ReadClient};
use crate::state::EngineState;

/// Mutations of one client that may wait here; beyond that, its transport is not read.
const PUSHES_WAITING_MAX: usize = 32;
/// Answers that may wait for a position; beyond that too.
const ANSWERS_WAITING_MAX: usize = 256;
/// A client that misses this many heartbeats is disconnected.
const MISSED_HEARTBEATS_MAX: u32 = 2;
/// How long the closing of a connection may take.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

type Commands = VecDeque<Command<Batch>>;

/// One connection after its `hello`.
pub(crate) struct SessionTask<T> {
    state: Arc<EngineState>,
    /// All positions that the client is told are of this epoch; in another one the session ends.
    epoch: Epoch,
    transport: T,
    mailbox: Mailbox<Batch>,
    rules: Session<Batch>,
    principal: Arc<Principal>,
    named_by: NamedBy,
    /// By whom it is counted what the client does.
    user: Option<Counted>,
    /// The address by which the client is limited, where it is known.
    address: Option<IpAddr>,
    /// None once the application has ended the session.
    present: Option<Present>,
    expiry: Expiry,
    /// Whether it can subscribe to fields alone.
    only_fields: bool,
    /// None for a connection that cannot push.
    client_id: Option<Uuid>,
    /// Whose records it pushes, if it pushes records.
    records_of: Option<NodeId>,
    input: Input,
    reads: Reads,
    filter_bytes: FilterBytes,
    /// The schemas of finished reads, until `subscribed` sends them.
    schemas: HashMap<SubscriptionId, Arc<Schema>>,
    applying: Option<Applying>,
    /// What is told of its client's values that others have replaced; none until it subscribes to fields.
    lost_values: Option<BusSubscription>,
    /// Heartbeats since the client last sent something.
    missed_heartbeats: u32,
}

struct Applying {
    mutation: u64,
    task: JoinHandle<Result<Applied, MutationError>>,
}

/// Why a session ends.
enum Close {
    /// The client is gone, or reads nothing.
    Disconnected,
    /// The server closes the connection.
    With(CloseCode, &'static str),
    /// The token has expired; the mutations that have been received are still answered.
    Expired,
    /// The application has ended the session.
    SignedOut,
}

/// The answer to one who uses the client id of another user. It says nothing of the client.
pub(crate) const OTHER_USER: &str = "this client_id cannot be used; take another one";

/// The hub was reset, so the client must reconnect.
const OTHER_EPOCH: Close = Close::With(
    CloseCode::ShuttingDown,
    "the database has changed; reconnect",
);

impl From<Disconnected> for Close {
    fn from(Disconnected: Disconnected) -> Self {
        Self::Disconnected
    }
}

impl<T: Transport> SessionTask<T> {
    /// Makes a session of this epoch, which the client has been told. It is boxed because a future stores a
    /// value moved into it twice.
    pub(crate) fn new(
        state: Arc<EngineState>,
        epoch: Epoch,
        transport: T,
        (identity, present): (Identity, Present),
        client_id: Option<Uuid>,
    ) -> Box<Self> {
        let limits = &state.config.limits;
        let rules = Session::new(limits.session());
        let input = Input::new(limits);
        let user = identity.counted();
        let mailbox = state
            .hub
            .join(present.session(), user.as_ref(), &epoch, limits.queue());
        let filter_bytes = state.hub.filter_bytes();
        let reads = Reads::new(state.reader.page_turns.clone());
        let Identity {
            principal,
            named_by,
            address,
            since: _,
        } = identity;
        let expiry = Expiry::new(&principal, state.config.auth.expiry_grace());
        Box::new(Self {
            state,
            epoch,
            transport,
            mailbox,
            rules,
            principal,
            named_by,
            user,
            address,
            present: Some(present),
            expiry,
            only_fields: false,
            client_id,
            records_of: None,
            input,
            reads,
            filter_bytes,
            schemas: HashMap::new(),
            applying: None,
            lost_values: None,
            missed_heartbeats: 0,
        })
    }

    /// The same, with subscriptions to fields alone if `only_fields`.
    pub(crate) fn of_fields(mut self: Box<Self>, only_fields: bool) -> Box<Self> {
        self.only_fields = only_fields;
        self
    }

    /// The same, of which all pushes are records of this node.
    pub(crate) fn of_records(mut self: Box<Self>, node: NodeId) -> Box<Self> {
        self.records_of = Some(node);
        self
    }

    /// Handles the first frame, and then serves the connection to its end.
    ///
    /// An idle connection holds this future, which is as large as the largest future awaited in it. So those
    /// that are seldom awaited are boxed.
    pub(crate) async fn run(mut self: Box<Self>, first: Option<Box<ClientFrame>>) {
        let begun = match first {
            Some(frame) => Box::pin(self.frame(*frame)).await,
            None => Ok(()),
        };
        let mut close = match begun {
            Ok(()) => self.serve().await,
            Err(close) => close,
        };
        close = match close {
            Close::Expired => Box::pin(self.expire()).await,
            Close::SignedOut => Box::pin(self.sign_out()).await,
            close => close,
        };
        self.state.hub.leave(self.mailbox.session);
        // A mutation that is being applied finishes, even if nobody waits for its answer.
        if let Some(applying) = self.applying.take() {
            self.state.tasks.spawn(applying.task);
        }
        if let Close::With(code, reason) = close {
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.transport.close(code, reason)).await;
        }
    }

    async fn serve(&mut self) -> Close {
        let shutdown = self.state.shutdown.clone();
        // Made once: in each iteration it would take a lock that all sessions share.
        let mut shut_down = pin!(shutdown.cancelled());
        let mut heartbeat = tokio::time::interval(self.state.config.limits.heartbeat());
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        heartbeat.reset();
        loop {
            if let Err(close) = self.check_expiry() {
                return close;
            }
            let reads_input = self.reads_input();
            let step = tokio::select! {
                () = &mut shut_down => Err(Close::With(CloseCode::ShuttingDown, "the server is shutting down")),
                incoming = self.transport.next(), if reads_input => Box::pin(self.incoming(incoming)).await,
                () = self.input.resume() => Ok(()),
                () = self.expiry.wait() => Ok(()),
                batch = self.mailbox.next() => match batch {
                    Some(Taken::Item(batch)) => self.deliver(batch).await,
                    // `settle` reads the log.
                    Some(Taken::Overflow) => Ok(()),
                    None => Err(self.mailbox_closed()),
                },
                applied = finished(&mut self.applying) => Box::pin(self.applied(applied)).await,
                step = self.reads.next() => Box::pin(self.read_step(step)).await,
                message = lost(&mut self.lost_values) => Box::pin(self.tell_lost(&message)).await,
                _ = heartbeat.tick() => Box::pin(self.beat()).await,
            };
            let step = match step {
                Ok(()) => self.settle().await,
                Err(close) => Err(close),
            };
            if let Err(close) = step {
                return close;
            }
        }
    }

    /// Ends a step: reads what the mailbox could not take, and flushes, unless another batch has arrived to be
    /// sent with it.
    async fn settle(&mut self) -> Result<(), Close> {
        while self.mailbox.has_overflowed() {
            let commands = self.rules.overflowed();
            Box::pin(self.perform(commands)).await?;
        }
        if !self.mailbox.is_empty() {
            return Ok(());
        }
        self.flush().await
    }

    async fn incoming(&mut self, incoming: Incoming) -> Result<(), Close> {
        self.missed_heartbeats = 0;
        if let Err(Flood) = self.input.count(&incoming) {
            let message = "this connection sends more than it may";
            let error = Error::fatal(ErrorCode::RateLimited, message);
            self.error(error.retry_after(RETRY_AFTER)).await?;
            return Err(Close::With(CloseCode::RateLimited, message));
        }
        match incoming {
            Incoming::Alive | Incoming::Pong { .. } | Incoming::Handled { .. } => Ok(()),
            Incoming::Disconnected => Err(Close::Disconnected),
            Incoming::TooLarge => {
                limits::reached(Limit::FrameBytes);
                let message = "the frame is larger than frame_bytes_max";
                self.error(Error::fatal(ErrorCode::TooLarge, message))
                    .await?;
                Err(Close::With(CloseCode::TooLarge, "the frame was too large"))
            }
            Incoming::Malformed(message) => {
                self.error(Error::new(ErrorCode::Protocol, message)).await
            }
            Incoming::Frame(text) => match ClientFrame::parse(&text) {
                Ok(frame) => self.frame(frame).await,
                Err(error) => {
                    let frame = Error::new(ErrorCode::Protocol, error.message);
                    self.error(frame.of_subscription(error.id)).await
                }
            },
        }
    }

    fn reads_input(&self) -> bool {
        self.rules.pushes_waiting() < PUSHES_WAITING_MAX
            && self.rules.answers_waiting() < ANSWERS_WAITING_MAX
            && !self.input.is_paused()
    }

    async fn beat(&mut self) -> Result<(), Close> {
        if self.missed_heartbeats == MISSED_HEARTBEATS_MAX {
            return Err(Close::With(
                CloseCode::Timeout,
                "no sign of life for two heartbeats",
            ));
        }
        // Counted in heartbeats, not in time: a session that was busy sending has not read its input.
        if T::ANSWERS && self.reads_input() {
            self.missed_heartbeats += 1;
        }
        self.transport.ping();
        // An idle client's cursor advances too, so that it does not grow too old to resume from.
        self.state.hub.publish_position(self.mailbox.session);
        Ok(())
    }

    /// Delivers a batch. It may contain a change of the session's own mutation before the mutation's task has
    /// returned; the ack must be sent first.
    async fn deliver(&mut self, batch: Batch) -> Result<(), Close> {
        if self
            .under_way()
            .is_some_and(|mutation| batch.is_by(mutation))
        {
            Box::pin(self.finish_applying()).await?;
        }
        let commands = self.rules.batch(batch);
        self.perform(commands).await
    }

    fn under_way(&self) -> Option<MutationId> {
        let mutation = self.applying.as_ref()?.mutation;
        Some(MutationId {
            client_id: self.client_id?,
            mutation,
        })
    }

    async fn finish_applying(&mut self) -> Result<(), Close> {
        // Flush first: the mutation may take long, and what is queued need not wait for it.
        self.flush().await?;
        self.reads.give_up_turn();
        let applied = finished(&mut self.applying).await;
        self.applied(applied).await
    }

    async fn applied(
        &mut self,
        (mutation, applied): (u64, Result<Applied, MutationError>),
    ) -> Result<(), Close> {
        // After an error it is unknown whether it was applied. The client reconnects and pushes it again.
        let error = match applied {
            Err(MutationError::OtherUser) => {
                let error = Error::fatal(ErrorCode::Forbidden, OTHER_USER);
                self.error(error).await?;
                return Err(Close::With(CloseCode::Forbidden, OTHER_USER));
            }
            Ok(applied) => {
                let commands = self.rules.applied(mutation, applied);
                return self.perform(commands).await;
            }
            Err(MutationError::Unavailable) => Error::fatal(
                ErrorCode::Unavailable,
                "the database is out of reach; push again",
            ),
            Err(MutationError::Internal) => {
                Error::fatal(ErrorCode::Internal, "the server failed; push again")
            }
        };
        self.error(error).await?;
        Err(Close::With(
            CloseCode::ShuttingDown,
            "the result of a mutation is unknown",
        ))
    }

    async fn read_step(&mut self, step: Step) -> Result<(), Close> {
        match step {
            Step::Frame { text, turn } => self.send_page(text, turn).await,
            Step::Restarted(id) => self.refetch(id, RefetchReason::Expired).await,
            Step::Failed { id, failure } => {
                let error = match failure {
                    ReadFailure::Busy => Error::new(
                        ErrorCode::RateLimited,
                        "more reads wait than the server takes; retrying",
                    )
                    .retry_after(RETRY_AFTER),
                    _ => Error::new(
                        ErrorCode::Unavailable,
                        "the rows cannot be read at the moment; retrying",
                    ),
                };
                self.error(error.of_subscription(id)).await
            }
            Step::End {
                id,
                end,
                mutations,
                schema,
            } => {
                self.schemas
                    .extend(schema.map(|schema| (id.clone(), schema)));
                if self
                    .under_way()
                    .is_some_and(|mutation| mutations.contains(&mutation))
                {
                    self.finish_applying().await?;
                }
                let commands = self.rules.read(&id, end);
                self.perform(commands).await
            }
        }
    }

    /// Carries out commands in order. The frequent ones are handled here, the rest in futures of their own.
    async fn perform(&mut self, commands: Vec<Command<Batch>>) -> Result<(), Close> {
        let mut commands = Commands::from(commands);
        self.filter_bytes.set(self.rules.selection_bytes());
        while let Some(command) = commands.pop_front() {
            match command {
                Command::Send(Frame::Changes {
                    batch,
                    shape,
                    id,
                    since,
                }) => {
                    let (id, since) = (id.as_ref(), since.as_deref());
                    if let Some(frame) = self.changes_frame(&batch, &shape, id, since) {
                        self.feed(frame, Resume::Unchanged).await?;
                    }
                }
                Command::Send(Frame::Cursor(position)) => self.cursor(&position).await?,
                Command::Send(frame) => Box::pin(self.send_frame(frame)).await?,
                Command::Hub(command) => self.command_hub(command),
                Command::Read(command) => self.read(command),
                Command::Apply(push) => self.apply(*push),
                Command::Resolve(id) => self.resolve(&id, &mut commands),
                Command::CatchUp(shapes) => {
                    // The rules' answer precedes the remaining commands.
                    let answer = Box::pin(self.catch_up(&shapes)).await?;
                    push_in_front(&mut commands, answer);
                }
            }
        }
        Ok(())
    }

    fn command_hub(&self, command: HubCommand) {
        let (hub, session) = (&self.state.hub, self.mailbox.session);
        match command {
            HubCommand::Attach(shape) => hub.attach(session, &shape),
            HubCommand::Detach(shape) => hub.detach(session, &shape),
            HubCommand::Await(awaited) => {
                if hub.wait_for(session, awaited) {
                    self.state.wake();
                }
            }
        }
    }

    fn read(&mut self, command: ReadCommand) {
        match command {
            ReadCommand::Start { id, shape, from } => {
                let reader = self.state.reader.clone();
                let client = self.read_client();
                let author = self.client_id;
                self.reads
                    .push(Read::new(reader, client, id, shape, from, author));
            }
            ReadCommand::Stop(id) => self.reads.stop(&id),
        }
    }

    fn read_client(&self) -> ReadClient {
        ReadClient::session(self.user.clone(), self.mailbox.session)
    }

    fn resolve(&mut self, id: &SubscriptionId, commands: &mut Commands) {
        let Some((entity, request)) = self.rules.request(id) else {
            return;
        };
        // It takes the place of a shape that the user has, so the user's shapes do not become more.
        let resolved = self.state.resolve(&self.principal, &entity, &request);
        push_in_front(commands, self.rules.resolved(id, resolved));
        self.filter_bytes.set(self.rules.selection_bytes());
    }

    /// Tells the client that a value of its own was replaced.
    async fn tell_lost(&mut self, message: &[u8]) -> Result<(), Close> {
        match lost_values::read(&self.state, &self.principal, message) {
            Some(conflict) => self.send(&ServerFrame::Conflict(conflict)).await,
            None => Ok(()),
        }
    }

    fn apply(&mut self, push: Push) {
        let mutation = push.mutation;
        let client_id = self.client_id.unwrap_or_default();
        let (state, principal) = (self.state.clone(), self.principal.clone());
        let records_of = self.records_of.clone();
        let task = self.state.tasks.spawn(async move {
            mutations::apply(&state, &principal, client_id, push, records_of).await
        });
        self.applying = Some(Applying { mutation, task });
    }
}

fn push_in_front(commands: &mut Commands, answer: Vec<Command<Batch>>) {
    for command in answer.into_iter().rev() {
        commands.push_front(command);
    }
}

/// Waits for what is told of replaced values. Dropping the future loses nothing.
async fn lost(lost_values: &mut Option<BusSubscription>) -> Bytes {
    if let Some(subscription) = lost_values {
        if let Some(message) = subscription.recv().await {
            return message;
        }
        *lost_values = None;
    }
    std::future::pending().await
}

/// Waits until the mutation that is being applied has ended. Dropping the future loses nothing.
async fn finished(applying: &mut Option<Applying>) -> (u64, Result<Applied, MutationError>) {
    let Some(under_way) = applying else {
        return std::future::pending().await;
    };
    let ended = (&mut under_way.task).await;
    let mutation = under_way.mutation;
    *applying = None;
    (mutation, ended.unwrap_or(Err(MutationError::Internal)))
}
