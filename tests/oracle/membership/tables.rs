//! Random tables, which refer to each other.

use filter::Backend;

use crate::filters::random::Random;
use crate::filters::writer::quote;

/// Keys below this are written at first; changes of keys go beyond.
pub(super) const KEYS: usize = 14;
const TEXTS: [&str; 4] = ["a", "b", "u0", "u1"];
const UUIDS: [&str; 3] = [
    "00000000-0000-0000-0000-00000000000a",
    "00000000-0000-0000-0000-00000000000b",
    "00000000-0000-0000-0000-00000000000c",
];

/// The types whose values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Int,
    Text,
    /// On PostgreSQL alone.
    Uuid,
}

#[derive(Debug, Clone)]
pub(super) struct TableColumn {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// The table whose key it holds.
    pub(super) refers_to: Option<usize>,
}

/// A table with the key `id`.
#[derive(Debug, Clone)]
pub(super) struct RandomTable {
    pub(super) name: String,
    /// Without the key.
    pub(super) columns: Vec<TableColumn>,
    pub(super) sql: String,
}

/// Two to four tables.
pub(super) fn tables(random: &mut Random, backend: Backend) -> Vec<RandomTable> {
    let count = 2 + random.below(3);
    let refer = random.once_in(2);
    let mut tables: Vec<RandomTable> = Vec::new();
    for at in 0..count {
        let name = ["lists", "members", "teams", "notes"][at].to_owned();
        let mut columns = Vec::new();
        for number in 0..2 + random.below(3) {
            let kind = match (number, random.below(4)) {
                (0, _) | (_, 0 | 1) => Kind::Int,
                (_, 2) if backend == Backend::Postgres => Kind::Uuid,
                _ => Kind::Text,
            };
            let refers_to = (refer && number == 0 && at > 0).then(|| random.below(at));
            columns.push(TableColumn {
                name: format!("c{number}"),
                kind,
                refers_to,
            });
        }
        let mut parts = vec!["id integer PRIMARY KEY".to_owned()];
        for column in &columns {
            let kind = match column.kind {
                Kind::Int => "integer",
                Kind::Text => "text",
                Kind::Uuid => "uuid",
            };
            let reference = column.refers_to.map(|other| {
                let action = ["CASCADE", "SET NULL"][random.below(2)];
                format!(
                    " REFERENCES {} (id) ON DELETE {action} ON UPDATE CASCADE",
                    tables[other].name
                )
            });
            parts.push(format!(
                "{} {kind}{}",
                column.name,
                reference.unwrap_or_default()
            ));
        }
        let end = match backend {
            Backend::Sqlite if random.once_in(3) => " WITHOUT ROWID",
            _ => "",
        };
        tables.push(RandomTable {
            sql: format!("CREATE TABLE {name} ({}){end}", parts.join(", ")),
            name,
            columns,
        });
    }
    tables
}

impl RandomTable {
    /// The key and the other columns that hold values of this type.
    pub(super) fn of_kind(&self, kind: Kind) -> Vec<&str> {
        let others = self.columns.iter().filter(|column| column.kind == kind);
        let others = others.map(|column| column.name.as_str());
        (kind == Kind::Int)
            .then_some("id")
            .into_iter()
            .chain(others)
            .collect()
    }

    /// All columns with their types, the key among them.
    pub(super) fn all_columns(&self) -> Vec<(&str, Kind)> {
        let others = self
            .columns
            .iter()
            .map(|column| (column.name.as_str(), column.kind));
        std::iter::once(("id", Kind::Int)).chain(others).collect()
    }

    /// The members of a row's JSON, as the arguments of a function of SQL.
    pub(super) fn json_members(&self) -> String {
        let members = self.all_columns().into_iter();
        let members: Vec<String> = members
            .map(|(name, _)| format!("'{name}', {name}"))
            .collect();
        members.join(", ")
    }
}

/// A value as SQL writes it. Few, so that rows often match each other.
pub(super) fn value(random: &mut Random, kind: Kind) -> String {
    let texts: &[&str] = match kind {
        Kind::Int => return random.below(7).to_string(),
        Kind::Text => &TEXTS,
        Kind::Uuid => &UUIDS,
    };
    quote(random.pick::<&str>(texts))
}
