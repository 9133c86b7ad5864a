//! Shapes with subqueries: what a policy's reads of other tables, and what a client's.

use filter::testing::tables::TestTables;
use filter::{InnerTable, Tables as _};

use super::*;
use crate::policy::{
    AllowAll, Authorizer, ColumnAccess, ColumnPolicy, EntityPolicy, Internal, Policies, Principal,
};

#[derive(Debug)]
struct Database(TestTables);

impl Catalog for Database {
    fn table(&self, entity: &str) -> Option<CurrentTable> {
        let InnerTable {
            schema,
            fingerprint,
            backend,
            ..
        } = self.0.find(entity)?;
        Some(CurrentTable {
            has_records: false,
            schema,
            fingerprint,
            backend,
            fields: None,
        })
    }
}

fn database() -> Database {
    Database(TestTables::whole(Backend::Postgres))
}

/// Members see the lists that they are in, and their own memberships without a column.
fn policies() -> Policies {
    let hidden = ColumnPolicy {
        readable: Some(false.into()),
        ..ColumnPolicy::default()
    };
    let partial = ColumnPolicy {
        readable: Some("user_id = auth.sub".into()),
        ..ColumnPolicy::default()
    };
    let of = |read: &str, columns: Vec<(&str, ColumnPolicy)>| EntityPolicy {
        read: Some(read.to_owned()),
        columns: columns
            .into_iter()
            .map(|(name, policy)| (name.to_owned(), policy))
            .collect(),
        ..EntityPolicy::default()
    };
    let all = [
        (
            "t",
            of("n IN (SELECT id FROM lists WHERE owner = auth.sub)", vec![]),
        ),
        (
            "members",
            of("n = 1", vec![("list_id", partial), ("secret", hidden)]),
        ),
    ];
    let all = all.map(|(entity, policy)| (entity.to_owned(), policy));
    Policies::new(all).expect("policies")
}

fn resolved(
    authorizer: &dyn Authorizer,
    database: &Database,
    entity: &str,
    asked: &SelectionRequest,
) -> Result<Shape, ResolveError> {
    let ann = Principal::of_user("ann");
    let others = Others {
        catalog: database,
        scope_of: &|entity| authorizer.read(&ann, entity),
    };
    let table = database.table(entity).expect("a table");
    Shape::resolve(&table, asked, &authorizer.read(&ann, entity), others)
}

/// The filter of a shape as text.
fn filter_of(shape: &Shape) -> String {
    let selection = shape.selection().expect("a selection");
    selection.filter().text(selection.table())
}

/// What somebody selects who may see everything, as text.
fn whole(text: &str) -> String {
    let tables = TestTables::whole(Backend::Postgres);
    let table = table("1");
    let filter = Filter::new(text, &[], table.table().among(&tables)).expect("a filter");
    filter.text(table.table())
}

#[test]
fn a_policy_reads_other_tables_whole_and_a_client_what_it_may_see() {
    // `lists` has no policy, so for clients it does not exist; the policy of `t` reads it all the same.
    let (policies, database) = (policies(), database());
    let seen = |text| {
        let shape = resolved(&policies, &database, "t", &request(text, None)).expect("a shape");
        assert!(shape.is_guarded());
        filter_of(&shape)
    };
    let policy = "n IN (SELECT id FROM lists WHERE owner = 'ann')";
    assert_eq!(seen(None), whole(policy));
    assert_eq!(
        seen(Some(
            "id IN (SELECT list_id FROM members WHERE user_id = 'ben')"
        )),
        whole(&format!(
            "{policy} AND id IN (SELECT list_id FROM members WHERE user_id = 'ben' AND n = 1 AND user_id = 'ann')"
        ))
    );
}

#[test]
fn what_a_client_may_not_see_does_not_exist_in_its_subqueries() {
    let (policies, database) = (policies(), database());
    let closed = Internal::new(["members".to_owned()].into(), Arc::new(AllowAll));
    let of = |authorizer: &dyn Authorizer, text: &str| {
        let error = resolved(authorizer, &database, "t", &request(Some(text), None));
        of_request(error.expect_err(text)).message
    };
    for (authorizer, hidden, missing) in [
        (&policies as &dyn Authorizer, "lists", "other"),
        (&closed, "members", "nothing"),
    ] {
        let read = |entity| format!("id IN (SELECT id FROM {entity})");
        let message = of(authorizer, &read(hidden));
        assert_eq!(
            message.replace(hidden, missing),
            of(authorizer, &read(missing))
        );
        assert!(message.contains("there is no entity"), "{message}");
    }
    let read = |column| format!("id IN (SELECT id FROM members WHERE {column} = 1)");
    let message = of(&policies, &read("secret"));
    assert_eq!(
        message.replace("secret", "absent"),
        of(&policies, &read("absent"))
    );
    assert!(
        resolved(
            &closed,
            &database,
            "t",
            &request(Some("id IN (SELECT id FROM lists)"), None)
        )
        .is_ok()
    );
    assert!(closed.is_closed("members") && !closed.is_closed("lists"));
}

