//! One import: a module that names another one.

/// The way from a crate's root (or a TypeScript source folder) to a module: the names of the folders, then
/// its own. Empty for the root itself.
pub(super) type ModulePath = Vec<String>;

/// A module names another, or something that is defined in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Import {
    pub(super) from: ModulePath,
    pub(super) to: ModulePath,
    /// Where it is written: the file, relative to the repository.
    pub(super) file: String,
    /// Its line, counted from 1.
    pub(super) line: usize,
}
