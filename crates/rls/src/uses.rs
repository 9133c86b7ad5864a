//! What policies depend on beside the row: claims, settings, the clock, other tables.
//!
//! PostgreSQL keeps no record of what the body of a function reads. So it is found by names: a text that names a function
//! or a table depends on all that the function's body or the table's policies name. A name that means something else
//! only makes the result larger, and a larger result costs questions, never a wrong answer.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::catalog::TableName;
use crate::scan::{self, Piece};

/// A function, a table with its policies, or a view: a name with what stands behind it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Source {
    /// What it is.
    pub kind: SourceKind,
    /// Its oid.
    pub oid: u32,
    /// Its schema.
    pub schema: String,
    /// Its name alone.
    pub name: String,
    /// A function's body, a view's query, the reading policies of a table.
    pub text: String,
    /// Whether its result may differ within a statement.
    pub is_volatile: bool,
    /// Whether PostgreSQL takes it for a constant when a statement is planned.
    pub is_immutable: bool,
    /// Whether the text does not tell what it does: it is in another language than SQL and PL/pgSQL.
    pub is_opaque: bool,
    /// Whether it may be called without being named: it stands behind an operator, a cast, a domain or an aggregate.
    #[serde(default)]
    pub is_unnamed: bool,
    /// The oids of the tables whose rows are this one's, too, as they inherit from it.
    #[serde(default)]
    pub children: BTreeSet<u32>,
}

/// What a source is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// A function.
    Function,
    /// A table or a view.
    Relation,
}

/// All sources of a database.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    sources: Vec<Read>,
    by_name: BTreeMap<String, Vec<usize>>,
    schemas: BTreeSet<String>,
    /// What functions reach that may be called without being named; none when that is not known.
    of_unnamed: Option<BTreeSet<u32>>,
}

#[derive(Debug, Clone)]
struct Read {
    source: Source,
    pieces: Vec<Piece>,
}

/// The claims that are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claims {
    /// These.
    Named(BTreeSet<String>),
    /// Perhaps each; but not `exp`, `iat` and `nbf`, in which every token of a user differs.
    All,
}

/// What a text depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uses {
    /// The claims that it reads.
    pub claims: Claims,
    /// The settings that it reads, by name.
    pub settings: BTreeSet<String>,
    /// Whether it may read any setting.
    pub any_setting: bool,
    /// What of it may change without a write, for a person; none when nothing may.
    pub clock: Option<String>,
    /// The oids of the tables and views that it names; not those of dynamic statements.
    pub relations: BTreeSet<u32>,
    /// Those of them that may be read by more than the text itself: by a function, a view, a policy of another table.
    pub read_within: BTreeSet<u32>,
    /// Whether it may read a table that it does not name.
    pub is_dynamic: bool,
    /// Why a group must be asked apart from the others, for a person: what one asks would change what the next is answered.
    /// None when nothing does.
    pub apart: Option<String>,
}

/// The words whose value is another one a moment later.
const CLOCKS: [&str; 16] = [
    "now",
    "current_date",
    "current_time",
    "current_timestamp",
    "localtime",
    "localtimestamp",
    "clock_timestamp",
    "statement_timestamp",
    "transaction_timestamp",
    "timeofday",
    "age",
    "random",
    "gen_random_uuid",
    "nextval",
    "pg_sleep",
    "txid_current",
];

impl Sources {
    /// Sources, read once.
    pub fn new(sources: Vec<Source>) -> Self {
        let mut by_name = BTreeMap::<String, Vec<usize>>::new();
        for (position, source) in sources.iter().enumerate() {
            by_name
                .entry(source.name.clone())
                .or_default()
                .push(position);
        }
        let schemas = sources.iter().map(|source| source.schema.clone()).collect();
        let read = |source: Source| Read {
            pieces: scan::pieces(&source.text),
            source,
        };
        let mut known = Self {
            sources: sources.into_iter().map(read).collect(),
            by_name,
            schemas,
            of_unnamed: None,
        };
        known.of_unnamed = known.reached_by_unnamed();
        known
    }

