//! Another client of an account that is in a room, or about to be.

use crate::accounts::Accounts;
use crate::decision::{Decision, Edit};
use crate::input::{FromClient, Join};
use crate::membership::Membership;
use crate::membership::client::{Client, Stage};
use crate::membership::codes::PERSONAL;
use crate::serving::set_id;
use crate::stay::Stay;

impl Accounts {
    /// Another client joins; or the same one, which lost track.
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
        if let Some(a) = self.accounts.get_mut(from.account) {
            a.online = true;
        }
        let Some(mut stay) = self.stay(from.account, from.room, out) else { return };
        let was_in = stay.lets_go(from);
        // Between two nicknames there is no presence of the account to serve.
        let waits = stay.m.is_joining() || stay.m.own.is_none();
        let settled = stay.m.discussion.settled;
        // The next join has it. One without a password takes none away that is known.
        stay.m.passwords.prefer(join.password);
        let id = from.id.map(Into::into);
        let stage = if waits {
            Stage::Waiting { id, request: join.history, password: join.own_password(), was_in }
        } else {
            Stage::In { held: (!settled).then_some(join.history) }
        };
        let client = Client {
            resource: from.resource.into(),
            asked: nick.into(),
            presence: payload.into(),
            turn,
            has_subject: !waits && settled,
            stage,
            late: None,
            errors: 0,
        };
        if !waits {
            stay.welcome(&client, from, &join);
        } else if !stay.m.is_quiet() {
            stay.m.serve_occupants(from.account, &stay.room.view, &client, stay.out);
        }
        stay.m.clients.push(client);
        stay.persist();
        if !waits {
            self.show_latest(from.account, from.room, out);
        } else if stay.m.joining_mut().is_some_and(|joining| joining.put_off) {
            self.wake(from.account, from.room, 0); // do not let it wait
        }
    }
}

impl Stay<'_> {
    /// A client begins anew. Says whether it has been told of the room's occupants, beside what it is told now.
    fn lets_go(&mut self, from: FromClient) -> bool {
        if self.m.is_joined() {
            // What the others know, it does not.
            self.tell_gone();
        }
        let m = &mut *self.m;
        // Between two nicknames it is told of the others at once.
        let was_in = m.is_joined() || m.client(from.resource).is_some_and(Client::was_told);
        if let Some(client) = m.client(from.resource)
            && let Stage::Leaving { id } = &client.stage
        {
            m.serve_left(from.account, from.room, client, set_id(id.as_deref()), &[110], self.out);
        }
        m.clients.retain(|c| &*c.resource != from.resource);
        was_in
    }

    /// A client gets what the room tells who enters, in the order of XEP-0045 §7.1, as far as it has come.
    fn welcome(&mut self, client: &Client, from: FromClient, join: &Join) {
        let m = &mut *self.m;
        m.serve_occupants(from.account, &self.room.view, client, self.out);
        let news = std::mem::take(&mut m.codes.untold);
        m.serve_own(from.account, client, set_id(from.id), &news, self.out);
        if m.discussion.settled {
            m.serve_history(from.account, from.room, client, &join.history, self.out);
            m.serve_subject(from.account, from.room, client, self.out);
            m.discussion.missed = 0;
        }
    }
}

impl Membership {
    /// A client that waits while the account is in, between two nicknames, gets the account's presence in hand, and the rest.
    pub(crate) fn let_client_in(&mut self, account: &str, room: &str, i: usize, out: &mut Vec<Decision>) {
        let settled = self.discussion.settled;
        let Stage::Waiting { id, request, .. } = &mut self.clients[i].stage else { return };
        let (id, request) = (id.take(), *request);
        self.clients[i].stage = Stage::In { held: (!settled).then_some(request) };
        let news = std::mem::take(&mut self.codes.untold);
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
