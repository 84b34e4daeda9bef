//! A room as far as it is the same for all accounts in it.

use crate::change::Change;
use crate::history::{HistoryMessage, Mark};
use crate::membership::Membership;
use crate::memory::Meter;
use crate::view::View;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

/// Among so many messages of a room the same one is looked for.
const RECENT: usize = 64;
/// They take so many bytes at most.
const RECENT_BYTES: usize = 256 << 10;
/// What several accounts are told within so many seconds is told of one message.
const SAME: u64 = 2;

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
        let comparing = m.comparison.known.is_some();
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
        if let Some(known) = &mut m.comparison.known {
            known.remove(nick);
        }
    }

    /// The message that another account was told, if this is the same. `had`: whether this account had that already.
    pub(crate) fn recall(
        &self,
        stanza: &[u8],
        mark: Mark,
        had: impl Fn(&Arc<HistoryMessage>) -> bool,
    ) -> Option<Arc<HistoryMessage>> {
        let same =
            |s: &&Arc<HistoryMessage>| *s.stanza == *stanza && s.mark.at.abs_diff(mark.at) <= SAME && !had(s);
        self.recent.iter().rev().find(same).cloned()
    }

    /// Others may be told the same.
    pub(crate) fn remember(&mut self, said: Arc<HistoryMessage>) {
        self.recent.push_back(said);
        let mut bytes: usize = self.recent.iter().map(|s| s.stanza.len()).sum();
        while (self.recent.len() > RECENT || bytes > RECENT_BYTES)
            && let Some(old) = self.recent.pop_front()
        {
            bytes -= old.stanza.len();
        }
    }
}
