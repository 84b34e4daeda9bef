//! A client's presence: which of joining, entering, changing and leaving it is (XEP-0045 §7.2, §7.6, §7.7, §7.14).

use crate::accounts::Accounts;
use crate::address::at;
use crate::build;
use crate::conditions::{BUSY, NOT_IN};
use crate::decision::{Decision, Edit, Id};
use crate::input::{FromClient, Join, Presence};
use crate::serving::set_id;
use std::sync::Arc;

impl Accounts {
    /// A client's presence to a room, or to a nickname in it. `join` is there if it carries a MUC `<x/>`; `payload` is
    /// the presence without that, and without address, `id` and `type`. `now` is in seconds.
    pub fn presence_from_client(
        &mut self,
        from: FromClient,
        kind: Presence,
        join: Option<Join>,
        payload: &[u8],
        now: u64,
    ) -> Option<Vec<Decision>> {
        let mut out = Vec::new();
        if kind == Presence::Available && join.is_none() && self.is_held(from) {
            return Some(vec![Decision::Refuse { condition: NOT_IN }]);
        }
        match kind {
            Presence::Error => {
                self.membership(from.account, from.room)?;
            }
            Presence::Unavailable => {
                let m = self.membership(from.account, from.room)?;
                if m.client(from.resource).is_some() {
                    self.leave(from, payload, now, &mut out);
                }
            }
            Presence::Available => self.available(from, join, payload, now, &mut out)?,
        }
        if kind != Presence::Error {
            self.holds.came(from.account, from.resource, from.room);
        }
        Some(out)
    }

    fn available(
        &mut self,
        from: FromClient,
        join: Option<Join>,
        payload: &[u8],
        now: u64,
        out: &mut Vec<Decision>,
    ) -> Option<()> {
        let m = self.membership(from.account, from.room);
        let client = m.and_then(|m| m.client(from.resource));
        let Some(nick) = from.nick else {
            // Some clients send updates to the room itself.
            client?;
            let own = m?.nick.clone();
            self.update(FromClient { nick: Some(&own), ..from }, &own, payload, out);
            return Some(());
        };
        let Some(m) = m.filter(|m| !m.is_ending()) else {
            match join {
                Some(join) => self.join(from, nick, join, payload, now, out),
                None => {
                    m?;
                    out.push(Decision::Refuse { condition: NOT_IN });
                }
            }
            return Some(());
        };
        let same = client.is_some_and(|c| *c.asked == *nick) || *m.nick == *nick;
        let inside = client.is_some_and(|c| c.is_in());
        let taken = self.view(from.room).is_some_and(|view| m.is_of_another(nick, view));
        let is_new = self.is_held(from);
        match join {
            None if client.is_none() => out.push(Decision::Refuse { condition: NOT_IN }),
            None if same && !taken => self.update(from, nick, payload, out),
            None => self.rename(from, nick, payload, out),
            Some(join) if !inside || same => self.enter(from, nick, join, payload, out),
            // One that logs in anew is told which it has, as any other; one that is in is told by the room that this is taken.
            Some(join) if taken && is_new => self.enter(from, nick, join, payload, out),
            Some(_) if taken => self.rename(from, nick, payload, out),
            Some(join) => {
                // It is told everything, as whoever joins, before the room can answer.
                let mut ask = Vec::new();
                self.rename(from, nick, payload, &mut ask);
                self.enter(from, nick, join, payload, out);
                out.append(&mut ask);
            }
        }
        Some(())
    }

    /// A client shows something else.
    fn update(&mut self, from: FromClient, nick: &str, payload: &[u8], out: &mut Vec<Decision>) {
        // An answer without an id could be to anything.
        let id = if from.id.is_some() { Id::Keep } else { Id::Set(self.new_id()) };
        self.turn += 1;
        let turn = self.turn;
        let Some(m) = self.membership_mut(from.account, from.room) else { return };
        let presence: Arc<[u8]> = payload.into();
        let Some(client) = m.client_mut(from.resource) else { return };
        client.presence = presence.clone();
        client.turn = turn;
        client.errors = 0;
        if client.is_in() {
            client.asked = nick.into();
        }
        m.shown.presence = presence;
        m.shown.changed_by = from.id.map(|id| (id.into(), from.resource.into()));
        if m.is_joined() {
            out.push(Decision::ToRoom { to: at(from.room, &m.nick), id });
        }
        out.push(Decision::PersistSoon { account: from.account.into() });
    }

    /// Tells the room what the account shows now, if that changed.
    pub(crate) fn show_latest(&mut self, account: &str, room: &str, out: &mut Vec<Decision>) {
        let Some(a) = self.accounts.get_mut(account) else { return };
        let Some(m) = a.rooms.get_mut(room).filter(|m| m.is_joined()) else { return };
        let latest = match m.latest() {
            Some(client) => client.presence.clone(),
            None => build::unattended(a.online).into(),
        };
        if latest != m.shown.presence {
            m.shown.presence = latest.clone();
            m.shown.changed_by = None;
            let to = at(room, &m.nick);
            let id = self.new_id();
            let address = [("from", account), ("to", to.as_str()), ("id", id.as_str())];
            out.push(Decision::Send { stanza: build::addressed(&latest, &address, b"") });
        }
    }

    /// A client's presence probe to a room, or to an occupant. What the room told of the occupant is the answer; of others it
    /// is asked. `now` is in seconds.
    pub fn probe_from_client(&mut self, from: FromClient, now: u64) -> Option<Vec<Decision>> {
        let mut out = Vec::new();
        let m = self.membership(from.account, from.room)?;
        let client = m.client(from.resource).filter(|c| c.is_in())?;
        let to = m.address(from, self.view(from.room));
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
}
