//! Nicknames that clients ask for while the account is in a room.

use crate::accounts::Accounts;
use crate::address::at;
use crate::build;
use crate::decision::{Decision, Id};
use crate::input::FromClient;
use crate::membership::{Phase, Rename};
use std::sync::Arc;

impl Accounts {
    pub(crate) fn rename(&mut self, from: FromClient, nick: &str, payload: &[u8], out: &mut Vec<Decision>) {
        // An answer without an id could be to anything.
        let id = if from.id.is_some() { Id::Keep } else { Id::Set(self.new_id()) };
        self.turn += 1;
        let turn = self.turn;
        let Some(m) = self.membership_mut(from.account, from.room) else { return };
        let presence: Arc<[u8]> = payload.into();
        let phase = m.phase;
        let Some(client) = m.client_mut(from.resource) else { return };
        client.presence = presence.clone();
        client.turn = turn;
        m.shown = presence;
        m.changed_by = from.id.map(|id| (id.into(), from.resource.into()));
        m.renames.retain(|r| &*r.resource != from.resource);
        m.renames.push(Rename {
            resource: from.resource.into(),
            id: from.id.map(Into::into),
            nick: nick.into(),
            waits: phase != Phase::Joined,
        });
        if phase == Phase::Joined {
            out.push(Decision::ToRoom { to: at(from.room, nick), id });
        }
    }

    /// The account is in: nicknames that clients asked for meanwhile are asked for now.
    pub(crate) fn ask_for_nicks(&mut self, account: &str, room: &str, out: &mut Vec<Decision>) {
        let new_id = self.new_id();
        let Some(m) = self.membership_mut(account, room) else { return };
        let own = m.nick.clone();
        m.renames.retain(|r| !(r.waits && r.nick == own));
        let wanted = m.nick_wanted.take().filter(|nick| *nick != own);
        let Some(last) = m.renames.iter().rposition(|r| r.waits) else {
            if let Some(nick) = wanted {
                let to = at(room, &nick);
                let address = [("from", account), ("to", to.as_str()), ("id", new_id.as_str())];
                out.push(Decision::Send { stanza: build::addressed(&m.shown, &address, b"") });
            }
            return;
        };
        let Some(client) = m.client(&m.renames[last].resource) else { return };
        let presence = client.presence.clone();
        let rename = &mut m.renames[last];
        rename.waits = false;
        if rename.id.is_none() {
            rename.id = Some(new_id.as_str().into());
        }
        let (to, id) = (at(room, &rename.nick), rename.id.clone().unwrap_or_default());
        m.shown = presence.clone();
        // The last wish counts.
        m.renames.retain(|r| !r.waits);
        let address = [("from", account), ("to", to.as_str()), ("id", &*id)];
        out.push(Decision::Send { stanza: build::addressed(&presence, &address, b"") });
    }
}
