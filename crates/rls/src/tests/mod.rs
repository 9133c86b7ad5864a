//! Plans and what they depend on, without a database.

mod classes;
mod dependencies;
mod groups;
mod guards;

use std::collections::BTreeSet;

use filter::{Backend, Table};
use value::schema::{Collation, Column, ColumnKind, Schema};

use crate::{ColumnFacts, Command, Draft, Plan, Policy, TableFacts};

fn column(name: &str, kind: ColumnKind, type_name: &str) -> Column {
    Column {
        name: name.to_owned(),
        kind,
        type_name: type_name.to_owned(),
        nullable: true,
        has_default: false,
        generated: false,
        collation: Collation::Deterministic,
        logged: true,
    }
}

/// A table `docs` of which `payload` can be compared with nothing.
fn schema() -> Schema {
    Schema {
        entity: "docs".to_owned(),
        columns: vec![
            column("id", ColumnKind::INT4, "int4"),
            column("owner", ColumnKind::Uuid, "uuid"),
            column("team", ColumnKind::INT4, "int4"),
            column("state", ColumnKind::Text { chars_max: None }, "text"),
            column("open", ColumnKind::Bool, "bool"),
            column("payload", ColumnKind::Json, "jsonb"),
        ],
        key: vec![0],
    }
}

fn table(schema: &Schema) -> Table<'_> {
    Table::new(schema, Backend::Postgres)
}

fn policy(name: &str, permissive: bool, using: &str) -> Policy {
    Policy {
        name: name.to_owned(),
        permissive,
        command: Command::Select,
        roles: BTreeSet::from([0]),
        using: Some(using.to_owned()),
        check: None,
    }
}

fn facts(policies: Vec<Policy>) -> TableFacts {
    let columns = schema()
        .columns
        .into_iter()
        .map(|column| ColumnFacts { name: column.name });
    TableFacts {
        oid: 1,
        name: "docs".to_owned(),
        relation: "public.docs".to_owned(),
        enabled: true,
        forced: false,
        columns: columns.collect(),
        policies,
        roles: Vec::new(),
    }
}

/// The plan of policies, permissive and restrictive, whose probes have these types.
fn plan(permissive: &[&str], restrictive: &[&str], types: &[&str]) -> Plan {
    let schema = schema();
    let of = |texts: &[&str], permissive: bool| -> Vec<Policy> {
        texts
            .iter()
            .map(|text| policy("p", permissive, text))
            .collect()
    };
    let (permissive, restrictive) = (of(permissive, true), of(restrictive, false));
    let facts = facts(Vec::new());
    let draft = Draft::new(
        &facts,
        &permissive.iter().collect::<Vec<_>>(),
        &restrictive.iter().collect::<Vec<_>>(),
        table(&schema),
    );
    assert_eq!(draft.probes().len(), types.len(), "{:?}", draft.probes());
    let types: Vec<Option<String>> = types.iter().map(|name| Some((*name).to_owned())).collect();
    draft.finish(&types)
}
