//! The account leaves: with its last client, when it is deleted, or since nobody comes back.

mod put_out;

use crate::accounts::{Account, Accounts};
use crate::address::at;
use crate::build;
use crate::change::Change;
use crate::conditions::CLIENT_GONE;
use crate::decision::{Decision, Id};
use crate::input::FromClient;
use crate::membership::client::Stage;
use crate::membership::leaving::Leaving;
use crate::membership::{Membership, Phase};
use crate::order::in_order;
use crate::serving::set_id;

/// A room has so many seconds for confirming that the account left; then its client is told anyway.
const LEAVE_TIMEOUT: u64 = 10;
/// For so many seconds what a room still says to an account that left is kept from its clients.
const LINGER: u64 = 60;

impl Accounts {
    /// A client leaves a room; the account too, if it was the last and nothing else keeps it there.
    pub(crate) fn leave(&mut self, from: FromClient, payload: &[u8], now: u64, out: &mut Vec<Decision>) {
        let stays = self.stays(from.account, from.room, true, now);
        let Some(m) = self.membership_mut(from.account, from.room) else { return };
        let Some(i) = m.clients.iter().position(|c| &*c.resource == from.resource && c.stays()) else {
            return;
        };
        let others = m.clients.iter().enumerate().any(|(j, c)| j != i && c.stays());
        if others || (stays && !m.is_ending()) {
            let client = m.clients.remove(i);
            m.serve_left(from.account, from.room, &client, set_id(from.id), &[110], out);
            out.push(Decision::Persist { account: from.account.into() });
            self.show_latest(from.account, from.room, out);
        } else {
            m.clients[i].stage = Stage::Leaving { id: from.id.map(Into::into) };
            self.depart(from.account, from.room, Some(payload), now, out);
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
        let held = self.holds.end(account, resource);
        let Some(a) = self.accounts.get_mut(account) else { return };
        a.online = online;
        let is_gone = |m: &Membership| m.client(resource).is_some_and(|client| client.turn <= turn);
        let affected = a.rooms.iter().filter(|(_, m)| is_gone(m) || (!online && !m.is_used()));
        let rooms = in_order(affected.map(|(room, _)| room.clone()));
        for room in rooms {
            self.gone_from(account, &room, resource, told && !held.contains(&room), payload, now, out);
        }
    }

    /// What waits for the answer of a client that is gone is answered for it.
    pub(crate) fn answer_for(&mut self, account: &str, resource: &str, out: &mut Vec<Decision>) {
        let Some(a) = self.accounts.get_mut(account) else { return };
        for (from, id) in a.requests.client_gone(resource) {
            let error = build::iq_error(account, CLIENT_GONE);
            let stanza = build::addressed(&error, &[("to", &from), ("id", &id)], b"");
            out.push(Decision::Send { stanza });
        }
    }

    /// The same, for one room.
    #[allow(clippy::too_many_arguments)]
    fn gone_from(
        &mut self,
        account: &str,
        room: &str,
        resource: &str,
        told: bool,
        payload: Option<&[u8]>,
        now: u64,
        out: &mut Vec<Decision>,
    ) {
        let stays = self.stays(account, room, false, now);
        let Some(m) = self.membership_mut(account, room) else { return };
        let gone = m.clients.iter().position(|c| &*c.resource == resource).map(|i| m.clients.remove(i));
        m.nicknames.renames.retain(|r| &*r.resource != resource);
        if let Some(client) = &gone
            && told
        {
            m.serve_left(account, room, client, Id::Remove, &[110], out);
        }
        if m.is_leaving() {
            return;
        }
        if m.is_used() || stays {
            if gone.is_some() {
                out.push(Decision::Persist { account: account.into() });
            }
            self.show_latest(account, room, out);
        } else {
            self.depart(account, room, payload, now, out);
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
        let reached = !m.is_away();
        let stanza = build::leave(account, &at(room, &m.nick), &id, payload);
        m.phase = Phase::Leaving(Leaving { id, lingering: false });
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

    /// The room has not confirmed in time that the account left: its clients are told, and what it still says is not for them.
    pub(crate) fn linger(&mut self, account: &str, room: &str, now: u64, out: &mut Vec<Decision>) {
        let Some(m) = self.membership_mut(account, room) else { return };
        m.serve_leaving(account, room, out);
        self.linger_on(account, room, now);
    }

    /// The same, when they have been told.
    fn linger_on(&mut self, account: &str, room: &str, now: u64) {
        let Some(m) = self.membership_mut(account, room) else { return };
        m.clients.clear();
        if let Phase::Leaving(leaving) = &mut m.phase {
            leaving.lingering = true;
        }
        self.wake(account, room, now + LINGER);
    }

    /// Nothing is known of the account in this room any more.
    pub(crate) fn remove(&mut self, account: &str, room: &str, out: &mut Vec<Decision>) {
        if !self.take_out(account, room) {
            return;
        }
        if self.accounts.get(account).is_some_and(Account::is_empty) {
            self.accounts.remove(account);
        }
        out.push(Decision::Persist { account: account.into() });
    }

    /// The same, where another membership follows. Says whether there was one.
    pub(crate) fn take_out(&mut self, account: &str, room: &str) -> bool {
        let Some(a) = self.accounts.get_mut(account) else { return false };
        let Some(mut m) = a.rooms.remove(room) else { return false };
        a.requests.out_of(room);
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
        true
    }

    /// The account was deleted: it leaves everything and nothing is kept.
    pub fn account_deleted(&mut self, account: &str) -> Vec<Decision> {
        let mut out = Vec::new();
        let Some(a) = self.accounts.get(account) else { return out };
        let rooms: Vec<(Box<str>, Box<str>)> =
            a.rooms.iter().map(|(r, m)| (r.clone(), m.nick.clone())).collect();
        for (room, nick) in rooms {
            self.remove(account, &room, &mut out);
            out.push(Decision::Send {
                stanza: build::leave(account, &at(&room, &nick), &self.new_id(), None),
            });
        }
        self.accounts.remove(account);
        self.holds.forget(account);
        out
    }
}
