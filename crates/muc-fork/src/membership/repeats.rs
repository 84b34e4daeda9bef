//! What a room says again to an account that joins again: messages that came before.

use crate::chat::Chat;
use crate::history::Mark;
use crate::membership::discussion::{Discussion, HISTORY_AWAY};

/// For so many seconds after it joined again, the account takes what the room repeats for what its clients may have.
const REPEATING: u64 = 60;
/// So many messages are known again at most.
pub const MOST: usize = 2 * HISTORY_AWAY;

#[derive(Debug)]
pub struct Repeats {
    /// The account joined again without its clients' knowing: what the room repeats, they may have.
    pub expected: bool,
    /// Messages that came before a restart, or before the account joined again: each may be repeated once.
    pub before: Vec<Mark>,
    /// Those that were, before the account was known to be in: another join's history may bring them again.
    again: Vec<Mark>,
    /// The same of what waits, or did, for the join to be complete ([`Discussion::held`]).
    held: Vec<Mark>,
    /// Until when they may be, in seconds of the clock of time-outs.
    until: u64,
}

impl Default for Repeats {
    fn default() -> Repeats {
        Repeats { expected: false, before: Vec::new(), again: Vec::new(), held: Vec::new(), until: u64::MAX }
    }
}

impl Repeats {
    /// Of a membership from before a restart, to which this was said.
    pub fn of(said: Vec<Mark>) -> Repeats {
        Repeats { expected: true, before: said, ..Repeats::default() }
    }

    /// The account will join again: what the room repeats then was there before.
    pub fn expect(&mut self, discussion: &Discussion) {
        self.history_begins();
        self.held.retain(|mark| discussion.holds(*mark));
        self.before.retain(|mark| !discussion.history.iter().any(|said| said.mark == *mark));
        let before = std::mem::take(&mut self.before);
        self.before = discussion.history.iter().map(|said| said.mark).chain(before).collect();
        self.before.truncate(MOST);
        self.until = u64::MAX;
        self.expected = true;
    }

    /// The account is in: the room repeats what it repeats now, or not at all.
    pub fn end_soon(&mut self, now: u64) {
        self.until = now + REPEATING;
    }

    /// The history of a join begins.
    pub fn history_begins(&mut self) {
        self.before.append(&mut self.again);
    }

    /// The history of a join is complete; some rooms send it after that.
    pub fn settle(&mut self) {
        self.before.append(&mut self.held);
    }

    /// The message from before that the room repeats by this one, if it does. `wall`: seconds since 1970.
    pub fn find(&self, chat: &Chat, now: u64, wall: u64) -> Option<Mark> {
        if chat.stamp.is_none() || now > self.until {
            return None;
        }
        let mark = chat.mark(wall);
        let repeats = |before: &Mark| mark.repeats(before, chat.named);
        // Where the room has a name for one of them only, that may be another one's.
        let all = || self.before.iter().chain(&self.held);
        let sure = all().find(|b| b.archived == mark.archived && repeats(b));
        sure.or_else(|| all().find(|b| repeats(b))).copied()
    }

    /// What was before is repeated now, once, as `mark`.
    pub fn note(&mut self, before: Mark, mark: Mark, joining: bool) {
        let list = if self.before.contains(&before) { &mut self.before } else { &mut self.held };
        if let Some(i) = list.iter().position(|mark| *mark == before) {
            list.remove(i);
        }
        if joining {
            self.again.push(mark);
        }
    }

    /// A message waits for the join to be complete. The history that it is of has it once; another join's, or one that follows
    /// what was said just now, may repeat it.
    pub fn note_held(&mut self, mark: Mark, stamped: bool) {
        let marks = if stamped { &mut self.again } else { &mut self.held };
        marks.push(mark);
    }

    /// What the room said before a join holds no more.
    pub fn clear(&mut self) {
        self.before.clear();
        self.again.clear();
        self.held.clear();
    }
}
