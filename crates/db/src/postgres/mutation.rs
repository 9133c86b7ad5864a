//! Mutations on PostgreSQL.
//!
//! A few connections apply them, so that whatever mutations wait for, nothing else waits for mutations. Those that
//! come at the same time share a call, and with it a round trip and a commit; none waits for another to come. A
//! mutation that waits for a lock of somebody else's, or takes long, leaves the others and goes alone, on connections
//! for such mutations.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use protocol::Reject;
use sync_core::mutation::chain::KeptChains;
use sync_core::mutation::fields::Merged;
use tokio::sync::oneshot;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::connect::{self, Connector};
use super::write::call::{self, Patience, Returned, Stored, StoredClient};
use super::write::explain::{Fault, Kind};
use super::write::fields::{self, Planned};
use crate::error::{DbError, DbResult, Failed};
use crate::lanes::{Job, Lane, Lanes};
use crate::quote::ident;
use crate::tables::_rhtmx_sync_client as client;
use crate::write::{ClientState, Mutation, TableWrite};

/// The writes of mutations that share a call. Each mutation is a subtransaction, and PostgreSQL looks for more than
/// 64 of those in other places than its own memory.
const SHARED_WRITES_MAX: usize = 24;

/// How long mutations that share a call wait for a lock before the one that needs it goes alone.
const SHARED_PATIENCE: Patience = Patience {
    statement: Duration::from_secs(1),
    lock: Duration::from_millis(20),
};

/// How long a mutation alone waits for a lock at a time.
pub(super) const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// How long a table whose mutation took too long has its mutations go alone.
const SLOW_TABLE: Duration = Duration::from_secs(60);

/// What the call may take longer than its statement, before the connection is given up.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);

/// The number of connections for mutations that share calls, and the same number for those that go alone: out of a
/// pool of this size.
pub(super) fn lanes(pool_size: u32) -> u32 {
    (pool_size / 8).clamp(1, 2)
}

/// Applies mutations.
#[derive(Debug)]
pub(super) struct Writer {
    connector: Connector,
    statement_timeout: Duration,
    shared: Lanes<Waiting>,
    alone: Lanes<Waiting>,
    idle: Mutex<Vec<Client>>,
    /// The entities whose mutations take long, until when.
    slow: Mutex<HashMap<String, Instant>>,
    /// The statements that empty the settings that row level security reads.
    emptied: Mutex<Arc<str>>,
}

/// A mutation that waits to be applied.
#[derive(Debug)]
struct Waiting {
    mutation: Arc<Mutation>,
    log_schema: Arc<str>,
    /// The row whose lock it waits for.
    row: Option<String>,
    /// Whether a plan was made for what it does not find.
    has_raced: bool,
    answer: oneshot::Sender<DbResult<Ran>>,
}

impl Job for Waiting {
    fn row(&self) -> Option<&str> {
        self.row.as_deref()
    }

    fn weight(&self) -> usize {
        self.mutation.writes.as_ref().map_or(1, Vec::len)
    }
}

/// What became of a mutation.
#[derive(Debug)]
pub(super) enum Ran {
    /// It was applied, or its reject was stored.
    Now {
        epoch: String,
        commit_id: i64,
        merged: Merged,
    },
    /// It does not come next.
    Before { epoch: String, client: StoredClient },
    Failed {
        fault: Fault,
        /// The writes as they were planned, where some merge by their fields.
        planned: Option<Vec<TableWrite>>,
    },
    /// Its writes do not go with the rows that they merge with.
    Rejected(Reject),
    /// The client id is another user's.
    OtherUser,
    /// The commit violated a constraint.
    NotCommitted,
    /// It took longer than those that share a call may.
    TooSlow,
}

impl Writer {
    pub(super) fn new(connector: Connector, pool_size: u32, statement_timeout: Duration) -> Self {
        let lanes = lanes(pool_size) as usize;
        Self {
            connector,
            statement_timeout,
            shared: Lanes::new(lanes),
            alone: Lanes::new(lanes),
            idle: Mutex::default(),
            slow: Mutex::default(),
            emptied: Mutex::new("".into()),
        }
    }

