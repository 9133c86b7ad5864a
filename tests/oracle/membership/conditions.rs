//! Random conditions with subqueries, for filters and for policies.

use serde_json::{Value, json};

use super::tables::{Kind, RandomTable, value};
use crate::filters::random::Random;

/// A condition with places for what is spelled differently by clients and by the database: `{e:lists}` is an entity,
/// `{p:0}` a parameter, `{c:sub}` a claim.
#[derive(Debug, Clone, Default)]
pub(super) struct Template {
    body: String,
    /// The parameters, as SQL writes them.
    params: Vec<String>,
}

/// A user: `sub` is a text, `n` a number or missing.
#[derive(Debug, Clone)]
pub(super) struct User {
    pub(super) sub: String,
    pub(super) n: Option<usize>,
}

impl User {
    pub(super) fn claims(&self) -> Value {
        let mut claims = json!({ "sub": self.sub });
        if let Some(n) = self.n {
            claims["n"] = json!(n);
        }
        claims
    }
}

impl Template {
    pub(super) fn everything() -> Self {
        Self {
            body: "TRUE".to_owned(),
            params: Vec::new(),
        }
    }

    /// Also the rows with a key below this.
    pub(super) fn or_id_below(mut self, key: usize) -> Self {
        self.body = format!("{} OR id < {key}", self.body);
        self
    }

    /// As a client or a policy writes it.
    pub(super) fn text(&self) -> String {
        self.replaced(|sort, name| match sort {
            "p" => format!("${}", name.parse::<usize>().expect("a number") + 1),
            "c" => format!("auth.{name}"),
            _ => name.to_owned(),
        })
    }

    /// The values of the parameters.
    pub(super) fn params(&self) -> Vec<Value> {
        let param = |literal: &String| match literal.strip_prefix('\'') {
            Some(text) => json!(text.trim_end_matches('\'')),
            None => serde_json::from_str(literal).expect("a number"),
        };
        self.params.iter().map(param).collect()
    }

    /// As the database reads it, for a user. Subqueries read tables under names with a prefix.
    pub(super) fn plain(&self, user: &User, prefix: &str) -> String {
        self.replaced(|sort, name| match (sort, name) {
            ("e", _) => format!("{prefix}{name}"),
            ("p", _) => self.params[name.parse::<usize>().expect("a number")].clone(),
            (_, "sub") => format!("'{}'", user.sub),
            _ => user
                .n
                .map_or_else(|| "CAST(NULL AS integer)".to_owned(), |n| n.to_string()),
        })
    }

    fn replaced(&self, replace: impl Fn(&str, &str) -> String) -> String {
        let mut parts = self.body.split(['{', '}']);
        let mut text = parts.next().unwrap_or_default().to_owned();
        while let (Some(place), Some(after)) = (parts.next(), parts.next()) {
            let (sort, name) = place.split_once(':').expect("a place");
            text.push_str(&replace(sort, name));
            text.push_str(after);
        }
        text
    }

    pub(super) fn has_subquery(&self) -> bool {
        self.body.contains("SELECT")
    }
}

/// Writes conditions.
pub(super) struct Conditions<'a> {
    pub(super) random: &'a mut Random,
    pub(super) tables: &'a [RandomTable],
    /// With claims instead of parameters.
    pub(super) is_policy: bool,
    params: Vec<String>,
    /// Aliases that are taken.
    aliases: usize,
    /// How many subqueries may still come.
    left: usize,
}

impl<'a> Conditions<'a> {
    pub(super) fn new(random: &'a mut Random, tables: &'a [RandomTable], is_policy: bool) -> Self {
        Self {
            random,
            tables,
            is_policy,
            params: Vec::new(),
            aliases: 0,
            left: 6,
        }
    }

    /// A condition on a table, with subqueries inside each other up to `depth`.
    pub(super) fn write(mut self, table: usize, depth: usize) -> Template {
        let name = self.tables[table].name.clone();
        let body = self.condition(table, &name, depth, 3);
        Template {
            body,
            params: self.params,
        }
    }

