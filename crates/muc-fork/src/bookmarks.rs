//! Bookmarks (XEP-0402): which rooms the account is in by itself.

use crate::accounts::{Accounts, Bookmark};
use crate::address::at;
use crate::build;
use crate::decision::Decision;
use crate::history::Request;
use crate::membership::{Membership, Phase};
use crate::order::in_order;

impl Accounts {
    /// A device of the account is online.
    pub fn online(&mut self, account: &str, now: u64) -> Vec<Decision> {
        let mut out = Vec::new();
        let Some(a) = self.accounts.get_mut(account) else { return out };
        if std::mem::replace(&mut a.online, true) {
            return out;
        }
        let is_out = |room: &str| a.rooms.get(room).is_none_or(Membership::is_ending);
        let wanted = a.bookmarks.iter().filter(|(room, b)| b.autojoin && is_out(room));
        let wanted = in_order(wanted.map(|(room, _)| room.clone()));
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
        // One that is only read now, after a start, need not be newer than what clients have given.
        let is_newer = before.is_some();
        let other = password.filter(|p| before.as_ref().is_none_or(|b| b.password.as_deref() != Some(p)));
        if let Some(m) = self.membership_mut(account, room)
            && if is_newer { m.passwords.prefer(other) } else { m.passwords.add(other) }
        {
            out.push(Decision::Persist { account: account.into() });
        }
        let had = before.as_ref().is_some_and(|b| b.autojoin);
        if autojoin != Some(true) {
            if had && self.membership(account, room).is_some_and(|m| !m.is_leaving()) {
                self.depart(account, room, None, now, &mut out);
            }
            return out;
        }
        let renamed = nick.is_some() && before.is_some_and(|b| b.nick.as_deref() != nick);
        let default = account.split('@').next().unwrap_or(account);
        let wanted = nick.filter(|n| !n.is_empty()).unwrap_or(default);
        let Some(m) = self.membership_mut(account, room) else {
            self.join_bookmarked(account, room, wanted, password, now, &mut out);
            return out;
        };
        match &mut m.phase {
            // The last wish counts: the room gets it behind the leave.
            Phase::Leaving(_) | Phase::Away => {
                self.join_bookmarked(account, room, wanted, password, now, &mut out);
            }
            Phase::Joining(joining) => {
                joining.bookmark_changed = true;
                m.nicknames.bookmarked = (renamed && *m.nick != *wanted).then(|| wanted.into());
            }
            Phase::Joined(_) => {
                let other = renamed && *m.nick != *wanted;
                let presence = m.shown.presence.clone();
                let id = self.new_id();
                if other {
                    let to = at(room, wanted);
                    let address = [("from", account), ("to", to.as_str()), ("id", id.as_str())];
                    out.push(Decision::Send { stanza: build::addressed(&presence, &address, b"") });
                }
            }
        }
        out
    }

    /// The account joins a room that it has a bookmark with autojoin for, if it may.
    fn join_bookmarked(
        &mut self,
        account: &str,
        room: &str,
        nick: &str,
        password: Option<&str>,
        now: u64,
        out: &mut Vec<Decision>,
    ) {
        if !self.stays(account, room, false, now) {
            return;
        }
        let max = self.config(account).max_rooms;
        let Some(a) = self.accounts.get(account) else { return };
        let counts = a.rooms.get(room).is_some_and(Membership::is_away);
        if a.rooms_in() >= max && !counts {
            return;
        }
        let m = Membership::new(nick, password, build::unattended(a.online).into(), now);
        self.begin_anew(account, room, m, now, out);
    }

    /// Whether the account's bookmarks are known. While they are not, it stays in the rooms that it is in: there may be one for each.
    pub fn bookmarks_known(&mut self, account: &str, known: bool, now: u64) {
        let a = self.accounts.entry(account.into()).or_default();
        if std::mem::replace(&mut a.bookmarks_unknown, !known) && known {
            let unattended = a.rooms.iter().filter(|(_, m)| m.is_joined() && !m.is_used());
            let rooms: Vec<Box<str>> = unattended.map(|(room, _)| room.clone()).collect();
            for room in rooms {
                self.wake(account, &room, now);
            }
        }
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
    pub(crate) fn begin_anew(
        &mut self,
        account: &str,
        room: &str,
        mut m: Membership,
        now: u64,
        out: &mut Vec<Decision>,
    ) {
        if let Some(old) = self.membership_mut(account, room) {
            for password in old.passwords.iter() {
                m.passwords.add(Some(password));
            }
            m.unconfirmed = if old.is_leaving() { old.unconfirmed + 1 } else { 0 };
            // They wait for the answer to their leave.
            m.clients = std::mem::take(&mut old.clients);
            self.take_out(account, room);
        }
        self.begin(account, room, m, &Request::default(), now, out);
    }
}
