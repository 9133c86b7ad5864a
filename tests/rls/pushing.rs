//! Mutations that PostgreSQL decides about, applied as the engine applies them.

use std::collections::BTreeMap;
use std::sync::Arc;

use db::entity::{Entity, EntityConfig};
use db::write::{Mutation, RunAs, TableScope, TableWrite};
use db::{DatabaseConfig, DbPool};
use protocol::{Reject, Write};
use rhtmx_sync::SyncConfig;
use rhtmx_sync_tests::TestServer;
use serde_json::Value;
use sync_core::mutation::chain::{Place, WritesDigest};
use sync_core::mutation::{self, Applied};
use sync_core::policy::WriteColumns;
use testkit::TestDatabase;
use uuid::Uuid;

/// Applies mutations on few connections, so that each is used again.
pub(crate) struct Pushing {
    pub(crate) pool: DbPool,
    entities: BTreeMap<String, Arc<Entity>>,
    /// It sees to it that an epoch has begun.
    _server: TestServer,
}

impl Pushing {
    /// With the rights of the role in the address; these tables are captured.
    pub(crate) async fn new(db: &TestDatabase, url: &str, tables: &[&str]) -> Self {
        db.execute(
            "CREATE TABLE public.nothing (id int PRIMARY KEY); GRANT ALL ON public.nothing TO PUBLIC",
        )
        .await;
        let config = DatabaseConfig::default();
        let pool = DbPool::with_config(url, &config).await.expect("a database");
        let settings = ["request.jwt.claims", "app.tenant"].map(str::to_owned);
        pool.empty_settings(&settings.into());
        let nothing = EntityConfig::on_table("nothing", "public.nothing");
        let server = TestServer::with_config(SyncConfig::new(pool.clone(), vec![nothing])).await;
        let mut pushing = Self {
            pool,
            entities: BTreeMap::new(),
            _server: server,
        };
        for table in tables {
            pushing.capture(table).await;
        }
        pushing
    }

    /// Captures another table; its name is the entity's, too.
    pub(crate) async fn capture(&mut self, table: &str) {
        let installed = self
            .pool
            .install(&EntityConfig::on_table(table, table))
            .await;
        let installed = installed
            .expect("a database")
            .expect("a table that can be synced");
        let entity = Arc::new(installed.expect("a table").entity);
        self.entities.insert(table.to_owned(), entity);
    }

    pub(crate) fn entity(&self, table: &str) -> &Arc<Entity> {
        &self.entities[table]
    }

    /// Pushes writes as the first mutation of a new client. Those of tables in `decided` are decided by the database.
    pub(crate) async fn push(
        &self,
        run_as: &Arc<RunAs>,
        decided: &[&str],
        writes: &[Value],
    ) -> Result<Uuid, Reject> {
        let client_id = Uuid::new_v4();
        let text = serde_json::to_string(writes).expect("JSON");
        let table_writes = writes.iter().map(|write| {
            let write: Write = serde_json::from_value(write.clone()).expect("a write");
            let table = self.entity(&write.entity).clone();
            let schema = Some(table.schema.clone());
            let checked = mutation::check(&write, schema, WriteColumns::ALL)?;
            let scope = TableScope::default();
            let of_table = TableWrite::new(checked, table, scope, Arc::default());
            let of_table = of_table.expect("a table");
            Ok(match decided.contains(&write.entity.as_str()) {
                true => of_table.decided_by_database(run_as.clone()),
                false => of_table,
            })
        });
        let mutation = Mutation {
            client_id,
            user_id: None,
            place: Place {
                number: 1,
                claimed: None,
                digest: WritesDigest::of(&text),
            },
            writes: Ok(table_writes.collect::<Result<_, Reject>>()?),
            merged: None,
        };
        match self.pool.apply(mutation).await.expect("an answer") {
            Applied::Rejected(reject) => Err(reject),
            Applied::Committed { .. } => Ok(client_id),
        }
    }
}
