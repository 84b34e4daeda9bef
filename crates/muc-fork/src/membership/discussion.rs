//! What a room said to an account: its history and subject, and what came before they were complete.

use crate::chat::Chat;
use crate::history::{History, HistoryMessage, Mark, Request};
use crate::memory::Weight;
use std::sync::Arc;

/// How many messages are kept while a client is in.
const HISTORY: usize = 100;
/// How many are kept while no client is in.
pub const HISTORY_AWAY: usize = 500;
/// How many bytes of them.
const HISTORY_BYTES: usize = 2 << 20;
/// A join without subject is taken for complete after so many seconds.
pub const SETTLE_TIMEOUT: u64 = 5;
/// For so many seconds nothing comes after what may have been the end of it.
pub const SOON: u64 = 1;

#[derive(Debug, Default)]
pub struct Discussion {
    /// What those who join later get.
    pub history: History,
    /// What that takes, for the account.
    pub weight: Weight,
    pub subject: Option<Arc<HistoryMessage>>,
    /// It was set while the account was in. Else only the room knows when, and tells by its own stamp.
    pub subject_is_news: bool,
    /// The account's join asked for no particular history.
    pub asked_default: bool,
    /// History and subject of the join have come.
    pub settled: bool,
    /// A subject came where it need not be the end of the history: that is over when nothing more comes.
    pub ending: bool,
    /// How many messages of its history the room gave.
    pub given: usize,
    /// How many messages came while no client was in.
    pub missed: usize,
    /// What was said while the account joined again: it comes after what the room repeats from before.
    pub held: Vec<Arc<HistoryMessage>>,
    /// What came before the account was in, and is not known to have been told.
    pub early: Vec<Mark>,
}

impl Discussion {
    /// A join asks for a history, by `request`.
    pub fn begin(&mut self, request: &Request) {
        self.asked_default = request.is_default() || request.wants_none();
        self.settled = false;
        self.ending = false;
    }

    /// What the room said before a join holds no more.
    pub fn clear(&mut self) {
        self.history.clear();
        self.weight.set(0);
        self.held.clear();
        self.early.clear();
        self.subject = None;
        self.ending = false;
        self.given = 0;
    }

    /// Keeps a message for those who join later, as far as there is room for it. What the room repeats goes where it belongs.
    /// `used`: a client is in.
    pub fn keep(&mut self, said: Arc<HistoryMessage>, used: bool) {
        let most = if used { HISTORY } else { HISTORY_AWAY };
        self.weight.add(said.stanza.len());
        let later = |had: &&Arc<HistoryMessage>| said.stamped && had.mark.at > said.mark.at;
        let at = self.history.len() - self.history.iter().rev().take_while(later).count();
        self.history.insert(at, said);
        while (self.history.len() > most || self.weight.bytes() > HISTORY_BYTES) && self.forget_oldest() {}
    }

    /// A message is kept in the place of one from before, which the room repeats by it.
    pub fn replace(&mut self, before: Mark, said: Arc<HistoryMessage>) {
        if let Some(i) = self.history.iter().position(|said| said.mark == before)
            && let Some(old) = self.history.remove(i)
        {
            self.weight.take(old.stanza.len());
        }
        self.keep(said, self.history.len() < HISTORY);
    }

    /// The oldest message is not kept any more. Says whether there was one.
    pub fn forget_oldest(&mut self) -> bool {
        let Some(old) = self.history.pop_front() else { return false };
        self.weight.take(old.stanza.len());
        true
    }

    /// Whether the room says a second time what it has a name for (XEP-0359).
    pub fn is_known(&self, mark: Mark) -> bool {
        mark.archived.is_some() && self.history.iter().any(|said| said.mark.archived == mark.archived)
    }

    /// Whether this very message is kept.
    pub fn has(&self, said: &Arc<HistoryMessage>) -> bool {
        self.history.iter().chain(&self.held).any(|had| Arc::ptr_eq(had, said))
    }

    /// Whether what the room repeats by `before` is what has been waiting.
    pub fn holds(&self, before: Mark) -> bool {
        self.held.iter().any(|said| said.mark == before)
    }

    /// Whether one more message of so many bytes can wait for the join to be complete.
    pub fn can_hold(&self, bytes: usize) -> bool {
        let held: usize = self.held.iter().map(|s| s.stanza.len()).sum();
        self.held.len() < HISTORY_AWAY && held + bytes <= HISTORY_BYTES
    }

    /// A message came that nobody has been told yet.
    pub fn note_early(&mut self, mark: Mark) {
        if self.early.len() < HISTORY_AWAY {
            self.early.push(mark);
        }
    }

    /// What a message takes back is gone from what is kept for those who join later.
    pub fn take_back(&mut self, room: &str, chat: &Chat, now: u64) {
        if chat.takes_back.is_none() {
            return;
        }
        let tombstone = |old: &HistoryMessage, stanza: Vec<u8>| {
            let weight = old.weight.with(old.weight.bytes() + stanza.len() - old.stanza.len());
            Arc::new(HistoryMessage { stanza: stanza.into(), stamped: old.stamped, mark: old.mark, weight })
        };
        if let Some((i, stanza)) = chat.take_back(self.history.iter().map(|s| &*s.stanza), room, now) {
            let said = tombstone(&self.history[i], stanza);
            self.weight.add(said.stanza.len());
            self.weight.take(self.history[i].stanza.len());
            self.history[i] = said;
        } else if let Some((i, stanza)) = chat.take_back(self.held.iter().map(|s| &*s.stanza), room, now) {
            self.held[i] = tombstone(&self.held[i], stanza);
        }
    }
}
