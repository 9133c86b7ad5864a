//! Policies that fail show nothing to those for whom they fail, and harm nobody else.

use super::*;

/// A policy that raises for Ben while a row says so.
const RAISES: &str = "
CREATE TABLE broken (id integer PRIMARY KEY);
GRANT SELECT ON broken TO authenticated;
CREATE FUNCTION may_read() RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF auth.uid() = 'b0b00000-0000-4000-8000-000000000002' AND EXISTS (SELECT FROM broken) THEN RAISE 'no'; END IF;
    RETURN true;
END $$;
CREATE TABLE docs (id integer PRIMARY KEY, owner uuid);
ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
CREATE POLICY readers ON docs USING (may_read());
GRANT SELECT ON docs TO authenticated;
INSERT INTO docs VALUES (1), (2);";

async fn live() -> Live {
    let db = database().await;
    db.execute(RAISES).await;
    let mut config = config(&db).await;
    config.entities.push(EntityConfig::new("docs").rls());
    config.entities.push(EntityConfig::new("broken").internal());
    Live::of(db, config).await
}

async fn reader(live: &Live, id: &str) -> SyncClient {
    let mut client = live.connect(&user(id)).await;
    for (id, entity) in [("t", "docs"), ("f", "fences")] {
        client.subscribe(id, entity).await;
        client.wait_subscribed(id).await;
    }
    client
}

#[tokio::test]
async fn a_policy_that_raises_shows_nothing_and_ends_nobody_elses_stream() {
    let mut live = live().await;
    let mut ann = reader(&live, ANN).await;
    let mut ben = reader(&live, BEN).await;
    assert_eq!(keys(&ben), these(["1", "2"]));
    live.db.execute("INSERT INTO broken VALUES (1)").await;
    live.fence(&mut ben).await;
    assert_eq!(keys(&ben), these([]));
    live.db.execute("INSERT INTO docs VALUES (3)").await;
    live.fence(&mut ben).await;
    assert_eq!(keys(&ben), these([]));
    live.fence(&mut ann).await;
    assert_eq!(keys(&ann), these(["1", "2", "3"]));
    // One who comes now is told the same.
    let late = reader(&live, BEN).await;
    assert_eq!(keys(&late), these([]));
    // It is asked again by itself.
    live.db.execute("DELETE FROM broken").await;
    wait_keys(&mut ben, &["1", "2", "3"]).await;
}

#[tokio::test]
async fn a_policy_that_recurses_shows_nothing() {
    let live = Live::with(
        "CREATE POLICY mates ON members USING (EXISTS (SELECT FROM members m WHERE m.list_id = members.list_id))",
    )
    .await;
    // The own and the public ones do not need the members; but the question for the lists fails, and so does all of it.
    let ann = live.subscriber(&user(ANN)).await;
    assert_eq!(keys(&ann), these([]));
}
