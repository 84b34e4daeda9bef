//! The room says no, or nothing.

use crate::accounts::Accounts;
use crate::address::at;
use crate::build;
use crate::conditions::SILENT;
use crate::decision::{Decision, Edit, Id, Outcome};
use crate::input::{FromRoom, MucUser, Refusal};
use crate::membership::client::{Client, Stage};
use crate::membership::discussion::{SETTLE_TIMEOUT, SOON};
use crate::membership::joining::Maybe;
use crate::membership::{Membership, Phase};
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
        let of_room = from.id.is_none() && from.nick.is_none_or(str::is_empty);
        match &m.phase {
            // An answer to something from before, or of a room that has ids of its own.
            Phase::Joining(joining) if from.id.is_some_and(|id| id != joining.id) => {
                self.another_refused(from, said, presence, now, out);
            }
            Phase::Leaving(leaving) if from.id.is_some_and(|id| id != leaving.id) => {
                m.rename_refused(from, out);
            }
            Phase::Joining(joining) if joining.put_off => {}
            // Some gateways refuse a join like this. It may be no answer to anything as well, and then nobody is to be told.
            Phase::Joining(_) if of_room => {
                if m.clients.iter().any(|c| matches!(c.stage, Stage::Waiting { .. })) {
                    self.may_be_refused(from, said, presence, now + SOON);
                }
            }
            Phase::Leaving(_) if of_room => {}
            Phase::Joining(_) => {
                self.turned_away(from.account, from.room, said.refusal(), None, now, out);
            }
            Phase::Joined(_) => self.refused_inside(from, said, now, out),
            Phase::Leaving(_) => {
                // There is nobody to leave any more.
                m.serve_leaving(from.account, from.room, out);
                self.remove(from.account, from.room, out);
            }
            Phase::Away => {}
        }
    }

    /// While the account joins, the room refuses what has not the join's `id`.
    fn another_refused(
        &mut self,
        from: FromRoom,
        said: MucUser,
        presence: &[u8],
        now: u64,
        out: &mut Vec<Decision>,
    ) {
        let Some(m) = self.membership_mut(from.account, from.room) else { return };
        if !m.rename_refused(from, out) {
            self.may_be_refused(from, said, presence, now + SETTLE_TIMEOUT);
        }
    }

    /// If nothing better comes until then, the join is refused.
    fn may_be_refused(&mut self, from: FromRoom, said: MucUser, presence: &[u8], until: u64) {
        let Some(m) = self.membership_mut(from.account, from.room) else { return };
        let (quiet, due) = (m.is_quiet(), m.due);
        let Some(joining) = m.joining_mut() else { return };
        if !quiet && !joining.put_off && joining.maybe.is_none() {
            joining.maybe = Some(Maybe::Refused { refusal: said.refusal(), presence: presence.into() });
            if due > until {
                self.wake(from.account, from.room, until);
            }
        }
    }

    /// The room refuses something to an account that is in, as far as is known.
    fn refused_inside(&mut self, from: FromRoom, said: MucUser, now: u64, out: &mut Vec<Decision>) {
        let Some(m) = self.membership_mut(from.account, from.room) else { return };
        let Phase::Joined(joined) = &m.phase else { return };
        let of_join = from.id == Some(&joined.join_id);
        let forgotten = matches!(said.condition, Some("item-not-found" | "not-acceptable"));
        let renames = &mut m.nicknames.renames;
        let rename = renames.iter().position(|r| match (&r.id, from.id) {
            (Some(id), Some(this)) => **id == *this,
            _ => from.nick == Some(&r.nick),
        });
        if let Some(i) = rename {
            let rename = renames.remove(i);
            out.push(Decision::Forward { resource: rename.resource, edit: Edit::default() });
            if said.condition == Some("conflict") {
                return; // it answers as one whom it knows
            }
        } else if forgotten || of_join {
            // The latter: it is in from a stay before, whose presence was taken for the answer to its join; the join itself
            // failed, and so nobody has told who else is there.
            self.rejoin(from.account, from.room, now, out);
            return;
        } else if let Some((id, by)) = &m.shown.changed_by
            && from.id == Some(id)
        {
            out.push(Decision::Forward { resource: by.clone(), edit: Edit::default() });
        }
        self.doubt(from.account, from.room, now, out);
    }

    /// The join failed. `error` is the room's, if it is not the stanza in hand.
    pub(crate) fn turned_away(
        &mut self,
        account: &str,
        room: &str,
        refusal: Refusal,
        error: Option<Arc<[u8]>>,
        now: u64,
        out: &mut Vec<Decision>,
    ) {
        let transient = refusal == Refusal::Transient;
        let goes_on = if transient {
            self.put_off(account, room, error.is_none(), now, out)
        } else {
            self.try_next(account, room, refusal, error.as_ref(), now, out)
        };
        if goes_on {
            return;
        }
        let stays = self.stays(account, room, false, now);
        let Some(m) = self.membership_mut(account, room) else { return };
        m.tell_refused(account, room, &m.clients, error.as_ref(), out);
        let outcome = if error.is_none() { Outcome::Refused } else { Outcome::Failed(SILENT) };
        m.answer_pam(account, room, outcome, out);
        let quiet = m.is_quiet();
        let bookmark_changed = m.joining_mut().is_some_and(|joining| joining.bookmark_changed);
        // It may be in from before, under another nickname, or be let in yet.
        let may_be_in = if transient { error.is_some() && !stays } else { error.is_some() || quiet };
        if may_be_in {
            m.clients.clear();
            self.depart(account, room, None, now, out);
        } else {
            self.give_up(account, room, transient, now, out);
        }
        if bookmark_changed && !transient {
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
        if now >= *m.contact.trouble.get_or_insert(now) + hope {
            return false;
        }
        if m.tell_put_off(account, room, error, out) {
            out.push(Decision::Persist { account: account.into() });
        }
        if let Some(joining) = m.joining_mut() {
            joining.put_off = true;
        }
        m.contact.failures += 1;
        let pause = 1u64 << m.contact.failures.min(6);
        self.wake(account, room, now + pause);
        true
    }

    /// The room has not answered the account's join in time.
    pub(crate) fn unanswered_join(&mut self, account: &str, room: &str, now: u64, out: &mut Vec<Decision>) {
        let stays = self.stays(account, room, false, now);
        if self.put_off(account, room, false, now, out) {
            return;
        }
        let Some(stay) = self.stay(account, room, out) else { return };
        for client in &stay.m.clients {
            match &client.stage {
                Stage::Waiting { id, .. } => {
                    stay.m.serve_silence(account, room, client, id.as_deref(), stay.out);
                }
                Stage::In { .. } => {}
                Stage::Leaving { id } => {
                    stay.m.serve_left(account, room, client, set_id(id.as_deref()), &[110], stay.out);
                }
            }
            if client.was_told() {
                stay.m.serve_left(account, room, client, Id::Remove, &[110, 333], stay.out);
            }
        }
        stay.m.answer_pam(account, room, Outcome::Failed(SILENT), stay.out);
        stay.m.clients.clear();
        stay.room.compared(room, stay.m, stay.changes);
        if stays {
            self.give_up(account, room, true, now, out);
        } else {
            // Should it answer after all, it is told at once that nobody is there.
            self.depart(account, room, None, now, out);
        }
    }
}

