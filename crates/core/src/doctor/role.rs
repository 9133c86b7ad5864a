//! Checks of the engine's role and of the schema for the engine's own tables.

use super::facts::Facts;
use super::{Check, Findings, Remedy};

pub(super) fn examine(findings: &mut Findings<'_>, facts: &Facts) {
    role(findings, facts);
    schema(findings, facts);
}

fn role(findings: &mut Findings<'_>, facts: &Facts) {
    let role = &facts.role;
    let name = &role.name;
    let before = findings.found.len();
    if role.is_superuser {
        findings.warning(
            Check::Role,
            format!("{name} is a superuser, and the owner of any synced table can run code with its rights"),
            Remedy::sql(
                "a superuser, who then puts it into database.url",
                "CREATE ROLE rhtmx_sync LOGIN PASSWORD '…'; CREATE SCHEMA rhtmx_sync AUTHORIZATION rhtmx_sync; \
                 ALTER ROLE rhtmx_sync SET search_path = rhtmx_sync, public",
            ),
        );
    }
    if let Some(language) = &role.language {
        let statement = if facts.server.version_number >= 150_000 {
            format!("GRANT SET ON PARAMETER lc_messages TO {name}")
        } else {
            format!(
                "ALTER DATABASE {} SET lc_messages = 'C'",
                facts.server.database
            )
        };
        findings.error(
            Check::Role,
            format!(
                "the server's messages are in another language ({language}), so that locks and deadlocks are taken for \
                 lasting errors"
            ),
            Remedy::sql("a superuser", statement),
        );
    }
    if role.transaction_timeout_ms > 0 {
        findings.warning(
            Check::Role,
            format!(
                "transactions of {name} end after {} ms, and with them long reads and migrations",
                role.transaction_timeout_ms
            ),
            Remedy::sql(
                "that role or a superuser",
                format!("ALTER ROLE {name} SET transaction_timeout = 0"),
            ),
        );
    }
    if findings.found.len() == before {
        findings.ok(Check::Role, format!("{name} is an ordinary role"));
    }
}

fn schema(findings: &mut Findings<'_>, facts: &Facts) {
    let role = &facts.role;
    let name = &role.name;
    let before = findings.found.len();
    let own = format!(
        "CREATE SCHEMA IF NOT EXISTS rhtmx_sync AUTHORIZATION {name}; \
         ALTER ROLE {name} IN DATABASE {} SET search_path = rhtmx_sync, public",
        facts.server.database
    );
    match (&role.log_schema, &role.log_owner) {
        (Some(schema), Some(owner)) if !role.owns_log => {
            findings.error(
                Check::Schema,
                format!(
                    "the engine's own tables in {schema} belong to {owner}, and only their owner can replace its functions"
                ),
                Remedy::setting(format!(
                    "database.url = \"…\", with the role {owner}, as the other servers of this database have it"
                )),
            );
        }
        (Some(schema), _) => {
            if !role.functions_of_others.is_empty() {
                let transfer = role.functions_of_others.iter();
                let transfer: Vec<String> = transfer
                    .map(|function| format!("ALTER FUNCTION {function} OWNER TO {name}"))
                    .collect();
                findings.error(
                    Check::Schema,
                    format!("functions of the engine in {schema} belong to another role"),
                    Remedy::sql("a superuser", transfer.join("; ")),
                );
            }
            // New entities and newer versions need it.
            if role.schema.as_ref() == Some(schema) && !role.may_create {
                findings.error(
                    Check::Schema,
                    format!("{name} may not create in {schema}, where the engine's functions are"),
                    Remedy::sql(
                        "the owner of the schema",
                        format!("GRANT USAGE, CREATE ON SCHEMA {schema} TO {name}"),
                    ),
                );
            }
            if findings.found.len() == before {
                findings.ok(Check::Schema, format!("the engine's own tables are in {schema}"));
            }
        }
        (None, _) => match &role.schema {
            Some(schema) if role.may_create => {
                findings.ok(
                    Check::Schema,
                    format!("the engine's own tables will be made in {schema}"),
                );
            }
            Some(schema) => findings.error(
                Check::Schema,
                format!(
                    "{name} may not create in {schema}, the first schema of its search path, where the engine's own tables \
                     would be"
                ),
                Remedy::sql("a superuser", own),
            ),
            None => findings.error(
                Check::Schema,
                format!("no schema of the search path of {name} exists, or it may use none"),
                Remedy::sql("a superuser", own),
            ),
        },
    }
}
