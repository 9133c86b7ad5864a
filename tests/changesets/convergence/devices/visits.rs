//! Its connections: to one server after another, cut at any moment, with pushes that come twice.

use std::collections::BTreeMap;

use rhtmx_sync_tests::Dice;
use serde_json::{Value, json};
use testkit::{Backend, ClientOptions, SyncClient};

use super::super::sites::{Site, in_order};
use super::super::truth::Truth;
use super::edits::count;
use super::{Device, Online};

/// The server tells these apart; and nobody waits for so many.
const PUSHED_AGAIN_MAX: usize = 20;

impl Device {
    /// It comes by, pushes what waits, and most often hears what became of it.
    pub(in super::super) async fn visit(&mut self, site: &Site, dice: &mut Dice) {
        if dice.chance(30) {
            self.leave();
        }
        self.go_online(site).await;
        self.push_queue(dice).await;
        if dice.chance(25) {
            self.leave();
            return;
        }
        self.hear_answers(dice.chance(30)).await;
        self.look().await;
    }

    /// Until every push is answered, and counted.
    pub(in super::super) async fn deliver_all(
        &mut self,
        sites: &[Site],
        truth: &Truth,
        dice: &mut Dice,
    ) {
        let first = dice.pick(0..sites.len() as u64) as usize;
        for turn in 0..=sites.len() {
            let site = &sites[(first + turn) % sites.len()];
            self.go_online(site).await;
            self.push_queue(dice).await;
            self.hear_answers(false).await;
        }
        assert!(self.queue.is_empty(), "everything is sent");
        for kept in &mut self.kept {
            for (number, (writes, outcome)) in std::mem::take(&mut kept.sent) {
                let outcome = outcome.unwrap_or_else(|| panic!("{number} was not answered"));
                count(&writes, &outcome, truth);
            }
        }
    }

    /// Its copies of rows, and of rows with their fields, become what the database holds.
    pub(in super::super) async fn holds_what_is_there(&mut self, site: &Site, dice: &mut Dice) {
        if dice.chance(30) {
            self.leave();
        }
        self.go_online(site).await;
        let (rows, known) = (rows_at(site).await, known_at(site).await);
        let online = self.online.as_mut().expect("it is online");
        let holds = |client: &SyncClient| {
            let copy = |id: &str| -> BTreeMap<String, Value> {
                let rows = client.rows(id).clone().into_iter();
                rows.map(|(key, row)| (key, in_order(row))).collect()
            };
            copy("f") == rows && copy("r") == rows && *client.subscription("f").metadata() == known
        };
        let arrived = {
            let patience = tokio::time::timeout(std::time::Duration::from_secs(10), async {
                online.client.wait_until(holds).await;
            });
            patience.await
        };
        if arrived.is_err() {
            let client = &online.client;
            panic!(
                "a copy of {} is not what is there:\n{:#?}\n{:#?}\nthere:\n{rows:#?}\n{known:#?}\n{}",
                site.name,
                client.rows("f"),
                client.subscription("f").metadata(),
                client.transcript()
            );
        }
        self.look().await;
    }

    async fn go_online(&mut self, site: &Site) {
        if self
            .online
            .as_ref()
            .is_some_and(|online| online.site != site.number)
        {
            self.leave();
        }
        if self.online.is_some() {
            return;
        }
        let options = ClientOptions {
            client_id: self.client_id,
            ..ClientOptions::default()
        };
        let (url, kept) = (site.server.ws_url(), &self.kept[site.number]);
        let client = match &kept.state {
            Some(state) => SyncClient::reconnect(&url, options, state).await,
            None => {
                let mut client = SyncClient::connect(&url, options).await;
                let fields = json!({ "entity": "notes", "mode": "fields" });
                client.subscribe_with("f", fields).await;
                client.subscribe("r", "notes").await;
                client
            }
        };
        self.online = Some(Online {
            site: site.number,
            client,
        });
    }