    /// What functions reach that stand behind operators and casts.
    fn reached_by_unnamed(&self) -> Option<BTreeSet<u32>> {
        let sources = self.sources.iter().enumerate();
        let unnamed = sources.filter(|(_, read)| read.source.is_unnamed);
        let mut waiting: Vec<usize> = unnamed.map(|(position, _)| position).collect();
        let mut reached: BTreeSet<usize> = waiting.iter().copied().collect();
        let mut relations = BTreeSet::new();
        while let Some(position) = waiting.pop() {
            let Read { source, pieces } = &self.sources[position];
            match source.kind {
                SourceKind::Function if source.is_opaque || executes(pieces) => return None,
                SourceKind::Function => {}
                SourceKind::Relation => drop(relations.insert(source.oid)),
            }
            relations.extend(&source.children);
            self.reach(pieces, &mut reached, &mut waiting, &mut BTreeSet::new());
        }
        Some(relations)
    }

    /// Whether there is a function of this name in a schema.
    pub(crate) fn has_function(&self, schema: &str, name: &str) -> bool {
        let named = self.by_name.get(name).into_iter().flatten();
        let mut sources = named.map(|position| &self.sources[*position].source);
        sources.any(|source| source.kind == SourceKind::Function && source.schema == schema)
    }

    /// The name of a table or view.
    pub fn name_of(&self, relation: u32) -> Option<TableName> {
        let mut sources = self.sources.iter().map(|read| &read.source);
        let found =
            sources.find(|source| source.kind == SourceKind::Relation && source.oid == relation)?;
        Some(TableName {
            schema: found.schema.clone(),
            name: found.name.clone(),
        })
    }

    /// The names of tables and views, each with its schema.
    pub fn names(&self, relations: &BTreeSet<u32>) -> Vec<String> {
        let sources = self.sources.iter().map(|read| &read.source);
        let named = sources.filter(|source| {
            source.kind == SourceKind::Relation && relations.contains(&source.oid)
        });
        named
            .map(|source| format!("{}.{}", source.schema, source.name))
            .collect()
    }

    /// What texts depend on, with all that they name.
    pub fn uses<'a>(&self, texts: impl IntoIterator<Item = &'a str>) -> Uses {
        let mut uses = Uses {
            claims: Claims::Named(BTreeSet::new()),
            settings: BTreeSet::new(),
            any_setting: false,
            clock: None,
            relations: BTreeSet::new(),
            read_within: BTreeSet::new(),
            is_dynamic: false,
            apart: None,
        };
        let mut reached = BTreeSet::new();
        let mut within = BTreeSet::new();
        let mut waiting = Vec::new();
        for text in texts {
            let pieces = scan::pieces(text);
            uses.read(&pieces);
            self.reach(&pieces, &mut reached, &mut waiting, &mut BTreeSet::new());
        }
        while let Some(position) = waiting.pop() {
            let Read { source, pieces } = &self.sources[position];
            if source.is_immutable && !self.is_pure(pieces) {
                uses.apart(format!("{} is immutable, but reads", source.name));
            }
            match source.kind {
                SourceKind::Relation => {
                    uses.relations.insert(source.oid);
                }
                // Where it is called says which claims are meant.
                SourceKind::Function if is_jwt(source) => continue,
                SourceKind::Function => {
                    if source.is_volatile {
                        uses.clock(&format!("{} is volatile", source.name));
                    }
                    if source.is_opaque || executes(pieces) {
                        uses.claims = Claims::All;
                        uses.any_setting = true;
                        uses.is_dynamic = true;
                        uses.apart(format!("what {} does is not known", source.name));
                    }
                }
            }
            uses.read(pieces);
            uses.read_within.extend(&source.children);
            self.reach(pieces, &mut reached, &mut waiting, &mut within);
        }
        let within = within
            .into_iter()
            .map(|position: usize| &self.sources[position].source);
        uses.read_within.extend(
            within
                .filter(|it| it.kind == SourceKind::Relation)
                .map(|it| it.oid),
        );
        match &self.of_unnamed {
            Some(relations) => uses.read_within.extend(relations),
            None => uses.read_within.extend(&uses.relations),
        }
        uses
    }

    /// Whether a text names no setting, function or table.
    fn is_pure(&self, pieces: &[Piece]) -> bool {
        let is_impure = |piece: &Piece| match piece {
            Piece::Word(word) => word == "current_setting" || self.by_name.contains_key(word),
            _ => false,
        };
        !pieces.iter().any(is_impure)
    }

    /// Adds the sources that a text names, to `named` all of them, and to `waiting` those that had not been reached.
    fn reach(
        &self,
        pieces: &[Piece],
        reached: &mut BTreeSet<usize>,
        waiting: &mut Vec<usize>,
        named: &mut BTreeSet<usize>,
    ) {
        for (at, piece) in pieces.iter().enumerate() {
            let Piece::Word(word) = piece else { continue };
            let schema = schema_before(pieces, at).filter(|name| self.schemas.contains(*name));
            let is_qualifier = pieces.get(at + 1) == Some(&Piece::Symbol("."));
            // The name before a column is that of a table, or of an alias, that the text names elsewhere, too.
            if is_qualifier && schema.is_none() {
                continue;
            }
            for position in self.by_name.get(word).into_iter().flatten() {
                let source = &self.sources[*position].source;
                let is_meant = schema.is_none_or(|schema| source.schema == schema);
                if !is_meant {
                    continue;
                }
                named.insert(*position);
                if reached.insert(*position) {
                    waiting.push(*position);
                }
            }
        }
    }
}

