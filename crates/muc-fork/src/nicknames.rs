//! Nicknames: those that clients ask for while the account is in a room, and that which the room gives it (XEP-0045 §7.6).

use crate::accounts::Accounts;
use crate::address::at;
use crate::build;
use crate::decision::{Decision, Edit, Id};
use crate::input::FromClient;
use crate::membership::Rename;
use crate::stay::Stay;
use std::sync::Arc;

impl Accounts {
    /// A client asks for another nickname.
    pub(crate) fn rename(&mut self, from: FromClient, nick: &str, payload: &[u8], out: &mut Vec<Decision>) {
        // An answer without an id could be to anything.
        let id = if from.id.is_some() { Id::Keep } else { Id::Set(self.new_id()) };
        self.turn += 1;
        let turn = self.turn;
        let Some(m) = self.membership_mut(from.account, from.room) else { return };
        let presence: Arc<[u8]> = payload.into();
        let joined = m.is_joined();
        let Some(client) = m.client_mut(from.resource) else { return };
        client.presence = presence.clone();
        client.turn = turn;
        m.shown.presence = presence;
        m.shown.changed_by = from.id.map(|id| (id.into(), from.resource.into()));
        m.nicknames.renames.retain(|r| &*r.resource != from.resource);
        m.nicknames.renames.push(Rename {
            resource: from.resource.into(),
            id: from.id.map(Into::into),
            nick: nick.into(),
            waits: !joined,
        });
        out.push(Decision::PersistSoon { account: from.account.into() });
        if joined {
            out.push(Decision::ToRoom { to: at(from.room, nick), id });
        }
    }

    /// The account is in: the nickname that was asked for last meanwhile is asked for now.
    pub(crate) fn ask_for_nicks(&mut self, account: &str, room: &str, out: &mut Vec<Decision>) {
        let new_id = self.new_id();
        let Some(m) = self.membership_mut(account, room) else { return };
        let own = m.nick.clone();
        let bookmarked = m.nicknames.bookmarked.take().filter(|nick| *nick != own);
        let renames = &mut m.nicknames.renames;
        renames.retain(|r| !(r.waits && r.nick == own));
        let Some(last) = renames.iter().rposition(|r| r.waits) else {
            if let Some(nick) = bookmarked {
                let to = at(room, &nick);
                let address = [("from", account), ("to", to.as_str()), ("id", new_id.as_str())];
                out.push(Decision::Send { stanza: build::addressed(&m.shown.presence, &address, b"") });
            }
            return;
        };
        let Some(client) = m.clients.iter().find(|c| c.resource == renames[last].resource) else { return };
        m.shown.presence = client.presence.clone();
        let rename = &mut renames[last];
        rename.waits = false;
        let id = rename.id.get_or_insert_with(|| new_id.as_str().into()).clone();
        let to = at(room, &rename.nick);
        // The last wish counts.
        renames.retain(|r| !r.waits);
        let address = [("from", account), ("to", to.as_str()), ("id", &*id)];
        out.push(Decision::Send { stanza: build::addressed(&m.shown.presence, &address, b"") });
    }
}

impl Stay<'_> {
    /// The room gave the account another nickname (status 303); its presence under that follows.
    pub(crate) fn renamed(&mut self, new_nick: Option<&str>) {
        let m = &mut *self.m;
        let old = m.nick.clone();
        self.room.not_another(self.name, m, &old, self.changes);
        if let Some(new) = new_nick {
            m.nick = new.into();
            m.own = None;
            let renames = &mut m.nicknames.renames;
            for client in &mut m.clients {
                let asked = renames.iter().any(|r| r.resource == client.resource && *r.nick == *new);
                if client.asked == old || asked {
                    client.asked = new.into();
                }
            }
            renames.retain(|r| *r.nick != *new);
            self.out.push(Decision::Persist { account: self.account.into() });
        }
        for client in m.clients.iter().filter(|c| c.was_told() || !c.stays()) {
            self.out.push(Decision::Forward { resource: client.resource.clone(), edit: Edit::default() });
        }
    }
}
