//! Which rows of a table concern a session, and of which tables that is not known.

use std::collections::BTreeSet;

use filter::{Backend, Table};
use value::schema::{Collation, Column, ColumnKind, Schema};

use super::column;
use super::dependencies::{function, relation};
use crate::{Condition, Uses};
use crate::{Guard, GuardDraft, Plan, PlannedPolicy, Question, Source, Sources, TableName};

const MEMBERS: u32 = 7;

fn schema() -> Schema {
    let text = ColumnKind::Text { chars_max: None };
    Schema {
        entity: "members".to_owned(),
        columns: vec![
            column("user_id", ColumnKind::Uuid, "uuid"),
            column("list_id", ColumnKind::INT4, "int4"),
            column("name", text.clone(), "varchar"),
            Column {
                collation: Collation::Other,
                ..column("folded", text.clone(), "text")
            },
            column("ci", text.clone(), "citext"),
            column("padded", text, "bpchar"),
            column("open", ColumnKind::Bool, "bool"),
            column("at", ColumnKind::TimestampTz, "timestamptz"),
            Column {
                logged: false,
                ..column("unlogged", ColumnKind::INT4, "int4")
            },
            column("User", ColumnKind::Uuid, "uuid"),
        ],
        key: vec![0],
    }
}

fn sources() -> Vec<Source> {
    let uid = "select nullif(current_setting('request.jwt.claim.sub', true), '')::uuid";
    vec![
        function("auth", "uid", uid),
        function(
            "auth",
            "jwt",
            "select current_setting('request.jwt.claims')::jsonb",
        ),
        function(
            "public",
            "tenant",
            "select current_setting('app.tenant')::int",
        ),
        function(
            "public",
            "is_member",
            "select exists (select from public.members)",
        ),
        Source {
            is_volatile: true,
            ..function("public", "dice", "select 4")
        },
        Source {
            is_opaque: true,
            ..function("public", "native", "f")
        },
        relation(MEMBERS, "members", "(user_id = auth.uid())"),
        relation(8, "lists", "(owner = auth.uid())"),
        relation(9, "member_names", "SELECT members.name FROM public.members"),
        relation(
            10,
            "audited",
            "(EXISTS ( SELECT 1 FROM public.members m WHERE (m.user_id = auth.uid())))",
        ),
        Source {
            schema: "other".to_owned(),
            ..relation(11, "members", "")
        },
        Source {
            children: BTreeSet::from([MEMBERS]),
            ..relation(12, "everybody", "")
        },
    ]
}

fn plan_of(texts: &[&str], is_per_row: bool) -> Plan {
    let policy = |text: &&str| PlannedPolicy {
        name: String::new(),
        permissive: true,
        text: (*text).to_owned(),
        terms: match is_per_row {
            true => vec![vec![Condition::PerRow(String::new())]],
            false => Vec::new(),
        },
    };
    let questions = texts.iter().map(|text| Question::Bit((*text).to_owned()));
    Plan {
        policies: texts.iter().map(policy).collect(),
        questions: questions.collect(),
    }
}

/// The guards of the members where these texts are asked, and PostgreSQL says these types of all expressions.
fn guards_with(sources: Vec<Source>, texts: &[&str], types: &str) -> Option<Vec<Guard>> {
    let sources = Sources::new(sources);
    let plan = plan_of(texts, false);
    let uses: Uses = sources.uses(texts.iter().copied());
    assert!(uses.relations.contains(&MEMBERS), "{texts:?}");
    if uses.read_within.contains(&MEMBERS) {
        return None;
    }
    let name = TableName {
        schema: "public".to_owned(),
        name: "members".to_owned(),
    };
    let schema = schema();
    let table = Table::new(&schema, Backend::Postgres);
    let draft = GuardDraft::new(&plan, &uses, &sources, &name, table)?;
    let types: Vec<Option<String>> = draft
        .probes()
        .iter()
        .map(|_| Some(types.to_owned()))
        .collect();
    draft.finish(&types)
}

