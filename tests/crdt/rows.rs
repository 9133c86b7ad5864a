//! Rows are written and found; deleted ones are hidden, and remembered.

use rhtmx_sync::crdt::{Crdt, CrdtError, Direction, Query, Schema};
use serde::Deserialize;
use serde_json::json;
use testkit::{Backend, both_backends};

use super::{keys, metadata, open, pool, reject_code, todo, values};

both_backends! {
    async fn what_is_written_is_found(db: TestDatabase) {
        #[derive(Debug, PartialEq, Deserialize)]
        struct Todo {
            id: String,
            title: Option<String>,
            done: bool,
        }
        let crdt = open(&db).await;
        crdt.insert("todos", todo("a", "milk")).await.expect("inserted");
        crdt.put("todos", todo("b", "bread")).await.expect("inserted");
        crdt.put("todos", json!({"id": "a", "title": "oat milk"})).await.expect("updated");
        crdt.update("todos", "b", json!({"done": true})).await.expect("updated");
        let milk = Todo {
            id: "a".to_owned(),
            title: Some("oat milk".to_owned()),
            done: false,
        };
        let found = crdt.get("todos", "a").await.expect("read").expect("a row");
        assert_eq!(found.to::<Todo>().expect("a todo"), milk);
        let open_ones = Query::new("todos").filter("done = $1", [false]);
        let found = crdt.query(&open_ones).await.expect("read");
        assert_eq!(found.iter().map(|row| &*row.key).collect::<Vec<_>>(), ["a"]);
        let by_title = Query::new("todos").columns(["title"]).order_by("title", Direction::Asc);
        let found = crdt.query(&by_title.clone().limit(1)).await.expect("read");
        assert_eq!(json!(found[0].values), json!({"id": "b", "title": "bread"}));
        assert_eq!(crdt.query(&by_title).await.expect("read").len(), 2);
        let behind = Query::new("todos").after_key("a");
        assert_eq!(crdt.query(&behind).await.expect("read")[0].key, "b");
    }

    async fn deleted_rows_are_hidden_and_remembered(db: TestDatabase) {
        let crdt = open(&db).await;
        crdt.insert("todos", todo("a", "milk")).await.expect("inserted");
        crdt.insert("todos", todo("b", "bread")).await.expect("inserted");
        crdt.insert("lists", json!({"id": "l", "name": "food"})).await.expect("inserted");
        db.execute("INSERT INTO todos (id, title) VALUES ('c', 'tea')").await;
        let died = crdt.delete("todos", "a").await.expect("deleted");
        crdt.delete("lists", "l").await.expect("deleted");
        // Somebody who has never heard of this.
        db.execute("DELETE FROM todos WHERE id = 'c'").await;
        assert_eq!(keys(&crdt, "todos").await, ["b"]);
        assert_eq!(crdt.get("todos", "a").await.expect("read"), None);

        let deleted = crdt.query_deleted(Query::new("todos")).await.expect("read");
        let found: Vec<&str> = deleted.iter().map(|row| &*row.key).collect();
        assert_eq!(found, ["a", "c"]);
        assert_eq!(deleted[0].deleted_at, died);
        assert_eq!(&deleted[0].node, crdt.node_id());
        assert_eq!(&deleted[1].node, crdt.node_id());
        // An edit of another database may bring it back, so it is kept.
        assert_eq!(deleted[0].values["title"], "milk");
        let milk = Query::new("todos").filter("title = $1", ["milk"]);
        let found = crdt.query_deleted(milk).await.expect("read");
        assert_eq!(found.len(), 1);
        let first = Query::new("todos").limit(1);
        assert_eq!(crdt.query_deleted(first).await.expect("read")[0].key, "a");
        let behind = Query::new("todos").after_key("a");
        assert_eq!(crdt.query_deleted(behind).await.expect("read")[0].key, "c");

        let lists = crdt.query_deleted(Query::new("lists")).await.expect("read");
        assert_eq!(json!(lists[0].values), json!({"id": "l"}));
        let named = Query::new("lists").filter("name = $1", ["food"]);
        assert!(crdt.query_deleted(named).await.expect("read").is_empty());
    }

    async fn a_row_that_is_inserted_again_is_deleted_no_more(db: TestDatabase) {
        let crdt = open(&db).await;
        crdt.insert("lists", json!({"id": "l", "name": "food"})).await.expect("inserted");
        crdt.delete("lists", "l").await.expect("deleted");
        let born = crdt.insert("lists", json!({"id": "l", "name": "tools"})).await.expect("inserted");
        assert_eq!(values(crdt.get("lists", "l").await.expect("read"))["name"], "tools");
        assert!(crdt.query_deleted(Query::new("lists")).await.expect("read").is_empty());
        assert_eq!(metadata(&db, "lists").await["l"]["born"], born.as_str());
    }

    async fn what_is_wrong_is_told(db: TestDatabase) {
        let crdt = open(&db).await;
        crdt.insert("todos", todo("a", "milk")).await.expect("inserted");
        assert_eq!(reject_code(crdt.insert("todos", todo("a", "tea")).await), "\"exists\"");
        assert_eq!(reject_code(crdt.update("todos", "x", json!({"title": "tea"})).await), "\"not_found\"");
        assert_eq!(reject_code(crdt.delete("todos", "x").await), "\"not_found\"");
        assert_eq!(reject_code(crdt.update("todos", "a", json!({"size": 1})).await), "\"unknown_column\"");
        let unknown = crdt.insert("users", json!({"id": "u"})).await;
        assert!(matches!(unknown, Err(CrdtError::UnknownEntity(name)) if name == "users"));
        let none = crdt.put("todos", [1]).await;
        assert!(matches!(none, Err(CrdtError::Values(_))), "{none:?}");
        let wrong = crdt.query(&Query::new("todos").filter("size = 1", [0; 0])).await;
        assert!(matches!(wrong, Err(CrdtError::Query(_))), "{wrong:?}");
        assert_eq!(keys(&crdt, "todos").await, ["a"]);
    }

    async fn a_row_needs_its_key(db: TestDatabase) {
        let numbered = match db.backend() {
            Backend::Postgres => "CREATE TABLE notes (id BIGSERIAL PRIMARY KEY, text TEXT)",
            Backend::Sqlite => "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT)",
        };
        db.execute(numbered).await;
        let schema = Schema::new(1).entity("notes");
        let crdt = Crdt::open(pool(&db).await, schema).await.expect("it opens");
        let refused = crdt.insert("notes", json!({"text": "a"})).await;
        assert!(matches!(refused, Err(CrdtError::NoKey(_))), "{refused:?}");
        crdt.insert("notes", json!({"id": 7, "text": "a"})).await.expect("inserted");
        assert_eq!(values(crdt.get("notes", 7).await.expect("read"))["text"], "a");
    }
}
