//! A client at rest: it collects all answers, then hands over its copy.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use sync_core::cursor::{Cursor, Position};
use testkit::SyncClient;

use super::{Client, Left};
use crate::pushes::Pushed;
use crate::sample::Sample;
use crate::scene::{Phase, Report};
use crate::subscriptions::Plan;

impl Client {
    /// Nothing is broken: collects all answers, then hands over the whole copy. Returns how to leave,
    /// if the client must.
    pub(super) async fn rest(
        &mut self,
        client: &mut SyncClient,
        phase: &Phase,
        quiet: &mut Quiet,
    ) -> Option<Left> {
        self.pushes.record_answers(client, &self.scene);
        if !quiet.asked {
            quiet.asked = true;
            // Lost answers are sent again, the same as the first time.
            let waiting: Vec<u64> = client.unanswered().collect();
            for (number, writes) in self.pushes.forgotten(&waiting) {
                client.send_push(number, writes).await;
            }
        }
        if self.pushes.unanswered() > 0 {
            return None;
        }
        if !quiet.answered {
            quiet.answered = true;
            self.scene.report(Report::Answered(self.number)).await;
        }
        let Phase::Quiet(sentinel) = phase else {
            return None;
        };
        if quiet.reported || !sentinel.is_reached(client, &self.plans) {
            return None;
        }
        if self.dice.chance(25) {
            // The client has the same copy afterwards, or has failed.
            self.probe(client).await;
        }
        quiet.reported = true;
        let copies = client
            .subscriptions()
            .iter()
            .map(|(id, subscription)| {
                let id = id.to_json().as_str().unwrap_or_default().to_owned();
                let plan = self.plans[&id].clone();
                (id, plan, subscription.rows().clone())
            })
            .collect();
        let pushed: Vec<Pushed> = self.pushes.take();
        let samples: Vec<Sample> = self.watcher.take_samples();
        let report = Report::Settled {
            client: self.number,
            copies,
            pushed,
            samples,
            connections: std::mem::take(&mut self.connections),
            counts: self.watcher.take_counts(),
            transcript: client.transcript(),
            past: self.watcher.past(),
        };
        self.scene.report(report).await;
        None
    }

    /// Reconnects with a cursor after which nothing has happened, and must receive no changes. Only a table that had a row
    /// that nobody could read may be read again: each server says so when it can read it again, whenever that is.
    async fn probe(&mut self, client: &mut SyncClient) {
        let state = client.state();
        let url = self.scene.address(&mut self.dice);
        let Ok(mut again) = SyncClient::try_reconnect(&url, self.options.clone(), &state).await
        else {
            return;
        };
        let mut read_again = BTreeSet::new();
        while !again.subscriptions().values().all(|one| one.is_live()) {
            let Ok(frame) = again.try_next_frame().await else {
                return;
            };
            if frame["type"] == "refetch" && frame["reason"] == "schema" {
                read_again.insert(frame["id"].to_string());
            }
        }
        for (id, subscription) in again.subscriptions() {
            let puts: u64 = subscription.puts().values().sum();
            let may_be_again = subscription.entity() == "bulk";
            if puts > 0 && !(may_be_again && read_again.contains(&id.to_json().to_string())) {
                self.fail(
                    &again,
                    &format!("nothing had changed, but {puts} rows of {id} were sent again"),
                );
            }
        }
        *client = again;
    }
}

/// How far a client has come to rest.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    asked: bool,
    answered: bool,
    reported: bool,
}

impl Quiet {
    pub(super) fn moves(&self) -> bool {
        !self.reported
    }
}

/// The note of the last write of a round, the database's position before it, and the columns of `items`
/// by then.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sentinel {
    pub(crate) note: String,
    pub(crate) position: Position,
    pub(crate) columns: Vec<String>,
}

impl Sentinel {
    fn is_reached(&self, client: &SyncClient, plans: &BTreeMap<String, Plan>) -> bool {
        client.subscriptions().iter().all(|(id, subscription)| {
            let id = id.to_json();
            let plan = &plans[id.as_str().unwrap_or_default()];
            // Projections name columns that are never altered.
            let is_whole =
                plan.entity == "items" && plan.columns.is_none() && !self.columns.is_empty();
            let schema = subscription
                .schema()
                .and_then(|schema| schema["columns"].as_object());
            let fits =
                !is_whole || schema.is_some_and(|known| known.keys().eq(self.columns.iter()));
            let cursor = subscription
                .cursor()
                .and_then(|text| text.parse::<Cursor>().ok());
            let there = cursor.is_some_and(|cursor| cursor.position.covers(&self.position));
            subscription.is_live() && fits && there
        }) && client
            .row("accounts", "0")
            .is_some_and(|row| row["note"] == json!(self.note))
    }
}
