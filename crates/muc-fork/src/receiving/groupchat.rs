//! What is said in a room: who gets it now, and what is kept for those who come later.

use crate::accounts::Accounts;
use crate::change::Change;
use crate::chat::Chat;
use crate::decision::Decision;
use crate::history::{HistoryMessage, Mark};
use crate::input::{FromRoom, Talk};
use crate::membership::Phase;
use crate::membership::client::{Client, Stage};
use crate::membership::discussion::SOON;
use crate::membership::repeats;
use crate::stay::Stay;
use std::sync::Arc;

/// A message, and when it came.
struct Heard<'a> {
    chat: &'a Chat<'a>,
    mark: Mark,
    /// It is of the room's history.
    before: bool,
    /// Seconds of the clock of time-outs.
    now: u64,
}

impl Accounts {
    /// A groupchat message. Calls `to` for each client that gets a copy of the stanza in hand, after the decisions that are
    /// returned. `now` is in seconds.
    pub fn groupchat(
        &mut self,
        from: FromRoom,
        chat: &Chat,
        now: u64,
        mut to: impl FnMut(&str),
    ) -> Option<Vec<Decision>> {
        let mut out = Vec::new();
        self.make_space(from)?;
        let wall = self.wall(now);
        let mut stay = self.stay(from.account, from.room, &mut out)?;
        stay.m.contact.heard = now;
        if stay.m.is_away() {
            return Some(out);
        }
        stay.m.discussion.take_back(from.room, chat, wall);
        if stay.m.note_change(chat) {
            stay.persist();
            self.follow_jids(from);
            stay = self.stay(from.account, from.room, &mut out)?;
        }
        if stay.m.is_joining() {
            if stay.m.comparison.known.is_none() {
                // Of the stay that is ending.
                stay.m.clients.iter().filter(|c| !c.stays()).for_each(|client| to(&client.resource));
            }
            if chat.talk == Talk::Subject && stay.is_in_by_subject() {
                self.take_for_answer(from.account, from.room, now, &mut out);
            }
            stay = self.stay(from.account, from.room, &mut out)?;
        }
        let before = chat.stamp.is_some() && chat.talk != Talk::Subject;
        let heard = Heard { chat, mark: chat.mark(wall), before, now };
        if let Some(at) = stay.hear(&heard, wall, &mut to) {
            self.wake(from.account, from.room, at);
        }
        Some(out)
    }

    /// Whether a groupchat message from a room is worth keeping, for this account, and was not there before. `now` is in seconds.
    pub fn is_new(&self, account: &str, room: &str, chat: &Chat, now: u64) -> bool {
        let Some(m) = self.membership(account, room) else { return false };
        let wall = self.wall(now);
        let had = || {
            !m.repeats.expected
                || m.repeats.find(chat, now, wall).is_some()
                || m.discussion.is_known(chat.mark(wall))
        };
        chat.talk == Talk::Stored && !m.is_away() && !(chat.stamp.is_some() && had())
    }

    /// Messages carry the time of day in seconds since 1970, whatever the clock is that `now` is of.
    fn wall(&self, now: u64) -> u64 {
        now.saturating_add_signed(self.wall_ahead)
    }

    /// If too much is kept, the oldest messages are let go of.
    fn make_space(&mut self, from: FromRoom) -> Option<()> {
        let a = self.accounts.get_mut(from.account)?;
        let m = a.rooms.get_mut(from.room)?;
        let mut full = self.memory.used() > self.limits.server;
        if !full && a.memory.used() <= self.limits.account {
            return Some(());
        }
        let recent = &mut self.rooms.get_mut(from.room)?.recent;
        loop {
            // What is only there to be compared, and what is kept.
            let mut recents = recent.iter();
            if full && let Some(i) = recents.position(|said| Arc::strong_count(said) == 1) {
                recent.remove(i);
            } else if !(full || a.memory.used() > self.limits.account) || !m.discussion.forget_oldest() {
                return Some(());
            }
            full = self.memory.used() > self.limits.server;
        }
    }
}