fn guards_of(texts: &[&str], types: &str) -> Option<Vec<(String, String)>> {
    let found = guards_with(sources(), texts, types)?;
    let schema = schema();
    let named = found.into_iter();
    Some(
        named
            .map(|guard| (schema.columns[guard.column].name.clone(), guard.expr))
            .collect(),
    )
}

/// The guards of the members for one condition within a subquery on them, of a uuid.
fn guards(text: &str) -> Option<Vec<(String, String)>> {
    guards_of(&[text], "uuid")
}

fn uid(column: &str) -> Option<Vec<(String, String)>> {
    Some(vec![(column.to_owned(), "auth.uid()".to_owned())])
}

#[test]
fn a_table_is_guarded_where_each_of_its_rows_must_have_a_value_of_the_session() {
    for text in [
        "EXISTS (SELECT 1 FROM public.members m WHERE m.user_id = auth.uid())",
        "EXISTS (SELECT 1 FROM public.members WHERE ((members.list_id = docs.team) AND (auth.uid() = members.user_id)))",
        "NOT (EXISTS (SELECT 1 FROM public.members m WHERE ((m.list_id > 3) AND ((m.name = 'x') AND (m.user_id = auth.uid())))))",
        "docs.team IN (SELECT m.list_id FROM public.members m WHERE m.user_id = auth.uid())",
        "(SELECT count(*) AS count FROM public.members m WHERE m.user_id = auth.uid()) < 5",
        // What is joined to a row that does not count does not count.
        "EXISTS (SELECT 1 FROM public.members m JOIN public.lists l ON l.id = m.list_id WHERE m.user_id = auth.uid())",
        "EXISTS (SELECT 1 FROM public.lists l LEFT JOIN public.members m ON m.list_id = l.id WHERE m.user_id = auth.uid())",
        "EXISTS (SELECT 1 FROM public.lists l FULL JOIN public.members m ON m.list_id = l.id WHERE m.user_id = auth.uid())",
        "EXISTS (SELECT 1 FROM public.lists l JOIN public.members m ON ((m.list_id = l.id) AND (m.user_id = auth.uid())))",
        "EXISTS (SELECT 1 FROM public.members m JOIN public.lists l ON m.user_id = auth.uid())",
        "EXISTS (SELECT 1 FROM public.lists l LEFT JOIN public.members m ON ((m.list_id = l.id) AND (m.user_id = auth.uid())))",
        "EXISTS (SELECT 1 FROM public.lists l LEFT JOIN (public.members m JOIN public.lists k ON k.id = m.list_id) ON m.user_id = auth.uid())",
        // Wherever a SELECT stands.
        "EXISTS (SELECT 1 FROM public.lists l WHERE l.id IN (SELECT m.list_id FROM public.members m WHERE m.user_id = auth.uid()))",
        "EXISTS (SELECT 1 FROM (SELECT m.list_id FROM public.members m WHERE m.user_id = auth.uid() ORDER BY m.list_id LIMIT 3) x)",
        "EXISTS (SELECT 1 FROM public.lists l, LATERAL (SELECT m.list_id FROM public.members m WHERE m.user_id = auth.uid()) x)",
        "docs.team IN (SELECT l.id FROM public.lists l UNION SELECT m.list_id FROM public.members m WHERE m.user_id = auth.uid())",
        // The inner m is another one than the outer.
        "EXISTS (SELECT 1 FROM public.lists m WHERE EXISTS (SELECT 1 FROM public.members m WHERE m.user_id = auth.uid()))",
    ] {
        assert_eq!(guards(text), uid("user_id"), "{text}");
    }
    let quoted = "EXISTS (SELECT 1 FROM public.members \"M\" WHERE \"M\".\"User\" = auth.uid())";
    assert_eq!(guards(quoted), uid("User"));
}

