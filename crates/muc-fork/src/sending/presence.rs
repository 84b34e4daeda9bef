//! A client's presence: which of joining, entering, changing and leaving it is.

use crate::accounts::Accounts;
use crate::address::at;
use crate::build;
use crate::conditions::{BUSY, NOT_IN};
use crate::decision::{Decision, Edit, Id};
use crate::input::{FromClient, Join, Presence};
use crate::membership::Phase;
use crate::serving::set_id;
use std::sync::Arc;

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
