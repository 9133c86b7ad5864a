//! Who may see and write what. Every answer stands in the tables: nothing of it is in a session or a token but who somebody
//! is (`auth.sub`) and their address (`auth.email`).

use rhtmx_sync::{ColumnPolicy, EntityPolicy, Policies, PolicyError};

/// The entities, which are the tables.
pub(crate) const ENTITIES: [&str; 6] = [
    "organisations",
    "organisation_admins",
    "teams",
    "team_members",
    "documents",
    "invitations",
];

/// The teams that the user is in. A policy's subqueries read whole tables, so it does not matter what the user may see of
/// this one, and a policy of `team_members` may read `team_members`.
const MY_TEAMS: &str = "(SELECT team_id FROM team_members WHERE person = auth.sub)";
/// The organisations that the user administers.
const MY_ORGANISATIONS: &str =
    "(SELECT organisation_id FROM organisation_admins WHERE person = auth.sub)";

pub(crate) fn policies() -> Result<Policies, PolicyError> {
    let member = format!("team_id IN {MY_TEAMS}");
    let admin =
        format!("team_id IN (SELECT id FROM teams WHERE organisation_id IN {MY_ORGANISATIONS})");
    let invited = "email = auth.email";

    let organisations = EntityPolicy {
        read: Some(format!(
            "id IN {MY_ORGANISATIONS} OR id IN (SELECT organisation_id FROM teams WHERE id IN {MY_TEAMS})"
        )),
        ..EntityPolicy::default()
    };
    let organisation_admins = EntityPolicy {
        read: Some(format!(
            "person = auth.sub OR organisation_id IN {MY_ORGANISATIONS}"
        )),
        ..EntityPolicy::default()
    };
    let of_my_organisations = format!("organisation_id IN {MY_ORGANISATIONS}");
    let teams = EntityPolicy {
        // Who is invited sees what to, and nothing else of it.
        read: Some(format!(
            "id IN {MY_TEAMS} OR {of_my_organisations} OR id IN (SELECT team_id FROM invitations WHERE {invited})"
        )),
        create: Some(of_my_organisations.clone()),
        update: Some(of_my_organisations.as_str().into()),
        delete: Some(of_my_organisations),
        ..EntityPolicy::default()
    };
    let team_members = EntityPolicy {
        read: Some(format!("{member} OR {admin}")),
        create: Some(admin.clone()),
        // Everybody may leave.
        delete: Some(format!("{admin} OR person = auth.sub")),
        ..EntityPolicy::default()
    };
    let documents = EntityPolicy {
        read: Some(format!("{member} OR {admin}")),
        create: Some(format!("author = auth.sub AND {member}")),
        // Also what the row must be like afterwards: nobody moves a document to a team that they are not in.
        update: Some(member.as_str().into()),
        delete: Some(format!("author = auth.sub AND {member} OR {admin}")),
        columns: [(
            "author".to_owned(),
            ColumnPolicy {
                default: Some("auth.sub".to_owned()),
                ..ColumnPolicy::default()
            },
        )]
        .into(),
    };
    let invitations = EntityPolicy {
        read: Some(format!("{invited} OR {admin}")),
        create: Some(admin.clone()),
        delete: Some(format!("{invited} OR {admin}")),
        ..EntityPolicy::default()
    };
    let policies = [
        organisations,
        organisation_admins,
        teams,
        team_members,
        documents,
        invitations,
    ];
    Policies::new(ENTITIES.map(str::to_owned).into_iter().zip(policies))
}
