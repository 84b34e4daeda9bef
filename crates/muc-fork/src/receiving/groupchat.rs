//! What is said in a room.

use crate::accounts::Accounts;
use crate::change::Change;
use crate::chat::Chat;
use crate::decision::Decision;
use crate::history::HistoryMessage;
use crate::input::{FromRoom, Talk};
use crate::membership::{Client, HISTORY, HISTORY_AWAY, HISTORY_BYTES, Maybe, Phase, SOON, Stage};
use crate::room::{RECENT, RECENT_BYTES, SAME};
use std::sync::Arc;

impl Accounts {
    /// A groupchat message. Calls `to` for each client that gets a copy of the stanza in hand, after the decisions that are
    /// returned.
    pub fn groupchat(
        &mut self,
        from: FromRoom,
        chat: &Chat,
        now: u64,
        mut to: impl FnMut(&str),
    ) -> Option<Vec<Decision>> {
        let mut out = Vec::new();
        let a = self.accounts.get_mut(from.account)?;
        let m = a.rooms.get_mut(from.room)?;
        m.heard = now;
        let recent = &mut self.rooms.get_mut(from.room)?.recent;
        loop {
            let full = self.memory.used() > self.limits.server;
            // What is only there to be compared, and what is kept.
            let mut recents = recent.iter();
            if full && let Some(i) = recents.position(|said| Arc::strong_count(said) == 1) {
                recent.remove(i);
            } else if !(full || a.memory.used() > self.limits.account) || !m.forget_oldest() {
                break;
            }
        }
        // Messages carry the time of day, whatever the clock is that `now` is of.
        let wall = now.saturating_add_signed(self.wall_ahead);
        if m.phase == Phase::Away {
            return Some(out);
        }
        m.take_back(from.room, chat, wall);
        if m.note_change(&chat.codes) {
            out.push(Decision::Persist { account: from.account.into() });
        }
        if m.phase == Phase::Joining {
            if m.known.is_none() {
                // Of the stay that is ending.
                for client in m.clients.iter().filter(|c| !c.stays()) {
                    to(&client.resource);
                }
            }
            // A room tells the subject to who is in.
            let guess = m.other_ids || !m.is_quiet();
            if chat.talk == Talk::Subject
                && guess
                && m.unconfirmed == 0
                && matches!(m.maybe, Some(Maybe::In { .. }))
            {
                self.take_for_answer(from.account, from.room, now, &mut out);
            }
        }
        let m = self.accounts.get_mut(from.account)?.rooms.get_mut(from.room)?;
        let room = self.rooms.get_mut(from.room)?;
        if chat.talk == Talk::Passing {
            for client in m.clients.iter().filter(|c| c.is_in()) {
                to(&client.resource);
            }
            return Some(out);
        }
        let before = chat.stamp.is_some() && chat.talk != Talk::Subject;
        let joining = !m.settled && m.phase == Phase::Joined;
        let mark = chat.mark(wall);
        if before && m.settled && m.is_known(mark) {
            return Some(out);
        }
        let repeated = m.repeats(chat, now, wall);
        let is_held = repeated.is_some_and(|before| m.held.iter().any(|said| said.mark == before));
        if let Some(before) = repeated {
            m.is_repeated(before, if is_held { before } else { mark });
        }
        // Somebody has not been told when this is done.
        let waits = m.phase == Phase::Joining
            || (joining
                && before
                && m.clients.iter().any(|c| matches!(c.stage, Stage::In { held: Some(_) })));
        // What several accounts are told is kept once; what one is told twice was said twice.
        let same = room.recent.iter().rev().find(|s| {
            *s.stanza == *chat.stanza
                && s.mark.at.abs_diff(mark.at) <= SAME
                && !m.history.iter().chain(&m.held).any(|had| Arc::ptr_eq(had, s))
        });
        let said = match same {
            Some(said) => said.clone(),
            None => {
                let (stamped, weight) =
                    (chat.stamp.is_some(), HistoryMessage::weigh(&self.memory, chat.stanza.len()));
                let said = Arc::new(HistoryMessage { stanza: chat.stanza.into(), stamped, mark, weight });
                // It may have been kept when another account was told, or is when this one is.
                let kept = repeated.is_some()
                    || waits
                    || (before && room.recent.iter().any(|s| mark.repeats(&s.mark, chat.named)));
                room.recent.push_back(said.clone());
                let mut bytes: usize = room.recent.iter().map(|s| s.stanza.len()).sum();
                while (room.recent.len() > RECENT || bytes > RECENT_BYTES)
                    && let Some(old) = room.recent.pop_front()
                {
                    bytes -= old.stanza.len();
                }
                if !kept {
                    self.changes.push(Change::Message { room: from.room.into(), mark });
                }
                said
            }
        };
        if let Some(before) = repeated {
            // Those who are in have it; it is for those who join later, as the room has it now.
            m.given += 1;
            if is_held {
                return Some(out); // they get it in its turn
            }
            m.forget(before);
            m.keep(said, if m.history.len() < HISTORY { HISTORY } else { HISTORY_AWAY }, HISTORY_BYTES);
            return Some(out);
        }
        let used = m.clients.iter().any(Client::is_in);
        let most = if used { HISTORY } else { HISTORY_AWAY };
        if m.phase == Phase::Joining && before && m.known.is_none() {
            // Some rooms begin with the history; it is told after one's own presence.
            m.given += 1;
            m.note_early(mark);
            m.keep(said, most, HISTORY_BYTES);
            return Some(out);
        }
        if m.phase == Phase::Joining && chat.talk == Talk::Stored {
            if m.hold(&said) {
                return Some(out);
            }
            self.changes.push(Change::Message { room: from.room.into(), mark });
        }
        if chat.talk == Talk::Subject {
            m.subject = Some(said);
            if m.phase == Phase::Joining && m.known.is_none() {
                m.ending = true;
                return Some(out);
            }
            for client in m.clients.iter_mut().filter(|c| c.is_in()) {
                client.has_subject = true;
            }
            if m.phase == Phase::Joined && !m.settled {
                if chat.stamp.is_none() && !m.expects_history() {
                    m.settle(from.account, from.room, room, &mut self.changes, &mut out);
                } else {
                    // It may be of the history, or before it.
                    m.ending = true;
                    self.wake(from.account, from.room, now + SOON);
                }
            }
        } else if before && m.phase == Phase::Joined && (joining || now <= m.late_until) {
            m.given += 1;
            if waits {
                m.note_early(mark);
            }
            m.keep(said, most, HISTORY_BYTES);
            for client in &mut m.clients {
                let gets = match (&client.stage, &mut client.late) {
                    (Stage::In { held: Some(_) } | Stage::Waiting { .. }, _) => false,
                    (_, Some(late)) => late.takes(mark.at),
                    (_, None) => true,
                };
                if gets {
                    to(&client.resource);
                }
            }
            if m.ending && m.due < now + SOON {
                self.wake(from.account, from.room, now + SOON);
            }
            return Some(out);
        } else {
            // Something that was said just now: what was said before is complete.
            if m.phase == Phase::Joined {
                m.settle(from.account, from.room, room, &mut self.changes, &mut out);
            }
            if now < m.guessed && m.repeats.len() < 2 * HISTORY_AWAY {
                m.repeats.push(mark);
            }
            m.keep(said, most, HISTORY_BYTES);
            m.missed = if used { 0 } else { m.missed + 1 };
        }
        let m = self.accounts.get(from.account)?.rooms.get(from.room)?;
        for client in m.clients.iter().filter(|c| c.is_in() || !c.stays()) {
            to(&client.resource);
        }
        Some(out)
    }

    /// Whether a groupchat message from a room is worth keeping, for this account, and was not there before.
    pub fn is_new(&self, account: &str, room: &str, chat: &Chat, now: u64) -> bool {
        let wall = now.saturating_add_signed(self.wall_ahead);
        chat.talk == Talk::Stored
            && self.membership(account, room).is_some_and(|m| {
                let had = !m.rejoined || m.repeats(chat, now, wall).is_some() || m.is_known(chat.mark(wall));
                m.phase != Phase::Away && !(chat.stamp.is_some() && had)
            })
    }
}
