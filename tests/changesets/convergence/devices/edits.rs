//! What its user does, of which no server knows yet; and what it has done, once a server has accepted it.

use merge::Clock;
use rhtmx_sync_tests::Dice;
use serde_json::{Value, json};
use testkit::PushOutcome;

use super::super::truth::Truth;
use super::super::{FIXED, VOLATILE};
use super::{Device, Queued};

impl Device {
    /// Some mutations more wait to be pushed.
    pub(in super::super) fn edit(&mut self, dice: &mut Dice, truth: &Truth) {
        if dice.chance(20) {
            self.set_clock(dice);
        }
        for _ in 0..dice.pick(1..5) {
            self.queue_mutation(dice, truth);
        }
    }

    /// Its user and another device's write the same field in the same moment.
    pub(in super::super) fn edit_at_once(
        &mut self,
        other: &mut Self,
        dice: &mut Dice,
        truth: &Truth,
    ) {
        let key = dice.pick(1..FIXED + 1).to_string();
        self.ahead_ms = 0;
        let clock = self.now(None);
        let same = Clock::new(clock.millis(), clock.counter(), &other.node);
        if !other.issued.insert(same.to_string()) {
            return;
        }
        let mut texts = [truth.new_text(), truth.new_text()];
        if dice.chance(50) {
            texts.reverse();
        }
        for ((device, clock), text) in [(self, clock), (other, same)].into_iter().zip(texts) {
            let values = json!({ "motto": text });
            let mut write = device.stamped("update", &key, values, dice);
            write["hlc"] = json!(clock.as_str());
            device.queue.push(Queued {
                writes: json!([write]),
                is_sent_twice: false,
            });
        }
    }

    fn queue_mutation(&mut self, dice: &mut Dice, truth: &Truth) {
        let writes: Vec<Value> = (0..dice.pick(1..4))
            .map(|_| match dice.pick(0..10) {
                0..4 => self.of_fixed_row(dice, truth),
                4..6 => self.of_mortal_row(dice, truth),
                _ => self.of_volatile_row(dice, &truth.new_text()),
            })
            .collect();
        let adds = writes
            .iter()
            .any(|write| write["values"]["likes"]["add"].is_number());
        self.queue.push(Queued {
            writes: Value::Array(writes),
            is_sent_twice: !adds && dice.chance(20),
        });
    }

    fn of_fixed_row(&mut self, dice: &mut Dice, truth: &Truth) -> Value {
        let key = dice.pick(1..FIXED + 1).to_string();
        let text = truth.new_text();
        let number = dice.pick(0..1000);
        let values = match dice.pick(0..8) {
            0..2 => json!({ "title": text }),
            2 => json!({ "title": text, "body": text }),
            3 => json!({ "body": text, "likes": { "add": number } }),
            4 => json!({ "likes": { "add": dice.pick(0..9) as i64 - 4 } }),
            5 => json!({ "best": number, "least": number, "title": text }),
            6 => json!({ "tags": { "add": [text] } }),
            _ => json!({ "state": text, "owner": text }),
        };
        self.stamped("update", &key, values, dice)
    }

    fn of_mortal_row(&mut self, dice: &mut Dice, truth: &Truth) -> Value {
        let key = truth.mortal(dice).to_string();
        match dice.chance(40) {
            true => self.stamped("delete", &key, Value::Null, dice),
            false => {
                let values = json!({ "title": truth.new_text() });
                self.stamped("update", &key, values, dice)
            }
        }
    }

    fn of_volatile_row(&mut self, dice: &mut Dice, text: &str) -> Value {
        let key = dice.pick(VOLATILE).to_string();
        let number = dice.pick(0..100);
        let op = match dice.pick(0..10) {
            0 => "create",
            1 => "upsert",
            2..4 => "delete",
            _ => "update",
        };
        let again = if dice.chance(50) { "a" } else { "b" };
        let values = match (op, dice.pick(0..8)) {
            ("delete", _) => Value::Null,
            ("create" | "upsert", _) => {
                json!({ "title": text, "body": text, "points": number, "best": number, "tags": [text] })
            }
            (_, 0) => json!({ "title": text, "state": text, "owner": text }),
            (_, 1) => json!({ "body": text, "points": { "add": number } }),
            (_, 2) => json!({ "points": number, "likes": { "add": 1 } }),
            (_, 3) => json!({ "best": number, "least": number }),
            (_, 4) => json!({ "tags": { "add": [again], "remove": ["b", "c"] } }),
            (_, 5) => json!({ "tags": [text, "a"], "body": null }),
            (_, 6) => json!({ "owner": text, "body": text }),
            _ => json!({ "title": text }),
        };
        let mut write = self.stamped(op, &key, values, dice);
        if dice.chance(10) {
            // It counts as made when it arrives.
            write.as_object_mut().expect("a write").remove("hlc");
        }
        self.resolve(&mut write, &key, dice);
        write
    }

    /// Takes back what lost, if it knows of anything.
    fn resolve(&self, write: &mut Value, key: &str, dice: &mut Dice) {
        let lost = self.metadata.get(key).map(|known| &known["lost"]["body"]);
        let newest = lost.and_then(Value::as_array).and_then(|lost| lost.last());
        if let Some(newest) = newest.filter(|_| write["op"] == "update" && dice.chance(30)) {
            write["resolves"] = json!({ "body": [newest["hlc"]] });
        }
    }

    fn stamped(&mut self, op: &str, key: &str, values: Value, dice: &mut Dice) -> Value {
        let seen = self.seen(key);
        let clock = self.now(seen.as_ref().filter(|_| dice.chance(70)));
        let mut write = json!({ "entity": "notes", "op": op, "key": key, "hlc": clock.as_str() });
        if !values.is_null() {
            write["values"] = values;
        }
        let born = self.metadata.get(key).and_then(|known| known.get("born"));
        if let Some(born) = born.filter(|_| op != "create") {
            write["born"] = born.clone();
        }
        if let Some(seen) = seen.filter(|_| dice.chance(80)) {
            write["seen"] = json!(seen.as_str());
        }
        write
    }
}

/// What an answered mutation has written.
pub(super) fn count(writes: &Value, outcome: &PushOutcome, truth: &Truth) {
    let PushOutcome::Acked { stamps } = outcome else {
        return;
    };
    for (index, write) in writes.as_array().expect("writes").iter().enumerate() {
        let key = write["key"].as_str().expect("a key");
        let stamp = stamps.iter().find(|stamp| stamp["write"] == index);
        let clock = stamp.map_or(&write["hlc"], |stamp| &stamp["hlc"]);
        let values = &write["values"];
        if let (Some("delete"), Some(clock)) = (write["op"].as_str(), clock.as_str()) {
            truth.died(key, clock);
        }
        for column in ["title", "body", "motto"] {
            if let (Some(value), Some(clock)) = (values[column].as_str(), clock.as_str()) {
                truth.wrote(key, column, clock, value);
            }
        }
        if let Some(likes) = values["likes"]["add"].as_i64() {
            truth.liked(key, likes);
        }
        if let Some(number) = values["best"].as_i64() {
            truth.scored(key, number);
        }
        for tag in values["tags"]["add"].as_array().into_iter().flatten() {
            truth.tagged(key, tag.as_str().expect("a text"));
        }
    }
}
