//! Which file a path leads to.

/// A file, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// The file at this path; `None` when there is none.
    #[cfg(unix)]
    pub(super) fn of(path: &str) -> Option<Self> {
        use std::os::unix::fs::MetadataExt as _;
        let file = std::fs::metadata(path).ok()?;
        Some(Self {
            device: file.dev(),
            inode: file.ino(),
        })
    }

    /// The same file as long as there is one: elsewhere an open file cannot be replaced.
    #[cfg(not(unix))]
    pub(super) fn of(path: &str) -> Option<Self> {
        std::fs::exists(path).unwrap_or(false).then_some(Self {
            device: 0,
            inode: 0,
        })
    }
}
