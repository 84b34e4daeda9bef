//! The account: bookmarks, devices, joins by iq, and what is kept across a restart.

use crate::accounts::{Accounts, Bookmark};
use crate::address::at;
use crate::build;
use crate::change::Change;
use crate::conditions::TOO_MANY;
use crate::config::Offline;
use crate::decision::{Decision, Outcome};
use crate::history::Request;
use crate::input::FromClient;
use crate::joining::WIDE_HISTORY;
use crate::membership::{Client, Membership, Phase};
use crate::restored::Restored;
use crate::room::Room;

/// How long the account waits for its clients after a restart, in seconds.
pub const GRACE: u64 = 300;

impl Accounts {
    /// A device of the account is online.
    pub fn online(&mut self, account: &str, now: u64) -> Vec<Decision> {
        let mut out = Vec::new();
        let Some(a) = self.accounts.get_mut(account) else { return out };
        if std::mem::replace(&mut a.online, true) {
            return out;
        }
        let mut wanted: Vec<_> = a
            .bookmarks
            .iter()
            .filter(|(room, b)| b.autojoin && a.rooms.get(*room).is_none_or(Membership::is_ending))
            .collect();
        wanted.sort_by_key(|(room, _)| *room);
        let wanted: Vec<_> = wanted.into_iter().map(|(room, _)| room.clone()).collect();
        for room in wanted {
            self.follow(account, &room, now, &mut out);
        }
        out
    }

    /// The account's bookmark for a room was published (XEP-0402), with this nickname and password; or retracted
    /// (`autojoin` is `None`).
    #[allow(clippy::too_many_arguments)]
    pub fn bookmark(
        &mut self,
        account: &str,
        room: &str,
        autojoin: Option<bool>,
        nick: Option<&str>,
        password: Option<&str>,
        online: bool,
        now: u64,
    ) -> Vec<Decision> {
        let mut out = Vec::new();
        let a = self.accounts.entry(account.into()).or_default();
        a.online |= online;
        let before = match autojoin {
            Some(autojoin) => {
                let bookmark =
                    Bookmark { autojoin, nick: nick.map(Into::into), password: password.map(Into::into) };
                a.bookmarks.insert(room.into(), bookmark)
            }
            None => a.bookmarks.remove(room),
        };
        let phase = a.rooms.get(room).map(|m| m.phase);
        let was = before.as_ref().is_some_and(|b| b.autojoin);
        if autojoin != Some(true) {
            if was && matches!(phase, Some(Phase::Joining | Phase::Joined | Phase::Away)) {
                self.depart(account, room, None, now, &mut out);
            }
            return out;
        }
        let default = account.split('@').next().unwrap_or(account);
        let wanted = nick.filter(|n| !n.is_empty()).unwrap_or(default);
        match phase {
            // The last wish counts: the room gets it behind the leave.
            None | Some(Phase::Leaving | Phase::Away) => {
                if !self.stays(account, room, false, now) {
                    return out;
                }
                let a = self.accounts.entry(account.into()).or_default();
                let in_rooms = a.rooms.values().filter(|m| m.phase != Phase::Leaving).count();
                if in_rooms >= self.config(account).max_rooms && phase != Some(Phase::Away) {
                    return out;
                }
                let shown = build::unattended(self.accounts.get(account).is_some_and(|a| a.online));
                let m = Membership::new(wanted, password, shown.into(), now);
                self.begin_anew(account, room, m, now, &mut out);
            }
            Some(Phase::Joining) => {
                let renamed = nick.is_some() && before.is_some_and(|b| b.nick.as_deref() != nick);
                let Some(m) = self.membership_mut(account, room) else { return out };
                m.bookmark_changed = true;
                m.nick_wanted = if renamed && *m.nick != *wanted { Some(wanted.into()) } else { None };
            }
            Some(Phase::Joined) => {
                let renamed = nick.is_some() && before.is_some_and(|b| b.nick.as_deref() != nick);
                let id = self.new_id();
                let Some(m) = self.membership_mut(account, room) else { return out };
                if renamed && *m.nick != *wanted {
                    let to = at(room, wanted);
                    let address = [("from", account), ("to", to.as_str()), ("id", id.as_str())];
                    out.push(Decision::Send { stanza: build::addressed(&m.shown, &address, b"") });
                }
            }
        }
        out
    }

