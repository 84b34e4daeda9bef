//! What one client is served from what is known of the room.

use crate::address::at;
use crate::build;
use crate::decision::{Decision, Edit, Id};
use crate::history::{self, HistoryMessage, Request};
use crate::input::FromClient;
use crate::membership::Membership;
use crate::membership::client::{Client, Stage};
use crate::membership::codes::PERSONAL;
use crate::view::View;
use std::sync::Arc;

/// How many messages a client that asks for no number gets at most; both Prosody's and ejabberd's default.
const DEFAULT_HISTORY: usize = 20;

pub(crate) fn set_id(id: Option<&str>) -> Id {
    id.map_or(Id::Remove, |id| Id::Set(id.into()))
}

/// The account's affiliation, as its own presence says.
pub(crate) fn affiliation(own: Option<&Arc<[u8]>>) -> Option<&str> {
    of_item(own, " affiliation='")
}

/// The account's role, as its own presence says.
pub(crate) fn role(own: Option<&Arc<[u8]>>) -> Option<&str> {
    of_item(own, " role='")
}

fn of_item<'a>(own: Option<&'a Arc<[u8]>>, attribute: &str) -> Option<&'a str> {
    let own = std::str::from_utf8(own?).ok()?;
    let (_, after) = own.split_once("muc#user")?;
    let (_, value) = after.split_once(attribute)?;
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
        let default = if self.discussion.asked_default {
            self.discussion.given.max(DEFAULT_HISTORY)
        } else {
            DEFAULT_HISTORY
        };
        let begin =
            history::begin(&self.discussion.history, request, to, default.max(self.discussion.missed));
        for said in self.discussion.history.range(begin..) {
            self.serve_said(account, room, client, said, out);
        }
        self.discussion.history.len() - begin
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
        let (stanza, delay) = match &self.discussion.subject {
            Some(subject) => {
                let since = self.discussion.subject_is_news && !subject.stamped;
                (subject.stanza.clone(), since.then(|| (room.to_owned(), subject.mark.at)))
            }
            None => (build::no_subject(room).into(), None),
        };
        out.push(Decision::Serve {
            account: account.into(),
            resource: client.resource.clone(),
            stanza,
            edit: Edit { delay, ..Edit::default() },
        });
    }

    /// Clients that wait for the account's leave are told that they are out.
    pub(crate) fn serve_leaving(&self, account: &str, room: &str, out: &mut Vec<Decision>) {
        for client in &self.clients {
            if let Stage::Leaving { id } = &client.stage {
                self.serve_left(account, room, client, set_id(id.as_deref()), &[110], out);
            }
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
}

impl Membership {
    /// Whether a nickname is another occupant's, as far as the account was told.
    pub(crate) fn is_of_another(&self, nick: &str, view: &View) -> bool {
        let known = || self.comparison.known.as_ref().is_some_and(|known| known.contains_key(nick));
        *self.nick != *nick && (view.get(&self.seen, nick).is_some() || known())
    }

    /// Where a client's stanza goes: who was given another nickname than it asked for may still use that for itself, unless it is
    /// another occupant's.
    pub(crate) fn address(&self, from: FromClient, view: Option<&View>) -> String {
        match from.nick {
            None => from.room.to_owned(),
            Some(nick) => {
                let asked = self.client(from.resource).is_some_and(|c| *c.asked == *nick);
                let own = asked && !view.is_some_and(|view| self.is_of_another(nick, view));
                at(from.room, if own { &self.nick } else { nick })
            }
        }
    }
}
