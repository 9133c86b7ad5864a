//! What is known of the principal: the values that `auth.…` stands for in a policy.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

/// The name of a claim: `auth.app_metadata.team` is `["app_metadata", "team"]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimPath(Vec<String>);

impl ClaimPath {
    /// A path of these names, at least one.
    pub(super) fn new(names: Vec<String>) -> Self {
        Self(names)
    }

    /// The names, at least one.
    pub fn names(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for ClaimPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("auth")?;
        self.0.iter().try_for_each(|name| {
            let is_plain = name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            match is_plain && !name.starts_with(|c: char| c.is_ascii_digit()) {
                true => write!(f, ".{name}"),
                false => write!(f, ".\"{}\"", name.replace('"', "\"\"")),
            }
        })
    }
}

/// The value of a claim, as far as it can be compared exactly.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Claim {
    /// There is no such claim, or it is null.
    #[default]
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number, in digits.
    Number(String),
    /// A text.
    Text(Arc<str>),
    /// A list. A member that is a list itself is [`Claim::Other`].
    List(Vec<Self>),
    /// Anything else: an object, or a number that may have been rounded when it was read. Compared with anything
    /// it is null.
    Other,
}

impl From<&Value> for Claim {
    fn from(value: &Value) -> Self {
        match value {
            Value::Array(members) => Self::List(members.iter().map(Self::member).collect()),
            single => Self::member(single),
        }
    }
}

impl Claim {
    fn member(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::String(text) => Self::Text(text.as_str().into()),
            // A number with a fraction or an exponent has gone through a double.
            Value::Number(number) if number.is_i64() || number.is_u64() => {
                Self::Number(number.to_string())
            }
            Value::Number(_) | Value::Array(_) | Value::Object(_) => Self::Other,
        }
    }
}
