//! What came in: the few things that decisions hang on, read from a stanza by whoever holds it.

use crate::history::Request;

/// The `type` of a presence, as far as rooms use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// No type.
    Available,
    /// `unavailable`
    Unavailable,
    /// `error`
    Error,
}

/// The `type` of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// `groupchat`
    Groupchat,
    /// `error`
    Error,
    /// Any other, or none.
    Other,
}

/// The `type` of an iq.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Iq {
    /// `get` or `set`
    Request,
    /// `result`
    Result,
    /// `error`
    Error,
}

/// One client of an account, and where its stanza goes.
#[derive(Clone, Copy, Debug)]
pub struct FromClient<'a> {
    /// The account's bare JID.
    pub account: &'a str,
    /// The client's resource.
    pub resource: &'a str,
    /// The bare JID that the stanza goes to.
    pub room: &'a str,
    /// The resource that it goes to, prepared.
    pub nick: Option<&'a str>,
    /// Its `id`.
    pub id: Option<&'a str>,
}

/// What a presence with a MUC `<x/>` asks for (XEP-0045 §7.2).
#[derive(Clone, Copy, Debug, Default)]
pub struct Join<'a> {
    /// The room's password.
    pub password: Option<&'a str>,
    /// How much of the discussion.
    pub history: Request,
}

/// Where a stanza for an account came from.
#[derive(Clone, Copy, Debug)]
pub struct FromRoom<'a> {
    /// The account's bare JID.
    pub account: &'a str,
    /// The bare JID that the stanza came from.
    pub room: &'a str,
    /// The resource that it came from.
    pub nick: Option<&'a str>,
    /// Its `id`.
    pub id: Option<&'a str>,
}

/// What a request asks for, as far as it tells which other requests it belongs with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asks<'a> {
    /// Its type is `set`.
    pub set: bool,
    /// The namespace of its payload.
    pub xmlns: &'a str,
    /// What names the exchange of several requests, if there is such: `sid` (XEP-0047, XEP-0065, XEP-0166), `sessionid` (XEP-0050).
    pub sid: Option<&'a str>,
}

impl Join<'_> {
    /// An empty password is none.
    pub(crate) fn own_password(&self) -> Option<Box<str>> {
        self.password.filter(|p| !p.is_empty()).map(Into::into)
    }
}

/// Why a room does not let somebody in, as far as that tells what to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// What was asked for may go well later.
    Transient,
    /// It wants another password (XEP-0045 §7.2.5).
    Password,
    /// Anything else.
    Other,
}

/// What a room's presence says.
#[derive(Clone, Copy, Debug, Default)]
pub struct MucUser<'a> {
    /// Its status codes.
    pub codes: &'a [u16],
    /// The nickname in its item, which with 303 is the new one.
    pub new_nick: Option<&'a str>,
    /// The defined condition of its error.
    pub condition: Option<&'a str>,
    /// The type of its error is `wait`: what was asked may go well later.
    pub wait: bool,
    /// It tells that the room is destroyed.
    pub destroyed: bool,
}

impl MucUser<'_> {
    /// What an error says.
    pub fn refusal(&self) -> Refusal {
        if self.wait || self.condition.is_some_and(is_about_the_way) {
            Refusal::Transient
        } else if self.condition == Some("not-authorized") {
            Refusal::Password
        } else {
            Refusal::Other
        }
    }
}

/// Whether an error is about the way to the room (RFC 6120 §8.3.3.16, §8.3.3.17).
pub fn is_about_the_way(condition: &str) -> bool {
    matches!(condition, "remote-server-not-found" | "remote-server-timeout")
}

/// What kind of discussion a groupchat message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Talk {
    /// Something that rooms keep for those who come later.
    Stored,
    /// A subject and no body (XEP-0045 §8.1).
    Subject,
    /// A chat state, a change of the configuration, ...
    Passing,
}
