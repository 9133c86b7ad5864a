//! The tables behind the sets that a filter names.

use std::collections::BTreeMap;
#[cfg(feature = "sqlite")]
use std::collections::BTreeSet;
use std::sync::Arc;

use filter::{Condition, Direction, Filter, Set, SetRows, Window};
#[cfg(feature = "postgres")]
use sync_core::membership::AskedGroup;

use crate::entity::Entity;
use crate::quote::ident;

/// The entity whose rows make a set. None when its table is missing, or is no longer the one that the set was made
/// for: then no condition on the set is true.
pub(crate) fn entity_of<'a>(
    set: &Set,
    entities: &'a BTreeMap<String, Arc<Entity>>,
) -> Option<&'a Arc<Entity>> {
    let entity = entities.get(set.entity())?;
    let fits = entity.relation.is_some() && *entity.fingerprint == *set.rows().fingerprint;
    fits.then_some(entity)
}

/// The condition of the rows of which a set is made: of a window, those behind the row with which it begins.
pub(crate) fn condition(rows: &SetRows) -> Condition {
    let filter = rows.filter.condition().clone();
    let window = rows.window.as_ref();
    match window.and_then(|window| window.condition(&rows.schema)) {
        Some(behind) => Condition::And(vec![filter, behind]),
        None => filter,
    }
}

/// The end of a query for the first rows in a window's order, on the table with the alias `t`.
///
/// Where a column may be null, it is said where nulls come: the databases differ.
pub(crate) fn first_rows(entity: &Entity, window: &Window, rows: usize) -> String {
    let order = window.order().iter().map(|order| {
        let (word, nulls) = match order.direction {
            Direction::Ascending => ("", " NULLS LAST"),
            Direction::Descending => (" DESC", " NULLS FIRST"),
        };
        let column = &entity.schema.columns[order.column];
        let is_nullable = column.nullable && !entity.schema.is_key(order.column);
        let nulls = if is_nullable { nulls } else { "" };
        format!("t.{}{word}{nulls}", ident(&column.name))
    });
    let order: Vec<String> = order.collect();
    format!(" ORDER BY {} LIMIT {rows}", order.join(", "))
}

/// The entities of all sets that a filter names, at every depth.
///
/// # Errors
/// The name of one whose table is missing or has changed.
pub(crate) fn entities_of(
    filter: &Filter,
    entities: &BTreeMap<String, Arc<Entity>>,
) -> Result<Vec<Arc<Entity>>, String> {
    let mut found = Vec::new();
    for set in filter.sets() {
        let entity = entity_of(set, entities).ok_or_else(|| set.entity().to_owned())?;
        found.push(entity.clone());
        found.extend(entities_of(&set.rows().filter, entities)?);
    }
    Ok(found)
}

/// The columns of a table that decide what the sets hold which a filter names, at every depth.
#[cfg(feature = "sqlite")]
pub(crate) fn columns_of<'a>(
    filter: &'a Filter,
    relation: &str,
    entities: &BTreeMap<String, Arc<Entity>>,
) -> BTreeSet<&'a str> {
    let mut columns = BTreeSet::new();
    for set in filter.sets() {
        let rows = set.rows();
        let entity = entity_of(set, entities);
        if entity.is_some_and(|entity| entity.relation.as_deref() == Some(relation)) {
            let evaluated = rows.evaluated_columns().into_iter();
            columns.extend(evaluated.map(|column| rows.schema.columns[column].name.as_str()));
        }
        columns.extend(columns_of(&rows.filter, relation, entities));
    }
    columns
}

/// The groups that must be asked before a filter can be written as SQL: those of its sets, at every depth.
#[cfg(feature = "postgres")]
pub(crate) fn groups_of(filter: &Filter) -> Vec<Arc<AskedGroup>> {
    let mut groups = Vec::new();
    collect_groups(filter, &mut groups);
    groups
}

#[cfg(feature = "postgres")]
fn collect_groups(filter: &Filter, groups: &mut Vec<Arc<AskedGroup>>) {
    for set in filter.sets() {
        if let Some(group) = AskedGroup::of(set)
            && !groups.contains(&group)
        {
            groups.push(group);
        }
        collect_groups(&set.rows().filter, groups);
    }
}
