//! What clients send to rooms they are in, beside presence; and clients that are gone.

use crate::accounts::{ANSWER_TIMEOUT, Accounts, BROKEN, CLIENT_GONE, GONE, LEAVE_TIMEOUT, at, set_id};
use crate::build;
use crate::decision::{Decision, Edit, Id};
use crate::input::{Asks, FromClient, Iq, Message};
use crate::membership::{Membership, Phase, Rename, Stage};
use crate::requests::{Asked, BUSY};
use std::sync::Arc;

impl Accounts {
    pub(crate) fn update(&mut self, from: FromClient, nick: &str, payload: &[u8], out: &mut Vec<Decision>) {
        // An answer without an id could be to anything.
        let id = if from.id.is_some() { Id::Keep } else { Id::Set(self.new_id()) };
        self.turn += 1;
        let turn = self.turn;
        let Some(m) = self.membership_mut(from.account, from.room) else { return };
        let presence: Arc<[u8]> = payload.into();
        let phase = m.phase;
        let Some(client) = m.client_mut(from.resource) else { return };
        client.presence = presence.clone();
        client.turn = turn;
        client.errors = 0;
        if client.is_in() {
            client.asked = nick.into();
        }
        m.shown = presence;
        m.changed_by = from.id.map(|id| (id.into(), from.resource.into()));
        if phase == Phase::Joined {
            out.push(Decision::ToRoom { to: at(from.room, &m.nick), id });
        }
    }

    pub(crate) fn rename(&mut self, from: FromClient, nick: &str, payload: &[u8], out: &mut Vec<Decision>) {
        // An answer without an id could be to anything.
        let id = if from.id.is_some() { Id::Keep } else { Id::Set(self.new_id()) };
        self.turn += 1;
        let turn = self.turn;
        let Some(m) = self.membership_mut(from.account, from.room) else { return };
        let presence: Arc<[u8]> = payload.into();
        let phase = m.phase;
        let Some(client) = m.client_mut(from.resource) else { return };
        client.presence = presence.clone();
        client.turn = turn;
        m.shown = presence;
        m.changed_by = from.id.map(|id| (id.into(), from.resource.into()));
        m.renames.retain(|r| &*r.resource != from.resource);
        m.renames.push(Rename {
            resource: from.resource.into(),
            id: from.id.map(Into::into),
            nick: nick.into(),
            waits: phase != Phase::Joined,
        });
        if phase == Phase::Joined {
            out.push(Decision::ToRoom { to: at(from.room, nick), id });
        }
    }

    /// The account is in: nicknames that clients asked for meanwhile are asked for now.
    pub(crate) fn ask_for_nicks(&mut self, account: &str, room: &str, out: &mut Vec<Decision>) {
        let new_id = self.new_id();
        let Some(m) = self.membership_mut(account, room) else { return };
        let own = m.nick.clone();
        m.renames.retain(|r| !(r.waits && r.nick == own));
        let wanted = m.nick_wanted.take().filter(|nick| *nick != own);
        let Some(last) = m.renames.iter().rposition(|r| r.waits) else {
            if let Some(nick) = wanted {
                let to = at(room, &nick);
                let address = [("from", account), ("to", to.as_str()), ("id", new_id.as_str())];
                out.push(Decision::Send { stanza: build::addressed(&m.shown, &address, b"") });
            }
            return;
        };
        let Some(client) = m.client(&m.renames[last].resource) else { return };
        let presence = client.presence.clone();
        let rename = &mut m.renames[last];
        rename.waits = false;
        if rename.id.is_none() {
            rename.id = Some(new_id.as_str().into());
        }
        let (to, id) = (at(room, &rename.nick), rename.id.clone().unwrap_or_default());
        m.shown = presence.clone();
        // The last wish counts.
        m.renames.retain(|r| !r.waits);
        let address = [("from", account), ("to", to.as_str()), ("id", &*id)];
        out.push(Decision::Send { stanza: build::addressed(&presence, &address, b"") });
    }

    pub(crate) fn leave(&mut self, from: FromClient, payload: &[u8], now: u64, out: &mut Vec<Decision>) {
        let stays = self.stays(from.account, from.room, true, now);
        let Some(m) = self.membership_mut(from.account, from.room) else { return };
        let Some(i) = m.clients.iter().position(|c| &*c.resource == from.resource && c.stays()) else {
            return;
        };
        let others = m.clients.iter().enumerate().any(|(j, c)| j != i && c.stays());
        if others || (stays && matches!(m.phase, Phase::Joining | Phase::Joined)) {
            let client = m.clients.remove(i);
            m.serve_left(from.account, from.room, &client, set_id(from.id), &[110], out);
            out.push(Decision::Persist { account: from.account.into() });
            self.show_latest(from.account, from.room, out);
        } else {
            m.clients[i].stage = Stage::Leaving { id: from.id.map(Into::into) };
            self.depart(from.account, from.room, Some(payload), now, out);
        }
    }

