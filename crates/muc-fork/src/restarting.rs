//! What is kept across a restart of the server, and taken up again after it.

use crate::accounts::Accounts;
use crate::build;
use crate::change::Change;
use crate::config::Offline;
use crate::decision::Decision;
use crate::joining::WIDE;
use crate::membership::Membership;
use crate::membership::client::Client;
use crate::membership::codes::Codes;
use crate::membership::repeats::Repeats;
use crate::order::in_order;
use crate::restored::Restored;
use crate::room::Room;
use std::collections::HashSet;

/// How long the account waits for its clients after a restart, in seconds.
pub const GRACE: u64 = 300;

impl Accounts {
    /// What is to be kept of an account, so that [`Accounts::restore`] can bring it back.
    pub fn memberships(&self, account: &str) -> Vec<Restored> {
        let Some(a) = self.accounts.get(account) else { return Vec::new() };
        let rooms = in_order(a.rooms.keys()).into_iter().filter_map(|room| a.rooms.get_key_value(room));
        rooms
            .map(|(room, m)| Restored {
                leaving: m.is_leaving(),
                room: room.to_string(),
                nick: m.nick.to_string(),
                password: m.passwords.first().map(Into::into),
                other_passwords: m.passwords.iter().skip(1).map(Into::into).collect(),
                pam: m.pam.asked,
                pam_waiting: m.pam.waiting.iter().map(|(r, id)| (r.to_string(), id.to_string())).collect(),
                joining: m.never_in,
                other_ids: m.other_ids,
                entry: m.codes.entry.clone(),
                untold: m.codes.untold.clone(),
                clients: {
                    let turns = in_order(m.clients.iter().enumerate().map(|(n, client)| (client.turn, n)));
                    turns.into_iter().filter_map(|(_, n)| m.clients.get(n)).map(Client::kept).collect()
                },
                ..Restored::default()
            })
            .collect()
    }

    /// A membership from before the server's start is taken up again: the account joins, and its clients are told only
    /// what changed.
    pub fn restore(&mut self, account: &str, kept: Restored, online: bool, now: u64) -> Vec<Decision> {
        let mut out = Vec::new();
        if self.membership(account, &kept.room).is_some() {
            return out;
        }
        self.accounts.entry(account.into()).or_default().online |= online;
        let name = kept.room.clone();
        let known = kept.occupants.iter().map(|(nick, likeness)| (nick.as_str().into(), *likeness)).collect();
        let (leaving, joining) = (kept.leaving, kept.joining);
        let mut m = self.restored(kept, online, now);
        let memory = &self.memory;
        let room = self.rooms.entry(name.as_str().into()).or_insert_with(|| Room::new(memory));
        room.compare(&mut m, known);
        m.grace = if self.config(account).offline == Offline::Leave { 0 } else { now + GRACE };
        // Who asked to be let in is not there any more, the account was leaving, or it has no reason to be there.
        let wanted = m.is_used() || (m.grace > 0 && (m.pam.asked || !joining));
        if !leaving && wanted {
            self.begin(account, &name, m, &WIDE, now, &mut out);
            return out;
        }
        // The room may not have heard of it.
        if let Some(room) = self.rooms.get_mut(name.as_str()) {
            room.accounts += 1;
            m.comparison.known = None;
            room.comparing -= 1;
        }
        self.accounts.entry(account.into()).or_default().rooms.insert(name.as_str().into(), m);
        self.depart(account, &name, None, now, &mut out);
        out
    }

    /// A membership as it was kept, of an account that has not asked the room yet.
    fn restored(&mut self, kept: Restored, online: bool, now: u64) -> Membership {
        let shown = build::unattended(online).into();
        let mut m = Membership::new(&kept.nick, kept.password.as_deref(), shown, now);
        for password in &kept.other_passwords {
            m.passwords.add(Some(password));
        }
        m.repeats = Repeats::of(kept.said);
        m.restored = true;
        m.never_in = kept.joining;
        m.other_ids = kept.other_ids;
        m.codes = Codes { entry: kept.entry, untold: kept.untold };
        m.pam.asked = kept.pam;
        m.pam.waiting = kept.pam_waiting.into_iter().map(|(r, id)| (r.into(), id.into())).collect();
        for client in kept.clients {
            self.turn += 1;
            m.clients.push(Client::restored(client, self.turn));
        }
        if let Some(latest) = m.latest() {
            m.shown.presence = latest.presence.clone();
        }
        m
    }

    /// What changed in rooms since the last call, for whoever keeps that across a restart.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Everything that [`Accounts::take_changes`] would have told of the rooms as they are, and of what clients know of them
    /// from before: those who are gone meanwhile, and messages that the room may repeat.
    pub fn snapshot(&self) -> Vec<Change> {
        let mut all = Vec::new();
        let mut marks = HashSet::new();
        let memberships = self.accounts.values().flat_map(|a| &a.rooms);
        for (name, m) in memberships.filter(|(_, m)| m.comparison.known.is_some()) {
            let Some(room) = self.rooms.get(name) else { continue };
            for (nick, &likeness) in m.comparison.known.iter().flatten() {
                if room.doubtful.contains(nick) {
                    all.push(Change::Occupant { room: name.clone(), nick: nick.clone(), likeness });
                }
            }
            for &mark in m.repeats.before.iter().filter(|_| m.restored) {
                if marks.insert((name, mark)) {
                    all.push(Change::Message { room: name.clone(), mark });
                }
            }
        }
        for (name, room) in &self.rooms {
            for (nick, likeness) in room.view.all() {
                all.push(Change::Occupant { room: name.clone(), nick: nick.into(), likeness });
            }
            for said in &room.recent {
                all.push(Change::Message { room: name.clone(), mark: said.mark });
            }
        }
        all
    }
}