    /// The settings that row level security reads. Each transaction makes them, empty where its mutation has no others: one
    /// that a transaction has made is empty afterwards, not null as on a new connection.
    pub(super) fn empty_settings(&self, names: &BTreeSet<String>) {
        let names = names.iter().filter(|name| rls::is_custom_setting(name));
        let statements = names.map(|name| format!("SET LOCAL {} = ''; ", ident(name)));
        let statements: String = statements.collect();
        let mut emptied = self.emptied.lock().unwrap_or_else(PoisonError::into_inner);
        *emptied = statements.into();
    }

    /// The statements that empty those settings.
    pub(super) fn emptied(&self) -> Arc<str> {
        let emptied = self.emptied.lock().unwrap_or_else(PoisonError::into_inner);
        emptied.clone()
    }

    /// Runs a mutation with others, or alone where that is better for them.
    pub(super) async fn run(
        self: &Arc<Self>,
        mutation: &Arc<Mutation>,
        log_schema: &Arc<str>,
        has_raced: bool,
    ) -> DbResult<Ran> {
        let context = (log_schema, has_raced);
        let row = mutation.row(0).filter(|row| self.alone.names(row));
        if row.is_none() && !self.is_slow(mutation) {
            let ran = self.submit(mutation, context, None).await?;
            match &ran {
                Ran::Failed { fault, .. } if fault.kind() == Kind::Locked => {
                    let row = mutation.row(fault.write_index().unwrap_or(0));
                    return self.alone(mutation, context, row).await;
                }
                Ran::TooSlow => self.is_slow_now(mutation),
                _ => return Ok(ran),
            }
        }
        self.alone(mutation, context, row).await
    }

    async fn alone(
        self: &Arc<Self>,
        mutation: &Arc<Mutation>,
        context: (&Arc<str>, bool),
        row: Option<String>,
    ) -> DbResult<Ran> {
        // Every job alone names something, so that those for one client or one row wait for one another here.
        let row = row.unwrap_or_else(|| mutation.client_id.to_string());
        self.submit(mutation, context, Some(row)).await
    }

    /// Queues a mutation: alone if it names a row.
    async fn submit(
        self: &Arc<Self>,
        mutation: &Arc<Mutation>,
        (log_schema, has_raced): (&Arc<str>, bool),
        row: Option<String>,
    ) -> DbResult<Ran> {
        let (answer, answered) = oneshot::channel();
        let (lanes, patience, weight_max) = match row {
            None => (&self.shared, SHARED_PATIENCE, SHARED_WRITES_MAX),
            Some(_) => {
                let patience = Patience {
                    statement: self.statement_timeout,
                    lock: LOCK_PATIENCE,
                };
                (&self.alone, patience, 0)
            }
        };
        let waiting = Waiting {
            mutation: mutation.clone(),
            log_schema: log_schema.clone(),
            row,
            has_raced,
            answer,
        };
        if let Some(lane) = lanes.submit(waiting) {
            // In a task of its own: the caller may stop waiting for its mutation, and the lane goes on.
            tokio::spawn(self.clone().work(lane, patience, weight_max));
        }
        let lost = || DbError::Unreachable("the mutation's task has ended".to_owned());
        answered.await.map_err(|_| lost())?
    }

    async fn work(self: Arc<Self>, mut lane: Lane<Waiting>, patience: Patience, weight_max: usize) {
        let mut conn = None;
        loop {
            let taken = lane.take(weight_max);
            if taken.is_empty() {
                break;
            }
            self.answer(&mut conn, taken, patience).await;
        }
        self.idle().extend(conn);
    }