#[test]
fn a_shape_is_guarded_where_a_table_that_it_reads_is() {
    let database = database();
    let ann = Principal::of_user("ann");
    let policies = policies();
    let resolve = |text: &str| {
        let others = Others {
            catalog: &database,
            scope_of: &|entity| match entity {
                "members" => policies.read(&ann, entity),
                _ => ReadScope::Everything,
            },
        };
        let asked = request(Some(text), None);
        Shape::resolve(&table("1"), &asked, &ReadScope::Everything, others).expect("a shape")
    };
    assert!(!resolve("n IN (SELECT id FROM lists)").is_guarded());
    assert!(resolve("n IN (SELECT id FROM members)").is_guarded());
    assert!(
        resolve("n IN (SELECT id FROM lists WHERE id IN (SELECT id FROM members))").is_guarded()
    );
}

#[test]
fn a_shape_differs_where_a_table_that_it_reads_has_changed() {
    let named = |inner: &str| {
        let mut database = database();
        database.0.table("members").fingerprint = inner.into();
        let text = "n IN (SELECT id FROM lists WHERE id IN (SELECT id FROM members))";
        let shape = resolved(&AllowAll, &database, "t", &request(Some(text), None));
        shape.expect("a shape").as_str().to_owned()
    };
    assert_eq!(named("1"), named("1"));
    assert_ne!(named("1"), named("2"));
}

#[test]
fn what_may_be_seen_of_another_table_and_cannot_be_evaluated_is_not_told() {
    let (policies, mut database) = (policies(), database());
    let inner = database.0.table("members");
    let mut schema = (*inner.schema).clone();
    schema.columns[3].name = "renamed".to_owned();
    inner.schema = schema.into();
    let asked = request(Some("id IN (SELECT id FROM members)"), None);
    let error = resolved(&policies, &database, "t", &asked).expect_err("the policy is at fault");
    assert!(matches!(error, ResolveError::Scope(_)), "{error:?}");
}

#[test]
fn policies_with_subqueries_are_checked_against_the_tables_that_they_read() {
    let database = database();
    let check = |read: &str| {
        let policy = EntityPolicy {
            read: Some(read.to_owned()),
            ..EntityPolicy::default()
        };
        let policies = Policies::new([("t".to_owned(), policy)]).expect("policies");
        let others = WholeTables::new(&database);
        let checked = policies.check("t", table("1").table().among(&others));
        (checked.map_err(|error| error.to_string()), others.unknown())
    };
    assert_eq!(
        check("EXISTS (SELECT 1 FROM members m WHERE m.n = t.n)").0,
        Ok(())
    );
    let (error, unknown) = check("EXISTS (SELECT 1 FROM membres m WHERE m.n = t.n)");
    let error = error.expect_err("no such entity");
    assert!(
        error.contains("`read`: at character 23: there is no entity \"membres\""),
        "{error}"
    );
    assert!(unknown.contains("membres"), "{unknown:?}");
    let error = check("n IN (SELECT gone FROM members)")
        .0
        .expect_err("no such column");
    assert!(error.contains("no column \"gone\""), "{error}");
}

#[test]
fn the_policy_of_a_column_reads_no_other_table() {
    for text in [
        "n IN (SELECT id FROM members)",
        "EXISTS (SELECT 1 FROM members WHERE user_id = auth.sub)",
        "NOT (b OR EXISTS (SELECT 1 FROM members))",
    ] {
        let access = Some(ColumnAccess::from(text));
        for (place, column) in [
            (
                "readable",
                ColumnPolicy {
                    readable: access.clone(),
                    ..ColumnPolicy::default()
                },
            ),
            (
                "writable",
                ColumnPolicy {
                    writable: access,
                    ..ColumnPolicy::default()
                },
            ),
        ] {
            let policy = EntityPolicy {
                columns: [("s".to_owned(), column)].into(),
                ..EntityPolicy::default()
            };
            let error = Policies::new([("t".to_owned(), policy)]).expect_err(text);
            assert_eq!(error.policy, format!("columns.s.{place}"), "{text}");
            assert!(error.message.contains("not on other tables"), "{error}");
        }
    }
}
