//! Another client of an account that is in a room, or about to be.

use crate::accounts::Accounts;
use crate::decision::{Decision, Edit};
use crate::input::{FromClient, Join};
use crate::membership::{Client, Membership, PERSONAL, Phase, Stage};
use crate::serving::set_id;
use std::sync::Arc;

impl Accounts {
    /// Another client of an account that is in, or about to be; or the same one, which lost track.
    pub(crate) fn enter(
        &mut self,
        from: FromClient,
        nick: &str,
        join: Join,
        payload: &[u8],
        out: &mut Vec<Decision>,
    ) {
        self.turn += 1;
        let turn = self.turn;
        let Some(a) = self.accounts.get_mut(from.account) else { return };
        a.online = true;
        let (Some(m), Some(room)) = (a.rooms.get_mut(from.room), self.rooms.get_mut(from.room)) else {
            return;
        };
        if m.phase == Phase::Joined {
            // What the others know, it does not.
            m.tell_gone(from.account, from.room, room, &mut self.changes, out);
        }
        // Between two nicknames it is told of the others at once.
        let was_in = m.phase == Phase::Joined || m.client(from.resource).is_some_and(Client::was_told);
        if let Some(client) = m.client(from.resource)
            && let Stage::Leaving { id } = &client.stage
        {
            m.serve_left(from.account, from.room, client, set_id(id.as_deref()), &[110], out);
        }
        m.clients.retain(|c| &*c.resource != from.resource);
        let presence: Arc<[u8]> = payload.into();
        // Between two nicknames, too, there is no presence of the account to serve.
        let waits = m.phase == Phase::Joining || m.own.is_none();
        let id = from.id.map(Into::into);
        let stage = if waits {
            Stage::Waiting { id, request: join.history, was_in }
        } else {
            Stage::In { held: (!m.settled).then_some(join.history) }
        };
        let client = Client {
            resource: from.resource.into(),
            asked: nick.into(),
            presence,
            turn,
            has_subject: !waits && m.settled,
            stage,
            late: None,
            errors: 0,
        };
        if waits {
            if !m.is_quiet() {
                m.serve_occupants(from.account, &room.view, &client, out);
            }
            m.clients.push(client);
            out.push(Decision::Persist { account: from.account.into() });
            if m.retry {
                self.wake(from.account, from.room, 0); // do not let it wait
            }
            return;
        }
        m.serve_occupants(from.account, &room.view, &client, out);
        let news = std::mem::take(&mut m.untold);
        m.serve_own(from.account, &client, set_id(from.id), &news, out);
        if m.settled {
            m.serve_history(from.account, from.room, &client, &join.history, out);
            m.serve_subject(from.account, from.room, &client, out);
            m.missed = 0;
        }
        m.clients.push(client);
        out.push(Decision::Persist { account: from.account.into() });
        self.show_latest(from.account, from.room, out);
    }
}

impl Membership {
    /// A client that waits while the account is in, between two nicknames, gets the account's presence in hand, and the rest.
    pub(crate) fn let_client_in(&mut self, account: &str, room: &str, i: usize, out: &mut Vec<Decision>) {
        let settled = self.settled;
        let Stage::Waiting { id, request, .. } = &mut self.clients[i].stage else { return };
        let (id, request) = (id.take(), *request);
        self.clients[i].stage = Stage::In { held: (!settled).then_some(request) };
        let news = std::mem::take(&mut self.untold);
        let client = &self.clients[i];
        let with = self.codes_for(client, &news);
        let edit = Edit { id: set_id(id.as_deref()), without: PERSONAL, with, ..Edit::default() };
        out.push(Decision::Forward { resource: client.resource.clone(), edit });
        if settled {
            self.serve_history(account, room, client, &request, out);
            self.serve_subject(account, room, client, out);
        }
        self.clients[i].has_subject = settled;
    }
}
