//! What clients hold at a cursor is what `SET ROLE` and a SELECT give there, after every change and every write; and each
//! write is answered as PostgreSQL answers the role.
//!
//! `SEED=…` repeats the choices, `RLS_ROUNDS=…` makes it longer: the number of random writes for each case, and of random
//! sets of policies. `RLS_CASE=case_075` runs one case alone.

mod cases;
mod policies;
mod writes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rhtmx_sync::{AuthError, Authenticator, EntityConfig, Principal};
use rhtmx_sync_tests::{Dice, TestServer};
use rls::{Claims, Group, Uses};
use serde_json::Value;
use testkit::{ClientOptions, PushOutcome, SyncClient, TestDatabase};
use tokio_postgres::Client;

use self::writes::RandomWrite;
use super::corpus::User;
use super::examined::Examined;
use super::truth;

/// The number of rounds in the environment, or this.
fn rounds(default: usize) -> usize {
    let given = std::env::var("RLS_ROUNDS").ok();
    given
        .and_then(|rounds| rounds.parse().ok())
        .unwrap_or(default)
}

/// Tokens are names.
#[derive(Debug)]
struct Named(BTreeMap<String, Principal>);

impl Authenticator for Named {
    fn verify<'a>(&'a self, token: Option<&'a str>) -> BoxFuture<'a, Result<Principal, AuthError>> {
        let principal = token.and_then(|token| self.0.get(token)).cloned();
        let unknown = || AuthError::Unauthenticated("nobody has this name".to_owned());
        async move { principal.ok_or_else(unknown) }.boxed()
    }
}

/// The claim that a setting is made from.
fn claim_of(setting: &str) -> String {
    format!("setting_{}", setting.replace('.', "_"))
}

fn principal(user: &User) -> Principal {
    let claims = user.claims.clone().unwrap_or_default();
    let sub = claims.get("sub").and_then(Value::as_str);
    let sub = sub.filter(|sub| !sub.is_empty());
    Principal {
        user_id: sub.map(str::to_owned),
        role: Some(user.role.clone()),
        claims: claims
            .into_iter()
            .chain(
                user.settings
                    .iter()
                    .map(|(name, value)| (claim_of(name), value.as_str().into())),
            )
            .collect(),
        ..Principal::default()
    }
}

/// A user's whole token.
fn group(user: &User) -> Group {
    let uses = Uses {
        claims: Claims::All,
        any_setting: true,
        ..rls::Sources::default().uses([])
    };
    Group::new(&user.role, user.claims.as_ref(), &user.settings, &uses)
}

/// An engine, and what PostgreSQL says itself.
struct Served<'a> {
    db: &'a TestDatabase,
    server: TestServer,
    truth: Client,
    fences: u32,
}

impl<'a> Served<'a> {
    /// Serves these entities to these users, by name.
    async fn start(
        db: &'a TestDatabase,
        entities: Vec<EntityConfig>,
        users: &BTreeMap<String, User>,
    ) -> Self {
        db.execute(
            "CREATE TABLE IF NOT EXISTS public.fences (id int PRIMARY KEY); TRUNCATE public.fences",
        )
        .await;
        let mut config = TestServer::config(db, ["fences"]).await;
        config.entities.extend(entities);
        let settings = users.values().flat_map(|user| user.settings.keys());
        config.auth.settings = settings
            .map(|name| (name.clone(), format!("auth.{}", claim_of(name))))
            .collect();
        let users = users.iter();
        let principals = users.map(|(name, user)| (name.clone(), principal(user)));
        config.auth.authenticator = Arc::new(Named(principals.collect()));
        Self {
            db,
            server: TestServer::with_config(config).await,
            truth: db.connect_postgres().await,
            fences: 0,
        }
    }

