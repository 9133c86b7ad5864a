//! The architecture itself, as tables. The rules read them; nothing else decides anything.

pub(super) mod crates;
pub(super) mod rooms;
pub(super) mod words;

/// The folders of TypeScript that must be free of circles.
pub(super) const TYPESCRIPT: &[&str] = &["clients/typescript/src", "examples/todo/src"];
