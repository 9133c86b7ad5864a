//! The settings on which the code in a database depends: of policies, functions, defaults and views.

use std::collections::BTreeSet;

use rls::{KNOWN_SETTINGS, Sources};
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::catalog;
use crate::error::DbResult;
use crate::postgres::connect::failed;

const CONTEXT: &str = "reading which settings policies use";

/// The texts of the database's code that reads settings, but for the engine's own.
const TEXTS: &str = "\
SELECT coalesce(json_agg(t.text), '[]')::text FROM ( \
SELECT coalesce(pg_get_function_sqlbody(f.oid), f.prosrc) FROM pg_proc f JOIN pg_namespace n ON n.oid = f.pronamespace \
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND f.prokind IN ('f', 'p', 'w') \
AND f.proname NOT LIKE '\\_rhtmx\\_sync\\_%' \
UNION ALL SELECT pg_get_expr(p.polqual, p.polrelid) FROM pg_policy p \
UNION ALL SELECT pg_get_expr(p.polwithcheck, p.polrelid) FROM pg_policy p \
UNION ALL SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef d \
UNION ALL SELECT pg_get_constraintdef(c.oid) FROM pg_constraint c WHERE c.contype = 'c' \
UNION ALL SELECT pg_get_triggerdef(g.oid) FROM pg_trigger g WHERE g.tgqual IS NOT NULL \
UNION ALL SELECT pg_get_viewdef(c.oid) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
WHERE c.relkind = 'v' AND n.nspname NOT IN ('pg_catalog', 'information_schema') \
) t(text) WHERE t.text ~* 'current_setting'";

/// Those of the names `$1` that have no value of the database's own, of the role's, or of the configuration file.
const WITHOUT_VALUE: &str = "\
SELECT coalesce(json_agg(n.name), '[]')::text FROM unnest($1::text[]) n(name) \
WHERE coalesce(current_setting(n.name, true), '') = ''";

/// The settings that the database's code reads and that mean something for a session alone: they have no value where none
/// is made. Those of PostgREST and Supabase are among them.
pub(in crate::postgres) async fn settings(client: &Client) -> DbResult<BTreeSet<String>> {
    let rows = client.query_typed(TEXTS, &[]).await;
    let rows = rows.map_err(|error| failed(CONTEXT, &error))?;
    let texts = rows.first().map(catalog::read).transpose()?;
    let texts: Vec<String> = texts.unwrap_or_default();
    let uses = Sources::default().uses(texts.iter().map(String::as_str));
    let known = KNOWN_SETTINGS.iter().map(|name| (*name).to_owned());
    let names = uses.settings.into_iter().chain(known);
    let names: Vec<String> = names.filter(|name| rls::is_custom_setting(name)).collect();
    let rows = client
        .query_typed(WITHOUT_VALUE, &[(&names, Type::TEXT_ARRAY)])
        .await;
    let rows = rows.map_err(|error| failed(CONTEXT, &error))?;
    let found = rows.first().map(catalog::read).transpose()?;
    Ok(found.unwrap_or_default())
}
