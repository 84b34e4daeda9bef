//! A client that logs in anew with the resource that it has already (RFC 6120 §7.7.2.2).
//!
//! Its session ends and another one begins, which joins its rooms again in a moment. Would the account leave meanwhile, or show
//! another presence, every room told all of its occupants so, and the contrary at once. So the places of the one are held for the other:
//! it joins where the engine has it, and what the account shows has not changed. Where it has not joined for a while it is gone.

use crate::accounts::Accounts;
use crate::decision::Decision;

impl Accounts {
    /// A client's session ended since another one has its resource. What waits for its answer is answered; and the turn by which
    /// [`Accounts::not_back`] tells where it has not joined again.
    pub fn replaced(&mut self, account: &str, resource: &str) -> (u64, Vec<Decision>) {
        let mut out = Vec::new();
        self.answer_for(account, resource, &mut out);
        (self.turn, out)
    }

    /// The client has had the time: it is gone from the rooms that it has not joined since that turn. `online` says whether the account
    /// has a session.
    pub fn not_back(
        &mut self,
        account: &str,
        resource: &str,
        turn: u64,
        online: bool,
        now: u64,
    ) -> Vec<Decision> {
        let mut out = Vec::new();
        self.out_of_rooms(account, resource, turn, online, false, None, now, &mut out);
        out
    }
}
