//! Random filters and their meaning, implemented independently, so that the engine's evaluation can be
//! contradicted.

use std::collections::BTreeSet;

use rhtmx_sync_tests::Dice;
use serde_json::{Value, json};

/// The number of lists.
pub(crate) const LISTS: u64 = 12;
/// Those who may be members of lists.
pub(crate) const MEMBERS: u64 = 5;

/// The lists with their members, each once however often it stands in the table.
#[derive(Debug, Default)]
pub(crate) struct Memberships(BTreeSet<(u64, u64)>);

impl Memberships {
    pub(crate) fn of<'a>(rows: impl Iterator<Item = &'a Value>) -> Self {
        let pair = |row: &Value| Some((row["list"].as_u64()?, row["who"].as_u64()?));
        Self(rows.filter_map(pair).collect())
    }
}

/// A filter over `items`, and a few over the other tables.
#[derive(Clone, Debug)]
pub(crate) enum Filter {
    Everything,
    ListIs(u64),
    /// Of the ledger.
    ClientIs(String),
    ListIn(Vec<u64>),
    /// In a list whose member somebody is.
    ListOf(u64),
    /// In a list that has a member.
    ListHasMembers,
    Below(u64),
    Done(bool),
    TitleMissing,
    TitleBegins(String),
    Not(Box<Filter>),
    And(Box<Filter>, Box<Filter>),
    Or(Box<Filter>, Box<Filter>),
}

impl Filter {
    pub(crate) fn random(dice: &mut Dice) -> Self {
        match dice.pick(0..14) {
            0 | 1 => Self::Everything,
            10..13 => Self::ListOf(dice.pick(0..MEMBERS)),
            13 => Self::Or(
                Box::new(Self::ListOf(dice.pick(0..MEMBERS))),
                Box::new(Self::leaf(dice)),
            ),
            2 | 3 => Self::ListIs(dice.pick(0..LISTS)),
            4 | 5 => Self::And(
                Box::new(Self::ListIs(dice.pick(0..LISTS))),
                Box::new(Self::leaf(dice)),
            ),
            6 => Self::Or(Box::new(Self::leaf(dice)), Box::new(Self::leaf(dice))),
            7 => Self::Not(Box::new(Self::And(
                Box::new(Self::leaf(dice)),
                Box::new(Self::leaf(dice)),
            ))),
            8 => Self::Not(Box::new(Self::leaf(dice))),
            _ => Self::leaf(dice),
        }
    }

    fn leaf(dice: &mut Dice) -> Self {
        match dice.pick(0..8) {
            6 => Self::ListOf(dice.pick(0..MEMBERS)),
            7 => Self::ListHasMembers,
            0 => Self::ListIs(dice.pick(0..LISTS)),
            1 => Self::ListIn((0..dice.pick(1..4)).map(|_| dice.pick(0..LISTS)).collect()),
            2 => Self::Below(dice.pick(0..1000)),
            3 => Self::Done(dice.chance(50)),
            4 => Self::TitleMissing,
            _ => Self::TitleBegins(format!("t{}", dice.pick(0..4))),
        }
    }

    /// The text of `where`, which is SQL too.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Everything => "TRUE".to_owned(),
            Self::ListIs(list) => format!("list = {list}"),
            Self::ClientIs(client) => format!("client = '{client}'"),
            Self::ListIn(lists) => {
                let lists: Vec<String> = lists.iter().map(u64::to_string).collect();
                format!("list IN ({})", lists.join(", "))
            }
            Self::ListOf(who) => {
                format!("list IN (SELECT list FROM members WHERE who = {who})")
            }
            Self::ListHasMembers => {
                "EXISTS (SELECT 1 FROM members WHERE members.list = items.list)".to_owned()
            }
            Self::Below(n) => format!("n < {n}"),
            Self::Done(true) => "done".to_owned(),
            Self::Done(false) => "NOT done".to_owned(),
            Self::TitleMissing => "title IS NULL".to_owned(),
            Self::TitleBegins(start) => format!("title LIKE '{start}%'"),
            Self::Not(inner) => format!("NOT ({})", inner.text()),
            Self::And(left, right) => format!("({}) AND ({})", left.text(), right.text()),
            Self::Or(left, right) => format!("({}) OR ({})", left.text(), right.text()),
        }
    }

    /// Whether a row matches: the answer must be true, not unknown.
    pub(crate) fn holds(&self, row: &Value, memberships: &Memberships) -> bool {
        self.answer(row, memberships) == Some(true)
    }

    /// SQL's three values.
    fn answer(&self, row: &Value, memberships: &Memberships) -> Option<bool> {
        match self {
            Self::Everything => Some(true),
            Self::ListIs(list) => row["list"].as_u64().map(|found| found == *list),
            Self::ClientIs(client) => row["client"].as_str().map(|found| found == client),
            Self::ListIn(lists) => row["list"].as_u64().map(|found| lists.contains(&found)),
            Self::ListOf(who) => row["list"]
                .as_u64()
                .map(|list| memberships.0.contains(&(list, *who))),
            Self::ListHasMembers => row["list"].as_u64().map(|list| {
                memberships
                    .0
                    .range((list, 0)..(list + 1, 0))
                    .next()
                    .is_some()
            }),
            Self::Below(n) => row["n"].as_i64().map(|found| found < *n as i64),
            // SQLite's booleans are numbers when the test queries the database itself.
            Self::Done(done) => match &row["done"] {
                Value::Bool(found) => Some(found == done),
                found => found.as_u64().map(|found| (found == 1) == *done),
            },
            Self::TitleMissing => Some(row["title"] == json!(null)),
            Self::TitleBegins(start) => row["title"].as_str().map(|title| title.starts_with(start)),
            Self::Not(inner) => inner.answer(row, memberships).map(|answer| !answer),
            Self::And(left, right) => match (
                left.answer(row, memberships),
                right.answer(row, memberships),
            ) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            },
            Self::Or(left, right) => match (
                left.answer(row, memberships),
                right.answer(row, memberships),
            ) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            },
        }
    }
}