    /// The account leaves. Clients that are still there wait for the room to confirm it.
    pub(crate) fn depart(
        &mut self,
        account: &str,
        room: &str,
        payload: Option<&[u8]>,
        now: u64,
        out: &mut Vec<Decision>,
    ) {
        let id = self.new_id();
        let Some(m) = self.membership_mut(account, room) else { return };
        let reached = m.phase != Phase::Away;
        m.phase = Phase::Leaving;
        let stanza = build::leave(account, &at(room, &m.nick), &id, payload);
        m.join_id = id;
        for client in &mut m.clients {
            if client.stays() {
                client.stage = Stage::Leaving { id: None };
            }
        }
        self.wake(account, room, now + LEAVE_TIMEOUT);
        out.push(Decision::Persist { account: account.into() });
        if reached {
            out.push(Decision::Send { stanza });
        }
    }

    /// A client's session ended, or it sent unavailable presence to everybody and wants to be told (`told`). `online`
    /// says whether the account has another session.
    pub fn client_gone(
        &mut self,
        account: &str,
        resource: &str,
        online: bool,
        told: bool,
        payload: Option<&[u8]>,
        now: u64,
    ) -> Vec<Decision> {
        let mut out = Vec::new();
        self.out_of_rooms(account, resource, u64::MAX, online, told, payload, now, &mut out);
        self.answer_for(account, resource, &mut out);
        out
    }

