//! What can go wrong, and what the admin can do about it.

use std::io;
use std::path::{Path, PathBuf};

/// Why a call did not do what it says. None leaves the journal unusable.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process, or this one, has the journal open.
    #[error(
        "{path:?} is in use: another server runs on the same data directory. Stop it, or give one of them another"
    )]
    InUse {
        /// The journal's directory.
        path: PathBuf,
    },
    /// A later version of this library wrote the file. It is left as it is.
    #[error(
        "{path:?} has format version {version}, which this release cannot read. Install the release that wrote it"
    )]
    UnknownVersion {
        /// The file.
        path: PathBuf,
        /// What it says.
        version: u8,
    },
    /// The operating system refused.
    #[error(
        "cannot {what} {path:?}: {source}. Check the disk's space and health, and who owns the directory"
    )]
    Io {
        /// What was tried, as a verb.
        what: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Nothing can be written and as much as may wait is waiting. Nothing has changed; the error of
    /// [`Journal::commit`](crate::Journal::commit) says why nothing can be written.
    #[error(
        "the journal in {path:?} cannot be written and {waiting} bytes wait already. Free space on its disk"
    )]
    Full {
        /// The journal's directory.
        path: PathBuf,
        /// How many bytes wait.
        waiting: usize,
    },
    /// The caller named a session that was not started, or has ended.
    #[error("the journal has no session {session}. This is a bug in Enjamb: please report it")]
    NoSuchSession {
        /// What the caller named.
        session: u64,
    },
    /// The caller skipped a number, used one twice, or acknowledged what is not queued.
    #[error(
        "session {session}: number {number} is not within {first}..={last}. This is a bug in Enjamb: please report it"
    )]
    OutOfOrder {
        /// Whose number.
        session: u64,
        /// The number that was given.
        number: u64,
        /// The least that would have been right.
        first: u64,
        /// The largest that would have been right.
        last: u64,
    },
    /// More than [`MAX_PAYLOAD`](crate::MAX_PAYLOAD) bytes in one record.
    #[error(
        "{len} bytes are too many for one record of the journal. Lower the server's limit on the size of stanzas"
    )]
    TooLong {
        /// How many.
        len: usize,
    },
    /// What is on disk, or in memory, is not what it must be.
    #[error("{path:?} is damaged: {what}. Check the disk; what other records hold is unharmed")]
    Corrupt {
        /// The file, or the journal's directory.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

impl Error {
    /// Whether nothing at all can be written, as opposed to one session's record: that is no reason to hold up others.
    pub fn is_of_the_disk(&self) -> bool {
        matches!(self, Error::Io { .. } | Error::Full { .. })
    }

    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Io { what, path: path.to_owned(), source }
    }

    pub(crate) fn corrupt(path: &Path, what: impl Into<String>) -> Error {
        Error::Corrupt { path: path.to_owned(), what: what.into() }
    }
}
