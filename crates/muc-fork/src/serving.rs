//! What one client is served from what is known of the room.

use crate::address::at;
use crate::build;
use crate::change::Change;
use crate::decision::{Decision, Edit, Id};
use crate::history::{self, HistoryMessage, Request};
use crate::input::FromClient;
use crate::membership::{Client, Membership, Stage};
use crate::membership::{HISTORY, HISTORY_AWAY, HISTORY_BYTES, PERSONAL};
use crate::room::Room;
use crate::view::View;
use std::sync::Arc;

/// How many messages a client that asks for no number gets at most; both Prosody's and ejabberd's default.
const DEFAULT_HISTORY: usize = 20;

pub(crate) fn set_id(id: Option<&str>) -> Id {
    id.map_or(Id::Remove, |id| Id::Set(id.into()))
}

/// The account's affiliation, as its own presence says.
pub(crate) fn affiliation(own: Option<&Arc<[u8]>>) -> Option<&str> {
    let own = std::str::from_utf8(own?).ok()?;
    let (_, after) = own.split_once("muc#user")?;
    let (_, value) = after.split_once(" affiliation='")?;
    value.split('\'').next()
}

impl Membership {
    /// The account's own presence for one client.
    pub(crate) fn serve_own(
        &self,
        account: &str,
        client: &Client,
        id: Id,
        news: &[u16],
        out: &mut Vec<Decision>,
    ) {
        let Some(own) = &self.own else { return };
        let with = self.codes_for(client, news);
        out.push(Decision::Serve {
            account: account.into(),
            resource: client.resource.clone(),
            stanza: own.clone(),
            edit: Edit { id, without: PERSONAL, with, ..Edit::default() },
        });
    }

    pub(crate) fn serve_occupants(
        &self,
        account: &str,
        view: &View,
        client: &Client,
        out: &mut Vec<Decision>,
    ) {
        for (_, presence) in view.occupants(&self.seen) {
            out.push(Decision::Serve {
                account: account.into(),
                resource: client.resource.clone(),
                stanza: presence.clone(),
                edit: Edit::default(),
            });
        }
    }

    pub(crate) fn serve_history(
        &self,
        account: &str,
        room: &str,
        client: &Client,
        request: &Request,
        out: &mut Vec<Decision>,
    ) -> usize {
        let to = account.len() + 1 + client.resource.len();
        let default = if self.asked_default { self.given.max(DEFAULT_HISTORY) } else { DEFAULT_HISTORY };
        let begin = history::begin(&self.history, request, to, default.max(self.missed));
        for said in self.history.range(begin..) {
            self.serve_said(account, room, client, said, out);
        }
        self.history.len() - begin
    }

    pub(crate) fn serve_said(
        &self,
        account: &str,
        room: &str,
        client: &Client,
        said: &Arc<HistoryMessage>,
        out: &mut Vec<Decision>,
    ) {
        let delay = (!said.stamped).then(|| (room.to_owned(), said.mark.at));
        out.push(Decision::Serve {
            account: account.into(),
            resource: client.resource.clone(),
            stanza: said.stanza.clone(),
            edit: Edit { delay, ..Edit::default() },
        });
    }

    pub(crate) fn serve_subject(&self, account: &str, room: &str, client: &Client, out: &mut Vec<Decision>) {
        match &self.subject {
            Some(subject) => self.serve_said(account, room, client, subject, out),
            None => out.push(Decision::Serve {
                account: account.into(),
                resource: client.resource.clone(),
                stanza: build::no_subject(room).into(),
                edit: Edit::default(),
            }),
        }
    }

    /// The client is told that it is out.
    pub(crate) fn serve_left(
        &self,
        account: &str,
        room: &str,
        client: &Client,
        id: Id,
        codes: &[u16],
        out: &mut Vec<Decision>,
    ) {
        out.push(Decision::Serve {
            account: account.into(),
            resource: client.resource.clone(),
            stanza: build::unavailable(&at(room, &self.nick), affiliation(self.own.as_ref()), codes).into(),
            edit: Edit { id, ..Edit::default() },
        });
    }

    /// The history and subject of the account's join are complete: clients that asked for something in particular get it, and
    /// those who were in before are told who is gone.
    pub(crate) fn settle(
        &mut self,
        account: &str,
        name: &str,
        room: &mut Room,
        changes: &mut Vec<Change>,
        out: &mut Vec<Decision>,
    ) {
        if self.settled {
            return;
        }
        self.settled = true;
        self.ending = false;
        self.tell_gone(account, name, room, changes, out);
        for i in 0..self.clients.len() {
            let Stage::In { held } = &mut self.clients[i].stage else { continue };
            let held = held.take();
            if let Some(request) = held {
                let served = self.serve_history(account, name, &self.clients[i], &request, out);
                let most = request.maxstanzas.map(|most| most.saturating_sub(served));
                let late = Request { maxstanzas: most, ..request };
                self.clients[i].late = (!request.is_default()).then_some(late);
            }
            if !std::mem::replace(&mut self.clients[i].has_subject, true) {
                self.serve_subject(account, name, &self.clients[i], out);
            }
        }
        self.release(account, name, changes, out);
        // Some rooms send the history after that.
        self.repeats.append(&mut self.held_marks);
    }

    /// What was said while the account joined goes to those who are in.
    pub(crate) fn release(
        &mut self,
        account: &str,
        room: &str,
        changes: &mut Vec<Change>,
        out: &mut Vec<Decision>,
    ) {
        let used = self.clients.iter().any(Client::is_in);
        for said in std::mem::take(&mut self.held) {
            for client in self.clients.iter().filter(|c| c.is_in()) {
                self.serve_said(account, room, client, &said, out);
            }
            self.early.push(said.mark);
            self.keep(said, if used { HISTORY } else { HISTORY_AWAY }, HISTORY_BYTES);
            self.missed += 1;
        }
        if used {
            self.missed = 0;
        }
        // Not before: who was not told when the server is killed is told after it.
        let told = self.early.drain(..);
        changes.extend(told.map(|mark| Change::Message { room: room.into(), mark }));
    }
}

impl Membership {
    /// Where a client's stanza goes: who was given another nickname than it asked for may still use that for itself.
    pub(crate) fn address(&self, from: FromClient) -> String {
        match from.nick {
            None => from.room.to_owned(),
            Some(nick) => {
                let own =
                    self.client(from.resource).is_some_and(|c| *c.asked == *nick) && *self.nick != *nick;
                at(from.room, if own { &self.nick } else { nick })
            }
        }
    }
}
