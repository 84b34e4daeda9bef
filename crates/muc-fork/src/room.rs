//! A room as far as it is the same for all accounts in it.

use crate::change::Change;
use crate::history::HistoryMessage;
use crate::membership::Membership;
use crate::memory::Meter;
use crate::view::{Likeness, View};
use std::collections::{HashMap, HashSet, VecDeque};
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

    /// From now on an account compares what the room tells with what its clients know.
    pub(crate) fn compare(&mut self, m: &mut Membership, known: HashMap<Box<str>, Likeness>) {
        self.doubtful.extend(known.keys().filter(|nick| !self.view.has(nick)).cloned());
        if m.known.replace(known).is_none() {
            self.comparing += 1;
        }
    }

    /// An account does not compare any more. Gives what its clients knew.
    pub(crate) fn compared(
        &mut self,
        name: &str,
        m: &mut Membership,
        changes: &mut Vec<Change>,
    ) -> Option<HashMap<Box<str>, Likeness>> {
        let known = m.known.take()?;
        self.comparing -= 1;
        self.doubt_no_more(name, changes);
        Some(known)
    }

    /// Whom nobody sees is gone, unless somebody still compares.
    pub(crate) fn doubt_no_more(&mut self, name: &str, changes: &mut Vec<Change>) {
        if self.comparing == 0 {
            let gone = self.doubtful.drain().filter(|nick| !self.view.has(nick));
            changes.extend(gone.map(|nick| Change::Gone { room: name.into(), nick }));
        }
    }
}