    /// Whether the account's bookmarks are known. While they are not, it stays in the rooms that it is in: there may be one for each.
    pub fn bookmarks_known(&mut self, account: &str, known: bool, now: u64) {
        let a = self.accounts.entry(account.into()).or_default();
        if std::mem::replace(&mut a.bookmarks_unknown, !known) && known {
            let unattended = a.rooms.iter().filter(|(_, m)| m.phase == Phase::Joined && !m.is_used());
            let rooms: Vec<Box<str>> = unattended.map(|(room, _)| room.clone()).collect();
            for room in rooms {
                self.wake(account, &room, now);
            }
        }
    }

    /// A client asks by iq for the account to join (MUC2-PAM), under a prepared nickname.
    pub fn pam_join(&mut self, from: FromClient, nick: &str, now: u64) -> Vec<Decision> {
        let mut out = Vec::new();
        let max = self.config(from.account).max_rooms;
        let a = self.accounts.entry(from.account.into()).or_default();
        a.online = true;
        let waiting = (from.resource.into(), from.id.unwrap_or("").into());
        let in_rooms = a.rooms.len();
        let phase = a.rooms.get(from.room).map(|m| m.phase);
        match phase {
            Some(Phase::Joining | Phase::Joined) => {
                let Some(m) = a.rooms.get_mut(from.room) else { return out };
                m.pam = true;
                m.pam_waiting.push(waiting);
                if m.phase == Phase::Joined {
                    let nick = m.nick.clone();
                    m.answer_pam(from.account, from.room, Outcome::In(nick), &mut out);
                }
                out.push(Decision::Persist { account: from.account.into() });
            }
            _ if in_rooms >= max => out.push(Decision::Refuse { condition: TOO_MANY }),
            _ => {
                let mut m = Membership::new(nick, None, build::unattended(true).into(), now);
                m.pam = true;
                m.pam_waiting.push(waiting);
                self.begin_anew(from.account, from.room, m, now, &mut out);
            }
        }
        out
    }

    /// The account joins a room if its bookmark says so.
    pub(crate) fn follow(&mut self, account: &str, room: &str, now: u64, out: &mut Vec<Decision>) {
        let Some(a) = self.accounts.get(account) else { return };
        let Some(b) = a.bookmarks.get(room).filter(|b| b.autojoin).cloned() else { return };
        let online = a.online;
        out.extend(self.bookmark(
            account,
            room,
            Some(true),
            b.nick.as_deref(),
            b.password.as_deref(),
            online,
            now,
        ));
    }

    /// The account joins by itself, a room that it is not in, or that it was told to leave just now.
    fn begin_anew(
        &mut self,
        account: &str,
        room: &str,
        mut m: Membership,
        now: u64,
        out: &mut Vec<Decision>,
    ) {
        if let Some(old) = self.membership_mut(account, room) {
            let leaving = old.phase == Phase::Leaving;
            m.unconfirmed = if leaving { old.unconfirmed + 1 } else { 0 };
            // They wait for the answer to their leave.
            m.clients = std::mem::take(&mut old.clients);
            self.remove(account, room, &mut Vec::new());
        }
        self.begin(account, room, m, &Request::default(), now, out);
    }

    /// What is to be kept of an account, so that [`Accounts::restore`] can bring it back.
    pub fn memberships(&self, account: &str) -> Vec<Restored> {
        let rooms = self.accounts.get(account).into_iter().flat_map(|a| &a.rooms);
        let mut kept: Vec<Restored> = rooms
            .map(|(room, m)| Restored {
                leaving: m.phase == Phase::Leaving,
                room: room.to_string(),
                nick: m.nick.to_string(),
                password: m.password.as_deref().map(Into::into),
                pam: m.pam,
                pam_waiting: m.pam_waiting.iter().map(|(r, id)| (r.to_string(), id.to_string())).collect(),
                joining: m.never_in,
                other_ids: m.other_ids,
                entry: m.entry.clone(),
                untold: m.untold.clone(),
                clients: {
                    let mut clients: Vec<&Client> = m.clients.iter().collect();
                    clients.sort_by_key(|c| c.turn);
                    clients.into_iter().map(Client::kept).collect()
                },
                ..Restored::default()
            })
            .collect();
        kept.sort_by(|a, b| a.room.cmp(&b.room));
        kept
    }

