//! The file system's events for a SQLite file: the database and what SQLite keeps beside it.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::mpsc::SyncSender;

use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher as _};

/// What follows the database's name in those of the files that a commit may write last.
const SUFFIXES: [&str; 3] = ["", "-wal", "-journal"];

/// Signals for as long as it lives.
#[derive(Debug)]
pub(super) struct FileEvents {
    _watcher: Option<RecommendedWatcher>,
}

impl FileEvents {
    /// Sends a signal whenever the file, its write-ahead log or its journal changes. A signal that waits already
    /// covers those that come before it is taken.
    pub(super) fn of(path: &str, signal: SyncSender<()>) -> notify::Result<Self> {
        // The directory is watched, because the log and the journal come and go.
        let path = Path::new(path).canonicalize()?;
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(notify::Error::path_not_found());
        };
        let names = names(name);
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if event.map_or(true, |event| is_about(&event, &names)) {
                // A full channel holds a signal.
                let _ = signal.try_send(());
            }
        })?;
        watcher.watch(directory, RecursiveMode::NonRecursive)?;
        Ok(Self {
            _watcher: Some(watcher),
        })
    }

    /// Never signals.
    #[cfg(test)]
    pub(super) fn none() -> Self {
        Self { _watcher: None }
    }
}

/// The names of the files of a database.
fn names(database: &OsStr) -> [OsString; SUFFIXES.len()] {
    SUFFIXES.map(|suffix| {
        let mut name = database.to_owned();
        name.push(suffix);
        name
    })
}

/// Whether something may have changed in one of the files. Events that got lost may have been about them.
fn is_about(event: &Event, names: &[OsString]) -> bool {
    let is_ours = |path: &Path| {
        path.file_name()
            .is_some_and(|name| names.iter().any(|ours| ours == name))
    };
    event.need_rescan() || !event.kind.is_access() && event.paths.iter().any(|path| is_ours(path))
}

#[cfg(test)]
mod tests {
    use notify::EventKind;
    use notify::event::{AccessKind, Flag, ModifyKind};

    use super::*;

    #[test]
    fn only_changes_to_files_of_the_database_signal() {
        let names = names(OsStr::new("todos.db"));
        let about = |kind, path: &str| is_about(&Event::new(kind).add_path(path.into()), &names);
        let modify = EventKind::Modify(ModifyKind::Any);
        assert!(about(modify, "/data/todos.db"));
        assert!(about(modify, "/data/todos.db-wal"));
        assert!(about(modify, "/data/todos.db-journal"));
        assert!(!about(modify, "/data/todos.db-shm"));
        assert!(!about(modify, "/data/other.db"));
        assert!(!about(EventKind::Access(AccessKind::Any), "/data/todos.db"));
        assert!(is_about(
            &Event::new(EventKind::Other).set_flag(Flag::Rescan),
            &names
        ));
    }
}
