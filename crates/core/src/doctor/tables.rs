//! Checks of an entity's table.

use super::facts::{Facts, Rights, TableFacts};
use super::{Check, Findings, Remedy};

/// A trigger each for insert, update, delete and truncate.
const TRIGGERS_PER_TABLE: i64 = 4;

pub(super) fn examine(findings: &mut Findings<'_>, table: &TableFacts, facts: &Facts) {
    if !exists(findings, table) {
        return;
    }
    form(findings, table);
    rights(findings, table, &facts.role.name);
    triggers(findings, table);
    row_security(findings, table, &facts.role.name);
    policies(findings, table);
}

fn exists(findings: &mut Findings<'_>, table: &TableFacts) -> bool {
    let TableFacts {
        entity,
        configured,
        name,
        ..
    } = table;
    if name.is_empty() {
        let remedy = match table.elsewhere.as_slice() {
            [] => Remedy::advice("create the table, or remove the entity"),
            [found, ..] => Remedy::setting(format!("entities.{entity}.table = {found:?}")),
        };
        findings.error(
            Check::Table,
            format!("there is no table {configured:?} on the role's search path"),
            remedy,
        );
        return false;
    }
    if !matches!(table.kind.as_str(), "r" | "p") {
        findings.error(
            Check::Table,
            format!("{name} is not a table; only tables can be synced"),
            Remedy::setting(format!(
                "entities.{entity}.table = \"…\", the table behind it"
            )),
        );
        return false;
    }
    true
}

/// Its key and what hangs on it.
fn form(findings: &mut Findings<'_>, table: &TableFacts) {
    let (name, owner) = (&table.name, &table.owner);
    let before = findings.found.len();
    if !table.has_key {
        let add = match &table.key_index {
            Some(index) => format!("ALTER TABLE {name} ADD PRIMARY KEY USING INDEX {index}"),
            None if table.has_id => format!("ALTER TABLE {name} ADD PRIMARY KEY (id)"),
            None => format!(
                "ALTER TABLE {name} ADD COLUMN id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY"
            ),
        };
        findings.error(
            Check::Table,
            format!("{name} has no primary key, so that its rows cannot be identified"),
            Remedy::sql(owner, add),
        );
    }
    if let Some(foreign) = &table.foreign {
        findings.error(
            Check::Table,
            format!("the foreign table {foreign} is in the same tree of tables as {name}, and PostgreSQL does not let it be captured"),
            Remedy::advice("detach one of the two, or sync the foreign server's own table"),
        );
    }
    for heir in &table.heirs {
        findings.warning(
            Check::Table,
            format!("rows of {heir}, which inherits from {name}, are not synced"),
            Remedy::sql(owner, format!("ALTER TABLE {heir} NO INHERIT {name}")),
        );
    }
    for parent in &table.parents {
        findings.warning(
            Check::Table,
            format!("writes to {name} through {parent}, from which it inherits, are not captured"),
            Remedy::sql(owner, format!("ALTER TABLE {name} NO INHERIT {parent}")),
        );
    }
    if findings.found.len() == before {
        findings.ok(Check::Table, format!("{name} has a primary key"));
    }
}

fn rights(findings: &mut Findings<'_>, table: &TableFacts, role: &str) {
    let (name, owner) = (&table.name, &table.owner);
    let before = findings.found.len();
    if !table.may_use_schema {
        let schema = &table.schema;
        findings.error(
            Check::Rights,
            format!("{role} may not use the schema {schema}"),
            Remedy::sql(
                "the owner of the schema",
                format!("GRANT USAGE ON SCHEMA {schema} TO {role}"),
            ),
        );
    }
    let (read, write): (Vec<&str>, Vec<&str>) = table
        .lacks
        .iter()
        .map(String::as_str)
        .partition(|privilege| *privilege == "SELECT");
    if !read.is_empty() {
        findings.error(
            Check::Rights,
            format!("{role} may not read {name}"),
            Remedy::sql(owner, format!("GRANT SELECT ON {name} TO {role}")),
        );
    }
    let untriggered = table.members.iter().filter(|member| !member.may_trigger);
    let untriggered: Vec<&str> = untriggered.map(|member| member.name.as_str()).collect();
    if !untriggered.is_empty() {
        let tables = untriggered.join(", ");
        findings.error(
            Check::Rights,
            format!("{role} may not create triggers on {tables}"),
            Remedy::sql(owner, format!("GRANT TRIGGER ON {tables} TO {role}")),
        );
    }
    let is_written_by_role = !matches!(table.rights, Rights::RowSecurity | Rights::Internal);
    if is_written_by_role && !write.is_empty() {
        let privileges = write.join(", ");
        findings.warning(
            Check::Rights,
            format!("clients cannot write to {name}: {role} lacks {privileges}"),
            Remedy::sql(owner, format!("GRANT {privileges} ON {name} TO {role}")),
        );
    }
    if is_written_by_role && !table.sequences.is_empty() {
        let sequences = table.sequences.join(", ");
        findings.warning(
            Check::Rights,
            format!(
                "clients cannot create rows of {name} without a key: {role} may not use {sequences}"
            ),
            Remedy::sql(
                owner,
                format!("GRANT USAGE ON SEQUENCE {sequences} TO {role}"),
            ),
        );
    }
    if findings.found.len() == before {
        let may = if is_written_by_role {
            "read, write and capture"
        } else {
            "read and capture"
        };
        findings.ok(Check::Rights, format!("{role} may {may} {name}"));
    }
}

