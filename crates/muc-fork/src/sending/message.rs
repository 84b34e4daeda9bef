//! A client's messages, and clients that answer theirs by errors.

use crate::accounts::Accounts;
use crate::decision::{Decision, Id};
use crate::input::{FromClient, Message};

/// A client is taken for gone when it answered so many stanzas of a room in a row with one of these conditions.
const BROKEN: u32 = 5;
const GONE: &[&str] = &[
    "gone",
    "internal-server-error",
    "item-not-found",
    "jid-malformed",
    "recipient-unavailable",
    "redirect",
    "remote-server-not-found",
    "remote-server-timeout",
    "service-unavailable",
];

impl Accounts {
    /// A client's message to a room, or to an occupant. Errors never leave as the account's: rooms would throw it out. `condition`
    /// is that of an error.
    pub fn message_from_client(
        &mut self,
        from: FromClient,
        kind: Message,
        condition: Option<&str>,
        now: u64,
    ) -> Option<Vec<Decision>> {
        let is_held = self.is_held(from);
        let to = self.membership(from.account, from.room)?.address(from, self.view(from.room));
        let m = self.membership_mut(from.account, from.room)?;
        if kind == Message::Error {
            return Some(self.broken(from, condition, now));
        }
        if is_held {
            return None;
        }
        let client = m.client_mut(from.resource).filter(|c| c.is_in())?;
        client.errors = 0;
        if let Some(id) = from.id {
            m.note_sent(id, from.resource);
        }
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
        m.nicknames.renames.retain(|r| *r.resource != *from.resource);
        m.serve_left(from.account, from.room, &client, Id::Remove, &[110, 333], &mut out);
        out.push(Decision::Persist { account: from.account.into() });
        let (used, ending) = (m.is_used(), m.is_ending());
        if used || self.stays(from.account, from.room, false, now) {
            self.show_latest(from.account, from.room, &mut out);
        } else if !ending {
            self.depart(from.account, from.room, None, now, &mut out);
        }
        out
    }
}
