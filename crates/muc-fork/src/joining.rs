//! A client's presence: joining, entering, changing, leaving; and the account's own joins and leaves.

use crate::accounts::Accounts;
use crate::address::at;
use crate::build;
use crate::conditions::{NOT_IN, TOO_MANY};
use crate::decision::Decision;
use crate::history::Request;
use crate::input::{FromClient, Join, Presence};
use crate::membership::{Client, Membership, Phase, Stage};
use crate::room::Room;
use crate::serving::set_id;
use crate::view::likeness;
use std::sync::Arc;

/// How many a room is asked for if a client asks for something in particular.
pub(crate) const WIDE_HISTORY: usize = 100;

impl Accounts {
    /// A client's presence to a room, or to a nickname in it. `join` is there if it carries a MUC `<x/>`; `payload` is
    /// the presence without that, and without address, `id` and `type`.
    pub fn presence_from_client(
        &mut self,
        from: FromClient,
        kind: Presence,
        join: Option<Join>,
        payload: &[u8],
        now: u64,
    ) -> Option<Vec<Decision>> {
        let mut out = Vec::new();
        let phase = self.membership(from.account, from.room).map(|m| m.phase);
        let known =
            self.membership(from.account, from.room).is_some_and(|m| m.client(from.resource).is_some());
        match kind {
            Presence::Error => phase.map(|_| out),
            Presence::Unavailable => {
                phase?;
                if known {
                    self.leave(from, payload, now, &mut out);
                }
                Some(out)
            }
            Presence::Available => {
                let Some(nick) = from.nick else {
                    // Some clients send updates to the room itself.
                    let own = self.membership(from.account, from.room).filter(|_| known)?.nick.clone();
                    let from = FromClient { nick: Some(&own), ..from };
                    self.update(from, &own, payload, &mut out);
                    return Some(out);
                };
                match (phase, join) {
                    (None, None) => None,
                    (None | Some(Phase::Leaving | Phase::Away), Some(join)) => {
                        self.join(from, nick, join, payload, now, &mut out);
                        Some(out)
                    }
                    (Some(Phase::Leaving | Phase::Away), None) => {
                        out.push(Decision::Refuse { condition: NOT_IN });
                        Some(out)
                    }
                    (Some(_), join) => {
                        let m = self.membership(from.account, from.room)?;
                        let same =
                            m.client(from.resource).is_some_and(|c| *c.asked == *nick) || *m.nick == *nick;
                        let inside = m.is_in(from.resource);
                        match join {
                            None if !known => out.push(Decision::Refuse { condition: NOT_IN }),
                            None if !inside && same => self.update(from, nick, payload, &mut out),
                            Some(join) if !inside || same => self.enter(from, nick, join, payload, &mut out),
                            _ if same => self.update(from, nick, payload, &mut out),
                            _ => self.rename(from, nick, payload, &mut out),
                        }
                        Some(out)
                    }
                }
            }
        }
    }

    /// The account's first client.
    pub(crate) fn join(
        &mut self,
        from: FromClient,
        nick: &str,
        join: Join,
        payload: &[u8],
        now: u64,
        out: &mut Vec<Decision>,
    ) {
        let max = self.config(from.account).max_rooms;
        let account = self.accounts.entry(from.account.into()).or_default();
        account.online = true;
        let in_rooms = account.rooms.values().filter(|m| m.phase != Phase::Leaving).count();
        let before = account.rooms.get(from.room).map(|m| m.phase);
        if in_rooms >= max && before != Some(Phase::Away) {
            out.push(Decision::Refuse { condition: TOO_MANY });
            return;
        }
        self.turn += 1;
        let shown: Arc<[u8]> = payload.into();
        let mut m = Membership::new(nick, join.password, shown.clone(), now);
        if let Some(mut old) = account.rooms.remove(from.room) {
            if let Some(room) = self.rooms.get_mut(from.room) {
                room.forget_seen(from.room, &mut old, &mut self.changes);
                room.compared(from.room, &mut old, &mut self.changes);
                room.accounts -= 1;
            }
            m.unconfirmed = old.unconfirmed;
            m.other_ids = old.other_ids;
            if old.phase == Phase::Away {
                m.untold = std::mem::take(&mut old.untold); // the room may have had the account all the while
            }
            if old.phase == Phase::Leaving {
                m.unconfirmed = old.unconfirmed + 1;
                if let Some(client) = old.client(from.resource)
                    && let Stage::Leaving { id } = &client.stage
                {
                    old.serve_left(from.account, from.room, client, set_id(id.as_deref()), &[110], out);
                }
                m.clients = std::mem::take(&mut old.clients);
                m.clients.retain(|c| &*c.resource != from.resource);
            }
        }
        m.clients.push(Client {
            resource: from.resource.into(),
            asked: nick.into(),
            presence: shown,
            turn: self.turn,
            stage: Stage::Waiting { id: from.id.map(Into::into), request: join.history, was_in: false },
            has_subject: false,
            late: None,
            errors: 0,
        });
        self.begin(from.account, from.room, m, &join.history, now, out);
    }