#[test]
fn a_table_of_which_any_row_may_count_has_no_guard() {
    for text in [
        "EXISTS (SELECT 1 FROM public.members m)",
        "EXISTS (SELECT 1 FROM public.members m WHERE m.list_id = docs.team)",
        "EXISTS (SELECT 1 FROM public.members m WHERE m.user_id = docs.owner)",
        "EXISTS (SELECT 1 FROM public.members m WHERE ((m.user_id = auth.uid()) OR (m.list_id = 1)))",
        "EXISTS (SELECT 1 FROM public.members m WHERE (NOT (m.user_id = auth.uid())))",
        "EXISTS (SELECT 1 FROM public.members m WHERE m.user_id <> auth.uid())",
        "EXISTS (SELECT 1 FROM public.members m WHERE (NOT (m.user_id IS DISTINCT FROM auth.uid())))",
        "EXISTS (SELECT 1 FROM public.members m WHERE ((m.user_id = auth.uid()) IS NOT FALSE))",
        "EXISTS (SELECT 1 FROM public.members m GROUP BY m.user_id HAVING m.user_id = auth.uid())",
        "EXISTS (SELECT 1 FROM public.members m WHERE auth.uid() IN (SELECT l.owner FROM public.lists l WHERE l.owner = auth.uid()))",
        // The condition is of another row.
        "EXISTS (SELECT 1 FROM public.members m, public.members n WHERE m.user_id = auth.uid())",
        "EXISTS (SELECT 1 FROM public.members m WHERE EXISTS (SELECT 1 FROM public.members m WHERE m.user_id = auth.uid()))",
        "EXISTS (SELECT 1 FROM public.members m WHERE EXISTS (SELECT 1 FROM public.lists l WHERE m.user_id = auth.uid()))",
        "EXISTS (SELECT 1 FROM public.lists m WHERE EXISTS (SELECT 1 FROM public.members n WHERE m.user_id = auth.uid()))",
        "EXISTS (SELECT 1 FROM public.lists l, (public.members m JOIN public.lists k ON l.user_id = auth.uid()))",
        "EXISTS (SELECT 1 FROM public.members m, public.lists m WHERE m.user_id = auth.uid())",
        "EXISTS (SELECT 1 FROM public.lists l WHERE l.user_id = auth.uid() AND l.id IN (SELECT m.list_id FROM public.members m))",
        // A row that is not joined counts by itself.
        "EXISTS (SELECT 1 FROM public.members m LEFT JOIN public.lists l ON m.user_id = auth.uid())",
        "EXISTS (SELECT 1 FROM public.lists l RIGHT JOIN public.members m ON m.user_id = auth.uid())",
        "EXISTS (SELECT 1 FROM public.lists l FULL JOIN public.members m ON m.user_id = auth.uid())",
        "EXISTS (SELECT 1 FROM (public.members m JOIN public.lists l ON l.id = m.list_id) LEFT JOIN public.lists k ON m.user_id = auth.uid())",
        // Forms that are not understood.
        "EXISTS (WITH x AS (SELECT m.list_id FROM public.members m WHERE m.user_id = auth.uid()) SELECT 1 FROM x)",
        "EXISTS (SELECT 1 FROM public.members m(user_id, b) WHERE m.user_id = auth.uid())",
        "EXISTS (SELECT 1 FROM (public.members m JOIN public.lists l USING (id)) j WHERE m.user_id = auth.uid())",
        "EXISTS (SELECT 1 FROM public.members m TABLESAMPLE SYSTEM (1) WHERE m.user_id = auth.uid())",
        "EXISTS (SELECT 1 FROM members m WHERE m.user_id = auth.uid())",
        "EXISTS (SELECT 1 FROM public.members m WHERE user_id = auth.uid())",
        "EXISTS (SELECT 1 FROM public.members m WHERE m.user_id OPERATOR(public.=) auth.uid())",
        "EXISTS (SELECT 1 FROM public.members m WHERE m.user_id = auth.uid() AND m.list_id OPERATOR(public.%%) 3)",
        "EXISTS (SELECT DISTINCT ON ((SELECT count(*) FROM public.members n)) 1 FROM public.members m WHERE m.user_id = auth.uid())",
        "EXISTS (SELECT 1 FROM public.members m WHERE m.user_id = auth.uid() FOR UPDATE)",
    ] {
        assert_eq!(guards(text), None, "{text}");
    }
}

