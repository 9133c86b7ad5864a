//! What policies depend on: claims, settings, the clock, tables.

use std::collections::BTreeSet;

use crate::{Claims, Source, SourceKind, Sources, Uses};

pub(super) fn function(schema: &str, name: &str, text: &str) -> Source {
    Source {
        kind: SourceKind::Function,
        oid: 1,
        schema: schema.to_owned(),
        name: name.to_owned(),
        text: text.to_owned(),
        is_volatile: false,
        is_immutable: false,
        is_opaque: false,
        is_unnamed: false,
        children: BTreeSet::new(),
    }
}

pub(super) fn relation(oid: u32, name: &str, text: &str) -> Source {
    Source {
        kind: SourceKind::Relation,
        oid,
        ..function("public", name, text)
    }
}

/// Supabase's functions, and some more.
fn uses(text: &str) -> Uses {
    let token = "select nullif(current_setting('request.jwt.claims', true), '')::jsonb";
    let uid = "select coalesce(nullif(current_setting('request.jwt.claim.sub', true), ''), \
               (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'))::uuid";
    Sources::new(vec![
        function("auth", "jwt", token),
        function("auth", "uid", uid),
        function(
            "public",
            "my_org",
            "select (auth.jwt() -> 'app_metadata' ->> 'org')::uuid",
        ),
        function(
            "public",
            "is_open",
            "begin return now() < '2030-01-01'; end",
        ),
        function(
            "public",
            "any_of",
            "begin execute format('select 1 from %I', 'x'); end",
        ),
        Source {
            is_volatile: true,
            ..function("public", "dice", "select 4")
        },
        Source {
            is_opaque: true,
            ..function("public", "native", "f")
        },
        Source {
            is_immutable: true,
            ..function("public", "plus_one", "select $1 + 1")
        },
        Source {
            is_immutable: true,
            ..function("public", "frozen", "select current_setting('app.tenant')")
        },
        Source {
            is_immutable: true,
            ..function("public", "frozen_too", "select auth.uid()")
        },
        function(
            "public",
            "sets",
            "begin perform set_config('app.x', '1', true); end",
        ),
        function("public", "calls", "select sets()"),
        relation(
            10,
            "members",
            "(who = auth.uid()) ; (role = (auth.jwt() ->> 'user_role'::text))",
        ),
        relation(11, "plain", ""),
        Source {
            schema: "other".to_owned(),
            ..relation(12, "members", "is_open()")
        },
    ])
    .uses([text])
}

fn claims(text: &str) -> Option<Vec<String>> {
    match uses(text).claims {
        Claims::Named(names) => Some(names.into_iter().collect()),
        Claims::All => None,
    }
}

#[test]
fn only_the_claims_that_are_read_count_through_functions_and_policies_of_other_tables() {
    for (text, expected) in [
        ("(state = 'x'::text)", &[][..]),
        ("(owner = ( SELECT auth.uid() AS uid))", &["sub"]),
        ("((auth.jwt() ->> 'email'::text) = email)", &["email"]),
        (
            "((current_setting('request.jwt.claims'::text, true))::json ->> 'org'::text) = org",
            &["org"],
        ),
        ("(org = my_org())", &["app_metadata"]),
        (
            "(team IN ( SELECT members.team FROM members))",
            &["sub", "user_role"],
        ),
    ] {
        assert_eq!(
            claims(text).as_deref(),
            Some(
                &expected
                    .iter()
                    .map(|name| (*name).to_owned())
                    .collect::<Vec<_>>()[..]
            ),
            "{text}"
        );
    }
    for text in [
        "(auth.jwt() @> '{}'::jsonb)",
        "any_of()",
        "native()",
        "(current_setting(name) = 'x')",
    ] {
        assert_eq!(claims(text), None, "{text}");
    }
}

#[test]
fn a_policy_depends_on_the_clock_through_what_it_calls() {
    for text in [
        "(ends > now())",
        "(day = CURRENT_DATE)",
        "is_open()",
        "(dice() = 4)",
    ] {
        assert!(uses(text).clock.is_some(), "{text}");
    }
    for text in [
        "(owner = auth.uid())",
        "(note = 'now()'::text)",
        "(id = any_of())",
    ] {
        assert!(uses(text).clock.is_none(), "{text}");
    }
}

#[test]
fn the_tables_that_are_named_are_known_unless_a_statement_is_put_together() {
    let found = uses("(team IN ( SELECT members.team FROM public.members))");
    assert_eq!(found.relations, BTreeSet::from([10]));
    assert!(!found.is_dynamic);
    // A name with its schema means that one alone, and one before a column none.
    let found = uses("(EXISTS ( SELECT 1 FROM public.plain WHERE (members.team = plain.team)))");
    assert_eq!(found.relations, BTreeSet::from([11]));
    let found = uses("(EXISTS ( SELECT 1 FROM other.members m))");
    assert_eq!(found.relations, BTreeSet::from([12]));
    assert!(found.clock.is_some());
    assert!(uses("any_of()").is_dynamic);
    let setting = uses("(tenant = (current_setting('app.Tenant'::text, true))::uuid)");
    assert_eq!(setting.settings, BTreeSet::from(["app.tenant".to_owned()]));
}

#[test]
fn a_group_is_asked_apart_where_it_would_change_what_the_next_is_answered() {
    for together in [
        "plus_one(level) = 2",
        "auth.uid() = owner",
        "team IN (SELECT team FROM members)",
    ] {
        assert_eq!(uses(together).apart, None, "{together}");
    }
    for apart in [
        "frozen() = 'a'",
        "frozen_too() = owner",
        "calls() = 1",
        "native()",
        "any_of()",
    ] {
        assert!(uses(apart).apart.is_some(), "{apart}");
    }
}
