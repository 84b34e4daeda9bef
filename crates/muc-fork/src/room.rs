//! A room as far as it is the same for all accounts in it.

use crate::change::Change;
use crate::history::HistoryMessage;
use crate::membership::Membership;
use crate::memory::Meter;
use crate::view::View;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

/// Messages of a room among which the same one is looked for.
pub(crate) const RECENT: usize = 64;
/// What several accounts are told within so many seconds is told of one message.
pub(crate) const SAME: u64 = 2;
pub(crate) const RECENT_BYTES: usize = 256 << 10;

/// A room as far as it is the same for all accounts in it.
#[derive(Debug, Default)]
pub(crate) struct Room {
    pub(crate) view: View,
    /// It has been said that it is full.
    pub(crate) full: bool,
    /// The last messages, so that what came to several accounts is kept once.
    pub(crate) recent: VecDeque<Arc<HistoryMessage>>,
    pub(crate) accounts: usize,
    /// How many of them are joining again, and compare what the room tells with what their clients know.
    pub(crate) comparing: usize,
    /// Occupants that are kept across a restart though no account sees them: clients of those that compare may.
    pub(crate) doubtful: HashSet<Box<str>>,
}

impl Room {
    pub(crate) fn new(meter: &Meter) -> Room {
        Room { view: View::new(meter), ..Room::default() }
    }

    /// What an account was told holds no more; its clients may still go by it.
    pub(crate) fn forget_seen(&mut self, name: &str, m: &mut Membership, changes: &mut Vec<Change>) {
        let comparing = m.known.is_some();
        self.view.forget(&mut m.seen, |nick| {
            if comparing {
                self.doubtful.insert(nick);
            } else {
                changes.push(Change::Gone { room: name.into(), nick });
            }
        });
    }

    /// A nickname is the account's own, whoever it was taken for.
    pub(crate) fn not_another(
        &mut self,
        name: &str,
        m: &mut Membership,
        nick: &str,
        changes: &mut Vec<Change>,
    ) {
        if self.view.remove(&mut m.seen, nick) {
            changes.push(Change::Gone { room: name.into(), nick: nick.into() });
        }
        if let Some(known) = &mut m.known {
            known.remove(nick);
        }
    }
}