#[test]
fn each_place_has_a_guard_of_its_own() {
    let two = "EXISTS (SELECT 1 FROM public.members m WHERE m.user_id = auth.uid()) OR \
               EXISTS (SELECT 1 FROM public.members n WHERE n.\"User\" = (SELECT auth.uid() AS uid))";
    let found = guards(two).expect("guards");
    let columns: Vec<&str> = found.iter().map(|(column, _)| column.as_str()).collect();
    assert_eq!(columns, ["user_id", "User"]);
    // Of several texts, too, and the same one but once.
    let one = "EXISTS (SELECT 1 FROM public.members m WHERE m.user_id = auth.uid())";
    assert_eq!(guards_of(&[one, one, "true"], "uuid"), uid("user_id"));
    let any = "EXISTS (SELECT 1 FROM public.members m WHERE m.list_id = docs.team)";
    assert_eq!(guards_of(&[one, any], "uuid"), None);
    // What is the same for everybody is the last choice.
    let of_role = "EXISTS (SELECT 1 FROM public.members m WHERE m.list_id = 3 AND m.list_id = public.tenant())";
    let tenant = ("list_id".to_owned(), "public.tenant()".to_owned());
    assert_eq!(guards_of(&[of_role], "integer"), Some(vec![tenant]));
}

#[test]
fn a_table_of_the_same_name_in_another_schema_is_another_one() {
    let both = "EXISTS (SELECT 1 FROM public.members m WHERE m.user_id = auth.uid()) \
                AND EXISTS (SELECT 1 FROM other.members n)";
    assert_eq!(guards(both), uid("user_id"));
    let wrong = "EXISTS (SELECT 1 FROM public.members m) \
                 AND EXISTS (SELECT 1 FROM other.members n WHERE n.user_id = auth.uid())";
    assert_eq!(guards(wrong), None);
}

#[test]
fn a_table_that_is_read_in_another_way_too_has_no_guard() {
    let guarded = "EXISTS (SELECT 1 FROM public.members m WHERE m.user_id = auth.uid())";
    assert_eq!(guards(guarded), uid("user_id"));
    for beside in [
        "public.is_member()",
        "EXISTS (SELECT 1 FROM public.member_names n)",
        "EXISTS (SELECT 1 FROM public.audited a)",
        "EXISTS (SELECT 1 FROM public.everybody e)",
        "public.dice() = 4",
        "public.native()",
        "(now() > '2030-01-01'::timestamp with time zone)",
    ] {
        assert_eq!(guards(&format!("{guarded} AND {beside}")), None, "{beside}");
    }
    // What stands behind an operator or a cast is not named.
    let unnamed = |text: &str| {
        let mut sources = sources();
        sources.push(Source {
            is_unnamed: true,
            ..function("public", "behind", text)
        });
        guards_with(sources, &[guarded], "uuid").is_some()
    };
    assert!(unnamed("select 1 from public.lists"));
    assert!(!unnamed("select public.is_member()"));
    assert!(!unnamed("begin execute 'select 1'; end"));
}