    fn condition(&mut self, table: usize, name: &str, depth: usize, size: usize) -> String {
        match self.random.below(10) {
            0 | 1 if size > 0 => self.joined("AND", table, name, depth, size),
            2 | 3 if size > 0 => self.joined("OR", table, name, depth, size),
            4 if size > 0 => format!("NOT ({})", self.condition(table, name, depth, size - 1)),
            5 if depth > 0 => self.comparison(table, name),
            _ if depth > 0 && self.left > 0 => self.subquery(table, name, depth),
            _ => self.comparison(table, name),
        }
    }

    fn joined(
        &mut self,
        word: &str,
        table: usize,
        name: &str,
        depth: usize,
        size: usize,
    ) -> String {
        let one = self.condition(table, name, depth, size - 1);
        let other = self.condition(table, name, depth, size - 1);
        format!("({one} {word} {other})")
    }

    fn comparison(&mut self, table: usize, name: &str) -> String {
        let (column, kind) = self.column(table);
        let column = format!("{name}.{column}");
        match self.random.below(8) {
            0 => format!("{column} IS NULL"),
            1 => format!("{column} IS NOT NULL"),
            2 => {
                let (one, other) = (self.operand(kind), self.operand(kind));
                let not = self.not();
                format!("{column} {not}IN ({one}, {other})")
            }
            3 | 4 if kind == Kind::Int => {
                let op = *self.random.pick(&["<", ">="]);
                format!("{column} {op} {}", self.operand(kind))
            }
            5 => format!("{column} <> {}", self.operand(kind)),
            _ => format!("{column} = {}", self.operand(kind)),
        }
    }

    fn subquery(&mut self, table: usize, name: &str, depth: usize) -> String {
        self.left -= 1;
        let inner = self.random.below(self.tables.len());
        let entity = format!("{{e:{}}}", self.tables[inner].name);
        self.aliases += 1;
        let alias = format!("x{}", self.aliases);
        let (column, kind) = self.column(table);
        let found = self.of_kind(inner, kind).filter(|_| self.random.once_in(2));
        let rest = (!self.random.once_in(4)).then(|| self.condition(inner, &alias, depth - 1, 1));
        let not = self.not();
        if let Some(found) = found {
            let left = match self.random.below(6) {
                0 => self.operand(kind),
                _ => format!("{name}.{column}"),
            };
            let rest = rest.map_or_else(String::new, |rest| format!(" WHERE {rest}"));
            return format!("{left} {not}IN (SELECT {alias}.{found} FROM {entity} {alias}{rest})");
        }
        // Each column of the subquery is compared once.
        let mut equalities: Vec<(String, String)> = Vec::new();
        for _ in 0..self.random.below(5).div_ceil(2) {
            let (column, kind) = self.column(table);
            if let Some(found) = self.of_kind(inner, kind)
                && equalities.iter().all(|(taken, _)| *taken != found)
            {
                equalities.push((found, column));
            }
        }
        let mut conjuncts: Vec<String> = equalities
            .into_iter()
            .map(|(found, column)| match self.random.below(2) {
                0 => format!("{alias}.{found} = {name}.{column}"),
                _ => format!("{name}.{column} = {alias}.{found}"),
            })
            .collect();
        conjuncts.extend(rest);
        let rest = match conjuncts.is_empty() {
            true => String::new(),
            false => format!(" WHERE {}", conjuncts.join(" AND ")),
        };
        format!("{not}EXISTS (SELECT 1 FROM {entity} {alias}{rest})")
    }

    fn not(&mut self) -> &'static str {
        if self.random.once_in(3) { "NOT " } else { "" }
    }

    fn column(&mut self, table: usize) -> (String, Kind) {
        let columns = self.tables[table].all_columns();
        let (name, kind) = *self.random.pick(&columns);
        (name.to_owned(), kind)
    }

    fn of_kind(&mut self, table: usize, kind: Kind) -> Option<String> {
        let columns = self.tables[table].of_kind(kind);
        (!columns.is_empty()).then(|| (*self.random.pick(&columns)).to_owned())
    }

    fn operand(&mut self, kind: Kind) -> String {
        if self.is_policy && self.random.once_in(2) {
            match kind {
                Kind::Int => return "{c:n}".to_owned(),
                Kind::Text => return "{c:sub}".to_owned(),
                Kind::Uuid => {}
            }
        }
        let literal = value(self.random, kind);
        if self.is_policy || self.random.once_in(2) {
            return literal;
        }
        self.params.push(literal);
        format!("{{p:{}}}", self.params.len() - 1)
    }
}