    /// What changed in rooms since the last call, for whoever keeps that across a restart.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Everything that [`Accounts::take_changes`] would have told of the rooms as they are.
    pub fn snapshot(&self) -> Vec<Change> {
        let mut all = Vec::new();
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

    /// Rooms that any account is in.
    pub fn has_room(&self, room: &str) -> bool {
        self.rooms.contains_key(room)
    }

    /// A membership from before the server's start is taken up again: the account joins, and its clients are told only
    /// what changed.
    pub fn restore(&mut self, account: &str, kept: Restored, online: bool, now: u64) -> Vec<Decision> {
        let mut out = Vec::new();
        if self.membership(account, &kept.room).is_some() {
            return out;
        }
        self.accounts.entry(account.into()).or_default().online |= online;
        let mut m =
            Membership::new(&kept.nick, kept.password.as_deref(), build::unattended(online).into(), now);
        let known = kept.occupants.into_iter().map(|(n, likeness)| (n.into(), likeness)).collect();
        let memory = &self.memory;
        let room = self.rooms.entry(kept.room.as_str().into()).or_insert_with(|| Room::new(memory));
        room.compare(&mut m, known);
        m.repeats = kept.said;
        m.rejoined = true;
        m.restored = true;
        m.never_in = kept.joining;
        m.other_ids = kept.other_ids;
        m.entry = kept.entry;
        m.untold = kept.untold;
        m.pam = kept.pam;
        m.pam_waiting = kept.pam_waiting.into_iter().map(|(r, id)| (r.into(), id.into())).collect();
        for client in kept.clients {
            self.turn += 1;
            m.clients.push(Client::restored(client, self.turn));
        }
        if let Some(latest) = m.latest() {
            m.shown = latest.presence.clone();
        }
        m.grace = if self.config(account).offline == Offline::Leave { 0 } else { now + GRACE };
        // Who asked to be let in is not there any more, the account was leaving, or it has no reason to be there.
        let wanted = m.is_used() || (m.grace > 0 && (m.pam || !kept.joining));
        if kept.leaving || !wanted {
            // The room may not have heard of it.
            m.phase = Phase::Joined;
            let room = self.rooms.entry(kept.room.as_str().into()).or_default();
            room.accounts += 1;
            m.known = None;
            room.comparing -= 1;
            self.accounts.entry(account.into()).or_default().rooms.insert(kept.room.as_str().into(), m);
            self.depart(account, &kept.room, None, now, &mut out);
            return out;
        }
        let wide = Request { maxstanzas: Some(WIDE_HISTORY), ..Request::default() };
        self.begin(account, &kept.room, m, &wide, now, &mut out);
        out
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
        out
    }

    /// The clients of an account that are in a room, and the account's nickname there.
    pub fn clients(&self, account: &str, room: &str) -> Option<(String, Vec<String>)> {
        let m = self.membership(account, room)?;
        let clients = m.clients.iter().filter(|c| c.is_in()).map(|c| c.resource.to_string()).collect();
        Some((m.nick.to_string(), clients))
    }

    /// The resources of all clients that [`Accounts::groupchat`] may give a copy to, in its order.
    pub fn resources(&self, account: &str, room: &str) -> impl Iterator<Item = &str> {
        self.membership(account, room).into_iter().flat_map(|m| m.clients.iter().map(|c| &*c.resource))
    }

    /// The resource of the client whose presence an account shows in a room, if it is in it and one of its clients is.
    pub fn shown(&self, account: &str, room: &str) -> Option<&str> {
        let m = self.membership(account, room)?;
        Some(&*m.latest()?.resource)
    }

    /// Accounts, memberships, and bytes that are kept of what rooms said and of what waits for an answer, for metrics.
    pub fn totals(&self) -> (usize, usize, usize) {
        let memberships = self.accounts.values().map(|a| a.rooms.len()).sum();
        let requests: usize = self.accounts.values().map(|a| a.requests.bytes()).sum();
        (self.accounts.len(), memberships, self.memory.used() + requests)
    }

    /// Rooms, and the bytes that are kept of their occupants, for the shell.
    pub fn rooms(&self) -> impl Iterator<Item = (&str, usize)> {
        self.rooms.iter().map(|(name, room)| (&**name, room.view.bytes()))
    }
}