    /// Applies these mutations together or, when their transaction fails as a whole, one by one.
    async fn answer(&self, conn: &mut Option<Client>, mut taken: Vec<Waiting>, patience: Patience) {
        let [first, ..] = taken.as_slice() else {
            return;
        };
        let log_schema = first.log_schema.clone();
        let waiting: Vec<_> = taken
            .iter()
            .map(|one| (one.mutation.clone(), one.has_raced))
            .collect();
        let planned = self.plan(conn, &waiting, &log_schema, patience).await;
        let (planned, ran) = match planned {
            Ok(plans) => {
                let (kept, planned) = keep_planned(taken, plans);
                taken = kept;
                if taken.is_empty() {
                    return;
                }
                let mutations: Vec<&Mutation> = planned.iter().map(|one| &*one.mutation).collect();
                let ran = self.call(conn, &mutations, &log_schema, patience).await;
                (planned, ran)
            }
            Err(error) => (Vec::new(), Err(error)),
        };
        match ran {
            Ok(Called::Returned(Returned {
                epoch,
                commit_id,
                stored,
            })) => {
                for ((one, planned), stored) in taken.into_iter().zip(planned).zip(stored) {
                    let epoch = epoch.clone();
                    // Nobody may wait for it any more.
                    let _ = one.answer.send(Ok(match stored {
                        Stored::Now => Ran::Now {
                            epoch,
                            commit_id,
                            merged: planned.merged,
                        },
                        Stored::Before(client) => Ran::Before { epoch, client },
                        Stored::Failed(fault) => Ran::Failed {
                            fault,
                            planned: planned.writes(),
                        },
                        Stored::OtherUser => Ran::OtherUser,
                    }));
                }
            }
            _ if taken.len() > 1 && conn.is_some() => {
                for one in taken {
                    Box::pin(self.answer(conn, vec![one], patience)).await;
                }
            }
            Ok(Called::NotCommitted) => {
                for one in taken {
                    let _ = one.answer.send(Ok(Ran::NotCommitted));
                }
            }
            Ok(Called::TooSlow) => {
                for one in taken {
                    let _ = one.answer.send(Ok(Ran::TooSlow));
                }
            }
            Err(error) if taken.len() == 1 => {
                if let Some(one) = taken.pop() {
                    let _ = one.answer.send(Err(error));
                }
            }
            Err(error) => {
                for one in taken {
                    let lost = DbError::Unreachable(error.to_string());
                    let _ = one.answer.send(Err(lost));
                }
            }
        }
    }

    /// Plans the writes that merge by their fields, for the rows as they are now. Of rows that are created nothing is read, unless
    /// the mutation `has_raced`.
    async fn plan<'a>(
        &self,
        conn: &mut Option<Client>,
        mutations: &'a [(Arc<Mutation>, bool)],
        log_schema: &str,
        patience: Patience,
    ) -> DbResult<Vec<Result<Planned<'a>, Reject>>> {
        let read = mutations.iter().flat_map(|(one, has_raced)| {
            let writes = one.writes.iter().flatten();
            writes.filter(move |write| *has_raced || !fields::is_creation(write))
        });
        let named = fields::named(read);
        let mut rows = fields::Rows::new();
        if !named.is_empty() {
            let sql = fields::known_sql(&named, log_schema);
            rows = match self.send(conn, &sql, patience).await? {
                Sent::Messages(messages) => fields::known(&messages)?,
                Sent::Failed(code) => {
                    let message = format!("SQLSTATE {}", code.code());
                    // A read violates nothing; one that takes too long may be faster the next time.
                    let passing = DbError::Recurring {
                        write: None,
                        message,
                    };
                    return Err(failed(&code).err().unwrap_or(passing));
                }
            };
        }
        let read = rows.clone();
        let plan = |(one, _): &'a (Arc<Mutation>, bool)| {
            // What is planned before it may fail, so that alone is no reason to reject it: the guard finds out.
            fields::planned(one, &mut rows).or_else(|_| fields::planned(one, &mut read.clone()))
        };
        Ok(mutations.iter().map(plan).collect())
    }

    async fn call(
        &self,
        conn: &mut Option<Client>,
        mutations: &[&Mutation],
        log_schema: &str,
        patience: Patience,
    ) -> DbResult<Called> {
        let sql = call::sql(mutations, &self.emptied(), log_schema, patience);
        match self.send(conn, &sql, patience).await? {
            Sent::Messages(messages) => call::returned(&messages).map(Called::Returned),
            Sent::Failed(code) => failed(&code),
        }
    }

    /// Sends statements, which form one transaction.
    async fn send(
        &self,
        conn: &mut Option<Client>,
        sql: &str,
        patience: Patience,
    ) -> DbResult<Sent> {
        let open = match conn.take().or_else(|| self.idle().pop()) {
            Some(open) if !open.is_closed() => open,
            _ => self.open().await?,
        };
        let given_up = patience.statement + ANSWER_PATIENCE;
        let answer = tokio::time::timeout(given_up, open.simple_query(sql)).await;
        let messages = match answer {
            Err(_) => return Err(DbError::Unreachable("no answer in time".to_owned())),
            Ok(Ok(messages)) => messages,
            Ok(Err(error)) => {
                let code = error.code().cloned();
                if !open.is_closed() {
                    *conn = Some(open);
                }
                return match code {
                    Some(code) => Ok(Sent::Failed(code)),
                    None => Err(connect::failed("applying mutations", &error)),
                };
            }
        };
        *conn = Some(open);
        Ok(Sent::Messages(messages))
    }

    async fn open(&self) -> DbResult<Client> {
        let (client, connection) = self.connector.connect().await?;
        tokio::spawn(async move {
            // Its end shows when the client is used.
            let _ = connection.await;
        });
        Ok(client)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Client>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slow(&self) -> std::sync::MutexGuard<'_, HashMap<String, Instant>> {
        self.slow.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_slow(&self, mutation: &Mutation) -> bool {
        let slow = self.slow();
        let now = Instant::now();
        let is_slow = |entity: &str| slow.get(entity).is_some_and(|until| *until > now);
        !slow.is_empty()
            && mutation
                .writes
                .as_ref()
                .is_ok_and(|writes| writes.iter().any(|write| is_slow(&write.entity)))
    }

    fn is_slow_now(&self, mutation: &Mutation) {
        let until = Instant::now() + SLOW_TABLE;
        let mut slow = self.slow();
        for write in mutation.writes.iter().flatten() {
            slow.insert(write.entity.clone(), until);
        }
    }
}

