//! The authorizer that is made from configured policies.

use std::collections::BTreeMap;

use filter::{BoundPolicy, Claim, ClaimPath, Policy, Table};
use protocol::Op;
use serde_json::Value;

use super::authorizer::Authorizer;
use super::config::{ColumnAccess, ColumnPolicy, EntityPolicy};
use super::error::PolicyError;
use super::principal::Principal;
use super::scope::{ReadScope, RowScope, WriteColumns, WriteScope};

/// Decides by policies. An entity without any is closed: for clients it does not exist.
#[derive(Debug, Default)]
pub struct Policies {
    entities: BTreeMap<String, Rules>,
}

/// The claim that users of Supabase and Auth0 change themselves.
const OWN_CLAIM: &str = "user_metadata";

fn asks_the_user(policy: &Policy) -> bool {
    let mut claims = policy.claims();
    claims.any(|claim| claim.names().first().is_some_and(|name| name == OWN_CLAIM))
}

/// The policies of one entity.
#[derive(Debug, Default)]
struct Rules {
    read: Option<Policy>,
    create: Option<Policy>,
    using: Option<Policy>,
    check: Option<Policy>,
    delete: Option<Policy>,
    columns: BTreeMap<String, ColumnRules>,
}

#[derive(Debug)]
struct ColumnRules {
    readable: Gate,
    writable: Gate,
    default: Option<ClaimPath>,
}

/// Who may pass.
#[derive(Debug)]
enum Gate {
    Open,
    Closed,
    /// Those for whom it is true.
    When(Policy),
    /// Everybody, in the rows for which it is true.
    InRows(Policy),
}

impl Policies {
    /// Reads policies, by the names of their entities.
    ///
    /// # Errors
    /// The first that is no policy, with its place. Whether they fit their tables is checked when the engine starts.
    pub fn new(
        entities: impl IntoIterator<Item = (String, EntityPolicy)>,
    ) -> Result<Self, PolicyError> {
        let read = |(entity, config): (String, EntityPolicy)| {
            let rules = Rules::new(&config).map_err(|fault| fault.of(&entity))?;
            Ok((entity, rules))
        };
        Ok(Self {
            entities: entities.into_iter().map(read).collect::<Result<_, _>>()?,
        })
    }
}

/// What is wrong, before its entity is known.
struct Fault {
    policy: String,
    message: String,
}

impl Fault {
    fn new(policy: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            policy: policy.into(),
            message: message.into(),
        }
    }

    fn of(self, entity: &str) -> PolicyError {
        PolicyError {
            entity: entity.to_owned(),
            policy: self.policy,
            message: self.message,
        }
    }
}

fn read(place: &str, text: &str) -> Result<Policy, Fault> {
    Policy::new(text).map_err(|error| Fault::new(place, error.message))
}

impl Rules {
    fn new(config: &EntityPolicy) -> Result<Self, Fault> {
        let optional = |place: &str, text: Option<&String>| {
            let text = text.map(String::as_str);
            text.map(|text| read(place, text)).transpose()
        };
        let update = config.update.as_ref();
        let using = optional("update", update.map(|update| &update.using))?;
        let check = update.and_then(|update| update.check.as_ref());
        let columns = config.columns.iter().map(|(name, column)| {
            let place = format!("columns.{name}");
            Ok((name.clone(), ColumnRules::new(&place, column)?))
        });
        Ok(Self {
            read: optional("read", config.read.as_ref())?,
            create: optional("create", config.create.as_ref())?,
            // Without a `check` of its own, one text serves both.
            check: optional("update.check", check)?.or_else(|| using.clone()),
            using,
            delete: optional("delete", config.delete.as_ref())?,
            columns: columns.collect::<Result<_, Fault>>()?,
        })
    }

    /// All of them.
    fn policies(&self) -> impl Iterator<Item = &Policy> {
        let of_rows = [
            &self.read,
            &self.create,
            &self.using,
            &self.check,
            &self.delete,
        ];
        let columns = self.columns.values();
        let gates = columns.flat_map(|column| [&column.readable, &column.writable]);
        let of_columns = gates.filter_map(|gate| match gate {
            Gate::When(policy) | Gate::InRows(policy) => Some(policy),
            Gate::Open | Gate::Closed => None,
        });
        of_rows.into_iter().flatten().chain(of_columns)
    }

    /// Whether nobody may do anything.
    fn is_closed(&self) -> bool {
        let policies = [&self.read, &self.create, &self.using, &self.delete];
        policies.into_iter().all(Option::is_none)
    }

