//! Time: what is due, and whether the account is still in rooms that are silent.

use crate::accounts::Accounts;
use crate::address;
use crate::address::at;
use crate::build;
use crate::conditions::SILENT;
use crate::decision::{Decision, Edit, Id, Outcome};
use crate::history::Request;
use crate::leaving::LINGER;
use crate::membership::{Phase, SETTLE_TIMEOUT, Stage};
use crate::requests::ANSWER_TIMEOUT;
use crate::serving::set_id;
use std::cmp::Reverse;

/// So many rooms are looked at in a second when a server is back.
const LOOKS: u64 = 500;

impl Accounts {
    /// Time passed.
    pub fn tick(&mut self, now: u64) -> Vec<Decision> {
        let mut out = Vec::new();
        if now >= self.swept + ANSWER_TIMEOUT {
            self.swept = now;
            // Said again if it is reached again.
            let (room, account, server) =
                (self.limits.room / 4 * 3, self.limits.account / 4 * 3, self.limits.server / 4 * 3);
            self.full &= self.memory.used() > server;
            self.rooms.values_mut().for_each(|r| r.full &= r.view.bytes() > room);
            self.accounts.retain(|_, a| {
                a.full &= a.memory.used() > account;
                a.requests.sweep(now);
                !a.is_empty()
            });
        }
        while self.due.peek().is_some_and(|Reverse((at, _, _))| *at <= now) {
            let Some(Reverse((_, account, room))) = self.due.pop() else { break };
            self.look(&account, &room, now, &mut out);
        }
        out
    }

    /// When to call [`Accounts::tick`] next.
    pub fn next_due(&self) -> Option<u64> {
        self.due.peek().map(|Reverse((at, _, _))| *at)
    }

    pub(crate) fn look(&mut self, account: &str, room: &str, now: u64, out: &mut Vec<Decision>) {
        let silence = self.config(account).silence;
        let stays = self.stays(account, room, false, now);
        let Some(m) = self.accounts.get_mut(account).and_then(|a| a.rooms.get_mut(room)) else { return };
        if m.due > now {
            return; // it was put off, and is in the heap again
        }
        m.due = u64::MAX;
        match m.phase {
            Phase::Joining if m.retry => self.rejoin(account, room, now, out),
            Phase::Joining if m.maybe.is_some() && (now < m.until || m.unconfirmed == 0) => {
                self.take_for_answer(account, room, now, out);
            }
            Phase::Joining if now < m.until => {
                let until = m.until;
                self.wake(account, room, until);
            }
            Phase::Joining => {
                if self.put_off(account, room, false, now, out) {
                    return;
                }
                let Some(m) = self.accounts.get_mut(account).and_then(|a| a.rooms.get_mut(room)) else {
                    return;
                };
                for client in &m.clients {
                    match &client.stage {
                        Stage::Waiting { id, .. } => out.push(Decision::Serve {
                            account: account.into(),
                            resource: client.resource.clone(),
                            stanza: build::presence_error(&at(room, &client.asked), SILENT).into(),
                            edit: Edit { id: set_id(id.as_deref()), ..Edit::default() },
                        }),
                        Stage::In { .. } => {}
                        Stage::Leaving { id } => {
                            m.serve_left(account, room, client, set_id(id.as_deref()), &[110], out)
                        }
                    }
                    if client.was_told() {
                        m.serve_left(account, room, client, Id::Remove, &[110, 333], out);
                    }
                }
                m.answer_pam(account, room, Outcome::Failed(SILENT), out);
                m.clients.clear();
                if let Some(r) = self.rooms.get_mut(room) {
                    r.compared(room, m, &mut self.changes);
                }
                if stays {
                    self.give_up(account, room, true, now, out);
                } else {
                    // Should it answer after all, it is told at once that nobody is there.
                    self.depart(account, room, None, now, out);
                }
            }
            Phase::Leaving => {
                if m.lingering {
                    self.remove(account, room, out);
                    return;
                }
                for client in &m.clients {
                    if let Stage::Leaving { id } = &client.stage {
                        m.serve_left(account, room, client, set_id(id.as_deref()), &[110], out);
                    }
                }
                m.clients.clear();
                m.lingering = true;
                self.wake(account, room, now + LINGER);
            }
            Phase::Joined => {
                if let Some(r) = self.rooms.get_mut(room) {
                    m.settle(account, room, r, &mut self.changes, out);
                }
                if !m.is_used() && !stays {
                    self.depart(account, room, None, now, out);
                    return;
                }
                if m.ping.take().is_some() {
                    self.unanswered(account, room, now, out);
                    return;
                }
                let grace = m.grace;
                let next = m.heard + silence;
                if m.doubt || next <= now {
                    self.ping(account, room, now, out);
                } else {
                    let next = if grace > now { next.min(grace) } else { next };
                    self.wake(account, room, next);
                }
            }
            Phase::Away => {
                if !stays {
                    self.remove(account, room, out);
                    return;
                }
                let Some(mut m) = self.accounts.get_mut(account).and_then(|a| a.rooms.remove(room)) else {
                    return;
                };
                // What was said before is kept, and comes again.
                m.rejoined = true;
                if let Some(r) = self.rooms.get_mut(room) {
                    r.accounts -= 1;
                }
                self.begin(account, room, m, &Request::default(), now, out);
            }
        }
    }

    /// A server can be reached again: rooms of it that could not be joined are tried at once. If it may have forgotten everything
    /// (`anew`: a component that connects), look whether its rooms still have us.
    pub fn server_up(&mut self, host: &str, anew: bool, now: u64) {
        let mut n = 0;
        for (account, a) in &mut self.accounts {
            for (room, m) in a.rooms.iter_mut().filter(|(room, _)| address::host(room) == host) {
                let waits = m.phase == Phase::Away || (m.phase == Phase::Joining && m.retry);
                if m.phase == Phase::Joined && (anew || m.failures > 0) {
                    m.doubt = true;
                    m.ping = None;
                } else if !waits {
                    continue;
                }
                m.due = now + n / LOOKS;
                n += 1;
                self.due.push(Reverse((m.due, account.clone(), room.clone())));
            }
        }
    }

    /// The connection to a server was lost: look, soon, whether its rooms still have us.
    pub fn server_lost(&mut self, host: &str, now: u64) {
        let rooms: Vec<(Box<str>, Box<str>)> = self
            .accounts
            .iter()
            .flat_map(|(account, a)| a.rooms.iter().map(move |(room, m)| (account, room, m)))
            .filter(|(_, room, m)| m.phase == Phase::Joined && address::host(room) == host)
            .map(|(account, room, _)| (account.clone(), room.clone()))
            .collect();
        for (account, room) in rooms {
            if let Some(m) = self.membership_mut(&account, &room) {
                m.doubt = true;
            }
            self.wake(&account, &room, now + SETTLE_TIMEOUT);
        }
    }
}
