//! The account asks a room to let it in, for its first client or again.

pub(crate) mod admitted;

mod refused;

use crate::accounts::Accounts;
use crate::address::at;
use crate::build;
use crate::conditions::TOO_MANY;
use crate::decision::Decision;
use crate::history::Request;
use crate::input::{FromClient, Join};
use crate::membership::{Client, Membership, Phase, Stage};
use crate::room::Room;
use crate::serving::set_id;
use crate::view::likeness;
use std::sync::Arc;

/// How many a room is asked for if a client asks for something in particular.
pub(crate) const WIDE_HISTORY: usize = 100;

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
}
