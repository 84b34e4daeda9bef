//! What can go wrong, and what the admin can do about it.

use std::io;
use std::path::{Path, PathBuf};

/// Why there is no replica, or none now.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL says nothing that can be used.
    #[error(
        "the replica's URL cannot be used: {what}. It has the form postgresql://user:password@host1,host2/database?sslmode=verify-full"
    )]
    Url {
        /// What is wrong with it.
        what: String,
    },
    /// The certificates to trust cannot be had.
    #[error(
        "the certificates to check the database's with cannot be read: {what}. Set sslrootcert in the replica's URL to a file"
    )]
    Certificates {
        /// What went wrong.
        what: String,
    },
    /// Another server has this data directory.
    #[error(
        "{path:?} is locked: another server runs on the same data directory. Stop it, or give one of them another"
    )]
    InUse {
        /// The lock.
        path: PathBuf,
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
    /// What the directory says of itself cannot be read.
    #[error(
        "{path:?} cannot be read: {what}. If a later release wrote it, install that; else move the directory away"
    )]
    Note {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The database is there, and cannot be used as it is.
    #[error("{0}")]
    Refused(String),
    /// The database cannot be reached, or the connection was lost: it is tried again.
    #[error("{0}")]
    Away(String),
    /// The system has no random numbers, or no threads, or no pipe.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Io { what, path: path.to_owned(), source }
    }

    /// Whether trying again is of no use before somebody has done something.
    pub fn is_final(&self) -> bool {
        !matches!(self, Error::Away(_))
    }
}
