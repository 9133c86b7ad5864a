//! The source files of the repository: everything that a person wrote and that may be read as text.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Directories that hold nothing written by a person.
const SKIPPED: &[&str] = &["target", "node_modules", "dist"];

/// A source file: its path relative to the repository, with slashes, and its text.
#[derive(Debug, Clone)]
pub(super) struct SourceFile {
    pub(super) path: String,
    pub(super) text: String,
}

impl SourceFile {
    /// What follows the last dot of its name.
    pub(super) fn extension(&self) -> &str {
        self.path
            .rsplit_once('.')
            .map_or("", |(_, extension)| extension)
    }
}

/// Every file below a directory whose extension is one of these, in order of their paths. A directory that
/// is not there has none.
pub(super) fn source_files(
    root: &Path,
    directory: &str,
    extensions: &[&str],
) -> Result<Vec<SourceFile>> {
    let mut paths = Vec::new();
    collect(&root.join(directory), extensions, &mut paths)?;
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            Ok(SourceFile {
                text: read(&path)?,
                path: relative(root, &path),
            })
        })
        .collect()
}

pub(super) fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
}

/// A path as the tables and messages spell it.
pub(super) fn relative(root: &Path, path: &Path) -> String {
    let path = path.strip_prefix(root).unwrap_or(path);
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
    parts.join("/")
}

fn collect(directory: &Path, extensions: &[&str], paths: &mut Vec<PathBuf>) -> Result<()> {
    if !directory.is_dir() {
        return Ok(());
    }
    let entries = fs::read_dir(directory)
        .with_context(|| format!("{} cannot be listed", directory.display()))?;
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') || SKIPPED.contains(&&*name) {
            continue;
        }
        if path.is_dir() {
            collect(&path, extensions, paths)?;
        } else if path
            .extension()
            .is_some_and(|extension| extensions.iter().any(|known| extension == *known))
        {
            paths.push(path);
        }
    }
    Ok(())
}
