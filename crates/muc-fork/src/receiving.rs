//! What rooms send to accounts.

use crate::build;
use crate::decision::{Decision, Edit, Id, Outcome};
use crate::fork::{
    Change, ENTRY, Fork, KEPT, KEPT_AWAY, KEPT_BYTES, LINGER, PERSONAL, RECENT, RECENT_BYTES, SETTLE_TIMEOUT,
    at, set_id,
};
use crate::history::{self, Said};
use crate::input::{Asks, FromRoom, Iq, Message, Presence, Said as RoomSaid, Talk, is_about_the_way};
use crate::membership::{Client, Phase, Stage};
use crate::memory::Full;
use crate::requests::BUSY;
use crate::view::likeness;
use std::sync::Arc;

impl Fork {
    /// A room's presence. `presence` are its bytes without `to`, and without `id` if it is the account's own.
    pub fn presence_from_room(
        &mut self,
        from: FromRoom,
        kind: Presence,
        said: RoomSaid,
        presence: &[u8],
        now: u64,
    ) -> Option<Vec<Decision>> {
        let mut out = Vec::new();
        let m = self.membership_mut(from.account, from.room)?;
        m.heard = now;
        match kind {
            Presence::Error => {
                if self.probe_refused(from, &mut out) {
                    if said.condition == Some("not-acceptable") {
                        self.ping(from.account, from.room, now, &mut out);
                    }
                } else {
                    self.refused(from, said, now, &mut out);
                }
            }
            Presence::Available => {
                // A room may have a presence of its own (ejabberd's do); it is kept as that of an occupant without a name.
                let nick = from.nick.unwrap_or("");
                let own = said.codes.contains(&110) || (m.phase == Phase::Joined && *m.nick == *nick);
                if own
                    && m.phase == Phase::Joining
                    && m.is_quiet()
                    && from.id.is_some_and(|id| id != m.join_id)
                {
                    return Some(out); // of the stay that is ending
                }
                match (m.phase, own) {
                    (Phase::Joining, true) => {
                        self.let_in(from, nick, said, presence, now + SETTLE_TIMEOUT, &mut out)
                    }
                    (Phase::Joining | Phase::Joined | Phase::Leaving, false) => {
                        self.occupant(from, nick, presence, &mut out);
                    }
                    (Phase::Joined, true) => {
                        if *m.nick != *nick {
                            m.nick = nick.into();
                            out.push(Decision::Persist { account: from.account.into() });
                        }
                        m.own = Some(presence.into());
                        for client in m.clients.iter().filter(|c| c.is_in()) {
                            let id = match (&m.changed_by, from.id) {
                                (Some((id, by)), Some(this)) if **id == *this && *by == client.resource => {
                                    Id::Keep
                                }
                                _ => Id::Remove,
                            };
                            let edit = Edit { id, ..Edit::default() };
                            out.push(Decision::Forward { resource: client.resource.clone(), edit });
                        }
                        for i in 0..m.clients.len() {
                            m.let_client_in(from.account, from.room, i, &mut out);
                        }
                    }
                    _ => {}
                }
            }
            Presence::Unavailable => {
                let own = said.codes.contains(&110) || from.nick == Some(&m.nick);
                if !own {
                    self.occupant_gone(from, from.nick.unwrap_or(""), &mut out);
                    let joined =
                        self.membership(from.account, from.room).is_some_and(|m| m.phase == Phase::Joined);
                    if from.nick.is_none_or(str::is_empty) && joined {
                        // The room itself is not there any more, it says.
                        self.doubt(from.account, from.room, now, &mut out);
                    }
                } else if said.codes.contains(&303) {
                    let old = m.nick.clone();
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
        let known = m.known.as_ref().and_then(|known| known.get(nick));
        let news = known != Some(&likeness(presence));
        let silent = m.is_quiet();
        if let Some(known) = &mut m.known {
            if kept {
                known.insert(nick.into(), likeness(presence));
            } else {
                known.remove(nick);
            }
        }
        for client in &m.clients {
            let gets = match client.stage {
                Stage::In { .. } => news,
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

    /// The account is in: its own presence came (XEP-0045 §7.2.3, the last of all).
    pub(crate) fn let_in(
        &mut self,
        from: FromRoom,
        nick: &str,
        said: RoomSaid,
        presence: &[u8],
        due: u64,
        out: &mut Vec<Decision>,
    ) {
        let Some(a) = self.accounts.get_mut(from.account) else { return };
        let (Some(m), Some(room)) = (a.rooms.get_mut(from.room), self.rooms.get_mut(from.room)) else {
            return;
        };
        m.phase = Phase::Joined;
        m.failures = 0;
        m.trouble = None;
        m.retry = false;
        m.restored = false;
        // Clients are told of a leave that the room never confirmed before they are told that they are in.
        let old_nick = std::mem::replace(&mut m.nick, nick.into());
        let before = m.own.replace(presence.into());
        m.entry = said.codes.iter().copied().filter(|c| ENTRY.contains(c)).collect();
        let known = room.compared(from.room, m, &mut self.changes);
        room.doubt_no_more(from.room, &mut self.changes);
        // Whoever waits has not been told of the others yet.
        let silent = known.is_some() || std::mem::take(&mut m.unconfirmed) > 0 || m.started_over;
        m.started_over = false;
        m.clients.retain(|client| match &client.stage {
            Stage::Leaving { id } => {
                let stanza = build::unavailable(&at(from.room, &old_nick), None, &[110]).into();
                let edit = Edit { id: set_id(id.as_deref()), ..Edit::default() };
                let (account, resource) = (from.account.into(), client.resource.clone());
                out.push(Decision::Serve { account, resource, stanza, edit });
                false
            }
            _ => true,
        });
        if let Some(known) = known {
            let mut gone: Vec<_> = known
                .keys()
                .filter(|nick| {
                    let ours = ***nick == *old_nick || ***nick == *m.nick;
                    !ours && !nick.is_empty() && room.view.get(&m.seen, nick).is_none()
                })
                .collect();
            gone.sort();
            for nick in gone {
                let stanza: Arc<[u8]> = build::unavailable(&at(from.room, nick), None, &[]).into();
                for client in m.clients.iter().filter(|c| m.knows_occupants(c)) {
                    out.push(Decision::Serve {
                        account: from.account.into(),
                        resource: client.resource.clone(),
                        stanza: stanza.clone(),
                        edit: Edit::default(),
                    });
                }
            }
            if old_nick != m.nick {
                let renamed: Arc<[u8]> = build::renamed(&at(from.room, &old_nick), &m.nick).into();
                // Somebody else may have the old one by now.
                let successor = room.view.get(&m.seen, &old_nick).cloned();
                for client in m.clients.iter_mut().filter(|c| c.was_told()) {
                    client.asked = m.nick.clone();
                    for stanza in [Some(&renamed), successor.as_ref()].into_iter().flatten() {
                        out.push(Decision::Serve {
                            account: from.account.into(),
                            resource: client.resource.clone(),
                            stanza: stanza.clone(),
                            edit: Edit::default(),
                        });
                    }
                }
            }
            if before.as_deref() != Some(presence) {
                for client in m.clients.iter().filter(|c| c.was_told()) {
                    m.serve_own(from.account, client, Id::Remove, out);
                }
            }
        }
        let mut created = said.codes.contains(&201);
        for i in 0..m.clients.len() {
            let Stage::Waiting { id, request, .. } = &mut m.clients[i].stage else { continue };
            let id = id.take();
            // What the room sends now is what was asked for, if nobody asked for anything in particular.
            let held = (silent || !m.asked_default || !request.is_default()).then_some(*request);
            if silent {
                m.serve_occupants(from.account, &room.view, &m.clients[i], out);
            }
            let client = &m.clients[i];
            let mut with = vec![110];
            with.extend(&m.entry);
            if client.asked != m.nick {
                with.push(210);
            }
            // The first one's join created it.
            let without: &'static [u16] = if std::mem::take(&mut created) { &[210] } else { PERSONAL };
            let edit = Edit { id: set_id(id.as_deref()), without, with, ..Edit::default() };
            out.push(Decision::Forward { resource: client.resource.clone(), edit });
            m.clients[i].stage = Stage::In { held };
        }
        m.never_in = false;
        m.answer_pam(from.account, from.room, Outcome::In(nick.into()), out);
        out.push(Decision::Persist { account: from.account.into() });
        self.wake(from.account, from.room, due);
        self.show_latest(from.account, from.room, out);
        self.ask_for_nicks(from.account, from.room, out);
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
    pub(crate) fn refused(&mut self, from: FromRoom, said: RoomSaid, now: u64, out: &mut Vec<Decision>) {
        let Some(m) = self.membership_mut(from.account, from.room) else { return };
        match m.phase {
            // An answer to something from before.
            Phase::Joining | Phase::Leaving if from.id.is_some_and(|id| id != m.join_id) => {
                if let Some(i) = m.renames.iter().position(|r| r.id.as_deref() == from.id) {
                    let rename = m.renames.remove(i);
                    out.push(Decision::Forward { resource: rename.resource, edit: Edit::default() });
                }
            }
            Phase::Joining if m.retry => {}
            // Of the room, and no answer to anything.
            Phase::Joining | Phase::Leaving if from.id.is_none() && from.nick.is_none_or(str::is_empty) => {}
            Phase::Joining => {
                let unreachable = said.is_transient();
                if unreachable && self.put_off(from.account, from.room, true, now, out) {
                    return;
                }
                let Some(m) = self.membership_mut(from.account, from.room) else { return };
                for client in &m.clients {
                    match &client.stage {
                        Stage::Leaving { id } => {
                            m.serve_left(from.account, from.room, client, set_id(id.as_deref()), &[110], out);
                        }
                        Stage::Waiting { id, .. } => {
                            let edit = Edit {
                                from: Some(at(from.room, &client.asked)),
                                id: set_id(id.as_deref()),
                                ..Edit::default()
                            };
                            out.push(Decision::Forward { resource: client.resource.clone(), edit });
                        }
                        Stage::In { .. } => {}
                    }
                    if client.was_told() {
                        m.serve_left(from.account, from.room, client, Id::Remove, &[110, 333], out);
                    }
                }
                m.answer_pam(from.account, from.room, Outcome::Refused, out);
                let changed = m.bookmark_changed;
                if m.is_quiet() && !unreachable {
                    // It may be in from before, under another nickname.
                    m.clients.clear();
                    self.depart(from.account, from.room, None, now, out);
                } else {
                    self.give_up(from.account, from.room, unreachable, now, out);
                }
                if changed && !unreachable {
                    self.follow(from.account, from.room, now, out);
                }
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
                } else if matches!(said.condition, Some("item-not-found" | "not-acceptable")) {
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

    /// The account is out: kicked, banned, the room is gone, or it left.
    pub(crate) fn out_of_room(&mut self, from: FromRoom, said: RoomSaid, now: u64, out: &mut Vec<Decision>) {
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
        let left = m.phase == Phase::Leaving;
        for client in &m.clients {
            let id = match &client.stage {
                Stage::Leaving { id } | Stage::Waiting { id, .. } => set_id(id.as_deref()),
                Stage::In { .. } => Id::Remove,
            };
            out.push(Decision::Forward {
                resource: client.resource.clone(),
                edit: Edit { id, ..Edit::default() },
            });
        }
        if left && from.id != Some(&m.join_id) {
            // Not the answer to that leave: something else crossed it, and more may follow.
            m.clients.clear();
            m.lingering = true;
            self.wake(from.account, from.room, now + LINGER);
            out.push(Decision::Persist { account: from.account.into() });
            return;
        }
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

    /// A groupchat message. `stanza` are its bytes without `to`, `body` its text, `stamp` the time in the room's own
    /// `<delay/>`. Calls `to` for each client that gets a copy of the stanza in hand, after the decisions that are
    /// returned.
    #[allow(clippy::too_many_arguments)]
    pub fn groupchat(
        &mut self,
        from: FromRoom,
        talk: Talk,
        stanza: &[u8],
        body: &[u8],
        stamp: Option<u64>,
        now: u64,
        mut to: impl FnMut(&str),
    ) -> Option<Vec<Decision>> {
        let mut out = Vec::new();
        let a = self.accounts.get_mut(from.account)?;
        let m = a.rooms.get_mut(from.room)?;
        let room = self.rooms.get_mut(from.room)?;
        m.heard = now;
        let (account, memory) = (&a.memory, &self.memory);
        while (account.used() > self.limits.account || memory.used() > self.limits.server)
            && m.forget_oldest()
        {}
        let said_at = stamp.unwrap_or(now.saturating_add_signed(self.wall_ahead));
        if m.phase == Phase::Away {
            return Some(out);
        }
        if m.phase == Phase::Joining && m.known.is_none() {
            // Of the stay that is ending; the join will bring it again.
            for client in m.clients.iter().filter(|c| !c.stays()) {
                to(&client.resource);
            }
            return Some(out);
        }
        let before = stamp.is_some() && talk != Talk::Subject;
        let joining = !m.settled && m.phase == Phase::Joined;
        let repeated = joining && before;
        let who = from.nick.unwrap_or("");
        if talk == Talk::Passing {
            for client in m.clients.iter().filter(|c| c.is_in()) {
                to(&client.resource);
            }
            return Some(out);
        }
        let key = history::key(who, from.id, body);
        let repeated_to_us = before && (m.settled || m.rejoined) && m.has_said(key);
        if repeated_to_us && (m.settled || m.history.iter().chain(&m.held).any(|s| s.key == key)) {
            return Some(out);
        }
        let same = room.recent.iter().rev().find(|s| *s.stanza == *stanza);
        let said = match same {
            Some(said) => said.clone(),
            None => {
                let said = Arc::new(Said {
                    stanza: stanza.into(),
                    at: said_at,
                    stamped: stamp.is_some(),
                    key,
                    weight: Said::weigh(&self.memory, stanza.len()),
                });
                room.recent.push_back(said.clone());
                let mut bytes: usize = room.recent.iter().map(|s| s.stanza.len()).sum();
                while (room.recent.len() > RECENT || bytes > RECENT_BYTES)
                    && let Some(old) = room.recent.pop_front()
                {
                    bytes -= old.stanza.len();
                }
                self.changes.push(Change::Said { room: from.room.into(), key });
                said
            }
        };
        if repeated_to_us {
            // Those who are in have it from before the restart; it is for those who join later.
            m.given += 1;
            m.keep(said, KEPT, KEPT_BYTES);
            return Some(out);
        }
        if m.phase == Phase::Joining && talk == Talk::Said {
            if m.can_hold(said.stanza.len()) {
                m.held.push(said);
            } else {
                // Out of its order rather than not at all.
                for client in m.clients.iter().filter(|c| c.is_in()) {
                    to(&client.resource);
                }
            }
            return Some(out);
        }
        if talk == Talk::Subject {
            m.subject = Some(said);
            if m.phase == Phase::Joined {
                m.settle(from.account, from.room, false, &mut out);
            }
        } else if repeated {
            m.given += 1;
            let used = m.clients.iter().any(Client::is_in);
            m.keep(said, if used { KEPT } else { KEPT_AWAY }, KEPT_BYTES);
            for client in &m.clients {
                if client.stage == (Stage::In { held: None }) {
                    to(&client.resource);
                }
            }
            return Some(out);
        } else {
            // Something that was said just now: what was said before is complete.
            if m.phase == Phase::Joined {
                m.settle(from.account, from.room, true, &mut out);
            }
            let used = m.clients.iter().any(Client::is_in);
            m.keep(said, if used { KEPT } else { KEPT_AWAY }, KEPT_BYTES);
            m.missed = if used { 0 } else { m.missed + 1 };
        }
        for client in m.clients.iter().filter(|c| c.is_in() || !c.stays()) {
            to(&client.resource);
        }
        Some(out)
    }

    /// Whether a groupchat message from a room is for this account, and was not there before: `key` as
    /// [`history::key`], `stamp` as in [`Fork::groupchat`].
    pub fn is_new(&self, account: &str, room: &str, key: u64, stamped: bool) -> bool {
        self.membership(account, room)
            .is_some_and(|m| m.phase != Phase::Away && !(stamped && (!m.rejoined || m.has_said(key))))
    }

    /// A message that is no groupchat: a private one, a voice request, or an error. Nobody gets it if no client is in
    /// the room; [`Fork::is_attended`] says so before.
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
