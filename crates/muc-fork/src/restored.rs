//! An account's membership of a room as it is kept across a restart of the server.

use crate::history::{Mark, Request};
use crate::view::Likeness;

/// A membership as it was kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// The room's bare JID.
    pub room: String,
    /// The account's nickname.
    pub nick: String,
    /// The room's password.
    pub password: Option<String>,
    /// Others that are tried if it is not right.
    pub other_passwords: Vec<String>,
    /// Clients that go on where they were.
    pub clients: Vec<RestoredClient>,
    /// Who was in the room, and the likeness of what was told of each ([`crate::Change::Occupant`]).
    pub occupants: Vec<(String, Likeness)>,
    /// The last messages ([`crate::Change::Message`]).
    pub said: Vec<Mark>,
    /// It was asked for by iq (MUC2-PAM).
    pub pam: bool,
    /// Resource and request `id` of clients that wait for the answer to that.
    pub pam_waiting: Vec<(String, String)>,
    /// The account was leaving.
    pub leaving: bool,
    /// It was joining for the first time: nobody has been told that it is in.
    pub joining: bool,
    /// Status codes that say what the room is, and those that no client has been told.
    pub entry: Vec<u16>,
    /// See `entry`.
    pub untold: Vec<u16>,
    /// The room answers joins under other ids than theirs.
    pub other_ids: bool,
}

/// A client of a membership as it was kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestoredClient {
    /// Its resource.
    pub resource: String,
    /// The nickname that it asked for.
    pub asked: String,
    /// Its presence in the room, without address.
    pub presence: Vec<u8>,
    /// What it has not been told yet. None: it is in the room.
    pub waits: Option<Waits>,
}

/// What a client waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waits {
    /// The answer to its join.
    ToBeIn {
        /// The join's `id`.
        id: Option<String>,
        /// How much of the discussion it asked for.
        request: Request,
        /// The password that it gave.
        password: Option<String>,
        /// It had been in the room before.
        was_in: bool,
    },
    /// The answer to its leave.
    ToBeOut {
        /// The leave's `id`.
        id: Option<String>,
    },
}
