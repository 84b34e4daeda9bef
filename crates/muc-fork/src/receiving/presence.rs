//! Presence from a room: of the account itself, of others, and errors.

use crate::accounts::Accounts;
use crate::change::Change;
use crate::decision::{Decision, Edit, Id};
use crate::input::{FromRoom, MucUser, Presence};
use crate::joining::admitted::Answer;
use crate::lasting::without_change;
use crate::membership::Phase;
use crate::membership::client::{Client, Stage};
use crate::membership::discussion::SETTLE_TIMEOUT;
use crate::membership::joining::Maybe;
use crate::memory::Full;
use crate::serving::set_id;
use crate::stay::Stay;
use crate::view::likeness;

impl Accounts {
    /// A room's presence. `presence` are its bytes without `to`, and without `id` if it is available or the account's own. `now` is in seconds.
    pub fn presence_from_room(
        &mut self,
        from: FromRoom,
        kind: Presence,
        said: MucUser,
        presence: &[u8],
        now: u64,
    ) -> Option<Vec<Decision>> {
        let mut out = Vec::new();
        self.accounts.get_mut(from.account)?.rooms.get_mut(from.room)?.contact.heard = now;
        match kind {
            Presence::Error if self.probe_refused(from, &mut out) => {
                if said.condition == Some("not-acceptable") {
                    self.ping(from.account, from.room, now, &mut out);
                }
            }
            Presence::Error => self.refused(from, said, presence, now, &mut out),
            Presence::Available => self.somebody_there(from, said, presence, now, &mut out),
            Presence::Unavailable => self.somebody_gone(from, said, now, &mut out),
        }
        Some(out)
    }

    /// An available presence: the account's own or another's.
    fn somebody_there(
        &mut self,
        from: FromRoom,
        said: MucUser,
        presence: &[u8],
        now: u64,
        out: &mut Vec<Decision>,
    ) {
        let Some(m) = self.membership(from.account, from.room) else { return };
        let lasting = without_change(presence);
        let presence = lasting.as_deref().unwrap_or(presence);
        // A room may have a presence of its own (ejabberd's do); it is kept as that of an occupant without a name.
        let nick = from.nick.unwrap_or("");
        let marked = said.codes.contains(&110) && from.nick.is_some();
        let named = from.nick == Some(&m.nick);
        match &m.phase {
            Phase::Joining(joining) => {
                let sure = from.id == Some(&joining.id);
                let quiet = m.is_quiet();
                let own = marked || (named && sure);
                if !own {
                    self.occupant(from, nick, presence, out);
                    if named {
                        // Some rooms do not say which presence is one's own.
                        self.may_be_in(from, said.codes, false, presence, now, out);
                    }
                } else if sure || !quiet {
                    let answer = Answer { nick, codes: said.codes, presence, in_hand: true, sure };
                    self.let_in(from.account, from.room, answer, now, out);
                } else {
                    // It may be of the stay that is ending.
                    self.may_be_in(from, said.codes, true, presence, now, out);
                }
            }
            Phase::Joined(_) if marked || named => {
                if let Some(mut stay) = self.stay(from.account, from.room, out) {
                    stay.own_presence(from, marked, said.codes, presence, now);
                }
                self.follow_jids(from);
            }
            Phase::Leaving(_) if marked => {}
            Phase::Joined(_) | Phase::Leaving(_) => self.occupant(from, nick, presence, out),
            Phase::Away => {}
        }
    }

    /// An unavailable presence: the account's own or another's.
    fn somebody_gone(&mut self, from: FromRoom, said: MucUser, now: u64, out: &mut Vec<Decision>) {
        let renamed = said.codes.contains(&303);
        let Some(m) = self.membership(from.account, from.room) else { return };
        let answered = match &m.phase {
            Phase::Joining(joining) => {
                matches!(&joining.maybe, Some(Maybe::In { nick, .. }) if from.nick == Some(nick))
            }
            _ => false,
        };
        if renamed && answered && m.other_ids && m.unconfirmed == 0 {
            self.take_for_answer(from.account, from.room, now, out);
        }
        let Some(m) = self.membership(from.account, from.room) else { return };
        let own = said.codes.contains(&110) || (from.nick == Some(&m.nick) && !m.room_marks_own());
        if !own {
            let joined = m.is_joined();
            self.occupant_gone(from, from.nick.unwrap_or(""), out);
            if from.nick.is_none_or(str::is_empty) && joined {
                // The room itself is not there any more, it says.
                self.doubt(from.account, from.room, now, out);
            }
        } else if !renamed {
            self.out_of_room(from, said, now, out);
        } else if !m.is_quiet()
            // The clients go by the nickname that they know until the account is in again; see `let_in`.
            && let Some(mut stay) = self.stay(from.account, from.room, out)
        {
            stay.renamed(said.new_nick);
        }
    }

