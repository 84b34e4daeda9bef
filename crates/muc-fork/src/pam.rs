//! Joins that a client asks for by iq, for the account (MUC2-PAM).

use crate::accounts::Accounts;
use crate::build;
use crate::conditions::TOO_MANY;
use crate::decision::{Decision, Outcome};
use crate::input::FromClient;
use crate::membership::Membership;

impl Accounts {
    /// A client asks by iq for the account to join (MUC2-PAM), under a prepared nickname.
    pub fn pam_join(&mut self, from: FromClient, nick: &str, now: u64) -> Vec<Decision> {
        let mut out = Vec::new();
        let max = self.config(from.account).max_rooms;
        let a = self.accounts.entry(from.account.into()).or_default();
        a.online = true;
        let waiting = (from.resource.into(), from.id.unwrap_or("").into());
        let in_rooms = a.rooms.len();
        match a.rooms.get_mut(from.room) {
            Some(m) if !m.is_ending() => {
                m.pam.asked = true;
                m.pam.waiting.push(waiting);
                if m.is_joined() {
                    let nick = m.nick.clone();
                    m.answer_pam(from.account, from.room, Outcome::In(nick), &mut out);
                }
                out.push(Decision::Persist { account: from.account.into() });
            }
            _ if in_rooms >= max => out.push(Decision::Refuse { condition: TOO_MANY }),
            _ => {
                let mut m = Membership::new(nick, None, build::unattended(true).into(), now);
                m.pam.asked = true;
                m.pam.waiting.push(waiting);
                self.begin_anew(from.account, from.room, m, now, &mut out);
            }
        }
        out
    }
}

impl Membership {
    /// Those who wait for the account's being in are told how it went.
    pub(crate) fn answer_pam(
        &mut self,
        account: &str,
        room: &str,
        outcome: Outcome,
        out: &mut Vec<Decision>,
    ) {
        for (resource, id) in self.pam.waiting.drain(..) {
            let outcome = outcome.clone();
            out.push(Decision::Joined { account: account.into(), resource, id, room: room.into(), outcome });
        }
    }
}