    fn check(&self, table: Table<'_>) -> Result<(), Fault> {
        let policies = [
            ("read", &self.read),
            ("create", &self.create),
            ("update", &self.using),
            ("update.check", &self.check),
            ("delete", &self.delete),
        ];
        for (place, policy) in policies {
            let Some(policy) = policy else { continue };
            let checked = policy.check(table);
            checked.map_err(|error| Fault::new(place, error.message))?;
        }
        let mut columns = self.columns.iter();
        columns.try_for_each(|(name, column)| column.check(name, table))
    }

    /// The columns whose gate lets the principal pass in no row.
    fn behind(&self, gate: fn(&ColumnRules) -> &Gate, principal: &Principal) -> Vec<String> {
        let columns = self.columns.iter();
        let behind = columns.filter(|(_, column)| !gate(column).lets_in(principal));
        behind.map(|(name, _)| name.clone()).collect()
    }

    fn hidden(&self, principal: &Principal) -> Vec<String> {
        self.behind(|column| &column.readable, principal)
    }

    fn partial(&self, principal: &Principal) -> Vec<(String, RowScope)> {
        let columns = self.columns.iter();
        let partial = columns.filter_map(|(name, column)| match &column.readable {
            Gate::InRows(policy) => {
                let rows = RowScope::Policies(vec![principal.bind(policy)]);
                Some((name.clone(), rows))
            }
            _ => None,
        });
        partial.collect()
    }

    fn write_columns(&self, principal: &Principal) -> WriteColumns {
        let defaults = self.columns.iter().filter_map(|(name, column)| {
            let path = column.default.as_ref()?;
            Some((name.clone(), principal.claim(path)))
        });
        WriteColumns {
            hidden: self.hidden(principal),
            unwritable: self.behind(|column| &column.writable, principal),
            defaults: defaults.collect(),
        }
    }
}

impl ColumnRules {
    fn new(place: &str, config: &ColumnPolicy) -> Result<Self, Fault> {
        let default = config.default.as_ref().map(|text| {
            let place = format!("{place}.default");
            let claim = read(&place, text)?.as_claim().cloned();
            claim.ok_or_else(|| Fault::new(place, "a default is a claim, such as auth.sub"))
        });
        let readable = Gate::new(&format!("{place}.readable"), config.readable.as_ref())?;
        let writable = Gate::new(&format!("{place}.writable"), config.writable.as_ref())?;
        if let Gate::InRows(_) = writable {
            let message =
                "whether a column may be written depends on who asks (auth.…), not on the row";
            return Err(Fault::new(format!("{place}.writable"), message));
        }
        Ok(Self {
            readable,
            writable,
            default: default.transpose()?,
        })
    }

    fn check(&self, name: &str, table: Table<'_>) -> Result<(), Fault> {
        let place = format!("columns.{name}");
        let Some(position) = table.position(name) else {
            return Err(Fault::new(place, "the table has no such column"));
        };
        let is_restricted = !self.readable.is_open() || !self.writable.is_open();
        if is_restricted && table.schema.is_key(position) {
            let message = "a column of the key is always readable and writable";
            return Err(Fault::new(place, message));
        }
        if self.default.is_some() && table.schema.columns[position].generated {
            let message = "the database computes this column, so it takes no default";
            return Err(Fault::new(place, message));
        }
        match &self.readable {
            Gate::InRows(policy) => policy
                .check(table)
                .map_err(|error| Fault::new(format!("{place}.readable"), error.message)),
            _ => Ok(()),
        }
    }
}

impl Gate {
    fn new(place: &str, config: Option<&ColumnAccess>) -> Result<Self, Fault> {
        let text = match config {
            None | Some(ColumnAccess::Always(true)) => return Ok(Self::Open),
            Some(ColumnAccess::Always(false)) => return Ok(Self::Closed),
            Some(ColumnAccess::When(text)) => text,
        };
        let policy = read(place, text)?;
        if policy.has_subqueries() {
            let message = "whether a column may be used depends on the row and on who asks (auth.…), not on other tables";
            return Err(Fault::new(place, message));
        }
        if policy.names_columns() {
            return Ok(Self::InRows(policy));
        }
        let evaluated = policy.bind(|_| Claim::Null).holds();
        evaluated.map_err(|error| Fault::new(place, error.message))?;
        Ok(Self::When(policy))
    }

    fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }

    /// Whether the principal may pass, at least in some rows. What cannot be evaluated lets nobody in.
    fn lets_in(&self, principal: &Principal) -> bool {
        match self {
            Self::Open | Self::InRows(_) => true,
            Self::Closed => false,
            Self::When(policy) => principal.bind(policy).holds().unwrap_or(false),
        }
    }
}