    /// Brings clients to one position after everything that has been written.
    async fn fence(&mut self, watchers: &mut [Watcher<'_>]) {
        self.fences += 1;
        let fence = self.fences.to_string();
        self.db
            .execute(&format!("INSERT INTO public.fences VALUES ({fence})"))
            .await;
        for watcher in watchers {
            let client = &mut watcher.client;
            client
                .wait_until(|client| client.row("fences", &fence).is_some())
                .await;
        }
    }

    /// Compares what everybody holds with what PostgreSQL shows.
    async fn compare(&mut self, watchers: &mut [Watcher<'_>], when: &str) {
        self.fence(watchers).await;
        let wrong = self.differences(watchers).await;
        assert!(wrong.is_empty(), "{when}:\n{}", wrong.join("\n"));
    }

    /// The same where the clock counts, or a table whose changes are not captured: within some seconds.
    async fn compare_in_time(&mut self, watchers: &mut [Watcher<'_>], when: &str) {
        let mut wrong = Vec::new();
        for _ in 0..50 {
            self.fence(watchers).await;
            wrong = self.differences(watchers).await;
            if wrong.is_empty() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        panic!("{when}:\n{}", wrong.join("\n"));
    }

    async fn differences(&self, watchers: &[Watcher<'_>]) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut rows_of = BTreeMap::new();
        for watcher in watchers {
            for (entity, examined) in watcher.entities {
                if !rows_of.contains_key(entity) {
                    rows_of.insert(entity, examined.rows(self.db).await);
                }
                let rows = &rows_of[entity];
                let shown = self.shown(watcher, examined).await;
                let held = watcher.held(entity);
                let keys: BTreeSet<&String> = held.iter().flat_map(|held| held.keys()).collect();
                if keys != shown.iter().collect() {
                    wrong.push(format!(
                        "{} {entity}: holds {keys:?}, not {shown:?}",
                        watcher.name
                    ));
                    continue;
                }
                for (key, row) in held.into_iter().flatten() {
                    let whole: Value = serde_json::from_str(rows[key].get()).expect("JSON");
                    let columns = row.as_object().expect("a row");
                    if columns
                        .iter()
                        .any(|(column, value)| whole[column] != *value)
                    {
                        wrong.push(format!(
                            "{} {entity}: holds {row}, not {whole}",
                            watcher.name
                        ));
                    }
                }
            }
        }
        wrong
    }

    /// The keys that PostgreSQL shows; none where the read fails.
    async fn shown(&self, watcher: &Watcher<'_>, examined: &Examined) -> BTreeSet<String> {
        let (key, from) = examined.sql();
        let (group, settings) = (&watcher.group, watcher.settings);
        let visible = truth::visible(&self.truth, group, settings, key, from).await;
        visible.unwrap_or_default()
    }

    /// Pushes a write as a mutation, and compares its answer with PostgreSQL's to the role, and what it leaves.
    async fn push(&self, watcher: &mut Watcher<'_>, schema: &str, write: &RandomWrite) {
        let (group, settings) = (watcher.group.clone(), watcher.settings);
        let shown = match &write.key {
            Some(_) => self.shown(watcher, &watcher.entities[&write.entity]).await,
            None => BTreeSet::new(),
        };
        let is_shown = write.key.as_ref().is_some_and(|key| shown.contains(key));
        let path = write.search_path.as_str();
        let expected = truth::written(&self.truth, &group, settings, path, &write.sql).await;
        let left = truth::left(&self.truth, &group, settings, path, &write.sql, schema).await;
        let outcome = watcher
            .client
            .push_next(Value::Array(vec![write.mutation.clone()]))
            .await;
        let code = match &outcome {
            PushOutcome::Acked { .. } => "",
            PushOutcome::Rejected(rejection) => rejection.code.as_str(),
        };
        let is_right = match expected.as_str() {
            "ok 1" => code.is_empty(),
            "ok 0" if is_shown => code == "forbidden",
            "ok 0" => code == "not_found",
            "error 42501" => code == "forbidden",
            "error 23505" => matches!(code, "exists" | "constraint" | "forbidden"),
            error if error.starts_with("error 23") => code == "constraint",
            _ => !code.is_empty(),
        };
        let what = format!("{} pushes {} ({})", watcher.name, write.mutation, write.sql);
        assert!(
            is_right,
            "{what}: {outcome:?}, but PostgreSQL says {expected}"
        );
        let contents = truth::contents_of(&self.truth, schema).await;
        assert_eq!(contents, left, "{what}");
    }
}

/// A user with a client that is subscribed to entities.
struct Watcher<'a> {
    name: String,
    group: Group,
    client: SyncClient,
    entities: &'a BTreeMap<String, Examined>,
    settings: &'a BTreeSet<String>,
}

impl<'a> Watcher<'a> {
    async fn connect(
        served: &Served<'_>,
        name: &str,
        user: &User,
        entities: &'a BTreeMap<String, Examined>,
        settings: &'a BTreeSet<String>,
    ) -> Self {
        let options = ClientOptions {
            token: Some(name.to_owned()),
            ..ClientOptions::default()
        };
        let mut client = SyncClient::connect(&served.server.ws_url(), options).await;
        client.subscribe("fences", "fences").await;
        client.wait_subscribed("fences").await;
        for entity in entities.keys() {
            client.subscribe(entity.as_str(), entity).await;
            client
                .wait_until(|client| {
                    *client.subscription(entity.as_str()).phase() != testkit::Phase::Joining
                })
                .await;
        }
        Self {
            name: name.to_owned(),
            group: group(user),
            client,
            entities,
            settings,
        }
    }

    /// The rows of an entity; none where it does not exist for the user.
    fn held(&self, entity: &str) -> Option<&BTreeMap<String, Value>> {
        let subscription = self.client.subscription(entity);
        subscription.is_live().then(|| subscription.rows())
    }
}

fn one_of<'a, T>(choices: &'a [T], dice: &mut Dice) -> &'a T {
    let at = dice.pick(0..choices.len() as u64);
    &choices[usize::try_from(at).expect("a position")]
}