impl Stay<'_> {
    /// A room tells the subject to who is in: what may be the answer to the account's join is.
    fn is_in_by_subject(&self) -> bool {
        let m = &self.m;
        let Phase::Joining(joining) = &m.phase else { return false };
        (m.other_ids || !m.is_quiet()) && m.unconfirmed == 0 && joining.may_be_in()
    }

    /// Keeps a message where it belongs and calls `to` for each client that gets a copy now. When to look at the membership next,
    /// if that changes. `wall`: seconds since 1970.
    fn hear(&mut self, heard: &Heard, wall: u64, to: &mut impl FnMut(&str)) -> Option<u64> {
        let Heard { chat, mark, before, now } = *heard;
        if chat.talk == Talk::Passing {
            self.m.clients.iter().filter(|c| c.is_in()).for_each(|client| to(&client.resource));
            return None;
        }
        if before && self.m.discussion.settled && self.m.discussion.is_known(mark) {
            return None;
        }
        let repeated = self.m.repeats.find(chat, now, wall);
        let waits = self.is_not_told_yet(before);
        let is_subject = chat.talk == Talk::Subject;
        if let Some(from_before) = repeated.filter(|_| !is_subject) {
            self.hear_again(heard, from_before);
            return None;
        }
        let said = self.keep_once(heard, waits || repeated.is_some());
        if self.m.is_joining() && self.hear_while_joining(heard, &said) {
            return None;
        }
        if before && self.takes_history(now) {
            return self.hear_history(heard, said, waits, to);
        }
        if !is_subject {
            self.hear_now(heard, said.clone());
        }
        // A subject from before is the end of the join nevertheless, and what those get who come later.
        let has = |client: &Client| repeated.is_some() && client.has_subject;
        let gets = |client: &&Client| (client.is_in() && !has(client)) || !client.stays();
        self.m.clients.iter().filter(gets).for_each(|client| to(&client.resource));
        is_subject.then(|| self.hear_subject(heard, said)).flatten()
    }

    /// Whether somebody has not been told of a message when this is done.
    fn is_not_told_yet(&self, before: bool) -> bool {
        let waits = |c: &Client| matches!(c.stage, Stage::In { held: Some(_) });
        match &self.m.phase {
            Phase::Joining(_) => true,
            Phase::Joined(_) => before && !self.m.discussion.settled && self.m.clients.iter().any(waits),
            Phase::Leaving(_) | Phase::Away => false,
        }
    }

    /// What several accounts are told is kept once; what one is told twice was said twice. It is worth keeping across a restart
    /// unless it is `known`, or will be noted when clients are told.
    fn keep_once(&mut self, heard: &Heard, known: bool) -> Arc<HistoryMessage> {
        let Heard { chat, mark, before, .. } = *heard;
        if let Some(said) = self.room.recall(chat.stanza, mark, |said| self.m.discussion.has(said)) {
            return said;
        }
        // It may have been kept when another account was told, or is when this one is.
        let known = known || (before && self.room.recent.iter().any(|s| mark.repeats(&s.mark, chat.named)));
        let stamped = chat.stamp.is_some();
        let weight = HistoryMessage::weigh(self.memory, chat.stanza.len());
        let said = Arc::new(HistoryMessage { stanza: chat.stanza.into(), stamped, mark, weight });
        self.room.remember(said.clone());
        if !known {
            self.changes.push(Change::Message { room: self.name.into(), mark });
        }
        said
    }

    /// The room repeats a message. Those who are in have it; it is for those who join later, as the room has it now.
    fn hear_again(&mut self, heard: &Heard, from_before: Mark) {
        let joining = self.m.is_joining();
        let held = self.m.discussion.holds(from_before);
        let known = if held { from_before } else { heard.mark };
        self.m.repeats.note(from_before, known, joining);
        let said = self.keep_once(heard, true);
        self.m.discussion.given += 1;
        if !held {
            self.m.discussion.replace(from_before, said);
        } // else they get it in its turn
    }

    /// A message comes before the account is known to be in. Says whether that is all.
    fn hear_while_joining(&mut self, heard: &Heard, said: &Arc<HistoryMessage>) -> bool {
        let m = &mut *self.m;
        let first = m.comparison.known.is_none();
        if heard.chat.talk == Talk::Subject {
            if first {
                m.discussion.subject = Some(said.clone());
                m.discussion.subject_is_news = false;
                m.discussion.ending = true;
            }
            return first;
        }
        if heard.before && first {
            // Some rooms begin with the history; it is told after one's own presence.
            let attended = m.is_attended();
            m.discussion.given += 1;
            m.discussion.note_early(heard.mark);
            m.discussion.keep(said.clone(), attended);
            return true;
        }
        let waits = m.hold(said);
        if !waits {
            self.changes.push(Change::Message { room: self.name.into(), mark: heard.mark });
        }
        waits
    }

    fn hear_subject(&mut self, heard: &Heard, said: Arc<HistoryMessage>) -> Option<u64> {
        let m = &mut *self.m;
        m.discussion.subject = Some(said);
        m.discussion.subject_is_news = m.is_joined() && m.discussion.settled;
        for client in m.clients.iter_mut().filter(|c| c.is_in()) {
            client.has_subject = true;
        }
        if !m.is_joined() || m.discussion.settled {
            return None;
        }
        if heard.chat.stamp.is_none() && !m.expects_history() {
            self.settle();
            return None;
        }
        // It may be of the history, or before it.
        m.discussion.ending = true;
        Some(heard.now + SOON)
    }

    /// Whether there may be more of the history of the account's join.
    fn takes_history(&self, now: u64) -> bool {
        match &self.m.phase {
            Phase::Joined(joined) => !self.m.discussion.settled || now <= joined.late_until,
            _ => false,
        }
    }

    /// A message of the history: those who asked for a part of it get that when it is complete.
    fn hear_history(
        &mut self,
        heard: &Heard,
        said: Arc<HistoryMessage>,
        waits: bool,
        to: &mut impl FnMut(&str),
    ) -> Option<u64> {
        let m = &mut *self.m;
        let attended = m.is_attended();
        m.discussion.given += 1;
        if waits {
            m.discussion.note_early(heard.mark);
        }
        m.discussion.keep(said, attended);
        for client in &mut m.clients {
            let gets = match (&client.stage, &mut client.late) {
                (Stage::In { held: Some(_) } | Stage::Waiting { .. }, _) => false,
                (_, Some(late)) => late.takes(heard.mark.at),
                (_, None) => true,
            };
            if gets {
                to(&client.resource);
            }
        }
        let soon = heard.now + SOON;
        (m.discussion.ending && m.due < soon).then_some(soon)
    }

    /// Something that was said just now: what was said before is complete.
    fn hear_now(&mut self, heard: &Heard, said: Arc<HistoryMessage>) {
        if self.m.is_joined() {
            self.settle();
        }
        let m = &mut *self.m;
        if let Phase::Joined(joined) = &m.phase
            && joined.is_guessed(heard.now)
            && m.repeats.before.len() < repeats::MOST
        {
            m.repeats.before.push(heard.mark);
        }
        let attended = m.is_attended();
        m.discussion.keep(said, attended);
        m.discussion.missed = if attended { 0 } else { m.discussion.missed + 1 };
    }
}
