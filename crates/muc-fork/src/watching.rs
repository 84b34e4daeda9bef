//! Time: what is due, and servers that come and go.

use crate::accounts::Accounts;
use crate::address;
use crate::decision::Decision;
use crate::history::Request;
use crate::membership::discussion::SETTLE_TIMEOUT;
use crate::membership::{Membership, Phase};
use crate::requests::ANSWER_TIMEOUT;
use std::cmp::Reverse;

/// So many rooms are looked at in a second when a server is back.
const LOOKS: u64 = 500;

impl Accounts {
    /// Time passed.
    pub fn tick(&mut self, now: u64) -> Vec<Decision> {
        let mut out = Vec::new();
        if now >= self.swept + ANSWER_TIMEOUT {
            self.swept = now;
            self.sweep(now);
        }
        while self.due.peek().is_some_and(|Reverse((at, _, _))| *at <= now) {
            let Some(Reverse((_, account, room))) = self.due.pop() else { break };
            self.look(&account, &room, now, &mut out);
        }
        self.end_holds(now, &mut out);
        // A room of the same server answers within the call that sends, and tells all accounts in it: whoever is served from what
        // was known before is served before that.
        let (sent, mut out): (Vec<_>, Vec<_>) =
            out.into_iter().partition(|decision| matches!(decision, Decision::Send { .. }));
        out.extend(sent);
        out
    }

    /// When to call [`Accounts::tick`] next, in seconds of the clock that it is told of.
    pub fn next_due(&self) -> Option<u64> {
        let due = self.due.peek().map(|Reverse((at, _, _))| *at);
        due.into_iter().chain(self.holds.next_due()).min()
    }

    /// Requests without an answer are forgotten, and accounts of which there is nothing to know. What was full and is not any more
    /// is said again if it is reached again.
    fn sweep(&mut self, now: u64) {
        let most = |limit: usize| limit / 4 * 3;
        let (room, account) = (most(self.limits.room), most(self.limits.account));
        self.full &= self.memory.used() > most(self.limits.server);
        self.rooms.values_mut().for_each(|r| r.full &= r.view.bytes() > room);
        self.accounts.retain(|_, a| {
            a.full &= a.memory.used() > account;
            a.requests.sweep(now);
            !a.is_empty()
        });
    }

    /// A membership is due.
    fn look(&mut self, account: &str, room: &str, now: u64, out: &mut Vec<Decision>) {
        let Some(m) = self.membership_mut(account, room) else { return };
        if m.due > now {
            return; // it was put off, and is in the heap again
        }
        m.due = u64::MAX;
        match &m.phase {
            Phase::Joining(joining) if joining.put_off => self.rejoin(account, room, now, out),
            Phase::Joining(joining)
                if joining.maybe.is_some() && (now < joining.until || m.unconfirmed == 0) =>
            {
                self.take_for_answer(account, room, now, out);
            }
            Phase::Joining(joining) if now < joining.until => {
                let until = joining.until;
                self.wake(account, room, until);
            }
            Phase::Joining(_) => self.unanswered_join(account, room, now, out),
            Phase::Leaving(leaving) if leaving.lingering => self.remove(account, room, out),
            Phase::Leaving(_) => self.linger(account, room, now, out),
            Phase::Joined(_) => self.look_inside(account, room, now, out),
            Phase::Away => self.try_again(account, room, now, out),
        }
    }

    /// The account is in a room: its join is complete by now, it may have no reason to be there any more, and it may be time to
    /// look whether it is.
    fn look_inside(&mut self, account: &str, room: &str, now: u64, out: &mut Vec<Decision>) {
        let silence = self.config(account).silence;
        let stays = self.stays(account, room, false, now);
        let Some(mut stay) = self.stay(account, room, out) else { return };
        stay.settle();
        let m = stay.m;
        let (used, grace, next) = (m.is_used(), m.grace, m.contact.heard + silence);
        let Some(joined) = m.joined_mut() else { return };
        if !used && !stays {
            self.depart(account, room, None, now, out);
        } else if std::mem::take(&mut joined.ping) {
            self.unanswered(account, room, now, out);
        } else if joined.doubt || next <= now {
            self.ping(account, room, now, out);
        } else {
            let next = if grace > now { next.min(grace) } else { next };
            self.wake(account, room, next);
        }
    }

    /// A room that could not be joined is tried again, if the account should be in it still.
    fn try_again(&mut self, account: &str, room: &str, now: u64, out: &mut Vec<Decision>) {
        if !self.stays(account, room, false, now) {
            self.remove(account, room, out);
            return;
        }
        let Some(mut m) = self.accounts.get_mut(account).and_then(|a| a.rooms.remove(room)) else { return };
        // What was said before is kept, and comes again.
        m.repeats.expected = true;
        if let Some(r) = self.rooms.get_mut(room) {
            r.accounts -= 1;
        }
        self.begin(account, room, m, &Request::default(), now, out);
    }

    /// A server can be reached again: rooms of it that could not be joined are tried at once. If it may have forgotten everything
    /// (`anew`: a component that connects), look whether its rooms still have us.
    pub fn server_up(&mut self, host: &str, anew: bool, now: u64) {
        let mut n = 0;
        for (account, a) in &mut self.accounts {
            for (room, m) in a.rooms.iter_mut().filter(|(room, _)| address::host(room) == host) {
                if m.is_due_to_server(anew) {
                    m.due = now + n / LOOKS;
                    n += 1;
                    self.due.push(Reverse((m.due, account.clone(), room.clone())));
                }
            }
        }
    }

    /// The connection to a server was lost: look, soon, whether its rooms still have us.
    pub fn server_lost(&mut self, host: &str, now: u64) {
        let due = now + SETTLE_TIMEOUT;
        for (account, a) in &mut self.accounts {
            for (room, m) in a.rooms.iter_mut().filter(|(room, _)| address::host(room) == host) {
                let Some(joined) = m.joined_mut() else { continue };
                joined.doubt = true;
                m.due = due;
                self.due.push(Reverse((due, account.clone(), room.clone())));
            }
        }
    }
}

impl Membership {
    /// Whether it is to be looked at now that its server can be reached again.
    fn is_due_to_server(&mut self, anew: bool) -> bool {
        match &mut self.phase {
            Phase::Joined(joined) if anew || self.contact.failures > 0 => {
                joined.doubt = true;
                joined.ping = false;
                true
            }
            Phase::Joining(joining) => joining.put_off,
            Phase::Away => true,
            Phase::Joined(_) | Phase::Leaving(_) => false,
        }
    }
}
