//! What subscriptions ask for, and what each of them must receive, by rules of the model that are
//! independent of `rhtmx_sync_core::shape`.

use std::collections::BTreeMap;
use std::sync::Arc;

use filter::Backend;
use protocol::{Change, RowMetadata, SelectionRequest};
use rhtmx_sync_core::effect::Effect;
use rhtmx_sync_core::policy::ReadScope;
use rhtmx_sync_core::session::SubscribeError;
use rhtmx_sync_core::shape::{CurrentTable, Others, Shape};
use serde_json::value::RawValue;
use value::schema::{Collation, Column, ColumnKind, Schema};

use crate::database::{Item, Row};

/// How often a table's schema has changed.
pub(crate) type Generation = u32;

/// Which rows and columns of an entity a subscription asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Selection {
    Everything,
    /// The rows of one kind.
    One,
    /// The rows of several.
    Some,
    /// One column of all rows.
    Names,
    /// One column of the rows of one kind.
    NamesOfOne,
    /// Named columns. Every second generation of a table has no others.
    Columns,
}

impl Selection {
    pub(crate) const ALL: [Self; 6] = [
        Self::Everything,
        Self::One,
        Self::Some,
        Self::Names,
        Self::NamesOfOne,
        Self::Columns,
    ];

    /// Whether it is possible in a table of this generation; every fourth has no kinds.
    pub(crate) fn is_possible(self, generation: Generation) -> bool {
        matches!(self, Self::Everything | Self::Names) || has_kinds(generation)
    }

    /// Writes it into a request, in one of two ways that mean the same.
    pub(crate) fn write(self, request: &mut SelectionRequest, other_spelling: bool) {
        request.filter = match self {
            Self::Everything => other_spelling.then_some("TRUE"),
            Self::One | Self::NamesOfOne if other_spelling => Some("kind = $1"),
            Self::One | Self::NamesOfOne => Some("kind IN (1)"),
            Self::Some if other_spelling => Some("NOT kind = 0"),
            Self::Some => Some("kind <> 0"),
            Self::Names | Self::Columns => None,
        }
        .map(str::to_owned);
        let one = || vec![RawValue::from_string("1".to_owned()).expect("JSON")];
        let has_params = request.filter.as_deref() == Some("kind = $1");
        request.params = has_params.then(one);
        let mut columns = match self {
            Self::Everything | Self::One | Self::Some => return,
            Self::Names | Self::NamesOfOne => vec!["name"],
            Self::Columns => vec!["kind", "name", "version"],
        };
        if other_spelling {
            columns.insert(0, "id");
        }
        request.columns = Some(columns.into_iter().map(str::to_owned).collect());
    }

    /// Reads it from a request.
    pub(crate) fn read(request: &SelectionRequest) -> Self {
        let filter = request.filter.as_deref().filter(|filter| *filter != "TRUE");
        let some = filter.is_some_and(|filter| filter.contains('0'));
        let columns = request.columns.as_ref();
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

    /// A row as a client with this selection has it; none when it does not match.
    pub(crate) fn view(self, row: &Row, generation: Generation) -> Option<String> {
        let Row {
            version,
            kind,
            name,
        } = row;
        let matches = match self {
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
        matches.then_some(text)
    }
}

fn has_kinds(generation: Generation) -> bool {
    generation % 4 != 3
}

fn has_more(generation: Generation) -> bool {
    generation % 2 == 1
}

/// A shape's selection, and the generation that it was resolved for where that matters.
pub(crate) type Resolved = (Selection, Option<Generation>);

/// All shapes that were ever resolved, with their selections and generations.
#[derive(Debug, Default)]
pub(crate) struct Shapes(BTreeMap<Shape, (Selection, Generation)>);

impl Shapes {
    /// Resolves a request against a table of this generation.
    pub(crate) fn resolve(
        &mut self,
        entity: &str,
        request: &SelectionRequest,
        generation: Generation,
    ) -> Result<Shape, SubscribeError> {
        let table = CurrentTable {
            has_records: false,
            schema: Arc::new(schema(entity, generation)),
            fingerprint: generation.to_string().into(),
            backend: Backend::Postgres,
            fields: None,
        };
        let shape = Shape::resolve(&table, request, &ReadScope::Everything, Others::NONE)?;
        if shape.selection().is_some() {
            self.0
                .insert(shape.clone(), (Selection::read(request), generation));
        }
        Ok(shape)
    }

    /// The selection of a shape, and the generation that it was resolved for where that matters.
    pub(crate) fn resolved(&self, shape: &Shape) -> Resolved {
        match self.0.get(shape) {
            Some((selection, generation)) => (*selection, Some(*generation)),
            None => (Selection::Everything, None),
        }
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
    /// The effect on a shape's readers: on those that have followed, by the first and the last version; on
    /// those that may have joined in between, by the versions in between.
    pub(crate) fn effect_on(&self, (selection, made_for): Resolved) -> Effect {
        let Some(made_for) = made_for else {
            return self.effect.clone();
        };
        let (Effect::Change { change, .. }, Some(key)) = (&self.effect, &self.key) else {
            return self.effect.clone();
        };
        let view = |row: &Option<Row>| {
            if made_for != self.generation {
                // A reader of a former generation may find anything.
                return Some("\"stale\"".to_owned());
            }
            selection.view(row.as_ref()?, self.generation)
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
                metadata: RowMetadata::default(),
                mutation_id,
            },
            (None, Change::Put { .. }) => Change::Leave { key, mutation_id },
            (None, _) => Change::Delete {
                key,
                hlc: None,
                mutation_id,
            },
        };
        Effect::Change {
            change,
            transient: first == last,
        }
    }
}
