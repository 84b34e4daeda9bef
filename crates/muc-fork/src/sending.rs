//! What clients send to rooms they are in, beside presence; and clients that are gone.

use crate::build;
use crate::decision::{Decision, Edit, Id};
use crate::fork::{ANSWER_TIMEOUT, Asked, CLIENT_GONE, Fork, LEAVE_TIMEOUT, at, set_id};
use crate::input::{FromClient, Iq, Message};
use crate::membership::{Phase, Rename, Stage};
use std::sync::Arc;

impl Fork {
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
        });
        out.push(Decision::ToRoom { to: at(from.room, nick), id });
    }

    pub(crate) fn leave(&mut self, from: FromClient, payload: &[u8], now: u64, out: &mut Vec<Decision>) {
        let stays = self.stays(from.account, from.room, true, now);
        let Some(m) = self.membership_mut(from.account, from.room) else { return };
        let Some(i) = m.clients.iter().position(|c| &*c.resource == from.resource && c.stays()) else {
            return;
        };
        let others = m.clients.iter().enumerate().any(|(j, c)| j != i && c.stays());
        if others || (stays && m.phase == Phase::Joined) {
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
        let Some(a) = self.accounts.get_mut(account) else { return out };
        a.online = online;
        let mut rooms: Vec<Box<str>> = a
            .rooms
            .iter()
            .filter(|(_, m)| m.client(resource).is_some() || (!online && !m.is_used()))
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
                m.serve_left(account, &room, client, Id::Remove, &[110], &mut out);
            }
            if m.phase == Phase::Leaving {
                continue;
            }
            if m.is_used() || stays {
                if gone.is_some() {
                    out.push(Decision::Persist { account: account.into() });
                }
                self.show_latest(account, &room, &mut out);
            } else {
                self.depart(account, &room, payload, now, &mut out);
            }
        }
        self.asked.retain(|_, a| !(&*a.account == account && a.resource.as_deref() == Some(resource)));
        let mut i = 0;
        while i < self.given.len() {
            if &*self.given[i].account == account && &*self.given[i].resource == resource {
                let given = self.given.swap_remove(i);
                let error = build::iq_error(account, CLIENT_GONE);
                let stanza = build::addressed(&error, &[("to", &given.from), ("id", &given.id)], b"");
                out.push(Decision::Send { stanza });
            } else {
                i += 1;
            }
        }
        out
    }

    /// A client's message to a room, or to an occupant. Errors never leave as the account's: rooms would throw it out.
    pub fn message_from_client(&mut self, from: FromClient, kind: Message) -> Option<Vec<Decision>> {
        let m = self.membership_mut(from.account, from.room)?;
        if kind == Message::Error {
            return Some(Vec::new());
        }
        if !m.is_in(from.resource) {
            return None;
        }
        if let Some(id) = from.id {
            m.note_sent(id, from.resource);
        }
        let to = m.address(from);
        Some(vec![Decision::ToRoom { to, id: Id::Keep }])
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
            let id = self.ask(from, false, now);
            out.push(Decision::ToRoom { to, id: Id::Set(id) });
        }
        Some(out)
    }

    /// Notes a client's request that goes out as the account's; the `id` for it.
    fn ask(&mut self, from: FromClient, ping: bool, now: u64) -> String {
        let new = self.new_id();
        self.asked.insert(
            new.clone(),
            Asked {
                account: from.account.into(),
                room: from.room.into(),
                resource: Some(from.resource.into()),
                to: from.nick.map_or_else(|| from.room.to_owned(), |nick| at(from.room, nick)),
                id: from.id.unwrap_or_default().into(),
                ping,
                until: now + ANSWER_TIMEOUT,
            },
        );
        new
    }

    /// A client's iq to a room, or to an occupant. `ping` says whether it asks for a ping (XEP-0199).
    pub fn iq_from_client(
        &mut self,
        from: FromClient,
        kind: Iq,
        ping: bool,
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
                let new = self.ask(from, ping, now);
                Some(vec![Decision::ToRoom { to, id: Id::Set(new) }])
            }
            Iq::Result | Iq::Error => {
                let given = self.given.iter().position(|g| {
                    &*g.account == from.account
                        && &*g.resource == from.resource
                        && g.from == to
                        && &*g.id == id
                });
                match given {
                    Some(i) => {
                        self.given.swap_remove(i);
                        Some(vec![Decision::ToRoom { to, id: Id::Keep }])
                    }
                    None => m.is_in(from.resource).then(Vec::new),
                }
            }
        }
    }
}
