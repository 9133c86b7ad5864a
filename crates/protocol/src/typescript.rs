//! The protocol in TypeScript: compares the browser client's `protocol/generated.ts` with the types
//! here, or rewrites it.

use std::any::TypeId;
use std::collections::{BTreeMap, HashSet};
use std::{env, fs};

use ts_rs::{Config, TS, TypeVisitor};

use crate::{
    Change, ClientFrame, CloseCode, MutationId, PROTOCOL_VERSION, SUBPROTOCOL, ServerFrame,
};

const FILE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../clients/typescript/src/protocol/generated.ts"
);

const HEAD: &str = r#"/**
 * The frames of the protocol and their words, generated from the Rust types in
 * crates/protocol. Do not edit. To generate it again, at the top of the repository:
 *
 *     UPDATE_TYPES=1 cargo test -p rhtmx-sync-protocol --lib typescript
 */

import type { Json, Row } from "./json.js";
"#;

/// Declares each type that it visits and those that the type needs.
struct Declarations {
    config: Config,
    seen: HashSet<TypeId>,
    /// By name: the order in which ts-rs visits changes from one compilation to the next.
    texts: BTreeMap<String, String>,
}

impl TypeVisitor for Declarations {
    fn visit<T: TS + 'static + ?Sized>(&mut self) {
        // Rust's own types, such as `Vec`, are not declared: TypeScript has them too.
        if T::output_path().is_none() || !self.seen.insert(TypeId::of::<T>()) {
            return;
        }
        T::visit_dependencies(self);
        let docs = T::docs().map_or(String::new(), |docs| comment(&docs, ""));
        let name = T::ident(&self.config);
        let inline = T::inline(&self.config);
        let members = members(&inline);
        let text = if members.iter().all(|member| member.starts_with('"')) {
            // As a value too: a client may want to iterate over the words.
            let list = list_name(&name);
            let words = members.join(",\n  ");
            format!(
                "export const {list} = [\n  {words},\n] as const;\n\n\
                 {docs}export type {name} = (typeof {list})[number];\n"
            )
        } else if TypeId::of::<T>() == TypeId::of::<Change>() {
            // ts-rs cannot flatten an option: the variants skip `mutation_id`, and it comes in here.
            let body = union(&members);
            format!("{docs}export type {name} = Partial<MutationId> & ({body}\n);\n")
        } else {
            let body = union(&members);
            format!("{docs}export type {name} = {body};\n").replace("= \n", "=\n")
        };
        let other = self.texts.insert(name, text);
        assert!(other.is_none(), "two types of one name");
    }
}

/// `ErrorCode` becomes `ERROR_CODES`.
fn list_name(name: &str) -> String {
    let mut list = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !list.is_empty() {
            list.push('_');
        }
        list.push(letter.to_ascii_uppercase());
    }
    list + "S"
}

/// The members of a union, as ts-rs writes it; any other type is its own only member.
fn members(inline: &str) -> Vec<&str> {
    let mut members = Vec::new();
    let (mut start, mut depth, mut in_comment) = (0, 0, false);
    for (at, letter) in inline.char_indices() {
        let rest = &inline[at..];
        in_comment = (in_comment || rest.starts_with("/**")) && !rest.starts_with("*/");
        match letter {
            _ if in_comment => {}
            '{' => depth += 1,
            '}' => depth -= 1,
            '|' if depth == 0 => {
                members.push(inline[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    members.push(inline[start..].trim());
    members
}

fn union(members: &[&str]) -> String {
    match members {
        [one] => laid_out(one, ""),
        short if !short.concat().contains('{') => short.join(" | "),
        long => long
            .iter()
            .map(|member| format!("\n  | {}", laid_out(member, "  ")))
            .collect(),
    }
}

/// A type as people write it: each field on a line of its own, below its comment.
fn laid_out(inline: &str, indent: &str) -> String {
    if !inline.contains("/**") {
        return match inline.strip_prefix("{ ") {
            Some(fields) => format!("{{ {}", unquoted(fields)),
            None => inline.to_owned(),
        };
    }
    let deeper = format!("{indent}  ");
    let mut text = "{\n".to_owned();
    let fields = inline.trim_start_matches('{').trim_end_matches('}').trim();
    // A comment is followed by its field, which is the rest of the part; the fields before the first
    // comment have none.
    for part in fields.split("\n/**\n") {
        let (docs, fields) = part.split_once("\n */\n").unwrap_or(("", part));
        if !docs.is_empty() {
            text += &comment(docs, &deeper);
        }
        for field in fields
            .split_terminator(", ")
            .map(|field| field.trim_end_matches(','))
        {
            text += &format!("{deeper}{};\n", unquoted(field));
        }
    }
    text + indent + "}"
}

/// Fields, without the quotes that ts-rs puts around the name of a tag.
fn unquoted(field: &str) -> String {
    match field
        .strip_prefix('"')
        .and_then(|field| field.split_once("\": "))
    {
        Some((name, of)) => format!("{name}: {of}"),
        None => field.to_owned(),
    }
}

/// A comment of ts-rs as people write it.
fn comment(docs: &str, indent: &str) -> String {
    let docs = docs.replace("[`", "`").replace("`]", "`");
    let lines: Vec<&str> = docs
        .lines()
        .map(|line| line.trim().trim_start_matches("/**").trim_end_matches("*/"))
        .map(|line| line.trim_start_matches('*').trim())
        .filter(|line| !line.is_empty())
        .collect();
    match lines[..] {
        [line] => format!("{indent}/** {line} */\n"),
        _ => {
            let lines: Vec<String> = lines
                .iter()
                .map(|line| format!("{indent} * {line}\n"))
                .collect();
            format!("{indent}/**\n{}{indent} */\n", lines.concat())
        }
    }
}

/// The codes of a close, by name.
fn close(config: &Config) -> String {
    let decl = CloseCode::decl(config);
    let (_, codes) = decl.split_once('{').expect("an enum");
    let codes = codes.trim_end_matches('}').trim();
    let lines = codes
        .split(", ")
        .map(|code| format!("  {},\n", code.replace('"', "").replace(" = ", ": ")));
    let docs = CloseCode::docs().map_or(String::new(), |docs| comment(&docs, ""));
    format!(
        "{docs}export const CLOSE = {{\n{}}} as const;\n",
        lines.collect::<String>()
    )
}

fn generated() -> String {
    let mut declarations = Declarations {
        // The protocol's counters stay below 2^53, and `JSON.parse` makes no bigint.
        config: Config::new().with_large_int("number"),
        seen: HashSet::new(),
        texts: BTreeMap::new(),
    };
    declarations.visit::<ClientFrame>();
    declarations.visit::<MutationId>();
    declarations.visit::<ServerFrame>();
    let mut parts = vec![
        HEAD.to_owned(),
        format!(
            "export const PROTOCOL_VERSION = {PROTOCOL_VERSION};\n\
             export const SUBPROTOCOL = {SUBPROTOCOL:?};\n"
        ),
        close(&declarations.config),
    ];
    parts.extend(declarations.texts.into_values());
    parts.join("\n")
}

#[test]
fn generated_ts_has_the_types_of_the_protocol() {
    let generated = generated();
    if env::var_os("UPDATE_TYPES").is_some() {
        fs::write(FILE, &generated).expect("generated.ts is written");
    }
    let committed = fs::read_to_string(FILE).unwrap_or_default();
    assert!(
        committed == generated,
        "clients/typescript/src/protocol/generated.ts does not match the Rust types: run this test \
         with UPDATE_TYPES=1 and commit the file. Expected:\n\n{generated}"
    );
}
