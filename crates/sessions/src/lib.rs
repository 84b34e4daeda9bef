//! A stream and what is kept of it, as one value: what an ack may claim is decided here and nowhere else.
//!
//! [`enjamb_stream_management`] knows the protocol and no disk, [`enjamb_journal`] knows the disk and no protocol. This
//! crate ties the two: whatever happens to a stream goes through [`Sessions`], which queues it, notes it in the journal, and
//! answers how much of what came in may be acknowledged. It holds no socket, no clock and no Lua; random numbers and the
//! position up to which the disk itself has everything come in as values.
//!
//! # The promise
//!
//! An `<a/>`, `<enabled/>` or `<resumed/>` never covers a stanza whose consequences are not kept at the host's [`Level`]:
//! handed to the operating system (`Process`), on the disk itself (`Power`), or in the copy elsewhere (`Replicated`). So a
//! sender that was told "handled" never has to send again, and one that was not told does. [`Sessions::claim`] is asked before each of them.
//!
//! # Whose trouble is whose
//!
//! A disk that fails stops every claim: nobody is told anything that is not kept. A stream of which something cannot be
//! kept whatever the disk does (it is too long for a record) is told to the owner once, by [`Sessions::take_unkept`]; its own
//! claims stand still, its session has to end, and nobody else is held up.
//!
//! # Where to read on
//!
//! - `sessions`: [`Sessions`], all that can be done to a stream.
//! - `keeping`: how the journal follows a stream, and catches up with it after the disk was full.
//! - `claim`: levels, and what each stream may claim.
//! - `restore`: sessions that were found at the start.
//! - `returning`: which of them may come back.
//! - `attributes`: what is known of a session beside its stream.
//! - `record`: the bytes in the journal.

#![forbid(unsafe_code)]

mod attributes;
mod claim;
mod keeping;
mod record;
mod restore;
mod returning;
mod sessions;

pub use attributes::{
    Attribute, Bytes, Client, Contacts, Identity, Key, Kind as AttributeKind, Misfit, Rights, Role, Scope,
    State, Terms, Value,
};
pub use claim::{Claim, Level, Safe};
pub use record::{LOST, Stanza, Unreadable};
pub use restore::{Found, NotRestored, Restored};
pub use returning::{Answer, Facts, Host, Verdict, retry_after, verdict};
pub use sessions::Sessions;
