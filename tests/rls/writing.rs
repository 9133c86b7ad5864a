//! The writes of the corpus, under the settings that are made for a group.

use std::collections::{BTreeMap, BTreeSet};

use rls::Group;

use super::examined::Examined;
use super::reading::load;
use super::{corpus, truth};

#[tokio::test]
async fn a_write_as_the_role_of_a_group_ends_as_the_corpus_says() {
    let loaded = load(|_, case| !case.writes.is_empty()).await;
    let expected = corpus::expected();
    let client = loaded.db.connect_postgres().await;
    let mut wrong = Vec::new();
    let mut tried = 0;
    for case in loaded.cases.iter().filter(|case| !case.writes.is_empty()) {
        let mut settings = BTreeSet::new();
        let mut every_use = BTreeMap::new();
        for entity in &case.entities {
            let table = format!("{}.{}", case.id, entity.table);
            let examined = Examined::new(&loaded.reader, &table, &[]).await;
            let uses = examined.uses(&loaded.sources);
            settings.extend(uses.settings.clone());
            every_use.insert(entity.table.clone(), uses);
        }
        for (write, expected) in case.writes.iter().zip(&expected[&case.id].writes) {
            let user = case.user(&write.user);
            // A write is no group's: it takes the whole token.
            let mut uses = every_use.values().next().expect("an entity").clone();
            uses.claims = rls::Claims::All;
            uses.any_setting = true;
            let group = Group::new(&user.role, user.claims.as_ref(), &user.settings, &uses);
            let result = truth::written(&client, &group, &settings, &case.id, &write.sql).await;
            if result != expected.result {
                wrong.push(format!(
                    "{}: {} gives {result}, not {}",
                    case.id, write.sql, expected.result
                ));
            }
            tried += 1;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(tried >= 30, "only {tried} writes");
}
