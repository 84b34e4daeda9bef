//! A client's requests and answers.

use crate::accounts::Accounts;
use crate::address::at;
use crate::conditions::BUSY;
use crate::decision::{Decision, Id};
use crate::input::{Asks, FromClient, Iq};
use crate::requests::{ANSWER_TIMEOUT, Asked};

impl Accounts {
    /// A client's iq to a room, or to an occupant. `ping` says whether it asks for a ping (XEP-0199), `asks` which exchange it
    /// belongs to.
    pub fn iq_from_client(
        &mut self,
        from: FromClient,
        kind: Iq,
        ping: bool,
        asks: Asks,
        now: u64,
    ) -> Option<Vec<Decision>> {
        let m = self.membership(from.account, from.room)?;
        let id = from.id?;
        let to = m.address(from, self.view(from.room));
        match kind {
            Iq::Request => {
                if !m.is_in(from.resource) || self.is_held(from) {
                    return None;
                }
                let ping = ping && from.nick.is_some() && to == at(from.room, &m.nick);
                let Some(new) = self.ask(from, ping, now) else {
                    return Some(vec![Decision::Refuse { condition: BUSY }]);
                };
                self.accounts.get_mut(from.account)?.requests.begin(&to, from.resource, asks, now);
                Some(vec![Decision::ToRoom { to, id: Id::Set(new) }])
            }
            Iq::Result | Iq::Error => {
                let a = self.accounts.get_mut(from.account)?;
                if a.requests.answer(&to, id, from.resource, kind == Iq::Error) {
                    return Some(vec![Decision::ToRoom { to, id: Id::Keep }]);
                }
                a.rooms.get(from.room)?.is_in(from.resource).then(Vec::new)
            }
        }
    }

    /// Notes a client's request that goes out as the account's; the `id` for it. None if too many are waiting.
    pub(crate) fn ask(&mut self, from: FromClient, ping: bool, now: u64) -> Option<String> {
        let new = self.new_id();
        let asked = Asked {
            room: from.room.into(),
            resource: Some(from.resource.into()),
            to: from.nick.map_or_else(|| from.room.to_owned(), |nick| at(from.room, nick)),
            id: from.id.unwrap_or_default().into(),
            ping,
            until: now + ANSWER_TIMEOUT,
        };
        self.accounts.get_mut(from.account)?.requests.ask(&new, asked, now).then_some(new)
    }
}