    /// The client is gone from all rooms but those that it has joined since that turn.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn out_of_rooms(
        &mut self,
        account: &str,
        resource: &str,
        turn: u64,
        online: bool,
        told: bool,
        payload: Option<&[u8]>,
        now: u64,
        out: &mut Vec<Decision>,
    ) {
        let Some(a) = self.accounts.get_mut(account) else { return };
        a.online = online;
        let is_gone = |m: &Membership| m.client(resource).is_some_and(|client| client.turn <= turn);
        let mut rooms: Vec<Box<str>> = a
            .rooms
            .iter()
            .filter(|(_, m)| is_gone(m) || (!online && !m.is_used()))
            .map(|(room, _)| room.clone())
            .collect();
        rooms.sort();
        for room in rooms {
            let stays = self.stays(account, &room, false, now);
            let Some(m) = self.membership_mut(account, &room) else { continue };
            let gone = m.clients.iter().position(|c| &*c.resource == resource).map(|i| m.clients.remove(i));
            m.renames.retain(|r| &*r.resource != resource);
            if let Some(client) = &gone
                && told
            {
                m.serve_left(account, &room, client, Id::Remove, &[110], out);
            }
            if m.phase == Phase::Leaving {
                continue;
            }
            if m.is_used() || stays {
                if gone.is_some() {
                    out.push(Decision::Persist { account: account.into() });
                }
                self.show_latest(account, &room, out);
            } else {
                self.depart(account, &room, payload, now, out);
            }
        }
    }

    /// What waits for an answer of a client that is gone is answered for it.
    pub(crate) fn answer_for(&mut self, account: &str, resource: &str, out: &mut Vec<Decision>) {
        let Some(a) = self.accounts.get_mut(account) else { return };
        for (from, id) in a.requests.client_gone(resource) {
            let error = build::iq_error(account, CLIENT_GONE);
            let stanza = build::addressed(&error, &[("to", &from), ("id", &id)], b"");
            out.push(Decision::Send { stanza });
        }
    }

    /// A client's message to a room, or to an occupant. Errors never leave as the account's: rooms would throw it out. `condition`
    /// is that of an error.
    pub fn message_from_client(
        &mut self,
        from: FromClient,
        kind: Message,
        condition: Option<&str>,
        now: u64,
    ) -> Option<Vec<Decision>> {
        let m = self.membership_mut(from.account, from.room)?;
        if kind == Message::Error {
            return Some(self.broken(from, condition, now));
        }
        let client = m.client_mut(from.resource).filter(|c| c.is_in())?;
        client.errors = 0;
        if let Some(id) = from.id {
            m.note_sent(id, from.resource);
        }
        let to = m.address(from);
        Some(vec![Decision::ToRoom { to, id: Id::Keep }])
    }

    /// A client answers what it gets by errors. A room would throw it out for the first; after some in a row, with nothing else from
    /// it in between, it is taken for gone.
    fn broken(&mut self, from: FromClient, condition: Option<&str>, now: u64) -> Vec<Decision> {
        let mut out = Vec::new();
        if !condition.is_some_and(|c| GONE.contains(&c)) {
            return out;
        }
        let Some(m) = self.membership_mut(from.account, from.room) else { return out };
        let Some(i) = m.clients.iter().position(|c| &*c.resource == from.resource && c.is_in()) else {
            return out;
        };
        m.clients[i].errors += 1;
        if m.clients[i].errors < BROKEN {
            return out;
        }
        let client = m.clients.remove(i);
        m.renames.retain(|r| *r.resource != *from.resource);
        m.serve_left(from.account, from.room, &client, Id::Remove, &[110, 333], &mut out);
        out.push(Decision::Persist { account: from.account.into() });
        let (used, phase) = (m.is_used(), m.phase);
        if used || self.stays(from.account, from.room, false, now) {
            self.show_latest(from.account, from.room, &mut out);
        } else if matches!(phase, Phase::Joining | Phase::Joined) {
            self.depart(from.account, from.room, None, now, &mut out);
        }
        out
    }

    /// A client's presence probe to a room, or to an occupant. What the room told of the occupant is the answer; of others it
    /// is asked.
    pub fn probe_from_client(&mut self, from: FromClient, now: u64) -> Option<Vec<Decision>> {
        let mut out = Vec::new();
        let m = self.membership(from.account, from.room)?;
        let client = m.client(from.resource).filter(|c| c.is_in())?;
        let to = m.address(from);
        let seen = &self.rooms.get(from.room)?.view;
        let presence = from.nick.and_then(|nick| seen.get(&m.seen, nick));
        if m.own.is_some() && to == at(from.room, &m.nick) {
            m.serve_own(from.account, client, set_id(from.id), &[], &mut out);
        } else if let Some(presence) = presence {
            out.push(Decision::Serve {
                account: from.account.into(),
                resource: from.resource.into(),
                stanza: presence.clone(),
                edit: Edit { id: set_id(from.id), ..Edit::default() },
            });
        } else {
            match self.ask(from, false, now) {
                Some(id) => out.push(Decision::ToRoom { to, id: Id::Set(id) }),
                None => out.push(Decision::Refuse { condition: BUSY }),
            }
        }
        Some(out)
    }

    /// Notes a client's request that goes out as the account's; the `id` for it. None if too many are waiting.
    fn ask(&mut self, from: FromClient, ping: bool, now: u64) -> Option<String> {
        let new = self.new_id();
        let asked = Asked {
            room: from.room.into(),
            resource: Some(from.resource.into()),
            to: from.nick.map_or_else(|| from.room.to_owned(), |nick| at(from.room, nick)),
            id: from.id.unwrap_or_default().into(),
            ping,
            until: now + ANSWER_TIMEOUT,
        };
        self.accounts.get_mut(from.account)?.requests.ask(&new, asked, now).then_some(new)
    }

    /// A client's iq to a room, or to an occupant. `ping` says whether it asks for a ping (XEP-0199), `asks` which exchange it
    /// belongs to.
    pub fn iq_from_client(
        &mut self,
        from: FromClient,
        kind: Iq,
        ping: bool,
        asks: Asks,
        now: u64,
    ) -> Option<Vec<Decision>> {
        let m = self.membership(from.account, from.room)?;
        let id = from.id?;
        let to = m.address(from);
        match kind {
            Iq::Request => {
                if !m.is_in(from.resource) {
                    return None;
                }
                let ping = ping && from.nick.is_some() && to == at(from.room, &m.nick);
                let Some(new) = self.ask(from, ping, now) else {
                    return Some(vec![Decision::Refuse { condition: BUSY }]);
                };
                self.accounts.get_mut(from.account)?.requests.begin(&to, from.resource, asks, now);
                Some(vec![Decision::ToRoom { to, id: Id::Set(new) }])
            }
            Iq::Result | Iq::Error => {
                let a = self.accounts.get_mut(from.account)?;
                if a.requests.answer(&to, id, from.resource, kind == Iq::Error) {
                    return Some(vec![Decision::ToRoom { to, id: Id::Keep }]);
                }
                a.rooms.get(from.room)?.is_in(from.resource).then(Vec::new)
            }
        }
    }
}
