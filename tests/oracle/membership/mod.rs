//! Random filters and policies with subqueries: at each cursor each copy equals what the database answers to the filter
//! at that position, while transactions write to several tables in every order, and clients come and go over several
//! servers.
//!
//! `SEED=…` repeats the choices, `ORACLE_ROUNDS=…` makes it longer.

mod conditions;
mod tables;
mod truth;
mod windows;
mod writes;

use std::sync::Arc;
use std::time::Duration;

use filter::Backend;
use rhtmx_sync::{EntityPolicy, Policies};
use rhtmx_sync_tests::TestServer;
use rhtmx_sync_tests::claims::{ClaimsAreTokens, options, token};
use serde_json::{Value, json};
use testkit::{ClientOptions, ClientState, Http, TestDatabase};

use crate::changes::subscribers::{Instant, Poller, Subscriber};
use crate::changes::writes::{Programs, transaction};
use crate::filters::random::{Random, cases};
use conditions::{Conditions, Template, User};
use tables::RandomTable;
use truth::{Asked, Truth};
use windows::RandomWindow;
use writes::Statements;

const USERS: usize = 3;
/// For each user.
const SELECTIONS: usize = 6;
const AT_FIRST: usize = 4;
const STEPS: usize = 70;

/// What a user may subscribe to.
#[derive(Debug, Clone)]
struct Selection {
    user: usize,
    table: usize,
    condition: Template,
    /// Of which rows only the first count.
    window: Option<RandomWindow>,
    frame: Value,
}

/// What a run has shown.
#[derive(Debug, Default)]
struct Shown {
    /// Copies that were compared, and their rows.
    compared: usize,
    rows: usize,
    /// Copies of conditions with subqueries that differ from those at the cursor before.
    changed: usize,
    resumed: usize,
    refetched: usize,
}