impl Membership {
    /// The room refuses a nickname that a client asked for, if that is what it refuses.
    fn rename_refused(&mut self, from: FromRoom, out: &mut Vec<Decision>) -> bool {
        let renames = &mut self.nicknames.renames;
        let Some(i) = renames.iter().position(|r| r.id.as_deref() == from.id) else { return false };
        let rename = renames.remove(i);
        out.push(Decision::Forward { resource: rename.resource, edit: Edit::default() });
        true
    }

    /// Clients are told that the account is not let in: by the error in hand, or by another.
    pub(crate) fn tell_refused(
        &self,
        account: &str,
        room: &str,
        clients: &[Client],
        error: Option<&Arc<[u8]>>,
        out: &mut Vec<Decision>,
    ) {
        for client in clients {
            match &client.stage {
                Stage::Leaving { id } => {
                    self.serve_left(account, room, client, set_id(id.as_deref()), &[110], out);
                }
                Stage::Waiting { id, .. } => {
                    let from = Some(at(room, &client.asked));
                    let edit = Edit { from, id: set_id(id.as_deref()), ..Edit::default() };
                    let resource = client.resource.clone();
                    out.push(match error {
                        None => Decision::Forward { resource, edit },
                        Some(error) => {
                            Decision::Serve { account: account.into(), resource, stanza: error.clone(), edit }
                        }
                    });
                }
                Stage::In { .. } => {}
            }
            if client.was_told() {
                self.serve_left(account, room, client, Id::Remove, &[110, 333], out);
            }
        }
    }

    /// The join is put off: who is not to wait for the next one is told, and is no client any more. Says whether there are such.
    fn tell_put_off(&mut self, account: &str, room: &str, error: bool, out: &mut Vec<Decision>) -> bool {
        let restored = self.restored && self.never_in;
        let told: Vec<Client> = self
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
                Stage::Waiting { id, .. } => self.serve_silence(account, room, client, id.as_deref(), out),
                Stage::Leaving { id } => {
                    self.serve_left(account, room, client, set_id(id.as_deref()), &[110], out);
                }
                Stage::In { .. } => {}
            }
        }
        !told.is_empty()
    }

    /// A client that waits to be let in is told that the room does not answer.
    fn serve_silence(
        &self,
        account: &str,
        room: &str,
        client: &Client,
        id: Option<&str>,
        out: &mut Vec<Decision>,
    ) {
        out.push(Decision::Serve {
            account: account.into(),
            resource: client.resource.clone(),
            stanza: build::presence_error(&at(room, &client.asked), SILENT).into(),
            edit: Edit { id: set_id(id), ..Edit::default() },
        });
    }
}
