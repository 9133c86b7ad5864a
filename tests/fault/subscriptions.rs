//! The subscriptions of each client.

use std::collections::BTreeMap;

use rhtmx_sync_tests::Dice;
use serde_json::{Value, json};
use testkit::Backend;

use crate::filters::Filter;

/// One subscription: an entity, a filter and a projection.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) entity: &'static str,
    pub(crate) filter: Filter,
    /// None for all columns. The key is always included.
    pub(crate) columns: Option<Vec<&'static str>>,
    /// Whether it asks for what is known of the rows beside their values.
    pub(crate) fields: bool,
}

impl Plan {
    fn of(entity: &'static str, filter: Filter) -> Self {
        Self {
            entity,
            filter,
            columns: None,
            fields: false,
        }
    }

    /// The fields of `subscribe`.
    pub(crate) fn request(&self) -> Value {
        let mut request = json!({ "entity": self.entity });
        if !matches!(self.filter, Filter::Everything) {
            request["where"] = json!(self.filter.text());
        }
        if let Some(columns) = &self.columns {
            request["columns"] = json!(columns);
        }
        if self.fields {
            request["mode"] = json!("fields");
        }
        request
    }
}

/// One client in this many has the whole of `bulk`.
const BULK_READERS: usize = 12;

/// Whether it subscribes to all of `bulk`.
pub(crate) fn reads_bulk(number: usize) -> bool {
    number.is_multiple_of(BULK_READERS)
}

/// The subscriptions of a client, by id.
pub(crate) fn plans(
    number: usize,
    name: &str,
    backend: Backend,
    dice: &mut Dice,
) -> BTreeMap<String, Plan> {
    let mut plans = BTreeMap::new();
    let mut add = |id: String, plan| plans.insert(id, plan);
    add(
        "accounts".to_owned(),
        Plan::of("accounts", Filter::Everything),
    );
    add(
        "ledger".to_owned(),
        Plan::of("ledger", Filter::ClientIs(name.to_owned())),
    );
    for at in 0..dice.pick(1..4) {
        let mut plan = Plan::of("items", Filter::random(dice));
        if dice.chance(40) {
            let columns = ["list", "n", "done", "title", "body"];
            plan.columns = Some(columns.into_iter().filter(|_| dice.chance(50)).collect());
        }
        plan.fields = dice.chance(40);
        add(format!("items{at}"), plan);
    }
    if backend == Backend::Postgres {
        if reads_bulk(number) {
            add("bulk".to_owned(), Plan::of("bulk", Filter::Everything));
        } else if dice.chance(25) {
            add(
                "bulk".to_owned(),
                Plan::of("bulk", Filter::ListIs(dice.pick(0..50))),
            );
        }
    }
    plans
}
