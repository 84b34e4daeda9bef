//! What rooms send to accounts.

use crate::accounts::Accounts;
use crate::address::at;
use crate::build;
use crate::change::Change;
use crate::chat::Chat;
use crate::conditions::BUSY;
use crate::conditions::SILENT;
use crate::decision::{Decision, Edit, Id, Outcome};
use crate::history::{HistoryMessage, Request};
use crate::input::{Asks, FromRoom, Iq, Message, MucUser, Presence, Talk, is_about_the_way};
use crate::membership::{Client, Maybe, Phase, Stage};
use crate::membership::{HISTORY, HISTORY_AWAY, HISTORY_BYTES, PERSONAL, REPEATING, SETTLE_TIMEOUT, SOON};
use crate::memory::Full;
use crate::room::{RECENT, RECENT_BYTES, SAME};
use crate::sending::presence::LINGER;
use crate::serving::set_id;
use crate::view::likeness;
use std::sync::Arc;

/// The account's own presence, when it is let in.
struct Answer<'a> {
    nick: &'a str,
    codes: &'a [u16],
    presence: &'a [u8],
    /// It is the stanza in hand.
    in_hand: bool,
    /// It has the join's `id`.
    sure: bool,
}

impl Accounts {
    /// A room's presence. `presence` are its bytes without `to`, and without `id` if it is the account's own.
    pub fn presence_from_room(
        &mut self,
        from: FromRoom,
        kind: Presence,
        said: MucUser,
        presence: &[u8],
        now: u64,
    ) -> Option<Vec<Decision>> {
        let mut out = Vec::new();
        let m = self.accounts.get_mut(from.account)?.rooms.get_mut(from.room)?;
        m.heard = now;
        match kind {
            Presence::Error => {
                if self.probe_refused(from, &mut out) {
                    if said.condition == Some("not-acceptable") {
                        self.ping(from.account, from.room, now, &mut out);
                    }
                } else {
                    self.refused(from, said, presence, now, &mut out);
                }
            }
            Presence::Available => {
                // A room may have a presence of its own (ejabberd's do); it is kept as that of an occupant without a name.
                let nick = from.nick.unwrap_or("");
                let marked = said.codes.contains(&110) && from.nick.is_some();
                let named = from.nick == Some(&m.nick);
                let answers = from.id == Some(&m.join_id);
                match m.phase {
                    Phase::Joining if marked || (named && answers) => {
                        if answers || !m.is_quiet() {
                            let answer =
                                Answer { nick, codes: said.codes, presence, in_hand: true, sure: answers };
                            self.let_in(from.account, from.room, answer, now, &mut out);
                        } else {
                            // It may be of the stay that is ending.
                            self.may_be_in(from, nick, said.codes, true, presence, now, &mut out);
                        }
                    }
                    Phase::Joining => {
                        self.occupant(from, nick, presence, &mut out);
                        if named {
                            // Some rooms do not say which presence is one's own.
                            self.may_be_in(from, nick, said.codes, false, presence, now, &mut out);
                        }
                    }
                    Phase::Leaving if marked => {}
                    Phase::Joined if marked || named => {
                        if now < m.guessed {
                            // This is the answer, or may be, and its history follows.
                            if answers {
                                m.guessed = 0;
                                m.unconfirmed = 0;
                            }
                            m.expect_repeats();
                            m.repeats_until = now + REPEATING;
                            m.late_until = now + SETTLE_TIMEOUT;
                        }
                        if *m.nick != *nick {
                            m.nick = nick.into();
                            out.push(Decision::Persist { account: from.account.into() });
                        }
                        m.own = Some(presence.into());
                        m.note_codes(said.codes);
                        if m.clients.iter().any(Client::is_in) {
                            m.untold.clear();
                        }
                        for client in m.clients.iter().filter(|c| c.is_in()) {
                            let id = match (&m.changed_by, from.id) {
                                (Some((id, by)), Some(this)) if **id == *this && *by == client.resource => {
                                    Id::Keep
                                }
                                _ => Id::Remove,
                            };
                            let with = if marked { Vec::new() } else { vec![110] };
                            let edit = Edit { id, with, ..Edit::default() };
                            out.push(Decision::Forward { resource: client.resource.clone(), edit });
                        }
                        for i in 0..m.clients.len() {
                            m.let_client_in(from.account, from.room, i, &mut out);
                        }
                    }
                    Phase::Joined | Phase::Leaving => self.occupant(from, nick, presence, &mut out),
                    Phase::Away => {}
                }
            }
            Presence::Unavailable => {
                if m.phase == Phase::Joining
                    && said.codes.contains(&303)
                    && m.other_ids
                    && m.unconfirmed == 0
                    && matches!(&m.maybe, Some(Maybe::In { nick, .. }) if from.nick == Some(nick))
                {
                    self.take_for_answer(from.account, from.room, now, &mut out);
                }
                let m = self.accounts.get_mut(from.account)?.rooms.get_mut(from.room)?;
                let own = said.codes.contains(&110) || from.nick == Some(&m.nick);
                if !own {
                    self.occupant_gone(from, from.nick.unwrap_or(""), &mut out);
                    let joined =
                        self.membership(from.account, from.room).is_some_and(|m| m.phase == Phase::Joined);
                    if from.nick.is_none_or(str::is_empty) && joined {
                        // The room itself is not there any more, it says.
                        self.doubt(from.account, from.room, now, &mut out);
                    }
                } else if said.codes.contains(&303) && m.is_quiet() {
                    // The clients go by the nickname that they know until the account is in again; see `let_in`.
                } else if said.codes.contains(&303) {
                    let old = m.nick.clone();
                    if let Some(room) = self.rooms.get_mut(from.room) {
                        room.not_another(from.room, m, &old, &mut self.changes);
                    }
                    if let Some(new) = said.new_nick {
                        m.nick = new.into();
                        m.own = None; // the new one's presence follows
                        for client in &mut m.clients {
                            let asked =
                                m.renames.iter().any(|r| r.resource == client.resource && *r.nick == *new);
                            if client.asked == old || asked {
                                client.asked = new.into();
                            }
                        }
                        m.renames.retain(|r| *r.nick != *new);
                    }
                    for client in m.clients.iter().filter(|c| c.was_told() || !c.stays()) {
                        out.push(Decision::Forward {
                            resource: client.resource.clone(),
                            edit: Edit::default(),
                        });
                    }
                } else {
                    self.out_of_room(from, said, now, &mut out);
                }
            }
        }
        Some(out)
    }

