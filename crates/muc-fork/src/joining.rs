//! The account asks a room to let it in, for its first client or again.

pub(crate) mod admitted;
mod refused;
mod wishes;

use crate::accounts::Accounts;
use crate::address::at;
use crate::build;
use crate::conditions::TOO_MANY;
use crate::decision::Decision;
use crate::history::Request;
use crate::input::{FromClient, Join};
use crate::membership::client::{Client, Stage};
use crate::membership::joining::Joining;
use crate::membership::{Membership, Phase};
use crate::room::Room;
use crate::serving::set_id;
use std::sync::Arc;

/// How many messages a room is asked for if a client asks for something in particular.
const WIDE_HISTORY: usize = 100;

/// What the account asks for when it joins again.
pub(crate) const WIDE: Request = Request { maxstanzas: Some(WIDE_HISTORY), maxchars: None, since: None };

impl Accounts {
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
        let counts = account.rooms.get(from.room).is_some_and(Membership::is_away);
        if account.rooms_in() >= max && !counts {
            out.push(Decision::Refuse { condition: TOO_MANY });
            return;
        }
        self.turn += 1;
        let shown: Arc<[u8]> = payload.into();
        let mut m = Membership::new(nick, join.password, shown.clone(), now);
        if let Some(old) = account.rooms.remove(from.room) {
            self.follow_on(&mut m, old, from, out);
        }
        m.clients.push(Client {
            resource: from.resource.into(),
            asked: nick.into(),
            presence: shown,
            turn: self.turn,
            stage: Stage::Waiting {
                id: from.id.map(Into::into),
                request: join.history,
                password: join.own_password(),
                was_in: false,
            },
            has_subject: false,
            late: None,
            errors: 0,
        });
        self.begin(from.account, from.room, m, &join.history, now, out);
    }

    /// A membership begins where another has not ended: one whose leave is not confirmed, or that could not be joined.
    fn follow_on(
        &mut self,
        m: &mut Membership,
        mut old: Membership,
        from: FromClient,
        out: &mut Vec<Decision>,
    ) {
        if let Some(room) = self.rooms.get_mut(from.room) {
            room.forget_seen(from.room, &mut old, &mut self.changes);
            room.compared(from.room, &mut old, &mut self.changes);
            room.accounts -= 1;
        }
        m.unconfirmed = old.unconfirmed;
        m.other_ids = old.other_ids;
        if old.is_away() {
            for password in old.passwords.iter() {
                m.passwords.add(Some(password));
            }
            m.codes.untold = std::mem::take(&mut old.codes.untold); // the room may have had the account all the while
        }
        if old.is_leaving() {
            m.unconfirmed += 1;
            if let Some(client) = old.client(from.resource)
                && let Stage::Leaving { id } = &client.stage
            {
                old.serve_left(from.account, from.room, client, set_id(id.as_deref()), &[110], out);
            }
            m.clients = std::mem::take(&mut old.clients);
            m.clients.retain(|c| &*c.resource != from.resource);
        }
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
        let id = self.new_id();
        let until = now + self.config(account).join_timeout;
        // A narrow request is answered from a wide answer, so that there is something for those who come later.
        m.discussion.begin(request);
        let max = (!m.discussion.asked_default).then(|| WIDE_HISTORY.max(request.maxstanzas.unwrap_or(0)));
        let x = build::join_x(m.passwords.first(), max);
        let to = at(room, &m.nick);
        let address = [("from", account), ("to", to.as_str()), ("id", id.as_str())];
        let stanza = build::addressed(&m.shown.presence, &address, &x);
        let password = m.passwords.first().map(Into::into);
        m.phase = Phase::Joining(Joining { password, ..Joining::asked(id, until) });
        m.contact.heard = now;
        let memory = &self.memory;
        self.rooms.entry(room.into()).or_insert_with(|| Room::new(memory)).accounts += 1;
        let a = self.accounts.entry(account.into()).or_default();
        m.seen.count(&a.memory, memory);
        m.discussion.weight.move_to(&a.memory);
        a.rooms.insert(room.into(), m);
        self.wake(account, room, until);
        out.push(Decision::Persist { account: account.into() });
        out.push(Decision::Send { stanza });
    }

    /// The account joins again without its clients' knowing: it was forgotten, or the server started anew.
    pub(crate) fn rejoin(&mut self, account: &str, room: &str, now: u64, out: &mut Vec<Decision>) {
        let Some(a) = self.accounts.get_mut(account) else { return };
        let Some(mut m) = a.rooms.remove(room) else { return };
        if let Some(r) = self.rooms.get_mut(room) {
            r.compare_seen(&mut m);
            r.forget_seen(room, &mut m, &mut self.changes);
            r.accounts -= 1;
        }
        m.expect_repeats();
        for rename in &mut m.nicknames.renames {
            rename.waits = true;
        }
        m.shown.changed_by = None;
        self.begin(account, room, m, &WIDE, now, out);
    }
}
