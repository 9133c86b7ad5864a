//! Which column a name means: that of the innermost table that has one, as in SQL.

use super::Checker;
use crate::condition::Membership;
use crate::error::{FilterError, echo};
use crate::syntax::{Name, Operand, Term};

/// A column that a name means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// How many queries further out its table is.
    pub(super) levels: usize,
    /// Its position there.
    pub(super) column: usize,
}

impl Checker<'_> {
    /// The name by which its columns are qualified.
    pub(super) fn qualifier(&self) -> &str {
        let alias = self.alias.as_deref();
        alias.unwrap_or(&self.table.schema.entity)
    }

    /// The queries from this one outwards.
    fn queries(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |query| query.around.map(|(around, _)| around))
    }

    /// The column that a name means.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn locate(
        &self,
        table: Option<&Name>,
        name: &Name,
        at: usize,
    ) -> Result<Place, FilterError> {
        let place = |(levels, query): (usize, &Self)| {
            let column = query.table.find(name)?;
            Some(Place { levels, column })
        };
        let mut queries = self.queries().enumerate();
        let Some(table) = table else {
            return queries.find_map(place).ok_or_else(|| {
                FilterError::bad(at, format!("there is no column {}", echo(&name.text)))
            });
        };
        let named = queries.find(|(_, query)| table.means(query.qualifier()));
        let named = named.ok_or_else(|| {
            let message = format!("there is no entity or alias {} here", echo(&table.text));
            FilterError::bad(at, message)
        })?;
        place(named).ok_or_else(|| {
            let message = format!(
                "there is no column {} in {}",
                echo(&name.text),
                echo(&table.text)
            );
            FilterError::bad(at, message)
        })
    }

    /// A column with its table, for a message.
    pub(super) fn qualified(&self, Place { levels, column }: Place) -> String {
        let query = self.queries().nth(levels).unwrap_or(self);
        let name = &query.table.column(column).name;
        format!("{}.{}", echo(query.qualifier()), echo(name))
    }

    /// The error for a column of a query around, where a subquery cannot have one.
    pub(super) fn outer_column(&self, place: Place, at: usize) -> FilterError {
        let name = self.qualified(place);
        let own = echo(self.qualifier());
        let message = match self.around {
            Some((_, Membership::In)) => format!(
                "{name} is a column of the query around, and a subquery of IN reads its own; for more than one equality \
                 write EXISTS (SELECT 1 FROM … WHERE … = {name})"
            ),
            _ if place.levels > 1 => format!(
                "{name} is a column of a query further out; a subquery of EXISTS is compared with columns of the query \
                 right around it"
            ),
            _ => format!(
                "{name} is a column of the query around; it can only be compared by = with a column of {own}, \
                 in the AND of the subquery's WHERE, not under OR or NOT"
            ),
        };
        FilterError::bad(at, message)
    }

    /// The error for a comparison of two columns of one table. A name may have been meant for another table.
    pub(super) fn two_columns(&self, left: &Operand, right: &Operand) -> FilterError {
        let only_values = "a column is compared with a value, not a column";
        for operand in [left, right] {
            let Term::Column { table: None, name } = &operand.term else {
                continue;
            };
            let outer = self.around.and_then(|(around, _)| {
                let place = around.locate(None, name, operand.at).ok()?;
                Some(around.qualified(place))
            });
            let inner = self.locate(None, name, operand.at).ok();
            if let (Some(outer), Some(inner)) = (outer, inner) {
                let message = format!(
                    "{} means {}, of the innermost table that has such a column; for the other write {outer}",
                    echo(&name.text),
                    self.qualified(inner)
                );
                return FilterError::bad(operand.at, message);
            }
        }
        FilterError::bad(right.at, only_values)
    }
}