    /// An occupant is there, or changed.
    pub(crate) fn occupant(&mut self, from: FromRoom, nick: &str, presence: &[u8], out: &mut Vec<Decision>) {
        let Some(a) = self.accounts.get_mut(from.account) else { return };
        let (Some(m), Some(room)) = (a.rooms.get_mut(from.room), self.rooms.get_mut(from.room)) else {
            return;
        };
        let growth = room.view.growth(nick, presence);
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
        } else if let Some(likeness) = room.view.tell(&mut m.seen, nick, presence) {
            self.changes.push(Change::Occupant { room: from.room.into(), nick: nick.into(), likeness });
        }
        let silent = m.is_quiet();
        let mut news = true;
        if let Some(known) = &mut m.known {
            let likeness = likeness(presence);
            let before = if kept { known.insert(nick.into(), likeness) } else { known.remove(nick) };
            news = before.is_none_or(|before| likeness.is_news_after(before));
        }
        for client in &m.clients {
            let gets = match client.stage {
                Stage::In { held: None } => news,
                // It has just been let in, and has been told of nobody who comes after that.
                Stage::In { held: Some(_) } => true,
                // While the account joins again they wait for all of it.
                Stage::Waiting { .. } => !silent,
                Stage::Leaving { .. } => true,
            };
            if gets {
                out.push(Decision::Forward { resource: client.resource.clone(), edit: Edit::default() });
            }
        }
    }

    pub(crate) fn occupant_gone(&mut self, from: FromRoom, nick: &str, out: &mut Vec<Decision>) {
        let Some(a) = self.accounts.get_mut(from.account) else { return };
        let (Some(m), Some(room)) = (a.rooms.get_mut(from.room), self.rooms.get_mut(from.room)) else {
            return;
        };
        if room.view.remove(&mut m.seen, nick) {
            self.changes.push(Change::Gone { room: from.room.into(), nick: nick.into() });
        }
        if let Some(known) = &mut m.known {
            known.remove(nick);
        }
        let silent = m.is_quiet();
        for client in &m.clients {
            // Who knows the occupant already is not told of those who are gone when it is let in.
            if silent && client.stays() && !m.knows_occupants(client) {
                continue;
            }
            out.push(Decision::Forward { resource: client.resource.clone(), edit: Edit::default() });
        }
    }

    /// Something came that may be the answer to the join. If nothing better comes soon, it is.
    #[allow(clippy::too_many_arguments)]
    fn may_be_in(
        &mut self,
        from: FromRoom,
        nick: &str,
        codes: &[u16],
        marked: bool,
        presence: &[u8],
        now: u64,
        out: &mut Vec<Decision>,
    ) {
        let Some(m) = self.membership_mut(from.account, from.room) else { return };
        m.repeat_again();
        // The answer to a join before a restart, or before a leave that was lost, tells what that to the next one does not tell.
        if m.note_news(codes) {
            out.push(Decision::Persist { account: from.account.into() });
        }
        if !marked && matches!(m.maybe, Some(Maybe::In { marked: true, .. })) {
            return;
        }
        m.maybe =
            Some(Maybe::In { nick: nick.into(), codes: codes.into(), marked, presence: presence.into() });
        let at = match (m.is_quiet(), m.other_ids) {
            (false, _) => now + SOON,
            (true, true) => now + SETTLE_TIMEOUT,
            // So far it had the join's.
            (true, false) => m.until,
        };
        if m.due > at {
            self.wake(from.account, from.room, at);
        }
    }

    /// What may be the answer to the join is taken for it.
    pub(crate) fn take_for_answer(&mut self, account: &str, room: &str, now: u64, out: &mut Vec<Decision>) {
        let Some(m) = self.membership_mut(account, room) else { return };
        match m.maybe.take() {
            Some(Maybe::In { nick, codes, presence, .. }) => {
                let answer =
                    Answer { nick: &nick, codes: &codes, presence: &presence, in_hand: false, sure: false };
                self.let_in(account, room, answer, now, out);
            }
            Some(Maybe::Refused { transient, presence }) => {
                self.turned_away(account, room, transient, Some(presence), now, out);
            }
            None => {}
        }
    }

    /// The account is in: its own presence came (XEP-0045 §7.2.3).
    fn let_in(&mut self, account: &str, name: &str, answer: Answer, now: u64, out: &mut Vec<Decision>) {
        let join_timeout = self.config(account).join_timeout;
        let Some(a) = self.accounts.get_mut(account) else { return };
        let (Some(m), Some(room)) = (a.rooms.get_mut(name), self.rooms.get_mut(name)) else { return };
        // Whoever waits has not been told of the others yet.
        let silent = m.is_quiet();
        m.phase = Phase::Joined;
        m.failures = 0;
        m.maybe = None;
        m.other_ids = !answer.sure;
        m.guessed = if answer.sure || !silent { 0 } else { now + join_timeout };
        m.repeat_again();
        m.repeats_until = now + REPEATING;
        m.late_until = now + SETTLE_TIMEOUT;
        m.trouble = None;
        m.retry = false;
        let restored = std::mem::take(&mut m.restored);
        // Clients are told of a leave that the room never confirmed before they are told that they are in.
        let old_nick = std::mem::replace(&mut m.nick, answer.nick.into());
        let own: Arc<[u8]> = answer.presence.into();
        let before = m.own.replace(own.clone());
        let was = m.entry.clone();
        if !restored {
            m.entry.clear(); // it says what it is now; but not all do to whom they have still
        }
        m.note_codes(answer.codes);
        // It may have been taken for somebody else's.
        room.not_another(name, m, answer.nick, &mut self.changes);
        room.doubt_no_more(name, &mut self.changes);
        if m.guessed == 0 {
            m.unconfirmed = 0;
        }
        m.started_over = false;
        m.clients.retain(|client| match &client.stage {
            Stage::Leaving { id } => {
                let stanza = build::unavailable(&at(name, &old_nick), None, &[110]).into();
                let edit = Edit { id: set_id(id.as_deref()), ..Edit::default() };
                let (account, resource) = (account.into(), client.resource.clone());
                out.push(Decision::Serve { account, resource, stanza, edit });
                false
            }
            _ => true,
        });
        if let Some(known) = &mut m.known {
            known.remove(&old_nick);
            known.remove(answer.nick);
            // Who of the others is gone is known when the last has come, before one's own presence (XEP-0045 §7.2.3). In some
            // rooms they come after it: see `settle`.
            let comparing = m.clients.iter().filter(|c| c.was_told() || m.never_in);
            m.comparing = comparing.map(|c| c.resource.clone()).collect();
            let complete = room.view.occupants(&m.seen).next().is_some();
            if complete || m.clients.iter().any(|c| !c.is_in()) {
                m.tell_gone(account, name, room, &mut self.changes, out);
            }
            if old_nick != m.nick {
                let renamed: Arc<[u8]> = build::renamed(&at(name, &old_nick), &m.nick).into();
                // Somebody else may have the old one by now.
                let successor = room.view.get(&m.seen, &old_nick).cloned();
                for client in m.clients.iter_mut().filter(|c| c.was_told()) {
                    client.asked = m.nick.clone();
                    for stanza in [Some(&renamed), successor.as_ref()].into_iter().flatten() {
                        out.push(Decision::Serve {
                            account: account.into(),
                            resource: client.resource.clone(),
                            stanza: stanza.clone(),
                            edit: Edit::default(),
                        });
                    }
                }
            }
            if before.as_deref() != Some(answer.presence) || was != m.entry || !m.untold.is_empty() {
                let mut news = std::mem::take(&mut m.untold);
                let mut told = false;
                for client in m.clients.iter().filter(|c| c.was_told()) {
                    m.serve_own(account, client, Id::Remove, &news, out);
                    told = true;
                    news.retain(|code| *code != 201);
                }
                if !told {
                    m.untold = news;
                }
            }
        }
        let first = !m.rejoined;
        for i in 0..m.clients.len() {
            let Stage::Waiting { id, request, .. } = &mut m.clients[i].stage else { continue };
            let id = id.take();
            // What the room sends now is what was asked for, if nobody asked for anything in particular.
            let in_full = first && !silent && m.asked_default && request.is_default();
            let held = (!in_full).then_some(*request);
            if silent {
                m.serve_occupants(account, &room.view, &m.clients[i], out);
            }
            let client = &m.clients[i];
            // The first one is told what nobody has been told, that the room is new included.
            let news = std::mem::take(&mut m.untold);
            let with = m.codes_for(client, &news);
            let edit = Edit { id: set_id(id.as_deref()), without: PERSONAL, with, ..Edit::default() };
            let resource = client.resource.clone();
            out.push(if answer.in_hand {
                Decision::Forward { resource, edit }
            } else {
                Decision::Serve { account: account.into(), resource, stanza: own.clone(), edit }
            });
            m.clients[i].stage = Stage::In { held };
            m.clients[i].has_subject = false;
            if held.is_none() {
                // Some rooms begin with it.
                m.serve_history(account, name, &m.clients[i], &Request::default(), out);
            }
        }
        m.never_in = false;
        if first {
            // Who asked for a part of the history gets that before.
            if !m.clients.iter().any(|c| matches!(c.stage, Stage::In { held: Some(_) })) {
                m.release(account, name, &mut self.changes, out);
            }
        }
        if m.ending && !answer.in_hand {
            // All that was to come has come since.
            m.settle(account, name, room, &mut self.changes, out);
        }
        m.answer_pam(account, name, Outcome::In(answer.nick.into()), out);
        out.push(Decision::Persist { account: account.into() });
        let settles = now + if m.ending || !m.held.is_empty() { SOON } else { SETTLE_TIMEOUT };
        self.wake(account, name, settles);
        self.show_latest(account, name, out);
        self.ask_for_nicks(account, name, out);
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

    /// The room says no, to a join, a nickname, or a presence of somebody whom it forgot.
    pub(crate) fn refused(
        &mut self,
        from: FromRoom,
        said: MucUser,
        presence: &[u8],
        now: u64,
        out: &mut Vec<Decision>,
    ) {
        let Some(m) = self.membership_mut(from.account, from.room) else { return };
        match m.phase {
            // An answer to something from before, or of a room that has ids of its own.
            Phase::Joining | Phase::Leaving if from.id.is_some_and(|id| id != m.join_id) => {
                if let Some(i) = m.renames.iter().position(|r| r.id.as_deref() == from.id) {
                    let rename = m.renames.remove(i);
                    out.push(Decision::Forward { resource: rename.resource, edit: Edit::default() });
                } else if m.phase == Phase::Joining && !m.is_quiet() && !m.retry && m.maybe.is_none() {
                    let transient = said.is_transient();
                    m.maybe = Some(Maybe::Refused { transient, presence: presence.into() });
                    if m.due > now + SETTLE_TIMEOUT {
                        self.wake(from.account, from.room, now + SETTLE_TIMEOUT);
                    }
                }
            }
            Phase::Joining if m.retry => {}
            // Of the room, and no answer to anything.
            Phase::Joining | Phase::Leaving if from.id.is_none() && from.nick.is_none_or(str::is_empty) => {}
            Phase::Joining => {
                self.turned_away(from.account, from.room, said.is_transient(), None, now, out);
            }
            Phase::Joined => {
                let rename = m.renames.iter().position(|r| match (&r.id, from.id) {
                    (Some(id), Some(this)) => **id == *this,
                    _ => from.nick == Some(&r.nick),
                });
                if let Some(i) = rename {
                    let rename = m.renames.remove(i);
                    out.push(Decision::Forward { resource: rename.resource, edit: Edit::default() });
                    if said.condition == Some("conflict") {
                        return; // it answers as one whom it knows
                    }
                } else if matches!(said.condition, Some("item-not-found" | "not-acceptable"))
                    || from.id == Some(&m.join_id)
                {
                    // The latter: it is in from a stay before, whose presence was taken for the answer to its join; the join
                    // itself failed, and so nobody has told who else is there.
                    self.rejoin(from.account, from.room, now, out);
                    return;
                } else if let Some((id, by)) = &m.changed_by
                    && from.id == Some(id)
                {
                    out.push(Decision::Forward { resource: by.clone(), edit: Edit::default() });
                }
                self.doubt(from.account, from.room, now, out);
            }
            Phase::Leaving => {
                // There is nobody to leave any more.
                for client in &m.clients {
                    if let Stage::Leaving { id } = &client.stage {
                        m.serve_left(from.account, from.room, client, set_id(id.as_deref()), &[110], out);
                    }
                }
                self.remove(from.account, from.room, out);
            }
            Phase::Away => {}
        }
    }

    /// The join failed. `error` is the room's, if it is not the stanza in hand.
    fn turned_away(
        &mut self,
        account: &str,
        room: &str,
        transient: bool,
        error: Option<Arc<[u8]>>,
        now: u64,
        out: &mut Vec<Decision>,
    ) {
        if transient && self.put_off(account, room, error.is_none(), now, out) {
            return;
        }
        let stays = self.stays(account, room, false, now);
        let Some(m) = self.membership_mut(account, room) else { return };
        for client in &m.clients {
            match &client.stage {
                Stage::Leaving { id } => {
                    m.serve_left(account, room, client, set_id(id.as_deref()), &[110], out);
                }
                Stage::Waiting { id, .. } => {
                    let from = Some(at(room, &client.asked));
                    let edit = Edit { from, id: set_id(id.as_deref()), ..Edit::default() };
                    let resource = client.resource.clone();
                    out.push(match &error {
                        None => Decision::Forward { resource, edit },
                        Some(error) => {
                            Decision::Serve { account: account.into(), resource, stanza: error.clone(), edit }
                        }
                    });
                }
                Stage::In { .. } => {}
            }
            if client.was_told() {
                m.serve_left(account, room, client, Id::Remove, &[110, 333], out);
            }
        }
        let outcome = if error.is_none() { Outcome::Refused } else { Outcome::Failed(SILENT) };
        m.answer_pam(account, room, outcome, out);
        let changed = m.bookmark_changed;
        if if transient { error.is_some() && !stays } else { error.is_some() || m.is_quiet() } {
            // It may be in from before, under another nickname, or be let in yet.
            m.clients.clear();
            self.depart(account, room, None, now, out);
        } else {
            self.give_up(account, room, transient, now, out);
        }
        if changed && !transient {
            self.follow(account, room, now, out);
        }
    }

    /// The account is out: kicked, banned, the room is gone, or it left.
    pub(crate) fn out_of_room(&mut self, from: FromRoom, said: MucUser, now: u64, out: &mut Vec<Decision>) {
        let join_timeout = self.config(from.account).join_timeout;
        let Some(a) = self.accounts.get_mut(from.account) else { return };
        let (Some(m), Some(room)) = (a.rooms.get_mut(from.room), self.rooms.get_mut(from.room)) else {
            return;
        };
        if m.phase == Phase::Away {
            return; // of a stay before
        }
        let before = match m.phase {
            // Joining again without its clients' knowing, the account may have been in still.
            Phase::Joining => m.is_quiet(),
            _ => false,
        };
        if before {
            // That was a stay before this join; what the room told until then holds no more.
            m.unconfirmed = m.unconfirmed.saturating_sub(1);
            m.maybe = None;
            m.entry.clear();
            m.untold.clear();
            if m.known.is_none() {
                m.forget_history();
            }
            room.forget_seen(from.room, m, &mut self.changes);
            m.started_over = true;
            m.clients.retain(|client| match &client.stage {
                Stage::Leaving { id } => {
                    let edit = Edit { id: set_id(id.as_deref()), ..Edit::default() };
                    out.push(Decision::Forward { resource: client.resource.clone(), edit });
                    false
                }
                _ => true,
            });
            return;
        }
        let thrown_out =
            said.destroyed || said.codes.iter().any(|c| matches!(c, 301 | 307 | 321 | 322 | 332 | 333));
        let guessed = m.phase == Phase::Joined && now < m.guessed;
        if guessed && m.unconfirmed > 0 && !thrown_out {
            // That was the stay before; what was taken for the answer to the join was of it.
            if m.known.is_none() {
                let known = room.view.occupants(&m.seen).map(|(n, p)| (n.into(), likeness(p))).collect();
                room.compare(m, known);
            }
            room.forget_seen(from.room, m, &mut self.changes);
            m.unconfirmed -= 1;
            m.started_over = true;
            m.phase = Phase::Joining;
            m.ping = None;
            m.doubt = false;
            m.settled = false;
            m.until = now + join_timeout;
            let until = m.until;
            self.wake(from.account, from.room, until);
            return;
        }
        let left = m.phase == Phase::Leaving;
        for client in &m.clients {
            let id = match &client.stage {
                Stage::Leaving { id } | Stage::Waiting { id, .. } => set_id(id.as_deref()),
                Stage::In { .. } => Id::Remove,
            };
            // Some rooms do not say whose it is.
            let with = if said.codes.contains(&110) { Vec::new() } else { vec![110] };
            out.push(Decision::Forward {
                resource: client.resource.clone(),
                edit: Edit { id, with, ..Edit::default() },
            });
        }
        if guessed {
            // The answer to the join may be to come.
            m.clients.clear();
            self.depart(from.account, from.room, None, now, out);
            return;
        }
        if left && from.id != Some(&m.join_id) {
            // Not the answer to that leave: something else crossed it, and more may follow.
            m.clients.clear();
            m.lingering = true;
            self.wake(from.account, from.room, now + LINGER);
            out.push(Decision::Persist { account: from.account.into() });
            return;
        }
        m.untold.clear(); // it will be told anew if it is so
        let technical = !left && !said.destroyed && said.codes.iter().any(|c| matches!(c, 332 | 333));
        self.give_up(from.account, from.room, technical, now, out);
    }

    /// The account is not in the room and its clients know. If it should be there and the room may come back, it will
    /// try again.
    pub(crate) fn give_up(
        &mut self,
        account: &str,
        room: &str,
        technical: bool,
        now: u64,
        out: &mut Vec<Decision>,
    ) {
        if !technical || !self.stays(account, room, false, now) {
            self.remove(account, room, out);
            return;
        }
        let Some(a) = self.accounts.get_mut(account) else { return };
        let Some(m) = a.rooms.get_mut(room) else { return };
        if let Some(r) = self.rooms.get_mut(room) {
            r.forget_seen(room, m, &mut self.changes);
            r.compared(room, m, &mut self.changes);
        }
        m.clients.clear();
        m.own = None;
        m.phase = Phase::Away;
        m.entry.clear();
        m.expect_repeats();
        m.shown = build::unattended(a.online).into();
        m.renames.clear();
        m.trouble = None;
        m.failures += 1;
        let pause = 5u64 << m.failures.min(9);
        out.push(Decision::Persist { account: account.into() });
        self.wake(account, room, now + pause);
    }

    pub(crate) fn remove(&mut self, account: &str, room: &str, out: &mut Vec<Decision>) {
        let Some(a) = self.accounts.get_mut(account) else { return };
        let Some(mut m) = a.rooms.remove(room) else { return };
        a.requests.out_of(room);
        if a.is_empty() {
            self.accounts.remove(account);
        }
        if let Some(r) = self.rooms.get_mut(room) {
            r.accounts -= 1;
            if r.accounts == 0 {
                self.changes.push(Change::Forgotten { room: room.into() });
                self.rooms.remove(room);
            } else {
                r.forget_seen(room, &mut m, &mut self.changes);
                r.compared(room, &mut m, &mut self.changes);
            }
        }
        out.push(Decision::Persist { account: account.into() });
    }

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

    /// A message that is no groupchat: a private one, a voice request, or an error. Nobody gets it if no client is in
    /// the room; [`Accounts::is_attended`] says so before.
    pub fn message_from_room(
        &mut self,
        from: FromRoom,
        kind: Message,
        condition: Option<&str>,
        now: u64,
    ) -> Option<Vec<Decision>> {
        let mut out = Vec::new();
        let m = self.membership_mut(from.account, from.room)?;
        m.heard = now;
        let everybody = m.clients.iter().filter(|c| c.is_in());
        if kind != Message::Error {
            for client in everybody {
                out.push(Decision::Forward { resource: client.resource.clone(), edit: Edit::default() });
            }
            return Some(out);
        }
        let sender = m.sent.iter().rev().find(|(id, _)| from.id == Some(id)).map(|(_, by)| by.clone());
        let sender = sender.filter(|by| m.is_in(by)).or_else(|| {
            let mut everybody = everybody;
            let first = everybody.next().map(|c| c.resource.clone());
            first.filter(|_| everybody.next().is_none())
        });
        if let Some(resource) = sender {
            out.push(Decision::Forward { resource, edit: Edit::default() });
        }
        let doubtful =
            condition.is_some_and(|c| c == "not-acceptable" || (from.nick.is_none() && is_about_the_way(c)));
        if doubtful && m.phase == Phase::Joined {
            // Look first: it may have been about the one whom it was for.
            self.doubt(from.account, from.room, now, &mut out);
        }
        Some(out)
    }

    /// Whether the account is in the room, and whether a client of it is.
    pub fn is_attended(&self, account: &str, room: &str) -> Option<bool> {
        self.membership(account, room).map(|m| m.clients.iter().any(Client::is_in))
    }

    /// An iq from a room or an occupant. `ping` says whether it asks for a ping, `for_account` whether it asks for
    /// something that accounts answer, not clients, and `asks` which exchange it belongs to.
    #[allow(clippy::too_many_arguments)]
    pub fn iq_from_room(
        &mut self,
        from: FromRoom,
        kind: Iq,
        ping: bool,
        for_account: bool,
        condition: Option<&str>,
        asks: Asks,
        now: u64,
    ) -> Option<Vec<Decision>> {
        let mut out = Vec::new();
        let id = from.id?;
        if kind != Iq::Request {
            let requests = &mut self.accounts.get_mut(from.account)?.requests;
            if *requests.asked_mut(id)?.room != *from.room {
                return None;
            }
            let asked = requests.answered(id)?;
            let m = self.membership_mut(from.account, from.room);
            if let Some(m) = m {
                m.heard = now;
            }
            if let Some(resource) = asked.resource {
                let came_from = from.nick.map_or_else(|| from.room.to_owned(), |nick| at(from.room, nick));
                let from = (came_from != asked.to).then_some(asked.to);
                out.push(Decision::Forward {
                    resource,
                    edit: Edit { from, id: Id::Set(asked.id.into()), ..Edit::default() },
                });
            }
            if asked.ping {
                self.pinged(from, kind, condition, now, &mut out);
            }
            return Some(out);
        }
        let m = self.membership_mut(from.account, from.room)?;
        m.heard = now;
        // What the room itself asks is the account's to answer, like some of what occupants ask.
        if for_account || from.nick.is_none() {
            return None;
        }
        // The room looks whether the account is still there.
        if ping && from.nick == Some(&m.nick) {
            return Some(vec![Decision::Answer]);
        }
        let sender = from.nick.map_or_else(|| from.room.to_owned(), |nick| at(from.room, nick));
        let a = self.accounts.get_mut(from.account)?;
        let m = a.rooms.get(from.room)?;
        let begun = a.requests.client_for(&sender, asks, now, |resource| m.is_in(resource));
        let resource = match begun {
            Some(resource) => resource,
            None => {
                m.clients.iter().filter(|c| c.is_in()).max_by_key(|c| c.turn).map(|c| c.resource.clone())?
            }
        };
        if a.requests.give(&sender, id, &resource, asks, now) {
            out.push(Decision::Forward { resource, edit: Edit::default() });
        } else {
            let error = build::iq_error(from.account, BUSY);
            let stanza = build::addressed(&error, &[("to", &sender), ("id", id)], b"");
            out.push(Decision::Send { stanza });
        }
        Some(out)
    }
}