/// Supabase's function for the whole token.
fn is_jwt(source: &Source) -> bool {
    source.schema == "auth" && source.name == "jwt"
}

/// Whether a body runs statements that it puts together.
fn executes(pieces: &[Piece]) -> bool {
    pieces
        .iter()
        .any(|piece| matches!(piece, Piece::Word(word) if word == "execute"))
}

impl Uses {
    /// Whether a setting is read.
    pub fn reads_setting(&self, name: &str) -> bool {
        self.any_setting || self.settings.contains(name)
    }

    fn clock(&mut self, what: &str) {
        self.clock.get_or_insert_with(|| what.to_owned());
    }

    fn apart(&mut self, why: String) {
        self.apart.get_or_insert(why);
    }

    fn claim(&mut self, claim: Option<String>) {
        match (claim, &mut self.claims) {
            (Some(claim), Claims::Named(names)) => {
                names.insert(claim);
            }
            (None, claims) => *claims = Claims::All,
            (Some(_), Claims::All) => {}
        }
    }

    fn read(&mut self, pieces: &[Piece]) {
        for (at, piece) in pieces.iter().enumerate() {
            let Piece::Word(word) = piece else { continue };
            if CLOCKS.contains(&word.as_str()) {
                self.clock(word);
            }
            match word.as_str() {
                "current_setting" => self.setting(&pieces[at + 1..]),
                "jwt" if schema_before(pieces, at) == Some("auth") => {
                    self.claim(member(&pieces[at + 1..]))
                }
                "set" | "set_config" | "reset" => self.apart("a setting is changed".to_owned()),
                // Settings by another way.
                "pg_settings" | "pg_show_all_settings" => {
                    self.any_setting = true;
                    self.claims = Claims::All;
                }
                _ => {}
            }
        }
    }

    fn setting(&mut self, after: &[Piece]) {
        let (Some(Piece::Symbol("(")), Some(Piece::Text(name))) = (after.first(), after.get(1))
        else {
            self.any_setting = true;
            self.claims = Claims::All;
            return;
        };
        let name = name.to_lowercase();
        match (name.as_str(), name.strip_prefix("request.jwt.claim.")) {
            ("request.jwt.claims", _) => self.claim(member(&after[2..])),
            (_, Some(claim)) => self.claim(Some(claim.to_owned())),
            _ => {}
        }
        self.settings.insert(name);
    }
}

/// The name that stands, with a dot, before the word at a position.
fn schema_before(pieces: &[Piece], at: usize) -> Option<&str> {
    match pieces.get(at.checked_sub(2)?..at)? {
        [Piece::Word(name), Piece::Symbol(".")] => Some(name),
        _ => None,
    }
}

/// The member that is taken of a JSON value whose expression has just begun, such as `sub` in `…, true), '')::jsonb ->> 'sub'`;
/// none when it is not obvious.
fn member(after: &[Piece]) -> Option<String> {
    let mut after = after.iter();
    loop {
        match after.next()? {
            Piece::Symbol("(" | ")" | "," | "::") => {}
            Piece::Text(text) if text.is_empty() => {}
            Piece::Word(word) if matches!(word.as_str(), "true" | "text" | "json" | "jsonb") => {}
            Piece::Symbol("->" | "->>") => {
                return match after.next()? {
                    Piece::Text(name) => Some(name.clone()),
                    _ => None,
                };
            }
            _ => return None,
        }
    }
}
