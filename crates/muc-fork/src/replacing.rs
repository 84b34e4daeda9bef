//! A client that logs in anew with the resource that it has already (RFC 6120 §7.7.2.2).
//!
//! Its session ends and another one begins, which joins its rooms again in a moment. Would the account leave meanwhile, or show
//! another presence, every room told all of its occupants so, and the contrary at once. So the places of the one are held for the other:
//! it joins where the engine has it, and what the account shows has not changed. Where it has not joined for a while it is gone.
//!
//! While its place in a room is held a client is told nothing of who is there and what is said: it has not asked for that. When it joins it
//! gets all of it. What is for it alone (private messages, answers) it gets, and may answer. Anything else that it sends before goes to the
//! room as its own, not as the account's, and the room tells it that it is not in.

use crate::accounts::Accounts;
use crate::copies::room_of;
use crate::decision::Decision;
use crate::holds::Hold;
use crate::input::FromClient;

/// For how many seconds they are.
pub const HOLD: u64 = 15;

impl Accounts {
    /// A client's session ended since another one has its resource. What waits for its answer is answered.
    pub fn replaced(&mut self, account: &str, resource: &str, now: u64) -> Vec<Decision> {
        let mut out = Vec::new();
        self.answer_for(account, resource, &mut out);
        let Some(a) = self.accounts.get(account) else { return out };
        let rooms = a.rooms.iter().filter(|(_, m)| m.client(resource).is_some());
        let hold =
            Hold { turn: self.turn, until: now + HOLD, rooms: rooms.map(|(r, _)| r.clone()).collect() };
        if !hold.rooms.is_empty() {
            self.holds.begin(account, resource, hold);
        }
        out
    }

    /// Clients that have had the time are gone from the rooms that they have not joined again.
    pub(crate) fn end_holds(&mut self, now: u64, out: &mut Vec<Decision>) {
        for (account, resource, turn) in self.holds.due(now) {
            self.holds.end(&account, &resource);
            let online = self.accounts.get(&account).is_some_and(|a| a.online);
            self.out_of_rooms(&account, &resource, turn, online, false, None, now, out);
        }
    }

    /// Whether the client has not joined the room where its place is held. What it sends is no occupant's then.
    pub(crate) fn is_held(&self, from: FromClient) -> bool {
        self.holds.has(from.account, from.resource, from.room)
    }

    /// Takes out what clients are not told while their places are held.
    pub fn withhold(&self, all: &mut Vec<Decision>) {
        if self.holds.is_empty() {
            return;
        }
        all.retain(|decision| {
            let Decision::Serve { account, resource, stanza, edit } = decision else { return true };
            room_of(stanza, edit).is_none_or(|room| !self.holds.has(account, resource, room))
        });
    }
}