    /// Puts a membership where it belongs and asks the room to let the account in.
    pub(crate) fn begin(
        &mut self,
        account: &str,
        room: &str,
        mut m: Membership,
        request: &Request,
        now: u64,
        out: &mut Vec<Decision>,
    ) {
        // A narrow request is answered from a wide answer, so that there is something for those who come later.
        m.asked_default = request.is_default() || request.wants_none();
        let max =
            if m.asked_default { None } else { Some(WIDE_HISTORY.max(request.maxstanzas.unwrap_or(0))) };
        m.phase = Phase::Joining;
        m.settled = false;
        m.ending = false;
        m.maybe = None;
        m.guessed = 0;
        m.heard = now;
        m.ping = None;
        m.retry = false;
        m.doubt = false;
        m.bookmark_changed = false;
        let id = self.new_id();
        m.join_id = id.clone();
        let x = build::join_x(m.password.as_deref(), max);
        let to = at(room, &m.nick);
        let stanza = build::addressed(&m.shown, &[("from", account), ("to", &to), ("id", &id)], &x);
        let timeout = self.config(account).join_timeout;
        m.until = now + timeout;
        let memory = &self.memory;
        self.rooms.entry(room.into()).or_insert_with(|| Room::new(memory)).accounts += 1;
        let a = self.accounts.entry(account.into()).or_default();
        m.seen.count(&a.memory, memory);
        m.weight.move_to(&a.memory);
        a.rooms.insert(room.into(), m);
        self.wake(account, room, now + timeout);
        out.push(Decision::Persist { account: account.into() });
        out.push(Decision::Send { stanza });
    }

    /// The account joins again without its clients' knowing: it was forgotten, or the server started anew.
    pub(crate) fn rejoin(&mut self, account: &str, room: &str, now: u64, out: &mut Vec<Decision>) {
        let Some(a) = self.accounts.get_mut(account) else { return };
        let Some(mut m) = a.rooms.remove(room) else { return };
        if let Some(r) = self.rooms.get_mut(room) {
            if m.known.is_none() {
                let known = r.view.occupants(&m.seen).map(|(n, p)| (n.into(), likeness(p))).collect();
                r.compare(&mut m, known);
            }
            r.forget_seen(room, &mut m, &mut self.changes);
            r.accounts -= 1;
        }
        m.expect_repeats();
        for rename in &mut m.renames {
            rename.waits = true;
        }
        m.changed_by = None;
        let wide = Request { maxstanzas: Some(WIDE_HISTORY), ..Request::default() };
        self.begin(account, room, m, &wide, now, out);
    }

    /// Another client of an account that is in, or about to be; or the same one, which lost track.
    pub(crate) fn enter(
        &mut self,
        from: FromClient,
        nick: &str,
        join: Join,
        payload: &[u8],
        out: &mut Vec<Decision>,
    ) {
        self.turn += 1;
        let turn = self.turn;
        let Some(a) = self.accounts.get_mut(from.account) else { return };
        a.online = true;
        let (Some(m), Some(room)) = (a.rooms.get_mut(from.room), self.rooms.get_mut(from.room)) else {
            return;
        };
        if m.phase == Phase::Joined {
            // What the others know, it does not.
            m.tell_gone(from.account, from.room, room, &mut self.changes, out);
        }
        // Between two nicknames it is told of the others at once.
        let was_in = m.phase == Phase::Joined || m.client(from.resource).is_some_and(Client::was_told);
        if let Some(client) = m.client(from.resource)
            && let Stage::Leaving { id } = &client.stage
        {
            m.serve_left(from.account, from.room, client, set_id(id.as_deref()), &[110], out);
        }
        m.clients.retain(|c| &*c.resource != from.resource);
        let presence: Arc<[u8]> = payload.into();
        // Between two nicknames, too, there is no presence of the account to serve.
        let waits = m.phase == Phase::Joining || m.own.is_none();
        let id = from.id.map(Into::into);
        let stage = if waits {
            Stage::Waiting { id, request: join.history, was_in }
        } else {
            Stage::In { held: (!m.settled).then_some(join.history) }
        };
        let client = Client {
            resource: from.resource.into(),
            asked: nick.into(),
            presence,
            turn,
            has_subject: !waits && m.settled,
            stage,
            late: None,
            errors: 0,
        };
        if waits {
            if !m.is_quiet() {
                m.serve_occupants(from.account, &room.view, &client, out);
            }
            m.clients.push(client);
            out.push(Decision::Persist { account: from.account.into() });
            if m.retry {
                self.wake(from.account, from.room, 0); // do not let it wait
            }
            return;
        }
        m.serve_occupants(from.account, &room.view, &client, out);
        let news = std::mem::take(&mut m.untold);
        m.serve_own(from.account, &client, set_id(from.id), &news, out);
        if m.settled {
            m.serve_history(from.account, from.room, &client, &join.history, out);
            m.serve_subject(from.account, from.room, &client, out);
            m.missed = 0;
        }
        m.clients.push(client);
        out.push(Decision::Persist { account: from.account.into() });
        self.show_latest(from.account, from.room, out);
    }

    /// Tells the room what the account shows now, if that changed.
    pub(crate) fn show_latest(&mut self, account: &str, room: &str, out: &mut Vec<Decision>) {
        let Some(a) = self.accounts.get_mut(account) else { return };
        let Some(m) = a.rooms.get_mut(room) else { return };
        if m.phase != Phase::Joined {
            return;
        }
        let latest = match m.latest() {
            Some(client) => client.presence.clone(),
            None => build::unattended(a.online).into(),
        };
        if latest != m.shown {
            m.shown = latest.clone();
            m.changed_by = None;
            let to = at(room, &m.nick);
            let id = self.new_id();
            let address = [("from", account), ("to", to.as_str()), ("id", id.as_str())];
            out.push(Decision::Send { stanza: build::addressed(&latest, &address, b"") });
        }
    }
}
