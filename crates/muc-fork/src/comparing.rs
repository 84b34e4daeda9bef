//! An account joins again without its clients' knowing: what the room tells is compared with what they know, and they are told
//! the difference.

use crate::address::at;
use crate::build;
use crate::change::Change;
use crate::decision::{Decision, Edit};
use crate::membership::Membership;
use crate::membership::client::Client;
use crate::order::in_order;
use crate::room::Room;
use crate::stay::Stay;
use crate::view::{Likeness, likeness};
use std::collections::HashMap;
use std::sync::Arc;

impl Room {
    /// From now on an account compares what the room tells with what its clients know.
    pub(crate) fn compare(&mut self, m: &mut Membership, known: HashMap<Box<str>, Likeness>) {
        self.doubtful.extend(known.keys().filter(|nick| !self.view.has(nick)).cloned());
        if m.comparison.known.replace(known).is_none() {
            self.comparing += 1;
        }
    }

    /// The same, if it does not yet: its clients know what it was told.
    pub(crate) fn compare_seen(&mut self, m: &mut Membership) {
        if m.comparison.known.is_none() {
            let seen = self.view.occupants(&m.seen);
            let known = seen.map(|(nick, presence)| (nick.into(), likeness(presence))).collect();
            self.compare(m, known);
        }
    }

    /// An account does not compare any more. Gives what its clients knew.
    pub(crate) fn compared(
        &mut self,
        name: &str,
        m: &mut Membership,
        changes: &mut Vec<Change>,
    ) -> Option<HashMap<Box<str>, Likeness>> {
        let known = m.comparison.known.take()?;
        self.comparing -= 1;
        self.doubt_no_more(name, changes);
        Some(known)
    }

    /// Whom nobody sees is gone, unless somebody still compares.
    pub(crate) fn doubt_no_more(&mut self, name: &str, changes: &mut Vec<Change>) {
        if self.comparing == 0 {
            let gone = self.doubtful.drain().filter(|nick| !self.view.has(nick));
            changes.extend(gone.map(|nick| Change::Gone { room: name.into(), nick }));
        }
    }
}

impl Stay<'_> {
    /// The account is let in again, where it was `old_nick`. Who of the others is gone is known when the last has come, before
    /// one's own presence (XEP-0045 §7.2.3). In some rooms they come after it: see [`Stay::settle`].
    pub(crate) fn compare_occupants(&mut self, old_nick: &str) {
        let m = &mut *self.m;
        let Some(known) = &mut m.comparison.known else { return };
        known.remove(old_nick);
        known.remove(&m.nick);
        let told = m.clients.iter().filter(|c| c.was_told() || m.never_in);
        m.comparison.clients = told.map(|c| c.resource.clone()).collect();
        let complete = self.room.view.occupants(&m.seen).next().is_some();
        if complete || m.clients.iter().any(|c| !c.is_in()) {
            self.tell_gone();
        }
    }

    /// The account has joined again, and the room has told who is there: its clients are told who is gone.
    pub(crate) fn tell_gone(&mut self) {
        let Some(known) = self.room.compared(self.name, self.m, self.changes) else {
            self.m.comparison.clients.clear();
            return;
        };
        let (m, view) = (&*self.m, &self.room.view);
        let is_gone = |nick: &str| *nick != *m.nick && !nick.is_empty() && view.get(&m.seen, nick).is_none();
        let gone = in_order(known.keys().filter(|nick| is_gone(nick)));
        let told = |c: &&Client| c.stays() && m.comparison.clients.contains(&c.resource);
        for nick in gone {
            let stanza: Arc<[u8]> = build::unavailable(&at(self.name, nick), None, &[]).into();
            for client in m.clients.iter().filter(told) {
                self.out.push(Decision::Serve {
                    account: self.account.into(),
                    resource: client.resource.clone(),
                    stanza: stanza.clone(),
                    edit: Edit::default(),
                });
            }
        }
        self.m.comparison.clients.clear();
    }
}
