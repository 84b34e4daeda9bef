//! What to do, as values.

use std::sync::Arc;

/// What happens to the `id` of a copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Id {
    /// It stays.
    #[default]
    Keep,
    /// It belongs to somebody else's request and goes.
    Remove,
    /// The copy answers this request.
    Set(String),
}

/// How a copy for a client differs from what it is made of, beside its `to`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edit {
    /// Its `from`, where it is not the stanza's own.
    pub from: Option<String>,
    /// Its `id`.
    pub id: Id,
    /// Status codes (XEP-0045 §15.6) that were not meant for this client.
    pub without: &'static [u16],
    /// Status codes that it must have, and has not yet.
    pub with: Vec<u16>,
    /// The room that held the message back, and since when, in seconds since 1970 (XEP-0203).
    pub delay: Option<(String, u64)>,
}

/// The defined condition and the type of a stanza error (RFC 6120 §8.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// `cancel`, `wait`, ...
    pub kind: &'static str,
    /// The element's name.
    pub name: &'static str,
    /// What a person may read.
    pub text: &'static str,
}

/// One thing to do. "The stanza in hand" is the one that the input was about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// A copy of the stanza in hand goes to a client.
    Forward {
        /// The client's resource.
        resource: Box<str>,
        /// How the copy differs.
        edit: Edit,
    },
    /// A stanza that was kept or made goes to a client.
    Serve {
        /// The account whose client it is.
        account: Box<str>,
        /// The client's resource.
        resource: Box<str>,
        /// Its bytes, without a `to`.
        stanza: Arc<[u8]>,
        /// How the copy differs.
        edit: Edit,
    },
    /// The stanza in hand goes to the room as the account's.
    ToRoom {
        /// Its `to`.
        to: String,
        /// Its `id`.
        id: Id,
    },
    /// A stanza that was made goes to a room, from and to as they stand in it.
    Send {
        /// Its bytes.
        stanza: Vec<u8>,
    },
    /// The client's stanza in hand is answered by an error.
    Refuse {
        /// Which one.
        condition: Condition,
    },
    /// The request in hand is answered by an empty result.
    Answer,
    /// A client that asked by iq for the account to join (MUC2-PAM) is answered.
    Joined {
        /// The account.
        account: Box<str>,
        /// The client's resource.
        resource: Box<str>,
        /// The `id` of its request.
        id: Box<str>,
        /// The room.
        room: Box<str>,
        /// How it went.
        outcome: Outcome,
    },
    /// The message in hand goes to the account's offline storage (XEP-0160). Nothing comes of it if that fails.
    Store,
    /// The groupchat message in hand is told to whoever wakes devices, unless the account has a session.
    WakeDevices,
    /// What is kept of the account changed: see [`crate::Accounts::memberships`].
    Persist {
        /// Whose.
        account: Box<str>,
    },
    /// The same, of what changes in many rooms at once: it is time enough when all that has come is dealt with.
    PersistSoon {
        /// Whose.
        account: Box<str>,
    },
}

/// How a join by iq went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The account is in, under this nickname.
    In(Box<str>),
    /// The error of the stanza in hand says why not.
    Refused,
    /// It failed for this reason.
    Failed(Condition),
}
