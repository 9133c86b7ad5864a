//! What subscriptions ask for, and what each of them has to see: by the model's own rows and rules,
//! written apart from those of `rhtmx_sync_core::shape`.

use std::collections::BTreeMap;
use std::sync::Arc;

use filter::Backend;
use protocol::{Change, SelectionRequest};
use rhtmx_sync_core::effect::Effect;
use rhtmx_sync_core::policy::ReadScope;
use rhtmx_sync_core::session::SubscribeError;
use rhtmx_sync_core::shape::{Shape, TableVersion};
use serde_json::value::RawValue;
use value::schema::{Collation, Column, ColumnKind, Schema};

use crate::database::{Item, Row};

/// How often a table has changed its shape.
pub(crate) type Generation = u32;

/// What a subscription asks of an entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    Everything,
    /// The rows of one kind.
    One,
    /// The rows of several.
    Some,
    /// One column of all rows.
    Names,
    /// One column of the rows of one kind.
    NamesOfOne,
    /// These columns, which every second table has no others besides: then it is everything.
    Columns,
}

impl Ask {
    pub(crate) const ALL: [Self; 6] = [
        Self::Everything,
        Self::One,
        Self::Some,
        Self::Names,
        Self::NamesOfOne,
        Self::Columns,
    ];

    /// Whether a table can answer it: every fourth has no kinds.
    pub(crate) fn is_answered(self, generation: Generation) -> bool {
        matches!(self, Self::Everything | Self::Names) || has_kinds(generation)
    }

    /// Writes it into a frame, in one of two ways that mean the same.
    pub(crate) fn write(self, selection: &mut SelectionRequest, otherwise: bool) {
        selection.filter = match self {
            Self::Everything => otherwise.then_some("TRUE"),
            Self::One | Self::NamesOfOne if otherwise => Some("kind = $1"),
            Self::One | Self::NamesOfOne => Some("kind IN (1)"),
            Self::Some if otherwise => Some("NOT kind = 0"),
            Self::Some => Some("kind <> 0"),
            Self::Names | Self::Columns => None,
        }
        .map(str::to_owned);
        let one = || vec![RawValue::from_string("1".to_owned()).expect("JSON")];
        let has_params = selection.filter.as_deref() == Some("kind = $1");
        selection.params = has_params.then(one);
        let mut columns = match self {
            Self::Everything | Self::One | Self::Some => return,
            Self::Names | Self::NamesOfOne => vec!["name"],
            Self::Columns => vec!["kind", "name", "version"],
        };
        if otherwise {
            columns.insert(0, "id");
        }
        selection.columns = Some(columns.into_iter().map(str::to_owned).collect());
    }

    /// What a frame asks for.
    pub(crate) fn read(selection: &SelectionRequest) -> Self {
        let filter = selection
            .filter
            .as_deref()
            .filter(|filter| *filter != "TRUE");
        let some = filter.is_some_and(|filter| filter.contains('0'));
        let columns = selection.columns.as_ref();
        let columns = columns.map(|columns| columns.iter().filter(|name| *name != "id").count());
        match (filter, columns) {
            (None, None) => Self::Everything,
            (Some(_), None) if some => Self::Some,
            (Some(_), None) => Self::One,
            (Some(_), Some(_)) => Self::NamesOfOne,
            (None, Some(1)) => Self::Names,
            (None, Some(_)) => Self::Columns,
        }
    }

    /// A row as a client has it that asks so; none when it has not.
    pub(crate) fn view(self, row: &Row, generation: Generation) -> Option<String> {
        let Row {
            version,
            kind,
            name,
        } = row;
        let wanted = match self {
            Self::One | Self::NamesOfOne => *kind == 1,
            Self::Some => *kind != 0,
            Self::Everything | Self::Names | Self::Columns => true,
        };
        let text = match self {
            Self::Names | Self::NamesOfOne => format!("[{name},{generation}]"),
            Self::Columns if has_more(generation) => {
                format!("[\"{version}\",{kind},{name},{generation}]")
            }
            _ => format!("[{version},{kind},{name},{generation}]"),
        };
        wanted.then_some(text)
    }
}

fn has_kinds(generation: Generation) -> bool {
    generation % 4 != 3
}

fn has_more(generation: Generation) -> bool {
    generation % 2 == 1
}

/// The shapes that were ever found, with what was asked and of which table.
#[derive(Debug, Default)]
pub(crate) struct Shapes(BTreeMap<Shape, (Ask, Generation)>);

impl Shapes {
    /// Finds the shape that a frame asks for in a table of this generation.
    pub(crate) fn resolve(
        &mut self,
        entity: &str,
        selection: &SelectionRequest,
        generation: Generation,
    ) -> Result<Shape, SubscribeError> {
        let table = TableVersion {
            schema: Arc::new(schema(entity, generation)),
            version: generation.to_string().into(),
            backend: Backend::Postgres,
        };
        let shape = Shape::resolve(&table, selection, &ReadScope::Everything)?;
        if shape.selection().is_some() {
            self.0
                .insert(shape.clone(), (Ask::read(selection), generation));
        }
        Ok(shape)
    }

    /// What a shape asks for, and of which table where that matters.
    pub(crate) fn ask(&self, shape: &Shape) -> (Ask, Option<Generation>) {
        let found = self.0.get(shape);
        found.map_or((Ask::Everything, None), |(ask, of)| (*ask, Some(*of)))
    }
}

fn schema(entity: &str, generation: Generation) -> Schema {
    let mut names = vec!["id", "name", "version"];
    names.extend(has_kinds(generation).then_some("kind"));
    names.extend(has_more(generation).then_some("more"));
    let columns = names.into_iter().map(|name| Column {
        name: name.to_owned(),
        kind: ColumnKind::INT8,
        type_name: "int8".to_owned(),
        nullable: false,
        has_default: false,
        generated: false,
        collation: Collation::Deterministic,
        logged: true,
    });
    Schema {
        entity: entity.to_owned(),
        columns: columns.collect(),
        key: vec![0],
    }
}

impl Item {
    /// What the audience of a shape learns: who has followed, what changed in the end; who may have
    /// joined in between, what changed in between.
    pub(crate) fn of(&self, (ask, made_for): (Ask, Option<Generation>)) -> Effect {
        let Some(made_for) = made_for else {
            return self.learned.clone();
        };
        let (Effect::Change { change, .. }, Some(key)) = (&self.learned, &self.key) else {
            return self.learned.clone();
        };
        let view = |row: &Option<Row>| {
            if made_for != self.generation {
                // Whoever looks for the columns of another table may find anything.
                return Some("\"stale\"".to_owned());
            }
            ask.view(row.as_ref()?, self.generation)
        };
        let views: Vec<Option<String>> = self.versions.iter().map(view).collect();
        let (first, last) = (&views[0], &views[views.len() - 1]);
        if views.iter().all(|view| view == last) {
            return Effect::Nothing;
        }
        let (key, mutation_id) = (key.clone(), None);
        let change = match (last, change) {
            (Some(text), _) => Change::Put {
                key,
                row: RawValue::from_string(text.clone()).expect("JSON"),
                mutation_id,
            },
            (None, Change::Put { .. }) => Change::Leave { key, mutation_id },
            (None, _) => Change::Delete { key, mutation_id },
        };
        Effect::Change {
            change,
            transient: first == last,
        }
    }
}
