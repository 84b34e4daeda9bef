//! The room says no, or nothing.

use crate::accounts::Accounts;
use crate::address::at;
use crate::build;
use crate::conditions::SILENT;
use crate::decision::{Decision, Edit, Id, Outcome};
use crate::input::{FromRoom, MucUser};
use crate::membership::{Client, Maybe, Phase, SETTLE_TIMEOUT, Stage};
use crate::serving::set_id;
use std::sync::Arc;

impl Accounts {
    /// The room says no, to a join, a nickname, or a presence of somebody whom it forgot.
    pub(crate) fn refused(
        &mut self,
        from: FromRoom,
        said: MucUser,
        presence: &[u8],
        now: u64,
        out: &mut Vec<Decision>,
    ) {
        let Some(m) = self.membership_mut(from.account, from.room) else { return };
        match m.phase {
            // An answer to something from before, or of a room that has ids of its own.
            Phase::Joining | Phase::Leaving if from.id.is_some_and(|id| id != m.join_id) => {
                if let Some(i) = m.renames.iter().position(|r| r.id.as_deref() == from.id) {
                    let rename = m.renames.remove(i);
                    out.push(Decision::Forward { resource: rename.resource, edit: Edit::default() });
                } else if m.phase == Phase::Joining && !m.is_quiet() && !m.retry && m.maybe.is_none() {
                    let transient = said.is_transient();
                    m.maybe = Some(Maybe::Refused { transient, presence: presence.into() });
                    if m.due > now + SETTLE_TIMEOUT {
                        self.wake(from.account, from.room, now + SETTLE_TIMEOUT);
                    }
                }
            }
            Phase::Joining if m.retry => {}
            // Of the room, and no answer to anything.
            Phase::Joining | Phase::Leaving if from.id.is_none() && from.nick.is_none_or(str::is_empty) => {}
            Phase::Joining => {
                self.turned_away(from.account, from.room, said.is_transient(), None, now, out);
            }
            Phase::Joined => {
                let rename = m.renames.iter().position(|r| match (&r.id, from.id) {
                    (Some(id), Some(this)) => **id == *this,
                    _ => from.nick == Some(&r.nick),
                });
                if let Some(i) = rename {
                    let rename = m.renames.remove(i);
                    out.push(Decision::Forward { resource: rename.resource, edit: Edit::default() });
                    if said.condition == Some("conflict") {
                        return; // it answers as one whom it knows
                    }
                } else if matches!(said.condition, Some("item-not-found" | "not-acceptable"))
                    || from.id == Some(&m.join_id)
                {
                    // The latter: it is in from a stay before, whose presence was taken for the answer to its join; the join
                    // itself failed, and so nobody has told who else is there.
                    self.rejoin(from.account, from.room, now, out);
                    return;
                } else if let Some((id, by)) = &m.changed_by
                    && from.id == Some(id)
                {
                    out.push(Decision::Forward { resource: by.clone(), edit: Edit::default() });
                }
                self.doubt(from.account, from.room, now, out);
            }
            Phase::Leaving => {
                // There is nobody to leave any more.
                for client in &m.clients {
                    if let Stage::Leaving { id } = &client.stage {
                        m.serve_left(from.account, from.room, client, set_id(id.as_deref()), &[110], out);
                    }
                }
                self.remove(from.account, from.room, out);
            }
            Phase::Away => {}
        }
    }

    /// The join failed. `error` is the room's, if it is not the stanza in hand.
    pub(crate) fn turned_away(
        &mut self,
        account: &str,
        room: &str,
        transient: bool,
        error: Option<Arc<[u8]>>,
        now: u64,
        out: &mut Vec<Decision>,
    ) {
        if transient && self.put_off(account, room, error.is_none(), now, out) {
            return;
        }
        let stays = self.stays(account, room, false, now);
        let Some(m) = self.membership_mut(account, room) else { return };
        for client in &m.clients {
            match &client.stage {
                Stage::Leaving { id } => {
                    m.serve_left(account, room, client, set_id(id.as_deref()), &[110], out);
                }
                Stage::Waiting { id, .. } => {
                    let from = Some(at(room, &client.asked));
                    let edit = Edit { from, id: set_id(id.as_deref()), ..Edit::default() };
                    let resource = client.resource.clone();
                    out.push(match &error {
                        None => Decision::Forward { resource, edit },
                        Some(error) => {
                            Decision::Serve { account: account.into(), resource, stanza: error.clone(), edit }
                        }
                    });
                }
                Stage::In { .. } => {}
            }
            if client.was_told() {
                m.serve_left(account, room, client, Id::Remove, &[110, 333], out);
            }
        }
        let outcome = if error.is_none() { Outcome::Refused } else { Outcome::Failed(SILENT) };
        m.answer_pam(account, room, outcome, out);
        let changed = m.bookmark_changed;
        if if transient { error.is_some() && !stays } else { error.is_some() || m.is_quiet() } {
            // It may be in from before, under another nickname, or be let in yet.
            m.clients.clear();
            self.depart(account, room, None, now, out);
        } else {
            self.give_up(account, room, transient, now, out);
        }
        if changed && !transient {
            self.follow(account, room, now, out);
        }
    }

    /// A join failed for now. Clients that have been told that they are in, or that have waited since before a restart, are not
    /// told of it while there is hope: it is tried again, with growing pauses. Says whether it is. Others that wait are told the
    /// error, that in hand (`error`) or that the room does not answer.
    pub(crate) fn put_off(
        &mut self,
        account: &str,
        room: &str,
        error: bool,
        now: u64,
        out: &mut Vec<Decision>,
    ) -> bool {
        let (join_timeout, outage) = (self.config(account).join_timeout, self.config(account).outage());
        let Some(m) = self.membership_mut(account, room) else { return false };
        let hope = if m.clients.iter().any(|c| c.stays() && c.was_told()) {
            outage
        } else if m.restored && m.is_used() {
            join_timeout
        } else {
            return false;
        };
        if now >= *m.trouble.get_or_insert(now) + hope {
            return false;
        }
        let restored = m.restored && m.never_in;
        let told: Vec<Client> = m
            .clients
            .extract_if(.., |c| match c.stage {
                Stage::In { .. } | Stage::Waiting { was_in: true, .. } => false,
                Stage::Waiting { .. } => !restored,
                Stage::Leaving { .. } => true,
            })
            .collect();
        for client in &told {
            match &client.stage {
                Stage::Waiting { id, .. } if error => {
                    let from = Some(at(room, &client.asked));
                    let edit = Edit { from, id: set_id(id.as_deref()), ..Edit::default() };
                    out.push(Decision::Forward { resource: client.resource.clone(), edit });
                }
                Stage::Waiting { id, .. } => out.push(Decision::Serve {
                    account: account.into(),
                    resource: client.resource.clone(),
                    stanza: build::presence_error(&at(room, &client.asked), SILENT).into(),
                    edit: Edit { id: set_id(id.as_deref()), ..Edit::default() },
                }),
                Stage::Leaving { id } => {
                    m.serve_left(account, room, client, set_id(id.as_deref()), &[110], out);
                }
                Stage::In { .. } => {}
            }
        }
        m.retry = true;
        m.failures += 1;
        let pause = 1u64 << m.failures.min(6);
        if !told.is_empty() {
            out.push(Decision::Persist { account: account.into() });
        }
        self.wake(account, room, now + pause);
        true
    }
}
