//! The account is out of a room without having left it.

use crate::accounts::Accounts;
use crate::build;
use crate::decision::{Decision, Edit, Id};
use crate::input::{FromRoom, MucUser};
use crate::leaving::LINGER;
use crate::membership::{Phase, Stage};
use crate::serving::set_id;
use crate::view::likeness;

impl Accounts {
    /// The account is out: kicked, banned, the room is gone, or it left.
    pub(crate) fn out_of_room(&mut self, from: FromRoom, said: MucUser, now: u64, out: &mut Vec<Decision>) {
        let join_timeout = self.config(from.account).join_timeout;
        let Some(a) = self.accounts.get_mut(from.account) else { return };
        let (Some(m), Some(room)) = (a.rooms.get_mut(from.room), self.rooms.get_mut(from.room)) else {
            return;
        };
        if m.phase == Phase::Away {
            return; // of a stay before
        }
        let before = match m.phase {
            // Joining again without its clients' knowing, the account may have been in still.
            Phase::Joining => m.is_quiet(),
            _ => false,
        };
        if before {
            // That was a stay before this join; what the room told until then holds no more.
            m.unconfirmed = m.unconfirmed.saturating_sub(1);
            m.maybe = None;
            m.entry.clear();
            m.untold.clear();
            if m.known.is_none() {
                m.forget_history();
            }
            room.forget_seen(from.room, m, &mut self.changes);
            m.started_over = true;
            m.clients.retain(|client| match &client.stage {
                Stage::Leaving { id } => {
                    let edit = Edit { id: set_id(id.as_deref()), ..Edit::default() };
                    out.push(Decision::Forward { resource: client.resource.clone(), edit });
                    false
                }
                _ => true,
            });
            return;
        }
        let thrown_out =
            said.destroyed || said.codes.iter().any(|c| matches!(c, 301 | 307 | 321 | 322 | 332 | 333));
        let guessed = m.phase == Phase::Joined && now < m.guessed;
        if guessed && m.unconfirmed > 0 && !thrown_out {
            // That was the stay before; what was taken for the answer to the join was of it.
            if m.known.is_none() {
                let known = room.view.occupants(&m.seen).map(|(n, p)| (n.into(), likeness(p))).collect();
                room.compare(m, known);
            }
            room.forget_seen(from.room, m, &mut self.changes);
            m.unconfirmed -= 1;
            m.started_over = true;
            m.phase = Phase::Joining;
            m.ping = None;
            m.doubt = false;
            m.settled = false;
            m.until = now + join_timeout;
            let until = m.until;
            self.wake(from.account, from.room, until);
            return;
        }
        let left = m.phase == Phase::Leaving;
        for client in &m.clients {
            let id = match &client.stage {
                Stage::Leaving { id } | Stage::Waiting { id, .. } => set_id(id.as_deref()),
                Stage::In { .. } => Id::Remove,
            };
            // Some rooms do not say whose it is.
            let with = if said.codes.contains(&110) { Vec::new() } else { vec![110] };
            out.push(Decision::Forward {
                resource: client.resource.clone(),
                edit: Edit { id, with, ..Edit::default() },
            });
        }
        if guessed {
            // The answer to the join may be to come.
            m.clients.clear();
            self.depart(from.account, from.room, None, now, out);
            return;
        }
        if left && from.id != Some(&m.join_id) {
            // Not the answer to that leave: something else crossed it, and more may follow.
            m.clients.clear();
            m.lingering = true;
            self.wake(from.account, from.room, now + LINGER);
            out.push(Decision::Persist { account: from.account.into() });
            return;
        }
        m.untold.clear(); // it will be told anew if it is so
        let technical = !left && !said.destroyed && said.codes.iter().any(|c| matches!(c, 332 | 333));
        self.give_up(from.account, from.room, technical, now, out);
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
        let Some(a) = self.accounts.get_mut(account) else { return };
        let Some(m) = a.rooms.get_mut(room) else { return };
        if let Some(r) = self.rooms.get_mut(room) {
            r.forget_seen(room, m, &mut self.changes);
            r.compared(room, m, &mut self.changes);
        }
        m.clients.clear();
        m.own = None;
        m.phase = Phase::Away;
        m.entry.clear();
        m.expect_repeats();
        m.shown = build::unattended(a.online).into();
        m.renames.clear();
        m.trouble = None;
        m.failures += 1;
        let pause = 5u64 << m.failures.min(9);
        out.push(Decision::Persist { account: account.into() });
        self.wake(account, room, now + pause);
    }
}
