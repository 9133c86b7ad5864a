//! The rows and the selections with which a round begins.

use filter::{Backend, Table};

use super::truth::Truth;
use super::writes::Statements;
use super::{SELECTIONS, Selection, World};
use crate::filters::values::Sort;
use crate::filters::writer::Writer;
use crate::filters::{asking, read, sqlite};

impl World {
    /// Inserts enough rows, and collects their values for comparisons.
    pub(super) async fn fill(&mut self) {
        for attempt in 0.. {
            assert!(attempt < 200, "rows cannot be inserted");
            let insert = self.statements(&[]).insert(20);
            let ignore = format!("{insert} ON CONFLICT DO NOTHING");
            self.write(ignore, &[], &mut Truth::Versions(Vec::new()))
                .await;
            self.programs.rest().await;
            let keys = self.db.query_text("SELECT CAST(k AS text) FROM t").await;
            if keys.len() > 25 {
                break;
            }
        }
        for at in 0..self.subjects.len() {
            let (name, kind) = (self.subjects[at].name, self.subjects[at].sort);
            let is_text = match self.backend {
                Backend::Postgres => "true".to_owned(),
                // Values of other types than the column's cannot be named by filters.
                Backend::Sqlite => sqlite::is_of_kind(&self.subjects[at]),
            };
            let sql = format!(
                "SELECT DISTINCT CAST(\"{name}\" AS text) FROM t WHERE \"{name}\" IS NOT NULL AND {is_text} ORDER BY 1"
            );
            let sql = match self.backend {
                Backend::Postgres => format!("SET \"TimeZone\" = 'UTC'; {sql}"),
                Backend::Sqlite => sql,
            };
            if kind == Some(Sort::Bool) {
                self.pools[at] = ["true", "false"].map(str::to_owned).to_vec();
            } else if kind.is_some() {
                let values = self.db.query_text(&sql).await;
                self.pools[at].extend(values.into_iter().flatten());
                assert!(!self.pools[at].is_empty(), "no values of {name}");
            }
        }
    }

    pub(super) fn statements<'a>(&'a mut self, conditions: &'a [&'a str]) -> Statements<'a> {
        Statements {
            random: &mut self.random,
            backend: self.backend,
            subjects: &self.subjects,
            pools: &self.pools,
            conditions,
        }
    }

    /// Filters that core accepts, most of which match some rows and not all.
    pub(super) async fn selections(&mut self) -> Vec<Selection> {
        let mut selections = Vec::new();
        while selections.len() < SELECTIONS {
            let mut writer = Writer {
                random: &mut self.random,
                backend: self.backend,
                subjects: &self.subjects,
                pools: &self.pools,
                with_params: true,
            };
            let written = writer.filter();
            if read(&written, Table::new(&self.schema, self.backend)).is_err() {
                continue;
            }
            let truths = asking::judged(&self.db, self.backend, &[&written.plain])
                .await
                .remove(0);
            let is_selective = truths.contains('1') && truths.contains(['0', 'u']);
            if is_selective || self.random.once_in(20) {
                let columns = self.random.once_in(2).then(|| {
                    let names = self.subjects.iter().map(|subject| subject.name.to_owned());
                    names.filter(|_| self.random.once_in(5)).collect()
                });
                selections.push(Selection { written, columns });
            }
        }
        selections
    }
}
