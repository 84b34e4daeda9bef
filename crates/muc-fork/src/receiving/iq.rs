//! Requests and answers from a room and its occupants.

use crate::accounts::Accounts;
use crate::address::at;
use crate::build;
use crate::conditions::BUSY;
use crate::decision::{Decision, Edit, Id};
use crate::input::{Asks, FromRoom, Iq};

impl Accounts {
    /// An iq from a room or an occupant. `ping` says whether it asks for a ping, `for_account` whether it asks for
    /// something that accounts answer, not clients, and `asks` which exchange it belongs to.
    #[allow(clippy::too_many_arguments)]
    pub fn iq_from_room(
        &mut self,
        from: FromRoom,
        kind: Iq,
        ping: bool,
        for_account: bool,
        condition: Option<&str>,
        asks: Asks,
        now: u64,
    ) -> Option<Vec<Decision>> {
        from.id?;
        if kind != Iq::Request {
            return self.iq_answered(from, kind, condition, now);
        }
        let m = self.membership_mut(from.account, from.room)?;
        m.contact.heard = now;
        // What the room itself asks is the account's to answer, like some of what occupants ask.
        if for_account || from.nick.is_none() {
            return None;
        }
        // The room looks whether the account is still there.
        if ping && from.nick == Some(&m.nick) {
            return Some(vec![Decision::Answer]);
        }
        self.iq_given(from, asks, now)
    }

    /// The answer to a request of a client, or of the account's.
    fn iq_answered(
        &mut self,
        from: FromRoom,
        kind: Iq,
        condition: Option<&str>,
        now: u64,
    ) -> Option<Vec<Decision>> {
        let mut out = Vec::new();
        let id = from.id?;
        let requests = &mut self.accounts.get_mut(from.account)?.requests;
        if *requests.asked_mut(id)?.room != *from.room {
            return None;
        }
        let asked = requests.answered(id)?;
        if let Some(m) = self.membership_mut(from.account, from.room) {
            m.contact.heard = now;
        }
        if let Some(resource) = asked.resource {
            let came_from = from.nick.map_or_else(|| from.room.to_owned(), |nick| at(from.room, nick));
            let from = (came_from != asked.to).then_some(asked.to);
            out.push(Decision::Forward {
                resource,
                edit: Edit { from, id: Id::Set(asked.id.into()), ..Edit::default() },
            });
        }
        if asked.ping {
            self.pinged(from, kind, condition, now, &mut out);
        }
        Some(out)
    }

    /// An occupant's request is given to the client that has what it belongs to, else to the one that spoke last.
    fn iq_given(&mut self, from: FromRoom, asks: Asks, now: u64) -> Option<Vec<Decision>> {
        let mut out = Vec::new();
        let id = from.id?;
        let sender = from.nick.map_or_else(|| from.room.to_owned(), |nick| at(from.room, nick));
        let a = self.accounts.get_mut(from.account)?;
        let m = a.rooms.get(from.room)?;
        let begun = a.requests.client_for(&sender, asks, now, |resource| m.is_in(resource));
        let resource = match begun {
            Some(resource) => resource,
            None => {
                m.clients.iter().filter(|c| c.is_in()).max_by_key(|c| c.turn).map(|c| c.resource.clone())?
            }
        };
        if a.requests.give(&sender, id, &resource, asks, now) {
            out.push(Decision::Forward { resource, edit: Edit::default() });
        } else {
            let error = build::iq_error(from.account, BUSY);
            let stanza = build::addressed(&error, &[("to", &sender), ("id", id)], b"");
            out.push(Decision::Send { stanza });
        }
        Some(out)
    }
}
