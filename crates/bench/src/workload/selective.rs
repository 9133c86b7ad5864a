//! Many subscribers, each with a list of its own, by a filter or by a policy: the cost of a change must depend on how many receive it, not
//! on how many are connected.

use anyhow::Result;
use serde_json::json;

use super::{ITEMS, cost_of_a_change};
use crate::load::{Group, Speaks, Subscribe, User};
use crate::report::{Bar, Figure, Findings};
use crate::server::Engine;
use crate::stage::{self, Database, PATIENCE, Stage};
use crate::users::{GuardedEngine, token};

const FEW: usize = 100;
const MANY: usize = 10_000;

/// Each user's rows: those of the list with the user's number.
const OWNERS: &str = "ALTER TABLE items ADD owner_id text GENERATED ALWAYS AS (list_id::text) STORED; \
    CREATE INDEX ON items (owner_id)";
const POLICY: &str = "[entities.items]\nread = \"owner_id = auth.sub\"\n";

struct Subscribers {
    database: Database,
    group: Group,
    server: Server,
}

/// What tells the subscribers apart.
enum Server {
    Filters(Engine),
    Users(GuardedEngine),
}

impl Server {
    fn engine(&self) -> &Engine {
        match self {
            Self::Filters(engine) => engine,
            Self::Users(guarded) => &guarded.engine,
        }
    }
}

impl Subscribers {
    async fn start(stage: &Stage, subscribers: usize) -> Result<Self> {
        let database = stage.database(stage::ITEMS).await?;
        let (server, group) = if stage.users {
            database.execute(OWNERS).await?;
            let guarded = GuardedEngine::start(&database.url, POLICY).await?;
            let tokens = (0..subscribers).map(|user| token(user, json!({})));
            let tokens = tokens.collect::<Result<Vec<_>>>()?;
            let address = guarded.engine.address();
            let group = stage.receivers.group(&address, subscribers, |user| User {
                token: Some(tokens[user].clone()),
                speaks: Speaks::Protocol(Subscribe::all(ITEMS)),
            });
            (Server::Users(guarded), group)
        } else {
            database.execute("CREATE INDEX ON items (list_id)").await?;
            let engine = Engine::start(&database.url, &[ITEMS]).await;
            let group = stage
                .receivers
                .group(&engine.address(), subscribers, |list| {
                    Speaks::Protocol(Subscribe {
                        lists: i64::try_from(list).into_iter().collect(),
                        ..Subscribe::all(ITEMS)
                    })
                });
            (Server::Filters(engine), group)
        };
        group.live(PATIENCE).await?;
        Ok(Self {
            database,
            group,
            server,
        })
    }

    async fn cost(&self, stage: &Stage) -> Result<f64> {
        let process = self.server.engine().process();
        let lists = self.group.size();
        cost_of_a_change(stage, &self.database, (&self.group, process), lists, 1).await
    }
}

pub(super) async fn run(stage: &Stage) -> Result<Findings> {
    let (name, few_name) = if stage.users {
        ("cost of a change, 10,000 users", "100 users")
    } else {
        ("cost of a change, 10,000 filters", "100 filters")
    };
    let few = match Subscribers::start(stage, FEW).await {
        Err(error) if error.to_string().contains("bad_filter") => {
            return Ok(Findings {
                figures: vec![Figure::not_built(name, "the server takes no filters")],
                plots: Vec::new(),
            });
        }
        few => few?,
    };
    let many = Subscribers::start(stage, stage.size(MANY)).await?;
    let (mut of_many, mut of_few) = (Vec::new(), Vec::new());
    for _ in 0..stage.rounds {
        of_many.push(many.cost(stage).await?);
        of_few.push(few.cost(stage).await?);
    }
    let figure = Figure::new(name, "µs", of_many)
        .beside(few_name, of_few)
        .bar(Bar::RatioAtMost(1.5));
    Ok(Findings {
        figures: vec![figure],
        plots: Vec::new(),
    })
}
