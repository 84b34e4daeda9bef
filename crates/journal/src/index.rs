//! The index: what is live, and where it lies.
//!
//! Of each session its records' places, of each segment how much in it is live. It knows no bytes: a place is a segment, an offset and a
//! length.

use crate::error::Error;
use crate::record::{Kind, Loc};
use crate::segment::Table;
use crate::session::Session;
use rustc_hash::FxHashMap;

pub(crate) struct Index {
    /// Their numbers are the caller's own, so nobody chooses them to collide.
    pub sessions: FxHashMap<u64, Session>,
    pub segments: Table,
}

impl Index {
    pub fn session(&self, session: u64) -> Result<&Session, Error> {
        self.sessions.get(&session).ok_or(Error::NoSuchSession { session })
    }

    pub fn session_mut(&mut self, session: u64) -> Result<&mut Session, Error> {
        self.sessions.get_mut(&session).ok_or(Error::NoSuchSession { session })
    }

    /// The place that says where the live record of this session, kind and number lies.
    pub fn slot(&mut self, session: u64, kind: Kind, arg: u64) -> Option<&mut Loc> {
        self.sessions.get_mut(&session)?.slot(kind, arg)
    }
}
