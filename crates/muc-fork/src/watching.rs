//! Time: rooms that do not answer, and whether the account is still in those that are silent (XEP-0410).

use crate::build;
use crate::decision::{Decision, Edit, Id, Outcome};
use crate::fork::{ANSWER_TIMEOUT, Asked, Fork, LINGER, PING_TRIES, SETTLE_TIMEOUT, SILENT, at, set_id};
use crate::history::Request;
use crate::input::{FromRoom, Iq};
use crate::membership::{Phase, Stage};
use std::cmp::Reverse;

impl Fork {
    pub(crate) fn ping(&mut self, account: &str, room: &str, now: u64, out: &mut Vec<Decision>) {
        let patience = self.config(account).patience();
        let id = self.new_id();
        let Some(m) = self.membership_mut(account, room) else { return };
        if m.ping.is_some() {
            return;
        }
        let to = at(room, &m.nick);
        m.ping = Some(id.clone());
        out.push(Decision::Send { stanza: build::self_ping(account, &to, &id) });
        self.asked.insert(
            id,
            Asked {
                account: account.into(),
                room: room.into(),
                resource: None,
                to,
                id: "".into(),
                ping: true,
                until: now + ANSWER_TIMEOUT,
            },
        );
        self.wake(account, room, now + patience);
    }

    /// What a ping to one's own nickname told (XEP-0410 §3.3).
    pub(crate) fn pinged(
        &mut self,
        from: FromRoom,
        kind: Iq,
        condition: Option<&str>,
        now: u64,
        out: &mut Vec<Decision>,
    ) {
        let silence = self.config(from.account).silence;
        let Some(m) = self.membership_mut(from.account, from.room) else { return };
        if m.phase != Phase::Joined {
            return;
        }
        m.ping = None;
        let there = kind == Iq::Result
            || matches!(
                condition,
                Some("service-unavailable" | "feature-not-implemented" | "item-not-found")
            );
        let unknown = matches!(condition, Some("remote-server-not-found" | "remote-server-timeout"));
        if there {
            m.failures = 0;
            self.wake(from.account, from.room, now + silence);
        } else if unknown {
            self.unanswered(from.account, from.room, now, out);
        } else {
            self.rejoin(from.account, from.room, now, out);
        }
    }

    pub(crate) fn unanswered(&mut self, account: &str, room: &str, now: u64, out: &mut Vec<Decision>) {
        let patience = self.config(account).patience();
        let Some(m) = self.membership_mut(account, room) else { return };
        m.failures += 1;
        if m.failures < PING_TRIES {
            self.wake(account, room, now + patience);
            return;
        }
        for client in &m.clients {
            m.serve_left(account, room, client, Id::Remove, &[110, 333], out);
        }
        self.give_up(account, room, true, now, out);
    }

    /// The connection to a server was lost: look, soon, whether its rooms still have us.
    pub fn server_lost(&mut self, host: &str, now: u64) {
        let rooms: Vec<(Box<str>, Box<str>)> = self
            .accounts
            .iter()
            .flat_map(|(account, a)| a.rooms.iter().map(move |(room, m)| (account, room, m)))
            .filter(|(_, room, m)| m.phase == Phase::Joined && crate::fork::host(room) == host)
            .map(|(account, room, _)| (account.clone(), room.clone()))
            .collect();
        for (account, room) in rooms {
            if let Some(m) = self.membership_mut(&account, &room) {
                m.heard = 0;
            }
            self.wake(&account, &room, now + SETTLE_TIMEOUT);
        }
    }

    /// Time passed.
    pub fn tick(&mut self, now: u64) -> Vec<Decision> {
        let mut out = Vec::new();
        if now >= self.swept + ANSWER_TIMEOUT {
            self.swept = now;
            self.asked.retain(|_, a| a.until > now);
            self.given.retain(|g| g.until > now);
        }
        while self.due.peek().is_some_and(|Reverse((at, _, _))| *at <= now) {
            let Some(Reverse((_, account, room))) = self.due.pop() else { break };
            self.look(&account, &room, now, &mut out);
        }
        out
    }

    /// When to call [`Fork::tick`] next.
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
            Phase::Joining if m.maybe.is_some() && (now < m.until || m.unconfirmed == 0) => {
                self.take_for_answer(account, room, now, out);
            }
            Phase::Joining if now < m.until => {
                let until = m.until;
                self.wake(account, room, until);
            }
            Phase::Joining => {
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
                if next <= now {
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
                let Some(m) = self.accounts.get_mut(account).and_then(|a| a.rooms.remove(room)) else {
                    return;
                };
                if let Some(r) = self.rooms.get_mut(room) {
                    r.accounts -= 1;
                }
                self.begin(account, room, m, &Request::default(), now, out);
            }
        }
    }
}