fn triggers(findings: &mut Findings<'_>, table: &TableFacts) {
    let name = &table.name;
    match table.is_wanted {
        None => findings.ok(
            Check::Triggers,
            format!("{name} is captured from the first start of a server on"),
        ),
        Some(false) => findings.warning(
            Check::Triggers,
            format!("the capture of {name} was removed by `rhtmx-sync uncapture`: its changes are not sent"),
            Remedy::advice("start a server that has the entity, such as `rhtmx-sync serve`"),
        ),
        Some(true) => {
            let enable: Vec<String> = table
                .members
                .iter()
                .flat_map(|member| {
                    let name = &member.name;
                    let disabled = member.disabled.iter();
                    disabled.map(move |trigger| format!("ALTER TABLE {name} ENABLE TRIGGER {trigger}"))
                })
                .collect();
            let missing: Vec<&str> = table
                .members
                .iter()
                .filter(|member| {
                    let disabled = i64::try_from(member.disabled.len()).unwrap_or_default();
                    member.triggers + disabled < TRIGGERS_PER_TABLE
                })
                .map(|member| member.name.as_str())
                .collect();
            if !enable.is_empty() {
                findings.error(
                    Check::Triggers,
                    format!("{} triggers are disabled, and changes of {name} are lost", enable.len()),
                    Remedy::sql(&table.owner, enable.join("; ")),
                );
            }
            if !missing.is_empty() {
                findings.error(
                    Check::Triggers,
                    format!("triggers are missing on {}, and changes are lost", missing.join(", ")),
                    Remedy::advice("start a server that has the entity, such as `rhtmx-sync serve`"),
                );
            }
            if enable.is_empty() && missing.is_empty() {
                findings.ok(Check::Triggers, format!("{name} is captured"));
            }
        }
    }
}

fn row_security(findings: &mut Findings<'_>, table: &TableFacts, role: &str) {
    let name = &table.name;
    let policy = || {
        Remedy::sql(
            &table.owner,
            format!("CREATE POLICY rhtmx_sync ON {name} TO {role} USING (true) WITH CHECK (true)"),
        )
    };
    let sees_all = if !table.has_row_security && table.rights == Rights::RowSecurity {
        findings.warning(
            Check::RowSecurity,
            format!("{name} has none, so that each role with the right to read it sees every row"),
            Remedy::sql(
                &table.owner,
                format!("ALTER TABLE {name} ENABLE ROW LEVEL SECURITY"),
            ),
        );
        return;
    } else if !table.has_row_security {
        findings.ok(Check::RowSecurity, format!("{name} has none"));
        return;
    } else if !table.is_row_security_active {
        format!("it does not apply to {role}")
    } else if table.shows_every_row {
        format!("a policy shows {role} every row")
    } else if table.row_policies == 0 {
        findings.error(
            Check::RowSecurity,
            format!("no policy shows {role} a row of {name}: its clients see an empty table"),
            policy(),
        );
        return;
    } else {
        findings.warning(
            Check::RowSecurity,
            format!(
                "{role} sees only the rows of {name} that its policies show, and so do all clients"
            ),
            policy(),
        );
        return;
    };
    let text = format!("{sees_all}, so that the engine reads all rows of {name}");
    let instead = match table.rights {
        Rights::Policies => Some("the entity has policies of its own"),
        Rights::RowSecurity => Some("its clients see what the policies show their roles"),
        Rights::Internal => Some("no client does"),
        Rights::Everybody | Rights::Closed => None,
    };
    if let Some(instead) = instead {
        findings.ok(Check::RowSecurity, format!("{text}; {instead}"));
    } else {
        findings.warning(
            Check::RowSecurity,
            format!("{text}, and its clients see them all"),
            Remedy::setting(format!(
                "[entities.{}] read = \"…\", with what the row-level security says",
                table.entity
            )),
        );
    }
}

fn policies(findings: &mut Findings<'_>, table: &TableFacts) {
    match table.rights {
        Rights::Everybody => {}
        Rights::Policies => findings.ok(Check::Policies, "the entity has policies"),
        Rights::RowSecurity => {
            findings.ok(Check::Policies, "the policies of the table decide");
        }
        Rights::Internal => {
            findings.ok(
                Check::Policies,
                "the entity is internal: no client reads or writes it",
            );
        }
        Rights::Closed => findings.warning(
            Check::Policies,
            "the entity has no policies, so that nobody may read or write it",
            Remedy::setting(format!("[entities.{}] read = \"…\"", table.entity)),
        ),
    }
}