impl Principal {
    /// A policy with this principal's claims.
    fn bind(&self, policy: &Policy) -> BoundPolicy {
        policy.bind(|path| {
            let value = self.claim(path);
            value.as_ref().map_or(Claim::Null, Claim::from)
        })
    }

    /// The value of a claim: `auth.sub` is the user and `auth.role` the role, whatever the claims say.
    pub fn claim(&self, path: &ClaimPath) -> Option<Value> {
        let own = |value: &Option<String>| value.clone().map(Value::String);
        match path.names() {
            [name] if name == "sub" => own(&self.user_id),
            [name] if name == "role" => own(&self.role),
            [first, rest @ ..] => {
                let first = self.claims.get(first)?;
                let found = rest.iter().try_fold(first, |at, name| at.get(name))?;
                Some(found.clone())
            }
            [] => None,
        }
    }
}

/// The rows that all of these allow; one that is missing allows none.
fn rows(principal: &Principal, policies: &[&Option<Policy>]) -> RowScope {
    let bound = policies
        .iter()
        .map(|policy| Some(principal.bind(policy.as_ref()?)));
    bound
        .collect::<Option<Vec<_>>>()
        .map_or(RowScope::Nothing, RowScope::Policies)
}

impl Authorizer for Policies {
    fn read(&self, principal: &Principal, entity: &str) -> ReadScope {
        match self.entities.get(entity) {
            Some(rules) if rules.read.is_some() => ReadScope::Policies {
                rows: rows(principal, &[&rules.read]),
                hidden: rules.hidden(principal),
                partial: rules.partial(principal),
            },
            _ => ReadScope::Nothing,
        }
    }

    fn write(&self, principal: &Principal, entity: &str, op: Op) -> WriteScope {
        let Some(rules) = self.entities.get(entity) else {
            return WriteScope::nothing();
        };
        let using = match op {
            Op::Create => None,
            Op::Update | Op::Upsert => Some(rows(principal, &[&rules.using])),
            Op::Delete => Some(rows(principal, &[&rules.delete])),
        };
        // Both for an upsert, whether its row exists or not, so that the answer does not tell which.
        let check = match op {
            Op::Create => Some(rows(principal, &[&rules.create])),
            Op::Update => Some(rows(principal, &[&rules.check])),
            Op::Upsert => Some(rows(principal, &[&rules.create, &rules.check])),
            Op::Delete => None,
        };
        WriteScope {
            visible: Some(rows(principal, &[&rules.read])),
            using,
            check,
            columns: rules.write_columns(principal),
        }
    }

    fn is_closed(&self, entity: &str) -> bool {
        self.entities.get(entity).is_none_or(Rules::is_closed)
    }

    fn check(&self, entity: &str, table: Table<'_>) -> Result<(), PolicyError> {
        let rules = self.entities.get(entity);
        let checked = rules.map_or(Ok(()), |rules| rules.check(table));
        checked.map_err(|fault| fault.of(entity))
    }

    fn doubts(&self) -> Vec<String> {
        let doubtful = self
            .entities
            .iter()
            .filter(|(_, rules)| rules.policies().any(asks_the_user));
        let told = doubtful.map(|(entity, _)| {
            format!("a policy of entity {entity:?} asks for auth.{OWN_CLAIM}, which users may change themselves")
        });
        told.collect()
    }

    fn entities(&self) -> Vec<String> {
        self.entities.keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_that_asks_for_what_users_write_themselves_is_doubtful() {
        let of = |read: &str, readable: Option<&str>| {
            let column = ColumnPolicy {
                readable: readable.map(ColumnAccess::from),
                ..ColumnPolicy::default()
            };
            let policy = EntityPolicy {
                read: Some(read.to_owned()),
                columns: [("note".to_owned(), column)].into(),
                ..EntityPolicy::default()
            };
            let policies = Policies::new([("todos".to_owned(), policy)]);
            policies.expect("policies").doubts().len()
        };
        assert_eq!(
            of("owner = auth.sub AND team = auth.app_metadata.team", None),
            0
        );
        assert_eq!(of("team = auth.app_metadata.user_metadata", None), 0);
        assert_eq!(
            of("owner = auth.sub OR team = auth.user_metadata.team", None),
            1
        );
        assert_eq!(
            of(
                "owner = auth.sub",
                Some("auth.\"user_metadata\".role = 'admin'")
            ),
            1
        );
    }
}
