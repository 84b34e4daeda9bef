//! Other messages from a room: private ones, voice requests, errors.

use crate::accounts::Accounts;
use crate::decision::{Decision, Edit};
use crate::input::{FromRoom, Message, is_about_the_way};
use crate::membership::Membership;

impl Accounts {
    /// A message that is no groupchat: a private one, a voice request, or an error. Nobody gets it if no client is in
    /// the room; [`Accounts::is_attended`] says so before.
    pub fn message_from_room(
        &mut self,
        from: FromRoom,
        kind: Message,
        condition: Option<&str>,
        now: u64,
    ) -> Option<Vec<Decision>> {
        let mut out = Vec::new();
        let m = self.membership_mut(from.account, from.room)?;
        m.contact.heard = now;
        let everybody = m.clients.iter().filter(|c| c.is_in());
        if kind != Message::Error {
            for client in everybody {
                out.push(Decision::Forward { resource: client.resource.clone(), edit: Edit::default() });
            }
            return Some(out);
        }
        let sender = m.sent.iter().rev().find(|(id, _)| from.id == Some(id)).map(|(_, by)| by.clone());
        let sender = sender.filter(|by| m.is_in(by)).or_else(|| {
            let mut everybody = everybody;
            let first = everybody.next().map(|c| c.resource.clone());
            first.filter(|_| everybody.next().is_none())
        });
        if let Some(resource) = sender {
            out.push(Decision::Forward { resource, edit: Edit::default() });
        }
        let doubtful =
            condition.is_some_and(|c| c == "not-acceptable" || (from.nick.is_none() && is_about_the_way(c)));
        if doubtful && m.is_joined() {
            // Look first: it may have been about the one whom it was for.
            self.doubt(from.account, from.room, now, &mut out);
        }
        Some(out)
    }

    /// Whether the account is in the room, and whether a client of it is.
    pub fn is_attended(&self, account: &str, room: &str) -> Option<bool> {
        self.membership(account, room).map(Membership::is_attended)
    }
}
