//! What merges to what, as files of JSON, so that merges in other languages give the same: the browser client's tests read
//! them too. Everything in them comes from the crate itself, with random numbers from fixed seeds. To write them again:
//!
//!     UPDATE_VECTORS=1 cargo test -p rhtmx-sync-merge --test vectors
//!
//! There are no numbers that JavaScript cannot hold or tell apart: beyond 2^53 they come as texts, as in frames, and `1.0`
//! and `-0` are spelled `1` and `0`.

extern crate rhtmx_sync_merge as merge;

mod clocks;
mod histories;
mod random;
mod values;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

/// All files together stay small enough to be read and kept.
const BYTES_MAX: usize = 300_000;

#[test]
fn the_vectors_are_what_the_crate_does() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let files = [
        ("clocks.json", clocks::vectors()),
        ("values.json", values::vectors()),
        ("histories.json", histories::vectors()),
    ];
    let mut bytes = 0;
    for (name, vectors) in files {
        let path = folder.join(name);
        let text = written(&vectors);
        bytes += text.len();
        if std::env::var_os("UPDATE_VECTORS").is_some() {
            fs::write(&path, &text).expect("a file that can be written");
        }
        let committed = fs::read_to_string(&path).expect("a committed file");
        assert!(
            committed == text,
            "{name} is outdated; UPDATE_VECTORS=1 writes it again"
        );
    }
    assert!(bytes < BYTES_MAX, "{bytes} bytes");
}

/// One case to a line, so that differences can be read; and names in their order, whatever the map's own is.
fn written(vectors: &BTreeMap<&str, Vec<Value>>) -> String {
    let groups = vectors.iter().map(|(name, cases)| {
        let cases: Vec<String> = cases.iter().map(|case| sorted(case).to_string()).collect();
        format!("{}: [\n{}\n]", Value::from(*name), cases.join(",\n"))
    });
    format!("{{\n{}\n}}\n", groups.collect::<Vec<_>>().join(",\n"))
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Array(values) => values.iter().map(sorted).collect(),
        Value::Object(members) => {
            let members: BTreeMap<_, _> = members.iter().collect();
            let members = members.into_iter();
            Value::Object(
                members
                    .map(|(name, value)| (name.clone(), sorted(value)))
                    .collect::<Map<_, _>>(),
            )
        }
        other => other.clone(),
    }
}
