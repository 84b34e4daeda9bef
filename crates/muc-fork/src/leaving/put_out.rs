//! The account is out of a room: thrown out, the room is gone, or its leave is confirmed.

use crate::accounts::Accounts;
use crate::build;
use crate::decision::{Decision, Edit, Id};
use crate::input::{FromRoom, MucUser};
use crate::membership::client::Stage;
use crate::membership::joining::Joining;
use crate::membership::{Membership, Phase};
use crate::serving::set_id;
use crate::stay::Stay;

impl Accounts {
    /// The account's own unavailable presence: it was kicked, banned, the room is gone, or it left (XEP-0045 §7.14, §8.2, §9.1).
    pub(crate) fn out_of_room(&mut self, from: FromRoom, said: MucUser, now: u64, out: &mut Vec<Decision>) {
        let thrown_out =
            said.destroyed || said.codes.iter().any(|c| matches!(c, 301 | 307 | 321 | 322 | 332 | 333));
        let Some(mut stay) = self.stay(from.account, from.room, out) else { return };
        let unconfirmed = stay.m.unconfirmed > 0;
        let marked = said.codes.contains(&110);
        let (guessed, left, confirmed) = match &stay.m.phase {
            Phase::Away => return, // of a stay before
            // Joining again without its clients' knowing, the account may have been in still.
            Phase::Joining(_) if stay.m.is_quiet() => return stay.start_over(marked),
            Phase::Joining(_) => (false, false, false),
            Phase::Joined(joined) => (joined.is_guessed(now), false, false),
            Phase::Leaving(leaving) => (false, true, from.id == Some(&leaving.id)),
        };
        if guessed && unconfirmed && !thrown_out {
            self.guessed_wrong(from, now, out);
            return;
        }
        stay.m.tell_out(marked, stay.out);
        if guessed {
            // The answer to the join may be to come.
            stay.m.clients.clear();
            self.depart(from.account, from.room, None, now, out);
        } else if left && !confirmed {
            // Not the answer to that leave: something else crossed it, and more may follow.
            self.linger_on(from.account, from.room, now);
            out.push(Decision::Persist { account: from.account.into() });
        } else {
            stay.m.codes.untold.clear(); // it will be told anew if it is so
            let technical = !left && !said.destroyed && said.codes.iter().any(|c| matches!(c, 332 | 333));
            self.give_up(from.account, from.room, technical, now, out);
        }
    }

    /// What was taken for the answer to the join was of the stay before, which is over: the account is joining still.
    fn guessed_wrong(&mut self, from: FromRoom, now: u64, out: &mut Vec<Decision>) {
        let until = now + self.config(from.account).join_timeout;
        let Some(stay) = self.stay(from.account, from.room, out) else { return };
        let m = stay.m;
        stay.room.compare_seen(m);
        stay.room.forget_seen(from.room, m, stay.changes);
        m.unconfirmed -= 1;
        m.discussion.settled = false;
        if let Some(joined) = m.joined_mut() {
            m.phase = Phase::Joining(Joining::resumed(joined, until));
        }
        self.wake(from.account, from.room, until);
    }

    /// The account is not in the room and its clients know. If it should be there and the room may come back, it will
    /// try again.
    pub(crate) fn give_up(
        &mut self,
        account: &str,
        room: &str,
        technical: bool,
        now: u64,
        out: &mut Vec<Decision>,
    ) {
        if !technical || !self.stays(account, room, false, now) {
            self.remove(account, room, out);
            return;
        }
        let online = self.accounts.get(account).is_some_and(|a| a.online);
        let Some(mut stay) = self.stay(account, room, out) else { return };
        let m = &mut *stay.m;
        stay.room.forget_seen(room, m, stay.changes);
        stay.room.compared(room, m, stay.changes);
        m.clients.clear();
        m.own = None;
        m.phase = Phase::Away;
        m.codes.entry.clear();
        m.expect_repeats();
        m.shown.presence = build::unattended(online).into();
        m.nicknames.renames.clear();
        m.contact.trouble = None;
        m.contact.failures += 1;
        let pause = 5u64 << m.contact.failures.min(9);
        stay.persist();
        self.wake(account, room, now + pause);
    }
}

/// Some rooms do not say whose presence it is.
fn missing(marked: bool) -> Vec<u16> {
    if marked { Vec::new() } else { vec![110] }
}

impl Stay<'_> {
    /// A stay before the join that is under way is over; what the room told until then holds no more.
    fn start_over(&mut self, marked: bool) {
        let m = &mut *self.m;
        m.unconfirmed = m.unconfirmed.saturating_sub(1);
        m.codes.clear();
        if m.comparison.known.is_none() {
            m.forget_discussion();
        }
        self.room.forget_seen(self.name, m, self.changes);
        if let Some(joining) = m.joining_mut() {
            joining.maybe = None;
            joining.started_over = true;
        }
        for client in m.clients.extract_if(.., |client| !client.stays()) {
            let Stage::Leaving { id } = &client.stage else { continue };
            let edit = Edit { id: set_id(id.as_deref()), with: missing(marked), ..Edit::default() };
            self.out.push(Decision::Forward { resource: client.resource, edit });
        }
    }
}

impl Membership {
    /// All clients are told that they are out, by the presence in hand.
    fn tell_out(&self, marked: bool, out: &mut Vec<Decision>) {
        for client in &self.clients {
            let id = match &client.stage {
                Stage::Leaving { id } | Stage::Waiting { id, .. } => set_id(id.as_deref()),
                Stage::In { .. } => Id::Remove,
            };
            let edit = Edit { id, with: missing(marked), ..Edit::default() };
            out.push(Decision::Forward { resource: client.resource.clone(), edit });
        }
    }
}