/// The mutations that have a plan, each with its own. The others are answered.
fn keep_planned<'a>(
    taken: Vec<Waiting>,
    plans: Vec<Result<Planned<'a>, Reject>>,
) -> (Vec<Waiting>, Vec<Planned<'a>>) {
    let mut kept = Vec::with_capacity(taken.len());
    for (one, plan) in taken.into_iter().zip(plans) {
        match plan {
            Ok(plan) => kept.push((one, plan)),
            Err(reject) => {
                // Nobody may wait for it any more.
                let _ = one.answer.send(Ok(Ran::Rejected(reject)));
            }
        }
    }
    kept.into_iter().unzip()
}

enum Sent {
    Messages(Vec<SimpleQueryMessage>),
    Failed(SqlState),
}

enum Called {
    Returned(Returned),
    NotCommitted,
    TooSlow,
}

/// What follows when the transaction as a whole fails.
fn failed(code: &SqlState) -> DbResult<Called> {
    let (state, message) = (code.code(), format!("SQLSTATE {}", code.code()));
    match state.get(..2) {
        _ if *code == SqlState::QUERY_CANCELED => Ok(Called::TooSlow),
        Some("23") => Ok(Called::NotCommitted),
        Some("40") => Err(DbError::Recurring {
            write: None,
            message,
        }),
        Some("08" | "25" | "26" | "53" | "57" | "58" | "F0") => Err(DbError::Unreachable(message)),
        _ => Err(DbError::Table {
            write: None,
            message,
        }),
    }
}

/// What is known of a client.
pub(super) async fn client_state(
    conn: &mut AsyncPgConnection,
    client: &str,
) -> Result<ClientState, Failed> {
    let found: Option<(i64, Vec<u8>, Option<String>)> = client::table
        .find(client)
        .select((client::last_mutation, client::chains, client::user_id))
        .first(conn)
        .await
        .optional()?;
    Ok(
        found.map_or_else(ClientState::default, |(last, chains, user_id)| {
            let chains = KeptChains::stored(u64::try_from(last).unwrap_or(0), chains);
            ClientState { chains, user_id }
        }),
    )
}