    async fn push_queue(&mut self, dice: &mut Dice) {
        let online = self.online.as_mut().expect("it is online");
        let mut again = Vec::new();
        for mut queued in std::mem::take(&mut self.queue) {
            let number = online.client.next_mutation();
            let sent = &mut self.kept[online.site].sent;
            sent.insert(number, (queued.writes.clone(), None));
            online.client.send_push(number, queued.writes.clone()).await;
            if std::mem::take(&mut queued.is_sent_twice) {
                again.push(queued);
            }
            // What has arrived meanwhile.
            if dice.chance(20) {
                online.client.ping().await;
            }
        }
        self.queue = again;
    }

    /// Waits for the answers to everything that was sent to this server. Those that it has forgotten to hear are told again.
    async fn hear_answers(&mut self, repeats: bool) {
        let online = self.online.as_mut().expect("it is online");
        let client = &mut online.client;
        client.wait_answered().await;
        let sent = &mut self.kept[online.site].sent;
        let repeated: Vec<u64> = sent.keys().rev().take(PUSHED_AGAIN_MAX).copied().collect();
        for (number, (writes, answer)) in sent.iter_mut() {
            let is_unheard = answer.is_none() && client.outcome(*number).is_none();
            if is_unheard || repeats && repeated.contains(number) {
                client.push(*number, writes.clone()).await;
            }
            *answer = answer.take().or_else(|| client.outcome(*number).cloned());
        }
    }

    /// Keeps what it sees.
    async fn look(&mut self) {
        let online = self.online.as_mut().expect("it is online");
        online.client.wait_subscribed("f").await;
        online.client.ping().await;
        let subscription = online.client.subscription("f");
        self.rows = subscription.rows().clone();
        self.metadata = subscription.metadata().clone();
    }

    /// Cuts the connection, whatever is under way.
    fn leave(&mut self) {
        if let Some(Online { site, client }) = self.online.take() {
            let kept = &mut self.kept[site];
            for (number, (_, answer)) in &mut kept.sent {
                *answer = answer.take().or_else(|| client.outcome(*number).cloned());
            }
            kept.state = Some(client.into_state());
        }
    }
}

async fn rows_at(site: &Site) -> BTreeMap<String, Value> {
    let held = site.held().await.into_iter();
    let rows = held.filter(|(_, held)| !held.row.is_null());
    rows.map(|(key, held)| (key, held.row)).collect()
}

/// What a client must know of the rows beside their values.
async fn known_at(site: &Site) -> BTreeMap<String, Value> {
    let mut known = BTreeMap::new();
    for (key, mut held) in site.held().await {
        if held.row.is_null() || held.metadata.is_null() {
            continue;
        }
        let members = held.metadata.as_object_mut().expect("an object");
        let fields = members
            .remove("fields")
            .filter(|fields| *fields != json!({}));
        if let Some(fields) = fields {
            members.insert("clocks".to_owned(), fields);
        }
        if !members.is_empty() {
            known.insert(key, held.metadata);
        }
    }
    let array = match site.db.backend() {
        Backend::Postgres => "json_build_array(entity_id, field, hlc, value)::text",
        Backend::Sqlite => "json_array(entity_id, field, hlc, json(value))",
    };
    let sql =
        format!("SELECT {array} FROM _rhtmx_field_conflict WHERE resolved_at IS NULL ORDER BY hlc");
    for lost in site.db.query_json(&sql).await {
        let text = |index: usize| lost[index].as_str().expect("a text");
        // What lost before the row was born belongs to an earlier one.
        let is_of_row =
            |known: &&mut Value| known["born"].as_str().is_none_or(|born| text(2) > born);
        if let Some(known) = known.get_mut(text(0)).filter(is_of_row) {
            let lost_before = &mut known["lost"][text(1)];
            if lost_before.is_null() {
                *lost_before = json!([]);
            }
            let entry = json!({ "value": lost[3], "hlc": lost[2] });
            lost_before.as_array_mut().expect("an array").push(entry);
        }
    }
    known
}
