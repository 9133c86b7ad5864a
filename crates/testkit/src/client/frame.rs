//! Reads the fields of a frame, and says which rule a wrong one breaks.

use std::fmt;

use serde_json::{Map, Value};

/// A rule of the protocol that the server broke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(pub String);

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the server broke the protocol: {}", self.0)
    }
}

/// Returns a [`Violation`] unless the condition holds.
macro_rules! rule {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err($crate::client::frame::Violation(format!($($message)+)));
        }
    };
}
pub(super) use rule;

/// A JSON object of the protocol: a frame, or a change or row in it.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    pub(super) fn of(value: &'a Value) -> Result<Self, Violation> {
        match value {
            Value::Object(fields) => Ok(Self(fields)),
            other => Err(Violation(format!("{other} is not an object"))),
        }
    }

    pub(super) fn names(self) -> impl Iterator<Item = &'a String> {
        self.0.keys()
    }

    pub(super) fn optional(self, name: &str) -> Option<&'a Value> {
        self.0.get(name)
    }

    pub(super) fn value(self, name: &str) -> Result<&'a Value, Violation> {
        self.optional(name)
            .ok_or_else(|| Violation(format!("`{name}` is missing")))
    }

    pub(super) fn text(self, name: &str) -> Result<&'a str, Violation> {
        self.value(name)?
            .as_str()
            .ok_or_else(|| Violation(format!("`{name}` is not a string")))
    }

    pub(super) fn number(self, name: &str) -> Result<u64, Violation> {
        self.value(name)?
            .as_u64()
            .ok_or_else(|| Violation(format!("`{name}` is not a whole number")))
    }

    pub(super) fn boolean(self, name: &str) -> Result<bool, Violation> {
        self.value(name)?
            .as_bool()
            .ok_or_else(|| Violation(format!("`{name}` is not true or false")))
    }

    pub(super) fn list(self, name: &str) -> Result<&'a Vec<Value>, Violation> {
        self.value(name)?
            .as_array()
            .ok_or_else(|| Violation(format!("`{name}` is not an array")))
    }

    pub(super) fn object(self, name: &str) -> Result<&'a Map<String, Value>, Violation> {
        self.value(name)?
            .as_object()
            .ok_or_else(|| Violation(format!("`{name}` is not an object")))
    }

    pub(super) fn optional_text(self, name: &str) -> Result<Option<&'a str>, Violation> {
        match self.optional(name) {
            None | Some(Value::Null) => Ok(None),
            Some(_) => self.text(name).map(Some),
        }
    }

    pub(super) fn optional_number(self, name: &str) -> Result<Option<u64>, Violation> {
        match self.optional(name) {
            None | Some(Value::Null) => Ok(None),
            Some(_) => self.number(name).map(Some),
        }
    }
}