/// Random tables with their policies, servers and clients.
struct World {
    db: TestDatabase,
    backend: Backend,
    random: Random,
    asked: Asked,
    with_policies: bool,
    is_pruned: bool,
    servers: Vec<TestServer>,
    programs: Programs,
    truth: Truth,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_equal_what_the_database_answers_as_memberships_change_on_postgres() {
    run("memberships_on_postgres", Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_equal_what_the_database_answers_as_memberships_change_on_sqlite() {
    run("memberships_on_sqlite", Backend::Sqlite).await;
}

async fn run(test: &str, backend: Backend) {
    let mut random = Random::new(test);
    let mut shown = Shown::default();
    // Each starts two servers on PostgreSQL.
    let rounds = match backend {
        Backend::Postgres => cases("ORACLE_ROUNDS", 4),
        Backend::Sqlite => cases("ORACLE_ROUNDS", 10),
    };
    for round in 0..rounds {
        let seed = random.number();
        println!("round {round}: {seed}");
        World::new(backend, Random::seeded(seed))
            .await
            .run(&mut shown)
            .await;
    }
    println!("{rounds} rounds: {shown:?}");
    assert!(
        shown.rows > shown.compared / 2,
        "the filters test too little"
    );
    assert!(
        shown.changed > shown.compared / 20,
        "the writes test too little"
    );
}

impl World {
    async fn new(backend: Backend, mut random: Random) -> Self {
        let db = match backend {
            Backend::Postgres => TestDatabase::postgres().await,
            Backend::Sqlite => TestDatabase::sqlite().await,
        };
        let tables = tables::tables(&mut random, backend);
        for table in &tables {
            db.execute(&table.sql).await;
        }
        db.execute("CREATE TABLE marks (id integer PRIMARY KEY)")
            .await;
        truth::prepare(&db, backend, &tables).await;
        let with_policies = !random.once_in(3);
        let asked = asked(backend, &mut random, tables, with_policies);
        let programs = Programs::new(&db, backend).await;
        let mut world = Self {
            truth: Truth::new(asked.clone()),
            is_pruned: random.once_in(5),
            db,
            backend,
            random,
            asked,
            with_policies,
            servers: Vec::new(),
            programs,
        };
        let servers = match backend {
            Backend::Postgres => 2,
            Backend::Sqlite => 1,
        };
        for _ in 0..servers {
            let server = world.start().await;
            world.servers.push(server);
        }
        world
    }

    async fn start(&self) -> TestServer {
        let names = self.asked.tables.iter().map(|table| table.name.as_str());
        let mut config = TestServer::config(&self.db, names.chain(["marks"])).await;
        if self.is_pruned {
            config.retention.hours = 0;
            config.retention.interval_ms = 50;
        }
        if self.with_policies {
            let reading = |read: String| EntityPolicy {
                read: Some(read),
                ..EntityPolicy::default()
            };
            let policies = self.asked.tables.iter().zip(&self.asked.policies);
            let policies =
                policies.map(|(table, policy)| (table.name.clone(), reading(policy.text())));
            let marks = ("marks".to_owned(), reading("TRUE".to_owned()));
            let policies = Policies::new(policies.chain([marks])).expect("policies");
            config.auth.authenticator = Arc::new(ClaimsAreTokens);
            config.auth.authorizer = Arc::new(policies);
        }
        TestServer::with_config(config).await
    }

    async fn run(mut self, shown: &mut Shown) {
        for table in 0..self.asked.tables.len() {
            let insert = self.statements().insert(table, 12);
            self.write(vec![format!("{insert} ON CONFLICT DO NOTHING")])
                .await;
        }
        self.programs.rest().await;
        self.truth.add_state(&self.db).await;
        let mut subscribers = Vec::new();
        for user in 0..USERS {
            let (url, options) = (self.any_server().ws_url(), self.options(user));
            let mut subscriber = Subscriber::new(url, options).await;
            for number in user * SELECTIONS..user * SELECTIONS + AT_FIRST {
                let frame = self.asked.selections[number].frame.clone();
                subscriber.subscribe(number, frame).await;
            }
            subscribers.push(subscriber);
        }
        let mut poller = self.poller();
        for _ in 0..STEPS {
            let user = self.random.below(USERS);
            match self.random.below(30) {
                0 => {
                    let state = subscribers[user].leave();
                    for _ in 0..self.random.below(8) {
                        self.step().await;
                    }
                    self.come_back(user, &mut subscribers[user], &state).await;
                    shown.resumed += state.subscriptions.len();
                }
                1 if self.random.once_in(3) => {
                    let states: Vec<ClientState> =
                        subscribers.iter_mut().map(Subscriber::leave).collect();
                    self.restart().await;
                    poller.move_to(self.http(poller.number()));
                    for (user, state) in states.iter().enumerate() {
                        self.come_back(user, &mut subscribers[user], state).await;
                        shown.resumed += state.subscriptions.len();
                    }
                }
                1..=3 => {
                    subscribers[user].unsubscribe(&mut self.random).await;
                    let number = user * SELECTIONS + self.random.below(SELECTIONS);
                    let frame = self.asked.selections[number].frame.clone();
                    subscribers[user].subscribe(number, frame).await;
                }
                4..=9 => {
                    let moment = Duration::from_millis(self.random.below(20) as u64);
                    subscribers[user].listen(moment).await;
                }
                10 | 11 => drop(poller.ask().await),
                _ => self.step().await,
            }
        }
        self.end(subscribers, poller, shown).await;
    }

    async fn end(
        &mut self,
        mut subscribers: Vec<Subscriber>,
        mut poller: Poller,
        shown: &mut Shown,
    ) {
        self.programs.rest().await;
        self.truth.add_state(&self.db).await;
        for subscriber in &mut subscribers {
            subscriber.settle().await;
        }
        self.db.execute("INSERT INTO marks VALUES (1)").await;
        for subscriber in &mut subscribers {
            subscriber.catch_up("1").await;
            shown.refetched += subscriber.refetches;
        }
        poller.catch_up().await;
        for instants in subscribers
            .iter()
            .map(|it| &it.instants)
            .chain([&poller.instants])
        {
            for (at, instant) in instants.iter().enumerate() {
                self.assert_true(instant).await;
                let mut before = instants[..at].iter();
                let before = before.rfind(|before| before.id == instant.id);
                let condition = &self.asked.selections[instant.number].condition;
                shown.changed += usize::from(
                    condition.has_subquery()
                        && before.is_some_and(|before| before.rows != instant.rows),
                );
                shown.compared += 1;
                shown.rows += instant.rows.len();
            }
        }
        let now = self.asked.ask(&self.db, None).await;
        for subscriber in &subscribers {
            for instant in subscriber.newest() {
                assert_eq!(instant.rows, now[instant.number], "{}", self.about(instant));
            }
        }
    }

    /// A copy equals what the database answered at its cursor.
    async fn assert_true(&mut self, instant: &Instant) {
        let truth = self
            .truth
            .at(&self.db, &instant.position, instant.number)
            .await
            .clone();
        for key in instant.rows.keys() {
            assert!(
                truth.contains_key(key),
                "the row {key} should not be there\n{}",
                self.about(instant)
            );
        }
        for (key, row) in &truth {
            let found = instant.rows.get(key);
            assert_eq!(found, Some(row), "the row {key}\n{}", self.about(instant));
        }
    }

    fn about(&self, instant: &Instant) -> String {
        let selection = &self.asked.selections[instant.number];
        let tables: Vec<&str> = self
            .asked
            .tables
            .iter()
            .map(|table| table.sql.as_str())
            .collect();
        let policies: Vec<String> = self.asked.policies.iter().map(Template::text).collect();
        format!(
            "{} at {}: {} for {:?}\npolicies: {policies:#?}\ntables: {tables:#?}",
            instant.source, instant.position, selection.frame, self.asked.users[selection.user]
        )
    }

    async fn step(&mut self) {
        let statements = self.statements().transaction();
        self.write(statements).await;
    }

    async fn write(&mut self, statements: Vec<String>) {
        match self.backend {
            Backend::Postgres => {
                self.programs
                    .step(&mut self.random, statements.join("; "))
                    .await
            }
            Backend::Sqlite => {
                transaction(&self.db, &mut self.random, statements).await;
                self.truth.add_state(&self.db).await;
            }
        }
    }

    fn statements(&mut self) -> Statements<'_> {
        Statements {
            random: &mut self.random,
            backend: self.backend,
            tables: &self.asked.tables,
        }
    }

    /// All servers end, writers go on, and others begin.
    async fn restart(&mut self) {
        let count = self.servers.len();
        for server in std::mem::take(&mut self.servers) {
            server.shutdown().await;
        }
        for _ in 0..self.random.below(4) {
            self.step().await;
        }
        for _ in 0..count {
            let server = self.start().await;
            self.servers.push(server);
        }
    }

    async fn come_back(&mut self, user: usize, subscriber: &mut Subscriber, state: &ClientState) {
        subscriber.move_to(self.any_server().ws_url());
        let options = self.options(user);
        subscriber.come_back(state, options).await;
    }

    fn poller(&mut self) -> Poller {
        // Plain HTTP has no windows.
        let of_all = |(_, selection): &(usize, &Selection)| selection.window.is_none();
        let selections = self.asked.selections.iter().enumerate().filter(of_all);
        let numbers: Vec<usize> = selections.map(|(number, _)| number).collect();
        let number = *self.random.pick(&numbers);
        let limit = 1 + self.random.below(8);
        let frame = &self.asked.selections[number].frame;
        Poller::new(self.http(number), number, frame, limit)
    }

    /// For the user of a selection.
    fn http(&self, number: usize) -> Http {
        let user = self.asked.selections[number].user;
        let claims = self.asked.users[user].claims();
        self.servers[0].http().with_token(token(&claims))
    }

    fn any_server(&mut self) -> &TestServer {
        self.random.pick(&self.servers)
    }

    fn options(&mut self, user: usize) -> ClientOptions {
        let options = options(&self.asked.users[user].claims());
        ClientOptions {
            gzip: self.random.once_in(2),
            ..options
        }
    }
}

/// Users, policies and selections.
fn asked(
    backend: Backend,
    random: &mut Random,
    tables: Vec<RandomTable>,
    with_policies: bool,
) -> Asked {
    let users: Vec<User> = (0..USERS)
        .map(|number| User {
            sub: format!("u{number}"),
            n: (number > 0).then(|| random.below(7)),
        })
        .collect();
    let everything = Template::everything();
    let policies = (0..tables.len())
        .map(|table| {
            if !with_policies || random.once_in(3) {
                return everything.clone();
            }
            let depth = 1 + random.below(3);
            let template = Conditions::new(random, &tables, true).write(table, depth);
            // Most users see something.
            match random.below(3) {
                0 => template,
                1 => template.or_id_below(random.below(9)),
                _ => template.or_id_below(4),
            }
        })
        .collect();
    let mut selections = Vec::new();
    for user in 0..USERS {
        for _ in 0..SELECTIONS {
            let table = random.below(tables.len());
            let depth = 1 + random.below(3);
            let condition = match random.below(8) {
                0 => everything.clone(),
                _ => Conditions::new(random, &tables, false).write(table, depth),
            };
            let mut frame = json!({
                "entity": tables[table].name,
                "where": condition.text(),
                "params": condition.params(),
            });
            let is_window = !selections.is_empty() && random.once_in(3);
            let window = is_window.then(|| RandomWindow::new(random, &tables[table]));
            if let Some(window) = &window {
                window.add_to(&mut frame);
            }
            selections.push(Selection {
                user,
                table,
                condition,
                window,
                frame,
            });
        }
    }
    Asked {
        backend,
        tables,
        policies,
        users,
        selections,
    }
}