#[test]
fn values_that_are_compared_otherwise_here_are_no_guard() {
    let on = |condition: &str| format!("EXISTS (SELECT 1 FROM public.members m WHERE {condition})");
    let found = |condition: &str, types: &str| guards_of(&[&on(condition)], types).is_some();
    assert!(found(
        "(m.name)::text = (auth.jwt() ->> 'name'::text)",
        "text \"default\""
    ));
    assert!(found(
        "(m.name)::text = (auth.jwt() ->> 'name'::text)",
        "text \"C\""
    ));
    assert!(found(
        "m.list_id = ((auth.jwt() ->> 'list'::text))::integer",
        "integer"
    ));
    assert!(found(
        "m.user_id = (NULLIF(current_setting('a.b'::text, true), ''::text))::uuid",
        "uuid"
    ));
    for (condition, types) in [
        (
            "(m.name)::text = (auth.jwt() ->> 'name'::text)",
            "text public.ci",
        ),
        ("(m.name)::text = (auth.jwt() ->> 'name'::text)", "text ?"),
        ("(m.name)::text = (auth.jwt() ->> 'name'::text)", "text"),
        (
            "(m.name)::text = (auth.jwt() ->> 'name'::text)",
            "character \"default\"",
        ),
        (
            "m.name = ((auth.jwt() ->> 'name'::text) COLLATE ci)",
            "text \"default\"",
        ),
        (
            "(m.name COLLATE ci) = (auth.jwt() ->> 'name'::text)",
            "text \"default\"",
        ),
        (
            "m.folded = (auth.jwt() ->> 'name'::text)",
            "text \"default\"",
        ),
        (
            "m.ci = ((auth.jwt() ->> 'name'::text))::public.citext",
            "public.citext",
        ),
        (
            "m.padded = ((auth.jwt() ->> 'name'::text))::bpchar",
            "character",
        ),
        (
            "m.list_id = ((auth.jwt() ->> 'list'::text))::numeric",
            "numeric",
        ),
        (
            "(m.list_id)::text = (auth.jwt() ->> 'list'::text)",
            "text \"default\"",
        ),
        (
            "(m.user_id)::text = (auth.jwt() ->> 'sub'::text)",
            "text \"default\"",
        ),
        (
            "m.user_id = ((auth.jwt() ->> 'sub'::text))::public.id",
            "uuid",
        ),
        ("m.open = true", "boolean"),
        (
            "m.at = ((auth.jwt() ->> 'at'::text))::timestamp with time zone",
            "timestamp with time zone",
        ),
        ("m.unlogged = public.tenant()", "integer"),
        ("m.list_id = (public.tenant() + 1)", "integer"),
        ("m.list_id = (SELECT l.id FROM public.lists l)", "integer"),
        ("m.list_id = public.unknown()", "integer"),
        ("m.list_id = pg_backend_pid()", "integer"),
        ("m.missing = public.tenant()", "integer"),
        ("(m.list_id + 1) = public.tenant()", "integer"),
        ("m.list_id = ANY (ARRAY[public.tenant()])", "integer"),
        ("m.list_id = n.list_id", "integer"),
    ] {
        assert!(!found(condition, types), "{condition}");
    }
    // PostgreSQL refuses to say.
    let text = on("m.user_id = auth.uid()");
    let sources = Sources::new(sources());
    let (plan, uses) = (plan_of(&[&text], false), sources.uses([text.as_str()]));
    let name = sources.name_of(MEMBERS).expect("a name");
    let schema = schema();
    let table = Table::new(&schema, Backend::Postgres);
    let draft = GuardDraft::new(&plan, &uses, &sources, &name, table).expect("a draft");
    assert_eq!(draft.finish(&[None]), None);
}

/// What is asked then are the keys of the visible rows, so the policies as they are.
#[test]
fn of_a_plan_that_is_per_row_the_policies_count() {
    let text =
        "EXISTS (SELECT 1 FROM public.members m WHERE m.list_id > team AND m.user_id = auth.uid())";
    let sources = Sources::new(sources());
    let uses = sources.uses([text]);
    let mut plan = plan_of(&[text], true);
    let name = sources.name_of(MEMBERS).expect("a name");
    let schema = schema();
    let table = Table::new(&schema, Backend::Postgres);
    plan.questions = Vec::new();
    let draft = GuardDraft::new(&plan, &uses, &sources, &name, table).expect("a draft");
    assert_eq!(
        draft.finish(&[Some("uuid".to_owned())]).map(|it| it.len()),
        Some(1)
    );
    plan.policies[0].text =
        "EXISTS (SELECT 1 FROM public.members m WHERE m.list_id > team)".to_owned();
    assert!(GuardDraft::new(&plan, &uses, &sources, &name, table).is_none());
}
