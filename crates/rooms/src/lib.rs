//! What of a room of this server (XEP-0045) outlives it: configuration, occupants and history, as records in the journal
//! of sessions.
//!
//! They are in the same journal since what a room did and what its occupants were told of it belong together: one commit
//! hands both to the operating system before an ack leaves, one position says what of both is on the disk, and after a
//! crash a prefix of both is there. To the journal a room is a session, its configuration what is kept about that session,
//! and its history the session's queue; an occupant is a session without a queue.
//!
//! What a configuration, an occupant or a message is made of is the owner's: bytes. This crate knows no MUC service, no
//! Lua, and decides nothing about who is in a room.
//!
//! - `record`: the bytes in the journal.
//! - `rooms`: [`Rooms`], all that can be noted of a room, and read again.

#![forbid(unsafe_code)]

mod record;
mod rooms;

pub use rooms::{Kept, Rooms};
