//! What of the rooms is worth keeping across a restart of the server, as it changes.

use crate::history::Mark;
use crate::view::Likeness;

/// Something of a room that is worth keeping across a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// An occupant is there, or changed.
    Occupant {
        /// The room's bare JID.
        room: Box<str>,
        /// The occupant's nickname.
        nick: Box<str>,
        /// See [`crate::view::likeness`].
        likeness: Likeness,
    },
    /// An occupant is gone.
    Gone {
        /// The room's bare JID.
        room: Box<str>,
        /// The occupant's nickname.
        nick: Box<str>,
    },
    /// A message was said.
    Message {
        /// The room's bare JID.
        room: Box<str>,
        /// How it is known again.
        mark: Mark,
    },
    /// No account is in the room any more.
    Forgotten {
        /// The room's bare JID.
        room: Box<str>,
    },
}
