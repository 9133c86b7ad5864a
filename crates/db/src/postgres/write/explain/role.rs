//! What a write that ran as a role may tell its writer: what PostgreSQL has told the role, and nothing of rows that do not
//! exist for the role.

use diesel::result::Error;
use diesel::sql_types::{Array, Nullable, Text};
use diesel::{QueryableByName, sql_query};
use diesel_async::RunQueryDsl;
use protocol::{Op, Reject, RejectCode};
use serde::Deserialize;
use tracing::error;

use super::{Fault, Probes, column_at_fault, constraint_of};
use crate::postgres::store::in_schema;
use crate::postgres::write::literal::literal;
use crate::postgres::write::statement::{ascii, key_object, visible};
use crate::write::{RunAs, TableWrite, outside_check, outside_using};

/// The reject of a mutation whose writes cannot run as their role. The operator is told why.
pub(super) fn refused(run_as: Option<&RunAs>) -> Reject {
    let role = run_as.map_or("", |run_as| run_as.role.as_str());
    error!(
        ?role,
        "a mutation is rejected because its writes cannot run as the role of the user's token: there is no such role, the \
         engine's role is no member of it (GRANT it TO the engine's role), it is a superuser or the engine's own, or a \
         function of the table has left it"
    );
    Reject::new(RejectCode::Forbidden, "this user may not write here")
}

/// The reject of a write that the role may not do, or whose failure tells of a row that does not exist for it; none where the
/// reason may be told.
pub(super) async fn outside(
    probes: &mut Probes<'_>,
    write: &TableWrite,
    run_as: &RunAs,
    fault: &Fault,
) -> Result<Option<Reject>, Error> {
    Ok(match (fault.state.as_str(), fault.class()) {
        _ if fault.refused.is_some() => Some(match write.op {
            Op::Update | Op::Delete => outside_using(is_visible(probes, write, run_as).await?),
            Op::Create | Op::Upsert => outside_check(),
        }),
        // A policy refuses the row, a grant is missing, or a policy reads its own table.
        ("42501" | "42P17", _) => Some(outside_check()),
        ("23505", _) if write.op == Op::Create => {
            let found = constraint_of(probes.conn, write, fault).await?;
            let is_key = found.is_some_and(|found| found.kind == "p");
            let is_hidden = is_key && !is_visible(probes, write, run_as).await?;
            is_hidden.then(outside_check)
        }
        // A policy, too, may not be able to read a value.
        (_, "22") => {
            let column = column_at_fault(probes, write).await?;
            column.is_none().then(outside_check)
        }
        _ => None,
    })
}

#[derive(QueryableByName)]
struct Asked {
    #[diesel(sql_type = Text)]
    asked: String,
}

#[derive(Deserialize)]
struct Reply {
    answers: Vec<Option<String>>,
}

/// Whether the row that a write names exists for the role.
async fn is_visible(
    probes: &mut Probes<'_>,
    write: &TableWrite,
    run_as: &RunAs,
) -> Result<bool, Error> {
    if write.key.is_none() {
        return Ok(false);
    }
    let key = literal(&ascii(&key_object(write, None)));
    let question = visible(write, &format!("({key}::pg_catalog.jsonb)"), "'true'");
    // Policies may rely on the search path that sessions have.
    let ask = in_schema(
        "SELECT _rhtmx_sync_ask($1, $2 || '{row_security,search_path}'::text[], $3 || ARRAY['on', (SELECT reset_val \
         FROM pg_catalog.pg_settings WHERE name = 'search_path')], ARRAY[$4], $5) AS asked",
        probes.log_schema,
    );
    let (names, values): (Vec<&String>, Vec<&String>) = run_as.settings.iter().unzip();
    let asked: Asked = sql_query(ask)
        .bind::<Text, _>(&run_as.role)
        .bind::<Array<Text>, _>(names)
        .bind::<Array<Text>, _>(values)
        .bind::<Text, _>(question)
        .bind::<Nullable<Text>, _>(None::<String>)
        .get_result(probes.conn)
        .await?;
    let reply: Option<Reply> = serde_json::from_str(&asked.asked).ok();
    let answer = reply.and_then(|reply| reply.answers.into_iter().next()?);
    Ok(answer.is_some())
}