    /// Keeps what the account is told about an occupant. Says whether there was room for it.
    pub(crate) fn note_occupant(&mut self, from: FromRoom, nick: &str, presence: &[u8]) -> Option<bool> {
        let a = self.accounts.get_mut(from.account)?;
        let (m, room) = (a.rooms.get_mut(from.room)?, self.rooms.get_mut(from.room)?);
        let news = room.view.find(nick, presence);
        let growth = news.growth();
        let full = if room.view.bytes() + growth > self.limits.room {
            Some((&mut room.full, Full::Room(from.room.into())))
        } else if a.memory.used() + presence.len() > self.limits.account {
            Some((&mut a.full, Full::Account(from.account.into())))
        } else if self.memory.used() + growth > self.limits.server {
            Some((&mut self.full, Full::Server))
        } else {
            None
        };
        let kept = full.is_none();
        if let Some((known, notice)) = full
            && !std::mem::replace(known, true)
        {
            self.notices.push(notice);
        }
        if !kept {
            // It reaches who is there, and is not kept. What was known of it holds no more.
            if room.view.remove(&mut m.seen, nick) {
                self.changes.push(Change::Gone { room: from.room.into(), nick: nick.into() });
            }
        } else if let Some(likeness) = room.view.tell(&mut m.seen, news) {
            self.changes.push(Change::Occupant { room: from.room.into(), nick: nick.into(), likeness });
        }
        Some(kept)
    }

    /// An occupant is there, or changed.
    fn occupant(&mut self, from: FromRoom, nick: &str, presence: &[u8], out: &mut Vec<Decision>) {
        let Some(kept) = self.note_occupant(from, nick, presence) else { return };
        let Some(m) = self.membership_mut(from.account, from.room) else { return };
        let quiet = m.is_quiet();
        let mut is_news = true;
        if let Some(known) = &mut m.comparison.known {
            let likeness = likeness(presence);
            let before = if kept { known.insert(nick.into(), likeness) } else { known.remove(nick) };
            is_news = before.is_none_or(|before| likeness.is_news_after(before));
        }
        for client in &m.clients {
            let gets = match client.stage {
                Stage::In { held: None } => is_news,
                // It has just been let in, and has been told of nobody who comes after that.
                Stage::In { held: Some(_) } => true,
                // While the account joins again they wait for all of it.
                Stage::Waiting { .. } => !quiet,
                Stage::Leaving { .. } => true,
            };
            if gets {
                out.push(Decision::Forward { resource: client.resource.clone(), edit: Edit::default() });
            }
        }
    }

    /// An occupant is gone.
    fn occupant_gone(&mut self, from: FromRoom, nick: &str, out: &mut Vec<Decision>) {
        let Some(stay) = self.stay(from.account, from.room, out) else { return };
        let m = stay.m;
        stay.room.not_another(from.room, m, nick, stay.changes);
        let quiet = m.is_quiet();
        for client in &m.clients {
            // Who knows the occupant already is not told of those who are gone when it is let in.
            if quiet && client.stays() && !m.knows_occupants(client) {
                continue;
            }
            stay.out.push(Decision::Forward { resource: client.resource.clone(), edit: Edit::default() });
        }
    }

    /// The room does not answer a client's probe.
    fn probe_refused(&mut self, from: FromRoom, out: &mut Vec<Decision>) -> bool {
        let Some(a) = self.accounts.get_mut(from.account) else { return false };
        let Some(asked) = from.id.and_then(|id| a.requests.asked_mut(id)) else { return false };
        if &*asked.room != from.room {
            return false;
        }
        if let Some(resource) = asked.resource.take() {
            let id = (!asked.id.is_empty()).then_some(&*asked.id);
            let edit = Edit { id: set_id(id), ..Edit::default() };
            out.push(Decision::Forward { resource, edit });
        }
        true
    }
}

impl Stay<'_> {
    /// The account's own presence while it is in: it changed, it has another nickname, or it is the answer to a join after all.
    fn own_presence(&mut self, from: FromRoom, marked: bool, codes: &[u16], presence: &[u8], now: u64) {
        let nick = from.nick.unwrap_or("");
        let m = &mut *self.m;
        if let Phase::Joined(joined) = &mut m.phase
            && joined.is_guessed(now)
        {
            // This is the answer, or may be, and its history follows.
            if from.id == Some(&joined.join_id) {
                joined.guess = None;
                m.unconfirmed = 0;
            }
            joined.late_until = now + SETTLE_TIMEOUT;
            m.expect_repeats();
            m.repeats.end_soon(now);
        }
        if *m.nick != *nick {
            m.nick = nick.into();
            self.out.push(Decision::Persist { account: self.account.into() });
        }
        m.own = Some(presence.into());
        m.codes.note(codes);
        if m.clients.iter().any(Client::is_in) {
            m.codes.untold.clear();
        }
        for client in m.clients.iter().filter(|c| c.is_in()) {
            let id = match (&m.shown.changed_by, from.id) {
                (Some((id, by)), Some(this)) if **id == *this && *by == client.resource => Id::Keep,
                _ => Id::Remove,
            };
            let with = if marked { Vec::new() } else { vec![110] };
            let edit = Edit { id, with, ..Edit::default() };
            self.out.push(Decision::Forward { resource: client.resource.clone(), edit });
        }
        for i in 0..m.clients.len() {
            m.let_client_in(self.account, self.name, i, self.out);
        }
    }
}
