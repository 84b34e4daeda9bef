//! An account's stay in a room: its membership, and what of others changes with it.

use crate::change::Change;
use crate::decision::Decision;
use crate::membership::Membership;
use crate::memory::Meter;
use crate::room::Room;

/// Borrowed for as long as one step takes.
pub(crate) struct Stay<'a> {
    /// The account's bare JID.
    pub(crate) account: &'a str,
    /// The room's bare JID.
    pub(crate) name: &'a str,
    pub(crate) m: &'a mut Membership,
    pub(crate) room: &'a mut Room,
    /// Of the whole server.
    pub(crate) memory: &'a Meter,
    pub(crate) changes: &'a mut Vec<Change>,
    pub(crate) out: &'a mut Vec<Decision>,
}

impl Stay<'_> {
    /// What is kept of the account changed.
    pub(crate) fn persist(&mut self) {
        self.out.push(Decision::Persist { account: self.account.into() });
    }
}
