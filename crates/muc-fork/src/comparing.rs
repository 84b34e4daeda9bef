//! An account joins again without its clients' knowing: what the room tells is compared with what they know, and they are told
//! the difference.

use crate::address::at;
use crate::build;
use crate::change::Change;
use crate::decision::{Decision, Edit};
use crate::membership::Membership;
use crate::room::Room;
use crate::view::Likeness;
use std::collections::HashMap;
use std::sync::Arc;

impl Room {
    /// From now on an account compares what the room tells with what its clients know.
    pub(crate) fn compare(&mut self, m: &mut Membership, known: HashMap<Box<str>, Likeness>) {
        self.doubtful.extend(known.keys().filter(|nick| !self.view.has(nick)).cloned());
        if m.known.replace(known).is_none() {
            self.comparing += 1;
        }
    }

    /// An account does not compare any more. Gives what its clients knew.
    pub(crate) fn compared(
        &mut self,
        name: &str,
        m: &mut Membership,
        changes: &mut Vec<Change>,
    ) -> Option<HashMap<Box<str>, Likeness>> {
        let known = m.known.take()?;
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

impl Membership {
    /// The account has joined again, and the room has told who is there: its clients are told who is gone.
    pub(crate) fn tell_gone(
        &mut self,
        account: &str,
        name: &str,
        room: &mut Room,
        changes: &mut Vec<Change>,
        out: &mut Vec<Decision>,
    ) {
        if let Some(known) = room.compared(name, self, changes) {
            let mut gone: Vec<_> = known
                .keys()
                .filter(|nick| {
                    **nick != self.nick && !nick.is_empty() && room.view.get(&self.seen, nick).is_none()
                })
                .collect();
            gone.sort();
            for nick in gone {
                let stanza: Arc<[u8]> = build::unavailable(&at(name, nick), None, &[]).into();
                for client in
                    self.clients.iter().filter(|c| c.stays() && self.comparing.contains(&c.resource))
                {
                    out.push(Decision::Serve {
                        account: account.into(),
                        resource: client.resource.clone(),
                        stanza: stanza.clone(),
                        edit: Edit::default(),
                    });
                }
            }
        }
        self.comparing.clear();
    }
}
